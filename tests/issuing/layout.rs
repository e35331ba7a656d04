//! Labels and annotations of the template, the former pair, and adoption with all of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use usercert_test_support::atlas::X509Type;

use crate::{
    formats::{annotations, data, every_format, pair_in, renew, serial, until_entries},
    harness::eventually,
    open,
};

const PREVIOUS: [&str; 3] = ["previous-tls-combined.pem", "previous-tls.crt", "previous-tls.key"];

#[tokio::test]
async fn labels_and_annotations_follow_the_template_and_those_of_others_stay() {
    let shop = open("template").await;
    shop.ca_issuer(30).await;
    let template =
        |labels: Value, annotations: Value| json!({ "secretTemplate": { "labels": labels, "annotations": annotations } });
    shop.certificate("orders", "ca", template(json!({ "team": "db", "tier": "1" }), json!({ "note": "a", "owner": "me" })))
        .await;
    let serial_number = shop.until_ready("orders").await.serial_number;
    let found = || async {
        let metadata = shop.secret("orders").await.unwrap().metadata;
        let theirs = |values: Option<BTreeMap<String, String>>| {
            values.into_iter().flatten().filter(|(key, _)| !key.starts_with("usercert.dev/")).collect::<BTreeMap<_, _>>()
        };
        json!([theirs(metadata.labels), theirs(metadata.annotations)])
    };
    assert_eq!(found().await, json!([{ "team": "db", "tier": "1" }, { "note": "a", "owner": "me" }]));
    let others = json!({ "metadata": { "labels": { "theirs": "x" }, "annotations": { "theirs": "y" } } });
    shop.patch_secret("orders", others).await;
    for (labels, annotations) in [
        (json!({ "team": "shop" }), json!({ "note": "b" })),
        (json!({}), json!({ "note": "b", "more": "c" })),
        (json!({ "tier": "2" }), json!({})),
    ] {
        shop.certificate("orders", "ca", template(labels.clone(), annotations.clone())).await;
        let (mut labels, mut annotations) = (labels, annotations);
        (labels["theirs"], annotations["theirs"]) = (json!("x"), json!("y"));
        let expected = json!([labels, annotations]);
        eventually(&format!("the Secret has {expected}"), || async { (found().await == expected).then_some(()) }).await;
    }
    shop.certificate("orders", "ca", json!({})).await;
    let expected = json!([{ "theirs": "x" }, { "theirs": "y" }]);
    eventually("the template is gone", || async { (found().await == expected).then_some(()) }).await;
    assert!(shop.secret("orders").await.unwrap().metadata.labels.unwrap().contains_key("usercert.dev/certificate-uid"));
    let status = shop.until_ready("orders").await;
    assert_eq!((status.serial_number, status.history.len()), (serial_number, 1));
    shop.assert_quiet().await;
}

#[tokio::test]
async fn the_former_pair_stays_beside_the_new_one_while_it_is_of_use() {
    let shop = open("previous").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({ "keepPrevious": true })).await;
    let first = shop.until_ready("orders").await.serial_number.unwrap();
    until_entries(&shop, "orders", &[]).await;
    let second = renew(&shop, "orders", "1").await;
    let data = until_entries(&shop, "orders", &PREVIOUS).await;
    assert_eq!((serial(&data, ""), serial(&data, "previous-")), (second.clone(), first));
    let not_after = pair_in(&data, "previous-").facts().not_after.to_string();
    assert_eq!(annotations(&shop, "orders").await["usercert.dev/previous-not-after"], not_after);
    let third = renew(&shop, "orders", "2").await;
    let data = self::data(&shop, "orders").await;
    assert_eq!((serial(&data, ""), serial(&data, "previous-")), (third.clone(), second));
    shop.assert_quiet().await;

    // A new CA: databases that trust it refuse both the former certificate and the one before.
    shop.ca_issuer(30).await;
    let status = shop.until_new_serial("orders", &third).await;
    assert_eq!(status.history[0].reason, "IssuerChanged");
    until_entries(&shop, "orders", &[]).await;
    let fourth = status.serial_number.unwrap();
    renew(&shop, "orders", "3").await;
    let data = until_entries(&shop, "orders", &PREVIOUS).await;
    assert_eq!(serial(&data, "previous-"), fourth);

    shop.certificate("orders", "ca", json!({})).await;
    until_entries(&shop, "orders", &[]).await;
    let annotations = annotations(&shop, "orders").await;
    assert!(annotations.keys().all(|key| !key.contains("previous") && !key.contains("layout")), "{annotations:?}");
    shop.assert_quiet().await;
}

#[tokio::test]
async fn the_former_pair_of_atlas_is_kept_and_costs_no_certificate() {
    let shop = open("previous-atlas").await;
    shop.atlas_issuer().await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.certificate(&user, "atlas", json!({ "keepPrevious": true })).await;
    shop.until_ready(&user).await;
    renew(&shop, &user, "1").await;
    let mints = shop.cluster.atlas.mints_of(&user);
    assert_eq!(mints.len(), 2);
    assert_eq!(shop.value(&user, "previous-tls.key").await, mints[0].key_pem);
    assert_eq!(shop.value(&user, "tls.key").await, mints[1].key_pem);
    assert_eq!(shop.status(&user).await.unaccounted_certificates, None);
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_restored_secret_is_adopted_with_all_that_its_object_asks_for() {
    let shop = open("formats-adopt").await;
    shop.ca_issuer(30).await;
    let mut formats = every_format();
    formats.as_array_mut().unwrap().push(json!({ "type": "CombinedPEM", "key": "password.pem" }));
    let spec = json!({ "formats": formats, "keepPrevious": true });
    shop.certificate("orders", "ca", spec.clone()).await;
    shop.until_ready("orders").await;
    renew(&shop, "orders", "1").await;
    let before = data(&shop, "orders").await;
    let api = shop.api::<usercert_operator::api::DatabaseUserCertificate>();
    api.delete("orders", &kube::api::DeleteParams::orphan()).await.unwrap();
    eventually("the object is gone", || async { api.get_opt("orders").await.unwrap().is_none().then_some(()) }).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.annotate("orders", "usercert.dev/adopt-secret", "true").await;
    shop.until("orders", "Ready", "False SecretNotOwned").await;
    let message = shop.message("orders", "Ready").await;
    assert!(message.contains("it has the key \"password.pem\""), "nobody else would give an entry this name: {message}");
    shop.certificate("orders", "ca", spec).await;
    shop.annotate("orders", "usercert.dev/adopt-secret", "true").await;
    shop.until_ready("orders").await;
    assert_eq!(data(&shop, "orders").await, before, "what it holds is kept");
    shop.assert_quiet().await;
}
