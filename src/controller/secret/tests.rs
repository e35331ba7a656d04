//! Statements about the chain in a Secret.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use serde_json::json;

use super::*;
use crate::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, VerifiedSecret,
        names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY},
    },
    certificate::CertificatePair,
    decide::SecretView,
};

/// A Secret as it is written, of a certificate below an intermediate and a root; and the certificates, the leaf first.
struct Written {
    secret: Secret,
    leaf: String,
    intermediate: String,
    root: String,
}

fn ca(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters
}

fn written(issuer: &str, has_ca: bool) -> Written {
    written_until(issuer, has_ca, 2090)
}

/// Below an intermediate that ends with this year.
fn written_until(issuer: &str, has_ca: bool, year: i32) -> Written {
    written_with(issuer, has_ca, &[year])
}

/// Below an intermediate that has a certificate until each of these years.
fn written_with(issuer: &str, has_ca: bool, years: &[i32]) -> Written {
    let root = CertifiedIssuer::self_signed(ca("root"), KeyPair::generate().unwrap()).unwrap();
    let intermediate_key = KeyPair::generate().unwrap().serialize_pem();
    let until = |year: &i32| {
        let mut middle = ca("middle");
        middle.not_after = rcgen::date_time_ymd(*year, 12, 31);
        CertifiedIssuer::signed_by(middle, KeyPair::from_pem(&intermediate_key).unwrap(), &root).unwrap()
    };
    let intermediates: Vec<_> = years.iter().map(until).collect();
    let all: String = intermediates.iter().map(CertifiedIssuer::pem).collect();
    let mut parameters = CertificateParams::default();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = parameters.signed_by(&key, &intermediates[0]).unwrap();
    let certificates = leaf.pem() + &all;
    let content = SecretContent {
        pair: CertificatePair::parse(certificates.as_bytes(), key.serialize_pem().as_bytes()).unwrap(),
        ca_certificate: has_ca.then(|| root.pem()),
        issuer: Some(issuer.into()),
        issue_reason: None,
        issuance: None,
        renew_request: None,
    };
    let mut secret = content.to_secret(&object(), &Additions::default());
    (secret.metadata.uid, secret.metadata.resource_version) = (Some("1".to_owned()), Some("7".to_owned()));
    Written { secret, leaf: leaf.pem(), intermediate: all, root: root.pem() }
}

fn object() -> DatabaseUserCertificate {
    serde_json::from_value(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
        "metadata": { "name": "orders", "namespace": "shop", "uid": "u" }, "spec": {},
    }))
    .unwrap()
}

/// The Secret as it is read for an object that asks for nothing more.
fn seen(secret: &Secret) -> ReadSecret {
    read(&object(), secret, &NamedPassword::default())
}

impl Written {
    /// With another text for the certificates, in `tls.crt` and where it is asked for in `tls-combined.pem` too.
    fn with(&self, certificates: &str, in_both: bool) -> SecretView {
        let mut secret = self.secret.clone();
        let data = secret.data.as_mut().unwrap();
        data.insert(TLS_CERTIFICATE.to_owned(), ByteString(certificates.as_bytes().to_vec()));
        if in_both {
            let key = String::from_utf8(data[TLS_PRIVATE_KEY].0.clone()).unwrap();
            data.insert(TLS_COMBINED.to_owned(), ByteString((certificates.to_owned() + &key).into_bytes()));
        }
        seen(&secret).view
    }
}

#[test]
fn what_is_missing_in_a_chain_is_taken_from_the_other_file_or_named() {
    let written = written("ca/1", true);
    let whole = written.with(&(written.leaf.clone() + &written.intermediate), true);
    assert!(whole.complete && whole.chain.fault.is_none() && whole.chain.digest.is_some(), "{whole:?}");
    let in_one = written.with(&written.leaf, false);
    assert!(!in_one.complete && in_one.chain.fault.is_none(), "{in_one:?}");
    assert!(in_one.spoilt.is_some_and(|spoilt| spoilt.contains("tls.crt does not lead to ca.crt")));
    let in_both = written.with(&written.leaf, true);
    let lost = "tls.crt does not lead to ca.crt: the certificate that issued ";
    assert!(in_both.chain.fault.as_ref().is_some_and(|fault| fault.starts_with(lost)), "{in_both:?}");
    assert_ne!(in_both.chain.digest, whole.chain.digest);
    let with_root = written.with(&[written.leaf.as_str(), &written.intermediate, &written.root].concat(), true);
    assert_eq!(with_root.chain.fault, None, "a root that is handed on does no harm");
}

#[test]
fn what_ends_first_above_the_certificate_is_known_after_a_restart_too() {
    let written = written_until("ca/1", true, 2031);
    let end: Timestamp = "2031-12-31T00:00:00Z".parse().unwrap();
    let view = seen(&written.secret).view;
    assert_eq!(view.chain.not_after, Some(end));
    let recalled = recall(&object(), &written.secret.metadata, &status_of(&view, Some("digest"))).unwrap();
    assert_eq!(recalled.chain.not_after, Some(end));
    let not_looked_at = DatabaseUserCertificateStatus {
        verified: status_of(&view, Some("digest"))
            .verified
            .map(|verified| VerifiedSecret { chain_not_after: None, ..verified }),
        ..status_of(&view, Some("digest"))
    };
    assert_eq!(recall(&object(), &written.secret.metadata, &not_looked_at), None);
}

#[rstest::rstest]
#[case(&[2031, 2035])]
#[case(&[2035, 2031])]
fn of_two_certificates_of_an_intermediate_the_one_that_lasts_longer_counts(#[case] years: &[i32]) {
    let view = seen(&written_with("ca/1", true, years).secret).view;
    assert_eq!(view.chain.not_after, Some("2035-12-31T00:00:00Z".parse().unwrap()));
}

#[test]
fn what_databases_may_read_otherwise_is_written_anew() {
    let written = written("ca/1", true);
    let glued = written.with(&(written.leaf.trim_end().to_owned() + &written.intermediate), false);
    assert_eq!((glued.complete, glued.chain.fault, glued.spoilt), (false, None, None));
    let mut secret = written.secret.clone();
    let key = secret.data.as_mut().unwrap().get_mut(TLS_PRIVATE_KEY).unwrap();
    key.0.insert(0, b'\n');
    assert!(!seen(&secret).view.complete);
    assert!(seen(&written.secret).view.complete);
}

#[test]
fn a_certificate_of_atlas_has_no_chain_whatever_stands_in_ca_crt() {
    let mut written = written("atlas/1", false);
    let data = written.secret.data.as_mut().unwrap();
    data.insert(CA_CERTIFICATE.to_owned(), ByteString(ca_of_a_stranger().into_bytes()));
    let ReadSecret { view, pair, .. } = seen(&written.secret);
    assert_eq!((view.complete, view.chain.fault), (false, None));
    // As it is repaired while the issuer cannot be used.
    let content = SecretContent {
        pair: pair.unwrap(),
        ca_certificate: ca_certificate(&written.secret),
        issuer: view.issuer,
        issue_reason: None,
        issuance: None,
        renew_request: None,
    };
    let repaired = content.to_secret(&object(), &Additions::default());
    for view in [content.view(&object(), Some(&Additions::default()), &repaired.metadata, None), seen(&repaired).view] {
        assert_eq!((view.complete, view.chain.digest, view.chain.fault), (true, None, None));
    }
}

fn ca_of_a_stranger() -> String {
    CertifiedIssuer::self_signed(ca("stranger"), KeyPair::generate().unwrap()).unwrap().pem()
}

/// The status of an object whose Secret was found to be in order.
fn status_of(view: &SecretView, chain: Option<&str>) -> DatabaseUserCertificateStatus {
    let facts = view.certificate.clone().unwrap();
    DatabaseUserCertificateStatus {
        serial_number: Some(facts.serial_number.into()),
        subject: Some("CN=orders".to_owned()),
        not_before: Some(Time(facts.not_before)),
        not_after: Some(Time(facts.not_after)),
        verified: Some(VerifiedSecret {
            uid: "1".to_owned(),
            resource_version: "7".to_owned(),
            issuer: facts.issuer,
            private_key: facts.private_key.to_string(),
            chain: chain.map(ToOwned::to_owned),
            chain_not_after: view.chain.not_after.map(Time),
            keystore_password: None,
        }),
        ..DatabaseUserCertificateStatus::default()
    }
}

#[test]
fn a_secret_whose_chain_was_not_looked_at_is_read_once() {
    let recalled = |written: &Written, chain: Option<&str>| {
        let view = seen(&written.secret).view;
        recall(&object(), &written.secret.metadata, &status_of(&view, chain)).is_some()
    };
    assert!(!recalled(&written("ca/1", true), None), "as 0.1.0 left it");
    assert!(recalled(&written("ca/1", true), Some("digest")));
    assert!(recalled(&written("atlas/1", false), None), "certificates of Atlas have no chain");
}
