//! Certificates whose keys are known to others, as `usercert.dev/compromised` says.

use serde_json::{Value, json};
use usercert_test_support::atlas::{Fault, Refusal, X509Type};

use crate::{
    formats::annotations,
    harness::{Shop, eventually},
    open,
};

const COMPROMISED: &str = "usercert.dev/compromised";

async fn serial_number(shop: &Shop, name: &str) -> String {
    shop.until_ready(name).await.serial_number.unwrap()
}

async fn has(shop: &Shop, entry: &str) -> bool {
    shop.secret("orders").await.unwrap().data.unwrap().contains_key(entry)
}

fn named_password() -> Value {
    json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } }])
}

#[tokio::test]
async fn a_compromised_certificate_is_renewed_once_and_nothing_of_it_stays() {
    let shop = open("compromised-ca").await;
    shop.ca_issuer(3650).await;
    shop.apply_secret("java", &[("password", "before-the-leak-2Kd7")]).await;
    shop.certificate("orders", "ca", json!({ "keepPrevious": true, "formats": named_password() })).await;
    let first = serial_number(&shop, "orders").await;
    eventually("the keystore is there", || async { has(&shop, "keystore.p12").await.then_some(()) }).await;
    shop.delete::<k8s_openapi::api::core::v1::Secret>("java").await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;
    shop.annotate("orders", COMPROMISED, &first.to_lowercase()).await;
    let status = shop.until_new_serial("orders", &first).await;
    assert_eq!(status.history[0].reason, "Compromised");
    assert!(!has(&shop, "previous-tls.key").await && !has(&shop, "keystore.p12").await);
    let annotations = annotations(&shop, "orders").await;
    let former = ["previous-not-after", "previous-serial-number", "keystore-serial-number"];
    assert!(former.iter().all(|name| !annotations.contains_key(&format!("usercert.dev/{name}"))), "{annotations:?}");
    shop.until("orders", "Ready", "True Issued").await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;
    shop.apply_secret("java", &[("password", "after-the-leak-8Vn1")]).await;
    shop.until("orders", "Issuing", "False Issued").await;
    assert!(has(&shop, "keystore.p12").await);
    shop.assert_quiet().await;
    assert_eq!(shop.status("orders").await.history.len(), 2, "one for it, however long the annotation stays");
}

#[tokio::test]
async fn a_former_pair_that_turns_out_to_be_compromised_goes_without_a_new_certificate() {
    let shop = open("compromised-former").await;
    shop.ca_issuer(3650).await;
    shop.apply_secret("java", &[("password", "former-pair-4Jc6")]).await;
    shop.certificate("orders", "ca", json!({ "keepPrevious": true, "formats": named_password() })).await;
    let first = serial_number(&shop, "orders").await;
    eventually("the keystore is there", || async { has(&shop, "keystore.p12").await.then_some(()) }).await;
    shop.delete::<k8s_openapi::api::core::v1::Secret>("java").await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    let second = shop.until_new_serial("orders", &first).await.serial_number.unwrap();
    assert!(has(&shop, "previous-tls.key").await && has(&shop, "keystore.p12").await, "both are of use");
    assert_eq!(annotations(&shop, "orders").await.get("usercert.dev/previous-serial-number"), Some(&first));
    shop.annotate("orders", COMPROMISED, &first).await;
    eventually("it is gone", || async {
        (!has(&shop, "previous-tls.key").await && !has(&shop, "keystore.p12").await).then_some(())
    })
    .await;
    shop.until_event("orders", "SecretUpdated").await;
    assert_eq!(serial_number(&shop, "orders").await, second);
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_compromised_certificate_of_atlas_stays_until_another_can_be_had_and_costs_one() {
    let shop = open("compromised-atlas").await;
    shop.atlas_issuer().await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.certificate(&user, "atlas", json!({})).await;
    let first = serial_number(&shop, &user).await;
    let pair = shop.value(&user, "tls-combined.pem").await;
    shop.cluster.atlas.fault(&user, Fault::Refuse(Refusal::new(401, "USER_UNAUTHORIZED")));
    shop.annotate(&user, COMPROMISED, &first).await;
    shop.until(&user, "RenewalFailed", "True AtlasUnauthorized").await;
    assert_eq!(shop.condition(&user, "Ready").await, "True Compromised");
    assert!(shop.message(&user, "Ready").await.contains("its key is known to others"));
    shop.until_event(&user, "Compromised").await;
    assert_eq!(shop.value(&user, "tls-combined.pem").await, pair, "it works, and there is no other");
    shop.cluster.atlas.clear_faults(&user);
    shop.annotate(&user, COMPROMISED, &format!("{first}, 0F")).await;
    let status = shop.until_new_serial(&user, &first).await;
    shop.until(&user, "Ready", "True Issued").await;
    shop.annotate(&user, "unrelated", "value").await;
    shop.assert_quiet().await;
    assert_eq!((shop.cluster.atlas.mints_of(&user).len(), status.history.len()), (2, 2));
    assert!(shop.message(&user, "Issuing").await.contains("names 0F, which is none of the certificates"));
}

#[tokio::test]
async fn what_is_no_serial_number_is_told_and_stops_nothing() {
    let shop = open("compromised-invalid").await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({})).await;
    let first = serial_number(&shop, "orders").await;
    shop.annotate("orders", COMPROMISED, "the old one").await;
    shop.until("orders", "Issuing", "False InvalidAnnotation").await;
    shop.until_event("orders", "InvalidAnnotation").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    let second = shop.until_new_serial("orders", &first).await.serial_number.unwrap();
    shop.annotate("orders", COMPROMISED, &format!("the old one, {second}")).await;
    let status = shop.until_new_serial("orders", &second).await;
    assert_eq!(status.history[0].reason, "Compromised");
}

#[tokio::test]
async fn a_suspended_object_keeps_its_compromised_certificate_and_says_so() {
    let shop = open("compromised-suspended").await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    shop.certificate("orders", "ca", json!({})).await;
    let first = serial_number(&shop, "orders").await;
    shop.certificate("orders", "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    shop.annotate("orders", COMPROMISED, &first).await;
    shop.until("orders", "Ready", "True Compromised").await;
    assert!(shop.message("orders", "Issuing").await.contains("is compromised, and is renewed when spec.suspend is false"));
    assert_eq!(shop.status("orders").await.serial_number.as_ref(), Some(&first));
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_new_serial("orders", &first).await;
}
