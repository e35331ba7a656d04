//! The Atlas issuer against the stand-in, from the issuer to the Secret.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use usercert_test_support::atlas::{Fault, Refusal, X509Type};

use crate::{
    harness::{PRIVATE_API_KEY, Shop, eventually, openssl},
    open,
};

async fn shop_with_user(name: &str, user: &str) -> Shop {
    let shop = open(name).await;
    shop.cluster.atlas.add_user(&shop.project, user, X509Type::Managed);
    shop.atlas_issuer().await;
    shop.until_issuer("atlas", "True IssuerReady").await;
    shop
}

#[tokio::test]
async fn a_certificate_costs_one_claim_more_than_from_a_ca_and_one_mint() {
    let shop = shop_with_user("atlas-cost", "orders-cost").await;
    shop.certificate("orders-cost", "atlas", json!({ "monthsUntilExpiration": 2 })).await;
    let status = shop.until_ready("orders-cost").await;
    shop.until_event("orders-cost", "Issued").await;
    let requests: Vec<String> = shop
        .cluster
        .requests_of_operator(&shop.namespace)
        .into_iter()
        .filter(|request| !request.contains("certificateissuers"))
        .collect();
    assert_eq!(
        requests,
        [
            "list secrets",
            "get secrets",
            "create secrets (dry run)",
            "patch databaseusercertificates/status",
            "get databaseusercertificates",
            "create secrets",
            "patch databaseusercertificates/status",
            "create events",
        ],
        "the first two are the issuer's, of its credentials; the object is read live before the Secret is written"
    );
    let mints = shop.cluster.atlas.mints_of("orders-cost");
    assert_eq!(mints.len(), 1);
    assert_eq!(status.serial_number.unwrap(), mints[0].serial_hexadecimal());
    assert_eq!(status.issuance, None, "the claim is cleared");
    assert_eq!(shop.value("orders-cost", "tls.crt").await, mints[0].certificate_pem);
    assert_eq!(shop.value("orders-cost", "tls.key").await, mints[0].key_pem);
    let keys: Vec<String> = shop.secret("orders-cost").await.unwrap().data.unwrap().into_keys().collect();
    assert_eq!(keys, ["tls-combined.pem", "tls.crt", "tls.key"], "the CA of Atlas is not known");
    shop.assert_quiet().await;
}

#[tokio::test]
async fn the_legacy_api_works_the_same() {
    let shop = open("atlas-v1").await;
    shop.cluster.atlas.add_user(&shop.project, "orders-v1", X509Type::Managed);
    shop.atlas_issuer().await;
    shop.apply(shop.atlas_issuer_manifest("v1.0")).await;
    shop.certificate("orders-v1", "atlas", json!({})).await;
    shop.until_ready("orders-v1").await;
    let requests = shop.cluster.atlas.requests();
    let ours: Vec<_> = requests.iter().filter(|request| request.target.contains("orders-v1")).collect();
    assert!(ours.iter().any(|request| request.status == 201));
    assert!(
        ours.iter()
            .all(|request| request.target.starts_with("/api/atlas/v1.0/") || request.target.starts_with("/api/atlas/v2/"))
    );
}

#[tokio::test]
async fn user_names_are_encoded_exactly_once() {
    let shop = open("atlas-names").await;
    shop.atlas_issuer().await;
    let names = ["team/app", "a:b", "50%25", "with space", "a+b", "müller", "CN=prefixed", "arn:aws:iam::1:role/x", "x.y@z"];
    for (number, name) in names.iter().enumerate() {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.apply(Shop::manifest(&format!("n{number}"), "atlas", &json!({ "username": name }))).await;
    }
    for (number, name) in names.iter().enumerate() {
        shop.until_ready(&format!("n{number}")).await;
        let certificate = shop.value(&format!("n{number}"), "tls.crt").await;
        let subject = openssl(&["x509", "-noout", "-subject", "-nameopt", "sep_comma_plus,utf8,sname"], &certificate);
        assert_eq!(subject.trim(), format!("subject=CN={}", name.strip_prefix("CN=").unwrap_or(name)));
    }
    let targets: Vec<String> = shop.cluster.atlas.requests().into_iter().map(|request| request.target).collect();
    assert!(targets.iter().any(|target| target.ends_with("/databaseUsers/team%2Fapp/certs")), "{targets:?}");
    assert!(targets.iter().any(|target| target.ends_with("/databaseUsers/50%2525/certs")));
}

#[tokio::test]
async fn credentials_that_are_missing_or_wrong_are_named_and_mended_at_once() {
    let shop = open("atlas-credentials").await;
    shop.cluster.atlas.add_user(&shop.project, "orders-keys", X509Type::Managed);
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    shop.certificate("orders-keys", "atlas", json!({})).await;
    shop.until("orders-keys", "Ready", "False CredentialsNotFound").await;
    shop.until_event("atlas", "CredentialsNotFound").await;
    let (public, private) = (shop.public_key.clone(), PRIVATE_API_KEY);
    for (data, reason, words) in [
        (vec![("publicApiKey", public.as_str())], "CredentialsInvalid", "privateApiKey is missing"),
        (vec![("publicApiKey", ""), ("privateApiKey", private)], "CredentialsInvalid", "publicApiKey is missing or empty"),
        (
            vec![("publicApiKey", &public), ("privateApiKey", private), ("clientId", "mdb_sa_id_1"), ("clientSecret", "s")],
            "CredentialsInvalid",
            "both an API key",
        ),
    ] {
        // Made anew, for applying would keep the keys that the one before had.
        let _ = shop.api::<Secret>().delete("atlas-api-key", &Default::default()).await;
        shop.apply_secret("atlas-api-key", &data).await;
        shop.until("orders-keys", "Ready", &format!("False {reason}")).await;
        eventually(words, || async { shop.message("orders-keys", "Ready").await.contains(words).then_some(()) }).await;
    }
    assert!(shop.cluster.atlas.requests().iter().all(|request| !request.target.contains("orders-keys")), "Atlas was not asked");
    shop.delete::<Secret>("atlas-api-key").await;
    shop.apply_secret("atlas-api-key", &[("publicApiKey", &public), ("privateApiKey", "wrong")]).await;
    shop.until("orders-keys", "Ready", "False AtlasUnauthorized").await;
    shop.apply_secret("atlas-api-key", &[("publicApiKey", &public), ("privateApiKey", private)]).await;
    shop.until_ready("orders-keys").await;
    assert_eq!(shop.cluster.atlas.mints_of("orders-keys").len(), 1);
}

#[tokio::test]
async fn a_renewal_is_forced_once_per_value_and_a_failing_one_leaves_the_old_certificate_in_service() {
    let shop = shop_with_user("atlas-forced", "orders-forced").await;
    shop.certificate("orders-forced", "atlas", json!({})).await;
    let first = shop.until_ready("orders-forced").await.serial_number.unwrap();
    shop.annotate("orders-forced", "usercert.dev/renew-requested-at", "one").await;
    let second = shop.until_new_serial("orders-forced", &first).await;
    assert_eq!(second.renew_request_handled.as_deref(), Some("one"));
    assert_eq!(
        second.history.iter().map(|issued| issued.reason.as_str()).collect::<Vec<_>>(),
        ["RenewalRequested", "NoCertificate"]
    );
    shop.annotate("orders-forced", "unrelated", "value").await;
    shop.assert_quiet().await;
    assert_eq!(shop.cluster.atlas.mints_of("orders-forced").len(), 2);

    let certificate = shop.value("orders-forced", "tls.crt").await;
    shop.cluster.atlas.fault("orders-forced", Fault::Refuse(Refusal::new(401, "USER_UNAUTHORIZED")));
    shop.annotate("orders-forced", "usercert.dev/renew-requested-at", "two").await;
    shop.until("orders-forced", "Issuing", "False AtlasUnauthorized").await;
    shop.until_event("orders-forced", "AtlasUnauthorized").await;
    assert_eq!(shop.condition("orders-forced", "Ready").await, "True Issued");
    assert_eq!(shop.value("orders-forced", "tls.crt").await, certificate);
    shop.cluster.atlas.clear_faults("orders-forced");
    shop.annotate("orders-forced", "usercert.dev/renew-requested-at", "three").await;
    shop.until_new_serial("orders-forced", second.serial_number.as_deref().unwrap()).await;
    assert_eq!(shop.cluster.atlas.mints_of("orders-forced").len(), 3);
}

#[tokio::test]
async fn a_changed_issuer_brings_a_new_certificate_when_the_new_one_has_made_it() {
    let shop = shop_with_user("atlas-switch", "orders-switch").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders-switch", "ca", json!({})).await;
    let first = shop.until_ready("orders-switch").await.serial_number.unwrap();
    shop.certificate("orders-switch", "missing", json!({})).await;
    shop.until("orders-switch", "Issuing", "False IssuerNotFound").await;
    assert_eq!(shop.status("orders-switch").await.serial_number.as_deref(), Some(first.as_str()));
    shop.certificate("orders-switch", "atlas", json!({})).await;
    let status = shop.until_new_serial("orders-switch", &first).await;
    assert_eq!(status.history[0].reason, "IssuerChanged");
    assert!(
        !shop.secret("orders-switch").await.unwrap().data.unwrap().contains_key("ca.crt"),
        "the other CA's certificate is gone"
    );
    let after = shop.until_ready("orders-switch").await;
    let atlas = shop.atlas_issuer_manifest("v1.0");
    shop.apply(atlas).await;
    shop.assert_quiet().await;
    assert_eq!(shop.status("orders-switch").await.serial_number, after.serial_number, "another API version is the same issuer");
}
