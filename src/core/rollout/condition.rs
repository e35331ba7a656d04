//! The condition of a rollout, and its Events.

use jiff::Timestamp;

use super::{
    Figures, Plan, RolledCertificate,
    summary::{STANDING, has_expired},
};
use crate::api::{
    DatabaseUserCertificate, DatabaseUserCertificateStatus, ROLLED_OUT, Reason, Severity, condition, remove_condition,
    set_condition,
};

/// The status of the object with this plan, and the Events that tell what is new in it.
#[must_use]
pub fn next_status(
    object: &DatabaseUserCertificate,
    plan: &Plan,
    now: Timestamp,
) -> (DatabaseUserCertificateStatus, Vec<(Reason, String)>) {
    let old = object.status.clone().unwrap_or_default();
    let before = old.rollout.as_ref();
    let standing = STANDING.iter().filter_map(|standing| Some((standing.reason, standing.news(&plan.status, before)?)));
    let mut events: Vec<(Reason, String)> = standing.collect();
    if !before.is_some_and(|before| before.old_certificate_expired) {
        events.extend(plan.expired.clone().map(|message| (Reason::OldCertificateExpired, message)));
    }
    let was_forbidden =
        condition(&old.conditions, ROLLED_OUT).is_some_and(|condition| condition.reason == Reason::RolloutForbidden.as_str());
    let rollout = Some(plan.status.clone());
    // Whether moves are allowed again is known once one was made.
    if was_forbidden && !plan.moves.is_empty() {
        return (DatabaseUserCertificateStatus { rollout, ..old }, events);
    }
    let told = (plan.status.complete, plan.reason, plan.message.as_str());
    let (status, news) = told_in(object, DatabaseUserCertificateStatus { rollout, ..old }, told, now);
    (status, events.into_iter().chain(news).collect())
}

/// The status of the object if the workloads cannot be looked at or changed. What was known of the rollout stays.
#[must_use]
pub fn refused(
    object: &DatabaseUserCertificate,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> (DatabaseUserCertificateStatus, Vec<(Reason, String)>) {
    let mut status = object.status.clone().unwrap_or_default();
    let figures = RolledCertificate::of(object).and_then(|certificate| Figures::of(object, &certificate));
    let expired = figures
        .and_then(|figures| has_expired(figures.old_not_after?, usize::try_from(figures.workloads - figures.moved).ok()?, now));
    let (Some(expired), Some(rollout)) = (expired, status.rollout.as_mut()) else {
        return told_in(object, status, (false, reason, message), now);
    };
    let is_news = !std::mem::replace(&mut rollout.old_certificate_expired, true);
    let (status, mut events) = told_in(object, status, (false, reason, &format!("{message}; {expired}")), now);
    events.extend(is_news.then_some((Reason::OldCertificateExpired, expired)));
    (status, events)
}

/// Whether nothing is left to do for this certificate and this spec, as the status says. Then nothing is asked of the API server.
#[must_use]
pub fn is_at_rest(object: &DatabaseUserCertificate, certificate: &RolledCertificate) -> bool {
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.is_some_and(|rollout| {
        rollout.complete
            && rollout.serial_number == certificate.serial_number
            && rollout.observed_generation == object.metadata.generation
    })
}

/// The status of the object if this operator moves no workloads.
#[must_use]
pub fn not_enabled(object: &DatabaseUserCertificate, now: Timestamp) -> (DatabaseUserCertificateStatus, Vec<(Reason, String)>) {
    let message = "this operator was started without --rollout and changes no workload: set the chart's value rollout.enabled";
    refused(object, Reason::RolloutNotEnabled, message, now)
}

/// The status of an object without `spec.rollout`, if it still tells of one.
#[must_use]
pub fn without_rollout(object: &DatabaseUserCertificate) -> Option<DatabaseUserCertificateStatus> {
    let mut status = object.status.clone()?;
    if status.rollout.is_none() && condition(&status.conditions, ROLLED_OUT).is_none() {
        return None;
    }
    status.rollout = None;
    remove_condition(&mut status.conditions, ROLLED_OUT);
    Some(status)
}

/// Sets the condition. A reason that is new is an Event if it warns, or if the rollout is complete.
fn told_in(
    object: &DatabaseUserCertificate,
    mut status: DatabaseUserCertificateStatus,
    (is_complete, reason, message): (bool, Reason, &str),
    now: Timestamp,
) -> (DatabaseUserCertificateStatus, Vec<(Reason, String)>) {
    let before = condition(&status.conditions, ROLLED_OUT).map(|condition| condition.reason.clone());
    let is_news = before.as_deref() != Some(reason.as_str());
    let generation = object.metadata.generation;
    set_condition(&mut status.conditions, ROLLED_OUT, is_complete, reason, message, generation, now);
    let is_told = reason.severity() == Severity::Warning || reason == Reason::RolloutComplete && before.is_some();
    let event = (is_news && is_told).then(|| (reason, message.to_owned()));
    (status, event.into_iter().collect())
}
