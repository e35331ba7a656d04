//! `orphans`: what nobody looks after.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use serde::Serialize;
use usercert_operator_controller::{
    Received,
    adoption::{is_controlled, label_of, retained_for},
};
use usercert_operator_core::api::{
    DatabaseUserCertificate,
    names::{CERTIFICATE_UID_LABEL, NOT_AFTER_ANNOTATION},
};

use super::{
    namespace::must_exist_if_empty,
    objects::{Certificate, certificates},
};
use crate::{
    arguments::{OrphansArguments, Selection},
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::{Cell, Table},
    terminal::{Mood, Terminal},
    text::{append, paragraph, relative},
};

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Orphans {
    orphans: Vec<Orphan>,
}

/// The metadata of a Secret, as far as they can be read.
type SecretMetadata = Received<PartialObjectMeta<Secret>>;

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
    let api: Api<Received<PartialObjectMeta<Secret>>> = if arguments.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        Api::namespaced(cluster.client.clone(), &cluster.namespace)
    };
    // The Secrets first: an object that is created between the two lists has no Secret in the first one.
    let mut secrets = list_ours(cluster, &api).await?;
    let selection = Selection { all_namespaces: arguments.all_namespaces, selector: None };
    let objects = certificates(cluster, &[], &selection).await?;
    must_exist_if_empty(cluster, secrets.is_empty() && objects.is_empty(), arguments.all_namespaces).await?;
    let mut known: BTreeSet<String> = objects.iter().filter_map(ResourceExt::uid).collect();
    let mut knows_all = true;
    if secrets.iter().any(|secret| !is_held(secret, &known)) {
        // An object that was deleted since the first list takes its Secret along.
        secrets = still_there(&secrets, list_ours(cluster, &api).await?);
        knows_all = arguments.all_namespaces || add_others(cluster, &mut known).await?;
    }
    let found = left_over(&secrets, &objects, &Known { objects: known, is_all: knows_all }, session.now());
    let is_wrong = found.iter().any(|orphan| orphan.kind != Kind::RetainedSecret);
    let answer = Orphans { orphans: found };
    let in_words = || render(&answer.orphans, &session.terminal, session.now());
    let text = for_programs(&answer, arguments.output)?.unwrap_or_else(in_words);
    Ok(Answer::new(text, if is_wrong { Exit::Attention } else { Exit::Good }))
}

/// The Secrets with the operator's label.
async fn list_ours(cluster: &Cluster, api: &Api<SecretMetadata>) -> Result<Vec<SecretMetadata>, CliError> {
    cluster.list("Secrets", api, &ListParams::default().labels(CERTIFICATE_UID_LABEL)).await
}

/// Adds the objects of all other namespaces: a replicator copies a Secret with its label. Whether they may be listed.
async fn add_others(cluster: &Cluster, known: &mut BTreeSet<String>) -> Result<bool, CliError> {
    let api = Api::<Received<PartialObjectMeta<DatabaseUserCertificate>>>::all(cluster.client.clone());
    match cluster.list("certificates of all namespaces", &api, &ListParams::default()).await {
        Err(error) if error.is_denied() => Ok(false),
        all => {
            known.extend(all?.iter().filter_map(ResourceExt::uid));
            Ok(true)
        }
    }
}

/// The Secrets that were there before and are there now, for the same object, and are not being deleted.
fn still_there(before: &[SecretMetadata], now: Vec<SecretMetadata>) -> Vec<SecretMetadata> {
    let of = |secret: &SecretMetadata| (secret.uid(), label_of(&secret.metadata).map(ToOwned::to_owned));
    let before: BTreeSet<_> = before.iter().map(of).collect();
    now.into_iter().filter(|secret| secret.metadata.deletion_timestamp.is_none() && before.contains(&of(secret))).collect()
}

/// The objects that are there, by their UIDs.
struct Known {
    objects: BTreeSet<String>,
    /// Whether those of all namespaces are among them.
    is_all: bool,
}

fn left_over(secrets: &[SecretMetadata], objects: &[Certificate], known: &Known, now: Timestamp) -> Vec<Orphan> {
    let mut found: Vec<Orphan> = secrets.iter().filter_map(|secret| without_object(secret, known)).collect();
    found.extend(objects.iter().flat_map(|object| unaccounted(object, now)));
    found.sort_by(|one, other| (one.kind, &one.namespace, &one.name).cmp(&(other.kind, &other.namespace, &other.name)));
    found
}

/// Whether one of these objects looks after the Secret. One that another controls is looked after, whatever its label says.
fn is_held(secret: &SecretMetadata, known: &BTreeSet<String>) -> bool {
    label_of(&secret.metadata).is_some_and(|uid| known.contains(uid)) || is_controlled_by_known(secret, known)
}

fn without_object(secret: &SecretMetadata, known: &Known) -> Option<Orphan> {
    if is_held(secret, &known.objects) {
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
        None if !known.is_all => (
            Kind::SecretWithoutObject,
            "no DatabaseUserCertificate of this namespace renews it, and you may not list those of others: ask for orphans -A before you change it. If a replicator made it as a copy, leave it".to_owned(),
        ),
        None => (
            Kind::SecretWithoutObject,
            "nobody renews it: a DatabaseUserCertificate with this secretName and the annotation usercert.dev/adopt-secret=true takes it over; else delete it when nothing uses it".to_owned(),
        ),
    };
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    Some(Orphan { kind, namespace, name, serial_number: None, not_after, advice })
}

fn is_controlled_by_known(secret: &SecretMetadata, known: &BTreeSet<String>) -> bool {
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

    fn secret(name: &str, uid: &str, annotations: &Value, owner: Option<&str>) -> SecretMetadata {
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
        let known = |is_all| Known { objects: ["u1".to_owned()].into(), is_all };
        let found = left_over(&secrets, &[object("u1", &unaccounted)], &known(true), now);
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
        let found = left_over(&secrets[2..3], &[], &known(false), now);
        assert!(found[0].advice.contains("ask for orphans -A") && !found[0].advice.contains("delete"), "{}", found[0].advice);
    }

    #[test]
    fn only_a_secret_that_stays_as_it_was_is_left_over() {
        let of = |uid: &str, label: &str| {
            let mut secret = secret("orders", label, &json!({}), None);
            secret.metadata.uid = Some(uid.to_owned());
            secret
        };
        let mut being_deleted = of("s2", "gone");
        being_deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let before = [of("s1", "gone"), of("s2", "gone"), of("s3", "gone"), of("s4", "gone")];
        let now = vec![of("s1", "gone"), being_deleted, of("s3", "taken-up"), of("new", "gone")];
        let found = still_there(&before, now);
        assert_eq!(found.iter().filter_map(|secret| secret.metadata.uid.as_deref()).collect::<Vec<_>>(), ["s1"]);
    }

    #[test]
    fn nothing_left_over_is_said() {
        assert!(render(&[], &Terminal::none(), Timestamp::UNIX_EPOCH).starts_with("there are none"));
    }
}
