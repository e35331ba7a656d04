//! What the API says about users and their certificates. Nothing in it is taken on trust: an answer that is not as expected is an
//! error, never an empty list.

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

use crate::{IssueError, Minted, Retry, api::Reason, certificate::SerialNumber, decide::ListedCertificate};

/// Atlas dates a certificate one hour before the request that made it.
const BACKDATING: SignedDuration = SignedDuration::from_hours(1);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default)]
    x509_type: Option<String>,
}

#[derive(Deserialize)]
struct List {
    results: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(rename = "_id")]
    id: Id,
    created_at: Timestamp,
    not_after: Timestamp,
}

/// The id of a listed certificate, which is its serial number. The schema says that it is text; real answers have a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Unsigned(u64),
    Text(String),
}

impl Id {
    fn serial_number(&self) -> Option<SerialNumber> {
        let number = match self {
            Self::Number(number) => number.cast_unsigned(),
            Self::Unsigned(number) => *number,
            Self::Text(text) => text.parse().ok()?,
        };
        let text = format!("{number:X}");
        Some(if text.len() % 2 == 0 { text } else { format!("0{text}") }.into())
    }
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
                    "the database user {username:?} has the X.509 type {found}, for which Atlas makes no certificates: it cannot be changed, so create a user with X.509 type MANAGED under another name, or delete and create this one"
                ),
                retry: Retry::Slowly,
                minted: Minted::No,
            })
        }
    }
}

/// Reads one page of the list.
pub(super) fn read_page(body: &[u8]) -> Result<Vec<ListedCertificate>, IssueError> {
    let list: List = serde_json::from_slice(body).map_err(|_| unreadable("list of certificates"))?;
    list.results
        .into_iter()
        .map(|item| {
            Ok(ListedCertificate {
                serial_number: item.id.serial_number().ok_or_else(|| unreadable("list of certificates"))?,
                made_at: item.created_at.saturating_add(BACKDATING).unwrap_or(item.created_at),
                not_after: item.not_after,
            })
        })
        .collect()
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

    #[test]
    fn a_recorded_list_is_read_and_its_ids_are_serial_numbers() {
        let body = br#"{"links":[],"results":[{"_id":1976722359483124370,"createdAt":"2026-08-10T02:06:35Z","groupId":"5efda6aea3f2ed2e7dd6ce05","notAfter":"2026-11-10T03:06:35Z","subject":"CN=user389"}],"totalCount":1}"#;
        let expected = ListedCertificate {
            serial_number: "1B6EBA8348904A92".into(),
            made_at: "2026-08-10T03:06:35Z".parse().unwrap(),
            not_after: "2026-11-10T03:06:35Z".parse().unwrap(),
        };
        assert_eq!(read_page(body).unwrap(), [expected]);
    }

    #[rstest]
    #[case("")]
    #[case("<html>")]
    #[case("{}")]
    #[case(r#"{"results":[{}]}"#)]
    #[case(r#"{"results":[{"_id":"5efda6aea3f2ed2e7dd6ce05","createdAt":"2026-08-10T02:06:35Z","notAfter":"2026-11-10T03:06:35Z"}]}"#)]
    #[case(r#"{"results":[{"_id":1,"createdAt":"yesterday","notAfter":"2026-11-10T03:06:35Z"}]}"#)]
    fn a_list_that_cannot_be_trusted_is_no_empty_list(#[case] body: &str) {
        let error = read_page(body.as_bytes()).unwrap_err();
        assert_eq!((error.reason, error.minted), (Reason::AtlasUnavailable, Minted::No));
    }

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
