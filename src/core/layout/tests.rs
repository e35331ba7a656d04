//! Statements about what a Secret holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use usercert_test_support::openssl::openssl;

use super::*;
use crate::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateSpec, DatabaseUserCertificateStatus, IssuedCertificate, Reason},
    certificate::{CertificateFacts, CertificatePair, PrivateKey, PrivateKeySpec},
};

/// Two pairs without anything above them. What stands above is not verified here.
static PAIRS: LazyLock<[CertificatePair; 2]> = LazyLock::new(|| {
    ["1", "2"].map(|serial| {
        let key = PrivateKey::generate(PrivateKeySpec::default()).unwrap().to_pkcs8_pem();
        let made = ["req", "-x509", "-days", "9", "-subj", "/CN=orders", "-set_serial", serial, "-key", "/dev/stdin"];
        let certificate = openssl(&made, key.expose_secret());
        CertificatePair::parse(certificate.as_bytes(), key.expose_secret().as_bytes()).unwrap()
    })
});

fn spec(value: &Value) -> DatabaseUserCertificateSpec {
    serde::Deserialize::deserialize(value).unwrap()
}

fn formats(formats: &Value) -> DatabaseUserCertificateSpec {
    spec(&json!({ "formats": formats }))
}

fn content(spec: &DatabaseUserCertificateSpec) -> Content<'_> {
    Content {
        spec,
        pair: &PAIRS[0],
        ca_certificate: Some("CA"),
        previous: Previous::Nothing,
        keystore_password: None,
        keystore_goes: false,
    }
}

fn made() -> KeystorePassword {
    KeystorePassword::Made(SecretString::from("made"))
}

/// The names with a word for what becomes of each.
fn words(entries: &BTreeMap<String, Entry>) -> Vec<String> {
    let word = |entry: &Entry| match entry {
        Entry::Value(_) => "value",
        Entry::Absent => "absent",
        Entry::Untouched => "untouched",
        Entry::Unavailable(_) => "unavailable",
        Entry::Gone(_) => "gone",
    };
    let always = ["ca.crt", "tls-combined.pem", "tls.crt", "tls.key"];
    let optional = entries.iter().filter(|(name, _)| !always.contains(&name.as_str()));
    optional.map(|(name, entry)| format!("{name} {}", word(entry))).collect()
}

#[rstest]
#[case::nothing(json!([]), &[])]
#[case::defaults(
    json!([{ "type": "PKCS8DER" }, { "type": "CombinedPEM" }, { "type": "CA" }, { "type": "Chain" }]),
    &["chain.pem absent", "mongodb.pem value", "root.crt value", "tls.pk8 value"],
)]
#[case::other_names(json!([{ "type": "PKCS8DER", "key": "a" }, { "type": "PKCS8DER", "key": "b" }]), &["a value", "b value"])]
#[case::a_keystore(json!([{ "type": "PKCS12" }]), &["keystore-password value", "keystore.p12 value"])]
#[case::a_named_password(
    json!([{ "type": "PKCS12", "key": "a.p12", "passwordSecretRef": { "name": "a", "key": "b" } }]),
    &["a.p12 value", "keystore-password absent"],
)]
fn each_format_is_an_entry_of_its_name(#[case] asked_for: Value, #[case] expected: &[&str]) {
    let spec = formats(&asked_for);
    let password = made();
    let found = entries(&Content { keystore_password: Some(&password), ..content(&spec) });
    assert_eq!(words(&found), expected);
    assert!(found.keys().all(|name| wanted_keys(&spec).contains(&name.as_str())), "{found:?}");
}

#[test]
fn each_format_holds_what_its_type_says() {
    let spec = formats(&json!([{ "type": "PKCS8DER" }, { "type": "CombinedPEM" }, { "type": "CA" }, { "type": "Chain" }]));
    let pair = PAIRS[0].with_chain(PAIRS[1].certificates());
    let found = entries(&Content { pair: &pair, ..content(&spec) });
    let value = |name: &str| match &found[name] {
        Entry::Value(bytes) => bytes.to_vec(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(value("mongodb.pem"), value("tls-combined.pem"));
    assert_eq!(value("root.crt"), b"CA");
    assert_eq!(value("chain.pem"), PAIRS[1].certificates_pem().as_bytes());
    assert_eq!(value("tls.pk8"), PAIRS[0].key_der().to_vec());
    let without_ca = entries(&Content { ca_certificate: None, ..content(&spec) });
    assert_eq!((&without_ca["root.crt"], &without_ca["ca.crt"]), (&Entry::Absent, &Entry::Absent));
}

#[rstest]
#[case::made_and_not_known(
    false,
    None,
    &["keystore-password untouched", "keystore.p12 untouched"],
    &["keystore-password untouched", "keystore.p12 absent"]
)]
#[case::made(
    false,
    Some(made()),
    &["keystore-password value", "keystore.p12 value"],
    &["keystore-password value", "keystore.p12 value"]
)]
#[case::not_made(
    false,
    Some(KeystorePassword::Unusable(String::new())),
    &["keystore-password unavailable", "keystore.p12 unavailable"],
    &["keystore-password unavailable", "keystore.p12 gone"]
)]
#[case::named(
    true,
    Some(KeystorePassword::Named("named".into())),
    &["keystore-password absent", "keystore.p12 value"],
    &["keystore-password absent", "keystore.p12 value"]
)]
#[case::named_and_missing(
    true,
    Some(KeystorePassword::Unusable(String::new())),
    &["keystore-password unavailable", "keystore.p12 unavailable"],
    &["keystore-password absent", "keystore.p12 gone"]
)]
fn without_a_password_the_keystore_stays_as_it_is_or_goes(
    #[case] is_named: bool,
    #[case] password: Option<KeystorePassword>,
    #[case] stays: &[&str],
    #[case] goes: &[&str],
) {
    let reference = is_named.then(|| json!({ "name": "a", "key": "b" }));
    let spec = formats(&json!([{ "type": "PKCS12", "passwordSecretRef": reference }]));
    for (keystore_goes, expected) in [(false, stays), (true, goes)] {
        let found = entries(&Content { keystore_password: password.as_ref(), keystore_goes, ..content(&spec) });
        assert_eq!(words(&found), expected);
        assert_eq!(LayoutRecord::of(&spec, &found).entries.len(), 2, "what goes can be taken away");
    }
}

#[rstest]
#[case::none(Previous::Nothing, &[])]
#[case::kept(Previous::Kept(&PAIRS[1]), &["previous-tls-combined.pem value", "previous-tls.crt value", "previous-tls.key value"])]
#[case::unknown(Previous::Untouched, &["previous-tls-combined.pem untouched", "previous-tls.crt untouched", "previous-tls.key untouched"])]
fn the_former_pair_stands_beside_the_present_one(#[case] previous: Previous<'static>, #[case] expected: &[&str]) {
    let spec = spec(&json!({ "keepPrevious": true }));
    assert_eq!(words(&entries(&Content { previous, ..content(&spec) })), expected);
}

#[rstest]
#[case::empty(b"", Some("is empty"))]
#[case::one(b"x", None)]
#[case::printable(b" !~", None)]
#[case::the_longest(&[b'x'; 512], None)]
#[case::too_long(&[b'x'; 513], Some("has more than 512 characters"))]
#[case::line_break(b"changeit\n", Some("line break"))]
#[case::not_ascii("pässword".as_bytes(), Some("not printable ASCII"))]
#[case::not_text(&[0xff, 0xfe], Some("not printable ASCII"))]
fn a_password_is_one_that_java_takes(#[case] password: &[u8], #[case] fault: Option<&str>) {
    match (check_keystore_password(password), fault) {
        (Ok(taken), None) => assert_eq!(taken.expose_secret().as_bytes(), password),
        (Err(found), Some(fault)) => assert!(found.contains(fault), "{found}"),
        (found, fault) => panic!("{found:?} instead of {fault:?}"),
    }
}

#[rstest]
#[case::nothing(json!({}), true)]
#[case::what_is_not_about_the_secret(json!({ "username": "a", "duration": "48h" }), true)]
#[case::an_empty_template(json!({ "secretTemplate": {} }), true)]
#[case::formats(json!({ "formats": [{ "type": "CA" }] }), false)]
#[case::labels(json!({ "secretTemplate": { "labels": { "a": "b" } } }), false)]
#[case::annotations(json!({ "secretTemplate": { "annotations": { "a": "b" } } }), false)]
#[case::the_former_pair(json!({ "keepPrevious": true }), false)]
fn a_spec_that_asks_for_nothing_more_leaves_no_trace(#[case] asked_for: Value, #[case] is_empty: bool) {
    let spec = spec(&asked_for);
    let record = LayoutRecord::of(&spec, &entries(&content(&spec)));
    assert_eq!(digest(&spec).is_empty(), is_empty);
    assert_eq!(record.to_annotation().is_none(), is_empty, "{record:?}");
    assert_eq!(LayoutRecord::from_annotation(record.to_annotation().as_deref()), record);
}

#[test]
fn whatever_changes_in_the_spec_has_another_digest() {
    let specs = [
        json!({ "formats": [{ "type": "CA" }] }),
        json!({ "formats": [{ "type": "CA", "key": "a" }] }),
        json!({ "formats": [{ "type": "PKCS12" }] }),
        json!({ "formats": [{ "type": "PKCS12", "alias": "a" }] }),
        json!({ "formats": [{ "type": "PKCS12", "passwordSecretRef": { "name": "a", "key": "b" } }] }),
        json!({ "secretTemplate": { "labels": { "a": "b" } } }),
        json!({ "secretTemplate": { "labels": { "a": "c" } } }),
        json!({ "secretTemplate": { "annotations": { "a": "b" } } }),
        json!({ "keepPrevious": true }),
    ];
    let digests: std::collections::BTreeSet<String> = specs.iter().map(|value| digest(&spec(value))).collect();
    assert_eq!(digests.len(), specs.len());
}

#[test]
fn a_record_that_is_damaged_is_that_of_no_spec() {
    assert_eq!(LayoutRecord::from_annotation(None), LayoutRecord::default());
    for damaged in ["", "{", "[]", "{\"digest\":7}"] {
        let record = LayoutRecord::from_annotation(Some(damaged));
        assert_ne!(record.digest, digest(&spec(&json!({}))), "{damaged}");
    }
}

/// A certificate of the same user that expires after so many days, with another serial number.
fn facts(serial_number: &str, subject: &str, days: i64) -> CertificateFacts {
    let pair = &PAIRS[0];
    CertificateFacts {
        serial_number: serial_number.into(),
        subject: crate::certificate::Subject::common_name(subject).unwrap(),
        not_after: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days),
        ..pair.facts().clone()
    }
}

#[rstest]
#[case::renewal(Reason::RenewalDue, true)]
#[case::asked_for(Reason::RenewalRequested, true)]
#[case::another_key(Reason::PrivateKeyChanged, true)]
#[case::another_issuer(Reason::IssuerChanged, false)]
#[case::another_subject(Reason::SubjectChanged, false)]
#[case::broken(Reason::ChainBroken, false)]
#[case::compromised(Reason::Compromised, false)]
#[case::unusable(Reason::PairUnusable, false)]
#[case::expired(Reason::Expired, false)]
#[case::none(Reason::NoCertificate, false)]
#[case::not_yet_valid(Reason::NotYetValid, false)]
fn a_pair_is_kept_only_if_its_replacement_says_nothing_against_it(#[case] cause: Reason, #[case] is_kept: bool) {
    let keep = object(&json!({ "keepPrevious": true }));
    let (replaced, new) = (facts("01", "orders", 10), facts("02", "orders", 90));
    let now = Timestamp::UNIX_EPOCH;
    let nothing = FormerPair::Nothing;
    let expected = if is_kept { FormerPair::Replaced } else { nothing };
    assert_eq!(former_pair(&keep, cause, &replaced, &new, now), expected);
    assert_eq!(former_pair(&object(&json!({})), cause, &replaced, &new, now), nothing, "unless it is asked for");
    assert_eq!(former_pair(&keep, cause, &replaced, &new, replaced.not_after), nothing, "it has expired");
    assert_eq!(former_pair(&keep, cause, &facts("01", "reports", 10), &new, now), nothing, "it is another user's");
    assert_eq!(former_pair(&compromised(keep, "00:01"), cause, &replaced, &new, now), nothing, "its key is known to others");
}

fn object(spec: &Value) -> DatabaseUserCertificate {
    DatabaseUserCertificate::new("orders", self::spec(spec))
}

fn compromised(mut object: DatabaseUserCertificate, serial_numbers: &str) -> DatabaseUserCertificate {
    object.metadata.annotations = Some([("usercert.dev/compromised".to_owned(), serial_numbers.to_owned())].into());
    object
}

/// The certificates that were issued, the newest first: serial number, cause, and the day on which it expires.
fn issued(history: &[(&str, Reason, i64)]) -> DatabaseUserCertificateStatus {
    let issued = |(serial_number, reason, days): &(&str, Reason, i64)| IssuedCertificate {
        serial_number: (*serial_number).to_owned(),
        reason: reason.as_str().to_owned(),
        issuer: None,
        recorded_at: Time(Timestamp::UNIX_EPOCH),
        not_after: Time(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days)),
    };
    DatabaseUserCertificateStatus { history: history.iter().map(issued).collect(), ..DatabaseUserCertificateStatus::default() }
}

#[rstest]
#[case::of_the_present_certificate("03", None, 1, false)]
#[case::of_the_one_before("02", None, 1, false)]
#[case::of_an_older_one("01", None, 1, false)]
#[case::of_one_that_nobody_remembers("00", None, 1, false)]
#[case::of_an_expired_one("01", None, 10, true)]
#[case::of_one_that_has_a_day("02", None, 19, false)]
#[case::of_another_issuer("02", Some(Reason::IssuerChanged), 1, true)]
#[case::of_another_issuer_and_older("01", Some(Reason::IssuerChanged), 1, true)]
#[case::of_another_subject("02", Some(Reason::SubjectChanged), 1, true)]
#[case::of_one_before_a_broken_chain("02", Some(Reason::ChainBroken), 1, true)]
#[case::of_a_compromised_one("02", Some(Reason::Compromised), 1, true)]
#[case::of_one_before_another_key("02", Some(Reason::PrivateKeyChanged), 1, false)]
#[case::of_one_that_was_damaged_elsewhere("02", Some(Reason::PairUnusable), 1, false)]
fn a_keystore_is_of_use_as_long_as_its_pair(
    #[case] held: &str,
    #[case] cause: Option<Reason>,
    #[case] day: i64,
    #[case] is_useless: bool,
) {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
    let object = object(&json!({}));
    let history = |third| {
        let second = ("02", Reason::RenewalDue, 20);
        issued(&[("03", third, 30), second, ("01", Reason::NoCertificate, 10)])
    };
    let useless =
        |object: &_, cause, status: &_| has_useless_keystore(object, Some(&held.into()), &"03".into(), cause, status, now);
    assert_eq!(useless(&object, cause, &history(Reason::RenewalDue)), is_useless);
    assert_eq!(useless(&object, None, &history(cause.unwrap_or(Reason::RenewalDue))), is_useless, "as the status tells");
    let others = compromised(object.clone(), "04");
    assert_eq!(useless(&others, cause, &history(Reason::RenewalDue)), is_useless);
    assert_eq!(useless(&compromised(object, held), cause, &history(Reason::RenewalDue)), held != "03");
}

#[test]
fn a_write_that_is_repeated_keeps_the_pair_that_the_first_one_kept() {
    let (keep, written) = (object(&json!({ "keepPrevious": true })), facts("02", "orders", 90));
    let again = |object| former_pair(object, Reason::RenewalDue, &written, &written, Timestamp::UNIX_EPOCH);
    assert_eq!(again(&keep), FormerPair::AsItIs);
    assert_eq!(again(&object(&json!({}))), FormerPair::Nothing);
}

#[rstest]
#[case::one_ca(Some("CA"), Entry::Value(b"CA".to_vec().into()))]
#[case::no_ca(None, Entry::Absent)]
fn a_connection_adds_its_entries_with_copies_of_others(#[case] ca_certificate: Option<&str>, #[case] certificates: Entry) {
    let spec = spec(&json!({ "connection": { "hosts": ["a"], "mountPath": "/certs", "serverCAFile": "ca.crt" } }));
    let found = entries(&Content { ca_certificate, ..content(&spec) });
    assert_eq!(found["private-key"], found["tls.key"]);
    assert_eq!(found["certificates"], certificates);
    assert_eq!(found["username"], Entry::Value(b"CN=orders".to_vec().into()));
    assert!(found.keys().all(|name| wanted_keys(&spec).contains(&name.as_str())), "{found:?}");
    assert!(!digest(&spec).is_empty());
    assert!(LayoutRecord::of(&spec, &found).entries.contains("uri"), "what is not asked for any more can be taken away");
}

#[rstest]
#[case::all_its_workloads(json!({ "rollout": { "auto": true } }), Some("true"))]
#[case::the_users_own_value_wins(
    json!({ "rollout": { "auto": true }, "secretTemplate": { "annotations": { "reloader.stakater.com/ignore": "false" } } }),
    Some("false"),
)]
#[case::beside_other_annotations(
    json!({ "rollout": { "auto": true }, "secretTemplate": { "annotations": { "team": "shop" } } }),
    Some("true"),
)]
#[case::some_workloads(json!({ "rollout": { "workloads": [{ "kind": "Deployment", "name": "web" }] } }), None)]
#[case::selected_workloads(json!({ "rollout": { "selector": { "matchLabels": { "app": "web" } } } }), None)]
#[case::no_rollout(json!({}), None)]
fn reloader_is_told_to_ignore_a_secret_whose_workloads_the_operator_restarts(
    #[case] asked_for: Value,
    #[case] told: Option<&str>,
) {
    let plain = spec(&asked_for);
    let mut spec = plain.clone();
    take_over_from_reloader(&mut spec);
    let annotations = spec.secret_template.clone().unwrap_or_default().annotations;
    assert_eq!(annotations.get("reloader.stakater.com/ignore").map(String::as_str), told);
    // What is added is written to a Secret that is there, and taken away when it is asked for no more.
    let is_added = plain.secret_template != spec.secret_template;
    assert_eq!(digest(&plain) != digest(&spec), is_added);
    let record = LayoutRecord::of(&spec, &BTreeMap::new());
    assert_eq!(record.annotations.contains("reloader.stakater.com/ignore"), told.is_some());
    let once = spec.clone();
    take_over_from_reloader(&mut spec);
    assert_eq!(spec, once, "a second time changes nothing");
}
