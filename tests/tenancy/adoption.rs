//! `usercert.dev/adopt-secret` takes nothing that this operator did not write.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use usercert_operator::api::{CertificateIssuer, DatabaseUserCertificate};

use crate::{
    harness::{Shop, new_ca, openssl},
    stage::Stage,
};

const LABEL: &str = "usercert.dev/certificate-uid";
const RETAINED_FOR: &str = "usercert.dev/retained-for";

pub async fn no_secret_of_another_is_adopted_overwritten_or_deleted(stage: &'static Stage) {
    let shop = stage.tenant("adopting").await;
    shop.ca_issuer(300).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let server = server_certificate();
    let tls = |data: &(String, String)| json!({ "tls.crt": data.0, "tls.key": data.1 });
    let our_label = json!({ LABEL: "0" });
    for (what, name, type_, labels, data) in [
        ("an ingress's Secret", "ingress-tls", "kubernetes.io/tls", json!({}), tls(&server)),
        ("the same with our label", "ingress-labelled", "kubernetes.io/tls", our_label.clone(), tls(&server)),
        ("a password", "db-password", "Opaque", json!({}), json!({ "password": "theirs" })),
        ("the same with our label", "password-labelled", "Opaque", our_label.clone(), json!({ "password": "theirs" })),
        ("another CA with our label", "other-ca", "kubernetes.io/tls", our_label.clone(), tls(&new_ca(30))),
    ] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_, "metadata": { "name": name, "labels": labels }, "stringData": data,
        });
        shop.apply(secret).await;
        stage.attempt(5, &format!("adopt {what} ({name})"), not_adopted(&shop, name)).await;
    }
    stage.attempt(5, "adopt the issuer's own CA (ca)", not_adopted(&shop, "ca")).await;
    let labelled = json!({ "metadata": { "labels": our_label } });
    shop.patch_secret("ca", labelled).await;
    stage.attempt(5, "adopt the issuer's own CA with our label on it", not_adopted(&shop, "ca")).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    stage.attempt(5, "take the place of a CA that is yet to come", nothing_is_made_where_a_ca_is_awaited(&shop)).await;
}

/// Whoever may write a Secret may write the marks of a retained one, with the UID of an object as with any other.
pub async fn no_secret_of_another_is_taken_for_a_retained_one(stage: &'static Stage) {
    let server = server_certificate();
    let tls = |data: &(String, String)| json!({ "tls.crt": data.0, "tls.key": data.1 });
    let client = || {
        let (certificate, key) = certificate_for("clientAuth");
        json!({ "tls.crt": certificate, "tls.key": key, "password": "theirs" })
    };
    let record = json!({ "usercert.dev/layout": json!({ "digest": "0", "entries": ["password"] }).to_string() });
    let attempts = [
        ("an ingress's Secret", "ingress-tls", "kubernetes.io/tls", json!({}), tls(&server)),
        (
            "a TLS Secret that nobody can read",
            "unread",
            "kubernetes.io/tls",
            json!({}),
            json!({ "tls.crt": "x", "tls.key": "y" }),
        ),
        ("a password", "db-password", "Opaque", json!({}), json!({ "password": "theirs" })),
        ("another CA", "other-ca", "kubernetes.io/tls", json!({}), tls(&new_ca(30))),
        ("a client certificate with a password", "client-password", "kubernetes.io/tls", json!({}), client()),
        ("the same with a record that names it", "recorded-password", "kubernetes.io/tls", record, client()),
    ];
    // Each has a namespace of its own, so that they can go on side by side.
    let mut places = Vec::new();
    for (what, name, type_, annotations, data) in attempts {
        let shop = retaining(stage, name).await;
        shop.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_, "metadata": { "name": name, "annotations": annotations },
            "stringData": data,
        }))
        .await;
        places.push((what, name, shop));
    }
    places.push(("the issuer's own CA", "ca", retaining(stage, "ca").await));
    let live = retaining(stage, "live").await;
    let attempts = places.iter().map(|(what, name, shop)| async move {
        stage.attempt(5, &format!("have {what} taken for one's retained Secret ({name})"), not_taken_up(shop, name)).await;
        shop.until_issuer("ca", "True IssuerReady").await;
    });
    let of_live = stage.attempt(5, "take another object's live Secret with forged marks", live_secret_is_not_taken(&live));
    tokio::join!(join_all(attempts), of_live);
}

/// A tenant with a CA.
async fn retaining(stage: &Stage, what: &str) -> Shop {
    let shop = stage.tenant(&format!("retaining-{what}")).await;
    shop.ca_issuer(300).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    shop
}

/// An object that finds this Secret with its own name on it, and then with its own UID too, gets nothing.
async fn not_taken_up(shop: &Shop, secret: &str) -> String {
    let mark = |uid: &str| json!({ "metadata": { "labels": { LABEL: uid }, "annotations": { RETAINED_FOR: secret } } });
    shop.patch_secret(secret, mark("0")).await;
    let mut before = shop.secret(secret).await.unwrap();
    for policy in ["Retain", "Delete"] {
        shop.certificate(secret, "ca", json!({ "deletionPolicy": policy })).await;
        shop.until(secret, "Ready", "False SecretNotOwned").await;
        assert_eq!(shop.secret(secret).await.unwrap(), before);
        shop.patch_secret(secret, mark(&shop.get(secret).await.metadata.uid.unwrap())).await;
        before = shop.secret(secret).await.unwrap();
        shop.assert_quiet().await;
        assert_eq!(shop.condition(secret, "Ready").await, "False SecretNotOwned");
        assert_eq!(shop.secret(secret).await.unwrap(), before);
        shop.delete::<DatabaseUserCertificate>(secret).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(shop.secret(secret).await.unwrap(), before);
    }
    "SecretNotOwned, the Secret is untouched".to_owned()
}

/// The Secret of `first` gets the name of `second` as that of the object that it is retained for.
async fn live_secret_is_not_taken(shop: &Shop) -> String {
    shop.certificate("first", "ca", json!({ "deletionPolicy": "Retain" })).await;
    let serial = shop.until_ready("first").await.serial_number;
    shop.certificate("second", "ca", json!({ "secretName": "first", "deletionPolicy": "Retain" })).await;
    shop.annotate("second", "usercert.dev/adopt-secret", "true").await;
    shop.patch_secret("first", json!({ "metadata": { "annotations": { RETAINED_FOR: "second" } } })).await;
    shop.until("second", "Ready", "False SecretNotOwned").await;
    crate::harness::eventually("the annotation is put back", || async {
        (shop.secret("first").await?.metadata.annotations?[RETAINED_FOR] == "first").then_some(())
    })
    .await;
    shop.assert_quiet().await;
    let label = shop.secret("first").await.unwrap().metadata.labels.unwrap()[LABEL].clone();
    assert_eq!(Some(label), shop.get("first").await.metadata.uid);
    assert_eq!(shop.until_ready("first").await.serial_number, serial);
    "SecretNotOwned, the Secret stays its object's".to_owned()
}

/// A Secret of ours under the name of an issuer's would overwrite what is put there later, and take it along when it goes.
async fn nothing_is_made_where_a_ca_is_awaited(shop: &Shop) -> String {
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "awaiting" },
        "spec": { "ca": { "secretName": "to-come" } },
    }))
    .await;
    shop.until_issuer("awaiting", "False CaNotFound").await;
    shop.certificate("to-come", "ca", json!({})).await;
    shop.until("to-come", "Ready", "False SecretNotOwned").await;
    shop.assert_quiet().await;
    assert_eq!(shop.secret("to-come").await, None);
    shop.delete::<CertificateIssuer>("awaiting").await;
    shop.until_ready("to-come").await;
    "SecretNotOwned, no Secret".to_owned()
}

/// An object that asks to adopt this Secret gets nothing, and its deletion takes nothing.
async fn not_adopted(shop: &Shop, secret: &str) -> String {
    let before = shop.secret(secret).await.unwrap();
    let mut manifest = Shop::manifest(secret, "ca", &json!({}));
    manifest["metadata"]["annotations"] = json!({ "usercert.dev/adopt-secret": "true" });
    shop.apply(manifest).await;
    shop.until(secret, "Ready", "False SecretNotOwned").await;
    shop.until_event(secret, "SecretNotOwned").await;
    let message = shop.message(secret, "Ready").await;
    assert!(!message.contains("adopt-secret"), "no advice that would not work: {message}");
    assert!(secret != "ca" || !message.contains("delete"), "nobody is told to delete a CA: {message}");
    shop.delete::<DatabaseUserCertificate>(secret).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(shop.secret(secret).await.unwrap(), before);
    "SecretNotOwned, the Secret is untouched".to_owned()
}

/// Certificate and key of a web server.
fn server_certificate() -> (String, String) {
    certificate_for("serverAuth")
}

/// Certificate and key for this use.
fn certificate_for(usage: &str) -> (String, String) {
    let key = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
    let usage = format!("extendedKeyUsage={usage}");
    let arguments = [
        "req",
        "-x509",
        "-key",
        "/dev/stdin",
        "-subj",
        "/CN=shop.example",
        "-addext",
        &usage,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    (openssl(&arguments, &key), key)
}

/// As a backup brings a Secret back: the same content, and an object with another UID. It is adopted as it is.
pub async fn adopt_own(shop: &Shop, name: &str) {
    let before: Secret = shop.secret(name).await.unwrap();
    let orphan = kube::api::DeleteParams::orphan();
    shop.api::<DatabaseUserCertificate>().delete(name, &orphan).await.unwrap();
    crate::harness::eventually("the object is gone", || async {
        shop.api::<DatabaseUserCertificate>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
    let mut manifest: Value = Shop::manifest(name, "ca", &json!({}));
    manifest["metadata"]["annotations"] = json!({ "usercert.dev/adopt-secret": "true" });
    shop.apply(manifest).await;
    shop.until_event(name, "SecretAdopted").await;
    shop.until_ready(name).await;
    assert_eq!(shop.secret(name).await.unwrap().data, before.data);
}
