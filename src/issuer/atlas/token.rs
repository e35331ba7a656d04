//! OAuth 2.0 tokens of service accounts (RFC 6749 section 4.4). All issuers with the same account and endpoint share one token.
//!
//! A token lives for an hour, and an account may have a hundred at once. The token endpoint allows few requests a minute. So one
//! caller refreshes the token when two thirds of its life have passed, the others use the old one meanwhile, and a refusal is
//! remembered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use reqwest::{
    StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    AtlasSettings, ServiceAccount, body,
    errors::{Unanswered, retry_after},
    observed::{Observer, outcome},
    resources::is_json,
};
use crate::{IssueError, Minted, Retry, api::Reason, atlas_request::AtlasOperation};

/// How long a refusal of the token endpoint is remembered. Nobody asks for a token before, unless the refusal names another time.
const REMEMBERED_REFUSAL: Duration = Duration::from_mins(1);

/// The longest life of a token that is believed. A token that Atlas refuses is dropped in any case.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

const BODY_LIMIT: usize = 16 * 1024;

/// A token, and whether it was made while this caller waited.
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) is_new: bool,
}

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<AccountKey, Arc<Slot>>>);

/// The key of an account. It covers the secret too, so whoever does not know the secret gets no token of somebody who does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AccountKey {
    endpoint: String,
    account: [u8; 32],
}

impl AccountKey {
    fn new(settings: &AtlasSettings, account: &ServiceAccount) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&account.client_id, &account.client_secret] {
            context.update(part.expose_secret().as_bytes());
            context.update(&[0]);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self { endpoint: settings.endpoint.as_str().to_owned(), account: digest }
    }
}

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    /// Held by the caller that asks for a token.
    refresh: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Held>,
    refusal: Option<(Instant, IssueError)>,
}

#[derive(Debug)]
struct Held {
    value: SecretString,
    refresh_at: Instant,
    expires_at: Instant,
}

/// What a caller that needs a token does.
enum TokenState {
    Use(SecretString),
    /// Ask for a token. The old one serves meanwhile, if there is one.
    Refresh(Option<SecretString>),
    Failed(IssueError),
}

impl State {
    fn find(&self, now: Instant) -> TokenState {
        let valid = self.token.as_ref().filter(|token| now < token.expires_at);
        match (valid, &self.refusal) {
            (Some(token), _) if now < token.refresh_at => TokenState::Use(token.value.clone()),
            (Some(token), Some((until, _))) if now < *until => TokenState::Use(token.value.clone()),
            (None, Some((until, error))) if now < *until => TokenState::Failed(error.clone()),
            (token, _) => TokenState::Refresh(token.map(|token| token.value.clone())),
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_of_use(&self, now: Instant) -> bool {
        let state = self.lock();
        state.token.as_ref().is_some_and(|token| now < token.expires_at)
            || state.refusal.as_ref().is_some_and(|(until, _)| now < *until)
    }
}

impl Tokens {
    fn slot(&self, key: AccountKey) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        slots.retain(|known, slot| *known == key || Arc::strong_count(slot) > 1 || slot.is_of_use(now));
        Arc::clone(slots.entry(key).or_default())
    }

    /// A token that is valid as far as this process knows.
    pub(super) async fn get(
        &self,
        http: &reqwest::Client,
        observer: &Observer,
        settings: &AtlasSettings,
        account: &ServiceAccount,
        now: Timestamp,
    ) -> Result<Token, IssueError> {
        let slot = self.slot(AccountKey::new(settings, account));
        let found = slot.lock().find(Instant::now());
        let refresh = match found {
            TokenState::Use(value) => return Ok(Token { value, is_new: false }),
            TokenState::Failed(error) => return Err(error),
            TokenState::Refresh(Some(old)) => match slot.refresh.try_lock() {
                Ok(refresh) => refresh,
                Err(_) => return Ok(Token { value: old, is_new: false }),
            },
            TokenState::Refresh(None) => slot.refresh.lock().await,
        };
        // Another caller may have asked for a token while this one waited.
        let found = slot.lock().find(Instant::now());
        let old = match found {
            TokenState::Use(value) => return Ok(Token { value, is_new: true }),
            TokenState::Failed(error) => return Err(error),
            TokenState::Refresh(old) => old,
        };
        let answer = ask(http, observer, settings, account, now).await;
        drop(refresh);
        let mut state = slot.lock();
        match answer {
            Ok(held) => {
                let value = held.value.clone();
                *state = State { token: Some(held), refusal: None };
                Ok(Token { value, is_new: true })
            }
            Err(error) => {
                let wait = match error.retry {
                    Retry::NotBefore(asked) => Duration::try_from(asked).unwrap_or(REMEMBERED_REFUSAL),
                    _ => REMEMBERED_REFUSAL,
                };
                state.refusal = Some((Instant::now() + wait, error.clone()));
                old.map(|value| Token { value, is_new: false }).ok_or(error)
            }
        }
    }

    /// Drops a token that Atlas refuses.
    pub(super) fn drop_token(&self, settings: &AtlasSettings, account: &ServiceAccount, token: &Token) {
        let slot = self.slot(AccountKey::new(settings, account));
        let mut state = slot.lock();
        if state.token.as_ref().is_some_and(|held| held.value.expose_secret() == token.value.expose_secret()) {
            state.token = None;
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    expires_in: u64,
    token_type: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRefusal {
    error: String,
}

async fn ask(
    http: &reqwest::Client,
    observer: &Observer,
    settings: &AtlasSettings,
    account: &ServiceAccount,
    now: Timestamp,
) -> Result<Held, IssueError> {
    let asked_at = Instant::now();
    let request = http
        .post(settings.token_url()?)
        .basic_auth(account.client_id.expose_secret(), Some(account.client_secret.expose_secret()))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials");
    let exchange = Box::pin(async { request.send().await.map_err(|error| Unanswered::of(&error)) });
    let response = observer.tell(AtlasOperation::GetToken, exchange, outcome).await;
    let response = response.map_err(|error| error.classify(false, settings.words))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = body::read(response, BODY_LIMIT).await;
    if status != StatusCode::OK {
        return Err(refused(status, &headers, &body.unwrap_or_default(), now));
    }
    let unreadable = || {
        failed(Reason::AtlasUnavailable, "the token endpoint's answer is no token: check the issuer's endpoint", Retry::Backoff)
    };
    let body = body.map_err(|_| unreadable())?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let is_header_text = answer.access_token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic());
    if !is_json(&headers) || !answer.token_type.eq_ignore_ascii_case("bearer") || !is_header_text {
        return Err(unreadable());
    }
    let life = Duration::from_secs(answer.expires_in).min(LONGEST_LIFE);
    Ok(Held { value: answer.access_token, refresh_at: asked_at + life * 2 / 3, expires_at: asked_at + life })
}

/// The meaning of a refusal of the token endpoint (RFC 6749 section 5.2).
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> IssueError {
    let code = serde_json::from_slice::<TokenRefusal>(body).unwrap_or_default().error;
    let asked = retry_after(headers, now);
    match (status.as_u16(), code.as_str()) {
        (401, _) | (400, "invalid_client") => failed(
            Reason::AtlasClientSecretRefused,
            "the token endpoint refuses the service account: its client secret has expired or does not belong to its client id; make a new secret and put both into the credentials Secret",
            Retry::Slowly,
        ),
        (403, "access_denied") => failed(
            Reason::AtlasRateLimited,
            "the token endpoint gives no more tokens to this service account until some of its tokens expire: look for other programs that use it",
            Retry::NotBefore(asked.unwrap_or(SignedDuration::from_mins(10))),
        ),
        (429, _) => failed(
            Reason::AtlasRateLimited,
            "the token endpoint was asked too often from this address; it is asked again when it allows it",
            Retry::NotBefore(asked.unwrap_or(SignedDuration::from_mins(1))),
        ),
        (403, _) => failed(
            Reason::AtlasForbidden,
            "the token endpoint refuses the service account: check it in the organisation's settings",
            Retry::Slowly,
        ),
        (500.., _) => failed(
            Reason::AtlasUnavailable,
            &format!("the token endpoint answered {}; it is asked again later", status.as_u16()),
            asked.map_or(Retry::Backoff, Retry::NotBefore),
        ),
        _ => failed(
            Reason::AtlasRequestRefused,
            &format!("the token endpoint answered {}: check the issuer's endpoint", status.as_u16()),
            Retry::Slowly,
        ),
    }
}

fn failed(reason: Reason, message: &str, retry: Retry) -> IssueError {
    IssueError { reason, message: message.to_owned(), retry, minted: Minted::No }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;

    use super::*;

    fn state(refresh_in: u64, expires_in: u64, refused_for: Option<u64>, now: Instant) -> State {
        let at = |seconds| now + Duration::from_secs(seconds);
        let token =
            (expires_in > 0).then(|| Held { value: "token".into(), refresh_at: at(refresh_in), expires_at: at(expires_in) });
        let refusal = refused_for.map(|wait| (at(wait), failed(Reason::AtlasRateLimited, "no", Retry::Backoff)));
        State { token, refusal }
    }

    #[rstest]
    #[case::fresh(10, 20, None, "use")]
    #[case::fresh_and_refused(10, 20, Some(5), "use")]
    #[case::due(0, 20, None, "refresh with the old one")]
    #[case::due_and_refused(0, 20, Some(5), "use")]
    #[case::due_and_refused_long_ago(0, 20, Some(0), "refresh with the old one")]
    #[case::none(0, 0, None, "refresh")]
    #[case::none_and_refused(0, 0, Some(5), "refused")]
    fn what_a_caller_does(#[case] refresh: u64, #[case] expires: u64, #[case] refused: Option<u64>, #[case] expected: &str) {
        let now = Instant::now();
        let found = match state(refresh, expires, refused, now).find(now) {
            TokenState::Use(_) => "use",
            TokenState::Refresh(Some(_)) => "refresh with the old one",
            TokenState::Refresh(None) => "refresh",
            TokenState::Failed(_) => "refused",
        };
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(401, r#"{"error":"invalid_client"}"#, Reason::AtlasClientSecretRefused)]
    #[case(400, r#"{"error":"invalid_client"}"#, Reason::AtlasClientSecretRefused)]
    #[case(403, r#"{"error":"access_denied","error_description":"Access Token limit reached"}"#, Reason::AtlasRateLimited)]
    #[case(403, "", Reason::AtlasForbidden)]
    #[case(429, r#"{"errorCode":"RATE_LIMITED"}"#, Reason::AtlasRateLimited)]
    #[case(503, "<html>", Reason::AtlasUnavailable)]
    #[case(404, "", Reason::AtlasRequestRefused)]
    fn refusals_of_the_token_endpoint_mint_nothing(#[case] status: u16, #[case] body: &str, #[case] reason: Reason) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = refused(status, &HeaderMap::new(), body.as_bytes(), Timestamp::UNIX_EPOCH);
        assert_eq!((error.reason, error.minted), (reason, Minted::No));
    }
}
