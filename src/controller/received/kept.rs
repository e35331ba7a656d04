//! What is kept of the metadata of an object that a watch shows. Whoever may write an object may fill its metadata with 1.5 MB, and all
//! objects are in memory.
//!
//! # Guarantees
//!
//! - Nothing is kept that is not used: of labels and annotations those in the lists below and those that the spec asked for, finalizers while
//!   they hold a deletion up, and owners of Secrets only.
//! - What is used has a limit of bytes. Each name has its own, so that no value changes what is kept of another. [`MOST_OF_CERTIFICATE`] and
//!   [`MOST_OF_SECRET`] are the sums.
//! - A value of ours that is longer than its limit is replaced by its digest, so that a new value is still another one. A value that the spec
//!   asked for and that does not fit is left out: then the Secret itself is read.
//! - Owners that take more make the object unreadable, because a write that changes owners has to name all of them.
//! - Labels of a namespace that take more are left out together. If one alone were missing, a selector with `NotIn` or `DoesNotExist` would
//!   match.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::{
    api::names::{
        ADOPT_SECRET_ANNOTATION, CA_DIGEST_ANNOTATION, CERTIFICATE_UID_LABEL, COMPROMISED_ANNOTATION, ISSUANCE_ANNOTATION,
        ISSUE_REASON_ANNOTATION, ISSUER_ANNOTATION, KEYSTORE_SERIAL_NUMBER_ANNOTATION, LAYOUT_ANNOTATION, NOT_AFTER_ANNOTATION,
        PREVIOUS_NOT_AFTER_ANNOTATION, PREVIOUS_SERIAL_NUMBER_ANNOTATION, RENEW_REQUESTED_ANNOTATION,
        RESUME_ROLLOUT_ANNOTATION, RETAINED_FOR_ANNOTATION, SERIAL_NUMBER_ANNOTATION,
    },
    issuers::lending::CREDENTIALS_LABEL,
    layout::LayoutRecord,
    text::count as count_of,
};

/// The name of a label or annotation, and its longest value in bytes.
type Used = (&'static str, usize);

/// The longest value of most annotations. The name of an object has 253 bytes at most, and 128 characters of a request for a renewal are used.
const SHORT: usize = 512;

/// The annotations of a `DatabaseUserCertificate`.
const OF_CERTIFICATE: [Used; 4] = [
    (ADOPT_SECRET_ANNOTATION, SHORT),
    // About two hundred serial numbers.
    (COMPROMISED_ANNOTATION, 8 * 1024),
    (RENEW_REQUESTED_ANNOTATION, SHORT),
    (RESUME_ROLLOUT_ANNOTATION, SHORT),
];

/// The annotations of a Secret.
const OF_SECRET: [Used; 12] = [
    (CA_DIGEST_ANNOTATION, SHORT),
    (ISSUANCE_ANNOTATION, SHORT),
    (ISSUE_REASON_ANNOTATION, SHORT),
    (ISSUER_ANNOTATION, SHORT),
    (KEYSTORE_SERIAL_NUMBER_ANNOTATION, SHORT),
    // The names of as many entries, labels and annotations as the schema admits.
    (LAYOUT_ANNOTATION, 16 * 1024),
    (NOT_AFTER_ANNOTATION, SHORT),
    (PREVIOUS_NOT_AFTER_ANNOTATION, SHORT),
    (PREVIOUS_SERIAL_NUMBER_ANNOTATION, SHORT),
    (RENEW_REQUESTED_ANNOTATION, SHORT),
    (RETAINED_FOR_ANNOTATION, SHORT),
    (SERIAL_NUMBER_ANNOTATION, SHORT),
];

/// The labels of a Secret. The API server takes no longer values.
const LABELS_OF_SECRET: [Used; 2] = [(CERTIFICATE_UID_LABEL, 63), (CREDENTIALS_LABEL.0, 63)];

/// The most bytes of the labels and annotations of a Secret that the spec asked for.
const TEMPLATE_LIMIT: usize = 8 * 1024;

/// The most bytes of all owners of a Secret. One owner takes about 200.
const OWNERS_LIMIT: usize = 16 * 1024;

/// The most bytes of all finalizers.
const FINALIZERS_LIMIT: usize = 1024;

/// The most bytes of the entry that says how many other finalizers there are.
const MOST_FOR_OTHERS: usize = 64;

/// The most bytes of all labels of a namespace. A label takes about 100.
const NAMESPACE_LABELS_LIMIT: usize = 16 * 1024;

/// The most bytes of all this of a `DatabaseUserCertificate`.
const MOST_OF_CERTIFICATE: usize = sum(&OF_CERTIFICATE) + FINALIZERS_LIMIT;

/// The most bytes of all this of a Secret.
const MOST_OF_SECRET: usize = sum(&OF_SECRET) + sum(&LABELS_OF_SECRET) + TEMPLATE_LIMIT + OWNERS_LIMIT + FINALIZERS_LIMIT;

const _: () = assert!(MOST_OF_CERTIFICATE <= 12 * 1024 && MOST_OF_SECRET <= 50 * 1024, "docs/security.md says so");

/// Which part of the metadata of a kind is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it. For objects that are read and not kept.
    All,
    /// Of `DatabaseUserCertificate`s: our annotations, and what holds the deletion up.
    OfCertificate,
    /// Of Secrets: our labels and annotations, what the spec asked for, the owners, and what holds the deletion up.
    OfSecret,
    /// Of namespaces: the labels. Selectors may name any of them.
    OfNamespace,
    /// Nothing but what names the object.
    Name,
}

impl Kept {
    /// Drops what is not used. Returns what of the rest is too long to be kept, as the end of a sentence.
    pub(super) fn reduce(self, metadata: &mut ObjectMeta) -> Option<&'static str> {
        if self == Self::All {
            return None;
        }
        let is_held = metadata.deletion_timestamp.is_some();
        let finalizers = metadata.finalizers.take().filter(|_| is_held);
        let labels = metadata.labels.take().unwrap_or_default();
        let annotations = metadata.annotations.take().unwrap_or_default();
        let owners = metadata.owner_references.take().unwrap_or_default();
        (metadata.generate_name, metadata.self_link) = (None, None);
        if matches!(self, Self::OfCertificate | Self::OfSecret) {
            metadata.finalizers = finalizers.map(shortened_list);
        }
        match self {
            Self::All | Self::Name => None,
            Self::OfCertificate => {
                metadata.annotations = some(used(&annotations, &OF_CERTIFICATE));
                None
            }
            Self::OfNamespace => {
                if labels.iter().map(size_of_entry).sum::<usize>() > NAMESPACE_LABELS_LIMIT {
                    return Some("has more labels than can be kept");
                }
                metadata.labels = some(labels);
                None
            }
            Self::OfSecret => {
                let record = LayoutRecord::from_annotation(annotations.get(LAYOUT_ANNOTATION).map(String::as_str));
                let mut room = TEMPLATE_LIMIT;
                let mut asked = |values: &Values, names| asked_for(values, names, &mut room);
                let (asked_labels, asked_annotations) =
                    (asked(&labels, &record.labels), asked(&annotations, &record.annotations));
                metadata.labels = some(asked_labels.into_iter().chain(used(&labels, &LABELS_OF_SECRET)).collect());
                metadata.annotations = some(asked_annotations.into_iter().chain(used(&annotations, &OF_SECRET)).collect());
                if owners.iter().map(size_of_owner).sum::<usize>() > OWNERS_LIMIT {
                    return Some("has more owners than can be kept");
                }
                metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
                None
            }
        }
    }
}

type Values = BTreeMap<String, String>;

const fn sum(used: &[Used]) -> usize {
    let (mut sum, mut index) = (0, 0);
    while index < used.len() {
        sum += size_of::<(String, String)>() + used[index].0.len() + used[index].1;
        index += 1;
    }
    sum
}

fn size_of_entry((key, value): (&String, &String)) -> usize {
    size_of::<(String, String)>() + key.len() + value.len()
}

fn size_of_owner(owner: &OwnerReference) -> usize {
    size_of::<OwnerReference>() + owner.api_version.len() + owner.kind.len() + owner.name.len() + owner.uid.len()
}

/// The map is always a new one, because one that is emptied keeps its memory.
fn some(values: Values) -> Option<Values> {
    Some(values).filter(|values| !values.is_empty())
}

/// Those of ours.
fn used(values: &Values, used: &[Used]) -> Values {
    let found = used.iter().filter_map(|(name, longest)| Some(((*name).to_owned(), shortened(values.get(*name)?, *longest))));
    found.collect()
}

fn shortened(value: &str, longest: usize) -> String {
    if value.len() <= longest { value.to_owned() } else { format!("sha256:{}", hex::encode(digest(&SHA256, value.as_bytes()))) }
}

/// The first finalizers. They are kept to be told, so the last entry says how many others there are.
pub(crate) fn shortened_list(finalizers: Vec<String>) -> Vec<String> {
    let size = |name: &String| size_of::<String>() + name.len();
    if finalizers.iter().map(size).sum::<usize>() <= FINALIZERS_LIMIT {
        return finalizers;
    }
    let (count, mut room) = (finalizers.len(), FINALIZERS_LIMIT - MOST_FOR_OTHERS);
    let fits = |name: &String| {
        let rest = room.checked_sub(size(name));
        room = rest.unwrap_or(0);
        rest.is_some()
    };
    let mut kept: Vec<String> = finalizers.into_iter().take_while(fits).collect();
    kept.push(count_of(count - kept.len(), "other"));
    kept
}

/// Those that the spec asked for, as far as there is room.
fn asked_for(values: &Values, names: &BTreeSet<String>, room: &mut usize) -> Values {
    let found = values.iter().filter(|(name, _)| names.contains(*name));
    let fits = |entry: &(&String, &String)| {
        let rest = room.checked_sub(size_of_entry(*entry));
        *room = rest.unwrap_or(*room);
        rest.is_some()
    };
    found.filter(fits).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    use kube::{ResourceExt, api::DynamicObject, core::PartialObjectMeta};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        FromMetadata, Received,
        api::{CertificateIssuer, DatabaseUserCertificate},
        secret::held_by,
    };

    fn received<K: FromMetadata>(metadata: &Value) -> Received<K> {
        let object = json!({ "apiVersion": "v1", "kind": "X", "metadata": metadata, "spec": {} });
        serde_json::from_str(&object.to_string()).unwrap()
    }

    /// Metadata as full as its author can make it.
    fn full() -> Value {
        let owner =
            |number: usize| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": format!("o{number}"), "uid": "u" });
        json!({
            "name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "finalizers": ["example.com/kept"], "generateName": "orders-",
            "labels": { "usercert.dev/certificate-uid": "u", "atlas.mongodb.com/type": "credentials", "team": "a", "asked": "for" },
            "annotations": {
                "note": "x".repeat(200_000), "asked": "for", RENEW_REQUESTED_ANNOTATION: "now",
                LAYOUT_ANNOTATION: r#"{"digest":"d","labels":["asked"],"annotations":["asked"]}"#,
            },
            "ownerReferences": (0..3).map(owner).collect::<Vec<_>>(),
        })
    }

    #[test]
    fn of_each_kind_what_is_used_is_kept() {
        let certificate: Received<DatabaseUserCertificate> = received(&full());
        assert_eq!(certificate.annotations().keys().collect::<Vec<_>>(), [RENEW_REQUESTED_ANNOTATION]);
        assert_eq!((certificate.labels().len(), certificate.owner_references().len()), (0, 0));
        assert_eq!((certificate.name_any().as_str(), certificate.metadata.generation), ("orders", Some(3)));
        let issuer: Received<CertificateIssuer> = received(&full());
        assert!(issuer.annotations().is_empty() && issuer.labels().is_empty() && issuer.unreadable().is_none());
        let secret: Received<PartialObjectMeta<Secret>> = received(&full());
        assert_eq!(secret.annotations().keys().collect::<Vec<_>>(), ["asked", LAYOUT_ANNOTATION, RENEW_REQUESTED_ANNOTATION]);
        let labels = secret.labels().keys().collect::<Vec<_>>();
        assert_eq!(labels, ["asked", "atlas.mongodb.com/type", "usercert.dev/certificate-uid"]);
        assert_eq!(secret.owner_references().len(), 3);
        let namespace: Received<PartialObjectMeta<Namespace>> = received(&full());
        assert_eq!((namespace.labels().len(), namespace.annotations().len()), (4, 0));
        let foreign: Received<DynamicObject> = received(&full());
        assert!(foreign.labels().is_empty() && foreign.annotations().is_empty() && foreign.owner_references().is_empty());
        for metadata in [&certificate.metadata, &issuer.metadata, &secret.metadata, &namespace.metadata, &foreign.metadata] {
            assert_eq!(metadata.finalizers, None);
        }
    }

    #[test]
    fn what_holds_a_deletion_up_is_kept_to_be_told() {
        let told = |finalizers: &[String]| {
            let metadata = json!({ "finalizers": finalizers, "deletionTimestamp": "2026-11-25T00:00:00Z" });
            let certificate = received::<DatabaseUserCertificate>(&metadata).metadata.finalizers.clone().unwrap();
            let secret: Received<PartialObjectMeta<Secret>> = received(&metadata);
            let read: Received<Secret> = received(&metadata);
            assert_eq!(held_by(&secret.metadata), held_by(&read.metadata), "a restart changes nothing that is said");
            assert_eq!(held_by(&secret.metadata), Some(certificate.join(", ")));
            certificate
        };
        assert_eq!(told(&["test/wait".to_owned()]), ["test/wait"]);
        let many: Vec<String> = (0..1000).map(|number| format!("example.com/finalizer-{number}")).collect();
        let told = told(&many);
        let first = told.len() - 1;
        assert_eq!((&told[..first], told[first].clone()), (&many[..first], format!("{} others", 1000 - first)));
        assert!((8..=20).contains(&first), "{first}");
    }

    /// Of 32 names of one prefix, each with the longest value that the API server takes in all.
    fn crowded(prefix: &str) -> Value {
        let mut annotations: serde_json::Map<String, Value> =
            (0..32).map(|number| (format!("{prefix}/a{number}"), json!("x".repeat(7_000)))).collect();
        annotations.insert(RENEW_REQUESTED_ANNOTATION.to_owned(), json!("now"));
        annotations.insert(RETAINED_FOR_ANNOTATION.to_owned(), json!("orders"));
        json!({ "name": "orders", "annotations": annotations, "labels": { CERTIFICATE_UID_LABEL: "u", (format!("{prefix}/x")): "y" } })
    }

    #[test]
    fn names_that_are_not_used_are_dropped_whatever_their_prefix_and_push_none_of_ours_out() {
        for prefix in ["usercert.dev", "atlas.mongodb.com"] {
            let certificate: Received<DatabaseUserCertificate> = received(&crowded(prefix));
            assert_eq!(certificate.annotations().keys().collect::<Vec<_>>(), [RENEW_REQUESTED_ANNOTATION]);
            let secret: Received<PartialObjectMeta<Secret>> = received(&crowded(prefix));
            let annotations = secret.annotations().keys().collect::<Vec<_>>();
            assert_eq!(annotations, [RENEW_REQUESTED_ANNOTATION, RETAINED_FOR_ANNOTATION]);
            assert_eq!(secret.labels().keys().collect::<Vec<_>>(), [CERTIFICATE_UID_LABEL]);
        }
    }

    fn kept_bytes(metadata: &ObjectMeta) -> usize {
        let maps = [&metadata.labels, &metadata.annotations].into_iter().flatten().flatten().map(size_of_entry).sum::<usize>();
        let finalizers = metadata.finalizers.iter().flatten().map(|name| size_of::<String>() + name.len()).sum::<usize>();
        maps + finalizers + metadata.owner_references.iter().flatten().map(size_of_owner).sum::<usize>()
    }

    #[test]
    fn the_sum_of_what_is_kept_has_a_bound() {
        let names: Vec<String> = (0..100).map(|number| format!("asked-for-{number}")).collect();
        let record = json!({ "digest": "d", "labels": names, "annotations": names });
        for length in [10, 511, 512, 4_000, 20_000] {
            let value = "x".repeat(length);
            let ours = OF_CERTIFICATE.iter().chain(&OF_SECRET).map(|(name, _)| (*name).to_owned());
            let all: Values = ours.chain(names.clone()).map(|name| (name, value.clone())).collect();
            let mut annotations = all.clone();
            annotations.insert(LAYOUT_ANNOTATION.to_owned(), record.to_string());
            let metadata = json!({
                "name": "orders", "labels": all, "annotations": annotations, "finalizers": names, "deletionTimestamp": "2026-11-25T00:00:00Z",
            });
            let certificate = received::<DatabaseUserCertificate>(&metadata).metadata.clone();
            let secret = received::<PartialObjectMeta<Secret>>(&metadata).metadata.clone();
            assert!(kept_bytes(&certificate) <= MOST_OF_CERTIFICATE, "{length}: {}", kept_bytes(&certificate));
            assert!(kept_bytes(&secret) <= MOST_OF_SECRET, "{length}: {}", kept_bytes(&secret));
            assert!(secret.annotations.unwrap().contains_key(SERIAL_NUMBER_ANNOTATION), "{length}");
        }
    }

    #[test]
    fn a_secret_that_is_read_and_not_kept_is_whole() {
        let secret: Received<Secret> = received(&full());
        assert_eq!((secret.annotations().len(), secret.labels().len(), secret.finalizers().len()), (4, 4, 1));
    }

    #[test]
    fn a_long_value_is_another_one_if_any_of_it_changes() {
        let asked = |end: &str| {
            let metadata = json!({ "annotations": { RENEW_REQUESTED_ANNOTATION: "x".repeat(200_000) + end } });
            received::<DatabaseUserCertificate>(&metadata).annotations()[RENEW_REQUESTED_ANNOTATION].clone()
        };
        assert!(asked("a").len() < 100);
        assert_eq!(asked("a"), asked("a"));
        assert_ne!(asked("a"), asked("b"));
    }

    /// `NotIn` and `DoesNotExist` would match if one were missing.
    #[test]
    fn labels_of_a_namespace_that_are_too_many_to_be_kept_are_left_out_together() {
        let with = |count: usize| -> Received<PartialObjectMeta<Namespace>> {
            let label = |number: usize| (format!("example.com/label-{number}"), "x".repeat(63));
            let labels: Values = (0..count).map(label).collect();
            received(&json!({ "name": "shop", "labels": labels }))
        };
        assert_eq!((with(100).labels().len(), with(100).unreadable()), (100, None));
        let crowded = with(200);
        assert!(crowded.labels().is_empty() && crowded.unreadable().is_some_and(|found| found.fault().contains("labels")));
    }

    #[test]
    fn a_secret_with_more_owners_than_can_be_kept_is_not_ours_to_write() {
        let mut metadata = full();
        metadata["ownerReferences"][0]["name"] = json!("x".repeat(20_000));
        let secret: Received<PartialObjectMeta<Secret>> = received(&metadata);
        assert!(secret.unreadable_object().is_some_and(|unreadable| unreadable.fault().contains("owners")));
        assert!(received::<DatabaseUserCertificate>(&metadata).unreadable().is_none(), "owners of objects are not used");
    }
}
