//! Answers of the Atlas Administration API, and the objects of the Atlas Kubernetes Operator.

use std::{sync::LazyLock, time::Duration};

use jiff::SignedDuration;
use kube::api::DynamicObject;
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use usercert_operator::{
    api::NamespacedName,
    controller::{UserProject, read_project, read_user},
    issuer::{
        IssueError, Minted, Retry,
        atlas::{Answer, AtlasApiVersion, AtlasClient, AtlasCredentials, AtlasIssuer, AtlasSettings, Words},
    },
};
use zeroize::Zeroizing;

use crate::{
    Outcome,
    ca::mint_request,
    certificate::assert_is_pair,
    now,
    oracle::{assert_keeps_secret, assert_readable},
};

/// The longest time that an answer can make anybody wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

static ISSUER: LazyLock<AtlasIssuer> = LazyLock::new(|| issuer(client(), "https://cloud.mongodb.com", API_KEY));

/// Credentials as a Secret has them.
pub type Credentials<'a> = [(&'static str, &'a [u8]); 2];

/// For HTTP digest authentication.
pub const API_KEY: Credentials<'static> =
    [("publicApiKey", b"orderskey"), ("privateApiKey", b"Qx7Lr2Vn9Ts4Wm8Zk3Hp6Jd5Bf1Gc0Yq")];

/// A client that does not wait for long.
pub fn client() -> AtlasClient {
    AtlasClient::new(Duration::from_secs(5), None).expect("an HTTP client")
}

/// An issuer with these credentials.
pub fn issuer(client: AtlasClient, endpoint: &str, credentials: Credentials<'_>) -> AtlasIssuer {
    let settings = AtlasSettings {
        endpoint: endpoint.parse().expect("a URL"),
        project_id: "5efda6aea3f2ed2e7dd6ce05".to_owned(),
        credentials_uid: "uid-1".to_owned(),
        api_version: AtlasApiVersion::V2,
        allow_plain_http: false,
        words: Words::Quoted,
    };
    let entry = |key: &str| credentials.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    AtlasIssuer::new(client, settings, AtlasCredentials::from_secret(entry).expect("credentials"))
}

/// An answer to any of the three requests: a line with the status, lines with headers, an empty line, the body.
pub fn atlas_answer(data: &[u8]) -> Outcome {
    let Some(answer) = read_answer(data, true) else { return Outcome::Unread };
    let body = answer.body.as_ref().map(|body| body.to_vec()).unwrap_or_default();
    let questions = [ISSUER.read_user(&answer, "orders", now()).err(), ISSUER.read_page(&answer, "orders", now()).err()];
    for error in questions.into_iter().flatten() {
        assert_eq!(error.minted, Minted::No, "a question mints nothing: {error:?}");
        assert_is_fit_for_status(&error);
    }
    let success = answer.status.is_success();
    match ISSUER.read_certificate(answer, &mint_request()) {
        Ok(issued) => assert_is_pair(&issued.pair, &body),
        Err(error) => {
            assert_is_fit_for_status(&error);
            if success {
                assert_eq!(error.minted, Minted::Possibly, "a success minted: {error:?}");
                if !error.message.contains("the certificate is for") {
                    assert_keeps_secret(&format!("{error} {error:?}"), &body);
                }
            }
        }
    }
    Outcome::Read
}

/// What holds of every error: it becomes a condition, and a time to wait.
pub fn assert_is_fit_for_status(error: &IssueError) {
    assert_readable(&error.message);
    match error.retry {
        Retry::NotBefore(wait) => assert!(wait.is_positive() && wait <= LONGEST_WAIT, "{error:?}"),
        Retry::At(time) => assert!(time.duration_since(now()) <= LONGEST_WAIT, "{error:?}"),
        Retry::Backoff | Retry::Slowly => {}
    }
}

fn read_answer(data: &[u8], authenticated: bool) -> Option<Answer> {
    let (status, mut rest) = line(data);
    let status = StatusCode::from_bytes(status).ok()?;
    let mut headers = HeaderMap::new();
    loop {
        let (header, after) = line(rest);
        rest = after;
        if header.is_empty() {
            break;
        }
        let colon = header.iter().position(|byte| *byte == b':').unwrap_or(header.len());
        let (name, value) = header.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    Some(Answer { status, headers, body: Ok(Zeroizing::new(rest.to_vec())), authenticated })
}

fn line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (text[..at].trim_ascii_end(), &text[at + 1..]),
        None => (text, &[]),
    }
}

/// An `AtlasProject` or an `AtlasDatabaseUser` as JSON.
pub fn atlas_object(data: &[u8]) -> Outcome {
    let Ok(object) = serde_json::from_slice::<DynamicObject>(data) else { return Outcome::Unread };
    // Of a path, and the value of a selector.
    let is_path_segment = |NamespacedName { name, .. }: &NamespacedName| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            && !name.contains("..")
    };
    let is_id = |id: &str| id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match read_project(&object) {
        Ok(project) => {
            assert!(is_id(&project.id), "{project:?}");
            assert!(project.credentials.iter().all(|location| is_path_segment(location)), "{project:?}");
        }
        Err(refusal) => assert!(!refusal.message.is_empty()),
    }
    match read_user(&object) {
        Ok(user) => {
            assert!((1..=1024).contains(&user.username.chars().count()) && !user.username.chars().any(char::is_control));
            match &user.project {
                UserProject::Id(id) => assert!(is_id(id), "{user:?}"),
                UserProject::Object(project) => assert!(is_path_segment(project), "{user:?}"),
            }
            assert!(user.credentials.iter().all(|location| is_path_segment(location)), "{user:?}");
        }
        Err(refusal) => assert!(!refusal.message.is_empty()),
    }
    Outcome::Read
}
