//! The server: connections, routes, answers.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes, to_bytes};
use futures::{StreamExt, stream};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use super::{
    Fault, KeyPool, LoggedRequest, Mint, Refusal, StandInConfig, X509Type,
    certificate::{self, Order},
    digest::{Nonces, Verdict},
    state::{State, lock},
};

const DATED_MEDIA_TYPE: &str = "application/vnd.atlas.2023-01-01+json";

/// A running stand-in; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct StandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _task: Arc<Task>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StandIn {
    /// Starts it.
    ///
    /// # Errors
    /// The address cannot be listened on, or the keys cannot be made.
    pub async fn start(config: StandInConfig) -> Result<Self> {
        let pool = config.key_pool.clone();
        let pool = tokio::task::spawn_blocking(move || KeyPool::open(&pool)).await??;
        let state = Arc::new(Mutex::new(State {
            nonces: Nonces::new(config.digest, config.nonce_lifetime),
            certificate_limit: config.certificate_limit,
            keys: [].into(),
            projects: [].into(),
            faults: [].into(),
            mints: Vec::new(),
            requests: Vec::new(),
            clock_offset: SignedDuration::ZERO,
            pool,
            next_serial: jiff::Timestamp::now().as_microsecond(),
        }));
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("could not listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { address, state, _task: Arc::new(Task(task)) })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a project and an API key that may use it.
    pub fn add_project(&self, id: &str, public_key: &str, private_key: &str) {
        let mut state = lock(&self.state);
        state.projects.entry(id.to_owned()).or_default();
        let key = state.keys.entry(public_key.to_owned()).or_default();
        private_key.clone_into(&mut key.0);
        key.1.push(id.to_owned());
    }

    /// Takes an API key away.
    pub fn revoke_key(&self, public_key: &str) {
        lock(&self.state).keys.remove(public_key);
    }

    /// Adds a database user.
    pub fn add_user(&self, project_id: &str, username: &str, type_: X509Type) {
        lock(&self.state).projects.entry(project_id.to_owned()).or_default().insert(username.to_owned(), type_);
    }

    /// Deletes a database user; its certificates stay valid.
    pub fn remove_user(&self, project_id: &str, username: &str) {
        if let Some(users) = lock(&self.state).projects.get_mut(project_id) {
            users.remove(username);
        }
    }

    /// Plays a fault at each request for a certificate of this user.
    pub fn fault(&self, username: &str, fault: Fault) {
        lock(&self.state).faults.insert(username.to_owned(), [(fault, true)].into());
    }

    /// Plays a fault at the next such request only, after those that wait already.
    pub fn fault_once(&self, username: &str, fault: Fault) {
        lock(&self.state).faults.entry(username.to_owned()).or_default().push_back((fault, false));
    }

    /// No more faults for this user.
    pub fn clear_faults(&self, username: &str) {
        lock(&self.state).faults.remove(username);
    }

    /// Moves its clock.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        lock(&self.state).clock_offset = offset;
    }

    /// Everything that was minted.
    #[must_use]
    pub fn mints(&self) -> Vec<Mint> {
        lock(&self.state).mints.clone()
    }

    /// What was minted for this user.
    #[must_use]
    pub fn mints_of(&self, username: &str) -> Vec<Mint> {
        self.mints().into_iter().filter(|mint| mint.username == username).collect()
    }

    /// Every request.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        lock(&self.state).requests.clone()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&state), request));
            // An error here is a connection that ended, by the client or by a fault that is played.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

type Answer = Result<Response<Body>, Closed>;

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    // Read before anything is answered, for a client may be writing still.
    let body = to_bytes(Body::new(body), 1 << 20).await.unwrap_or_default();
    if parts.uri.path() == "/ledger" {
        return Ok(json_response(StatusCode::OK, &json!(lock(&state).mints)));
    }
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (answer, authenticated) = match authenticate(&state, &parts.method, &target, authorization) {
        Ok(public_key) => {
            let call = Call { method: &parts.method, path: parts.uri.path(), query: parts.uri.query(), accept, public_key };
            (call.answer(&state, &body).await, true)
        }
        Err(response) => (Ok(*response), false),
    };
    let status = answer.as_ref().map_or(0, |response| response.status().as_u16());
    lock(&state).requests.push(LoggedRequest { method: parts.method.to_string(), target, authenticated, status });
    answer
}

fn authenticate(
    state: &Mutex<State>,
    method: &Method,
    target: &str,
    header: Option<&str>,
) -> Result<String, Box<Response<Body>>> {
    let mut state = lock(state);
    let now = state.now();
    let keys = state.keys.clone();
    let key_of = |public_key: &str| keys.get(public_key).map(|(private_key, _)| private_key.clone());
    match state.nonces.verify(header, method.as_str(), target, key_of, now) {
        Verdict::Authenticated(public_key) => Ok(public_key),
        Verdict::Refused { stale } => {
            let challenge = state.nonces.challenge(stale, now);
            let mut response = refuse(&Refusal::new(401, ""));
            if let Ok(value) = challenge.parse() {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
            }
            Err(Box::new(response))
        }
    }
}

struct Call<'a> {
    method: &'a Method,
    path: &'a str,
    query: Option<&'a str>,
    accept: &'a str,
    public_key: String,
}

impl Call<'_> {
    async fn answer(&self, state: &Mutex<State>, body: &Bytes) -> Answer {
        let segments: Vec<String> =
            self.path.split('/').skip(1).map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["api", "atlas", version @ ("v2" | "v1.0"), "groups", project, "databaseUsers", rest @ ..] = segments.as_slice()
        else {
            return Ok(refuse(&Refusal::new(404, "RESOURCE_NOT_FOUND")));
        };
        if *version == "v2" && self.accept != DATED_MEDIA_TYPE {
            return Ok(refuse(&Refusal::new(400, "INVALID_VERSION_DATE")));
        }
        if let Err(refusal) = self.check_project(state, project) {
            return Ok(refuse(&refusal));
        }
        match (self.method, rest) {
            (&Method::POST, [username, "certs"]) => self.mint(state, project, username, body).await,
            (&Method::GET, [username, "certs"]) => Ok(self.list(state, project, username)),
            (&Method::GET, ["$external", username]) => Ok(user(state, project, username)),
            _ => Ok(refuse(&Refusal::new(405, "METHOD_NOT_ALLOWED"))),
        }
    }

    fn check_project(&self, state: &Mutex<State>, project: &str) -> Result<(), Refusal> {
        let state = lock(state);
        if !state.projects.contains_key(project) {
            return Err(Refusal::new(404, "GROUP_NOT_FOUND"));
        }
        let may_use =
            state.keys.get(&self.public_key).is_some_and(|(_, projects)| projects.iter().any(|known| known == project));
        if may_use { Ok(()) } else { Err(Refusal::new(401, "USER_CANNOT_ACCESS_GROUP")) }
    }

    async fn mint(&self, state: &Mutex<State>, project: &str, username: &str, body: &Bytes) -> Answer {
        let fault = lock(state).take_fault(username);
        if let Some(Fault::Refuse(refusal)) = &fault {
            return Ok(refuse(refusal));
        }
        let months = match check_order(state, project, username, body) {
            Ok(months) => months,
            Err(refusal) => return Ok(refuse(&refusal)),
        };
        let mint = match record(state, project, username, months, fault.as_ref()) {
            Ok(mint) => mint,
            Err(error) => return Ok(refuse(&Refusal::new(500, "UNEXPECTED_ERROR").body(&error.to_string()))),
        };
        play(state, fault, &mint, self.accept).await
    }

    fn list(&self, state: &Mutex<State>, project: &str, username: &str) -> Response<Body> {
        let number = |name: &str, default: usize| {
            let fields = self.query.unwrap_or_default().split('&').filter_map(|field| field.split_once('='));
            fields.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
        };
        let (per_page, page) = (number("itemsPerPage", 100).clamp(1, 500), number("pageNum", 1).max(1));
        let all = lock(state).unexpired(project, username);
        let results: Vec<Value> = all
            .iter()
            .skip((page - 1) * per_page)
            .take(per_page)
            .map(|mint| {
                json!({
                    "_id": mint.serial,
                    "createdAt": seconds(mint.not_before),
                    "groupId": project,
                    "notAfter": seconds(mint.not_after),
                    "subject": format!("CN={}", common_name(username)),
                })
            })
            .collect();
        json_response(StatusCode::OK, &json!({ "links": [], "results": results, "totalCount": all.len() }))
    }
}

fn check_order(state: &Mutex<State>, project: &str, username: &str, body: &Bytes) -> Result<i64, Refusal> {
    let order: Value = serde_json::from_slice(body).map_err(|_| Refusal::new(400, "MALFORMED_JSON"))?;
    let state = lock(state);
    match state.projects.get(project).and_then(|users| users.get(username)) {
        None => return Err(Refusal::new(404, "USERNAME_NOT_FOUND")),
        Some(X509Type::Customer | X509Type::None) => return Err(Refusal::new(400, "USER_NOT_MANAGED_X509")),
        Some(X509Type::Managed) => {}
    }
    if username.starts_with("CN=") && username.contains(',') {
        return Err(Refusal::new(400, "ATLAS_MANAGED_X509_NAME_INVALID"));
    }
    if state.certificate_limit.is_some_and(|limit| state.unexpired(project, username).len() >= limit) {
        return Err(Refusal::new(400, "ATLAS_GENERATED_CERTS_LIMIT_EXCEEDED"));
    }
    match order.get("monthsUntilExpiration").and_then(Value::as_i64) {
        Some(months @ 1..=24) => Ok(months),
        Some(25..) => Err(Refusal::new(400, "CERT_EXPIRY_CANNOT_EXCEED_TWO_YEARS")),
        _ => Err(Refusal::new(400, "VALIDATION_ERROR")),
    }
}

fn user(state: &Mutex<State>, project: &str, username: &str) -> Response<Body> {
    match lock(state).projects.get(project).and_then(|users| users.get(username)) {
        Some(type_) => json_response(
            StatusCode::OK,
            &json!({ "username": username, "databaseName": "$external", "groupId": project, "x509Type": type_.as_str() }),
        ),
        None => refuse(&Refusal::new(404, "USERNAME_NOT_FOUND")),
    }
}

/// Makes the certificate and enters it into the ledger.
fn record(state: &Mutex<State>, project: &str, username: &str, months: i64, fault: Option<&Fault>) -> Result<Mint> {
    let mut state = lock(state);
    let (serial, mut now) = (state.take_serial(), state.now());
    let mut user = common_name(username).to_owned();
    match fault {
        Some(Fault::ExpiredCertificate) => now -= SignedDuration::from_hours(24 * 800),
        Some(Fault::OtherUser) => user.push_str("-other"),
        _ => {}
    }
    let order = Order { project_id: project, username, common_name: &user, months, serial, now };
    let mint = certificate::mint(&state.pool, &order)?;
    state.mints.push(mint.clone());
    Ok(mint)
}

fn common_name(username: &str) -> &str {
    username.strip_prefix("CN=").unwrap_or(username)
}

async fn play(state: &Mutex<State>, fault: Option<Fault>, mint: &Mint, media_type: &str) -> Answer {
    let pem = format!("{}{}", mint.certificate_pem, mint.key_pem);
    let body = match fault {
        None | Some(Fault::ExpiredCertificate | Fault::OtherUser) => Body::from(pem),
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            Body::from(pem)
        }
        Some(Fault::HtmlBody) => Body::from("<html><body>Service temporarily something</body></html>"),
        Some(Fault::EmptyBody) => Body::empty(),
        Some(Fault::TruncatedPem) => Body::from(pem[..pem.len() - 900].to_owned()),
        Some(Fault::WrongKey) => {
            let other = usize::try_from(mint.serial.rem_euclid(1000)).unwrap_or_default() + 1;
            Body::from(format!("{}{}", mint.certificate_pem, lock(state).pool.key_pem(other).unwrap_or_default()))
        }
        Some(Fault::TwoCertificates) => Body::from(format!("{}{pem}", mint.certificate_pem)),
        Some(Fault::FiveMegabytes) => Body::from(format!("{pem}{}", "x".repeat(5 << 20))),
        Some(Fault::NeverEnds) => {
            let begin = stream::once(async move { Ok::<_, Infallible>(Bytes::from(pem)) });
            Body::from_stream(begin.chain(stream::pending()))
        }
        Some(Fault::NeverAnswers) => loop {
            tokio::time::sleep(Duration::from_hours(1)).await;
        },
        Some(Fault::Reset) => return Err(Closed),
        Some(Fault::Refuse(refusal) | Fault::RefuseAfterMint(refusal)) => return Ok(refuse(&refusal)),
    };
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, format!("{media_type};charset=utf-8"))
        .header("RateLimit-Limit", "1200")
        .header("RateLimit-Remaining", "1199")
        .header("X-Java-Method", "ApiDatabaseUserCertsResource::generateCert")
        .body(body);
    response.map_err(|_| Closed)
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refusal.envelope()));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = if refusal.body.is_some() { "text/html" } else { "application/json" };
    let headers = response.headers_mut();
    for (name, value) in [
        ("Content-Type", Some(media_type)),
        ("X-Error-Code", Some(refusal.code).filter(|code| !code.is_empty())),
        ("Retry-After", refusal.retry_after.as_deref()),
    ] {
        if let (Ok(name), Some(Ok(value))) = (name.parse::<header::HeaderName>(), value.map(str::parse)) {
            headers.insert(name, value);
        }
    }
    response
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
