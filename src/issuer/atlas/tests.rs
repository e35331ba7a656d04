//! Statements about URLs, errors and credentials, without a server. The exchange itself is tested against the stand-in for Atlas.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod in_time;

use jiff::{SignedDuration, Timestamp};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
use rstest::rstest;

use super::{
    errors::{Refusal, Unanswered},
    *,
};
use crate::{Minted, Retry, api::Reason, certificate::Subject};

fn settings(endpoint: &str, api_version: AtlasApiVersion) -> AtlasSettings {
    AtlasSettings {
        endpoint: endpoint.parse().unwrap(),
        project_id: "5efda6aea3f2ed2e7dd6ce05".to_owned(),
        credentials_uid: "uid-1".to_owned(),
        api_version,
        allow_plain_http: false,
        words: Words::Quoted,
    }
}

#[rstest]
#[case("orders", "orders")]
#[case("rob.carlan", "rob.carlan")]
#[case("a/b", "a%2Fb")]
#[case("arn:aws:iam::1:role/x", "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx")]
#[case("50%25", "50%2525")]
#[case("a b+c", "a%20b%2Bc")]
#[case("müller", "m%C3%BCller")]
#[case("CN=orders", "CN%3Dorders")]
#[case("...", "...")]
#[case("a?b#c;d@e", "a%3Fb%23c%3Bd%40e")]
fn a_user_name_is_one_segment_encoded_once(#[case] username: &str, #[case] segment: &str) {
    let url = settings("https://cloud.mongodb.com", AtlasApiVersion::V2).certificates_url(username).unwrap();
    let expected =
        format!("https://cloud.mongodb.com/api/atlas/v2/groups/5efda6aea3f2ed2e7dd6ce05/databaseUsers/{segment}/certs");
    assert_eq!(url.as_str(), expected);
}

#[rstest]
#[case("https://cloud.mongodb.com/", ".")]
#[case("https://cloud.mongodb.com/", "..")]
#[case("http://cloud.mongodb.com/", "orders")]
#[case("http://10.0.0.1/", "orders")]
fn what_would_reach_another_place_is_refused(#[case] endpoint: &str, #[case] username: &str) {
    let error = settings(endpoint, AtlasApiVersion::V1).certificates_url(username).unwrap_err();
    assert_eq!((error.reason, error.minted), (Reason::InvalidSpec, Minted::No));
}

#[test]
fn plain_http_is_for_loopback() {
    for endpoint in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
        assert!(settings(endpoint, AtlasApiVersion::V1).certificates_url("orders").is_ok());
    }
}

fn classify(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> IssueError {
    classify_words(status, headers, body, Words::Quoted)
}

fn classify_words(status: u16, headers: &[(&'static str, &'static str)], body: &str, words: Words) -> IssueError {
    refused(status, headers, body, words).0
}

/// What the answer means, and whether it says that there is no such user.
fn refused(status: u16, headers: &[(&'static str, &'static str)], body: &str, words: Words) -> (IssueError, bool) {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
    let refusal = Refusal {
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers,
        body: body.as_bytes(),
        may_have_minted: true,
        advice: "check the key".to_owned(),
        username: "orders",
        project_id: "p",
        words,
        now: "2026-11-24T00:00:00Z".parse::<Timestamp>().unwrap(),
    };
    (refusal.classify(), refusal.is_unknown_user())
}

#[rstest]
#[case(404, &[], r#"{"error":404,"errorCode":"USERNAME_NOT_FOUND"}"#, true)]
#[case(404, &[("X-Error-Code", "USER_NOT_FOUND")], "", true)]
#[case::of_a_gateway(404, &[], "<html>", false)]
#[case(404, &[], "{}", false)]
#[case(404, &[], r#"{"error":404,"errorCode":"RESOURCE_NOT_FOUND"}"#, false)]
#[case(404, &[], r#"{"error":404,"errorCode":"GROUP_NOT_FOUND"}"#, false)]
#[case(410, &[], r#"{"error":404,"errorCode":"USERNAME_NOT_FOUND"}"#, false)]
fn a_user_has_no_certificates_only_if_atlas_itself_says_that_there_is_no_such_user(
    #[case] status: u16,
    #[case] headers: &[(&'static str, &'static str)],
    #[case] body: &str,
    #[case] expected: bool,
) {
    assert_eq!(refused(status, headers, body, Words::Quoted).1, expected);
}

#[test]
fn the_code_comes_from_the_body_or_else_from_the_header_and_html_leaves_the_status() {
    let body = r#"{"error":404,"errorCode":"GROUP_NOT_FOUND","parameters":null}"#;
    assert_eq!(classify(404, &[], body).reason, Reason::AtlasProjectNotFound);
    assert_eq!(classify(404, &[("X-Error-Code", "GROUP_NOT_FOUND")], "<html>").reason, Reason::AtlasProjectNotFound);
    assert_eq!(classify(401, &[], r#"{"errorCode":""}"#).reason, Reason::AtlasUnauthorized);
    assert_eq!(classify(403, &[], "").reason, Reason::AtlasForbidden);
    assert_eq!(classify(418, &[], "").reason, Reason::AtlasRequestRefused);
}

#[rstest]
#[case("17", Some(17))]
#[case("0", Some(1))]
#[case("99999999", Some(86_400))]
#[case("99999999999999999999", Some(86_400))]
#[case("Tue, 24 Nov 2026 00:01:40 GMT", Some(100))]
#[case("Mon, 23 Nov 2026 00:00:00 GMT", Some(1))]
#[case("soon", None)]
fn retry_after_is_seconds_or_a_date_and_bounded(#[case] value: &'static str, #[case] seconds: Option<i64>) {
    let expected = seconds.map_or(Retry::Backoff, |seconds| Retry::NotBefore(SignedDuration::from_secs(seconds)));
    // Without the header the queue of the project goes on after 30 seconds, and the object with it, however often that happens.
    let at = SignedDuration::from_secs(seconds.unwrap_or(30));
    let at = Retry::At("2026-11-24T00:00:00Z".parse::<Timestamp>().unwrap() + at);
    assert_eq!(classify(429, &[("Retry-After", value)], "").retry, at);
    assert_eq!(classify(503, &[("Retry-After", value)], "").retry, expected);
    assert_eq!(classify(403, &[("Retry-After", value)], "").retry, Retry::Slowly);
}

#[test]
fn only_an_error_of_the_server_may_hide_a_certificate() {
    for status in [301, 400, 401, 402, 403, 404, 405, 409, 418, 429] {
        assert_eq!(classify(status, &[], "").minted, Minted::No, "{status}");
    }
    for status in [500, 502, 503, 504] {
        assert_eq!(classify(status, &[], "").minted, Minted::Possibly, "{status}");
    }
}

#[test]
fn foreign_words_are_quoted_short_and_without_control_characters() {
    let detail = format!("IP 203.0.113.7 is not allowed\\u0000\\n{}", "x".repeat(500));
    let message =
        classify(403, &[], &format!(r#"{{"errorCode":"IP_ADDRESS_NOT_ON_ACCESS_LIST","detail":"{detail}"}}"#)).message;
    assert!(message.contains("IP 203.0.113.7 is not allowed") && message.len() < 500, "{message}");
    assert!(!message.chars().any(char::is_control));
}

#[rstest]
#[case(403, r#"{"errorCode":"IP_ADDRESS_NOT_ON_ACCESS_LIST","detail":"secret words"}"#, "403 IP_ADDRESS_NOT_ON_ACCESS_LIST: ")]
#[case(403, r#"{"errorCode":"secret_words","detail":"secret words"}"#, "403: ")]
#[case(500, r#"{"detail":"secret words"}"#, "500: ")]
#[case(301, "secret words", "301: redirects are not followed: correct the issuer's endpoint")]
#[case(418, "secret words", "418: ")]
fn of_an_endpoint_that_is_not_allowed_only_the_status_and_a_known_code_are_told(
    #[case] status: u16,
    #[case] body: &str,
    #[case] expected: &str,
) {
    let headers = [("Location", "https://secret.words/"), ("X-Error-Code", "secret_words")];
    let message = classify_words(status, &headers, body, Words::Withheld).message;
    assert!(message.starts_with(&format!("Atlas answered {expected}")) && !message.contains("secret"), "{message}");
}

#[test]
fn of_an_endpoint_that_is_not_allowed_nobody_learns_whether_and_how_it_listens() {
    let causes = || [Unanswered::NotConnected("refused".to_owned()), Unanswered::Lost("time-out".to_owned())];
    let told = |words| causes().map(|cause| cause.classify(false, words)).map(|error| (error.reason, error.message));
    let [closed, silent] = told(Words::Withheld);
    assert_eq!(closed, silent);
    assert_ne!(told(Words::Quoted)[0], told(Words::Quoted)[1]);
    for cause in causes() {
        let message = cause.classify(true, Words::Withheld).message;
        assert!(!message.contains("refused") && !message.contains("time-out"), "{message}");
    }
}

#[test]
fn a_redirect_to_a_host_of_any_length_makes_a_short_message() {
    let location: &'static str = format!("https://{}/", vec!["x".repeat(60); 150].join(".")).leak();
    let message = classify(301, &[("Location", location)], "").message;
    assert!(message.contains("to where xxx") && message.len() < 500, "{message}");
}

fn credentials(data: &[(&str, &str)]) -> Result<AtlasCredentials, CredentialsError> {
    let data: Vec<(String, Vec<u8>)> = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    AtlasCredentials::from_secret(|key| data.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice()))
}

#[test]
fn credentials_are_one_complete_api_key_or_one_complete_service_account() {
    let (public, private, id) = (("publicApiKey", "pub"), ("privateApiKey", "very-private"), ("clientId", "mdb_sa_id"));
    assert!(credentials(&[public, private, ("orgId", "ignored")]).is_ok());
    assert_eq!(credentials(&[public]).unwrap_err(), CredentialsError::Missing("privateApiKey"));
    assert_eq!(credentials(&[("publicApiKey", " \n"), private]).unwrap_err(), CredentialsError::Missing("publicApiKey"));
    let long = "x".repeat(1025);
    assert_eq!(credentials(&[public, ("privateApiKey", &long)]).unwrap_err(), CredentialsError::TooLong("privateApiKey"));
    assert_eq!(credentials(&[("clientId", &long), ("clientSecret", "s")]).unwrap_err(), CredentialsError::TooLong("clientId"));
    assert!(credentials(&[public, ("privateApiKey", &long[1..])]).is_ok());
    assert_eq!(credentials(&[public, ("privateApiKey", "é")]).unwrap_err(), CredentialsError::NotText("privateApiKey"));
    assert_eq!(credentials(&[public, private, id]).unwrap_err(), CredentialsError::BothKinds);
    assert!(matches!(credentials(&[id, ("clientSecret", "s")]), Ok(AtlasCredentials::ServiceAccount(_))));
    assert_eq!(credentials(&[id]).unwrap_err(), CredentialsError::Missing("clientSecret"));
    assert_eq!(credentials(&[("orgId", "o")]).unwrap_err(), CredentialsError::Empty);
    let trailing = credentials(&[public, ("privateApiKey", "very-private\n")]).unwrap();
    let debug = format!("{trailing:?}");
    assert!(!debug.contains("very-private") && !debug.contains("pub\""), "{debug}");
}

fn body(text: &str) -> Result<Issued, IssueError> {
    body_words(text, Words::Quoted)
}

fn body_words(text: &str, words: Words) -> Result<Issued, IssueError> {
    let request = MintRequest {
        username: "orders".to_owned(),
        subject: Subject::common_name("orders").unwrap(),
        months_until_expiration: 3,
        now: Timestamp::now(),
    };
    answer::verified(Ok(zeroize::Zeroizing::new(text.as_bytes().to_vec())), &request, words)
}

#[test]
fn a_pair_is_taken_from_pem_and_from_a_json_string_and_from_nothing_else() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "orders");
    parameters.not_after = rcgen::date_time_ymd(2999, 1, 1);
    let without_usage = parameters.clone().self_signed(&key).unwrap().pem() + &key.serialize_pem();
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let pem = parameters.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    assert_eq!(body(&pem).unwrap().pair.facts().subject.to_string(), "CN=orders");
    assert!(body(&serde_json::to_string(&pem).unwrap()).is_ok());
    for (text, words) in [
        (without_usage.as_str(), "not for client authentication"),
        ("", "empty"),
        ("{}", "not PEM"),
        ("\"unterminated", "neither PEM nor a JSON string"),
        (&pem[..pem.len() / 2], "cut off within the CERTIFICATE"),
        (&(pem.clone() + &key.serialize_pem()), "2 private keys"),
        (
            &(pem.clone() + "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
            "cannot be read here",
        ),
    ] {
        let error = body(text).unwrap_err();
        assert_eq!((error.reason, error.minted), (Reason::AtlasAnswerUnusable, Minted::Possibly));
        assert!(error.message.contains(words) && !error.message.contains("-----"), "{}", error.message);
        let withheld = body_words(text, Words::Withheld).unwrap_err();
        assert_eq!((withheld.reason, withheld.minted), (error.reason, error.minted));
        assert!(!withheld.message.contains(words), "what is wrong tells what was answered: {}", withheld.message);
    }
}

fn common_name(name: &str) -> rcgen::CertificateParams {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.not_after = rcgen::date_time_ymd(2999, 1, 1);
    parameters
}

/// A CA of this name, below another one.
fn ca_below(
    name: &str,
    above: Option<&rcgen::CertifiedIssuer<'static, rcgen::KeyPair>>,
) -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let (mut parameters, key) = (common_name(name), rcgen::KeyPair::generate().unwrap());
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    match above {
        Some(above) => rcgen::CertifiedIssuer::signed_by(parameters, key, above).unwrap(),
        None => rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap(),
    }
}

/// A certificate too many costs no key.
#[test]
fn of_several_certificates_the_one_that_the_key_fits_is_first_and_those_above_it_follow() {
    let root = ca_below("root", None);
    let intermediate = ca_below("intermediate", Some(&root));
    let stranger = ca_below("stranger", None);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = common_name("orders");
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let (leaf, key) = (parameters.signed_by(&key, &intermediate).unwrap().pem(), key.serialize_pem());
    let (intermediate, root, stranger) = (intermediate.pem(), root.pem(), stranger.pem());
    let harmless = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned();
    for (answer, expected) in [
        (vec![&leaf, &intermediate, &key], vec![&leaf, &intermediate]),
        (vec![&key, &root, &intermediate, &leaf], vec![&leaf, &intermediate]),
        (vec![&stranger, &leaf, &intermediate, &key], vec![&leaf, &intermediate]),
        (vec![&leaf, &root, &key], vec![&leaf]),
        (vec![&leaf, &key, &harmless], vec![&leaf]),
    ] {
        let answer: String = answer.into_iter().cloned().collect();
        let expected: String = expected.into_iter().cloned().collect();
        let pair = body(&answer).unwrap().pair;
        assert_eq!(pair.facts().subject.to_string(), "CN=orders");
        let expected = crate::certificate::read_certificates(expected.as_bytes()).unwrap();
        assert_eq!(pair.certificates(), expected);
    }
    let of_others: String = [&stranger, &root, &key].into_iter().cloned().collect();
    let error = body(&of_others).unwrap_err();
    assert!(error.message.contains("does not fit the certificate"), "{}", error.message);
}

#[test]
fn plain_http_elsewhere_needs_a_word() {
    let mut settings = settings("http://atlas.example:8080", AtlasApiVersion::V2);
    assert_eq!(settings.token_url().unwrap_err().reason, Reason::InvalidSpec);
    settings.allow_plain_http = true;
    assert_eq!(settings.token_url().unwrap().as_str(), "http://atlas.example:8080/api/oauth/token");
    assert!(settings.user_url("a/b").unwrap().as_str().ends_with("/databaseUsers/%24external/a%2Fb"));
}
