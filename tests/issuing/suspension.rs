//! Suspended objects: nothing is begun for them, and what was begun is finished.

use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use serde_json::{Value, json};
use usercert_test_support::atlas::{Fault, X509Type};

use crate::{
    Shop,
    harness::{SLOWLY, eventually},
    open,
    secrets::have_no_more_secrets,
};

/// An object that is given with or without this.
pub async fn certificate(shop: &Shop, issuer: &str, spec: Value) {
    shop.certificate("orders", issuer, spec).await;
}

/// A user of the shop's project at Atlas.
pub async fn with_user(name: &str) -> (Shop, String) {
    let shop = open(name).await;
    let user = shop.name("orders");
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.until_issuer("atlas", "True IssuerReady").await;
    (shop, user)
}

#[tokio::test]
async fn a_suspended_object_asks_for_nothing_until_its_suspension_ends() {
    let (shop, user) = with_user("suspended").await;
    certificate(&shop, "atlas", json!({ "username": user, "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    assert_eq!(shop.condition("orders", "Ready").await, "False NoCertificate");
    assert_eq!(shop.condition("orders", "Stalled").await, "True Suspended");
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.assert_quiet().await;
    let asked = || shop.cluster.atlas.requests().iter().filter(|request| request.target.contains(&shop.project)).count();
    assert_eq!(asked(), 0, "no list, no user, no certificate");
    assert!(shop.secret("orders").await.is_none());
    assert_eq!(shop.until_metric("certificate_suspended", "orders").await, 1);

    certificate(&shop, "atlas", json!({ "username": user })).await;
    let status = shop.until_ready("orders").await;
    assert_eq!(status.renew_request_handled.as_deref(), Some("1"), "the first certificate answers it");
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
    assert_eq!(shop.condition("orders", "Stalled").await, "");
    eventually("the series is gone", || async { shop.metric("certificate_suspended", "orders").is_none().then_some(()) }).await;
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_when_an_object_is_suspended_is_saved() {
    let (shop, user) = with_user("suspended-late").await;
    shop.cluster.atlas.fault_once(&user, Fault::Delay(SLOWLY));
    certificate(&shop, "atlas", json!({ "username": user })).await;
    eventually("Atlas is asked", || async { (shop.cluster.atlas.mints_of(&user).len() == 1).then_some(()) }).await;
    certificate(&shop, "atlas", json!({ "username": user, "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    shop.until_ready("orders").await;
    let mints = shop.cluster.atlas.mints_of(&user);
    assert_eq!(shop.value("orders", "tls.key").await, mints[0].key_pem);
    let status = shop.status("orders").await;
    assert_eq!((status.issuance, status.unaccounted_certificates), (None, None));
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_certificate_that_the_secret_refused_is_saved_though_the_object_is_suspended() {
    let (shop, user) = with_user("suspended-unsaved").await;
    shop.cluster.atlas.fault_once(&user, Fault::Delay(SLOWLY));
    certificate(&shop, "atlas", json!({ "username": user })).await;
    eventually("Atlas is asked", || async { (shop.cluster.atlas.mints_of(&user).len() == 1).then_some(()) }).await;
    have_no_more_secrets(&shop).await;
    shop.until("orders", "Ready", "False SecretNotWritable").await;
    certificate(&shop, "atlas", json!({ "username": user, "suspend": true })).await;
    shop.delete::<ResourceQuota>("none").await;
    shop.until_ready("orders").await;
    shop.until("orders", "Issuing", "False Suspended").await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
}

#[tokio::test]
async fn the_secret_of_a_suspended_object_stays_as_it_is_and_ready_tells_what_it_is_worth() {
    let shop = open("suspended-damaged").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number;
    certificate(&shop, "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    assert_eq!(shop.status("orders").await.renewal_time, None);

    // By hand, and so on purpose.
    shop.patch_secret("orders", json!({ "stringData": { "tls.crt": "by hand" } })).await;
    shop.until("orders", "Ready", "False PairUnusable").await;
    shop.until_event("orders", "PairUnusable").await;
    shop.assert_quiet().await;
    assert_eq!(shop.value("orders", "tls.crt").await, "by hand");

    certificate(&shop, "ca", json!({})).await;
    assert_eq!(shop.until_ready("orders").await.serial_number, serial, "mended at once, without a new certificate");

    certificate(&shop, "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    shop.delete::<Secret>("orders").await;
    shop.until("orders", "Ready", "False NoCertificate").await;
    shop.assert_quiet().await;
    assert!(shop.secret("orders").await.is_none());
}

#[tokio::test]
async fn a_renewal_asked_for_during_a_suspension_is_carried_out_when_that_ends() {
    let shop = open("suspended-renewal").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    certificate(&shop, "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.assert_quiet().await;
    assert_eq!(shop.status("orders").await.serial_number.as_ref(), Some(&serial));
    certificate(&shop, "ca", json!({})).await;
    let status = shop.until_new_serial("orders", &serial).await;
    assert_eq!(status.history[0].reason, "RenewalRequested");
}

#[tokio::test]
async fn what_a_suspended_object_asks_for_besides_is_written_when_the_suspension_ends() {
    let shop = open("suspended-formats").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number;
    certificate(&shop, "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    let before = shop.secret("orders").await;
    let formats = json!([{ "type": "PKCS8DER" }]);
    certificate(&shop, "ca", json!({ "suspend": true, "formats": formats })).await;
    shop.assert_quiet().await;
    assert_eq!(shop.secret("orders").await, before);
    certificate(&shop, "ca", json!({ "formats": formats })).await;
    eventually("the Secret has the format", || async { shop.secret("orders").await?.data?.remove("tls.pk8") }).await;
    assert_eq!(shop.until_ready("orders").await.serial_number, serial);
}
