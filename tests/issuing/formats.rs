//! What the Secret holds besides the certificate: written, changed, taken out, and put right, without a new certificate.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use usercert_operator::certificate::{CertificatePair, PrivateKey};
use usercert_test_support::{atlas::X509Type, evidence, openssl::tempfile};

use crate::{
    Shop,
    authority::{Authority, P256},
    harness::eventually,
    open,
};

const OURS: [&str; 4] = ["ca.crt", "tls-combined.pem", "tls.crt", "tls.key"];

pub type Data = BTreeMap<String, Vec<u8>>;

/// Every format, under its default name.
pub fn every_format() -> Value {
    json!([{ "type": "PKCS12" }, { "type": "PKCS8DER" }, { "type": "CombinedPEM" }, { "type": "Chain" }, { "type": "CA" }])
}

fn data_of(secret: &Secret) -> Data {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

pub async fn data(shop: &Shop, name: &str) -> Data {
    shop.secret(name).await.map(|secret| data_of(&secret)).unwrap_or_default()
}

/// Waits until these are the entries, besides those that are always there.
pub async fn until_entries(shop: &Shop, name: &str, expected: &[&str]) -> Data {
    let expected: BTreeSet<&str> = expected.iter().copied().chain(OURS).collect();
    eventually(&format!("{name} has the entries {expected:?}"), || async {
        let data = data(shop, name).await;
        (data.keys().map(String::as_str).collect::<BTreeSet<_>>() == expected).then_some(data)
    })
    .await
}

pub fn pair_in(data: &Data, prefix: &str) -> CertificatePair {
    let entry = |name: &str| data[&format!("{prefix}{name}")].as_slice();
    let pair = CertificatePair::parse(entry("tls.crt"), entry("tls.key")).unwrap();
    let combined = CertificatePair::parse_combined(entry("tls-combined.pem")).unwrap();
    assert_eq!(combined.facts(), pair.facts());
    pair
}

pub fn serial(data: &Data, prefix: &str) -> String {
    pair_in(data, prefix).facts().serial_number.to_string()
}

/// The serial number in the keystore, as OpenSSL reads it with the password; `None` if it does not open.
fn keystore_serial(keystore: &[u8], password: &str) -> Option<String> {
    evidence::secret(password);
    let folder = tempfile();
    let path = folder.join("keystore.p12");
    std::fs::write(&path, keystore).unwrap();
    std::fs::write(folder.join("password"), password).unwrap();
    let pass = format!("file:{}", folder.join("password").display());
    let opened = std::process::Command::new("openssl")
        .args(["pkcs12", "-in", path.to_str().unwrap(), "-passin", &pass, "-noenc"])
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    opened.status.success().then(|| {
        let pair = CertificatePair::parse_combined(&without_attributes(&opened.stdout)).unwrap();
        pair.facts().serial_number.to_string()
    })
}

/// What `openssl pkcs12` prints between the PEM blocks is not PEM.
fn without_attributes(text: &[u8]) -> Vec<u8> {
    let mut is_inside = false;
    let mut lines = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        is_inside |= line.starts_with("-----BEGIN");
        if is_inside {
            lines.push(line.to_owned());
        }
        is_inside &= !line.starts_with("-----END");
    }
    (lines.join("\n") + "\n").into_bytes()
}

async fn until_keystore_of(shop: &Shop, name: &str, expected: &str, password: &str) {
    eventually(&format!("the keystore of {name} holds {expected}"), || async {
        let data = data(shop, name).await;
        (keystore_serial(data.get("keystore.p12")?, password)? == expected).then_some(())
    })
    .await;
}

pub async fn renew(shop: &Shop, name: &str, value: &str) -> String {
    let before = shop.status(name).await.serial_number.unwrap();
    shop.annotate(name, "usercert.dev/renew-requested-at", value).await;
    let status = shop.until_new_serial(name, &before).await;
    shop.until_ready(name).await;
    status.serial_number.unwrap()
}

/// A CA below a root, so that there is something between the certificate and the root.
async fn issuer_with_intermediate(shop: &Shop) {
    let authority = Authority::new();
    let root = authority.ca("root", "root", "/CN=root", None, &[]);
    let intermediate = authority.ca("ca", "ca", "/CN=ca", Some(("root", "root")), &[]);
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "ca" },
        "stringData": { "tls.crt": intermediate + &root, "tls.key": authority.key("ca", P256) },
    }))
    .await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
}

#[tokio::test]
async fn formats_are_written_renamed_and_taken_out_again_without_a_new_certificate() {
    let shop = open("formats").await;
    issuer_with_intermediate(&shop).await;
    shop.certificate("orders", "ca", json!({ "formats": every_format() })).await;
    let status = shop.until_ready("orders").await;
    let all = ["chain.pem", "keystore-password", "keystore.p12", "mongodb.pem", "root.crt", "tls.pk8"];
    let data = until_entries(&shop, "orders", &all).await;
    assert_eq!(data["mongodb.pem"], data["tls-combined.pem"]);
    assert_eq!(data["root.crt"], data["ca.crt"]);
    let chain = String::from_utf8(data["chain.pem"].clone()).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(String::from_utf8_lossy(&data["tls.crt"]).ends_with(&chain));
    assert_eq!(data["tls.pk8"], PrivateKey::from_pem(&data["tls.key"]).unwrap().to_pkcs8_der().to_vec());
    let password = String::from_utf8(data["keystore-password"].clone()).unwrap();
    assert_eq!(keystore_serial(&data["keystore.p12"], &password), status.serial_number);
    shop.assert_quiet().await;

    shop.patch_secret("orders", json!({ "stringData": { "theirs": "x" }, "metadata": { "labels": { "team": "db" } } })).await;
    let other_names = json!([
        { "type": "PKCS12", "key": "java.p12", "alias": "orders" }, { "type": "CA", "key": "tls.pk8" }, { "type": "PKCS8DER", "key": "root.crt" },
    ]);
    shop.certificate("orders", "ca", json!({ "formats": other_names })).await;
    let changed = until_entries(&shop, "orders", &["java.p12", "keystore-password", "root.crt", "theirs", "tls.pk8"]).await;
    assert_eq!(changed["tls.pk8"], data["ca.crt"], "two formats have changed their names");
    assert_eq!(changed["root.crt"], data["tls.pk8"]);
    assert_eq!(changed["keystore-password"], data["keystore-password"], "the password stays");
    assert_ne!(changed["java.p12"], data["keystore.p12"], "it has another alias");
    assert_eq!(keystore_serial(&changed["java.p12"], &password), status.serial_number);

    shop.certificate("orders", "ca", json!({})).await;
    until_entries(&shop, "orders", &["theirs"]).await;
    let secret = shop.secret("orders").await.unwrap();
    assert_eq!(secret.metadata.labels.unwrap()["team"], "db");
    assert!(!secret.metadata.annotations.unwrap().contains_key("usercert.dev/layout"));
    shop.until_event("orders", "SecretUpdated").await;
    assert!(!shop.events("orders").await.contains(&"SecretRepaired".to_owned()), "nothing was spoilt");
    let after = shop.until_ready("orders").await;
    assert_eq!((after.serial_number, after.history.len()), (status.serial_number, 1));
    shop.assert_quiet().await;
}

#[tokio::test]
async fn where_there_is_no_chain_and_no_ca_there_are_no_entries_for_them() {
    let shop = open("formats-atlas").await;
    shop.atlas_issuer().await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.certificate(&user, "atlas", json!({ "formats": every_format() })).await;
    let serial_number = shop.until_ready(&user).await.serial_number.unwrap();
    let data = data(&shop, &user).await;
    let names: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["keystore-password", "keystore.p12", "mongodb.pem", "tls-combined.pem", "tls.crt", "tls.key", "tls.pk8"]
    );
    let renewed = renew(&shop, &user, "1").await;
    let after = self::data(&shop, &user).await;
    assert_eq!(after["keystore-password"], data["keystore-password"], "who reads it once goes on");
    let password = String::from_utf8(after["keystore-password"].clone()).unwrap();
    assert_eq!(keystore_serial(&after["keystore.p12"], &password), Some(renewed.clone()));
    assert_ne!(renewed, serial_number);
    assert_eq!(after["mongodb.pem"], after["tls-combined.pem"]);
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 2);
    shop.assert_quiet().await;
}

#[tokio::test]
async fn what_is_damaged_of_it_is_put_right() {
    let shop = open("formats-damage").await;
    shop.ca_issuer(30).await;
    let spec = json!({
        "formats": every_format(), "keepPrevious": true,
        "secretTemplate": { "labels": { "team": "db" }, "annotations": { "note": "ours" } },
    });
    let damages = [
        json!({ "stringData": { "keystore.p12": "garbage" } }),
        json!({ "data": { "keystore.p12": null, "tls.pk8": null, "mongodb.pem": null, "root.crt": null } }),
        json!({ "stringData": { "tls.pk8": "x", "mongodb.pem": "x", "root.crt": "x", "chain.pem": "x" } }),
        json!({ "stringData": { "previous-tls.key": "garbage", "previous-tls.crt": "" } }),
        json!({ "data": { "previous-tls-combined.pem": null } }),
        json!({ "metadata": { "annotations": { "usercert.dev/previous-not-after": null } } }),
        json!({ "metadata": { "annotations": { "usercert.dev/layout": null } } }),
        json!({ "metadata": { "annotations": { "usercert.dev/layout": "garbage", "note": "theirs" } } }),
        json!({ "metadata": { "labels": { "team": null } } }),
        json!({ "metadata": { "labels": { "team": "others" } }, "data": { "keystore.p12": null } }),
    ];
    let names: Vec<String> = (0..damages.len()).map(|number| format!("damaged-{number}")).collect();
    for name in &names {
        shop.certificate(name, "ca", spec.clone()).await;
    }
    for (name, damage) in names.iter().zip(damages) {
        shop.until_ready(name).await;
        let renewed = renew(&shop, name, "1").await;
        let good = shop.secret(name).await.unwrap();
        assert_eq!(serial(&data_of(&good), ""), renewed);
        shop.patch_secret(name, damage.clone()).await;
        shop.until_mended(name, &good, &damage).await;
        shop.until_event(name, "SecretRepaired").await;
        assert_eq!(shop.until_ready(name).await.history.len(), 2, "no certificate was issued");
    }
    shop.assert_quiet().await;
}

#[tokio::test]
async fn what_cannot_be_put_right_is_made_anew_or_goes() {
    let shop = open("formats-lost").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({ "formats": [{ "type": "PKCS12" }], "keepPrevious": true })).await;
    shop.until_ready("orders").await;
    let renewed = renew(&shop, "orders", "1").await;
    let before = data(&shop, "orders").await;
    shop.patch_secret("orders", json!({ "data": { "keystore-password": null } })).await;
    let password = eventually("a new password", || async {
        let data = data(&shop, "orders").await;
        data.get("keystore-password").map(|password| String::from_utf8(password.clone()).unwrap())
    })
    .await;
    assert_ne!(password.as_bytes(), before["keystore-password"]);
    until_keystore_of(&shop, "orders", &renewed, &password).await;
    let damage = json!({ "stringData": { "previous-tls.key": "x", "previous-tls-combined.pem": "x" } });
    shop.patch_secret("orders", damage).await;
    until_entries(&shop, "orders", &["keystore-password", "keystore.p12"]).await;
    assert!(!annotations(&shop, "orders").await.contains_key("usercert.dev/previous-not-after"));
    assert_eq!(shop.until_ready("orders").await.serial_number, Some(renewed));
    shop.assert_quiet().await;
}

pub async fn annotations(shop: &Shop, name: &str) -> BTreeMap<String, String> {
    shop.secret(name).await.unwrap().metadata.annotations.unwrap_or_default()
}

#[tokio::test]
async fn a_password_that_is_missing_holds_no_certificate_back_and_its_change_is_followed() {
    let shop = open("formats-password").await;
    shop.ca_issuer(30).await;
    let format =
        json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } }, { "type": "PKCS8DER" }]);
    shop.certificate("orders", "ca", json!({ "formats": format })).await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    assert!(shop.message("orders", "Issuing").await.contains("the Secret java does not exist: create it"));
    shop.until_event("orders", "KeystorePasswordUnusable").await;
    until_entries(&shop, "orders", &["tls.pk8"]).await;
    let renewed = renew(&shop, "orders", "1").await;
    until_entries(&shop, "orders", &["tls.pk8"]).await;
    shop.assert_quiet().await;

    shop.apply_secret("java", &[("other", "x")]).await;
    until_message(&shop, "has no key password").await;
    shop.apply_secret("java", &[("password", "first-password-7Yc2")]).await;
    until_entries(&shop, "orders", &["keystore.p12", "tls.pk8"]).await;
    until_keystore_of(&shop, "orders", &renewed, "first-password-7Yc2").await;
    shop.until("orders", "Issuing", "False Issued").await;
    shop.until_event("orders", "SecretUpdated").await;
    shop.apply_secret("java", &[("password", "second-password-9Qx4")]).await;
    until_keystore_of(&shop, "orders", &renewed, "second-password-9Qx4").await;

    let version = shop.secret("orders").await.unwrap().metadata.resource_version;
    shop.patch_secret("java", json!({ "metadata": { "labels": { "touched": "yes" } } })).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    shop.assert_quiet().await;
    assert_eq!(shop.secret("orders").await.unwrap().metadata.resource_version, version, "the password is the same");

    for (password, words) in [("", "is empty"), ("line\n", "line break"), (&"x".repeat(513), "more than 512 characters")] {
        shop.patch_secret("java", json!({ "stringData": { "password": password } })).await;
        until_message(&shop, words).await;
    }
    shop.delete::<Secret>("java").await;
    until_message(&shop, "the Secret java does not exist").await;
    until_keystore_of(&shop, "orders", &renewed, "second-password-9Qx4").await;
    let again = renew(&shop, "orders", "2").await;
    assert_eq!(serial(&data(&shop, "orders").await, ""), again);
    until_keystore_of(&shop, "orders", &renewed, "second-password-9Qx4").await;
    shop.apply_secret("java", &[("password", "third-password-3Kd8")]).await;
    until_keystore_of(&shop, "orders", &again, "third-password-3Kd8").await;
    shop.until("orders", "Issuing", "False Issued").await;
    assert_eq!(shop.status("orders").await.history.len(), 3, "each was asked for");
    assert!(!shop.events("orders").await.contains(&"SecretRepaired".to_owned()), "nothing was spoilt");
    shop.assert_quiet().await;
}

async fn until_message(shop: &Shop, words: &str) {
    eventually(&format!("the condition says {words:?}"), || async {
        let message = shop.message("orders", "Issuing").await;
        (message.contains(words) && shop.condition("orders", "Issuing").await == "False KeystorePasswordUnusable").then_some(())
    })
    .await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
}

#[tokio::test]
async fn no_certificate_keeps_the_password_of_its_keystore_in_its_own_secret_by_name() {
    let shop = open("formats-own").await;
    shop.ca_issuer(30).await;
    let format = json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "orders", "key": "tls.crt" } }]);
    shop.certificate("orders", "ca", json!({ "formats": format })).await;
    until_message(&shop, "the Secret orders is the certificate's own").await;
    // From a named password to one that is made.
    shop.certificate("orders", "ca", json!({ "formats": [{ "type": "PKCS12" }] })).await;
    let data = until_entries(&shop, "orders", &["keystore-password", "keystore.p12"]).await;
    let password = String::from_utf8(data["keystore-password"].clone()).unwrap();
    assert!(keystore_serial(&data["keystore.p12"], &password).is_some());
    // And to a named one that comes later: until then the keystore opens with the password beside it.
    let format = json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } }]);
    shop.certificate("orders", "ca", json!({ "formats": format })).await;
    until_message(&shop, "the Secret java does not exist").await;
    assert_eq!(until_entries(&shop, "orders", &["keystore-password", "keystore.p12"]).await, data);
    shop.apply_secret("java", &[("password", "named-password-5Tz1")]).await;
    let data = until_entries(&shop, "orders", &["keystore.p12"]).await;
    assert!(keystore_serial(&data["keystore.p12"], "named-password-5Tz1").is_some());
    shop.assert_quiet().await;
}
