//! The answers as HTTP has them.

use anyhow::Result;
use axum::body::Body;
use hyper::{Response, StatusCode, header};
use serde_json::Value;

use super::Refusal;

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(super) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

pub(super) type Answer = Result<Response<Body>, Closed>;

pub(super) fn with_header(status: StatusCode, name: &'static str, value: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
}

pub(super) fn refuse(refusal: &Refusal) -> Response<Body> {
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

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
