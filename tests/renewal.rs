//! Renewal by the clock, in an operator that serves single namespaces with Roles alone.
//!
//! The clock is moved while the operator runs, so these tests have an operator of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::sync::LazyLock;

use harness::{Cluster, Options, Shop, eventually};
use jiff::SignedDuration;
use serde_json::json;
use usercert_test_support::atlas::{DigestAlgorithm, Fault, Refusal, X509Type};

/// The stand-in speaks digest as Atlas for Government does.
static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Sha256, namespaces: &["shop", "other"] }));

#[tokio::test]
async fn certificates_are_renewed_when_their_time_comes_and_stay_in_service_while_that_fails() {
    let shop = Shop::in_namespace(&CLUSTER, "shop").await;
    let atlas = &shop.cluster.atlas;
    shop.ca_issuer(3650).await;
    shop.atlas_issuer().await;
    for user in ["orders", "failing"] {
        atlas.add_user(&shop.project, user, X509Type::Managed);
        shop.certificate(user, "atlas", json!({ "monthsUntilExpiration": 3 })).await;
    }
    shop.certificate("reports", "ca", json!({ "duration": "2160h", "renewBefore": "720h" })).await;
    shop.certificate("suspended", "ca", json!({ "duration": "2160h", "renewBefore": "720h" })).await;
    let suspended = shop.until_ready("suspended").await.serial_number.unwrap();
    shop.certificate("suspended", "ca", json!({ "duration": "2160h", "renewBefore": "720h", "suspend": true })).await;
    shop.until("suspended", "Issuing", "False Suspended").await;
    let mut serials = Vec::new();
    for name in ["orders", "failing", "reports"] {
        let status = shop.until_ready(name).await;
        let before = status.not_after.unwrap().0.duration_since(status.renewal_time.unwrap().0);
        let expected = if name == "reports" { 30.0..=33.0 } else { 35.0..=38.5 };
        assert!(expected.contains(&(before.as_secs_f64() / 86_400.0)), "{name} is renewed {before:#} before its end");
        serials.push(status.serial_number.unwrap());
    }
    let old = shop.value("failing", "tls.crt").await;
    let other = Shop::in_namespace(&CLUSTER, "other").await;
    other.certificate("elsewhere", "ca", json!({})).await;
    other.until("elsewhere", "Ready", "False IssuerNotFound").await;

    shop.cluster.advance(SignedDuration::from_hours(24 * 40));
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    for (name, serial) in ["orders", "failing", "reports"].iter().zip(&serials) {
        assert_eq!(shop.status(name).await.serial_number.as_ref(), Some(serial), "too early");
    }
    atlas.fault("failing", Fault::Refuse(Refusal::new(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST")));
    shop.cluster.advance(SignedDuration::from_hours(24 * 25));
    for (name, serial) in [("orders", &serials[0]), ("reports", &serials[2])] {
        let status = shop.until_new_serial(name, serial).await;
        assert_eq!(status.history[0].reason, "RenewalDue");
        assert!(status.not_before.unwrap().0 < shop.cluster.now());
    }
    shop.until("failing", "Issuing", "False AtlasAccessListDenied").await;
    assert_eq!(shop.condition("failing", "Ready").await, "True Issued");
    assert_eq!(shop.condition("suspended", "Ready").await, "True Issued");
    assert_eq!(shop.status("suspended").await.serial_number.as_ref(), Some(&suspended), "due, and not renewed");
    assert_eq!(shop.value("failing", "tls.crt").await, old);
    assert_eq!(atlas.mints_of("orders").len(), 2);

    shop.cluster.advance(SignedDuration::from_hours(24 * 30));
    shop.until("failing", "Ready", "False AtlasAccessListDenied").await;
    shop.until("suspended", "Ready", "False Expired").await;
    shop.until_event("suspended", "Expired").await;
    shop.certificate("suspended", "ca", json!({ "duration": "2160h", "renewBefore": "720h" })).await;
    let status = shop.until_new_serial("suspended", &suspended).await;
    assert_eq!(status.history[0].reason, "Expired");
    assert_eq!(shop.value("failing", "tls.crt").await, old, "expired, and still better than nothing");
    atlas.clear_faults("failing");
    shop.cluster.advance(SignedDuration::from_hours(3));
    let status = shop.until_new_serial("failing", &serials[1]).await;
    assert_eq!(status.history[0].reason, "Expired");
    shop.until_ready("failing").await;
    assert_eq!(atlas.mints_of("failing").len(), 2);

    an_expiring_ca_is_not_asked_for_a_certificate_that_gains_nothing(&other).await;
    too_many_issues_are_braked(&other).await;
    cluster_issuers_are_refused(&other).await;
}

async fn an_expiring_ca_is_not_asked_for_a_certificate_that_gains_nothing(shop: &Shop) {
    // By the operator's clock this CA has about twenty days left.
    let passed = shop.cluster.now().duration_since(jiff::Timestamp::now()).as_hours() / 24;
    shop.ca_issuer(u32::try_from(passed + 20).unwrap()).await;
    let status = shop.until_ready("elsewhere").await;
    shop.cluster.advance(SignedDuration::from_hours(24 * 17));
    shop.until("elsewhere", "Issuing", "False CaExpiresFirst").await;
    assert_eq!(shop.condition("elsewhere", "Ready").await, "True Issued");
    assert_eq!(shop.status("elsewhere").await.serial_number, status.serial_number);
    shop.cluster.advance(SignedDuration::from_hours(24 * 4));
    shop.until_issuer("ca", "False CaNotInDate").await;
    shop.until("elsewhere", "Ready", "False CaNotInDate").await;
    shop.ca_issuer(3650).await;
    shop.until_ready("elsewhere").await;
}

async fn too_many_issues_are_braked(shop: &Shop) {
    for _ in 0..8 {
        if shop.condition("elsewhere", "Ready").await == "False TooManyIssues" {
            break;
        }
        let _ = shop.api::<k8s_openapi::api::core::v1::Secret>().delete("elsewhere", &Default::default()).await;
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    }
    shop.until("elsewhere", "Ready", "False TooManyIssues").await;
    shop.cluster.advance(SignedDuration::from_hours(1));
    shop.until_ready("elsewhere").await;
}

async fn cluster_issuers_are_refused(shop: &Shop) {
    shop.certificate("cluster", "any", json!({ "issuerRef": { "kind": "ClusterCertificateIssuer", "name": "any" } })).await;
    shop.until("cluster", "Ready", "False IssuerNotAllowed").await;
    eventually("an Event", || async { (!shop.events("cluster").await.is_empty()).then_some(()) }).await;
}
