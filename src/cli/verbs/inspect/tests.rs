#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::*;
use crate::terminal::Terminal;

/// The PEM of a CA, of a certificate that it signed, and of that one's key.
fn made() -> (String, String, String) {
    made_until(2040)
}

/// The same, of a CA that expires with the beginning of this year.
fn made_until(year: i32) -> (String, String, String) {
    let mut ca = CertificateParams::default();
    ca.not_after = rcgen::date_time_ymd(year, 1, 1);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "CA");
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "orders");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    (ca_certificate.pem(), certificate.pem(), key.serialize_pem())
}

fn asked(certificates: &str, key: &str, ca: Option<&str>, now: &str) -> Inspection {
    let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    let pem = Pem {
        certificates: bytes(certificates),
        key: bytes(key),
        ca: ca.map(bytes),
        place_of_key: None,
        places: Places::default(),
    };
    inspect("client.pem".to_owned(), &pem, now.parse().unwrap()).expect("there is a certificate")
}

#[test]
fn a_good_pair_is_told_without_its_key() {
    let (ca, certificate, key) = made();
    let now = "2026-03-02T00:00:00Z";
    let found = asked(&certificate, &key, Some(&ca), now);
    assert_eq!((found.key, found.leads_to_ca, found.for_clients), (KeyFit::Fits, Some(true), Some(true)));
    assert_eq!(found.problems, Vec::<String>::new());
    let text = render(&found, &Terminal::none(), now.parse().unwrap());
    assert!(text.contains("Certificate: CN=orders, serial number") && text.contains("(in 30d)"), "{text}");
    let json = for_programs(&found, Form::Json).unwrap().unwrap();
    assert!(!text.contains("PRIVATE") && !json.contains("PRIVATE"), "{text}{json}");
}

#[test]
fn each_fault_is_a_problem() {
    let (ca, certificate, key) = made();
    let (other_ca, _, other_key) = made();
    let good = "2026-03-02T00:00:00Z";
    let problems = |key: &str, ca: &str, now: &str| asked(&certificate, key, Some(ca), now).problems.join("; ");
    assert_eq!(problems(&other_key, &ca, good), "the private key does not fit the certificate");
    assert!(problems(&key, &other_ca, good).contains("does not lead to ca.crt"));
    assert!(problems(&key, &ca, "2026-05-01T00:00:00Z").contains("CN=orders expired at 2026-04-01"));
    assert!(problems(&key, &ca, "2025-05-01T00:00:00Z").contains("is valid from 2026-01-01"));
    assert_eq!(asked(&certificate, "", None, good).key, KeyFit::Absent);
}

#[test]
fn a_chain_whose_ca_has_expired_is_a_problem_of_a_file_and_of_a_secret() {
    let (ca, certificate, key) = made_until(2021);
    let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let session = Session { terminal: Terminal::none(), clock: std::sync::Arc::new(move || now) };
    let (pair, ca_file) = (file("pair.pem", &format!("{certificate}{key}")), file("ca.pem", &ca));
    let told = inspect_file(&session, &pair, None, Some(&ca_file), Form::Table).unwrap();
    assert_eq!(told.exit, Exit::Attention);
    assert!(told.text().contains("Chain: leads to the CA, until 2021-01-01T00:00:00Z"), "{}", told.text());
    assert!(told.text().contains("the chain ended at 2021-01-01T00:00:00Z"), "{}", told.text());
    let found = inspect("shop/orders".to_owned(), &pem_of(&secret(&certificate, &key, &ca)), now).unwrap();
    assert!(found.problems.join("; ").starts_with("the chain ended at 2021-01-01"), "{:?}", found.problems);
    let json = for_programs(&found, Form::Json).unwrap().unwrap();
    assert!(json.contains("\"chainEnds\": \"2021-01-01T00:00:00Z\""), "{json}");
    let (ca, certificate, key) = made();
    let found = inspect("shop/orders".to_owned(), &pem_of(&secret(&certificate, &key, &ca)), now).unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
}

#[test]
fn a_certificate_that_signed_none_of_the_others_stands_beside_them() {
    let (ca, certificate, key) = made();
    let (other_ca, ..) = made();
    let now = "2026-03-02T00:00:00Z";
    let found = asked(&format!("{certificate}{other_ca}{ca}"), &key, None, now);
    let expected = ["certificate 2 (CN=CA) has signed none of the others that are needed: take it out"];
    assert_eq!(found.problems, expected);
    let text = render(&found, &Terminal::none(), now.parse().unwrap());
    assert!(text.contains("Beside it: ") && text.contains("Above it: "), "{text}");
    assert_eq!(asked(&format!("{certificate}{ca}"), &key, None, now).problems, Vec::<String>::new());
    let many = asked(&format!("{certificate}{}", ca.repeat(20)), &key, None, now).problems;
    assert_eq!(many, ["there are 21 certificates: 20 at most are a chain"]);
}

/// While a CA is replaced, databases trust the old root and the new one.
#[test]
fn of_a_bundle_of_roots_without_a_key_none_is_to_be_taken_out() {
    let ((old, ..), (new, ..)) = (made(), made());
    for bundle in [format!("{old}{new}"), format!("{old}{new}").repeat(11)] {
        let problems = asked(&bundle, "", None, "2026-03-02T00:00:00Z").problems.join("; ");
        assert!(!problems.contains("take it out") && !problems.contains("at most are a chain"), "{problems}");
    }
}

#[test]
fn a_certificate_that_must_stand_first_is_named() {
    let (ca, certificate, key) = made();
    let problems = asked(&format!("{ca}{certificate}"), &key, None, "2026-03-02T00:00:00Z").problems.join("; ");
    assert!(problems.starts_with("the private key fits certificate 2 (CN=orders), which must stand first"), "{problems}");
    assert!(!problems.contains("take it out"), "{problems}");
}

#[test]
fn each_fault_of_a_file_names_the_file() {
    let (ca, certificate, key) = made();
    let (other_ca, _, other_key) = made();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
    let session = Session { terminal: Terminal::none(), clock: std::sync::Arc::new(move || now) };
    let [certificate, key, ca] =
        [("client.pem", &certificate), ("client.key", &key), ("root.pem", &ca)].map(|(name, text)| file(name, text));
    let [other_key, other_ca, none] = [("other.key", &other_key), ("other.pem", &other_ca), ("none.pem", &"no".to_owned())]
        .map(|(name, text)| file(name, text));
    let told = |key: &Path, ca: &Path| {
        let told = inspect_file(&session, &certificate, Some(key), Some(ca), Form::Table).unwrap();
        let problems = told.text().split_once("Problems").map(|(_, problems)| problems.to_owned());
        assert_eq!(told.exit == Exit::Attention, problems.is_some());
        problems.unwrap_or_default().replace(&folder.path().display().to_string(), "")
    };
    assert_eq!(told(&key, &ca), "");
    assert!(
        told(&key, &other_ca)
            .contains("/client.pem does not lead to /other.pem: the certificate that issued CN=orders is in neither")
    );
    assert!(told(&key, &none).contains("/none.pem: there is no certificate in PEM form"));
    assert!(told(&other_key, &ca).contains("/other.key: the private key does not fit the certificate"));
    let input = Path::new("-");
    let twice = inspect_file(&session, input, Some(input), None, Form::Table);
    assert!(twice.is_err_and(|error| error.exit() == Exit::Usage));
}

#[cfg(unix)]
#[test]
fn a_file_without_an_end_is_refused() {
    let read = read_file(Path::new("/dev/zero")).map_err(|error| usercert_operator_controller::chain(&error));
    assert!(read.is_err_and(|error| error.contains("could not read /dev/zero: it has more than 16 MiB")));
}

fn secret(certificate: &str, key: &str, ca: &str) -> Secret {
    let entries = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)];
    let entries = entries.map(|(name, text)| (name.to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec())));
    Secret { type_: Some(TLS.to_owned()), data: Some(entries.into()), ..Secret::default() }
}

#[test]
fn a_key_that_is_missing_where_one_must_be_is_a_problem() {
    let (ca, certificate, _) = made();
    let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
    let of = |secret: &Secret| inspect("shop/orders".to_owned(), &pem_of(secret), now).unwrap();
    let mut secret = secret(&certificate, "", &ca);
    assert_eq!(of(&secret).problems, ["there is no private key in tls.key"]);
    secret.type_ = Some("Opaque".to_owned());
    assert_eq!(of(&secret).problems, Vec::<String>::new());
    let folder = tempfile::tempdir().unwrap();
    let (file, empty) = (folder.path().join("a.pem"), folder.path().join("key.pem"));
    fs::write(&file, &certificate).unwrap();
    fs::write(&empty, "no key").unwrap();
    let session = Session { terminal: Terminal::none(), clock: std::sync::Arc::new(move || now) };
    let told = |key: Option<&Path>| inspect_file(&session, &file, key, None, Form::Table).unwrap();
    assert_eq!(told(None).exit, Exit::Good);
    assert_eq!(told(Some(&empty)).exit, Exit::Attention);
    assert!(told(Some(&empty)).text().contains("there is no private key in"), "{}", told(Some(&empty)).text());
}

#[test]
fn a_pod_uses_a_secret_in_a_way_that_follows_or_not() {
    let pod = |spec: serde_json::Value, phase: &str| -> Whole<Pod> {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec, "status": { "phase": phase } })).unwrap()
    };
    let files = json!({ "containers": [], "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] });
    let env = json!({ "containers": [{ "name": "c", "envFrom": [{ "secretRef": { "name": "orders" } }] }] });
    assert!(consumer(&pod(files.clone(), "Running"), "orders").is_some_and(|found| found.updated_in_place));
    assert!(consumer(&pod(env, "Running"), "orders").is_some_and(|found| !found.updated_in_place && found.uses == "env"));
    assert!(consumer(&pod(files.clone(), "Succeeded"), "orders").is_none());
    assert!(consumer(&pod(files, "Running"), "bills").is_none());
}
