//! Why a needed certificate is not issued now, or a Secret not repaired: failures, limits, no gain.

use jiff::{SignedDuration, Timestamp};

use super::{
    Decision, Desired, Inputs, IssuerFacts, IssuingMethod, Observed, SecretView,
    backoff::{is_waited_for, waits_in_any_case},
    brake::Brake,
    forced::{after_too_many_forced, heeded, way_out, way_out_of_unusable},
    lost::looks_for_lost,
    user::over_budget,
};
use crate::api::{CertificateFailure, DatabaseUserCertificate, Reason};

/// The most certificates for one object in an hour.
pub const ISSUES_IN_AN_HOUR: usize = 5;
const ISSUES: Brake = Brake { allowed: ISSUES_IN_AN_HOUR, window: SignedDuration::from_hours(1) };

/// So many unusable answers in a row are no chance.
const UNUSABLE_ANSWERS: i64 = 3;

/// The most repairs of one Secret in ten minutes.
const REPAIRS: Brake = Brake { allowed: 5, window: SignedDuration::from_mins(10) };

/// A Secret that was repaired again and again is left alone for a while: its pair is good.
pub(super) fn contested(view: Option<&SecretView>, observed: &Observed, now: Timestamp) -> Option<Decision> {
    let (recent, until) = REPAIRS.hold(observed.memory.repairs.iter().copied(), now)?;
    Some(Decision::Wait {
        until,
        reason: Reason::SecretContested,
        message: format!("the Secret was put right {recent} times within ten minutes: {}", who_changes(view)),
    })
}

/// Why the Secret is not repaired now: something keeps undoing that, or the last attempt was refused.
pub(super) fn repair_held(view: &SecretView, observed: &Observed, now: Timestamp) -> Option<Decision> {
    contested(Some(view), observed, now).or_else(|| {
        let failure = observed.memory.repair_failure.as_ref().filter(|failure| failure.holds(now))?;
        Some(Decision::Wait { until: failure.until, reason: failure.reason, message: failure.message.clone() })
    })
}

/// Who undoes what this operator writes, as far as the Secret tells.
fn who_fights(view: Option<&SecretView>) -> String {
    match view {
        Some(view) => who_changes(Some(view)),
        None => "find out what deletes it (the API server's audit log tells)".to_owned(),
    }
}

fn who_changes(view: Option<&SecretView>) -> String {
    match view.and_then(|view| view.changed_by.as_deref()) {
        Some(changed_by) => format!("stop {changed_by} from changing it"),
        None => "find out what changes it".to_owned(),
    }
}

/// Why a certificate that is needed for this cause is issued now: for the cause, or because somebody forces what a limit would hold.
///
/// # Errors
/// Why it is not issued now.
pub(super) fn hold(
    desired: &Desired,
    issuer: &IssuerFacts,
    observed: &Observed,
    cause: Reason,
    now: Timestamp,
) -> Result<Reason, Decision> {
    let held = after_failure(desired, issuer, observed, now);
    if held.is_some() && looks_for_lost(&observed.status, now) {
        return Err(Decision::LookForLost);
    }
    none(held)?;
    if cause == Reason::RenewalRequested {
        none(after_too_many_forced(desired, observed, now))?;
    }
    let forced = heeded(desired, observed, now);
    // What a limit holds is issued as a forced renewal, if that is asked for.
    let unless_forced = |held: Option<Decision>, cause| match (held, forced) {
        (Some(held), None) => Err(held),
        (Some(_), Some(forced)) => Ok(forced),
        (None, _) => Ok(cause),
    };
    let cause = if forced == Some(cause) { cause } else { unless_forced(after_too_many(observed, now), cause)? };
    none(without_gain(issuer, observed, cause))?;
    match (&issuer.method, &observed.user) {
        (IssuingMethod::Mint { .. }, None) => Err(Decision::LookUpUser { username: desired.username.clone(), cause }),
        (IssuingMethod::Mint { .. }, Some(user)) if forced != Some(cause) => {
            unless_forced(over_budget(user, &desired.username, || way_out(observed, now), now), cause)
        }
        (IssuingMethod::Mint { .. }, Some(_)) | (IssuingMethod::Sign(_), _) => Ok(cause),
    }
}

fn none(held: Option<Decision>) -> Result<(), Decision> {
    held.map_or(Ok(()), Err)
}

/// A repair waits after a refused write of the Secret, but not after a refused renewal.
pub(super) fn after_refused_write(
    desired: &Desired,
    issuer: &IssuerFacts,
    observed: &Observed,
    now: Timestamp,
) -> Option<Decision> {
    after_failure(desired, issuer, observed, now).filter(is_for_refused_write)
}

/// As above, without an issuer: what the failure depended on cannot be compared, so its wait holds.
pub(super) fn write_was_refused(observed: &Observed, now: Timestamp) -> Option<Decision> {
    let failure = observed.status.failure.as_ref().filter(|failure| is_waited_for(failure, now))?;
    let reason = Reason::from_name(&failure.reason)?;
    let wait = Decision::Wait { until: failure.next_attempt.0, reason, message: failure.message.clone() };
    Some(wait).filter(is_for_refused_write)
}

fn is_for_refused_write(decision: &Decision) -> bool {
    matches!(decision, Decision::Wait { reason, .. } if is_refused_write(*reason))
}

/// Whether this is how a write of the Secret fails.
pub(super) const fn is_refused_write(reason: Reason) -> bool {
    matches!(reason, Reason::SecretNotWritable | Reason::SecretWriteFailed | Reason::NamespaceTerminating)
}

/// Whether the status holds a failure whose wait is not over, and which is not about a write of the Secret. The failure of a repair must not
/// take its place: a request for a certificate would follow too early.
pub(super) fn waits_for_issuer(failure: Option<&CertificateFailure>, now: Timestamp) -> bool {
    let is_other = |failure: &CertificateFailure| !Reason::from_name(&failure.reason).is_some_and(is_refused_write);
    failure.is_some_and(|failure| is_waited_for(failure, now) && is_other(failure))
}

fn after_failure(desired: &Desired, issuer: &IssuerFacts, observed: &Observed, now: Timestamp) -> Option<Decision> {
    let failure = observed.status.failure.as_ref()?;
    let reason = Reason::from_name(&failure.reason);
    let (inputs, before) = (Inputs::new(desired, issuer), Inputs::of(failure));
    let depends_on_the_same = before.as_ref() == Some(&inputs);
    let count = failure.in_a_row(Reason::AtlasAnswerUnusable);
    if count >= UNUSABLE_ANSWERS && depends_on_the_same {
        let message = format!(
            "{}; this happened {count} times, so no more is asked for until the spec, the issuer or its credentials change; {}",
            failure.message,
            way_out_of_unusable(failure.next_attempt.0)
        );
        return Some(Decision::block(Reason::AtlasAnswerUnusable, message));
    }
    // If it is not known what a failure depended on, it counts as this user's.
    let is_of_this_user = before.is_none_or(|before| before.is_same_user(&inputs));
    let waits = depends_on_the_same || (failure.asked_by_issuer || waits_in_any_case(reason)) && is_of_this_user;
    if !is_waited_for(failure, now) || !waits {
        return None;
    }
    Some(Decision::Wait {
        until: failure.next_attempt.0,
        reason: reason.unwrap_or(Reason::AtlasUnavailable),
        message: failure.message.clone(),
    })
}

fn after_too_many(observed: &Observed, now: Timestamp) -> Option<Decision> {
    let (recent, until) = ISSUES.hold(observed.status.history.iter().map(|issued| issued.recorded_at.0), now)?;
    Some(Decision::Wait {
        until,
        reason: Reason::TooManyIssues,
        message: format!(
            "{recent} certificates were issued within an hour (status.history has the reasons), and the Secret needs another: {}; {}",
            who_fights(observed.secret.ours()),
            way_out(observed, now)
        ),
    })
}

/// A good certificate is replaced only by one that lasts longer.
fn without_gain(issuer: &IssuerFacts, observed: &Observed, cause: Reason) -> Option<Decision> {
    let certificate = observed.secret.certificate().filter(|_| cause == Reason::RenewalDue)?;
    let ca_not_after = issuer.ca()?.not_after;
    if ca_not_after > certificate.not_after {
        return None;
    }
    Some(Decision::block(
        Reason::CaExpiresFirst,
        format!("renew the CA: it expires at {ca_not_after}, so a new certificate would not outlast the present one"),
    ))
}

/// Repairs a damaged Secret from its own content while no new certificate can be had; otherwise returns `decision`.
pub(super) fn repaired_first(
    object: &DatabaseUserCertificate,
    decision: Decision,
    observed: &Observed,
    now: Timestamp,
) -> Decision {
    let damaged = observed.secret.ours().filter(|view| {
        view.held_by.is_none()
            && view.certificate.is_ok()
            && !view.is_settled(object, &observed.status, now)
            && (view.spoilt.is_some() || view.issuer.is_some())
    });
    let Some(view) = damaged else { return decision };
    repair_held(view, observed, now)
        .or_else(|| write_was_refused(observed, now))
        .unwrap_or(Decision::Repair { renewal_time: None })
}
