//! What every controller tells: its patch of a status, and an object that cannot be read.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Context, FromMetadata, Received,
    api::{CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, Reason, names::CONTROLLER},
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

/// An object of ours, whose status this operator writes.
pub(crate) trait Ours: FromMetadata<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// The API by which it is written.
    fn api(client: &Client, namespace: &str) -> Api<Received<Self>>;
}

impl Ours for DatabaseUserCertificate {
    fn api(client: &Client, namespace: &str) -> Api<Received<Self>> {
        Api::namespaced(client.clone(), namespace)
    }
}

impl Ours for CertificateIssuer {
    fn api(client: &Client, namespace: &str) -> Api<Received<Self>> {
        Api::namespaced(client.clone(), namespace)
    }
}

impl Ours for ClusterCertificateIssuer {
    fn api(client: &Client, _: &str) -> Api<Received<Self>> {
        Api::all(client.clone())
    }
}

/// Writes the status of the object as it was seen, or the part of it that is given; it fails with a conflict on a newer one.
pub(crate) async fn write_status<K: Ours>(
    context: &Context,
    object: &K,
    status: &impl Serialize,
) -> Result<Received<K>, KubernetesError> {
    let api = K::api(&context.client, &object.namespace().unwrap_or_default());
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
