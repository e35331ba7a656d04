//! Tells what a pass came to: the status, and Events.

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::warn;

use crate::{
    Context, Received,
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, ObjectKey, Reason, SecretLocation, UnaccountedCertificates},
    decide::{
        IssueError,
        pass::{Pass, Report, RequestError, WatchByName},
    },
    issuers::LoadedIssuer,
    kubernetes::KubernetesError,
    status::write_status,
    triggers::Waiting,
};

/// Writes the status of the object as it was seen; it fails with a conflict on a newer one. An Event tells of certificates that have
/// come to be unaccounted.
pub(super) async fn patch_status(
    context: &Context,
    object: &DatabaseUserCertificate,
    status: &DatabaseUserCertificateStatus,
) -> Result<Received<DatabaseUserCertificate>, KubernetesError> {
    let written = write_status(context, object, status).await?;
    report_unaccounted(context, object, status).await;
    Ok(written)
}

/// Tells what a pass came to: the log and the metrics, the status, and Events.
pub(super) async fn report(
    context: &Context,
    object: &Received<DatabaseUserCertificate>,
    pass: &Pass,
    told: Report,
    issuer: Option<&LoadedIssuer>,
) -> Result<(), RequestError> {
    if let Some(IssueError { reason, message, .. }) = &told.failure {
        warn!(reason = reason.as_str(), message, "no certificate was issued");
        if let Some(loaded) = issuer {
            context.settings.metrics.failed(loaded.issuer.issuer_type(), *reason);
        }
    }
    watch_by_name(context, object, told.watch_by_name);
    let written = match &told.status {
        Some(status) => patch_status(context, pass.object(), status).await.map(|_| ()),
        None => Ok(()),
    };
    if written.is_ok() {
        for (reason, message) in &told.warnings {
            context.settings.metrics.warned(*reason);
            context.events.publish(pass.object(), *reason, message).await;
        }
    }
    for (reason, message) in &told.events {
        context.events.publish(pass.object(), *reason, message).await;
    }
    written.map_err(Into::into)
}

/// Watches the Secret by its name if the rules want that, and stops doing so if not.
fn watch_by_name(context: &Context, object: &DatabaseUserCertificate, wanted: WatchByName) {
    let (waiting, secret) = (Waiting::Certificate(ObjectKey::of(object)), SecretLocation::of(object));
    let is_shown = || context.secrets.get(&ObjectRef::new(&secret.name).within(&secret.namespace)).is_some();
    let is_wanted = match wanted {
        WatchByName::Yes => true,
        WatchByName::UnlessShown => !is_shown(),
        WatchByName::No => false,
    };
    if is_wanted {
        context.secret_watches.watch(&waiting, &secret);
    } else {
        context.secret_watches.forget(&waiting);
    }
}

async fn report_unaccounted(context: &Context, object: &DatabaseUserCertificate, new: &DatabaseUserCertificateStatus) {
    let old = object.status.as_ref().and_then(|status| status.unaccounted_certificates.as_ref()).map_or(0, |found| found.count);
    if let Some(unaccounted) = new.unaccounted_certificates.as_ref().filter(|found| found.count > old) {
        context.settings.metrics.warned(Reason::UnaccountedCertificates);
        context
            .events
            .publish(
                object,
                Reason::UnaccountedCertificates,
                &unaccounted_sentence(unaccounted, &object.namespace().unwrap_or_default()),
            )
            .await;
    }
}

/// What an Event tells of certificates without a Secret, and what to do.
fn unaccounted_sentence(unaccounted: &UnaccountedCertificates, namespace: &str) -> String {
    let count = match unaccounted.count {
        1 => "1 certificate of the database user is in no Secret of this operator and cannot be revoked".to_owned(),
        count => format!("{count} certificates of the database user are in no Secret of this operator and cannot be revoked"),
    };
    let listed = unaccounted.latest_expiry.as_ref().map(|latest| {
        let named = unaccounted.certificates.iter().take(5);
        let named: Vec<String> =
            named.map(|certificate| format!("{} until {}", certificate.serial_number, certificate.not_after.0)).collect();
        format!("the last of those that Atlas lists expires at {} ({})", latest.0, named.join(", "))
    });
    let presumed = match (unaccounted.presumed, unaccounted.count) {
        (..=0, _) => None,
        (_, 1) => Some("it is presumed, because an answer was lost".to_owned()),
        (1, _) => Some("1 of them is presumed, because an answer was lost".to_owned()),
        (presumed, _) => Some(format!("{presumed} of them are presumed, because answers were lost")),
    };
    let to_do = Some(format!("find out who holds the keys: kubectl usercert orphans -n {namespace} lists the certificates"));
    [Some(count), listed, presumed, to_do].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::one(1, 0, "1 certificate of the database user is in no Secret")]
    #[case::two(2, 0, "2 certificates of the database user are in no Secret")]
    #[case::one_lost_answer(1, 1, "; it is presumed, because an answer was lost; ")]
    #[case::one_of_two(2, 1, "; 1 of them is presumed, because an answer was lost; ")]
    #[case::lost_answers(3, 2, "; 2 of them are presumed, because answers were lost; ")]
    fn the_event_counts_in_words_and_names_the_next_command(#[case] count: i64, #[case] presumed: i64, #[case] expected: &str) {
        let unaccounted = json!({ "count": count, "presumed": presumed, "certificates": [] });
        let said = unaccounted_sentence(&serde_json::from_value(unaccounted).unwrap(), "shop");
        assert!(said.contains(expected), "{said}");
        assert!(said.ends_with("kubectl usercert orphans -n shop lists the certificates"), "{said}");
    }
}
