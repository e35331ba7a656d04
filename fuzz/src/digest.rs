//! Challenges of HTTP digest authentication, as far as diqwest answers them for this operator.

use digest_auth::{AlgorithmType, HttpMethod, Qop};
use diqwest::DigestAuthCredentials;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use crate::{Outcome, oracle::assert_keeps_secret_beside};

const PRIVATE_KEY: &str = "Qx7Lr2Vn9Ts4Wm8Zk3Hp6Jd5Bf1Gc0Yq";
const TARGET: &str = "/api/atlas/v2/groups/5efda6aea3f2ed2e7dd6ce05/databaseUsers/orders/certs";

/// The value of a `WWW-Authenticate` header.
pub fn digest_challenge(data: &[u8]) -> Outcome {
    let Ok(challenge) = HeaderValue::from_bytes(data) else { return Outcome::Unread };
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge)]);
    let login = ("orderskey", PRIVATE_KEY);
    let body = Some(&b"{\"monthsUntilExpiration\":3}"[..]);
    let answer = login.calculate_authorization("cloud.mongodb.com", TARGET, HttpMethod::POST, body, &headers);
    let Ok(answer) = answer else { return Outcome::Read };
    assert_eq!(answer.uri, TARGET);
    let digits = match answer.algorithm.algo {
        AlgorithmType::MD5 => 32,
        AlgorithmType::SHA2_256 | AlgorithmType::SHA2_512_256 => 64,
    };
    assert!(answer.response.len() == digits && answer.response.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let text = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Any character may be escaped within quotes.
    let offered = text.replace('\\', "");
    match answer.qop {
        Some(Qop::AUTH_INT) => assert!(offered.contains("auth-int"), "auth-int was not offered"),
        Some(Qop::AUTH) => assert!(offered.contains("auth"), "auth was not offered"),
        None => {}
    }
    let header = answer.to_header_string();
    assert_keeps_secret_beside(&header, PRIVATE_KEY.as_bytes(), &offered);
    // Without qop it is the answer of RFC 2069, which knows MD5 alone.
    let is_named = header.contains("algorithm=") || answer.qop.is_none();
    assert!(is_named, "a server that wants SHA-256 would take it for MD5: {header}");
    // What is no value of a header is refused before anything is sent.
    let _ = header.parse::<HeaderValue>();
    Outcome::Read
}
