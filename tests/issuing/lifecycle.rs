//! Secrets that outlive their object, and what is told when an object goes whose Secret pods use.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use usercert_operator::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus},
    controller::Scope,
};

use crate::{
    Shop,
    harness::{Operator, eventually, openssl},
    open,
    suspension::{certificate, with_user},
};

const UID: &str = "usercert.dev/certificate-uid";
const RETAINED_FOR: &str = "usercert.dev/retained-for";

/// The requests that concern the content of the Secret: `get` and the writes of its data.
fn reads_of_secret(shop: &Shop) -> usize {
    let requests = shop.cluster.requests_of_operator(&shop.namespace);
    requests.iter().filter(|request| *request == "get secrets").count()
}

/// Deletes the object, and waits until it is gone.
async fn delete_object(shop: &Shop, parameters: &DeleteParams) {
    let api = shop.api::<DatabaseUserCertificate>();
    api.delete("orders", parameters).await.unwrap();
    eventually("the object is gone", || async { api.get_opt("orders").await.unwrap().is_none().then_some(()) }).await;
}

async fn secret(shop: &Shop) -> Secret {
    shop.secret("orders").await.unwrap()
}

/// Whether the object is the Secret's controller, and for whom it is retained.
async fn ownership(shop: &Shop) -> (bool, Option<String>) {
    let uid = shop.get("orders").await.metadata.uid.unwrap();
    let metadata = secret(shop).await.metadata;
    assert_eq!(metadata.labels.unwrap()[UID], uid);
    let owners = metadata.owner_references.unwrap_or_default();
    let controls = owners.iter().any(|owner| owner.uid == uid && owner.controller == Some(true));
    (controls, metadata.annotations.unwrap().get(RETAINED_FOR).cloned())
}

async fn until_owned(shop: &Shop, controls: bool) {
    eventually(&format!("the object controls its Secret: {controls}"), || async {
        let expected = (controls, (!controls).then(|| "orders".to_owned()));
        (ownership(shop).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_retained_secret_outlives_its_object_and_is_taken_up_by_the_next_of_its_name() {
    let (shop, user) = with_user("retained").await;
    let spec = json!({ "username": user, "deletionPolicy": "Retain" });
    certificate(&shop, "atlas", spec.clone()).await;
    let before = shop.until_ready("orders").await;
    assert_eq!(ownership(&shop).await, (false, Some("orders".to_owned())));
    let data = secret(&shop).await.data;

    delete_object(&shop, &DeleteParams::background()).await;
    shop.assert_quiet().await;
    assert_eq!(secret(&shop).await.data, data, "nothing deletes it");

    certificate(&shop, "atlas", spec).await;
    let after = shop.until_ready("orders").await;
    shop.until_event("orders", "SecretAdopted").await;
    assert_eq!(after.serial_number, before.serial_number);
    assert_eq!(secret(&shop).await.data, data);
    assert_eq!(ownership(&shop).await, (false, Some("orders".to_owned())));
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1, "no certificate was made");
    assert_eq!(after.unaccounted_certificates, None);

    // It is served as any other.
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.until_new_serial("orders", &after.serial_number.unwrap()).await;
    until_owned(&shop, false).await;
    shop.assert_quiet().await;
    shop.delete::<Secret>("orders").await;
    eventually("its deletion wakes the object", || async { shop.secret("orders").await }).await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 3);
}

#[tokio::test]
async fn an_object_with_the_default_policy_takes_a_retained_secret_up_and_then_controls_it() {
    let shop = open("retained-default").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    let serial = shop.until_ready("orders").await.serial_number;
    delete_object(&shop, &DeleteParams::foreground()).await;
    certificate(&shop, "ca", json!({})).await;
    assert_eq!(shop.until_ready("orders").await.serial_number, serial);
    until_owned(&shop, true).await;
    delete_object(&shop, &DeleteParams::background()).await;
    eventually("the garbage collector deletes it", || async { shop.secret("orders").await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_renewal_of_a_retained_secret_keeps_the_former_pair() {
    let shop = open("retained-previous").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain", "keepPrevious": true })).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    let former = shop.value("orders", "tls.crt").await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.until_new_serial("orders", &serial).await;
    shop.until_ready("orders").await;
    assert_eq!(shop.value("orders", "previous-tls.crt").await, former);
    assert_eq!(ownership(&shop).await, (false, Some("orders".to_owned())));
}

/// What a change of the policy must leave alone.
fn content(status: &DatabaseUserCertificateStatus, secret: &Secret) -> Value {
    json!([status.serial_number, status.history, secret.data, secret.metadata.uid])
}

#[tokio::test]
async fn the_policy_can_be_changed_both_ways_without_a_certificate_and_without_reading_the_key() {
    let shop = open("policy").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    shop.until_ready("orders").await;
    assert_eq!(ownership(&shop).await, (true, None));
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" } });
    let uid = shop.apply(map).await.metadata.uid.unwrap();
    let theirs = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid });
    let controller = secret(&shop).await.metadata.owner_references.unwrap();
    let both: Vec<Value> = controller.iter().map(|owner| json!(owner)).chain([theirs]).collect();
    shop.patch_secret("orders", json!({ "metadata": { "ownerReferences": both, "annotations": { "note": "theirs" } } })).await;
    shop.assert_quiet().await;
    let before = content(&shop.status("orders").await, &secret(&shop).await);
    let reads = reads_of_secret(&shop);

    for (policy, controls) in [("Retain", false), ("Delete", true), ("Retain", false)] {
        certificate(&shop, "ca", json!({ "deletionPolicy": policy })).await;
        until_owned(&shop, controls).await;
        shop.until("orders", "Issuing", "False Issued").await;
        shop.assert_quiet().await;
        let metadata = secret(&shop).await.metadata;
        let others = metadata.owner_references.unwrap_or_default().into_iter().filter(|owner| owner.controller != Some(true));
        assert_eq!(others.map(|owner| owner.name).collect::<Vec<_>>(), ["x"], "owners of others survive");
        assert_eq!(metadata.annotations.unwrap()["note"], "theirs");
    }
    assert_eq!(content(&shop.status("orders").await, &secret(&shop).await), before);
    assert_eq!(reads_of_secret(&shop), reads, "only metadata were read and written");
    shop.until_event("orders", "DeletionPolicyApplied").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
}

#[tokio::test]
async fn a_policy_is_carried_out_though_the_issuer_is_gone_and_the_object_is_suspended() {
    let shop = open("policy-alone").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    shop.until_ready("orders").await;
    shop.delete::<usercert_operator::api::CertificateIssuer>("ca").await;
    shop.until("orders", "Issuing", "False IssuerNotFound").await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    until_owned(&shop, false).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Delete", "suspend": true })).await;
    until_owned(&shop, true).await;
}

/// There is no finalizer of ours that would wait for it.
#[tokio::test]
async fn a_policy_that_is_changed_while_the_object_is_being_deleted_comes_too_late() {
    let shop = open("policy-late").await;
    shop.ca_issuer(30).await;
    let mut manifest = Shop::manifest("orders", "ca", &json!({}));
    manifest["metadata"]["finalizers"] = json!(["test/wait"]);
    shop.apply(manifest.clone()).await;
    shop.until_ready("orders").await;
    shop.delete::<DatabaseUserCertificate>("orders").await;
    manifest["spec"]["deletionPolicy"] = json!("Retain");
    shop.apply(manifest.clone()).await;
    shop.until("orders", "Issuing", "False ObjectBeingDeleted").await;
    shop.assert_quiet().await;
    assert_eq!(ownership(&shop).await, (true, None));
    manifest["metadata"]["finalizers"] = json!([]);
    shop.apply(manifest).await;
    eventually("the garbage collector deletes it", || async { shop.secret("orders").await.is_none().then_some(()) }).await;
}

/// It is held by somebody's finalizer.
#[tokio::test]
async fn an_object_that_is_being_deleted_tells_the_truth_and_gets_nothing() {
    let (shop, user) = with_user("object-going").await;
    let mut manifest = Shop::manifest("orders", "atlas", &json!({ "username": user }));
    manifest["metadata"]["finalizers"] = json!(["test/wait"]);
    shop.apply(manifest.clone()).await;
    let before = shop.until_ready("orders").await;
    shop.delete::<DatabaseUserCertificate>("orders").await;
    shop.until("orders", "Issuing", "False ObjectBeingDeleted").await;
    let message = shop.message("orders", "Issuing").await;
    assert!(message.contains("held by test/wait:"), "{message}");
    assert_a_restart_changes_nothing(&shop).await;
    shop.until("orders", "Ready", "True Issued").await;
    shop.delete::<Secret>("orders").await;
    shop.until("orders", "Ready", "False NoCertificate").await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.assert_quiet().await;
    assert!(shop.secret("orders").await.is_none());
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
    let after = shop.status("orders").await;
    assert_eq!((after.serial_number, after.issuance), (before.serial_number, None));
    manifest["metadata"]["finalizers"] = json!([]);
    shop.apply(manifest).await;
    let api = shop.api::<DatabaseUserCertificate>();
    eventually("the object is gone", || async { api.get_opt("orders").await.unwrap().is_none().then_some(()) }).await;
}

/// Another process, with nothing remembered, looks at the namespace and writes nothing.
async fn assert_a_restart_changes_nothing(shop: &Shop) {
    shop.assert_quiet().await;
    let before = shop.status("orders").await;
    let scope = Scope::Namespace(shop.namespace.clone());
    let another = Operator::new(shop.cluster.operator_config(), vec![scope], shop.endpoint.clone());
    let readiness = another.start(&tokio::runtime::Handle::current());
    eventually("its caches are filled", || async { readiness.is_ready().then_some(()) }).await;
    let has_looked = |line: &str| line.starts_with("usercert_reconcile_duration_seconds_count") && !line.ends_with(" 0");
    eventually("it has looked", || async { another.metrics.encode().unwrap().lines().any(has_looked).then_some(()) }).await;
    shop.assert_quiet().await;
    another.kill();
    assert_eq!(shop.status("orders").await, before);
}

/// It is held by somebody's finalizer.
#[tokio::test]
async fn nothing_is_minted_into_a_secret_that_is_being_deleted() {
    let (shop, user) = with_user("secret-going").await;
    certificate(&shop, "atlas", json!({ "username": user })).await;
    let before = shop.until_ready("orders").await.serial_number.unwrap();
    shop.patch_secret("orders", json!({ "metadata": { "finalizers": ["test.example.com/wait"] } })).await;
    shop.delete::<Secret>("orders").await;
    shop.until("orders", "Issuing", "False SecretBeingDeleted").await;
    shop.until_event("orders", "SecretBeingDeleted").await;
    let message = shop.message("orders", "Issuing").await;
    assert!(message.contains("held by test.example.com/wait"), "{message}");
    assert_a_restart_changes_nothing(&shop).await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.patch_secret("orders", json!({ "stringData": { "tls.crt": "garbage" } })).await;
    shop.until("orders", "Ready", "False SecretBeingDeleted").await;
    shop.assert_quiet().await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
    shop.patch_secret("orders", json!({ "metadata": { "finalizers": null } })).await;
    shop.until_new_serial("orders", &before).await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 2);
}

#[tokio::test]
async fn a_retained_secret_is_mended_as_any_other() {
    let shop = open("retained-mended").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    let serial = shop.until_ready("orders").await.serial_number;
    let good = secret(&shop).await;
    for damage in [
        json!({ "stringData": { "tls.crt": "garbage" } }),
        json!({ "metadata": { "labels": { UID: null } } }),
        json!({ "metadata": { "annotations": { RETAINED_FOR: null } } }),
        json!({ "metadata": { "annotations": { "usercert.dev/issuer": null } } }),
    ] {
        shop.patch_secret("orders", damage.clone()).await;
        shop.until_mended("orders", &good, &damage).await;
    }
    assert_eq!(shop.until_ready("orders").await.serial_number, serial);
    shop.assert_quiet().await;
    // What others add stays, and hinders nothing.
    shop.patch_secret("orders", json!({ "stringData": { "theirs": "x" } })).await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
    shop.until_new_serial("orders", &serial.unwrap()).await;
    assert_eq!(shop.value("orders", "theirs").await, "x");
    shop.patch_secret("orders", json!({ "metadata": { "annotations": { RETAINED_FOR: null } } })).await;
    until_owned(&shop, false).await;
    let emptied = shop.until_ready("orders").await.serial_number.unwrap();
    shop.patch_secret("orders", json!({ "data": { "tls.crt": "", "tls.key": "", "tls-combined.pem": null } })).await;
    shop.until_new_serial("orders", &emptied).await;
    shop.until_ready("orders").await;
}

#[tokio::test]
async fn of_two_objects_for_one_retained_secret_the_first_keeps_it() {
    let shop = open("retained-two").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    shop.until_ready("orders").await;
    let before = secret(&shop).await;
    let second = json!({ "secretName": "orders", "username": "second" });
    shop.certificate("second", "ca", second).await;
    shop.annotate("second", "usercert.dev/adopt-secret", "true").await;
    shop.until("second", "Ready", "False SecretNotOwned").await;
    shop.assert_quiet().await;
    let message = shop.message("second", "Ready").await;
    assert!(message.contains("belongs to DatabaseUserCertificate orders"), "{message}");
    assert_eq!(secret(&shop).await, before, "not while the first is there, whoever asks");
    shop.until_ready("orders").await;

    // When the first is gone, it is nobody's, and the second has asked for it.
    delete_object(&shop, &DeleteParams::background()).await;
    shop.until_event("second", "SecretAdopted").await;
    shop.until_ready("second").await;
}

#[tokio::test]
async fn a_retained_secret_waits_for_its_own_object_and_for_whoever_asks() {
    let shop = open("retained-name").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    shop.until_ready("orders").await;
    delete_object(&shop, &DeleteParams::background()).await;
    shop.certificate("second", "ca", json!({ "secretName": "orders" })).await;
    shop.until("second", "Ready", "False SecretNotOwned").await;
    let message = shop.message("second", "Ready").await;
    assert!(message.contains("is retained for the DatabaseUserCertificate orders"), "{message}");
    shop.annotate("second", "usercert.dev/adopt-secret", "true").await;
    shop.until_event("second", "SecretAdopted").await;
}

#[tokio::test]
async fn a_secret_that_an_orphaning_deletion_left_is_not_taken_up_without_being_asked_for() {
    let shop = open("orphaned").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    shop.until_ready("orders").await;
    delete_object(&shop, &DeleteParams::orphan()).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    shop.until("orders", "Ready", "False SecretNotOwned").await;
    assert!(shop.message("orders", "Ready").await.contains("usercert.dev/adopt-secret=true"));
    shop.annotate("orders", "usercert.dev/adopt-secret", "true").await;
    shop.until_ready("orders").await;
    until_owned(&shop, false).await;
}

#[tokio::test]
async fn a_secret_with_forged_marks_is_not_touched() {
    let shop = open("forged").await;
    shop.ca_issuer(30).await;
    let marks = |uid: &str| json!({ "labels": { UID: uid }, "annotations": { RETAINED_FOR: "orders" } });
    let foreign = |uid: &str| {
        let mut metadata = marks(uid);
        metadata["name"] = json!("orders");
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "password": "theirs" } })
    };
    shop.apply(foreign("0")).await;
    let before = secret(&shop).await;
    certificate(&shop, "ca", json!({ "deletionPolicy": "Retain" })).await;
    shop.until("orders", "Ready", "False SecretNotOwned").await;
    assert_eq!(secret(&shop).await, before);

    // The same with the UID of the object itself.
    let uid = shop.get("orders").await.metadata.uid.unwrap();
    shop.apply(foreign(&uid)).await;
    let before = secret(&shop).await;
    shop.assert_quiet().await;
    assert_eq!(shop.condition("orders", "Ready").await, "False SecretNotOwned");
    assert_eq!(secret(&shop).await, before);
    shop.delete::<Secret>("orders").await;
    shop.until_ready("orders").await;
    openssl(&["pkey", "-noout"], &shop.value("orders", "tls.key").await);
}

/// A pod that mounts the Secret. No node runs it here: it is one that would start.
async fn pod(shop: &Shop, name: &str, secret: &str) {
    eventually("there is a service account for pods", || async {
        shop.api::<ServiceAccount>().get_opt("default").await.unwrap()
    })
    .await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "containers": [{ "name": "app", "image": "app", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
            "volumes": [{ "name": "v", "secret": { "secretName": secret } }],
        },
    }))
    .await;
}

async fn note(shop: &Shop, reason: &str) -> Option<String> {
    let events = shop.api::<k8s_openapi::api::events::v1::Event>().list(&Default::default()).await.unwrap().items;
    let found = events.into_iter().find(|event| event.reason.as_deref() == Some(reason))?;
    assert_eq!(found.regarding.unwrap().name.as_deref(), Some("orders"));
    assert_eq!(found.type_.as_deref(), Some("Warning"));
    found.note
}

#[tokio::test]
async fn the_deletion_of_an_object_whose_secret_pods_use_is_told() {
    let shop = open("in-use").await;
    shop.ca_issuer(30).await;
    certificate(&shop, "ca", json!({})).await;
    shop.until_ready("orders").await;
    for name in ["c", "a", "d", "b"] {
        pod(&shop, name, "orders").await;
    }
    pod(&shop, "other", "other").await;
    let lists = || {
        let requests = shop.cluster.requests_of_operator(&shop.namespace);
        requests.iter().filter(|request| *request == "list pods").count()
    };
    assert_eq!(lists(), 0, "pods are no concern until then");
    delete_object(&shop, &DeleteParams::background()).await;
    let note = eventually("an Event tells", || note(&shop, "SecretInUse")).await;
    assert!(note.contains("4 running pods use it: a, b, c and 1 more"), "{note}");
    assert_eq!(lists(), 1);
}

#[tokio::test]
async fn nothing_is_said_of_pods_whose_secret_stays() {
    let shop = open("still-there").await;
    shop.ca_issuer(30).await;
    pod(&shop, "app", "orders").await;
    for (spec, parameters) in
        [(json!({ "deletionPolicy": "Retain" }), DeleteParams::background()), (json!({}), DeleteParams::orphan())]
    {
        certificate(&shop, "ca", spec).await;
        shop.until_ready("orders").await;
        delete_object(&shop, &parameters).await;
        shop.assert_quiet().await;
        assert_eq!(note(&shop, "SecretInUse").await, None);
        assert!(shop.secret("orders").await.is_some());
    }
}
