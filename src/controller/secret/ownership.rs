//! To whom a Secret belongs, as `deletionPolicy` says: the object controls it, or it is retained for the object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, api::ObjectMeta};
use serde_json::{Value, json};

use crate::{
    api::{
        DatabaseUserCertificate, DeletionPolicy,
        names::{CERTIFICATE_UID_LABEL, RETAINED_FOR_ANNOTATION},
    },
    decide::SecretView,
};

/// Which deletion policy the metadata of a Secret of ours carry out. `None` if they contradict each other: a Secret that is retained
/// and controlled, or one that the garbage collector would delete because its only owner is the object.
pub(super) fn applied_policy(metadata: &ObjectMeta) -> Option<DeletionPolicy> {
    let is_retained =
        metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(RETAINED_FOR_ANNOTATION));
    let uid = metadata.labels.as_ref().and_then(|labels| labels.get(CERTIFICATE_UID_LABEL));
    let owners = || metadata.owner_references.iter().flatten();
    let is_controlled = owners().any(|owner| owner.controller == Some(true));
    match (is_controlled, is_retained) {
        (true, false) => Some(DeletionPolicy::Delete),
        (false, true) if owners().all(|owner| Some(&owner.uid) != uid) => Some(DeletionPolicy::Retain),
        _ => None,
    }
}

/// The owner references of a Secret besides that of a controller.
#[must_use]
pub fn other_owners(metadata: &ObjectMeta) -> Vec<OwnerReference> {
    metadata.owner_references.iter().flatten().filter(|owner| owner.controller != Some(true)).cloned().collect()
}

/// The part of a merge patch that has a Secret belong to the object as its `deletionPolicy` says. Other owners stay.
#[must_use]
pub fn ownership(object: &DatabaseUserCertificate, other_owners: &[OwnerReference]) -> Value {
    let others = other_owners.iter().filter(|owner| Some(&owner.uid) != object.metadata.uid.as_ref()).cloned();
    let owners: Vec<OwnerReference> = others.chain(controller_reference(object)).collect();
    json!({ "ownerReferences": owners, "annotations": { RETAINED_FOR_ANNOTATION: retained_for(object) } })
}

/// The reference that makes the object the controller of its Secret, unless the Secret is to be retained.
pub(super) fn controller_reference(object: &DatabaseUserCertificate) -> Option<OwnerReference> {
    object.controller_owner_ref(&()).filter(|_| object.spec.deletion_policy == DeletionPolicy::Delete)
}

/// For whom the Secret is retained.
pub(super) fn retained_for(object: &DatabaseUserCertificate) -> Option<String> {
    object.metadata.name.clone().filter(|_| object.spec.deletion_policy == DeletionPolicy::Retain)
}

/// The Secret after a write that changed only its metadata.
#[must_use]
pub fn with_metadata(seen: &SecretView, written: &ObjectMeta) -> SecretView {
    SecretView {
        resource_version: written.resource_version.clone().unwrap_or_default(),
        deletion_policy: applied_policy(written),
        owners: other_owners(written),
        ..seen.clone()
    }
}
