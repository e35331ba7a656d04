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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::evidence;

use super::{
    Fault, KeyPool, LoggedRequest, Mint, Point, RateLimit, Refusal, StandInConfig, TlsFiles, X509Type,
    bucket::Bucket,
    certificate::{self, Order},
    digest::{Nonces, Verdict},
    state::{State, lock},
    token::{Account, Tokens},
};

const DATED_MEDIA_TYPE: &str = "application/vnd.atlas.2023-01-01+json";

/// A running stand-in; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct StandIn {
    address: SocketAddr,
    tls: Option<TlsFiles>,
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
            question_faults: [].into(),
            observer: None,
            tokens: Tokens::new(config.token_lifetime),
            rate_limit: config.rate_limit,
            buckets_open: jiff::Timestamp::UNIX_EPOCH,
            buckets: [].into(),
            mints: Vec::new(),
            requests: Vec::new(),
            clock_offset: SignedDuration::ZERO,
            pool,
            next_serial: jiff::Timestamp::now().as_microsecond(),
        }));
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("could not listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let tls = config.tls.then(TlsFiles::new).transpose()?;
        let acceptor = tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state))).abort_handle();
        Ok(Self { address, tls, state, _task: Arc::new(Task(task)) })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// PEM of the CA that its TLS certificate is from.
    #[must_use]
    pub fn ca_certificate(&self) -> Option<String> {
        self.tls.as_ref().map(TlsFiles::ca_certificate)
    }

    /// Adds a service account that may use a project.
    pub fn add_service_account(&self, project_id: &str, client_id: &str, client_secret: &str) {
        let mut state = lock(&self.state);
        state.projects.entry(project_id.to_owned()).or_default();
        let account = state
            .tokens
            .accounts
            .entry(client_id.to_owned())
            .or_insert_with(|| Account { secret: String::new(), projects: Vec::new() });
        evidence::secret(client_secret);
        evidence::secret(&format!("{client_id}:{client_secret}"));
        client_secret.clone_into(&mut account.secret);
        account.projects.push(project_id.to_owned());
    }

    /// Ends all tokens before their time.
    pub fn revoke_tokens(&self) {
        lock(&self.state).tokens.revoke_all();
    }

    /// Every token that was given out.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        lock(&self.state).tokens.all()
    }

    /// Answers questions about this user, its certificates included, with a refusal.
    pub fn refuse_questions(&self, username: &str, refusal: Refusal) {
        lock(&self.state).question_faults.insert(username.to_owned(), refusal);
    }

    /// Calls `observer` at each point of each mint with the user's name.
    pub fn observe(&self, observer: impl Fn(Point, &str) + Send + Sync + 'static) {
        lock(&self.state).observer = Some(Arc::new(observer));
    }

    /// Sets the limit of all projects, each with a full bucket that gives nothing for so long.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>, closed: Duration) {
        let mut state = lock(&self.state);
        state.rate_limit = limit;
        state.buckets_open = jiff::Timestamp::now().saturating_add(closed).unwrap_or(jiff::Timestamp::MAX);
        state.buckets.clear();
    }

    /// Mints a certificate beside the API, as another program would.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn mint_for(&self, project_id: &str, username: &str, not_after: jiff::Timestamp) -> Result<Mint> {
        let mut state = lock(&self.state);
        let (serial, now) = (state.take_serial(), state.now());
        let common_name = common_name(username);
        let order = Order { project_id, username, common_name, months: 1, not_after: Some(not_after), serial, now };
        let mint = certificate::mint(&state.pool, &order)?;
        state.mints.push(mint.clone());
        Ok(mint)
    }

    /// Adds a project and an API key that may use it.
    pub fn add_project(&self, id: &str, public_key: &str, private_key: &str) {
        let mut state = lock(&self.state);
        state.projects.entry(id.to_owned()).or_default();
        let key = state.keys.entry(public_key.to_owned()).or_default();
        evidence::secret(private_key);
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

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, state: Arc<Mutex<State>>) {
    let service = service_fn(|request| answer(Arc::clone(&state), request));
    // An error here is a connection that ended, by the client or by a fault that is played.
    let _ = http1::Builder::new().max_buf_size(1 << 22).serve_connection(TokioIo::new(stream), service).await;
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
    if parts.uri.path() == "/api/oauth/token" {
        let response = token(&state, &parts.headers, &body);
        let status = response.status().as_u16();
        lock(&state).requests.push(LoggedRequest { method: parts.method.to_string(), target, authenticated: true, status });
        return Ok(response);
    }
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (answer, authenticated) = match authenticate(&state, &parts.method, &target, authorization) {
        Ok(caller) => {
            let call = Call { method: &parts.method, path: parts.uri.path(), query: parts.uri.query(), accept, caller };
            (call.answer(&state, &body).await, true)
        }
        Err(response) => (challenge(&state, &parts.method, parts.uri.path(), *response).await, false),
    };
    let status = answer.as_ref().map_or(0, |response| response.status().as_u16());
    lock(&state).requests.push(LoggedRequest { method: parts.method.to_string(), target, authenticated, status });
    answer
}

/// The answer to a request for a certificate without credentials, and what may go wrong with it.
async fn challenge(state: &Mutex<State>, method: &Method, path: &str, response: Response<Body>) -> Answer {
    let user = path.strip_suffix("/certs").and_then(|path| path.rsplit('/').next()).filter(|_| method == Method::POST);
    let Some(user) = user.map(|user| percent_decode_str(user).decode_utf8_lossy().into_owned()) else { return Ok(response) };
    reached(state, Point::Challenge, &user);
    let fault = lock(state).take_challenge_fault(&user);
    match fault {
        Some(Fault::RefuseChallenge(refusal)) => Ok(refuse(&refusal)),
        Some(Fault::ResetChallenge) => Err(Closed),
        Some(Fault::DelayChallenge(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(response)
        }
        _ => Ok(response),
    }
}

fn reached(state: &Mutex<State>, point: Point, username: &str) {
    let observer = lock(state).observer.clone();
    if let Some(observer) = observer {
        observer(point, username);
    }
}

fn token(state: &Mutex<State>, headers: &hyper::HeaderMap, body: &Bytes) -> Response<Body> {
    let mut state = lock(state);
    let now = state.now();
    match state.tokens.give(headers, body, now) {
        Ok((token, seconds)) => {
            evidence::secret(&token);
            json_response(StatusCode::OK, &json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" }))
        }
        Err(refusal) => refuse(&refusal),
    }
}

fn authenticate(
    state: &Mutex<State>,
    method: &Method,
    target: &str,
    header: Option<&str>,
) -> Result<Caller, Box<Response<Body>>> {
    let mut state = lock(state);
    let now = state.now();
    if header.is_some_and(|header| header.starts_with("Bearer ")) {
        let account = header.and_then(|header| state.tokens.verify(header, now));
        return account.map(Caller::ServiceAccount).ok_or_else(|| Box::new(refuse(&Refusal::new(401, "INVALID_TOKEN"))));
    }
    let keys = state.keys.clone();
    let key_of = |public_key: &str| keys.get(public_key).map(|(private_key, _)| private_key.clone());
    match state.nonces.verify(header, method.as_str(), target, key_of, now) {
        Verdict::Authenticated(public_key) => Ok(Caller::ApiKey(public_key)),
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

enum Caller {
    ApiKey(String),
    ServiceAccount(String),
}

struct Call<'a> {
    method: &'a Method,
    path: &'a str,
    query: Option<&'a str>,
    accept: &'a str,
    caller: Caller,
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
        if let (&Method::GET, ["$external", username] | [username, "certs"]) = (self.method, rest)
            && let Some(refusal) = lock(state).question_faults.get(*username)
        {
            return Ok(refuse(refusal));
        }
        let budget = match rest {
            [_, "certs"] => match take_token(state, project) {
                Ok(budget) => budget,
                Err(refusal) => return Ok(refuse(&refusal)),
            },
            _ => None,
        };
        let mut answer = self.dispatch(state, project, rest, body).await?;
        if let Some((limit, left)) = budget {
            let headers = answer.headers_mut();
            headers.insert("RateLimit-Limit", limit.into());
            headers.insert("RateLimit-Remaining", left.into());
        }
        Ok(answer)
    }

    async fn dispatch(&self, state: &Mutex<State>, project: &str, rest: &[&str], body: &Bytes) -> Answer {
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
        let projects = match &self.caller {
            Caller::ApiKey(public_key) => state.keys.get(public_key).map(|(_, projects)| projects),
            Caller::ServiceAccount(id) => state.tokens.accounts.get(id).map(|account| &account.projects),
        };
        let may_use = projects.is_some_and(|projects| projects.iter().any(|known| known == project));
        if may_use { Ok(()) } else { Err(Refusal::new(401, "USER_CANNOT_ACCESS_GROUP")) }
    }

    async fn mint(&self, state: &Mutex<State>, project: &str, username: &str, body: &Bytes) -> Answer {
        reached(state, Point::Asked, username);
        let fault = lock(state).take_fault(username);
        match &fault {
            Some(Fault::Refuse(refusal)) => return Ok(refuse(refusal)),
            Some(Fault::ResetUnminted) => return Err(Closed),
            Some(Fault::DelayMint(delay)) => tokio::time::sleep(*delay).await,
            Some(Fault::StaleNonce) => return Ok(stale(state)),
            Some(Fault::Redirect(to)) => return Ok(with_header(StatusCode::TEMPORARY_REDIRECT, "Location", to)),
            Some(Fault::HugeHeader) => return Ok(with_header(StatusCode::CREATED, "X-Huge", &"x".repeat(1 << 20))),
            _ => {}
        }
        let months = match check_order(state, project, username, body) {
            Ok(months) => months,
            Err(refusal) => return Ok(refuse(&refusal)),
        };
        let mint = match record(state, project, username, months, fault.as_ref()) {
            Ok(mint) => mint,
            Err(error) => return Ok(refuse(&Refusal::new(500, "UNEXPECTED_ERROR").body(&error.to_string()))),
        };
        reached(state, Point::Made, username);
        let answer = play(state, fault, &mint, self.accept).await;
        reached(state, Point::Answered, username);
        answer
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

fn take_token(state: &Mutex<State>, project: &str) -> Result<Option<(u32, u32)>, Refusal> {
    let mut state = lock(state);
    let Some(limit) = state.rate_limit else { return Ok(None) };
    // By the machine's clock: a test that moves Atlas's own would fill all buckets.
    let now = jiff::Timestamp::now();
    let opens = state.buckets_open;
    let bucket = state.buckets.entry(project.to_owned()).or_insert_with(|| Bucket::new(limit, opens, now));
    match bucket.take(now) {
        Ok(budget) => Ok(Some(budget)),
        Err(seconds) => Err(Refusal::new(429, "RATE_LIMITED_TOKEN_BUCKET").retry_after(&seconds.to_string())),
    }
}

fn stale(state: &Mutex<State>) -> Response<Body> {
    let mut state = lock(state);
    let now = state.now();
    let challenge = state.nonces.challenge(true, now);
    with_header(StatusCode::UNAUTHORIZED, "WWW-Authenticate", &challenge)
}

fn with_header(status: StatusCode, name: &'static str, value: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
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
    let order = Order { project_id: project, username, common_name: &user, months, not_after: None, serial, now };
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
        None | Some(Fault::ExpiredCertificate | Fault::OtherUser | Fault::DelayMint(_)) => Body::from(pem),
        Some(Fault::CutBody) => {
            let half = Bytes::from(pem[..pem.len() / 2].to_owned());
            Body::from_stream(stream::iter([Ok(half), Err(Closed)]))
        }
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
        Some(Fault::RefuseAfterMint(refusal)) => return Ok(refuse(&refusal)),
        Some(
            Fault::Reset
            | Fault::Refuse(_)
            | Fault::RefuseChallenge(_)
            | Fault::DelayChallenge(_)
            | Fault::ResetUnminted
            | Fault::ResetChallenge
            | Fault::StaleNonce
            | Fault::Redirect(_)
            | Fault::HugeHeader,
        ) => return Err(Closed),
    };
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, format!("{media_type};charset=utf-8"))
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
