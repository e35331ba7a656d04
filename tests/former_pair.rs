//! What a Secret holds besides its certificate, in an operator of its own: its clock is moved, it is started again, and the API server
//! does not let it read the Secret that a renewal replaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{Cluster, Options, Shop, eventually};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use usercert_operator::{api::DatabaseUserCertificate, certificate::CertificatePair};
use usercert_test_support::{
    atlas::{DigestAlgorithm, X509Type},
    fault_proxy::{Asked, Fault, Moment},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// A namespace with an operator for it alone, which reaches the API server through a proxy.
struct Bench(harness::Bench);

impl std::ops::Deref for Bench {
    type Target = harness::Bench;
    fn deref(&self) -> &harness::Bench {
        &self.0
    }
}

impl Bench {
    async fn open(name: &str) -> Self {
        Self(harness::Bench::open(&CLUSTER, name).await)
    }

    /// A certificate of a CA with a keystore, which was renewed once.
    async fn renewed(&self, spec: Value) -> String {
        self.shop.ca_issuer(3650).await;
        self.shop.certificate("orders", "ca", spec).await;
        self.shop.until_ready("orders").await;
        self.renew("1").await
    }

    async fn renew(&self, value: &str) -> String {
        let before = self.shop.status("orders").await.serial_number.unwrap();
        self.shop.annotate("orders", "usercert.dev/renew-requested-at", value).await;
        let status = self.shop.until_new_serial("orders", &before).await;
        status.serial_number.unwrap()
    }

    /// The serial number of a pair in the Secret; `None` if there is none.
    async fn serial(&self, prefix: &str) -> Option<String> {
        let certificate = self.shop.value("orders", &format!("{prefix}tls.crt")).await;
        let key = self.shop.value("orders", &format!("{prefix}tls.key")).await;
        let pair = CertificatePair::parse(certificate.as_bytes(), key.as_bytes()).ok()?;
        Some(pair.facts().serial_number.to_string())
    }

    /// Waits until nothing was asked of the API server for two seconds.
    async fn until_calm(&self) {
        let last = AtomicUsize::new(usize::MAX);
        eventually("nothing more is asked for", || async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let asked = self.proxy.asked_count();
            (last.swap(asked, Ordering::SeqCst) == asked).then_some(())
        })
        .await;
    }

    /// Whether the keystore holds the present certificate and opens with the password beside it.
    async fn keystore_is_current(&self) -> bool {
        let secret = self.shop.secret("orders").await.unwrap().data.unwrap();
        let Some(keystore) = secret.get("keystore.p12") else { return false };
        let folder = usercert_test_support::openssl::tempfile();
        std::fs::write(folder.join("keystore.p12"), &keystore.0).unwrap();
        std::fs::write(folder.join("password"), &secret["keystore-password"].0).unwrap();
        usercert_test_support::evidence::secret(&String::from_utf8_lossy(&secret["keystore-password"].0));
        let opened = std::process::Command::new("openssl")
            .args(["pkcs12", "-clcerts", "-nokeys", "-in", "keystore.p12", "-passin", "file:password"])
            .current_dir(&folder)
            .output()
            .unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        let certificate = String::from_utf8_lossy(&opened.stdout).into_owned();
        let Some(start) = certificate.find("-----BEGIN") else { return false };
        String::from_utf8_lossy(&secret["tls.crt"].0).starts_with(&certificate[start..])
    }
}

fn is_read_of_secret(asked: &Asked) -> bool {
    asked.method == "GET" && asked.target.split('?').next().unwrap().ends_with("/secrets/orders")
}

fn spec() -> Value {
    json!({ "keepPrevious": true, "formats": [{ "type": "PKCS12" }] })
}

#[rstest]
#[case::cut("cut", Fault::Cut(Moment::Before))]
#[case::refused("refused", Fault::Refuse(Moment::Before, 503))]
#[case::halved("halved", Fault::Halve)]
#[case::hanging("hanging", Fault::Hang)]
#[tokio::test]
async fn one_read_that_fails_costs_nothing(#[case] name: &str, #[case] fault: Fault) {
    let bench = Bench::open(&format!("read-{name}")).await;
    let former = bench.renewed(spec()).await;
    let password = bench.shop.value("orders", "keystore-password").await;
    let played = AtomicUsize::new(0);
    bench
        .proxy
        .plan(move |asked| (is_read_of_secret(asked) && played.fetch_add(1, Ordering::SeqCst) == 0).then(|| fault.clone()));
    let renewed = bench.renew("2").await;
    assert_eq!(bench.serial("").await, Some(renewed));
    assert_eq!(bench.serial("previous-").await, Some(former));
    assert_eq!(bench.shop.value("orders", "keystore-password").await, password);
    assert!(bench.keystore_is_current().await);
    assert_eq!(bench.proxy.played().values().sum::<usize>(), 1);
}

#[tokio::test]
async fn reads_that_go_on_failing_do_not_hold_the_new_certificate_back() {
    let bench = Bench::open("reads").await;
    let former = bench.renewed(spec()).await;
    let before = bench.serial("previous-").await;
    let password = bench.shop.value("orders", "keystore-password").await;
    bench.proxy.plan(|asked| is_read_of_secret(asked).then_some(Fault::Refuse(Moment::Before, 500)));
    let started = Instant::now();
    let serial = bench.shop.status("orders").await.serial_number.unwrap();
    bench.shop.annotate("orders", "usercert.dev/renew-requested-at", "2").await;
    eventually("the new certificate is in the Secret", || async {
        (bench.serial("").await.as_ref() != Some(&serial)).then_some(())
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(serial, former);
    assert_eq!(bench.serial("previous-").await, before, "what nobody could read stays as it was");
    assert!(!bench.keystore_is_current().await);
    bench.proxy.clear();
    eventually("the keystore follows", || async { bench.keystore_is_current().await.then_some(()) }).await;
    assert_eq!(bench.shop.value("orders", "keystore-password").await, password, "it opens with the password that it had");
    let status = bench.shop.until_ready("orders").await;
    assert_eq!(status.history.len(), 3, "each was asked for: {:?}", status.history);
}

#[tokio::test]
async fn a_changed_password_holds_no_renewal_back_while_the_secret_cannot_be_read() {
    let bench = Bench::open("changed-password").await;
    let shop = &bench.shop;
    shop.apply_secret("java", &[("password", "before-password-1Ab2")]).await;
    let format = json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } }]);
    let before = bench.renewed(json!({ "formats": format })).await;
    bench.proxy.plan(|asked| is_read_of_secret(asked).then_some(Fault::Refuse(Moment::Before, 500)));
    shop.apply_secret("java", &[("password", "after-password-3Cd4")]).await;
    eventually("the change is noticed", || async { (!bench.proxy.played().is_empty()).then_some(()) }).await;
    let renewed = bench.renew("2").await;
    assert_ne!(renewed, before);
    assert_eq!(bench.serial("").await, Some(renewed), "it is written, with the keystore for the new password");
    bench.proxy.clear();
    shop.until("orders", "Issuing", "False Issued").await;
}

#[rstest]
#[case::cut("cut", Fault::Cut(Moment::Before))]
#[case::refused("refused", Fault::Refuse(Moment::Before, 500))]
#[case::halved("halved", Fault::Halve)]
#[tokio::test]
async fn a_password_that_cannot_be_read_for_once_is_read_again(#[case] name: &str, #[case] fault: Fault) {
    let bench = Bench::open(&format!("password-{name}")).await;
    let shop = &bench.shop;
    shop.ca_issuer(30).await;
    shop.apply_secret("java", &[("password", "read-again-password-8Jm5")]).await;
    let played = AtomicUsize::new(0);
    bench.proxy.plan(move |asked| {
        let is_read = asked.method == "GET" && asked.target.split('?').next().unwrap().ends_with("/secrets/java");
        (is_read && played.fetch_add(1, Ordering::SeqCst) == 0).then(|| fault.clone())
    });
    let format = json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } }]);
    shop.certificate("orders", "ca", json!({ "formats": format })).await;
    shop.until_ready("orders").await;
    eventually("the keystore is there", || async {
        shop.secret("orders").await?.data?.contains_key("keystore.p12").then_some(())
    })
    .await;
    shop.until("orders", "Issuing", "False Issued").await;
    assert_eq!(bench.proxy.played().values().sum::<usize>(), 1);
    assert_eq!(shop.status("orders").await.history.len(), 1);
}

#[tokio::test]
async fn the_former_pair_goes_when_it_expires() {
    let bench = Bench::open("expiry").await;
    bench.renewed(json!({ "keepPrevious": true, "duration": "2160h" })).await;
    let first_end = bench.previous_not_after().await.unwrap();
    // Two renewals by time: the pair before goes when a new one takes its place, the last one when it expires.
    bench.operator.advance(SignedDuration::from_hours(24 * 70));
    eventually("it is renewed", || async {
        (bench.shop.status("orders").await.history[0].reason == "RenewalDue").then_some(())
    })
    .await;
    bench.shop.until_ready("orders").await;
    let second = bench.shop.status("orders").await;
    let end = bench.previous_not_after().await.unwrap();
    assert!(end >= first_end, "{end} {first_end}");
    assert!(bench.serial("previous-").await.is_some());
    bench.operator.advance(end.duration_since(bench.operator.now()) - SignedDuration::from_mins(10));
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(bench.serial("previous-").await.is_some(), "it is valid for ten minutes more");
    bench.operator.advance(SignedDuration::from_mins(11));
    eventually("the former pair is gone", || async { bench.previous_not_after().await.is_none().then_some(()) }).await;
    assert_eq!(bench.serial("previous-").await, None);
    assert_eq!(bench.serial("").await, second.serial_number, "and that costs no certificate");
    let keys: Vec<String> = bench.shop.secret("orders").await.unwrap().data.unwrap().into_keys().collect();
    assert_eq!(keys, ["ca.crt", "tls-combined.pem", "tls.crt", "tls.key"]);
}

impl Bench {
    async fn previous_not_after(&self) -> Option<jiff::Timestamp> {
        let annotations = self.shop.secret("orders").await?.metadata.annotations?;
        annotations.get("usercert.dev/previous-not-after").map(|text| text.parse().unwrap())
    }
}

#[tokio::test]
async fn at_rest_a_restart_reads_neither_the_secret_nor_the_password_and_writes_nothing() {
    let bench = Bench::open("restart").await;
    let shop = &bench.shop;
    shop.apply_secret("java", &[("password", "restart-password-6Hn3")]).await;
    let format = json!({ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } });
    let template = json!({ "labels": { "team": "db" }, "annotations": { "note": "x" } });
    let named = json!({ "keepPrevious": true, "formats": [format, { "type": "CA" }], "secretTemplate": template });
    bench.renewed(named.clone()).await;
    shop.certificate("made", "ca", spec()).await;
    shop.atlas_issuer().await;
    let user = shop.name("atlas-user");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.certificate(&user, "atlas", named).await;
    for name in ["orders", "made", &user] {
        shop.until_ready(name).await;
        shop.until(name, "Issuing", "False Issued").await;
    }
    bench.until_calm().await;
    bench.operator.kill();
    let before = bench.proxy.asked_count();
    bench.start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked: Vec<Asked> = bench.proxy.asked().split_off(before);
    // Of a Secret that is waited for after the list of its namespace began, the metadata is read, once.
    let read = |end: &str| asked.iter().filter(|asked| asked.target.ends_with(end)).count();
    assert!(read("/secrets/java") <= 1);
    let is_expected = |asked: &&Asked| {
        let expected = ["/secrets/ca", "/secrets/atlas-api-key", "/secrets/java"];
        asked.is_list() || asked.is_watch() || expected.iter().any(|end| asked.target.contains(end))
    };
    let others: Vec<String> = asked.iter().filter(|asked| !is_expected(asked)).map(Asked::label).collect();
    assert_eq!(others, [""; 0]);
    // Not because it does not look: what changes is followed.
    shop.apply_secret("java", &[("password", "another-password-2Wd7")]).await;
    eventually("the change is followed", || async {
        bench.proxy.asked()[before..].iter().any(|asked| asked.method == "PATCH" && is_secret(asked)).then_some(())
    })
    .await;
}

fn is_secret(asked: &Asked) -> bool {
    asked.target.contains("/secrets/orders")
}

/// The object that comes next asks for nothing besides the certificate, and the operator that knew the Secret has ended.
#[tokio::test]
async fn a_retained_secret_with_a_keystore_and_a_connection_is_taken_up_after_a_restart_for_a_smaller_spec() {
    let bench = Bench::open("retained").await;
    let shop = &bench.shop;
    shop.ca_issuer(3650).await;
    let connection = json!({ "type": "postgresql", "hosts": ["db.example:6543"], "database": "shop", "serverCAFile": "ca.crt", "mountPath": "/certs" });
    let much = json!({ "deletionPolicy": "Retain", "formats": [{ "type": "PKCS12" }], "connection": connection });
    shop.certificate("orders", "ca", much).await;
    let serial = shop.until_ready("orders").await.serial_number;
    let names = || async { shop.secret("orders").await.unwrap().data.unwrap().into_keys().collect::<Vec<_>>() };
    let before = names().await;
    assert!(["keystore.p12", "keystore-password", "uri"].iter().all(|name| before.iter().any(|key| key == name)), "{before:?}");
    bench.operator.kill();
    shop.delete::<DatabaseUserCertificate>("orders").await;
    shop.certificate("orders", "ca", json!({ "deletionPolicy": "Retain" })).await;
    bench.start().await;
    shop.until_event("orders", "SecretAdopted").await;
    assert_eq!(shop.until_ready("orders").await.serial_number, serial);
    eventually("what is not asked for any more goes", || async {
        (names().await == ["ca.crt", "tls-combined.pem", "tls.crt", "tls.key"]).then_some(())
    })
    .await;
}

/// A keystore that cannot be made anew, for its password is gone.
async fn with_keystore_without_password(bench: &Bench) -> String {
    let shop = &bench.shop;
    shop.apply_secret("java", &[("password", "former-password-4Rt8")]).await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({ "formats": named_password() })).await;
    shop.until_ready("orders").await;
    eventually("the keystore is there", || async { (!keystore(shop).await.is_empty()).then_some(()) }).await;
    shop.delete::<k8s_openapi::api::core::v1::Secret>("java").await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;
    keystore(shop).await
}

fn named_password() -> Value {
    json!([{ "type": "PKCS12", "passwordSecretRef": { "name": "java", "key": "password" } }])
}

/// Its bytes in hexadecimal; empty if there is none.
async fn keystore(shop: &Shop) -> String {
    let data = shop.secret("orders").await.unwrap().data.unwrap();
    data.get("keystore.p12").map(|keystore| hex::encode(&keystore.0)).unwrap_or_default()
}

#[tokio::test]
async fn a_keystore_that_cannot_be_made_anew_stays_only_while_its_pair_is_of_use() {
    let bench = Bench::open("keystore-subject").await;
    let shop = &bench.shop;
    let before = with_keystore_without_password(&bench).await;
    let renewed = bench.renew("1").await;
    assert_eq!(keystore(shop).await, before, "the former pair works");
    shop.certificate("orders", "ca", json!({ "formats": named_password(), "subject": "CN=orders,O=New" })).await;
    shop.until_new_serial("orders", &renewed).await;
    assert_eq!(keystore(shop).await, "", "databases know another subject now");
    let message = shop.message("orders", "Issuing").await;
    assert!(message.contains("there is no keystore") && message.contains("the Secret java does not exist"), "{message}");
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    shop.apply_secret("java", &[("password", "later-password-9Wq3")]).await;
    eventually("the keystore is there again", || async { (!keystore(shop).await.is_empty()).then_some(()) }).await;
    assert_eq!(shop.status("orders").await.history.len(), 3, "and that costs no certificate");
}

#[tokio::test]
async fn a_keystore_that_cannot_be_made_anew_goes_with_its_ca_and_when_its_pair_expires() {
    let bench = Bench::open("keystore-ca").await;
    let shop = &bench.shop;
    let before = with_keystore_without_password(&bench).await;
    let first = shop.status("orders").await;
    let renewed = bench.renew("1").await;
    bench.operator.advance(first.not_after.unwrap().0.duration_since(bench.operator.now()) - SignedDuration::from_mins(10));
    shop.until_new_serial("orders", &renewed).await;
    assert_eq!(keystore(shop).await, before, "it is valid for ten minutes more");
    bench.operator.advance(SignedDuration::from_mins(11));
    eventually("it is gone", || async { keystore(shop).await.is_empty().then_some(()) }).await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;

    shop.apply_secret("java", &[("password", "later-password-9Wq3")]).await;
    eventually("it is there again", || async { (!keystore(shop).await.is_empty()).then_some(()) }).await;
    shop.delete::<k8s_openapi::api::core::v1::Secret>("java").await;
    shop.until("orders", "Issuing", "False KeystorePasswordUnusable").await;
    let before = shop.status("orders").await.serial_number.unwrap();
    shop.replace_ca(3650).await;
    let status = shop.until_new_serial("orders", &before).await;
    assert_eq!(status.history[0].reason, "IssuerChanged");
    assert_eq!(keystore(shop).await, "");
}
