//! The server: connections, routes, answers.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
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
};
use tokio_rustls::TlsAcceptor;

use super::{
    Fault, LoggedRequest, Mint, Point, Refusal, X509Type,
    bucket::Bucket,
    certificate::{self, Order},
    digest::Verdict,
    state::{State, lock},
};
use crate::evidence;

const DATED_MEDIA_TYPE: &str = "application/vnd.atlas.2023-01-01+json";

/// Serves every connection.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
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

/// The user's name as it stands in the certificate.
pub(super) fn common_name(username: &str) -> &str {
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
