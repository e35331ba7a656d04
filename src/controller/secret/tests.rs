//! Statements about the chain in a Secret.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use serde_json::json;

use super::*;
use crate::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, ISSUING, Reason, VerifiedSecret,
        names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY},
        set_condition,
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

#[test]
fn a_wrong_type_is_known_after_a_restart_too() {
    let mut secret = written("ca/1", true).secret;
    secret.type_ = Some("Opaque".to_owned());
    let view = seen(&secret).view;
    let status = |wrong_type: Option<&str>| {
        let status = status_of(&view, Some("digest"));
        let wrong_type = wrong_type.map(ToOwned::to_owned);
        let verified = status.verified.map(|verified| VerifiedSecret { wrong_type, ..verified });
        DatabaseUserCertificateStatus { verified, ..status }
    };
    let recalled = recall(&object(), &secret.metadata, &status(Some("Opaque"))).unwrap();
    assert_eq!(recalled.wrong_type.as_deref(), Some("Opaque"));
    let mut of_before = status(None);
    assert_eq!(recall(&object(), &secret.metadata, &of_before).unwrap().wrong_type, None);
    set_condition(&mut of_before.conditions, ISSUING, false, Reason::SecretTypeWrong, "", Some(1), Timestamp::UNIX_EPOCH);
    assert_eq!(recall(&object(), &secret.metadata, &of_before), None, "a version that did not note it told of it");
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
            wrong_type: None,
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

/// The Secret as it was written for this spec, and the patch of the next write for another.
fn patched(before: serde_json::Value, after: serde_json::Value, additions: Option<&Additions>) -> serde_json::Value {
    let with = |spec| DatabaseUserCertificate { spec: serde_json::from_value(spec).unwrap(), ..object() };
    let written = written("ca/1", true);
    let pair = first_pair(&written.secret).unwrap();
    let content = SecretContent {
        pair,
        ca_certificate: ca_certificate(&written.secret),
        issuer: Some("ca/1".into()),
        issue_reason: None,
        issuance: None,
        renew_request: None,
    };
    let secret = content.to_secret(&with(before.clone()), &Additions::default());
    let seen = read(&with(before), &secret, &NamedPassword::default()).view;
    assert!(seen.complete, "{seen:?}");
    content.to_patch(&with(after), additions, &seen)
}

fn much() -> serde_json::Value {
    json!({
        "formats": [{ "type": "CA", "key": "a" }, { "type": "PKCS8DER", "key": "b" }], "keepPrevious": true,
        "secretTemplate": { "labels": { "team": "db" }, "annotations": { "note": "x" } },
    })
}

#[test]
fn what_the_spec_no_longer_asks_for_is_removed_and_nothing_else() {
    let patch = patched(much(), json!({ "formats": [{ "type": "CA", "key": "b" }] }), Some(&Additions::default()));
    let removed = |values: &serde_json::Value| -> Vec<String> {
        let values = values.as_object().unwrap().iter().filter(|(_, value)| value.is_null());
        values.map(|(key, _)| key.clone()).filter(|key| !key.starts_with("usercert.dev/")).collect()
    };
    assert_eq!(removed(&patch["data"]), ["a"], "b has another content");
    assert_eq!(removed(&patch["metadata"]["labels"]), ["team"]);
    assert_eq!(removed(&patch["metadata"]["annotations"]), ["note"]);
}

/// Where owners may not be changed, a certificate would be minted and never written.
#[rstest::rstest]
#[case(json!({ "deletionPolicy": "Retain" }), Some(&Additions::default()))]
#[case(json!({ "deletionPolicy": "Retain" }), None)]
fn no_write_of_content_changes_the_owners_of_a_secret(#[case] after: serde_json::Value, #[case] additions: Option<&Additions>) {
    for (before, after) in [(json!({}), after.clone()), (after, json!({}))] {
        let patch = patched(before, after, additions);
        assert_eq!(patch["metadata"].get("ownerReferences"), None);
        assert_eq!(patch["metadata"]["annotations"].get("usercert.dev/retained-for"), None);
    }
    let mut retaining = object();
    retaining.spec.deletion_policy = crate::api::DeletionPolicy::Retain;
    let tried = placeholder_patch(&retaining, &seen(&written("ca/1", true).secret).view);
    assert_eq!(tried["metadata"]["annotations"], json!({}), "what is tried is what is written");
}

#[test]
fn a_spec_that_cannot_be_read_takes_nothing_out_of_the_secret() {
    let patch = patched(much(), json!({}), None);
    let keys = |values: &serde_json::Value| values.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&patch["data"]), ["ca.crt", "tls-combined.pem", "tls.crt", "tls.key"]);
    assert_eq!(keys(&patch["metadata"]["labels"]), ["usercert.dev/certificate-uid"]);
    let annotations = keys(&patch["metadata"]["annotations"]);
    assert!(annotations.iter().all(|key| !key.ends_with("layout") && !key.contains("previous") && key != "note"));
}
