//! HTTP: one client for all projects.
//!
//! # Guarantees
//!
//! - Each request has a time limit, and each answer a limit of bytes.
//! - Only a request that was certainly not carried out is sent again: after a stale nonce, and after a 401 for a token.
//! - Credentials go only to the endpoint that the issuer names: redirects are not followed.
//!
//! # Errors
//!
//! - An answer of any status is an [`Answer`]. Only a request without an answer is an error, which says whether a certificate may
//!   have been made.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap},
    redirect::Policy,
};
use secrecy::ExposeSecret;
use tracing::info;
use url::Url;
use zeroize::Zeroizing;

use super::{
    AtlasCredentials, AtlasSettings, Limits, ServiceAccount,
    body::{self, ReadError},
    digest,
    errors::{Unanswered, retry_after},
    observed::{Observer, outcome},
    permit::RequestPermit,
    token::{Token, Tokens},
};
use crate::{
    IssueError, MintPermit,
    atlas_request::{AtlasObserver, AtlasOperation},
    certificate::{PairError, read_certificates},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AtlasClientError {
    /// The bundle of CA certificates cannot be read.
    #[error("could not use the CA bundle for Atlas: give PEM certificates")]
    Bundle(#[source] PairError),
    /// A certificate of the bundle cannot be used.
    #[error("could not use a certificate of the CA bundle for Atlas")]
    Certificate(#[source] reqwest::Error),
    /// TLS cannot be set up.
    #[error("could not set up HTTP with TLS")]
    Tls(#[source] reqwest::Error),
}

/// An HTTP client for the Administration API, with the tokens and the rate limits that all issuers share.
#[derive(Clone, Debug)]
pub struct AtlasClient {
    http: reqwest::Client,
    request_limit: Duration,
    tokens: Arc<Tokens>,
    limits: Limits,
    observer: Observer,
}

/// One call.
pub(super) struct Call {
    /// What it is for.
    pub(super) operation: AtlasOperation,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<String>,
    /// The limit of the answer, in bytes.
    pub(super) body_limit: usize,
    /// Set for a request that mints only: whether it may still be sent.
    pub(super) permit: Option<MintPermit>,
    /// Whether it counts against the rate limit for certificates, so that its answer tells the state of that limit.
    pub(super) metered: bool,
}

impl Call {
    /// Whether Atlas may have made a certificate if the answer is lost.
    pub(super) fn mints(&self) -> bool {
        self.permit.is_some()
    }
}

/// An answer of any status.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or why there is none.
    pub body: Result<Zeroizing<Vec<u8>>, ReadError>,
    /// Whether it answers a request with credentials. Without credentials nothing can be made.
    pub authenticated: bool,
}

impl AtlasClient {
    /// A client with this time limit for a request and its answer; HTTP digest takes two of them. The CA certificates (PEM) are
    /// trusted in addition to those of the system. Proxies are taken from `HTTPS_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// TLS cannot be set up, or the CA certificates cannot be used.
    pub fn new(timeout: Duration, ca_bundle: Option<&[u8]>) -> Result<Self, AtlasClientError> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("usercert-operator/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(CONNECT_LIMIT)
            // Credentials go to the endpoint that the issuer names, and nowhere else.
            .redirect(Policy::none())
            // A request that mints must be sent once. So there is no retry policy, and no pool: a pool repeats what it wrote to a
            // connection that the server had closed.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .http1_max_headers(100);
        let builder = match ca_bundle.map(certificates_of).transpose()? {
            None => builder,
            Some(bundle) => builder.tls_certs_merge(bundle),
        };
        let http = builder.build().map_err(AtlasClientError::Tls)?;
        Ok(Self {
            http,
            request_limit: timeout,
            tokens: Arc::default(),
            limits: Limits::default(),
            observer: Observer::default(),
        })
    }

    /// The same client, which tells of each request.
    #[must_use]
    pub fn observed_by(self, observer: AtlasObserver) -> Self {
        Self { observer: observer.into(), ..self }
    }

    /// The time limit of one request and its answer.
    #[must_use]
    pub const fn request_limit(&self) -> Duration {
        self.request_limit
    }

    /// What is known of the rate limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sends one call with the credentials. It is sent again only when it was certainly not carried out: after a stale nonce, and
    /// after a 401 for a token that may have been revoked.
    pub(super) async fn send(
        &self,
        settings: &AtlasSettings,
        credentials: &AtlasCredentials,
        call: Call,
        now: Timestamp,
    ) -> Result<Answer, IssueError> {
        let (operation, mints, body_limit, metered) = (call.operation, call.mints(), call.body_limit, call.metered);
        let permit = call.permit.clone().map(|permit| RequestPermit { permit, limit: self.request_limit });
        let request = self.request(settings, call);
        let (response, authenticated) = match credentials {
            AtlasCredentials::ApiKey(key) => {
                let exchange = Box::pin(async {
                    let (response, authenticated) = digest::send(&request, key, permit.as_ref()).await;
                    let unanswered = |error| {
                        let too_late = permit.as_ref().is_some_and(RequestPermit::is_too_late) && !authenticated;
                        if too_late { Unanswered::TooLate } else { Unanswered::of_digest(&error) }
                    };
                    (response.map_err(unanswered), authenticated)
                });
                let (response, authenticated) =
                    self.observer.tell(operation, exchange, |(response, _)| outcome(response)).await;
                (response.map_err(|error| error.classify(mints && authenticated, settings.words))?, authenticated)
            }
            AtlasCredentials::ServiceAccount(account) => {
                let with_token = async |token: &Token| {
                    let exchange = Box::pin(with_token(&request, &token.value, permit.as_ref()));
                    let response = self.observer.tell(operation, exchange, outcome).await;
                    response.map_err(|error| error.classify(mints, settings.words))
                };
                let token = self.token(settings, account, now).await?;
                let mut response = with_token(&token).await?;
                if response.status() == StatusCode::UNAUTHORIZED {
                    self.tokens.drop_token(settings, account, &token);
                    if !token.is_new {
                        let token = self.token(settings, account, now).await?;
                        response = with_token(&token).await?;
                    }
                }
                (response, true)
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        announce_deprecation(&headers);
        let account = settings.account();
        if authenticated {
            self.limits.met(&account, status, mints);
        }
        let key = self.limits.key(&account);
        if status == StatusCode::TOO_MANY_REQUESTS {
            let asked = retry_after(&headers, now).and_then(|asked| Duration::try_from(asked).ok());
            self.limits.refused(&key, asked, Instant::now(), now);
        } else if metered {
            self.limits.answered(&key, &headers, Instant::now());
        }
        Ok(Answer { status, headers, body: body::read(response, body_limit).await, authenticated })
    }

    async fn token(&self, settings: &AtlasSettings, account: &ServiceAccount, now: Timestamp) -> Result<Token, IssueError> {
        self.tokens.get(&self.http, &self.observer, settings, account, now).await
    }

    fn request(&self, settings: &AtlasSettings, call: Call) -> RequestBuilder {
        let media_type = settings.api_version.media_type();
        let request = self.http.request(call.method, call.url).header(ACCEPT, media_type);
        match call.body {
            Some(body) => request.header(CONTENT_TYPE, media_type).body(body),
            None => request,
        }
    }
}

/// The certificates of a bundle, read as those of a CA are. The reader of reqwest would silently skip what follows a block on the
/// same line.
fn certificates_of(bundle: &[u8]) -> Result<Vec<reqwest::Certificate>, AtlasClientError> {
    let certificates = read_certificates(bundle).map_err(AtlasClientError::Bundle)?;
    certificates.iter().map(|der| reqwest::Certificate::from_der(der).map_err(AtlasClientError::Certificate)).collect()
}

/// Sends a request with a token, if it may be sent.
async fn with_token(
    request: &RequestBuilder,
    token: &secrecy::SecretString,
    permit: Option<&RequestPermit>,
) -> Result<Response, Unanswered> {
    if permit.is_some_and(RequestPermit::is_too_late) {
        return Err(Unanswered::TooLate);
    }
    let request = request.try_clone().filter(|_| permit.is_none_or(RequestPermit::is_given)).ok_or(Unanswered::NotMade)?;
    request.bearer_auth(token.expose_secret()).send().await.map_err(|error| Unanswered::of(&error))
}

fn announce_deprecation(headers: &HeaderMap) {
    static ANNOUNCED: std::sync::Once = std::sync::Once::new();
    let names: Vec<&str> = ["Deprecation", "Sunset"].into_iter().filter(|name| headers.contains_key(*name)).collect();
    if !names.is_empty() {
        ANNOUNCED.call_once(|| info!(headers = names.join(", "), "Atlas announces the end of this version of its API"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn no_certificate_of_a_bundle_gets_lost() {
        let certificate = || {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
        };
        let glued = format!("{}{}", certificate().trim_end(), certificate());
        assert_eq!(certificates_of(glued.as_bytes()).unwrap().len(), 2);
        assert!(matches!(certificates_of(b"nothing"), Err(AtlasClientError::Bundle(PairError::NoCertificate))));
    }
}
