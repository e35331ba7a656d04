//! What each error of the API means: a reason, what to change, when to try again, and whether a certificate may exist.

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode,
    header::{HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use super::{Words, limits::PAUSE_AFTER_REFUSAL, resources::ANOTHER_USER};
use crate::{
    IssueError, Minted, Retry,
    api::{Reason, printable},
    atlas_request::AtlasOutcome,
};

/// The longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// The most characters of a text of the other side that go into a message.
const DETAIL_CHARACTERS: usize = 200;

/// The codes for a database user that does not exist.
const UNKNOWN_USER: [&str; 2] = ["USERNAME_NOT_FOUND", "USER_NOT_FOUND"];

/// The error envelope of the API. Atlas promises only `error` and `errorCode`, and gateways send neither.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Envelope {
    error_code: Option<String>,
    detail: Option<String>,
}

/// An answer that is not a success.
pub(super) struct Refusal<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// Whether the request could mint: a POST with credentials.
    pub(super) may_have_minted: bool,
    pub(super) username: &'a str,
    pub(super) project_id: &'a str,
    /// What a person checks when the credentials are refused.
    pub(super) advice: String,
    pub(super) words: Words,
    pub(super) now: Timestamp,
}

impl Refusal<'_> {
    /// Decides by the status first, because a code may come with several statuses; then by the code. Never by the text.
    pub(super) fn classify(&self) -> IssueError {
        let envelope: Envelope = serde_json::from_slice(self.body).unwrap_or_default();
        let code = self.code(&envelope);
        let (reason, advice) = self.meaning(&code);
        let minted = if self.may_have_minted && self.status.is_server_error() { Minted::Possibly } else { Minted::No };
        IssueError { reason, message: self.message(&code, &envelope, &advice), retry: self.retry(reason), minted }
    }

    /// Whether credentials that lack only the role for this request would be answered like this.
    pub(super) fn may_be_missing_role(&self) -> bool {
        let envelope: Envelope = serde_json::from_slice(self.body).unwrap_or_default();
        match self.status.as_u16() {
            401 => true,
            403 => forbidden(&self.code(&envelope)).0 == Reason::AtlasForbidden,
            _ => false,
        }
    }

    /// Whether Atlas says that there is no such database user.
    pub(super) fn is_unknown_user(&self) -> bool {
        let envelope: Envelope = serde_json::from_slice(self.body).unwrap_or_default();
        self.status == StatusCode::NOT_FOUND && UNKNOWN_USER.contains(&self.code(&envelope).as_str())
    }

    fn code(&self, envelope: &Envelope) -> String {
        let header = self.headers.get("X-Error-Code").and_then(|value| value.to_str().ok());
        let code = envelope.error_code.as_deref().filter(|code| !code.is_empty()).or(header).unwrap_or_default();
        code.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '_').take(80).collect()
    }

    fn meaning(&self, code: &str) -> (Reason, String) {
        match self.status.as_u16() {
            300..=399 => (Reason::AtlasRequestRefused, self.redirected()),
            400 => self.bad_request(code),
            401 if self.is_bare() => (
                Reason::AtlasUnauthorized,
                format!(
                    "the endpoint offers no way to log in (no WWW-Authenticate): check the issuer's endpoint, then {}",
                    self.advice
                ),
            ),
            401 => (Reason::AtlasUnauthorized, self.advice.clone()),
            402 => (Reason::AtlasAccountSuspended, "settle the organisation's account with MongoDB".to_owned()),
            403 => forbidden(code),
            404 => self.not_found(code),
            405 if code == "WRITES_NOT_ALLOWED_DURING_APP_UPGRADES" => {
                (Reason::AtlasUnavailable, "Atlas is being upgraded; the request is repeated later".to_owned())
            }
            409 => (Reason::AtlasConflict, "the request is repeated later".to_owned()),
            429 => (Reason::AtlasRateLimited, "the request is repeated when Atlas allows it".to_owned()),
            408 => (Reason::AtlasUnavailable, "the request is repeated later".to_owned()),
            500..=599 if !self.may_have_minted => {
                (Reason::AtlasUnavailable, "no certificate was asked for yet; the request is repeated later".to_owned())
            }
            // Every 5xx, 503 too: the certificate may have been made, so a changed spec must not shorten the wait.
            500..=599 => {
                (Reason::AtlasAnswerLost, "the request may have made a certificate; it is repeated after a while".to_owned())
            }
            _ => (Reason::AtlasRequestRefused, "check the issuer's endpoint and API version".to_owned()),
        }
    }

    /// Whether the code has a meaning of its own here. Any other code may be any text of the other side.
    fn is_known(&self, code: &str) -> bool {
        self.meaning(code) != self.meaning("")
    }

    fn bad_request(&self, code: &str) -> (Reason, String) {
        let user = self.username;
        match code {
            "USER_NOT_MANAGED_X509" => (
                Reason::AtlasUserNotManaged,
                format!("the database user {user:?} is not of the X.509 type MANAGED: {ANOTHER_USER}"),
            ),
            "ATLAS_GENERATED_CERTS_LIMIT_EXCEEDED" => (
                Reason::AtlasCertificateLimit,
                format!("wait until one of the certificates of the database user {user:?} expires, or use a new user"),
            ),
            "CANNOT_GENERATE_CERT_IF_ADVANCED_X509" => {
                (Reason::AtlasSelfManagedX509, "use a CA issuer with the CA that the project trusts".to_owned())
            }
            "CERT_EXPIRY_CANNOT_EXCEED_TWO_YEARS" => {
                (Reason::AtlasRequestRefused, "set monthsUntilExpiration to 24 or less".to_owned())
            }
            "ATLAS_MANAGED_X509_NAME_INVALID" | "ATLAS_INVALID_USERNAME" => {
                (Reason::AtlasRequestRefused, format!("change spec.username: Atlas does not take {user:?} for an X.509 user"))
            }
            "INVALID_VERSION_DATE" => (Reason::AtlasRequestRefused, "set the issuer's apiVersion to v2 or v1.0".to_owned()),
            _ => (Reason::AtlasRequestRefused, "change the spec of the certificate or of its issuer".to_owned()),
        }
    }

    /// Whether this is a 401 before any credentials were sent, without a challenge that could be answered.
    fn is_bare(&self) -> bool {
        !self.may_have_minted && !self.headers.contains_key(WWW_AUTHENTICATE)
    }

    fn not_found(&self, code: &str) -> (Reason, String) {
        let (user, project) = (self.username, self.project_id);
        match code {
            code if UNKNOWN_USER.contains(&code) => (
                Reason::AtlasUserNotFound,
                format!(
                    "create the database user {user:?} with X.509 type MANAGED in the project {project}, or correct spec.username"
                ),
            ),
            "GROUP_NOT_FOUND" => (
                Reason::AtlasProjectNotFound,
                format!("correct the issuer's projectId: there is no project {project} for this API key"),
            ),
            _ => (
                Reason::AtlasUserNotFound,
                format!("check the database user {user:?}, the issuer's projectId {project} and its endpoint"),
            ),
        }
    }

    fn redirected(&self) -> String {
        let to = self.headers.get(LOCATION).and_then(|value| value.to_str().ok()).and_then(|to| url::Url::parse(to).ok());
        match to.as_ref().and_then(url::Url::host_str) {
            Some(host) if self.words == Words::Quoted => {
                format!("redirects are not followed: set the issuer's endpoint to where {} is, if that is right", quoted(host))
            }
            _ => "redirects are not followed: correct the issuer's endpoint".to_owned(),
        }
    }

    fn retry(&self, reason: Reason) -> Retry {
        let asked = retry_after(self.headers, self.now);
        match reason {
            // Exactly at that time, because the queue of the project goes on at that time too.
            Reason::AtlasRateLimited => {
                let wait = asked.or_else(|| PAUSE_AFTER_REFUSAL.try_into().ok()).unwrap_or_default();
                Retry::At(self.now.saturating_add(wait).unwrap_or(self.now))
            }
            Reason::AtlasUnavailable | Reason::AtlasAnswerLost => asked.map_or(Retry::Backoff, Retry::NotBefore),
            // Users and projects are often created at the same moment as the certificate.
            Reason::AtlasConflict | Reason::AtlasUserNotFound | Reason::AtlasProjectNotFound => Retry::Backoff,
            _ => Retry::Slowly,
        }
    }

    fn message(&self, code: &str, envelope: &Envelope, advice: &str) -> String {
        let mut message = format!("Atlas answered {}", self.status.as_u16());
        if !code.is_empty() && (self.words == Words::Quoted || self.is_known(code)) {
            message.push(' ');
            message.push_str(code);
        }
        message.push_str(": ");
        message.push_str(advice);
        message.push_str(&self.words.bracketed("Atlas says: ", &quoted(envelope.detail.as_deref().unwrap_or_default())));
        message
    }
}

fn forbidden(code: &str) -> (Reason, String) {
    match code {
        // Each of the two refusals has an older and a newer spelling.
        "IP_ADDRESS_NOT_ON_ACCESS_LIST" | "IP_ADDRESS_NOT_ON_WHITELIST" => (
            Reason::AtlasAccessListDenied,
            "add this operator's egress address to the access list of the API key, which is not the project's".to_owned(),
        ),
        "ORG_REQUIRES_ACCESS_LIST" | "ORG_REQUIRES_WHITELIST" => (
            Reason::AtlasAccessListDenied,
            "the organisation wants an access list on the API key: add this operator's egress address to it".to_owned(),
        ),
        _ => (Reason::AtlasForbidden, "give the API key the role Project Owner on the project".to_owned()),
    }
}

/// The `Retry-After` header: seconds or an HTTP date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let asked = if is_number {
        // A number that does not fit the type is bounded like any other that is too large.
        value.parse().map_or(LONGEST_RETRY_AFTER, |seconds: u32| SignedDuration::from_secs(i64::from(seconds)))
    } else {
        rfc2822::parse(value).ok()?.timestamp().duration_since(now)
    };
    Some(asked.clamp(SignedDuration::from_secs(1), LONGEST_RETRY_AFTER))
}

/// A text of the other side, made safe to show.
fn quoted(text: &str) -> String {
    printable(text, DETAIL_CHARACTERS)
}

/// A request without an answer.
pub(super) enum Unanswered {
    /// The request could not be built, or was not allowed to be sent.
    NotMade,
    /// There was no connection.
    NotConnected(String),
    /// It was sent, at least in part.
    Lost(String),
    /// A 401 whose challenge cannot be answered.
    NoChallenge,
    /// It mints, and was not sent because it might not have ended in time.
    TooLate,
}

impl Unanswered {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            Self::NotMade
        } else if error.is_connect() {
            Self::NotConnected(cause(error))
        } else {
            Self::Lost(cause(error))
        }
    }

    pub(super) fn of_digest(error: &diqwest::error::Error) -> Self {
        use diqwest::error::Error;
        match error {
            Error::Reqwest(error) => Self::of(error),
            Error::AuthHeaderMissing | Error::DigestAuth(_) | Error::ToStr(_) => Self::NoChallenge,
            Error::InvalidHeaderValue(_) | Error::RequestBuilderNotCloneable | Error::LockPoisoned | Error::MissingHost => {
                Self::NotMade
            }
        }
    }

    /// What metrics tell of it. `None`: nothing was sent, or a part that was answered and asks for nothing.
    pub(super) fn outcome(&self) -> Option<AtlasOutcome> {
        match self {
            Self::NotConnected(cause) | Self::Lost(cause) if cause == TIME_OUT => Some(AtlasOutcome::TimedOut),
            Self::NotConnected(_) => Some(AtlasOutcome::NotConnected),
            Self::Lost(_) => Some(AtlasOutcome::Lost),
            Self::NoChallenge => Some(AtlasOutcome::Answered(401)),
            Self::NotMade | Self::TooLate => None,
        }
    }

    /// The error that this means. If words are withheld, a closed port and a port that stays silent give the same message.
    pub(super) fn classify(self, may_have_minted: bool, words: Words) -> IssueError {
        let (reason, message, retry) = match self {
            Self::NotMade => (
                Reason::AtlasRequestRefused,
                "the request to Atlas could not be made: check the credentials Secret and the issuer's endpoint".to_owned(),
                Retry::Slowly,
            ),
            Self::NoChallenge => (
                Reason::AtlasUnauthorized,
                "the endpoint answered 401 without a digest challenge that can be answered: check the issuer's endpoint"
                    .to_owned(),
                Retry::Slowly,
            ),
            Self::TooLate => (
                Reason::AtlasUnavailable,
                "Atlas answered so slowly that no time was left for the request for a certificate; none was asked for"
                    .to_owned(),
                Retry::Backoff,
            ),
            Self::Lost(cause) if may_have_minted => {
                let cause = words.bracketed("", &cause);
                let message = format!("the answer of Atlas was lost{cause}; a certificate may have been made");
                return IssueError {
                    reason: Reason::AtlasAnswerLost,
                    message,
                    retry: Retry::Backoff,
                    minted: Minted::Possibly,
                };
            }
            Self::NotConnected(_) | Self::Lost(_) if words == Words::Withheld => (
                Reason::AtlasUnavailable,
                "the issuer's endpoint did not answer; no certificate was asked for yet".to_owned(),
                Retry::Backoff,
            ),
            Self::NotConnected(cause) => {
                (Reason::AtlasUnavailable, format!("Atlas could not be reached: {cause}"), Retry::Backoff)
            }
            Self::Lost(cause) => (
                Reason::AtlasUnavailable,
                format!("Atlas did not answer ({cause}); no certificate was asked for yet"),
                Retry::Backoff,
            ),
        };
        IssueError { reason, message, retry, minted: Minted::No }
    }
}

/// What is said of a request that took too long.
const TIME_OUT: &str = "time-out";

/// The innermost cause, because the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return TIME_OUT.to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    quoted(&cause.to_string())
}
