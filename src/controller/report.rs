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

/// The Warnings that the conditions have come to hold; each once, though it may stand in both. One that stands already is new if somebody
/// has changed the spec and is answered otherwise: each attempt at what is not allowed can be seen.
pub(super) fn new_warnings(old: &[Condition], new: &[Condition]) -> Vec<(Reason, String)> {
    let mut warnings: Vec<(Reason, String)> = Vec::new();
    for type_ in [ISSUING, READY] {
        let Some(now) = condition(new, type_) else { continue };
        let Some(reason) = Reason::from_name(&now.reason).filter(|reason| reason.severity() == Severity::Warning) else {
            continue;
        };
        let is_new = |before: &Condition| {
            before.reason != now.reason
                || before.message != now.message && before.observed_generation != now.observed_generation
        };
        if condition(old, type_).is_none_or(is_new) && warnings.iter().all(|(known, _)| *known != reason) {
            warnings.push((reason, now.message.clone()));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(reason: Reason, message: &str, generation: i64) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for type_ in [READY, ISSUING] {
            let now = jiff::Timestamp::UNIX_EPOCH;
            crate::api::set_condition(&mut conditions, type_, false, reason, message, Some(generation), now);
        }
        conditions
    }

    #[test]
    fn a_warning_is_told_once_and_again_for_each_attempt_that_is_answered_otherwise() {
        let refused = conditions(Reason::IssuerNotAllowed, "not CN=a", 1);
        let told = vec![(Reason::IssuerNotAllowed, "not CN=a".to_owned())];
        assert_eq!(new_warnings(&[], &refused), told);
        assert_eq!(new_warnings(&conditions(Reason::Issued, "fine", 1), &refused), told);
        assert_eq!(new_warnings(&refused, &refused), []);
        let again = conditions(Reason::IssuerNotAllowed, "not CN=b", 2);
        assert_eq!(new_warnings(&refused, &again), vec![(Reason::IssuerNotAllowed, "not CN=b".to_owned())]);
        let same_spec = conditions(Reason::IssuerNotAllowed, "not CN=b", 1);
        assert_eq!(new_warnings(&refused, &same_spec), [], "a message that changes by itself is no attempt");
        assert_eq!(new_warnings(&refused, &conditions(Reason::Issued, "fine", 2)), []);
    }
}
