//! Renewals, suspensions, new objects, and Secrets that are taken over.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use usercert_cli::exit::Exit;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::atlas::X509Type;

use super::{
    CLUSTER, Shop,
    harness::{new_ca, openssl},
    usercert,
};

#[tokio::test(flavor = "multi_thread")]
async fn renewals_are_asked_for_and_waited_for_within_the_brake() {
    let shop = Shop::open(&CLUSTER, "renewals").await;
    shop.ca_issuer(3650).await;
    for name in ["orders", "bills"] {
        shop.certificate(name, "ca", json!({})).await;
        shop.until_ready(name).await;
    }
    let before = shop.status("orders").await.serial_number.unwrap();
    let tried = usercert(&shop, &["renew", "--all", "--dry-run"]).await;
    tried.says(Exit::Good, &["bills    would be asked for", "orders   would be asked for", "2 certificates, 0 not renewed"]);
    assert_eq!(shop.status("orders").await.serial_number.as_ref(), Some(&before), "a dry run changes nothing");

    let renewed = usercert(&shop, &["renew", "orders", "--wait"]).await;
    let after = shop.status("orders").await.serial_number.unwrap();
    renewed.says(Exit::Good, &[&format!("renewed: certificate {after}")]);
    assert_ne!(before, after);

    // Whoever repeats a run by its value asks for nothing twice.
    let value = shop.status("orders").await.renew_request_handled.unwrap();
    let again = usercert(&shop, &["renew", "orders", "--wait", "--continue", &value]).await;
    again.says(Exit::Good, &[&format!("renewed: certificate {after}")]);
    assert_eq!(shop.status("orders").await.serial_number.as_ref(), Some(&after), "nothing was renewed again");

    usercert(&shop, &["suspend", "bills"]).await.says(Exit::Good, &["/bills is now suspended"]);
    usercert(&shop, &["suspend", "bills"]).await.says(Exit::Good, &["/bills already suspended"]);
    shop.until("bills", "Issuing", "False Suspended").await;
    usercert(&shop, &["renew", "--all", "--wait", "--at-most", "1000/s"]).await.says(
        Exit::Attention,
        &["bills    not: the object is suspended", "orders   renewed: certificate", "2 certificates, 1 not renewed"],
    );
    usercert(&shop, &["resume", "--all"]).await.says(Exit::Good, &["/bills is now resumed", "/orders already resumed"]);
    for _ in 0..3 {
        usercert(&shop, &["renew", "orders", "--wait"]).await.says(Exit::Good, &["renewed: certificate"]);
    }
    usercert(&shop, &["renew", "orders", "--wait"]).await.says(Exit::Attention, &["5 renewals were forced within an hour"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_atlas_refuses_is_told_by_who_waits() {
    let shop = Shop::open(&CLUSTER, "refusals").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    shop.atlas.remove_user(&shop.project, &name);
    let said = usercert(&shop, &["renew", &name, "--wait", "--timeout", "20s"]).await;
    said.says(Exit::Attention, &["not: ", "AtlasUserNotFound"]);
    // The API server tells that the failure came after the request, so a run that is continued need not wait for the next one.
    let asked = shop.certificates().await;
    let value = &asked[0].metadata.annotations.as_ref().unwrap()["usercert.dev/renew-requested-at"];
    let continued = usercert(&shop, &["renew", &name, "--continue", value]).await;
    continued.says(Exit::Attention, &["not: AtlasUserNotFound"]);
    usercert(&shop, &["status", "--failing"]).await.says(Exit::Attention, &["Renewal fails", "AtlasUserNotFound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_created_and_waited_for() {
    let shop = Shop::open(&CLUSTER, "created").await;
    shop.ca_issuer(3650).await;
    let arguments = ["create", "orders", "--username", "orders", "--issuer", "ca", "--duration", "48h"];
    let shown = usercert(&shop, &[&arguments[..], &["--dry-run"]].concat()).await;
    shown.says(Exit::Good, &["kind: DatabaseUserCertificate", "duration: 48h"]);
    assert!(shop.certificates().await.is_empty(), "a dry run creates nothing");
    let said = usercert(&shop, &[&arguments[..], &["--wait"]].concat()).await;
    said.says(Exit::Good, &["/orders is ready: the Secret orders holds the certificate"]);
    usercert(&shop, &arguments).await.says(Exit::CouldNotAsk, &["already exists"]);
    let bad = ["create", "bills", "--username", "..", "--issuer", "ca"];
    usercert(&shop, &bad).await.says(Exit::CouldNotAsk, &["username must not be"]);
}

/// A certificate for this subject that the CA of the shop signed, and its key.
pub async fn signed_by_ca(shop: &Shop, subject: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("ca.crt"), shop.value("ca", "tls.crt").await).unwrap();
    std::fs::write(file("ca.key"), shop.value("ca", "tls.key").await).unwrap();
    std::fs::write(file("extensions"), "extendedKeyUsage=clientAuth\n").unwrap();
    let key = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "");
    std::fs::write(file("key"), &key).unwrap();
    openssl(&["req", "-new", "-key", &file("key"), "-subj", subject, "-out", &file("request")], "");
    let (request, ca, ca_key, extensions) = (file("request"), file("ca.crt"), file("ca.key"), file("extensions"));
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-days", "90", "-extfile", &extensions];
    // cert-manager writes RSA keys as PKCS#1 unless its privateKey.encoding says otherwise.
    (openssl(&sign, ""), openssl(&["rsa", "-traditional"], &key))
}

/// Neither the Secret was changed nor an object made.
pub async fn expect_untouched(shop: &Shop, secret: &str, resource_version: Option<&str>) {
    assert_eq!(shop.secret(secret).await.unwrap().metadata.resource_version.as_deref(), resource_version);
    assert!(shop.certificates().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_cert_manager_is_taken_over_with_its_certificate() {
    let shop = Shop::open(&CLUSTER, "migrated").await;
    let ca = shop.ca_issuer(3650).await;
    let (certificate, key) = signed_by_ca(&shop, "/O=Acme/CN=orders").await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "orders-tls", "annotations": { "cert-manager.io/certificate-name": "orders" } },
        "stringData": { "tls.crt": certificate, "tls.key": key, "ca.crt": ca },
    }))
    .await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let before = shop.secret("orders-tls").await.unwrap();
    let migrate = ["migrate", "orders-tls", "--issuer", "ca"];
    let shown = usercert(&shop, &migrate).await;
    shown.says(Exit::Good, &["CN=orders,O=Acme", "secretName: orders-tls", "algorithm: RSA", "Nothing was changed", "--yes"]);
    assert_eq!(shop.secret("orders-tls").await.unwrap().metadata.resource_version, before.metadata.resource_version);
    assert!(shop.certificates().await.is_empty());

    let done = usercert(&shop, &[&migrate[..], &["--yes"]].concat()).await;
    done.says(Exit::Good, &["/orders-tls has taken over the Secret orders-tls, with certificate"]);
    shop.until("orders-tls", "Issuing", "False Issued").await;
    let after = shop.secret("orders-tls").await.unwrap();
    let value = |secret: &Secret, key: &str| secret.data.as_ref().unwrap().get(key).cloned();
    let as_pkcs8 = |key: &str| openssl(&["pkey"], key);
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    assert_eq!(as_pkcs8(&shop.value("orders-tls", "tls.key").await), as_pkcs8(&key), "the key is the same");
    assert_eq!(shop.value("orders-tls", "tls.crt").await.trim(), certificate.trim(), "the certificate is the same");
    assert!(value(&after, "tls-combined.pem").is_some(), "the operator completes the Secret");
    assert_eq!(shop.status("orders-tls").await.history.len(), 1);
    usercert(&shop, &[&migrate[..], &["--yes"]].concat()).await.says(Exit::CouldNotAsk, &["is the operator's already"]);
    shop.apply_secret("opaque", &[("tls.crt", &certificate), ("tls.key", &key)]).await;
    usercert(&shop, &["migrate", "opaque", "--issuer", "ca"])
        .await
        .says(Exit::CouldNotAsk, &["cannot be taken over", "its type is"]);
    usercert(&shop, &["migrate", "opaque", "--issuer", "none"])
        .await
        .says(Exit::CouldNotAsk, &["there is no CertificateIssuer none"]);
    // The way back.
    shop.delete::<DatabaseUserCertificate>("orders-tls").await;
    assert_eq!(shop.value("orders-tls", "tls.crt").await.trim(), certificate.trim(), "the Secret stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_not_taken_over_where_its_pair_would_be_replaced_or_lost() {
    let shop = Shop::open(&CLUSTER, "unmigrated").await;
    let ca = shop.ca_issuer(3650).await;
    let (certificate, key) = signed_by_ca(&shop, "/O=Acme/CN=orders").await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "orders-tls", "annotations": { "meta.helm.sh/release-name": "shop" } },
        "stringData": { "tls.crt": certificate, "tls.key": key, "ca.crt": ca },
    }))
    .await;
    let (other, other_key) = new_ca(3650);
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "other" },
        "stringData": { "tls.crt": other, "tls.key": other_key },
    }))
    .await;
    for (name, spec) in [
        ("other", json!({ "secretName": "other" })),
        ("strict", json!({ "secretName": "ca", "forbiddenSubjects": ["O=Acme"] })),
    ] {
        shop.apply(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": name }, "spec": { "ca": spec },
        }))
        .await;
        shop.until_issuer(name, "True IssuerReady").await;
    }
    let before = shop.secret("orders-tls").await.unwrap().metadata.resource_version;
    for (issuer, expected) in [
        ("other", "the issuer has another CA"),
        ("strict", "would not be renewed, IssuerNotAllowed"),
        ("ca", "Helm has made the Secret"),
    ] {
        let migrate = ["migrate", "orders-tls", "--issuer", issuer];
        usercert(&shop, &migrate).await.says(Exit::Attention, &["In the way", expected, "Change what is in the way"]);
        let refused = usercert(&shop, &[&migrate[..], &["--yes", "--accept-new-certificate"]].concat()).await;
        refused.says(Exit::CouldNotAsk, &["nothing was changed", expected]);
    }
    expect_untouched(&shop, "orders-tls", before.as_deref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_with_an_owner_is_taken_over_once_it_has_none() {
    let shop = Shop::open(&CLUSTER, "owned").await;
    let ca = shop.ca_issuer(3650).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let (certificate, key) = signed_by_ca(&shop, "/CN=orders").await;
    let owner = shop.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "script" } })).await;
    let owners = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "script", "uid": owner.metadata.uid }]);
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "orders-tls", "ownerReferences": owners },
        "stringData": { "tls.crt": certificate, "tls.key": key, "ca.crt": ca },
    }))
    .await;
    let before = shop.secret("orders-tls").await.unwrap().metadata.resource_version;
    let migrate = ["migrate", "orders-tls", "--issuer", "ca"];
    let expected = "is owned by ConfigMap script, and the garbage collector deletes it with the last of its owners";
    usercert(&shop, &migrate).await.says(Exit::Attention, &["In the way", expected, "Change what is in the way"]);
    let refused = usercert(&shop, &[&migrate[..], &["--yes", "--accept-former-writer", "--accept-loss"]].concat()).await;
    refused.says(Exit::CouldNotAsk, &["nothing was changed", expected]);
    expect_untouched(&shop, "orders-tls", before.as_deref()).await;
    shop.patch_secret("orders-tls", json!({ "metadata": { "ownerReferences": null } })).await;
    let done = usercert(&shop, &[&migrate[..], &["--yes"]].concat()).await;
    done.says(Exit::Good, &["has taken over the Secret orders-tls, with certificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_terraform_filled_from_atlas_is_taken_over_without_a_mint() {
    let shop = Shop::open(&CLUSTER, "terraformed").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    // The certificate is made by the operator for another object, and copied as Terraform would have written it.
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    let (certificate, key) = (shop.value(&name, "tls.crt").await, shop.value(&name, "tls.key").await);
    shop.delete::<DatabaseUserCertificate>(&name).await;
    let secret = json!({
        "type": "kubernetes.io/tls", "metadata": { "name": "from-terraform" }, "stringData": { "tls.crt": certificate, "tls.key": key },
    });
    let by_terraform = PostParams { field_manager: Some("HashiCorp".to_owned()), ..PostParams::default() };
    shop.api::<Secret>().create(&by_terraform, &serde_json::from_value(secret).unwrap()).await.unwrap();
    let before = shop.secret("from-terraform").await.unwrap().metadata.resource_version;
    let mints = shop.atlas.mints_of(&name).len();
    let migrate = ["migrate", "from-terraform", "--issuer", "atlas"];
    let expected = "take the resource out of the state without destroying it";
    let shown = usercert(&shop, &migrate).await;
    shown.says(Exit::Attention, &["In the way", expected, "Give --yes --accept-former-writer to do it all the same"]);
    let refused = usercert(&shop, &[&migrate[..], &["--yes", "--accept-loss"]].concat()).await;
    refused.says(Exit::CouldNotAsk, &["nothing was changed", expected]);
    assert_eq!(shop.secret("from-terraform").await.unwrap().metadata.resource_version, before);
    let done = usercert(&shop, &[&migrate[..], &["--yes", "--accept-former-writer"]].concat()).await;
    done.says(Exit::Good, &["has taken over the Secret from-terraform, with certificate"]);
    shop.until("from-terraform", "Issuing", "False Issued").await;
    assert_eq!(shop.atlas.mints_of(&name).len(), mints, "nothing was minted");
    assert_eq!(shop.value("from-terraform", "tls.key").await, key);
    assert!(!shop.get("from-terraform").await.spec.keep_previous, "the flag says nothing of the certificate");
}
