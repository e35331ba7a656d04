//! `orphans`: what nobody looks after.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use serde::Serialize;
use usercert_operator_controller::adoption::{is_controlled, label_of, retained_for};
use usercert_operator_core::api::names::{CERTIFICATE_UID_LABEL, NOT_AFTER_ANNOTATION};

use super::objects::{Certificate, certificates};
use crate::{
    arguments::{OrphansArguments, Selection},
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::{Cell, Table},
    terminal::{Mood, Terminal},
    text::{append, paragraph, relative},
};

/// What is left over, and what to do about it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Orphan {
    kind: Kind,
    namespace: String,
    /// The Secret; for a certificate without a key, the object whose user it is of.
    name: String,
    /// The serial number, of certificates that Atlas lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    not_after: Option<Timestamp>,
    advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Kind {
    /// A Secret of the operator whose object is gone.
    SecretWithoutObject,
    /// A certificate of the database user that Atlas lists, whose key no Secret here holds.
    UnaccountedCertificate,
    /// Certificates that may exist, because answers of Atlas were lost.
    PresumedCertificates,
    /// A Secret that `deletionPolicy: Retain` keeps.
    RetainedSecret,
}

/// Answers `orphans`.
pub(super) async fn orphans(cluster: &Cluster, session: &Session, arguments: &OrphansArguments) -> Result<Answer, CliError> {
    let ours = ListParams::default().labels(CERTIFICATE_UID_LABEL);
    let api: Api<PartialObjectMeta<Secret>> = if arguments.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        Api::namespaced(cluster.client.clone(), &cluster.namespace)
    };
    // The Secrets first: an object that is deleted between the two lists takes its Secret along, and one that is created has none here.
    let secrets = cluster.list("Secrets", &api, &ours).await?;
    let selection = Selection { all_namespaces: arguments.all_namespaces, selector: None };
    let objects = certificates(cluster, &[], &selection).await?;
    let found = left_over(&secrets, &objects, session.now());
    let is_wrong = found.iter().any(|orphan| orphan.kind != Kind::RetainedSecret);
    let text = for_programs(&found, arguments.output)?.unwrap_or_else(|| render(&found, &session.terminal, session.now()));
    Ok(Answer::new(text, if is_wrong { Exit::Attention } else { Exit::Good }))
}

fn left_over(secrets: &[PartialObjectMeta<Secret>], objects: &[Certificate], now: Timestamp) -> Vec<Orphan> {
    let known: BTreeSet<String> = objects.iter().filter_map(ResourceExt::uid).collect();
    let mut found: Vec<Orphan> = secrets.iter().filter_map(|secret| without_object(secret, &known)).collect();
    found.extend(objects.iter().flat_map(|object| unaccounted(object, now)));
    found.sort_by(|one, other| (one.kind, &one.namespace, &one.name).cmp(&(other.kind, &other.namespace, &other.name)));
    found
}

fn without_object(secret: &PartialObjectMeta<Secret>, known: &BTreeSet<String>) -> Option<Orphan> {
    // One that another controls is looked after, whatever its label says.
    let is_held = label_of(&secret.metadata).is_some_and(|uid| known.contains(uid)) || is_controlled_by_known(secret, known);
    if is_held {
        return None;
    }
    let not_after = secret.annotations().get(NOT_AFTER_ANNOTATION).and_then(|text| text.parse().ok());
    let (kind, advice) = match retained_for(&secret.metadata) {
        Some(name) => (
            Kind::RetainedSecret,
            format!("deletionPolicy Retain keeps it: a DatabaseUserCertificate {name} takes it up again; else delete it when nothing uses it"),
        ),
        None if is_controlled(&secret.metadata) => (
            Kind::SecretWithoutObject,
            "its controller is no DatabaseUserCertificate that is there. If Kubernetes does not delete it with its controller, see who uses it before you delete it".to_owned(),
        ),
        None => (
            Kind::SecretWithoutObject,
            "nobody renews it: a DatabaseUserCertificate with this secretName and the annotation usercert.dev/adopt-secret=true takes it over; else delete it when nothing uses it".to_owned(),
        ),
    };
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    Some(Orphan { kind, namespace, name, serial_number: None, not_after, advice })
}

fn is_controlled_by_known(secret: &PartialObjectMeta<Secret>, known: &BTreeSet<String>) -> bool {
    secret.owner_references().iter().any(|owner| owner.controller == Some(true) && known.contains(&owner.uid))
}

fn unaccounted(object: &Certificate, now: Timestamp) -> Vec<Orphan> {
    let Some(found) = object.status.as_ref().and_then(|status| status.unaccounted_certificates.as_ref()) else {
        return Vec::new();
    };
    let orphan = |kind, serial_number, not_after, advice: String| Orphan {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        serial_number,
        not_after,
        advice,
    };
    let advice = "Atlas cannot revoke it: find out who has its key (another cluster, a program). If nobody can say, make a database user under another name, let the object name that one, and then delete the old user, which locks out whoever still logs in as it";
    let in_date = found.certificates.iter().filter(|certificate| certificate.not_after.0 > now);
    let mut orphans: Vec<Orphan> = in_date
        .map(|certificate| {
            let serial_number = Some(certificate.serial_number.clone());
            orphan(Kind::UnaccountedCertificate, serial_number, Some(certificate.not_after.0), advice.to_owned())
        })
        .collect();
    let others = found.count - found.presumed - i64::try_from(found.certificates.len()).unwrap_or_default();
    if others > 0 {
        let latest = found.latest_expiry.as_ref().map(|time| time.0);
        orphans.push(orphan(Kind::UnaccountedCertificate, None, latest, format!("{others} more; {advice}")));
    }
    if found.presumed > 0 {
        let advice = format!(
            "{} of Atlas were lost, and each may have held a certificate: the operator compares when it lists the certificates of the user next",
            crate::text::count(usize::try_from(found.presumed).unwrap_or_default(), "answer")
        );
        orphans.push(orphan(Kind::PresumedCertificates, None, None, advice));
    }
    orphans
}

fn render(found: &[Orphan], terminal: &Terminal, now: Timestamp) -> String {
    if found.is_empty() {
        return "there are none: each Secret has its object, and each certificate its Secret\n".to_owned();
    }
    let mut table = Table::new(["KIND", "NAMESPACE", "NAME", "SERIAL NUMBER", "EXPIRES"]);
    for orphan in found {
        let mood = if orphan.kind == Kind::RetainedSecret { Mood::Plain } else { Mood::Warning };
        table.push([
            Cell::new(format!("{:?}", orphan.kind), mood),
            orphan.namespace.as_str().into(),
            orphan.name.as_str().into(),
            orphan.serial_number.clone().unwrap_or_default().into(),
            orphan.not_after.map_or_else(String::new, |time| relative(time, now)).into(),
        ]);
    }
    let mut text = table.render(terminal);
    let mut told = BTreeSet::new();
    for orphan in found {
        if told.insert(&orphan.advice) {
            let title = Cell::plain(format!("{}/{}", orphan.namespace, orphan.name));
            append(&mut text, format_args!("\n{}\n", terminal.paint(Mood::Title, title.text())));
            text.push_str(&paragraph(Cell::whole(&orphan.advice).text(), 2, terminal));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(name: &str, uid: &str, annotations: &Value, owner: Option<&str>) -> PartialObjectMeta<Secret> {
        let owner = owner.map(|uid| json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "name": name, "uid": uid, "controller": true }));
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": { "namespace": "shop", "name": name, "labels": { CERTIFICATE_UID_LABEL: uid }, "annotations": annotations,
                "ownerReferences": owner.into_iter().collect::<Vec<_>>() },
        }))
        .unwrap()
    }

    fn object(uid: &str, status: &Value) -> Certificate {
        serde_json::from_value(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "namespace": "shop", "name": "orders", "uid": uid }, "spec": { "username": "orders" }, "status": status,
        }))
        .map_or_else(|_| unreachable!(), std::convert::identity)
    }

    #[test]
    fn secrets_without_their_object_and_certificates_without_their_key_are_told() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let secrets = [
            secret("orders", "u1", &json!({}), Some("u1")),
            secret("relabelled", "gone", &json!({}), Some("u1")),
            secret("restored", "gone", &json!({ NOT_AFTER_ANNOTATION: "2026-01-11T00:00:00Z" }), None),
            secret("kept", "gone", &json!({ "usercert.dev/retained-for": "kept" }), None),
        ];
        let unaccounted = json!({ "unaccountedCertificates": { "count": 4, "presumed": 1, "latestExpiry": "2026-02-01T00:00:00Z",
            "certificates": [{ "serialNumber": "0B", "notAfter": "2026-02-01T00:00:00Z" }, { "serialNumber": "0C", "notAfter": "2025-02-01T00:00:00Z" }] } });
        let found = left_over(&secrets, &[object("u1", &unaccounted)], now);
        let told: Vec<_> =
            found.iter().map(|orphan| (orphan.kind, orphan.name.as_str(), orphan.serial_number.as_deref())).collect();
        let expected = [
            (Kind::SecretWithoutObject, "restored", None),
            (Kind::UnaccountedCertificate, "orders", Some("0B")),
            (Kind::UnaccountedCertificate, "orders", None),
            (Kind::PresumedCertificates, "orders", None),
            (Kind::RetainedSecret, "kept", None),
        ];
        assert_eq!(told, expected);
        let text = render(&found, &Terminal::none(), now);
        assert!(text.contains("SecretWithoutObject      shop        restored                   in 10d\n"), "{text}");
        assert!(text.contains("usercert.dev/adopt-secret=true") && text.contains("1 more; Atlas cannot revoke it"), "{text}");
    }

    #[test]
    fn nothing_left_over_is_said() {
        assert!(render(&[], &Terminal::none(), Timestamp::UNIX_EPOCH).starts_with("there are none"));
    }
}
