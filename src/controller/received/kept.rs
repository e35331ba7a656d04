//! What is kept of the metadata of an object that a watch shows. Whoever may write an object may fill its metadata with 1.5 MB, and all
//! objects are in memory.
//!
//! # Guarantees
//!
//! - Nothing is kept that is not used: no label or annotation of others, no finalizers, and owners of Secrets only.
//! - What is used has a limit of bytes. An annotation of ours that is longer is replaced by its digest, so that a new value is still another
//!   one. Owners that take more make the object unreadable, because a write that changes owners has to name all of them.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::{
    api::names::{GROUP, LAYOUT_ANNOTATION},
    layout::LayoutRecord,
};

/// The prefix of the label by which the Atlas Kubernetes Operator marks Secrets with credentials.
const ATLAS_PREFIX: &str = "atlas.mongodb.com";

/// The most annotations of ours on one object. There are fewer.
const MOST_ANNOTATIONS: usize = 32;

/// The longest annotation, in bytes. A user's request for a renewal is a time, as a rule; the spec's annotations have up to 4,096 characters.
const LONGEST_ANNOTATION: usize = 16 * 1024;

/// The most bytes of all owners of a Secret. One owner takes about 200.
const OWNERS_LIMIT: usize = 16 * 1024;

/// Which part of the metadata of a kind is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it. For objects that are read and not kept.
    All,
    /// Of objects of our own kinds: our annotations.
    OfOurs,
    /// Of Secrets: our labels and annotations, what the spec asked for, and the owners.
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
        (metadata.finalizers, metadata.generate_name, metadata.self_link) = (None, None, None);
        let record = metadata.annotations.as_ref().and_then(|annotations| annotations.get(LAYOUT_ANNOTATION));
        let record = match self {
            Self::OfSecret => LayoutRecord::from_annotation(record.map(String::as_str)),
            _ => LayoutRecord::default(),
        };
        if self != Self::OfNamespace {
            let is_kept = |key: &str| self == Self::OfSecret && (is_marked(key) || record.labels.contains(key));
            reduce(&mut metadata.labels, is_kept);
        }
        let is_kept =
            |key: &str| matches!(self, Self::OfOurs | Self::OfSecret) && is_marked(key) || record.annotations.contains(key);
        reduce(&mut metadata.annotations, is_kept);
        let owners = metadata.owner_references.take().filter(|_| self == Self::OfSecret)?;
        if owners.iter().map(size).sum::<usize>() > OWNERS_LIMIT {
            return Some("has more owners than can be kept");
        }
        metadata.owner_references = Some(owners);
        None
    }
}

/// Whether a label or annotation is ours, or one of the Atlas Kubernetes Operator.
fn is_marked(key: &str) -> bool {
    key.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP || prefix == ATLAS_PREFIX)
}

fn size(owner: &OwnerReference) -> usize {
    size_of::<OwnerReference>() + owner.api_version.len() + owner.kind.len() + owner.name.len() + owner.uid.len()
}

/// Makes a map anew of what is kept, because one that is emptied keeps its memory.
fn reduce(values: &mut Option<BTreeMap<String, String>>, is_kept: impl Fn(&str) -> bool) {
    let all = values.take().unwrap_or_default();
    let kept: BTreeMap<_, _> = all.into_iter().filter(|(key, _)| is_kept(key)).take(MOST_ANNOTATIONS).map(shortened).collect();
    *values = Some(kept).filter(|kept| !kept.is_empty());
}

fn shortened((key, value): (String, String)) -> (String, String) {
    if value.len() <= LONGEST_ANNOTATION {
        return (key, value);
    }
    let digest = hex::encode(digest(&SHA256, value.as_bytes()));
    (key, format!("sha256:{digest}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    use kube::{ResourceExt, core::PartialObjectMeta};
    use serde_json::{Value, json};

    use crate::{
        FromMetadata, Received,
        api::{
            CertificateIssuer, DatabaseUserCertificate,
            names::{LAYOUT_ANNOTATION, RENEW_REQUESTED_ANNOTATION},
        },
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
        assert_eq!(certificate.annotations().keys().collect::<Vec<_>>(), [LAYOUT_ANNOTATION, RENEW_REQUESTED_ANNOTATION]);
        assert_eq!((certificate.labels().len(), certificate.owner_references().len()), (0, 0));
        assert_eq!((certificate.name_any().as_str(), certificate.metadata.generation), ("orders", Some(3)));
        let issuer: Received<CertificateIssuer> = received(&full());
        assert!(issuer.labels().is_empty() && issuer.unreadable().is_none());
        let secret: Received<PartialObjectMeta<Secret>> = received(&full());
        assert_eq!(secret.annotations().keys().collect::<Vec<_>>(), ["asked", LAYOUT_ANNOTATION, RENEW_REQUESTED_ANNOTATION]);
        let labels = secret.labels().keys().collect::<Vec<_>>();
        assert_eq!(labels, ["asked", "atlas.mongodb.com/type", "usercert.dev/certificate-uid"]);
        assert_eq!(secret.owner_references().len(), 3);
        let namespace: Received<PartialObjectMeta<Namespace>> = received(&full());
        assert_eq!((namespace.labels().len(), namespace.annotations().len()), (4, 0));
        for finalizers in [certificate.finalizers(), issuer.finalizers(), secret.finalizers(), namespace.finalizers()] {
            assert!(finalizers.is_empty());
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

    #[test]
    fn a_secret_with_more_owners_than_can_be_kept_is_not_ours_to_write() {
        let mut metadata = full();
        metadata["ownerReferences"][0]["name"] = json!("x".repeat(20_000));
        let secret: Received<PartialObjectMeta<Secret>> = received(&metadata);
        assert!(secret.unreadable_object().is_some_and(|unreadable| unreadable.fault().contains("owners")));
        assert!(received::<DatabaseUserCertificate>(&metadata).unreadable().is_none(), "owners of objects are not used");
    }
}
