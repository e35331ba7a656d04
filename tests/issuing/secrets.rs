//! The Secret: foreign ones stay untouched, ours are mended, and nothing that works is lost.

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, ResourceQuota, Secret},
};
use kube::Api;
use serde_json::json;
use usercert_operator::api::DatabaseUserCertificate;

use crate::{
    harness::{SLOWLY, eventually, openssl},
    open,
};

#[tokio::test]
async fn a_foreign_secret_is_not_touched_and_atlas_not_asked() {
    let shop = open("foreign").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders-foreign", usercert_test_support::atlas::X509Type::Managed);
    shop.apply_secret("orders-foreign", &[("password", "theirs")]).await;
    let before = shop.secret("orders-foreign").await.unwrap();
    shop.certificate("orders-foreign", "atlas", json!({})).await;
    shop.until("orders-foreign", "Ready", "False SecretNotOwned").await;
    shop.until_event("orders-foreign", "SecretNotOwned").await;
    assert!(shop.message("orders-foreign", "Ready").await.contains("Secret orders-foreign"));
    assert_eq!(shop.secret("orders-foreign").await.unwrap(), before);
    assert!(shop.cluster.atlas.mints_of("orders-foreign").is_empty());
    shop.assert_quiet().await;
    shop.delete::<Secret>("orders-foreign").await;
    shop.until_ready("orders-foreign").await;
}

#[tokio::test]
async fn of_two_objects_for_one_secret_the_first_keeps_it() {
    let shop = open("two").await;
    shop.ca_issuer(30).await;
    shop.certificate("first", "ca", json!({ "secretName": "shared" })).await;
    shop.until_ready("first").await;
    let before = shop.secret("shared").await.unwrap();
    shop.certificate("second", "ca", json!({ "secretName": "shared" })).await;
    shop.until("second", "Ready", "False SecretNotOwned").await;
    assert!(shop.message("second", "Ready").await.contains("belongs to DatabaseUserCertificate first"));
    assert_eq!(shop.secret("shared").await.unwrap(), before);
    shop.delete::<DatabaseUserCertificate>("first").await;
    shop.until_ready("second").await;
}

#[tokio::test]
async fn a_deleted_secret_comes_back() {
    let shop = open("deleted").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    shop.delete::<Secret>("orders").await;
    shop.until_new_serial("orders", &serial).await;
    shop.until_ready("orders").await;
    openssl(&["pkey", "-noout"], &shop.value("orders", "tls.key").await);
}

#[tokio::test]
async fn an_emptied_secret_is_issued_anew_and_others_labels_survive() {
    let shop = open("emptied").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    shop.patch_secret(
        "orders",
        json!({
            "metadata": { "labels": { "team": "db" }, "annotations": { "note": "theirs" } },
            "data": { "tls.crt": "", "tls.key": "", "tls-combined.pem": null, "theirs": "eA==" },
        }),
    )
    .await;
    let status = shop.until_new_serial("orders", &serial).await;
    assert_eq!(status.history[0].reason, "PairUnusable");
    shop.until_ready("orders").await;
    let secret = shop.secret("orders").await.unwrap();
    assert_eq!(secret.metadata.labels.unwrap()["team"], "db");
    assert_eq!(secret.metadata.annotations.unwrap()["note"], "theirs");
    assert_eq!(secret.data.unwrap()["theirs"], ByteString(b"x".to_vec()));
}

#[tokio::test]
async fn what_was_spoilt_is_mended_from_what_is_left_without_a_new_certificate() {
    let shop = open("mended").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let status = shop.until_ready("orders").await;
    let good = shop.secret("orders").await.unwrap();
    let other_key = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
    let uid = "usercert.dev/certificate-uid";
    for damage in [
        json!({ "stringData": { "tls.key": other_key } }),
        json!({ "stringData": { "tls.crt": "garbage" } }),
        json!({ "data": { "tls-combined.pem": null } }),
        json!({ "stringData": { "ca.crt": "garbage" } }),
        json!({ "metadata": {
            "annotations": { "usercert.dev/serial-number": "00", "usercert.dev/issuer": null }, "labels": { uid: null },
        } }),
    ] {
        shop.patch_secret("orders", damage.clone()).await;
        shop.until_mended("orders", &good, &damage).await;
    }
    shop.until_event("orders", "SecretRepaired").await;
    let after = shop.until_ready("orders").await;
    assert_eq!(after.serial_number, status.serial_number);
    assert_eq!(after.history.len(), 1, "no certificate was issued");
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_secret_of_the_wrong_type_is_reported_and_kept_in_service() {
    let shop = open("type").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let status = shop.until_ready("orders").await;
    let mut secret = shop.secret("orders").await.unwrap();
    shop.cluster.log.text();
    secret.type_ = Some("Opaque".to_owned());
    secret.metadata.resource_version = None;
    secret.metadata.uid = None;
    // As a restore would: the owner reference comes with it.
    let api = shop.api::<Secret>();
    api.delete("orders", &Default::default()).await.unwrap();
    let created = api.create(&Default::default(), &secret).await;
    if created.is_err() {
        // The operator was quicker and has made its own: try the other way round.
        eventually("the restored one gets its place", || async {
            let _ = api.delete("orders", &Default::default()).await;
            api.create(&Default::default(), &secret).await.ok()
        })
        .await;
    }
    shop.until("orders", "Issuing", "False SecretTypeWrong").await;
    shop.until_event("orders", "SecretTypeWrong").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    assert_eq!(shop.status("orders").await.serial_number, status.serial_number, "the restored certificate is in service");
}

#[tokio::test]
async fn a_status_that_is_lost_is_rebuilt_from_the_secret() {
    let shop = open("status").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders-status", usercert_test_support::atlas::X509Type::Managed);
    shop.certificate("orders-status", "atlas", json!({})).await;
    shop.annotate("orders-status", "usercert.dev/renew-requested-at", "1").await;
    let before = shop.until_ready("orders-status").await;
    eventually("the request is handled", || async {
        (shop.status("orders-status").await.renew_request_handled.as_deref() == Some("1")).then_some(())
    })
    .await;
    let mints = shop.cluster.atlas.mints_of("orders-status").len();
    let secret = shop.secret("orders-status").await.unwrap();
    let wipe = kube::api::Patch::Merge(json!({ "status": null }));
    shop.api::<DatabaseUserCertificate>().patch_status("orders-status", &Default::default(), &wipe).await.unwrap();
    let after = eventually("the status is back", || async {
        let status = shop.status("orders-status").await;
        status.serial_number.is_some().then_some(status)
    })
    .await;
    assert_eq!(after.subject, before.subject);
    assert_eq!(shop.cluster.atlas.mints_of("orders-status").len(), mints);
    assert_eq!(shop.secret("orders-status").await.unwrap(), secret);
}

#[tokio::test]
async fn in_a_namespace_that_is_being_deleted_nothing_is_minted() {
    let shop = open("terminating").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders-late", usercert_test_support::atlas::X509Type::Managed);
    shop.until_issuer("atlas", "True IssuerReady").await;
    // A finalizer keeps the objects there, so that the operator meets the namespace in this state.
    let mut manifest = crate::Shop::manifest("orders-late", "missing", &json!({}));
    manifest["metadata"]["finalizers"] = json!(["test/wait"]);
    shop.apply(manifest).await;
    shop.until("orders-late", "Ready", "False IssuerNotFound").await;
    Api::<Namespace>::all(shop.client.clone()).delete(&shop.namespace, &Default::default()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(shop.cluster.atlas.mints_of("orders-late").is_empty());
    assert!(shop.secret("orders-late").await.is_none());
    shop.api::<DatabaseUserCertificate>()
        .patch("orders-late", &Default::default(), &kube::api::Patch::Merge(json!({ "metadata": { "finalizers": null } })))
        .await
        .unwrap();
    let namespaces = Api::<Namespace>::all(shop.client.clone());
    eventually("the namespace goes", || async { namespaces.get_opt(&shop.namespace).await.unwrap().is_none().then_some(()) })
        .await;
}

/// A certificate whose request to Atlas takes so long that a test may do something meanwhile.
async fn with_a_slow_atlas(name: &str, user: &str) -> crate::Shop {
    let shop = open(name).await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, user, usercert_test_support::atlas::X509Type::Managed);
    shop.until_issuer("atlas", "True IssuerReady").await;
    shop.cluster.atlas.fault_once(user, usercert_test_support::atlas::Fault::Delay(SLOWLY));
    shop
}

async fn until_asked(shop: &crate::Shop, user: &str, mints: usize) {
    eventually("Atlas is asked", || async { (shop.cluster.atlas.mints_of(user).len() == mints).then_some(()) }).await;
}

#[tokio::test]
async fn a_secret_that_changes_while_atlas_works_is_met_as_a_conflict_and_keeps_the_change() {
    let shop = with_a_slow_atlas("conflict", "orders-conflict").await;
    shop.cluster.atlas.clear_faults("orders-conflict");
    shop.certificate("orders-conflict", "atlas", json!({})).await;
    let serial = shop.until_ready("orders-conflict").await.serial_number.unwrap();
    shop.cluster.atlas.fault_once("orders-conflict", usercert_test_support::atlas::Fault::Delay(SLOWLY));
    shop.annotate("orders-conflict", "usercert.dev/renew-requested-at", "1").await;
    until_asked(&shop, "orders-conflict", 2).await;
    shop.patch_secret("orders-conflict", json!({ "metadata": { "annotations": { "note": "theirs" } } })).await;
    shop.until_new_serial("orders-conflict", &serial).await;
    let annotations = shop.secret("orders-conflict").await.unwrap().metadata.annotations.unwrap();
    assert_eq!(annotations["note"], "theirs");
    assert_eq!(shop.cluster.atlas.mints_of("orders-conflict").len(), 2);
    let audit = shop.cluster.control_plane.audit().unwrap();
    let conflicts = audit.iter().filter(|event| {
        event.namespace == shop.namespace && event.verb == "patch" && event.resource == "secrets" && event.code == 409
    });
    assert_eq!(conflicts.count(), 1);
}

#[tokio::test]
async fn a_foreign_secret_that_comes_while_atlas_works_stays_and_the_certificate_is_kept_for_later() {
    let shop = with_a_slow_atlas("late-foreign", "orders-raced").await;
    shop.certificate("orders-raced", "atlas", json!({})).await;
    until_asked(&shop, "orders-raced", 1).await;
    shop.apply_secret("orders-raced", &[("password", "theirs")]).await;
    let foreign = shop.secret("orders-raced").await.unwrap();
    shop.until("orders-raced", "Ready", "False SecretNotOwned").await;
    assert_eq!(shop.secret("orders-raced").await.unwrap(), foreign);
    shop.delete::<Secret>("orders-raced").await;
    shop.until_ready("orders-raced").await;
    let mints = shop.cluster.atlas.mints_of("orders-raced");
    assert_eq!(mints.len(), 1, "the certificate that was made is used");
    assert_eq!(shop.value("orders-raced", "tls.key").await, mints[0].key_pem);
    assert_eq!(shop.status("orders-raced").await.unaccounted_certificates, None);
}

/// The quota `none`, which leaves room for the Secret of the issuer alone.
pub async fn have_no_more_secrets(shop: &crate::Shop) {
    shop.apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" }, "spec": { "hard": { "count/secrets": "1" } },
    }))
    .await;
    // A quota holds from the moment on at which its use is counted.
    eventually("the quota is counted", || async { shop.api::<ResourceQuota>().get("none").await.unwrap().status?.used }).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_written_is_kept_and_only_the_write_repeated() {
    let shop = with_a_slow_atlas("unsaved", "orders-unsaved").await;
    shop.certificate("orders-unsaved", "atlas", json!({})).await;
    until_asked(&shop, "orders-unsaved", 1).await;
    have_no_more_secrets(&shop).await;
    shop.until("orders-unsaved", "Ready", "False SecretNotWritable").await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let requests = shop.cluster.requests_of_operator(&shop.namespace);
    let writes = requests.iter().filter(|request| *request == "create secrets").count();
    assert!((2..=4).contains(&writes), "it is tried again, and less and less often: {requests:?}");
    shop.delete::<ResourceQuota>("none").await;
    shop.until_ready("orders-unsaved").await;
    assert_eq!(shop.cluster.atlas.mints_of("orders-unsaved").len(), 1);
    assert_eq!(shop.status("orders-unsaved").await.issuance, None);
}

#[tokio::test]
async fn a_secret_is_adopted_when_that_is_asked_for_and_only_then() {
    let shop = open("adopt").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number;
    // As after the restore of a backup: the same Secret, and an object with another UID.
    let orphan = kube::api::DeleteParams::orphan();
    shop.api::<DatabaseUserCertificate>().delete("orders", &orphan).await.unwrap();
    eventually("the object is gone", || async {
        shop.api::<DatabaseUserCertificate>().get_opt("orders").await.unwrap().is_none().then_some(())
    })
    .await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until("orders", "Ready", "False SecretNotOwned").await;
    assert!(shop.message("orders", "Ready").await.contains("usercert.dev/adopt-secret=true"));
    shop.annotate("orders", "usercert.dev/adopt-secret", "true").await;
    assert_eq!(shop.until_ready("orders").await.serial_number, serial, "what it holds is kept");
    let secret = shop.secret("orders").await.unwrap();
    let uid = shop.get("orders").await.metadata.uid.unwrap();
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, uid);
    assert_eq!(secret.metadata.labels.unwrap()["usercert.dev/certificate-uid"], uid);

    // What another program controls is never taken.
    shop.certificate("second", "ca", json!({ "secretName": "orders" })).await;
    shop.annotate("second", "usercert.dev/adopt-secret", "true").await;
    shop.until("second", "Ready", "False SecretNotOwned").await;
    assert!(!shop.message("second", "Ready").await.contains("adopt-secret"));
}

#[tokio::test]
async fn an_immutable_secret_keeps_atlas_from_being_asked() {
    let shop = open("immutable").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders-fixed", usercert_test_support::atlas::X509Type::Managed);
    shop.certificate("orders-fixed", "atlas", json!({})).await;
    shop.until_ready("orders-fixed").await;
    shop.patch_secret("orders-fixed", json!({ "immutable": true })).await;
    shop.annotate("orders-fixed", "usercert.dev/renew-requested-at", "1").await;
    shop.until("orders-fixed", "Issuing", "False SecretNotWritable").await;
    assert!(shop.message("orders-fixed", "Issuing").await.contains("immutable"));
    assert_eq!(shop.condition("orders-fixed", "Ready").await, "True Issued");
    assert_eq!(shop.cluster.atlas.mints_of("orders-fixed").len(), 1);
}

#[tokio::test]
async fn a_quota_that_forbids_the_secret_keeps_atlas_from_being_asked() {
    let shop = open("quota").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders-quota", usercert_test_support::atlas::X509Type::Managed);
    shop.apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" }, "spec": { "hard": { "count/secrets": "1" } },
    }))
    .await;
    eventually("the quota is counted", || async {
        let api = shop.api::<k8s_openapi::api::core::v1::ResourceQuota>();
        api.get("none").await.unwrap().status?.used?.contains_key("count/secrets").then_some(())
    })
    .await;
    shop.certificate("orders-quota", "atlas", json!({})).await;
    shop.until("orders-quota", "Ready", "False SecretNotWritable").await;
    assert!(shop.message("orders-quota", "Ready").await.contains("quota"));
    assert!(shop.cluster.atlas.mints_of("orders-quota").is_empty());
}

#[tokio::test]
async fn whoever_keeps_changing_the_secret_is_named_and_not_fought() {
    let shop = open("contested").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let status = shop.until_ready("orders").await;
    for number in 0..6 {
        if shop.condition("orders", "Issuing").await == "False SecretContested" {
            break;
        }
        let patch = json!({ "stringData": { "tls-combined.pem": "theirs" } });
        let parameters = kube::api::PatchParams { field_manager: Some("meddler".into()), ..Default::default() };
        shop.api::<Secret>().patch("orders", &parameters, &kube::api::Patch::Merge(patch)).await.unwrap();
        eventually(&format!("repair {number}, or the brake"), || async {
            let braked = shop.condition("orders", "Issuing").await == "False SecretContested";
            (braked || shop.value("orders", "tls-combined.pem").await != "theirs").then_some(())
        })
        .await;
    }
    shop.until("orders", "Issuing", "False SecretContested").await;
    shop.until_event("orders", "SecretContested").await;
    assert!(shop.message("orders", "Issuing").await.contains("meddler"));
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    assert_eq!(shop.status("orders").await.serial_number, status.serial_number);
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_repair_that_is_refused_is_reported_and_waits() {
    let shop = open("unrepairable").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let status = shop.until_ready("orders").await;
    shop.patch_secret("orders", json!({ "immutable": true, "data": { "tls-combined.pem": null } })).await;
    shop.until("orders", "Issuing", "False SecretNotWritable").await;
    assert!(shop.message("orders", "Issuing").await.contains("immutable"));
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued", "its pair works");
    assert_eq!(shop.status("orders").await.serial_number, status.serial_number);
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_spec_that_is_changed_back_while_atlas_works_keeps_its_working_certificate() {
    let shop = with_a_slow_atlas("reverted", "orders-reverted").await;
    shop.cluster.atlas.add_user(&shop.project, "orders-steady", usercert_test_support::atlas::X509Type::Managed);
    shop.certificate("orders", "atlas", json!({ "username": "orders-steady" })).await;
    let status = shop.until_ready("orders").await;
    let pair = shop.secret("orders").await.unwrap().data;
    shop.certificate("orders", "atlas", json!({ "username": "orders-reverted" })).await;
    until_asked(&shop, "orders-reverted", 1).await;
    shop.certificate("orders", "atlas", json!({ "username": "orders-steady" })).await;
    eventually("the other certificate is counted", || async { (shop.unaccounted("orders").await == 1).then_some(()) }).await;
    shop.until("orders", "Issuing", "False Issued").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    assert_eq!(shop.status("orders").await.serial_number, status.serial_number);
    assert_eq!(shop.secret("orders").await.unwrap().data, pair, "the Secret was not touched");
    assert_eq!(shop.cluster.atlas.mints_of("orders-reverted").len(), 1);
    assert_eq!(shop.cluster.atlas.mints_of("orders-steady").len(), 1);
}
