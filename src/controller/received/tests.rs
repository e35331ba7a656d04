//! Whatever stands in one object, the others are read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{ObjectList, WatchEvent},
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::AtlasIssuerSpec;

const SPEC: &str = r#"{"username":"orders","issuerRef":{"name":"ca"},"monthsUntilExpiration":3}"#;

fn certificate(metadata: &str, spec: &str, status: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"orders","namespace":"shop","uid":"u","resourceVersion":"7"{metadata}}},"spec":{spec},"status":{status}}}"#
    )
}

fn read<K: FromMetadata>(text: &str) -> Received<K> {
    serde_json::from_str(text).unwrap()
}

fn list(items: &[&str]) -> Vec<Received<DatabaseUserCertificate>> {
    let text =
        format!(r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"9"}},"items":[{}]}}"#, items.join(","));
    serde_json::from_str::<ObjectList<Received<DatabaseUserCertificate>>>(&text).unwrap().items
}

fn deep(levels: usize) -> String {
    format!("{}{}", r#"{"f:a":"#.repeat(levels), "0".to_owned() + &"}".repeat(levels))
}

#[rstest]
#[case::managed_time(&certificate(r#","managedFields":[{"manager":"m","time":"9999-12-31T23:59:59Z"}]"#, SPEC, "{}"), None)]
#[case::managed_depth(&certificate(&format!(r#","managedFields":[{{"fieldsV1":{}}}]"#, deep(500)), SPEC, "{}"), None)]
#[case::managed_number(&certificate(r#","managedFields":1e999"#, SPEC, "{}"), None)]
#[case::status_time(
    &certificate("", SPEC, r#"{"notAfter":"2026-11-01T00:00:00.123456789012Z","serialNumber":"1A"}"#),
    Some(Unreadable::Status("status.notAfter: its value cannot be read".into()))
)]
#[case::status_text(&certificate("", SPEC, r#""none""#), Some(Unreadable::Status("status: expected struct DatabaseUserCertificateStatus".into())))]
#[case::status_of_an_old_certificate(
    &certificate("", SPEC, r#"{"history":[{"serialNumber":"1A","reason":"r","recordedAt":"x","notAfter":"y"}]}"#),
    Some(Unreadable::Status("status.history[0].notAfter: its value cannot be read".into()))
)]
#[case::status_depth(&certificate("", SPEC, &deep(500)), Some(Unreadable::Status("status: recursion limit exceeded".into())))]
#[case::status_number(&certificate("", SPEC, r#"{"observedGeneration":1e999}"#), Some(Unreadable::Status("status: number out of range".into())))]
#[case::spec_range(
    &certificate("", r#"{"username":"orders","monthsUntilExpiration":300}"#, "{}"),
    Some(Unreadable::Object("spec.monthsUntilExpiration: expected u8".into()))
)]
#[case::spec_variant(
    &certificate("", r#"{"privateKey":{"algorithm":"DSA"}}"#, "{}"),
    Some(Unreadable::Object("spec.privateKey.algorithm: expected one of `ECDSA`, `RSA`, `Ed25519`".into()))
)]
#[case::spec_missing(r#"{"metadata":{"name":"orders"}}"#, Some(Unreadable::Object("the object: missing field `spec`".into())))]
#[case::metadata(&certificate(r#","labels":"none""#, SPEC, "{}"), Some(Unreadable::Object("metadata.labels: expected a map".into())))]
#[case::no_object("[1,2]", Some(Unreadable::Object("the object: expected a map".into())))]
fn a_poisoned_object_leaves_its_neighbours_readable(#[case] poisoned: &str, #[case] unreadable: Option<Unreadable>) {
    let good = certificate("", SPEC, "{}");
    let items = list(&[&good, poisoned, &good]);
    assert_eq!(items.iter().map(|item| item.unreadable().cloned()).collect::<Vec<_>>(), [None, unreadable, None]);
    assert_eq!(items[2].spec.username.as_deref(), Some("orders"));
    if poisoned.starts_with('{') {
        assert_eq!(items[1].name_any(), "orders", "what can be read is read");
    }
    let line = format!(r#"{{"type":"MODIFIED","object":{poisoned}}}"#);
    let event: WatchEvent<Received<DatabaseUserCertificate>> = serde_json::from_str(&line).unwrap();
    assert!(matches!(event, WatchEvent::Modified(_)));
}

#[test]
fn what_stands_beside_an_unreadable_value_is_read() {
    let status = r#"{"serialNumber":"1A","notAfter":"never","conditions":[{"type":"Ready"}],
        "history":[{"serialNumber":"1A","reason":"r","recordedAt":"x","notAfter":"y"},
                   {"serialNumber":"2B","reason":"r","recordedAt":"2026-11-01T00:00:00Z","notAfter":"2027-11-01T00:00:00Z"}]}"#;
    let found: Received<DatabaseUserCertificate> = read(&certificate("", SPEC, status));
    let status = found.status.clone().unwrap();
    assert_eq!((status.serial_number.as_deref(), status.not_after, status.conditions.len()), (Some("1A"), None, 0));
    assert_eq!(status.history.iter().map(|issued| issued.serial_number.as_str()).collect::<Vec<_>>(), ["2B"]);
    assert_eq!(found.spec.months_until_expiration, Some(3));
}

#[test]
fn the_deepest_that_is_read_overflows_no_stack() {
    let text = format!(r#"{{"metadata":{{"name":"a"}},"spec":{}}}"#, deep(125));
    let object: Received<DynamicObject> = read(&text);
    assert!(object.unreadable().is_none() && object.data["spec"].is_object());
    assert!(read::<DatabaseUserCertificate>(&text).unreadable().is_none(), "a field that is not known is not read");
}

#[test]
fn a_list_of_unreadable_values_is_left_out_in_few_steps() {
    let history = vec!["{}"; 50_000].join(",");
    let found: Received<DatabaseUserCertificate> =
        read(&certificate("", SPEC, &format!(r#"{{"serialNumber":"1A","history":[{history}]}}"#)));
    assert!(matches!(found.unreadable(), Some(Unreadable::Status(_))), "{found:?}");
    assert_eq!(found.spec.username.as_deref(), Some("orders"));
}

#[test]
fn an_object_of_which_only_metadata_is_left_has_all_that_can_be_read_of_it() {
    let found: Received<DatabaseUserCertificate> = read(
        r#"{"metadata":{"name":"orders","namespace":"shop","uid":"u","resourceVersion":"7","generation":"x","labels":{"a":"b","c":1},
            "annotations":{"usercert.dev/adopt-secret":"true","usercert.dev/compromised":1},"deletionTimestamp":"2026-11-01T00:00:00Z","managedFields":"none",
            "ownerReferences":[{"apiVersion":"v1","kind":"K","name":"n","uid":"o"},{"uid":5}]}}"#,
    );
    let metadata = &found.metadata;
    assert_eq!((metadata.name.as_deref(), metadata.uid.as_deref(), metadata.generation), (Some("orders"), Some("u"), None));
    assert!(metadata.deletion_timestamp.is_some() && found.annotations()["usercert.dev/adopt-secret"] == "true");
    assert!(found.unreadable_object().is_some());
}

#[test]
fn of_a_secret_it_is_kept_who_wrote_when_and_no_time_hides_a_writer() {
    let secret: Received<Secret> = read(
        r#"{"metadata":{"name":"orders","managedFields":[
            {"manager":"first","operation":"Update","time":"2026-11-01T00:00:00Z","fieldsV1":{"f:data":{"f:a":{}},"f:type":{}}},
            {"manager":"last","operation":"Apply","time":"9999-12-31T23:59:59Z"}, 5, {"manager":7}]},"data":{"tls.key":"QQ=="}}"#,
    );
    let managers: Vec<_> =
        secret.managed_fields().iter().map(|entry| (entry.manager.as_deref(), entry.time.as_ref())).collect();
    assert_eq!(managers[1].0, Some("last"));
    assert_eq!(managers[1].1.unwrap().0, Timestamp::MAX);
    assert!(managers.len() == 2 && managers[0].1 < managers[1].1);
    let data = secret.managed_fields()[0].fields_v1.as_ref().map(|fields| fields.0.clone());
    assert_eq!(data, Some(serde_json::json!({ "f:data": {} })), "no name of an entry");
    assert_eq!(secret.data.as_ref().unwrap()["tls.key"].0, b"A");
    let metadata: Received<PartialObjectMeta<Secret>> =
        read(r#"{"metadata":{"name":"orders","managedFields":[{"time":"x"}]}}"#);
    assert!(metadata.managed_fields().is_empty() && metadata.unreadable().is_none());
}

#[rstest]
#[case(r#"{"metadata":{"name":"a"},"data":{"tls.key":"c2VjcmV0 secret"}}"#)]
#[case(r#"{"metadata":{"name":"a"},"data":"secret"}"#)]
#[case(r#"{"metadata":{"name":"a","annotations":"secret"}}"#)]
#[case(r#"{"metadata":{"name":"a"},"type":["secret, expected secret"]}"#)]
#[case(r#"{"metadata":{"name":"a"},"immutable":"secret, expected secret"}"#)]
fn nothing_of_an_unreadable_value_is_said(#[case] text: &str) {
    let secret: Received<Secret> = read(text);
    assert!(secret.unreadable_object().is_some());
    let said = format!("{secret:?} {}", secret.unreadable().unwrap());
    assert!(!said.contains("secret") && !said.contains("c2Vj"), "{said}");
    assert_eq!(secret.name_any(), "a");
}

#[test]
fn what_is_said_is_short_and_for_people() {
    let key = "x\\u001b[31m\\u202e".repeat(500);
    let found: Received<Secret> = read(&format!(r#"{{"metadata":{{"name":"a"}},"data":{{"{key}":1}}}}"#));
    let Some(Unreadable::Object(fault)) = found.unreadable() else { panic!("{found:?}") };
    assert!(fault.chars().count() <= 200 && !fault.contains(['\u{1b}', '\u{202e}']), "{fault}");
}

#[test]
fn each_kind_is_read_and_written_as_before() {
    fn same<K: FromMetadata + Serialize>(object: Value) {
        let read: Received<K> = serde_json::from_str(&object.to_string()).unwrap();
        assert!(read.unreadable().is_none(), "{read:?}");
        let expected = serde_json::to_value(serde_json::from_value::<K>(object).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), expected);
    }
    let metadata = json!({ "name": "a", "namespace": "b", "creationTimestamp": "2026-11-01T00:00:00Z" });
    same::<Secret>(
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": { "a": "QQ==" } }),
    );
    same::<PartialObjectMeta<Secret>>(
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata }),
    );
    same::<DynamicObject>(
        json!({ "apiVersion": "a/v1", "kind": "B", "metadata": metadata, "spec": { "any": [1, 2.5, null] } }),
    );
    same::<DatabaseUserCertificate>(serde_json::from_str(&certificate("", SPEC, "{}")).unwrap());
    let issuer = json!({ "ca": { "secretName": "ca" } });
    same::<CertificateIssuer>(json!({ "metadata": metadata, "spec": issuer }));
    same::<ClusterCertificateIssuer>(json!({ "metadata": metadata, "spec": issuer }));
    let atlas: AtlasIssuerSpec = serde_json::from_value(json!({ "projectId": "p" })).unwrap();
    same::<CertificateIssuer>(json!({ "metadata": metadata, "spec": { "atlas": atlas } }));
    assert!(Received::<PartialObjectMeta<Secret>>::metadata_api() && !Received::<Secret>::metadata_api());
}

/// Any JSON, with the names that have a meaning in objects.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("2026-11-01T00:00:00Z")),
        ".{0,8}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "metadata",
        "managedFields",
        "time",
        "manager",
        "name",
        "labels",
        "ownerReferences",
        "uid",
        "spec",
        "status",
        "username",
        "issuerRef",
        "history",
        "conditions",
        "issuance",
        "data",
        "type",
        "kind",
        "apiVersion",
        "notAfter",
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(ToOwned::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn neighbours_are_read<K: FromMetadata + Clone>(item: &Value) {
    let good = r#"{"metadata":{"name":"good"},"spec":{}}"#;
    let text = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{good},{item},{good}]}}"#);
    let items = serde_json::from_str::<ObjectList<Received<K>>>(&text).unwrap().items;
    assert!(items.len() == 3 && items[0].name_any() == "good" && items[2].name_any() == "good");
    assert!(items[0].unreadable().is_none() && items[2].unreadable().is_none());
}

proptest! {
    #[test]
    fn whatever_stands_in_a_list_its_other_objects_are_read(item in any_json()) {
        neighbours_are_read::<DatabaseUserCertificate>(&item);
        neighbours_are_read::<CertificateIssuer>(&item);
        neighbours_are_read::<ClusterCertificateIssuer>(&item);
        neighbours_are_read::<Secret>(&item);
        neighbours_are_read::<PartialObjectMeta<Secret>>(&item);
        neighbours_are_read::<DynamicObject>(&item);
    }
}
