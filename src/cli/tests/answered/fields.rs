//! The fields of the answers for programs are those of the table in docs/cli.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::*;

/// The heading of the table.
const HEADING: &str = "| Answer of | Fields |";

/// An answer, or the objects of one of its lists: `status`, `status certificates`.
type Place = String;

/// The fields of each place, and whether each is always there.
fn documented() -> BTreeMap<Place, BTreeMap<String, bool>> {
    let docs = include_str!("../../../../docs/cli.md");
    let rows = docs.lines().skip_while(|line| !line.starts_with(HEADING)).skip(2).take_while(|line| line.starts_with('|'));
    let mut found = BTreeMap::new();
    for row in rows {
        let (place, fields) = row.trim_matches('|').split_once('|').unwrap();
        let (verbs, list) = place.split_once(", each of ").unwrap_or((place, ""));
        // Behind each word in backticks: what follows until the next one.
        let fields = fields.split('`').skip(1).collect::<Vec<_>>();
        let fields =
            fields.chunks(2).map(|pair| (pair[0].to_owned(), !pair.get(1).is_some_and(|after| after.starts_with('?'))));
        let fields: BTreeMap<String, bool> = fields.collect();
        for verb in verbs.split('`').skip(1).step_by(2) {
            found.insert(format!("{verb} {}", list.trim().trim_matches('`')).trim().to_owned(), fields.clone());
        }
    }
    found
}

/// The fields of each place of this answer.
fn told(verb: &str, answer: &Value) -> Vec<(Place, BTreeSet<String>)> {
    let fields = |object: &Value| object.as_object().unwrap().keys().cloned().collect();
    let lists = answer.as_object().unwrap().iter().filter_map(|(name, list)| Some((name, list.as_array()?)));
    let of_lists = lists.flat_map(|(name, list)| {
        list.iter().filter(|item| item.is_object()).map(move |item| (format!("{verb} {name}"), fields(item)))
    });
    of_lists.chain([(verb.to_owned(), fields(answer))]).collect()
}

/// A Secret that can be taken over, and its issuer.
fn answers_about_a_secret(certificate: &str, key: &str) -> impl Fn(&str, &str) -> Option<(u16, Value)> + use<> {
    let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "namespace": "shop", "name": "orders-tls", "uid": "s", "resourceVersion": "1", "labels": {} },
        "data": { "tls.crt": bytes(certificate), "tls.key": bytes(key) },
    });
    let mut orphan = secret.clone();
    orphan["metadata"]["labels"] = json!({ "usercert.dev/certificate-uid": "gone" });
    orphan["kind"] = json!("PartialObjectMetadata");
    let issuer = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "namespace": "shop", "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    });
    move |method, path| match (method, path) {
        ("GET" | "PATCH", "/api/v1/namespaces/shop/secrets/orders-tls") => Some((200, secret.clone())),
        ("GET", "/api/v1/namespaces/shop/secrets") => Some((200, json!({ "metadata": {}, "items": [orphan] }))),
        ("GET", "/api/v1/namespaces/shop/pods" | "/apis/usercert.dev/v1alpha1/databaseusercertificates") => {
            Some((200, json!({ "metadata": {}, "items": [] })))
        }
        ("GET", "/apis/usercert.dev/v1alpha1/namespaces/shop/certificateissuers/ca") => Some((200, issuer.clone())),
        ("GET", "/apis/usercert.dev/v1alpha1/namespaces/shop/certificateissuers") => {
            Some((200, json!({ "metadata": {}, "items": [issuer] })))
        }
        ("GET", "/version") => Some((403, failure(403))),
        ("POST", CERTIFICATES) => Some((201, self::certificate("orders", 10, &[]))),
        _ => None,
    }
}

#[test]
fn the_fields_of_the_answers_for_programs_are_those_of_the_docs() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "orders");
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let now = std::time::SystemTime::now();
    (parameters.not_before, parameters.not_after) = (now.into(), (now + std::time::Duration::from_hours(2160)).into());
    let certificate_pem = parameters.self_signed(&key).unwrap().pem();
    let mut storm: Vec<Value> = (1..=3).map(|day| certificate(&format!("orders-{day}"), 10, &[])).collect();
    storm.push(certificate("without-renewal", 1, &[("/status/renewalTime", Value::Null)]));
    storm.push(certificate("suspended", 1, &[("/status/renewalTime", Value::Null)]));
    storm[4]["spec"]["suspend"] = json!(true);
    storm.push(certificate("orders", 10, &[]));
    let (address, _) = changing_server(storm, answers_about_a_secret(&certificate_pem, &key.serialize_pem()));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &certificate_pem).unwrap();

    let documented = documented();
    let mut seen: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
    for command in [
        &["status"][..],
        &["why", "orders"],
        &["plan", "--storm", "2"],
        &["inspect", "orders-tls"],
        &["inspect", "--file", file.path().to_str().unwrap()],
        &["orphans"],
        &["check"],
        &["renew", "orders"],
        &["suspend", "orders"],
        &["resume", "orders"],
        &["migrate", "orders-tls", "--issuer", "ca"],
    ] {
        let said = run(&address, &[command, &["-o", "json"]].concat());
        let answer = serde_json::from_str(&said.text).unwrap_or_else(|error| unreachable!("{command:?}: {error}: {said:?}"));
        for (place, fields) in told(command[0], &answer) {
            let known =
                documented.get(&place).unwrap_or_else(|| unreachable!("docs/cli.md has no row for {place}: {fields:?}"));
            let unknown: Vec<_> = fields.iter().filter(|field| !known.contains_key(*field)).collect();
            assert!(unknown.is_empty(), "docs/cli.md does not name {unknown:?} of {place}");
            let absent: Vec<_> = known.iter().filter(|(field, always)| **always && !fields.contains(*field)).collect();
            assert!(absent.is_empty(), "{place} has no {absent:?}, and docs/cli.md says that it is always there");
            seen.entry(place).or_default().extend(fields);
        }
    }
    // A test beside the verb fills these lists.
    let elsewhere = ["plan limited", "plan queuedProjects", "plan heldUsers", "plan cutOff"];
    let unseen: Vec<_> =
        documented.keys().filter(|place| !seen.contains_key(*place) && !elsewhere.contains(&place.as_str())).collect();
    assert!(unseen.is_empty(), "no answer has {unseen:?}");
}
