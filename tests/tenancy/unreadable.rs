//! Objects that a tenant has made unreadable hide nothing from others, and cost no certificate.

use axum::http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use serde_json::{Value, json};
use usercert_test_support::atlas::{Fault, X509Type};

use crate::{
    harness::{SLOWLY, Shop, eventually},
    stage::Stage,
};

const GROUP: &str = "apis/usercert.dev/v1alpha1";

/// A time that Kubernetes takes and this operator's library does not.
const LAST_DAY: &str = "9999-12-31T23:59:59Z";

/// The same by its digits.
const FINE_TIME: &str = "2027-11-01T00:00:00.123456789012Z";

fn path(shop: &Shop, group: &str, plural: &str, name: &str) -> String {
    format!("/{group}/namespaces/{}/{plural}/{name}", shop.namespace)
}

async fn send(client: &Client, method: &str, path: &str, media_type: &str, body: &Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", media_type).body(body).unwrap();
    client.request(request).await.unwrap()
}

async fn get(shop: &Shop, path: &str) -> Value {
    send(&shop.client, "GET", path, "application/json", &Value::Null).await
}

async fn patch(client: &Client, path: &str, change: Value) {
    send(client, "PATCH", path, "application/merge-patch+json", &change).await;
}

/// Names of fields so deep that in a list they are past the limit of `serde_json`, and in the object alone just below.
fn deep_fields() -> Value {
    (0..122).fold(json!({}), |fields, _| json!({ "f:a": fields }))
}

/// As `kubectl replace --raw` does it, together with another change, without which the times would not be taken over.
async fn poison_managed_fields(shop: &Shop, path: &str) {
    eventually("the object has not changed meanwhile", || async {
        let mut object = get(shop, path).await;
        let entries = object["metadata"]["managedFields"].as_array_mut().unwrap();
        let mut added = entries[0].clone();
        (added["manager"], added["fieldsV1"]) = (json!("tenant"), deep_fields());
        entries.push(added);
        for entry in entries {
            entry["time"] = json!(LAST_DAY);
        }
        object["metadata"]["annotations"]["poisoned"] = json!("yes");
        let request = Request::put(path).header("content-type", "application/json").body(object.to_string().into_bytes());
        shop.client.request::<Value>(request.unwrap()).await.ok()
    })
    .await;
    assert!(is_poisoned(shop, path).await, "{path}: {}", get(shop, path).await["metadata"]);
}

async fn is_poisoned(shop: &Shop, path: &str) -> bool {
    let object = get(shop, path).await;
    object["metadata"]["managedFields"].to_string().contains(LAST_DAY)
}

async fn restart(shop: &Shop) {
    shop.cluster.kill_operator();
    shop.cluster.start_operator().await;
}

async fn tenant_with(stage: &Stage, namespace: &str, user: &str) -> Shop {
    let shop = stage.tenant(namespace).await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, user, X509Type::Managed);
    shop.certificate(user, "atlas", json!({})).await;
    shop.until_ready(user).await;
    shop
}

/// How often it was told that an object cannot be read.
fn told(shop: &Shop) -> Option<String> {
    let metrics = shop.cluster.metrics.encode().unwrap();
    metrics.lines().find(|line| line.contains("ObjectUnreadable")).map(ToOwned::to_owned)
}

pub async fn managed_fields_do_not_matter(stage: &'static Stage) {
    let shop = tenant_with(stage, "poisoned", "orders").await;
    let certificate = path(&shop, GROUP, "databaseusercertificates", "orders");
    let secret = path(&shop, "api/v1", "secrets", "orders");
    let poisoned = [
        certificate.clone(),
        secret.clone(),
        path(&shop, GROUP, "certificateissuers", "atlas"),
        path(&shop, "api/v1", "secrets", "atlas-api-key"),
    ];
    for path in &poisoned {
        poison_managed_fields(&shop, path).await;
    }
    let list = Request::get(format!("/{GROUP}/namespaces/poisoned/databaseusercertificates")).body(Vec::new()).unwrap();
    assert!(shop.client.request::<Value>(list).await.is_err(), "the whole list cannot be read as others read it");
    let attempt = async {
        restart(&shop).await;
        "its objects are served as any other".to_owned()
    };
    stage.attempt(3, "times in managedFields that nobody can read, and a restart", attempt).await;

    let serial = async || get(&shop, &certificate).await["status"]["serialNumber"].clone();
    let before = serial().await;
    patch(&shop.client, &certificate, json!({ "metadata": { "annotations": { "usercert.dev/renew-requested-at": "now" } } }))
        .await;
    eventually("the poisoned object has a new certificate in its poisoned Secret", || async {
        let in_secret = get(&shop, &secret).await["metadata"]["annotations"]["usercert.dev/serial-number"].clone();
        (serial().await != before && in_secret == serial().await).then_some(())
    })
    .await;
    for path in &poisoned {
        assert!(is_poisoned(&shop, path).await, "{path} is as it was");
    }
    assert_eq!(shop.cluster.atlas.mints_of("orders").len(), 2);
    assert!(told(&shop).unwrap().ends_with(" 0"), "nothing is missed of them");
}

pub async fn a_status_that_cannot_be_read_is_kept_and_nothing_is_minted_for_it(stage: &'static Stage) {
    let shop = tenant_with(stage, "status", "claims").await;
    // Tenants may not write the status.
    let admin = stage.admin().await;
    let certificate = path(&shop, GROUP, "databaseusercertificates", "claims");
    let status = format!("{certificate}/status");
    patch(&admin, &status, json!({ "status": { "notAfter": FINE_TIME } })).await;
    shop.until_event("claims", "ObjectUnreadable").await;
    assert!(told(&shop).unwrap().ends_with(" 1"));
    let attempt = async {
        restart(&shop).await;
        "an Event, and nothing is minted".to_owned()
    };
    stage.attempt(3, "a time in a status with twelve digits of a second, and a restart", attempt).await;

    shop.patch_secret("claims", json!({ "data": { "tls.key": "" } })).await;
    eventually("the damaged Secret is put right", || async {
        (!shop.value("claims", "tls.key").await.is_empty()).then_some(())
    })
    .await;
    shop.delete::<Secret>("claims").await;
    shop.assert_quiet().await;
    assert_eq!(get(&shop, &certificate).await["status"]["notAfter"], FINE_TIME, "the status is not overwritten");
    assert_eq!(shop.secret("claims").await, None);
    assert_eq!(shop.cluster.atlas.mints_of("claims").len(), 1);
    assert!(told(&shop).unwrap().ends_with(" 2"), "once for the version and process: {:?}", told(&shop));

    patch(&admin, &status, json!({ "status": { "notAfter": null } })).await;
    eventually("the Secret is made anew", || async { shop.secret("claims").await }).await;
    shop.until_ready("claims").await;
    assert_eq!(shop.cluster.atlas.mints_of("claims").len(), 2);
}

pub async fn a_spec_of_another_version_of_the_schema_concerns_its_object_alone(stage: &'static Stage) {
    let shop = tenant_with(stage, "spec", "kept").await;
    let admin = stage.admin().await;
    shop.cluster.atlas.add_user(&shop.project, "served", X509Type::Managed);
    for (plural, field) in [
        ("certificateissuers", "spec/properties/atlas/properties/monthsUntilExpiration"),
        ("databaseusercertificates", "spec/properties/monthsUntilExpiration"),
    ] {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.usercert.dev");
        let maximum = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{field}/maximum");
        let change = json!([{ "op": "replace", "path": maximum, "value": 1000 }]);
        send(&admin, "PATCH", &path, "application/json-patch+json", &change).await;
    }
    let apply = async |object: Value| {
        eventually("the new schema is in force", || async { shop.try_apply(object.clone()).await.ok() }).await;
    };
    let months = |months: u32| json!({ "monthsUntilExpiration": months });
    apply(Shop::manifest("served", "atlas", &months(300))).await;
    shop.until_event("served", "ObjectUnreadable").await;
    let certificate = path(&shop, GROUP, "databaseusercertificates", "served");
    assert_eq!(get(&shop, &certificate).await["status"]["observedGeneration"], -1, "nothing is written");
    assert_eq!(shop.cluster.atlas.mints_of("served").len(), 0);

    what_was_made_before_is_saved(&shop).await;

    let mut issuer = shop.atlas_issuer_manifest("v2");
    issuer["spec"]["atlas"]["monthsUntilExpiration"] = json!(300);
    apply(issuer).await;
    shop.until_event("atlas", "ObjectUnreadable").await;
    shop.until("kept", "Issuing", "False ObjectUnreadable").await;
    assert!(shop.message("kept", "Issuing").await.contains("spec.atlas.monthsUntilExpiration"));
    assert!(shop.condition("kept", "Ready").await.starts_with("True"), "the certificate works");
    let attempt = async {
        restart(&shop).await;
        "an Event, and nothing is minted".to_owned()
    };
    stage.attempt(3, "a spec of another version of the schema, and a restart", attempt).await;

    apply(Shop::manifest("served", "atlas", &months(3))).await;
    shop.until("served", "Issuing", "False ObjectUnreadable").await;
    apply(shop.atlas_issuer_manifest("v2")).await;
    shop.until_ready("served").await;
    shop.until("kept", "Issuing", "False Issued").await;
    assert_eq!((shop.cluster.atlas.mints_of("kept").len(), shop.cluster.atlas.mints_of("served").len()), (1, 1));
}

/// The spec becomes unreadable while Atlas makes the certificate.
async fn what_was_made_before_is_saved(shop: &Shop) {
    shop.cluster.atlas.add_user(&shop.project, "late", X509Type::Managed);
    shop.cluster.atlas.fault_once("late", Fault::Delay(SLOWLY));
    shop.certificate("late", "atlas", json!({ "secretName": "late-pair" })).await;
    let atlas = &shop.cluster.atlas;
    eventually("the certificate is made", || async { atlas.mints_of("late").pop() }).await;
    shop.certificate("late", "atlas", json!({ "secretName": "late-pair", "monthsUntilExpiration": 300 })).await;
    shop.until_event("late", "ObjectUnreadable").await;
    let mint = atlas.mints_of("late").pop().unwrap();
    eventually("it is saved", || async { shop.secret("late-pair").await }).await;
    assert_eq!(shop.value("late-pair", "tls.key").await, mint.key_pem);

    shop.certificate("late", "atlas", json!({ "secretName": "late-pair", "monthsUntilExpiration": 3 })).await;
    shop.until_ready("late").await;
    assert_eq!((atlas.mints_of("late").len(), shop.unaccounted("late").await), (1, 0));
}
