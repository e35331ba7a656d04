//! Renewals that are carried out though nothing is due: a person asks for one with an annotation, or says that a certificate is compromised,
//! at any time and any number of times.
//!
//! Each costs a certificate that Atlas cannot revoke. So an object has five of them in an hour, whatever asks for them, and the next one
//! waits. The times are in the status, so that a restart forgets none.
//!
//! | In this hour | A renewal is forced | and the certificate is needed in any case |
//! | --- | --- | --- |
//! | fewer than five | it is carried out; `TooManyIssues`, `AtlasMintBudget` and `CaExpiresFirst` do not hold it | it is issued; where one of these would hold it, it counts as forced |
//! | five | it waits: `TooManyForcedRenewals` | it is issued as if nobody had asked |

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Decision, Desired, Observed, brake::Brake, compromised::is_newly_compromised, desired::is_renewal_requested,
    renewal::renewal_time,
};
use crate::api::{DatabaseUserCertificateStatus, Reason, names::RENEW_REQUESTED_ANNOTATION, truncated_to_second};

/// The most forced renewals of one object in an hour. The status has as many times.
pub const FORCED_IN_AN_HOUR: usize = 5;
const BRAKE: Brake = Brake { allowed: FORCED_IN_AN_HOUR, window: SignedDuration::from_hours(1) };

/// Why a renewal is forced; `None` if it is not.
pub(super) fn forced(desired: &Desired, observed: &Observed) -> Option<Reason> {
    if is_newly_compromised(desired, observed) {
        return Some(Reason::Compromised);
    }
    is_renewal_requested(desired, observed).then_some(Reason::RenewalRequested)
}

/// Why a renewal is forced, if it is carried out now.
pub(super) fn heeded(desired: &Desired, observed: &Observed, now: Timestamp) -> Option<Reason> {
    forced(desired, observed).filter(|_| held(&observed.status, now).is_none())
}

/// The wait of a forced renewal after too many of them; `None` if it is carried out now. It ends when the certificate is due in any case.
pub(super) fn after_too_many_forced(desired: &Desired, observed: &Observed, now: Timestamp) -> Option<Decision> {
    let (recent, until) = held(&observed.status, now)?;
    let due = observed.secret.certificate().map(|certificate| renewal_time(certificate, desired.renew_before, &desired.uid));
    Some(Decision::Wait {
        until: due.filter(|due| *due > now).map_or(until, |due| due.min(until)),
        reason: Reason::TooManyForcedRenewals,
        message: format!(
            "{recent} renewals were forced within an hour, and another one is asked for (annotation {RENEW_REQUESTED_ANNOTATION}): it waits, and what is due is renewed in time all the same"
        ),
    })
}

/// What the annotation does now for a certificate that something else holds up, as the end of a sentence.
pub(super) fn way_out(observed: &Observed, now: Timestamp) -> String {
    match held(&observed.status, now) {
        None => format!(
            "the annotation {RENEW_REQUESTED_ANNOTATION} has one made all the same, up to {FORCED_IN_AN_HOUR} times an hour"
        ),
        Some((_, until)) => format!(
            "the annotation {RENEW_REQUESTED_ANNOTATION} has one made all the same from {until} on, for it did so {FORCED_IN_AN_HOUR} times within an hour"
        ),
    }
}

/// The same after answers of Atlas that were of no use. A new value of the annotation ends the block, and the wait of the last failure remains.
pub(super) fn way_out_of_unusable(next_attempt: Timestamp) -> String {
    format!(
        "a new value of the annotation {RENEW_REQUESTED_ANNOTATION} has one more asked for, not before {next_attempt} and up to {FORCED_IN_AN_HOUR} times an hour"
    )
}

/// Counts a forced renewal that was carried out.
pub(super) fn count(status: &mut DatabaseUserCertificateStatus, now: Timestamp) {
    status.forced_renewals.insert(0, Time(truncated_to_second(now)));
    status.forced_renewals.truncate(FORCED_IN_AN_HOUR);
}

/// When one more forced renewal of the object is carried out; `None` if one is carried out now.
#[must_use]
pub fn next_forced_renewal(status: &DatabaseUserCertificateStatus, now: Timestamp) -> Option<Timestamp> {
    held(status, now).map(|(_, until)| until)
}

/// How many there were within the hour, and when one more fits; `None` if one fits now.
fn held(status: &DatabaseUserCertificateStatus, now: Timestamp) -> Option<(usize, Timestamp)> {
    BRAKE.hold(status.forced_renewals.iter().map(|time| time.0), now)
}
