//! HTTP digest authentication (RFC 7616) by diqwest.
//!
//! A request takes two legs: one without credentials, which is answered by a challenge, and one with credentials. Only the second
//! can mint.
//!
//! # Guarantees
//!
//! - [`send`] tells whether a request with credentials was sent.
//! - A request that mints is not sent once its permit is withdrawn, or might not end in time: the permit is asked between the two legs.

use std::sync::atomic::{AtomicBool, Ordering};

use diqwest::{DigestAuthCredentials, WithDigestAuth, error::Error, session::CachedContextGuard};
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use secrecy::ExposeSecret;

use super::{ApiKey, permit::RequestPermit};

/// The API key for one exchange. It notes whether it was used: until then no request was sent that Atlas could grant.
///
/// The exchange has no session, because that of diqwest forgets the algorithm of the challenge and fails when several tasks share
/// it.
struct Login<'a> {
    key: &'a ApiKey,
    used: AtomicBool,
    /// Set for a request that mints only.
    permit: Option<&'a RequestPermit>,
}

impl DigestAuthCredentials for &Login<'_> {
    fn username(&self) -> &str {
        self.key.public_key.expose_secret()
    }

    /// diqwest asks for the password only to answer a challenge. So the note is taken before anything is sent that mints.
    fn password(&self) -> &str {
        self.used.store(true, Ordering::SeqCst);
        self.key.private_key.expose_secret()
    }

    fn cached_context<'h>(&self, _host: &'h str) -> Result<Option<CachedContextGuard<'_, 'h>>, Error> {
        Ok(None)
    }

    /// diqwest calls this between the challenge and its answer, which is the last chance to send nothing that mints. It has no
    /// error for that, so another one is borrowed; whoever withdrew the permit knows why.
    fn store_context(&self, _host: &str, _challenge: &str) -> Result<(), Error> {
        if self.permit.is_some_and(|permit| !permit.is_given()) { Err(Error::AuthHeaderMissing) } else { Ok(()) }
    }

    fn clear_context(&self, _host: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// Sends a request and answers its challenge. If the nonce was too old by then (`stale=true`, which refuses the request without a
/// look at it), it answers the new challenge once more. The flag says whether a request with credentials was sent and may have
/// been carried out.
pub(super) async fn send(
    request: &RequestBuilder,
    key: &ApiKey,
    permit: Option<&RequestPermit>,
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
