//! The server: connections, authentication, routes.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Fault, LoggedRequest, Point, Refusal,
    answer::{Answer, Closed, json_response, refuse},
    bucket::Bucket,
    certs,
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

pub(super) fn reached(state: &Mutex<State>, point: Point, username: &str) {
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
            (&Method::POST, [username, "certs"]) => certs::mint(state, project, username, body, self.accept).await,
            (&Method::GET, [username, "certs"]) => Ok(certs::list(state, project, username, self.query.unwrap_or_default())),
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

fn user(state: &Mutex<State>, project: &str, username: &str) -> Response<Body> {
    match lock(state).projects.get(project).and_then(|users| users.get(username)) {
        Some(type_) => json_response(
            StatusCode::OK,
            &json!({ "username": username, "databaseName": "$external", "groupId": project, "x509Type": type_.as_str() }),
        ),
        None => refuse(&Refusal::new(404, "USERNAME_NOT_FOUND")),
    }
}
