//! Report: the status, written once and only if it changed; Events on transitions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Context, Received, ReconcileError,
    kubernetes::{KubernetesError, request},
    triggers::Waiting,
};
use crate::api::{
    DatabaseUserCertificate, DatabaseUserCertificateStatus, ISSUING, READY, Reason, Severity, UnaccountedCertificates,
    condition, names::CONTROLLER,
};

/// Writes the status of the object as it was seen; it fails with a conflict on a newer one. An Event tells of certificates that have
/// come to be unaccounted.
pub(super) async fn patch_status(
    context: &Context,
    object: &DatabaseUserCertificate,
    status: &DatabaseUserCertificateStatus,
) -> Result<Received<DatabaseUserCertificate>, ReconcileError> {
    let api =
        Api::<Received<DatabaseUserCertificate>>::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = Patch::Merge(status_patch(object, status));
    let parameters = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    let written =
        request("patch the status", api.patch_status(&object.name_any(), &parameters, &patch)).await.map_err(superseded)?;
    report_unaccounted(context, object, status).await;
    Ok(written)
}

/// The body of a status patch for exactly this version of the object. Absent values are null, which removes them.
pub(super) fn status_patch<K: Resource, S: Serialize>(object: &K, status: &S) -> serde_json::Value {
    json!({
        "metadata": { "uid": object.meta().uid, "resourceVersion": object.meta().resource_version },
        "status": status,
    })
}

/// A conflict means that a newer version of the object is on its way; an object that is gone needs no status.
pub(super) fn superseded(error: KubernetesError) -> ReconcileError {
    if error.is_conflict() || error.is_not_found() { ReconcileError::Superseded } else { error.into() }
}

/// Reports the status if it changed, and the transition to a Warning as an Event. A status of which not all can be read is left alone: it
/// may hold a claim.
pub(super) async fn report(
    context: &Context,
    object: &Received<DatabaseUserCertificate>,
    status: DatabaseUserCertificateStatus,
) -> Result<(), ReconcileError> {
    if object.unreadable().is_some() {
        return Ok(());
    }
    let old = object.status.clone().unwrap_or_default();
    if status == old && object.status.is_some() {
        return Ok(());
    }
    patch_status(context, object, &status).await?;
    for (reason, message) in new_warnings(&old.conditions, &status.conditions) {
        context.metrics.refused(reason);
        context.events.publish(object, reason, &message).await;
    }
    Ok(())
}

/// Tells of an object that cannot be read, once for each of its versions.
pub(super) async fn report_unreadable<K>(context: &Context, who: &Waiting, object: &Received<K>)
where
    K: Resource<DynamicType = ()>,
{
    let Some(unreadable) = object.unreadable() else { return context.memory.forget_unreadable(who) };
    if context.memory.tells_unreadable(who, object.meta().resource_version.as_deref().unwrap_or_default()) {
        context.metrics.refused(Reason::ObjectUnreadable);
        context.events.publish(object, Reason::ObjectUnreadable, &format!("{unreadable}: correct what stands there")).await;
    }
}

async fn report_unaccounted(context: &Context, object: &DatabaseUserCertificate, new: &DatabaseUserCertificateStatus) {
    let old = object.status.as_ref().and_then(|status| status.unaccounted_certificates.as_ref()).map_or(0, |found| found.count);
    if let Some(unaccounted) = new.unaccounted_certificates.as_ref().filter(|found| found.count > old) {
        context.metrics.refused(Reason::UnaccountedCertificates);
        context.events.publish(object, Reason::UnaccountedCertificates, &unaccounted_sentence(unaccounted)).await;
    }
}

fn unaccounted_sentence(unaccounted: &UnaccountedCertificates) -> String {
    let count = format!(
        "{} certificates of the database user are in no Secret of this operator and cannot be revoked",
        unaccounted.count
    );
    let listed = unaccounted.latest_expiry.as_ref().map(|latest| {
        let named = unaccounted.certificates.iter().take(5);
        let named: Vec<String> =
            named.map(|certificate| format!("{} until {}", certificate.serial_number, certificate.not_after.0)).collect();
        format!("the last of those that Atlas lists expires at {} ({})", latest.0, named.join(", "))
    });
    let presumed = (unaccounted.presumed > 0)
        .then(|| format!("{} of them are presumed, because an answer was lost", unaccounted.presumed));
    [Some(count), listed, presumed].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The Warnings that the conditions have come to hold; each once, though it may stand in both.
pub(super) fn new_warnings(old: &[Condition], new: &[Condition]) -> Vec<(Reason, String)> {
    let mut warnings: Vec<(Reason, String)> = Vec::new();
    for type_ in [ISSUING, READY] {
        let Some(now) = condition(new, type_) else { continue };
        let Some(reason) = Reason::from_name(&now.reason).filter(|reason| reason.severity() == Severity::Warning) else {
            continue;
        };
        let changed = condition(old, type_).is_none_or(|before| before.reason != now.reason);
        if changed && warnings.iter().all(|(known, _)| *known != reason) {
            warnings.push((reason, now.message.clone()));
        }
    }
    warnings
}
