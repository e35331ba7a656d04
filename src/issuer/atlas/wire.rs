//! HTTP: one client for all projects, one request that mints, one bounded answer.

use std::time::Duration;

use diqwest::{Credentials, WithDigestAuth};
use reqwest::{
    Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap},
    redirect::Policy,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::info;
use url::Url;
use zeroize::Zeroizing;

use super::{AtlasCredentials, AtlasSettings, answer::unusable, errors::Refusal};
use crate::{
    api::Reason,
    issuer::{IssueError, IssueRequest, Minted, Retry},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Ten times what Atlas sends (a certificate of 1.8 kB and a key of 3.2 kB).
const BODY_LIMIT: usize = 64 * 1024;

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("could not set up HTTP with TLS")]
pub struct AtlasClientError(#[source] reqwest::Error);

/// An HTTP client for the Administration API.
#[derive(Clone, Debug)]
pub struct AtlasClient(reqwest::Client);

impl AtlasClient {
    /// With this time limit for a request and its answer; HTTP digest takes two of them.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, AtlasClientError> {
        reqwest::Client::builder()
            .user_agent(concat!("usercert-operator/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(CONNECT_LIMIT)
            // Credentials go to the endpoint that the issuer names, and nowhere else.
            .redirect(Policy::none())
            // A request that mints is sent once: not by a retry policy, and not by the pool, which repeats what it wrote to a
            // connection that the server had closed.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .build()
            .map(Self)
            .map_err(AtlasClientError)
    }

    /// Asks for one certificate; returns the body of the success.
    pub(super) async fn mint(
        &self,
        settings: &AtlasSettings,
        credentials: &AtlasCredentials,
        request: &IssueRequest,
    ) -> Result<SecretString, IssueError> {
        let url = certificates_url(settings, &request.username)?;
        let media_type = settings.api_version.media_type();
        let http_request = self
            .0
            .post(url)
            .header(ACCEPT, media_type)
            .header(CONTENT_TYPE, media_type)
            .body(json!({ "monthsUntilExpiration": request.months_until_expiration }).to_string());
        // Without a session: diqwest's forgets the algorithm of the challenge, and fails when several tasks share it.
        let digest = Credentials::new(credentials.public_key.expose_secret(), credentials.private_key.expose_secret());
        let response = http_request.send_digest_auth(digest).await.map_err(|error| failure(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        announce_deprecation(&headers);
        let body = read(response).await;
        if status.is_success() {
            return success(body);
        }
        let body = body.unwrap_or_default();
        let refusal = Refusal {
            status,
            headers: &headers,
            body: &body,
            username: &request.username,
            project_id: &settings.project_id,
            now: request.now,
        };
        Err(refusal.classify())
    }
}

fn success(body: Result<Zeroizing<Vec<u8>>, ReadError>) -> Result<SecretString, IssueError> {
    let body = body.map_err(|error| unusable(&error.to_string()))?;
    match std::str::from_utf8(&body) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(unusable("it is not text")),
    }
}

/// The URL of a user's certificates. The name is one path segment, encoded exactly once.
///
/// # Errors
/// `.` and `..`, which no URL can hold as a segment; an endpoint that has no paths.
pub fn certificates_url(settings: &AtlasSettings, username: &str) -> Result<Url, IssueError> {
    let refusal = |message: &str| IssueError {
        reason: Reason::InvalidSpec,
        message: message.to_owned(),
        retry: Retry::Slowly,
        minted: Minted::No,
    };
    if matches!(username, "." | "..") {
        return Err(refusal("spec.username must not be '.' or '..', which a URL path cannot hold"));
    }
    if settings.endpoint.scheme() != "https" && !is_loopback(&settings.endpoint) {
        return Err(refusal("spec.atlas.endpoint must begin with https://"));
    }
    let path =
        format!("{}/groups/{}/databaseUsers/{}/certs", settings.api_version.path(), settings.project_id, encoded(username));
    settings.endpoint.join(&format!("/{path}")).map_err(|_| refusal("spec.atlas.endpoint cannot be the base of a URL"))
}

/// Percent-encodes everything but the unreserved characters (RFC 3986 section 2.3).
fn encoded(segment: &str) -> String {
    use std::fmt::Write;
    segment.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Formatting into a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("it is longer than {BODY_LIMIT} bytes")]
    TooLong,
    #[error("it did not end in time, or the connection broke")]
    Broken,
}

/// Reads a body of at most [`BODY_LIMIT`] bytes.
async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Room for all of it from the start: growing would leave copies of the key behind.
    let mut body = Zeroizing::new(Vec::with_capacity(BODY_LIMIT));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_LIMIT => return Err(ReadError::TooLong),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err(ReadError::Broken),
        }
    }
}

/// A request without an answer. The challenge's leg cannot mint, but diqwest does not say which leg failed, so all that may have
/// been sent with credentials counts as minted.
fn failure(error: &diqwest::error::Error) -> IssueError {
    use diqwest::error::Error;
    let (reason, message, minted) = match error {
        Error::Reqwest(error) if error.is_connect() => {
            (Reason::AtlasUnavailable, format!("Atlas could not be reached: {}", cause(error)), Minted::No)
        }
        Error::Reqwest(error) if error.is_builder() => (
            Reason::AtlasRequestRefused,
            "the request to Atlas could not be made: check the issuer's endpoint".to_owned(),
            Minted::No,
        ),
        Error::Reqwest(error) => {
            let message = format!("the answer of Atlas was lost ({}); a certificate may have been made", cause(error));
            (Reason::AtlasAnswerLost, message, Minted::Possibly)
        }
        Error::AuthHeaderMissing | Error::DigestAuth(_) | Error::ToStr(_) => (
            Reason::AtlasUnauthorized,
            "the endpoint answered 401 without a digest challenge that can be answered: check the issuer's endpoint".to_owned(),
            Minted::No,
        ),
        Error::InvalidHeaderValue(_) | Error::RequestBuilderNotCloneable | Error::LockPoisoned | Error::MissingHost => (
            Reason::AtlasRequestRefused,
            "the request to Atlas could not be made: check the credentials Secret and the issuer's endpoint".to_owned(),
            Minted::No,
        ),
    };
    let retry = if reason == Reason::AtlasUnauthorized { Retry::Slowly } else { Retry::Backoff };
    IssueError { reason, message, retry, minted }
}

/// The innermost cause: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "time-out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn announce_deprecation(headers: &HeaderMap) {
    static ANNOUNCED: std::sync::Once = std::sync::Once::new();
    for name in ["Deprecation", "Sunset"] {
        if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
            ANNOUNCED.call_once(|| info!(header = name, value, "Atlas announces the end of this version of its API"));
        }
    }
}
