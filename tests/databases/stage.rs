//! The certificates that the databases are shown: each is the content of a Secret that the operator wrote.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
    time::{Duration, SystemTime},
};

use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::{evidence, tls::TlsFiles};

use crate::{
    harness::{Cluster, Shop, openssl},
    table::{Row, Table},
};

/// The entries of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// The subject of the user that may log in, as its object and as the certificate print it.
pub const SUBJECT: &str = "CN=orders,OU=apps,O=Acme";

/// The subject of a user that no database knows.
pub const STRANGER: &str = "CN=reports,OU=apps,O=Acme";

/// What the certificates that must be refused have: they were made once, and every client shows them.
pub struct Refused {
    /// A user that the database does not know, or another one than it is told.
    pub wrong_user: Entries,
    /// A certificate whose time is over.
    pub expired: Entries,
    /// The right subject from a CA that is not the database's.
    pub other_ca: Entries,
}

impl Refused {
    /// Entries that must be refused, with the `uri` of those that are let in: the certificate is all that differs.
    pub fn at_the_uri_of(entries: &Entries, good: &Entries) -> Entries {
        let mut entries = entries.clone();
        entries.extend(good.get("uri").map(|uri| ("uri".to_owned(), uri.clone())));
        entries
    }
}

/// A namespace with two CAs, and the server's files.
pub struct Stage {
    shop: Shop,
    /// PEM of the CA that the databases trust for their users.
    pub ca: String,
    /// PEM of another CA.
    pub other_ca: String,
    pub refused: Refused,
    /// What the servers show; no Secret of the operator has its CA.
    pub server: TlsFiles,
    pub table: Mutex<Table>,
}

impl Stage {
    pub async fn set(cluster: &'static LazyLock<Cluster>) -> Self {
        let shop = Shop::open(cluster, "databases").await;
        let ca = issuer(&shop, "ca", "Users").await;
        let other_ca = issuer(&shop, "other-ca", "Others").await;
        // The databases go by the machine's clock. So an expired certificate is one that the operator made by an older clock.
        shop.cluster.advance(SignedDuration::from_hours(-48));
        certificate(&shop, "expired", "ca", to_be_refused(SUBJECT)).await;
        let expired = entries(&shop, "expired").await;
        shop.delete::<DatabaseUserCertificate>("expired").await;
        shop.cluster.advance(SignedDuration::from_hours(48));
        certificate(&shop, "wrong-user", "ca", to_be_refused(STRANGER)).await;
        certificate(&shop, "other-ca", "other-ca", to_be_refused(SUBJECT)).await;
        let (wrong_user, other) = (entries(&shop, "wrong-user").await, entries(&shop, "other-ca").await);
        let refused = Refused { wrong_user, expired, other_ca: other };
        Self { shop, ca, other_ca, refused, server: TlsFiles::new().unwrap(), table: Mutex::default() }
    }

    /// Notes what came of a client's trial.
    pub fn record(&self, row: Row) {
        self.table.lock().unwrap().add(row);
    }

    /// A new certificate of the user, in an object and a Secret of this name, as this spec has it besides.
    pub async fn certificate(&self, name: &str, mut spec: Value) -> Entries {
        spec["subject"] = json!(SUBJECT);
        spec["duration"] = json!("24h");
        certificate(&self.shop, name, "ca", spec).await;
        entries(&self.shop, name).await
    }

    /// Has it renewed by force, so that the new one lasts a day longer than the former.
    pub async fn renewed(&self, name: &str) -> Entries {
        let before = self.shop.status(name).await.serial_number.unwrap();
        let annotations = json!({ "usercert.dev/renew-requested-at": before });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations }, "spec": { "duration": "48h" } }));
        let certificates = self.shop.api::<DatabaseUserCertificate>();
        certificates.patch(name, &PatchParams::default(), &patch).await.unwrap();
        self.shop.until_new_serial(name, &before).await;
        self.shop.until_ready(name).await;
        entries(&self.shop, name).await
    }
}

/// The spec of a certificate that must be refused, in all forms in which a client could show it.
fn to_be_refused(subject: &str) -> Value {
    json!({ "subject": subject, "duration": "24h", "formats": [{ "type": "PKCS12" }, { "type": "PKCS8DER" }] })
}

async fn certificate(shop: &Shop, name: &str, issuer: &str, spec: Value) {
    shop.certificate(name, issuer, spec).await;
    shop.until_ready(name).await;
}

async fn entries(shop: &Shop, name: &str) -> Entries {
    let data = shop.secret(name).await.unwrap().data.unwrap();
    let entries: Entries = data.into_iter().map(|(key, value)| (key, value.0)).collect();
    let text = |name: &str| entries.get(name).map(|value| std::str::from_utf8(value).unwrap());
    note_key(text("tls.key").unwrap());
    text("keystore-password").into_iter().for_each(evidence::secret);
    entries
}

/// Notes a key for the check that no log holds it: each line by itself, for these keys have few.
fn note_key(pem: &str) {
    pem.lines().filter(|line| !line.starts_with("-----")).for_each(evidence::secret);
}

/// An issuer with a CA that was valid already days ago; returns the CA's certificate.
async fn issuer(shop: &Shop, name: &str, common_name: &str) -> String {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Acme");
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    let days = |count: u64| Duration::from_hours(24 * count);
    parameters.not_before = (SystemTime::now() - days(10)).into();
    parameters.not_after = (SystemTime::now() + days(30)).into();
    let ca = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let (certificate, key) = (ca.pem().replace("\r\n", "\n"), ca.key().serialize_pem().replace("\r\n", "\n"));
    note_key(&key);
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": format!("{name}-key") },
        "stringData": { "tls.crt": certificate, "tls.key": key },
    }))
    .await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": name },
        "spec": { "ca": { "secretName": format!("{name}-key") } },
    }))
    .await;
    certificate
}

/// The serial number of a certificate; those of the in-cluster CA have 16 bytes.
pub fn serial_number(entries: &Entries) -> u128 {
    let certificate = std::str::from_utf8(&entries["tls.crt"]).unwrap();
    let printed = openssl(&["x509", "-noout", "-serial"], certificate);
    u128::from_str_radix(printed.trim().trim_start_matches("serial="), 16).unwrap()
}
