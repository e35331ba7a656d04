//! HTTP digest authentication (RFC 7616) by diqwest, and which of its legs was reached.

use std::sync::atomic::{AtomicBool, Ordering};

use diqwest::{DigestAuthCredentials, WithDigestAuth, error::Error, session::CachedContextGuard};
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use secrecy::ExposeSecret;

use super::ApiKey;
use crate::issuer::MintPermit;

/// The key for one exchange, which notes whether it was used: until then no request was sent that Atlas could grant.
///
/// Without a session: diqwest's forgets the algorithm of the challenge, and fails when several tasks share it.
struct Login<'a> {
    key: &'a ApiKey,
    used: AtomicBool,
    /// For a request that mints.
    permit: Option<&'a MintPermit>,
}

impl DigestAuthCredentials for &Login<'_> {
    fn username(&self) -> &str {
        self.key.public_key.expose_secret()
    }

    /// No challenge can be answered without it, so the note is taken before anything is sent that mints.
    fn password(&self) -> &str {
        self.used.store(true, Ordering::SeqCst);
        self.key.private_key.expose_secret()
    }

    fn cached_context<'h>(&self, _host: &'h str) -> Result<Option<CachedContextGuard<'_, 'h>>, Error> {
        Ok(None)
    }

    /// Called between the challenge and its answer, which is the last chance to send nothing that mints. diqwest has no error for that;
    /// whoever withdrew the permit knows why.
    fn store_context(&self, _host: &str, _challenge: &str) -> Result<(), Error> {
        if self.permit.is_some_and(|permit| !permit.is_given()) { Err(Error::AuthHeaderMissing) } else { Ok(()) }
    }

    fn clear_context(&self, _host: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// Sends a request, answers the challenge, and answers it once more if the nonce was too old by then (`stale=true`, which refuses
/// the request without a look at it). The flag says whether a request with credentials was sent.
pub(super) async fn send(
    request: &RequestBuilder,
    key: &ApiKey,
    permit: Option<&MintPermit>,
) -> (Result<Response, Error>, bool) {
    let login = Login { key, used: AtomicBool::new(false), permit };
    let mut answer = request.send_digest_auth(&login).await;
    let stale = |answer: &Result<Response, Error>| {
        answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED && is_stale(answer.headers()))
    };
    if stale(&answer) {
        login.used.store(false, Ordering::SeqCst);
        answer = request.send_digest_auth(&login).await;
    }
    (answer, login.used.load(Ordering::SeqCst))
}

fn is_stale(headers: &HeaderMap) -> bool {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        let value = value.to_ascii_lowercase().replace([' ', '"'], "");
        value.starts_with("digest") && value.contains("stale=true")
    })
}
