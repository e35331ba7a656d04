//! What the API says about users. Nothing in it is taken on trust: an answer that is not as expected is an error.

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

use crate::{IssueError, Minted, Retry, api::Reason};

/// What to do about a database user of another X.509 type than MANAGED. Atlas answers `AUTH_TYPE_CANNOT_BE_CHANGED` to whoever would change it.
pub(super) const ANOTHER_USER: &str = "make a database user with another name and the X.509 type MANAGED. The type of a user cannot be changed in Atlas, and deleting the user locks out whoever logs in as it now";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default)]
    x509_type: Option<String>,
}

/// Whether the media type of an answer is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.starts_with("application/") && media_type.ends_with("+json")
}

/// Checks that Atlas makes certificates for this user.
pub(super) fn check_user(body: &[u8], username: &str) -> Result<(), IssueError> {
    let user: User = serde_json::from_slice(body).map_err(|_| unreadable("database user"))?;
    match user.x509_type.as_deref() {
        Some("MANAGED") => Ok(()),
        other => {
            let found = match other {
                Some("CUSTOMER") => "CUSTOMER (for certificates of an own CA)",
                _ => "NONE",
            };
            Err(IssueError {
                reason: Reason::AtlasUserNotManaged,
                message: format!(
                    "the database user {username:?} has the X.509 type {found}, for which Atlas makes no certificates: {ANOTHER_USER}"
                ),
                retry: Retry::Slowly,
                minted: Minted::No,
            })
        }
    }
}

/// The error for an answer that cannot be read. It answers a read request, so nothing was made.
pub(super) fn unreadable(what: &str) -> IssueError {
    IssueError {
        reason: Reason::AtlasUnavailable,
        message: format!("the answer to the request for the {what} is not what Atlas answers: check the issuer's endpoint"),
        retry: Retry::Backoff,
        minted: Minted::No,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"x509Type":"MANAGED"}"#, None)]
    #[case(r#"{"x509Type":"CUSTOMER"}"#, Some(Reason::AtlasUserNotManaged))]
    #[case(r#"{"x509Type":"NONE"}"#, Some(Reason::AtlasUserNotManaged))]
    #[case(r#"{"username":"orders"}"#, Some(Reason::AtlasUserNotManaged))]
    #[case("<html>", Some(Reason::AtlasUnavailable))]
    fn only_a_managed_user_gets_certificates(#[case] body: &str, #[case] reason: Option<Reason>) {
        assert_eq!(check_user(body.as_bytes(), "orders").err().map(|error| error.reason), reason);
    }

    #[rstest]
    #[case("application/json", true)]
    #[case("Application/JSON; charset=utf-8", true)]
    #[case("application/vnd.atlas.2023-01-01+json;charset=utf-8", true)]
    #[case("text/html", false)]
    #[case("text/plain+json", false)]
    #[case("", false)]
    fn media_types(#[case] value: &'static str, #[case] expected: bool) {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
        assert_eq!(is_json(&headers), expected);
    }
}
