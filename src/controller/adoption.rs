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
//! that the status ([`is_in_status`]) or this process knows by its own UID is ours whatever it holds: it may be spoilt, and others
//! may have added entries. So is one that holds the certificate that the status names ([`holds_certificate_in_status`]): while a Secret
//! lacked something its UID is in no status, and the process that knew it may have ended.
//!
//! The annotation `usercert.dev/layout` names the entries that the operator wrote for a former spec. It can be forged like the others, so it
//! makes no entry ours whose name this operator does not give by itself. A `password` beside a client certificate stays another's.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, api::ObjectMeta};
use serde_json::{Value, json};

use super::secret::{first_pair, held_by, labels, other_owners, ownership};
use crate::{
    Received,
    api::{
        DatabaseUserCertificate, DeletionPolicy,
        names::{
            CERTIFICATE_UID_LABEL, GROUP, LAYOUT_ANNOTATION, RETAINED_FOR_ANNOTATION, SERIAL_NUMBER_ANNOTATION, TLS_SECRET_TYPE,
        },
    },
    decide::{AbandonedSecret, SecretState},
    layout::{LayoutRecord, standard_keys, wanted_keys},
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

/// What a Secret is to the object, where it is not the object's own: another's, or one that has to be adopted first. `None` if it is the
/// object's.
///
/// `is_known` tells whether the status or this process knows the Secret as the object's. `claimed` tells who else claims it, and
/// is asked only where that matters.
#[must_use]
pub fn left_behind(
    object: &DatabaseUserCertificate,
    found: &Received<Secret>,
    is_known: bool,
    claimed: impl FnOnce() -> Option<SecretState>,
) -> Option<SecretState> {
    let (whose, is_retained, is_object_s) = match holder(object, found) {
        Holder::ThisObject if is_known || is_controlled(&found.metadata) => return None,
        Holder::ThisObject => ("has the marks of this object".to_owned(), true, true),
        Holder::LeftToThisObject(whose) => (whose, true, false),
        Holder::Nobody(whose) => (whose, false, false),
        Holder::Another(owner) => return Some(claimed().unwrap_or(SecretState::NotOurs(owner))),
    };
    if let Some(other) = claimed() {
        return Some(other);
    }
    // One that is known may be spoilt, and others may have added entries.
    let fault = check_adoptable(object, found).err().filter(|_| !(is_known && is_retained));
    let fault = held_by(&found.metadata).map(|held_by| format!("it is being deleted, held by {held_by}")).or(fault);
    let is_ours = is_object_s && fault.is_none();
    (!is_ours).then(|| SecretState::Abandoned(Box::new(abandoned(found, whose, is_retained, fault))))
}

/// Whether the status knows the Secret with this UID as the object's. Only the operator writes the status.
#[must_use]
pub fn is_in_status(object: &DatabaseUserCertificate, secret_uid: &str) -> bool {
    object.status.as_ref().is_some_and(|status| {
        let verified = status.verified.as_ref().map(|verified| verified.uid.as_str());
        [status.retained_secret_uid.as_deref(), verified].contains(&Some(secret_uid))
    })
}

/// Whether the Secret holds the certificate that the status names, with its key.
#[must_use]
pub fn holds_certificate_in_status(object: &DatabaseUserCertificate, secret: &Secret) -> bool {
    let Some(status) = &object.status else { return false };
    first_pair(secret).is_ok_and(|pair| {
        let facts = pair.facts();
        status.serial_number.as_deref() == Some(facts.serial_number.as_str())
            && status.not_after.as_ref().map(|time| time.0) == Some(facts.not_after)
    })
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
/// It may have been written for another spec: what its annotation `usercert.dev/layout` names counts too, if the name of the entry is one that
/// this operator gives by itself. Such an entry goes with the next write, as any other that the spec no longer asks for. The same holds for a
/// Secret that a backup brought back, for the record came back with it.
///
/// # Errors
/// What it holds instead, as the end of a sentence.
pub fn check_adoptable(object: &DatabaseUserCertificate, secret: &Secret) -> Result<(), String> {
    let type_ = secret.type_.as_deref().unwrap_or_default();
    if type_ != TLS_SECRET_TYPE {
        return Err(format!("its type is {type_:?}, and this operator writes {TLS_SECRET_TYPE}"));
    }
    let recorded = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(LAYOUT_ANNOTATION));
    let recorded = LayoutRecord::from_annotation(recorded.map(String::as_str)).entries;
    let (wanted, standard) = (wanted_keys(&object.spec), standard_keys());
    let is_own = |key: &str| wanted.contains(&key) || standard.contains(&key) && recorded.contains(key);
    if let Some(key) = secret.data.iter().flat_map(BTreeMap::keys).find(|key| !is_own(key)) {
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
