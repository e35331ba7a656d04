//! Statements about whose a Secret is, and about what may be adopted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rstest::rstest;

use super::*;
use crate::api::{DatabaseUserCertificateStatus, VerifiedSecret};

fn object() -> DatabaseUserCertificate {
    serde_json::from_value(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
        "metadata": { "name": "orders", "namespace": "shop", "uid": "new" }, "spec": {},
    }))
    .unwrap()
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    let api_version = if kind == "DatabaseUserCertificate" { "usercert.dev/v1alpha1" } else { "apps/v1" };
    json!([{ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true }])
}

fn received(secret: &Value) -> Received<Secret> {
    serde_json::from_str(&secret.to_string()).unwrap()
}

#[test]
fn a_secret_that_cannot_be_read_is_there_and_not_to_be_touched() {
    let metadata = json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "new") });
    let found = received(&json!({ "metadata": metadata, "data": "x" }));
    assert_eq!(holder(&object(), &found), Holder::Another("cannot be read (data: expected a map)".to_owned()));
}

/// `this`, `nobody` or `another`.
fn whose(metadata: &Value) -> &'static str {
    match holder(&object(), &received(&json!({ "metadata": metadata }))) {
        Holder::ThisObject => "this",
        Holder::LeftToThisObject(_) => "left",
        Holder::Nobody(_) => "nobody",
        Holder::Another(_) => "another",
    }
}

#[rstest]
#[case(json!({}), "another")]
#[case(json!({ "labels": { "usercert.dev/certificate-uid": "old" } }), "nobody")]
#[case(json!({ "annotations": { "usercert.dev/serial-number": "0A" } }), "nobody")]
#[case(json!({ "annotations": { "usercert.dev/note": "x" } }), "another")]
#[case(json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "new") }), "this")]
#[case(json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "old") }), "another")]
#[case(json!({ "labels": { "usercert.dev/certificate-uid": "old" }, "ownerReferences": owner("DatabaseUserCertificate", "orders", "old") }), "nobody")]
#[case(json!({ "labels": { "usercert.dev/certificate-uid": "old" }, "ownerReferences": owner("DatabaseUserCertificate", "other", "old") }), "another")]
#[case(json!({ "labels": { "usercert.dev/certificate-uid": "new" }, "ownerReferences": owner("Deployment", "orders", "old") }), "another")]
fn a_secret_is_abandoned_only_with_our_mark_and_without_another_controller(#[case] metadata: Value, #[case] expected: &str) {
    assert_eq!(whose(&metadata), expected);
}

/// Metadata with this label and this annotation, without those that are empty.
fn marked(uid: &str, name: &str) -> Value {
    let present = |key: &str, value: &str| if value.is_empty() { json!({}) } else { json!({ key: value }) };
    json!({
        "labels": present("usercert.dev/certificate-uid", uid), "annotations": present("usercert.dev/retained-for", name),
    })
}

#[rstest]
#[case::retained(marked("new", "orders"), "this")]
#[case::of_a_former_object(marked("old", "orders"), "left")]
#[case::without_its_label(marked("", "orders"), "left")]
#[case::for_another(marked("new", "other"), "nobody")]
#[case::of_another_for_another(marked("old", "other"), "nobody")]
#[case::for_nobody(marked("new", ""), "nobody")]
#[case::neither(marked("", ""), "another")]
fn a_secret_without_a_controller_is_retained_for_whom_its_annotation_names(
    #[case] mut metadata: Value,
    #[case] expected: &str,
) {
    assert_eq!(whose(&metadata), expected);
    metadata["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x" }]);
    assert_eq!(whose(&metadata), expected, "an owner that does not control it changes nothing");
    metadata["ownerReferences"] = owner("Deployment", "orders", "x");
    assert_eq!(whose(&metadata), "another", "another controller decides");
}

#[test]
fn a_retained_secret_that_lost_its_annotation_is_taken_up_again() {
    let secret = received(&json!({ "metadata": marked("new", "") }));
    let mut object = object();
    object.spec.deletion_policy = DeletionPolicy::Retain;
    assert!(matches!(holder(&object, &secret), Holder::LeftToThisObject(_)));
    let renamed = received(&json!({ "metadata": marked("new", "other") }));
    assert!(matches!(holder(&object, &renamed), Holder::LeftToThisObject(_)));
    let of_another = received(&json!({ "metadata": marked("old", "") }));
    assert!(matches!(holder(&object, &of_another), Holder::Nobody(_)), "it may be the Secret of an object that is there");
}

#[test]
fn the_policy_is_carried_out_in_the_metadata_alone_and_owners_of_others_stay() {
    let others: Vec<OwnerReference> = serde_json::from_value(json!([
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x" },
        { "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "name": "orders", "uid": "new" },
    ]))
    .unwrap();
    let mut object = object();
    let patch = ownership_patch(&object, "s", "7", &others);
    assert_eq!(patch["metadata"]["annotations"], json!({ "usercert.dev/retained-for": null }));
    let uids = |patch: &Value| {
        patch["metadata"]["ownerReferences"].as_array().unwrap().iter().map(|owner| owner["uid"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (uids(&patch), patch["metadata"]["ownerReferences"][1]["controller"].clone()),
        (vec![json!("x"), json!("new")], json!(true))
    );
    object.spec.deletion_policy = DeletionPolicy::Retain;
    let patch = ownership_patch(&object, "s", "7", &others);
    assert_eq!(uids(&patch), [json!("x")], "any reference to the object would have the Secret deleted with it");
    assert_eq!(patch["metadata"]["annotations"], json!({ "usercert.dev/retained-for": "orders" }));
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert_eq!(patch.as_object().unwrap().len(), 1);
}

fn secret(type_: &str, data: &[(&str, &str)]) -> Secret {
    let data: BTreeMap<&str, &str> = data.iter().copied().collect();
    let encoded = data.into_iter().map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())));
    Secret { type_: Some(type_.to_owned()), data: Some(encoded.collect()), ..Secret::default() }
}

/// A certificate with these uses, and its key.
fn pair(uses: &[ExtendedKeyUsagePurpose], is_ca: IsCa) -> (String, String) {
    let mut parameters = CertificateParams::default();
    (parameters.extended_key_usages, parameters.is_ca) = (uses.to_vec(), is_ca);
    let key = KeyPair::generate().unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn only_what_this_operator_could_have_written_is_adopted() {
    let (certificate, key) = pair(&[ExtendedKeyUsagePurpose::ClientAuth], IsCa::ExplicitNoCa);
    let good = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
    assert_eq!(check_adoptable(&object(), &secret("kubernetes.io/tls", &good)), Ok(()));
    let combined = certificate.clone() + &key;
    assert_eq!(check_adoptable(&object(), &secret("kubernetes.io/tls", &[("tls-combined.pem", &combined)])), Ok(()));
    let refused = |found: &Secret| check_adoptable(&object(), found).unwrap_err();
    assert!(refused(&secret("Opaque", &good)).contains("type"));
    let with_password = [good.as_slice(), &[("password", "x")]].concat();
    assert!(refused(&secret("kubernetes.io/tls", &with_password)).contains("\"password\""));
    assert!(refused(&secret("kubernetes.io/tls", &[("tls.crt", "garbage"), ("tls.key", &key)])).contains("no certificate"));
}

#[rstest]
#[case::of_a_server(&[ExtendedKeyUsagePurpose::ServerAuth], IsCa::ExplicitNoCa)]
#[case::of_a_ca(&[ExtendedKeyUsagePurpose::ClientAuth], IsCa::Ca(BasicConstraints::Unconstrained))]
#[case::without_a_use(&[], IsCa::NoCa)]
fn no_other_certificate_than_a_client_s_is_adopted(#[case] uses: &[ExtendedKeyUsagePurpose], #[case] is_ca: IsCa) {
    let (certificate, key) = pair(uses, is_ca);
    let found = secret("kubernetes.io/tls", &[("tls.crt", &certificate), ("tls.key", &key)]);
    assert!(check_adoptable(&object(), &found).unwrap_err().contains("not a client certificate"));
}

/// A Secret with these marks, and with this data beside a client certificate and its key.
fn marked_secret(metadata: &Value, more: &[(&str, &str)]) -> Received<Secret> {
    let (certificate, key) = pair(&[ExtendedKeyUsagePurpose::ClientAuth], IsCa::ExplicitNoCa);
    let data = [&[("tls.crt", certificate.as_str()), ("tls.key", key.as_str())], more].concat();
    let metadata = serde_json::from_value(metadata.clone()).unwrap();
    Received::from(Secret { metadata, ..secret("kubernetes.io/tls", &data) })
}

/// `ours`, `adoptable` or `retained` with a dagger for a fault, or who else claims it.
fn state(metadata: &Value, more: &[(&str, &str)], is_known: bool, claim: Option<&str>) -> String {
    let claimed = || claim.map(|owner| SecretState::NotOurs(owner.to_owned()));
    match left_behind(&object(), &marked_secret(metadata, more), is_known, claimed) {
        None => "ours".to_owned(),
        Some(SecretState::Abandoned(found)) => {
            let whose = if found.is_retained { "retained" } else { "adoptable" };
            whose.to_owned() + if found.fault.is_some() { ", with a fault" } else { "" }
        }
        Some(SecretState::NotOurs(owner)) => owner,
        Some(other) => panic!("{other:?}"),
    }
}

const OF_OTHERS: &[(&str, &str)] = &[("password", "theirs")];

#[rstest]
#[case::controlled(json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "new") }), OF_OTHERS, false, "ours")]
#[case::retained(marked("new", "orders"), &[], false, "ours")]
#[case::retained_and_known(marked("new", "orders"), OF_OTHERS, true, "ours")]
#[case::retained_and_not_known(marked("new", "orders"), OF_OTHERS, false, "retained, with a fault")]
#[case::left(marked("old", "orders"), &[], false, "retained")]
#[case::left_and_known(marked("", "orders"), OF_OTHERS, true, "retained")]
#[case::left_and_not_known(marked("old", "orders"), OF_OTHERS, false, "retained, with a fault")]
#[case::of_nobody(marked("old", ""), &[], false, "adoptable")]
#[case::of_nobody_with_more(marked("old", ""), OF_OTHERS, true, "adoptable, with a fault")]
fn content_and_evidence_tell_whose_a_secret_without_a_controller_is(
    #[case] metadata: Value,
    #[case] more: &[(&str, &str)],
    #[case] is_known: bool,
    #[case] expected: &str,
) {
    assert_eq!(state(&metadata, more, is_known, None), expected);
    let known = expected == "ours" && (is_known || metadata.get("ownerReferences").is_some());
    let claimed = state(&metadata, more, is_known, Some("belongs to another"));
    assert_eq!(claimed, if known { "ours" } else { "belongs to another" });
}

/// An answer was lost while the policy changed, and the process that knew the Secret has ended.
#[test]
fn the_status_tells_that_a_secret_is_ours_by_any_uid_that_it_holds() {
    let with = |retained: Option<&str>, verified: Option<&str>| {
        let verified = verified.map(|uid| VerifiedSecret {
            uid: uid.to_owned(),
            resource_version: "7".to_owned(),
            issuer: String::new(),
            private_key: String::new(),
            chain: None,
            chain_not_after: None,
            keystore_password: None,
            wrong_type: None,
        });
        let retained_secret_uid = retained.map(ToOwned::to_owned);
        let status =
            DatabaseUserCertificateStatus { verified, retained_secret_uid, ..DatabaseUserCertificateStatus::default() };
        is_in_status(&DatabaseUserCertificate { status: Some(status), ..object() }, "s")
    };
    assert!(with(Some("s"), None) && with(None, Some("s")) && with(Some("former"), Some("s")));
    assert!(!with(None, None) && !with(Some("t"), Some("t")));
    assert!(!is_in_status(&object(), "s"));
}

/// A Secret that lacked something is in no status by its UID.
#[test]
fn the_certificate_that_the_status_names_tells_that_a_secret_is_ours() {
    let found = marked_secret(&marked("new", "orders"), OF_OTHERS);
    let facts = first_pair(&found).unwrap().facts().clone();
    let with = |serial_number: &str, not_after: jiff::Timestamp| {
        let status = DatabaseUserCertificateStatus {
            serial_number: Some(serial_number.to_owned()),
            not_after: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(not_after)),
            ..DatabaseUserCertificateStatus::default()
        };
        holds_certificate_in_status(&DatabaseUserCertificate { status: Some(status), ..object() }, &found)
    };
    assert!(with(facts.serial_number.as_str(), facts.not_after));
    assert!(!with("0A", facts.not_after));
    assert!(!with(facts.serial_number.as_str(), facts.not_before));
    assert!(!holds_certificate_in_status(&object(), &found));
}

/// A Secret that was written for more than the spec asks for now.
#[rstest]
#[case::connection(&["uri", "host", "username"], "uri", true)]
#[case::format(&["keystore.p12", "keystore-password"], "keystore.p12", true)]
#[case::not_recorded(&["host"], "uri", false)]
#[case::forged(&["password"], "password", false)]
#[case::recorded_under_a_name_of_its_own(&["orders.p12"], "orders.p12", false)]
fn entries_that_the_record_names_are_ours_if_their_names_are(
    #[case] recorded: &[&str],
    #[case] entry: &str,
    #[case] is_ours: bool,
) {
    let record = json!({ "digest": "0", "entries": recorded }).to_string();
    for name in ["orders", ""] {
        let mut metadata = marked("old", name);
        metadata["annotations"]["usercert.dev/layout"] = json!(record);
        let found = marked_secret(&metadata, &[(entry, "x")]);
        assert_eq!(check_adoptable(&object(), &found).is_ok(), is_ours, "retained for {name:?}");
        metadata["annotations"]["usercert.dev/layout"] = json!("{");
        assert!(check_adoptable(&object(), &marked_secret(&metadata, &[(entry, "x")])).is_err(), "the record cannot be read");
    }
}
