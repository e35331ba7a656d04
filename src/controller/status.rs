//! What every controller tells: its patch of a status, and an object that cannot be read.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Context, Received,
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, Reason, names::CONTROLLER},
    kubernetes::{KubernetesError, request},
    triggers::Waiting,
};

/// The body of a status patch for the object in exactly this version. Null removes a value.
pub(crate) fn status_patch<K: Resource, S: Serialize>(object: &K, status: &S) -> serde_json::Value {
    json!({
        "metadata": { "uid": object.meta().uid, "resourceVersion": object.meta().resource_version },
        "status": status,
    })
}

/// What a write of a status is called in errors.
pub(crate) const PATCH_STATUS: &str = "patch the status";

/// Writes the status of the object as it was seen; it fails with a conflict on a newer one.
pub(crate) async fn write_status(
    context: &Context,
    object: &DatabaseUserCertificate,
    status: &DatabaseUserCertificateStatus,
) -> Result<Received<DatabaseUserCertificate>, KubernetesError> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<Received<DatabaseUserCertificate>>::namespaced(context.client.clone(), &namespace);
    let patch = Patch::Merge(status_patch(object, status));
    let parameters = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    request(PATCH_STATUS, api.patch_status(&object.name_any(), &parameters, &patch)).await
}

/// Tells of an object that cannot be read, once for each of its versions.
pub(crate) async fn report_unreadable<K>(context: &Context, who: &Waiting, object: &Received<K>)
where
    K: Resource<DynamicType = ()>,
{
    let Some(unreadable) = object.unreadable() else { return context.memory.forget_unreadable(who) };
    if context.memory.tells_unreadable(who, object.meta().resource_version.as_deref().unwrap_or_default()) {
        context.settings.metrics.warned(Reason::ObjectUnreadable);
        context.events.publish(object, Reason::ObjectUnreadable, &format!("{unreadable}: correct what stands there")).await;
    }
}
