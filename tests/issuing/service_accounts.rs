//! Service accounts: OAuth tokens in place of digest.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use usercert_operator::issuer::{
    Deadline,
    atlas::{AtlasApiVersion, AtlasClient, AtlasCredentials, AtlasIssuer, AtlasSettings, Words},
};
use usercert_test_support::atlas::{StandIn, StandInConfig, X509Type};

use crate::{
    harness::{PRIVATE_API_KEY, Shop},
    open,
};

const CLIENT_SECRET: &str = "mdb_sa_sk_9d0b8f1c-client-secret";

/// A shop whose issuer uses the service account of this id.
async fn shop_with_account(name: &str) -> (Shop, String) {
    let shop = open(name).await;
    let id = format!("mdb_sa_id_{}", shop.namespace);
    shop.cluster.atlas.add_service_account(&shop.project, &id, CLIENT_SECRET);
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", CLIENT_SECRET)]).await;
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    (shop, id)
}

/// The answers of the token endpoint that begin after the first `since`.
fn token_answers(shop: &Shop, since: usize) -> Vec<u16> {
    let requests = shop.cluster.atlas.requests();
    requests[since..].iter().filter(|request| request.target == "/api/oauth/token").map(|request| request.status).collect()
}

fn tokens_of(shop: &Shop, id: &str) -> usize {
    shop.cluster.atlas.tokens().iter().filter(|token| token.contains(&format!("{id}-"))).count()
}

#[tokio::test]
async fn many_certificates_cost_one_token_and_a_revoked_one_is_replaced_without_a_failure() {
    let (shop, id) = shop_with_account("account").await;
    let names: Vec<String> = (0..8).map(|number| shop.name(&format!("u{number}"))).collect();
    for name in &names {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.certificate(name, "atlas", json!({})).await;
    }
    for name in &names {
        shop.until_ready(name).await;
        assert_eq!(shop.cluster.atlas.mints_of(name).len(), 1);
    }
    assert_eq!(tokens_of(&shop, &id), 1);

    // As when an administrator revokes it: a 401 for the token is not one for the account.
    shop.cluster.atlas.revoke_tokens();
    let serial = shop.status(&names[0]).await.serial_number.unwrap();
    shop.annotate(&names[0], "usercert.dev/renew-requested-at", "now").await;
    let status = shop.until_new_serial(&names[0], &serial).await;
    assert_eq!(status.failure, None);
    assert_eq!(tokens_of(&shop, &id), 2);
    assert!(!shop.events(&names[0]).await.contains(&"AtlasUnauthorized".to_owned()));
}

#[tokio::test]
async fn a_client_secret_that_is_refused_has_its_own_reason_is_asked_once_and_its_successor_picked_up_at_once() {
    let (shop, id) = shop_with_account("account-secret").await;
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", "expired")]).await;
    let since = shop.cluster.atlas.requests().len();
    let names: Vec<String> = (0..4).map(|number| shop.name(&format!("s{number}"))).collect();
    for name in &names {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.certificate(name, "atlas", json!({})).await;
    }
    for name in &names {
        shop.until(name, "Ready", "False AtlasClientSecretRefused").await;
        assert!(shop.message(name, "Ready").await.contains("client secret has expired"));
        assert_eq!(shop.unaccounted(name).await, 0);
    }
    // Other tests share the endpoint; refusals are this one's alone.
    let refused = token_answers(&shop, since).into_iter().filter(|status| *status == 401).count();
    assert!(refused <= 1, "a refusal is remembered: {refused}");
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", CLIENT_SECRET)]).await;
    for name in &names {
        shop.until_ready(name).await;
    }
}

#[tokio::test]
async fn credentials_are_rotated_from_one_kind_to_the_other_without_a_failed_call() {
    let (shop, id) = shop_with_account("account-rotation").await;
    let name = shop.name("rotated");
    shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({})).await;
    let first = shop.until_ready(&name).await.serial_number.unwrap();
    shop.delete::<Secret>("atlas-api-key").await;
    shop.apply_secret("atlas-api-key", &[("publicApiKey", &shop.public_key), ("privateApiKey", PRIVATE_API_KEY)]).await;
    shop.annotate(&name, "usercert.dev/renew-requested-at", "now").await;
    shop.until_new_serial(&name, &first).await;
    shop.until_ready(&name).await;
    assert_eq!(tokens_of(&shop, &id), 1, "the API key was used");
    assert_eq!(shop.status(&name).await.failure, None);
}

#[tokio::test]
async fn a_token_is_refreshed_by_one_caller_at_two_thirds_of_its_life_while_the_others_go_on() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // What is left of it after two thirds is more than a slow machine stands still.
    let lifetime = jiff::SignedDuration::from_secs(9);
    let atlas = StandIn::start(StandInConfig { token_lifetime: lifetime, ..StandInConfig::default() }).await.unwrap();
    let project = "5efda6aea3f2ed2e7dd6ce05";
    atlas.add_service_account(project, "mdb_sa_id_refresh", CLIENT_SECRET);
    atlas.add_user(project, "orders", X509Type::Managed);
    let data = |key: &str| match key {
        "clientId" => Some(&b"mdb_sa_id_refresh"[..]),
        "clientSecret" => Some(CLIENT_SECRET.as_bytes()),
        _ => None,
    };
    let settings = AtlasSettings {
        endpoint: atlas.url().parse().unwrap(),
        project_id: project.to_owned(),
        credentials_uid: "uid-1".to_owned(),
        api_version: AtlasApiVersion::V2,
        allow_plain_http: false,
        words: Words::Quoted,
    };
    let client = AtlasClient::new(Duration::from_secs(3), None).unwrap();
    let issuer = AtlasIssuer::new(client, settings, AtlasCredentials::from_secret(data).unwrap());
    let (started, deadline) = (Instant::now(), Deadline::after(Duration::from_mins(1)));
    let mut longest_pause = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(15) {
        let begun = Instant::now();
        let calls = (0..10).map(|_| issuer.check_user("orders", jiff::Timestamp::now(), deadline));
        for answer in futures::future::join_all(calls).await {
            answer.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        longest_pause = longest_pause.max(begun.elapsed());
    }
    // At 0, 6 and 12 seconds. Each refresh waits for the next call, which on a machine that stands still comes late.
    let calls_lasted = started.elapsed();
    let fit_in = |time: Duration, apart: Duration| 1 + usize::try_from(time.as_millis() / apart.as_millis()).unwrap();
    let apart = Duration::from_secs(6);
    let expected = fit_in(Duration::from_secs(15), apart + longest_pause)..=fit_in(calls_lasted, apart);
    let tokens = atlas.tokens().len();
    assert!(expected.contains(&tokens), "{tokens} tokens in {calls_lasted:?}, with pauses of up to {longest_pause:?}");
    assert!(atlas.requests().iter().all(|request| request.status == 200), "no call failed");
}
