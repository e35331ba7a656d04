//! What every controller tells: its patch of a status, and an object that cannot be read.

use kube::Resource;
use serde::Serialize;
use serde_json::json;

use crate::{Context, Received, api::Reason, triggers::Waiting};

/// The body of a status patch for the object in exactly this version. Null removes a value.
pub(crate) fn status_patch<K: Resource, S: Serialize>(object: &K, status: &S) -> serde_json::Value {
    json!({
        "metadata": { "uid": object.meta().uid, "resourceVersion": object.meta().resource_version },
        "status": status,
    })
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
