//! Service accounts: `POST /api/oauth/token`, with its own limits.

use std::collections::HashMap;

use hyper::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};

use super::Refusal;

/// Atlas: the active tokens that one account may have.
const ACTIVE_TOKENS: usize = 100;

/// A service account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) secret: String,
    pub(super) projects: Vec<String>,
}

/// All tokens that were given out.
pub(super) struct Tokens {
    pub(super) accounts: HashMap<String, Account>,
    pub(super) lifetime: SignedDuration,
    given: Vec<Given>,
}

struct Given {
    token: String,
    client_id: String,
    expires: Timestamp,
}

impl Tokens {
    pub(super) fn new(lifetime: SignedDuration) -> Self {
        Self { accounts: HashMap::new(), lifetime, given: Vec::new() }
    }

    /// Every token that was ever given out.
    pub(super) fn all(&self) -> Vec<String> {
        self.given.iter().map(|given| given.token.clone()).collect()
    }

    /// The tokens that hold no longer, as after an administrator's click.
    pub(super) fn revoke_all(&mut self) {
        for given in &mut self.given {
            given.expires = Timestamp::MIN;
        }
    }

    /// The account whose token this header holds.
    pub(super) fn verify(&self, authorization: &str, now: Timestamp) -> Option<String> {
        let token = authorization.strip_prefix("Bearer ")?;
        let given = self.given.iter().find(|given| given.token == token && given.expires > now)?;
        self.accounts.contains_key(&given.client_id).then(|| given.client_id.clone())
    }

    /// A new token and its life in seconds.
    pub(super) fn give(&mut self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(String, i64), Refusal> {
        if body != b"grant_type=client_credentials" {
            return Err(Refusal::new(400, "").body(r#"{"error":"unsupported_grant_type"}"#));
        }
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let expected = |(id, account): (&String, &Account)| basic(id, &account.secret) == authorization;
        let id = self.accounts.iter().find(|entry| expected(*entry)).map(|(id, _)| id.clone());
        let id = id.ok_or_else(|| {
            Refusal::new(401, "").body(r#"{"error":"invalid_client","error_description":"Client authentication failed"}"#)
        })?;
        let active = self.given.iter().filter(|given| given.client_id == id && given.expires > now).count();
        if active >= ACTIVE_TOKENS {
            return Err(
                Refusal::new(403, "").body(r#"{"error":"access_denied","error_description":"Access Token limit reached"}"#)
            );
        }
        let token = format!("eyJhbGciOi.standin-token-{id}-{}", self.given.len());
        self.given.push(Given { token: token.clone(), client_id: id, expires: now + self.lifetime });
        Ok((token, self.lifetime.as_secs()))
    }
}

/// RFC 7617.
fn basic(id: &str, secret: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}
