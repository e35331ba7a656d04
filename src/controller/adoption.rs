//! Whose a Secret is, and adoption: taking over a Secret of ours whose object is gone. A restored backup brings such a Secret back,
//! or `deletionPolicy: Retain` has kept it.
//!
//! # Guarantees
//!
//! - A Secret that another program made is never taken over, whoever asks for it. Otherwise its content would be overwritten at
//!   the next renewal and deleted with the object.
//! - Adoption changes only the label, the annotation `usercert.dev/retained-for` and the owner references, in exactly the version
//!   that was looked at.
//!
//! Whose a Secret is ([`holder`]):
//!
//! | Controller of the Secret | With our label or annotation | With neither |
//! | --- | --- | --- |
//! | this object | this object's | this object's |
//! | a former object with the name of this one | nobody's | another's |
//! | any other | another's | another's |
//! | none, see below | this object's, left to it, or nobody's | another's |
//!
//! A Secret without a controller is told apart by the label with the UID of its object, and by the annotation that names the object
//! for which it is retained:
//!
//! | Label | Retained for | Whose |
//! | --- | --- | --- |
//! | this UID | this name | this object's |
//! | another UID, or none | this name | left to this object: it is adopted without being asked for |
//! | this UID | another name, or nobody | left to this object if its policy is `Retain`, for somebody has changed the annotation; else nobody's |
//! | any other combination | | nobody's |
//!
//! A Secret that cannot be read counts as another's in any case.
//!
//! # What a forged mark gains
//!
//! Label and annotation can be written by whoever may write the Secret. That person could as well write a controller reference, or
//! the content. So a Secret without a controller is ours, or is taken up, only if it holds nothing but what this operator could
//! have written ([`check_adoptable`]), no issuer needs it, and its label does not have the UID of another object that exists. One
//! that the status or this process knows by its own UID is ours whatever it holds: it may be spoilt, and others may have added
//! entries.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, api::ObjectMeta};
use serde_json::{Value, json};

use super::secret::{first_pair, labels, other_owners, ownership};
use crate::{
    Received,
    api::{
        DatabaseUserCertificate, DeletionPolicy,
        names::{CERTIFICATE_UID_LABEL, GROUP, RETAINED_FOR_ANNOTATION, SERIAL_NUMBER_ANNOTATION, TLS_SECRET_TYPE},
    },
    decide::AbandonedSecret,
    layout::wanted_keys,
};

/// Who controls a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This object controls it, or nobody does and it is retained for this object.
    ThisObject,
    /// Nobody controls it, and it was retained for an object of this name, or for this one and its marks were changed. The text is a
    /// sentence about the Secret.
    LeftToThisObject(String),
    /// Nobody any more: the Secret has our label or annotation, and its controller is gone, as in a restored backup. Its
    /// reference names no controller, or a former object with the name of this one. The text is a sentence about the Secret.
    Nobody(String),
    /// Another object; or nobody, and the Secret has neither our label nor our annotation. The text is a sentence about the
    /// Secret.
    Another(String),
}

/// Who controls a Secret, by its controller reference. A Secret that cannot be read may hold a certificate that works, so it
/// counts as that of another.
#[must_use]
pub fn holder<K: Resource>(object: &DatabaseUserCertificate, secret: &Received<K>) -> Holder {
    let metadata = secret.meta();
    if let Some(unreadable) = secret.unreadable() {
        return Holder::Another(format!("cannot be read ({})", unreadable.fault()));
    }
    match controller_of(metadata) {
        Some(owner) if Some(&owner.uid) == object.metadata.uid.as_ref() => Holder::ThisObject,
        Some(owner) if is_former(object, owner) && is_marked(metadata) => {
            Holder::Nobody(format!("belongs to a former {} {}", owner.kind, owner.name))
        }
        Some(owner) => Holder::Another(format!("belongs to {} {}", owner.kind, owner.name)),
        None if !is_marked(metadata) => Holder::Another("was not made by this operator".to_owned()),
        None => holder_without_controller(object, metadata),
    }
}

fn holder_without_controller(object: &DatabaseUserCertificate, metadata: &ObjectMeta) -> Holder {
    let label = label_of(metadata);
    let is_labelled = label.is_some() && label == object.metadata.uid.as_deref();
    let retained_for = retained_for(metadata);
    let is_named = retained_for.is_some() && retained_for == object.metadata.name.as_deref();
    let whose = match retained_for {
        Some(name) => format!("is retained for the {} {name}", DatabaseUserCertificate::kind(&())),
        None => "belongs to nobody any more".to_owned(),
    };
    match (is_labelled, is_named) {
        (true, true) => Holder::ThisObject,
        (false, true) => Holder::LeftToThisObject(whose),
        (true, false) if object.spec.deletion_policy == DeletionPolicy::Retain => Holder::LeftToThisObject(whose),
        (_, false) => Holder::Nobody(whose),
    }
}

/// The UID of the object that a Secret is labelled with.
#[must_use]
pub fn label_of(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get(CERTIFICATE_UID_LABEL).map(String::as_str)
}

/// The name of the object that a Secret without a controller is retained for.
#[must_use]
pub fn retained_for(metadata: &ObjectMeta) -> Option<&str> {
    let name = metadata.annotations.as_ref()?.get(RETAINED_FOR_ANNOTATION).map(String::as_str)?;
    controller_of(metadata).is_none().then_some(name)
}

/// Whether the Secret names a controller.
#[must_use]
pub fn is_controlled(metadata: &ObjectMeta) -> bool {
    controller_of(metadata).is_some()
}

fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether this owner is an object that had the name of this one before, and so is gone.
fn is_former(object: &DatabaseUserCertificate, owner: &OwnerReference) -> bool {
    owner.kind == DatabaseUserCertificate::kind(&())
        && owner.api_version.starts_with(&format!("{GROUP}/"))
        && Some(&owner.name) == object.metadata.name.as_ref()
}

/// Whether the Secret carries our label, or our annotation that backups keep.
fn is_marked(metadata: &ObjectMeta) -> bool {
    let is_annotated = |annotations: &BTreeMap<String, String>| {
        annotations.contains_key(SERIAL_NUMBER_ANNOTATION) || retained_for(metadata).is_some()
    };
    label_of(metadata).is_some() || metadata.annotations.as_ref().is_some_and(is_annotated)
}

/// Checks that the Secret holds what this operator could have written for the object, so that it may be adopted.
///
/// # Errors
/// What it holds instead, as the end of a sentence.
pub fn check_adoptable(object: &DatabaseUserCertificate, secret: &Secret) -> Result<(), String> {
    let type_ = secret.type_.as_deref().unwrap_or_default();
    if type_ != TLS_SECRET_TYPE {
        return Err(format!("its type is {type_:?}, and this operator writes {TLS_SECRET_TYPE}"));
    }
    let own_keys = wanted_keys(&object.spec);
    if let Some(key) = secret.data.iter().flat_map(BTreeMap::keys).find(|key| !own_keys.contains(&key.as_str())) {
        return Err(format!("it has the key {key:?}, which is none that the spec asks for"));
    }
    match first_pair(secret) {
        Ok(pair) if pair.is_for_clients() => Ok(()),
        Ok(_) => Err("its certificate is not a client certificate".to_owned()),
        Err(_) => Err("it holds no certificate with its key".to_owned()),
    }
}

/// The patch that has a Secret in exactly this version belong to the object, as its `deletionPolicy` says. Only the label, the annotation
/// `usercert.dev/retained-for` and the owner references change. It adopts a Secret, and it carries out a changed policy.
#[must_use]
pub fn ownership_patch(
    object: &DatabaseUserCertificate,
    uid: &str,
    resource_version: &str,
    other_owners: &[OwnerReference],
) -> Value {
    let mut metadata = ownership(object, other_owners);
    metadata["uid"] = json!(uid);
    metadata["resourceVersion"] = json!(resource_version);
    metadata["labels"] = json!(labels(object));
    json!({ "metadata": metadata })
}

/// What decisions need to know of a Secret that nobody controls any more.
#[must_use]
pub fn abandoned(secret: &Secret, whose: String, is_retained: bool, fault: Option<String>) -> AbandonedSecret {
    let metadata = &secret.metadata;
    AbandonedSecret {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        owners: other_owners(metadata),
        whose,
        is_retained,
        fault,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rstest::rstest;

    use super::*;

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
    fn a_secret_is_abandoned_only_with_our_mark_and_without_another_controller(
        #[case] metadata: Value,
        #[case] expected: &str,
    ) {
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
            patch["metadata"]["ownerReferences"]
                .as_array()
                .unwrap()
                .iter()
                .map(|owner| owner["uid"].clone())
                .collect::<Vec<_>>()
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
}
