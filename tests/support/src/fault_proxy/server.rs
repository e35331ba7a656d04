//! The requests: forwarded, noted, and made to go wrong.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::{Body, Bytes, to_bytes};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{Asked, Fault, Moment, Shared, watch};

/// The longest request, in bytes.
const REQUEST_LIMIT: usize = 16 << 20;

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

pub(super) async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Shared) {
    let service = service_fn(|request| answer(shared.clone(), request));
    // An error here is a connection that ended, by the client or by a fault that is played.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A request that can be sent more than once.
struct Forwarded {
    method: reqwest::Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn answer(shared: Shared, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let body = to_bytes(Body::new(body), REQUEST_LIMIT).await.map_err(|_| Closed)?;
    let mut headers = parts.headers;
    for name in [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::ACCEPT_ENCODING] {
        headers.remove(name);
    }
    let mut forwarded = Forwarded { method: parts.method, target, headers, body };
    let (asked, fault) = note(&shared, &forwarded);
    if asked.is_watch() {
        let refused = shared.lock().start_plan.as_ref().and_then(|plan| plan(&asked));
        if let Some(status) = refused {
            return Ok(refusal(status));
        }
        return Ok(watch::answer(&shared, send(&shared, &forwarded).await?));
    }
    // What was begun is carried out, though the client may be gone by then: only so is it certain what took effect.
    let server = shared.clone();
    match fault {
        None => tokio::spawn(async move { whole(send(&server, &forwarded).await?).await }).await.map_err(|_| Closed)?,
        Some(Fault::StaleList(version)) => {
            forwarded.target = format!("{}&resourceVersion={version}&resourceVersionMatch=Exact", forwarded.target);
            whole(send(&shared, &forwarded).await?).await
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Halve) => rebuilt(send(&shared, &forwarded).await?, |body| body.slice(..body.len() / 2)).await,
        Some(Fault::Cut(moment)) => {
            carry_out(&shared, &forwarded, moment).await?;
            Err(Closed)
        }
        Some(Fault::Kill(moment)) => {
            carry_out(&shared, &forwarded, moment).await?;
            kill(&shared);
            Err(Closed)
        }
        Some(Fault::Refuse(moment, status)) => {
            carry_out(&shared, &forwarded, moment).await?;
            Ok(refusal(status))
        }
        Some(Fault::Delay(moment, delay)) => late(&shared, forwarded, moment, delay).await,
    }
}

async fn late(shared: &Shared, forwarded: Forwarded, moment: Moment, delay: Duration) -> Answer {
    if moment == Moment::Before {
        tokio::time::sleep(delay).await;
        return whole(send(shared, &forwarded).await?).await;
    }
    let answer = whole(send(shared, &forwarded).await?).await;
    tokio::time::sleep(delay).await;
    answer
}

/// Notes the request, and asks the plan about it.
fn note(shared: &Shared, forwarded: &Forwarded) -> (Asked, Option<Fault>) {
    let mut state = shared.lock();
    let mut asked = Asked { number: 0, method: forwarded.method.to_string(), target: forwarded.target.clone() };
    if asked.is_watch() {
        asked.number = state.watches.len();
        state.watches.push(asked.clone());
        return (asked, None);
    }
    asked.number = state.asked.len();
    state.asked.push(asked.clone());
    let fault = state.plan.as_ref().and_then(|plan| plan(&asked));
    if let Some(fault) = &fault {
        *state.played.entry(format!("{fault:?}")).or_default() += 1;
    }
    (asked, fault)
}

async fn carry_out(shared: &Shared, forwarded: &Forwarded, moment: Moment) -> Result<(), Closed> {
    if moment == Moment::After {
        whole(send(shared, forwarded).await?).await?;
    }
    Ok(())
}

fn kill(shared: &Shared) {
    let kill = shared.lock().on_kill.as_ref().map(Arc::clone);
    if let Some(kill) = kill {
        kill();
    }
}

async fn send(shared: &Shared, forwarded: &Forwarded) -> Result<reqwest::Response, Closed> {
    let request = shared
        .client
        .request(forwarded.method.clone(), format!("{}{}", shared.upstream, forwarded.target))
        .headers(forwarded.headers.clone())
        .body(forwarded.body.clone());
    request.send().await.map_err(|_| Closed)
}

/// The server's answer, read to its end.
async fn whole(response: reqwest::Response) -> Answer {
    rebuilt(response, |body| body).await
}

async fn rebuilt(response: reqwest::Response, change: impl FnOnce(Bytes) -> Bytes) -> Answer {
    let mut answer = Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONNECTION);
        headers.remove(header::CONTENT_LENGTH);
    }
    let body = response.bytes().await.map_err(|_| Closed)?;
    answer.body(Body::from(change(body))).map_err(|_| Closed)
}

/// As the API server says it; Atlas's client looks at the status alone.
fn refusal(status: u16) -> Response<Body> {
    let reason = match status {
        403 => "Forbidden",
        409 => "Conflict",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status, "reason": reason,
        "message": format!("the fault proxy answers {status}"),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A body that is written piece by piece, and ends when its sender is dropped.
pub(super) fn piecewise(pieces: tokio::sync::mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(futures::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (Ok::<_, Infallible>(piece), pieces))
    }))
}

pub(super) fn streaming(status: StatusCode, headers: &HeaderMap, pieces: tokio::sync::mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut response = Response::new(piecewise(pieces));
    *response.status_mut() = status;
    if let Some(type_) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, type_.clone());
    }
    response
}
