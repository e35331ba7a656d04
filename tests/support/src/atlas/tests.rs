//! Statements about the stand-in, made with a real digest client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::process::Command;

use diqwest::{Credentials, WithDigestAuth};
use reqwest::{Client, Response};

use super::*;
use crate::openssl::openssl;

const PROJECT: &str = "5efda6aea3f2ed2e7dd6ce05";
const V2: &str = "application/vnd.atlas.2023-01-01+json";

async fn stand_in(digest: DigestAlgorithm) -> StandIn {
    let atlas = StandIn::start(StandInConfig { digest, certificate_limit: Some(3), ..StandInConfig::default() }).await.unwrap();
    atlas.add_project(PROJECT, "public", "private");
    atlas.add_user(PROJECT, "orders", X509Type::Managed);
    atlas
}

async fn mint(atlas: &StandIn, version: &str, accept: &str, user: &str) -> Response {
    Client::new()
        .post(format!("{}/api/atlas/{version}/groups/{PROJECT}/databaseUsers/{user}/certs", atlas.url()))
        .header("Accept", accept)
        .body(r#"{"monthsUntilExpiration":3}"#)
        .send_digest_auth(Credentials::new("public", "private"))
        .await
        .unwrap()
}

#[tokio::test]
async fn both_algorithms_and_both_versions_mint_and_the_shape_is_atlas_s() {
    for (digest, version, accept) in [(DigestAlgorithm::Md5, "v1.0", "application/json"), (DigestAlgorithm::Sha256, "v2", V2)] {
        let atlas = stand_in(digest).await;
        let response = mint(&atlas, version, accept, "orders").await;
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["content-type"], format!("{accept};charset=utf-8"));
        let body = response.text().await.unwrap();
        assert_eq!(body.matches("-----BEGIN").count(), 2);
        assert!(body.contains("-----BEGIN PRIVATE KEY-----") && body.ends_with('\n'));
        let text = openssl_text(&body);
        for line in [
            "Public-Key: (4096 bit)",
            "Subject: CN = orders\n",
            "sha256WithRSAEncryption",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: critical\n                TLS Web Client Authentication\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in\n{text}");
        }
        assert_eq!(text.matches("X509v3 ").count(), 2 + 1, "two extensions under their heading: {text}");
        let ledger = atlas.mints();
        assert_eq!(ledger.len(), 1);
        assert!(ledger[0].not_before < ledger[0].time, "backdated");
        assert_eq!(atlas.requests().iter().map(|request| request.status).collect::<Vec<_>>(), [401, 201]);
    }
}

#[tokio::test]
async fn a_replayed_or_stale_or_wrong_answer_to_the_challenge_is_refused() {
    let atlas =
        StandIn::start(StandInConfig { nonce_lifetime: jiff::SignedDuration::ZERO, ..StandInConfig::default() }).await.unwrap();
    atlas.add_project(PROJECT, "public", "private");
    let stale = mint(&atlas, "v2", V2, "orders").await;
    assert_eq!(stale.status(), 401);
    assert!(stale.headers()["www-authenticate"].to_str().unwrap().contains("stale=true"));

    let now = jiff::Timestamp::now();
    let mut nonces = super::digest::Nonces::new(DigestAlgorithm::Md5, jiff::SignedDuration::from_mins(1));
    let challenge = nonces.challenge(false, now);
    let mut verify = |private: &str, target: &str| {
        let mut prompt = digest_auth_answer(&challenge, private, "/x");
        if target != "/x" {
            prompt = prompt.replace("uri=\"/x\"", &format!("uri=\"{target}\""));
        }
        nonces.verify(Some(&prompt), "POST", target, |_| Some("private".to_owned()), now)
    };
    let refused = super::digest::Verdict::Refused { stale: false };
    assert_eq!(verify("wrong", "/x"), refused);
    assert_eq!(verify("private", "/y"), refused, "for another target");
    assert_eq!(verify("private", "/x"), super::digest::Verdict::Authenticated("public".to_owned()));
    assert_eq!(verify("private", "/x"), refused, "the same count again");
}

/// An answer computed by hand, with RFC 7616's formula and `md5sum` of the system.
fn digest_auth_answer(challenge: &str, private: &str, uri: &str) -> String {
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let md5 = |text: String| {
        let output = Command::new("sh").arg("-c").arg(r#"printf %s "$0" | md5sum"#).arg(text).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..32].to_owned()
    };
    let (secret, request) = (md5(format!("public:MMS Public API:{private}")), md5(format!("POST:{uri}")));
    let response = md5(format!("{secret}:{nonce}:00000001:c:auth:{request}"));
    format!(
        r#"Digest username="public", realm="MMS Public API", nonce="{nonce}", uri="{uri}", qop=auth, nc=00000001, cnonce="c", response="{response}", algorithm=MD5"#
    )
}

#[tokio::test]
async fn the_errors_are_those_of_the_api() {
    let atlas = stand_in(DigestAlgorithm::Md5).await;
    atlas.add_user(PROJECT, "theirs", X509Type::Customer);
    atlas.add_user(PROJECT, "CN=a,OU=b", X509Type::Managed);
    atlas.fault_once("orders", Fault::Refuse(Refusal::new(429, "RATE_LIMITED_TOKEN_BUCKET").retry_after("7")));
    for (user, accept, status, code) in [
        ("orders", V2, 429, "RATE_LIMITED_TOKEN_BUCKET"),
        ("orders", "application/json", 400, "INVALID_VERSION_DATE"),
        ("nobody", V2, 404, "USERNAME_NOT_FOUND"),
        ("theirs", V2, 400, "USER_NOT_MANAGED_X509"),
        ("CN%3Da%2COU%3Db", V2, 400, "ATLAS_MANAGED_X509_NAME_INVALID"),
        ("orders", V2, 201, ""),
        ("orders", V2, 201, ""),
        ("orders", V2, 201, ""),
        ("orders", V2, 400, "ATLAS_GENERATED_CERTS_LIMIT_EXCEEDED"),
    ] {
        let response = mint(&atlas, "v2", accept, user).await;
        assert_eq!(response.status(), status, "{user} {code}");
        assert_eq!(response.headers().get("x-error-code").map_or("", |value| value.to_str().unwrap()), code);
    }
}

#[tokio::test]
async fn certificates_are_listed_and_outlive_their_user() {
    let atlas = stand_in(DigestAlgorithm::Md5).await;
    for user in ["a/b:c%d e+f@ü", "CN=g"] {
        atlas.add_user(PROJECT, user, X509Type::Managed);
        let encoded = percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC).to_string();
        let text = openssl_text(&mint(&atlas, "v2", V2, &encoded).await.text().await.unwrap());
        let name = user.strip_prefix("CN=").unwrap_or(user);
        assert!(
            text.contains(&format!("Subject: CN = {name}\n")) || text.contains(&format!("Subject: CN = \"{name}\"\n")),
            "{text}"
        );
        atlas.remove_user(PROJECT, user);
        let get = |path: &str| {
            let url = format!("{}/api/atlas/v2/groups/{PROJECT}/databaseUsers/{path}", atlas.url());
            let request = Client::new().get(url).header("Accept", V2);
            async move { request.send_digest_auth(Credentials::new("public", "private")).await.unwrap() }
        };
        assert_eq!(get(&format!("%24external/{encoded}")).await.status(), 404);
        let list: serde_json::Value =
            serde_json::from_str(&get(&format!("{encoded}/certs")).await.text().await.unwrap()).unwrap();
        assert_eq!(list["results"][0]["_id"].as_i64().unwrap(), atlas.mints_of(user)[0].serial);
        assert_eq!(list["totalCount"], 1);
    }
}

fn openssl_text(pem: &str) -> String {
    openssl(&["x509", "-noout", "-text", "-nameopt", "oneline,utf8,-esc_msb"], pem)
}
