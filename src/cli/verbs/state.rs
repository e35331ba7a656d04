//! In which state a certificate is, as its object and the time tell: a pure function.
//!
//! The conditions are the operator's word. They go stale when the operator is gone, so the times in the status are compared with now too.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;
use usercert_operator_controller::Unreadable;
use usercert_operator_core::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, ISSUING, READY, RENEWAL_FAILED, ROLLED_OUT, Reason, Severity,
        condition,
    },
    decide::renewal_time_without_suspension,
};

use super::objects::Certificate;
use crate::{terminal::Mood, text::SKEW};

/// A renewal begins at its time, and a busy operator delays it by less than this.
const LATE: SignedDuration = SignedDuration::from_hours(1);

/// A renewal that has begun, or waits in a queue, is done within this time. The alert `UsercertRenewalOverdue` waits as long.
const LATE_UNDER_WAY: SignedDuration = SignedDuration::from_hours(6);

/// A first certificate is there within this time. The alert `UsercertCertificateNotReady` waits as long.
const FIRST_CERTIFICATE: SignedDuration = SignedDuration::from_mins(15);

/// A new object, or a new spec, is looked at within this time.
const FIRST_LOOK: SignedDuration = SignedDuration::from_mins(2);

/// How a certificate is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum State {
    /// It has expired.
    Expired,
    /// It does not work, or there is none.
    NotReady,
    /// Nobody has looked at the object for too long.
    Unattended,
    /// It works, and no new one can be had.
    RenewalFailed,
    /// It works, and its renewal is late: nobody sees to it, or a suspension keeps it away.
    RenewalLate,
    /// It works, and its workloads do not follow.
    RolloutStopped,
    /// It works, and something else is to be looked at.
    Warning,
    /// It is on its way.
    Pending,
    /// Nothing is done about it, as its spec asks, and nothing is due.
    Suspended,
    /// It works.
    Good,
}

impl State {
    /// Whether somebody should look.
    pub(super) const fn needs_attention(self) -> bool {
        !matches!(self, Self::Good | Self::Suspended | Self::Pending)
    }

    /// What the colour says.
    pub(super) const fn mood(self) -> Mood {
        match self {
            Self::Expired | Self::NotReady => Mood::Bad,
            Self::Good => Mood::Good,
            Self::Pending | Self::Suspended => Mood::Plain,
            _ => Mood::Warning,
        }
    }

    /// Its name in the table.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::NotReady => "Not ready",
            Self::Unattended => "Unattended",
            Self::RenewalFailed => "Renewal fails",
            Self::RenewalLate => "Renewal late",
            Self::RolloutStopped => "Rollout stopped",
            Self::Warning => "Warning",
            Self::Pending => "Pending",
            Self::Suspended => "Suspended",
            Self::Good => "Good",
        }
    }
}

/// One certificate, as it is told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    /// The namespace.
    pub(super) namespace: String,
    /// The name of the object.
    pub(super) name: String,
    /// The state.
    pub(super) state: State,
    /// The reason, as it stands in conditions.
    pub(super) reason: Option<String>,
    /// What happened and what to change.
    pub(super) message: Option<String>,
    /// When the certificate in the Secret expires.
    pub(super) not_after: Option<Timestamp>,
    /// When it is renewed.
    pub(super) renewal_time: Option<Timestamp>,
    /// Its serial number.
    pub(super) serial_number: Option<String>,
    /// The Secret.
    pub(super) secret_name: String,
    /// The issuer: kind and name, or the `AtlasDatabaseUser`.
    pub(super) issuer: String,
    /// How many of its workloads have it, such as `3/4`.
    pub(super) rollout: Option<String>,
    /// Certificates of the user whose keys nobody here holds.
    pub(super) unaccounted: i64,
}

/// What is told of a certificate.
pub(super) fn told(object: &Certificate, now: Timestamp) -> Told {
    let status = object.status.clone().unwrap_or_default();
    let (state, reason, message) = state_of(object, &status, now);
    Told {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        state,
        reason,
        message,
        not_after: status.not_after.as_ref().map(|time| time.0),
        renewal_time: status.renewal_time.as_ref().map(|time| time.0),
        serial_number: status.serial_number,
        secret_name: object.secret_name(),
        issuer: issuer_of(object),
        rollout: status.rollout.map(|rollout| rollout.progress),
        unaccounted: status.unaccounted_certificates.map_or(0, |found| found.count),
    }
}

/// The issuer as people write it.
pub(super) fn issuer_of(object: &DatabaseUserCertificate) -> String {
    match (&object.spec.issuer_ref, &object.spec.user_ref) {
        (Some(issuer), _) => format!("{}/{}", issuer.kind.as_str(), issuer.name),
        (None, Some(user)) => format!("AtlasDatabaseUser/{}", user.name),
        (None, None) => String::new(),
    }
}

type Verdict = (State, Option<String>, Option<String>);

/// What this program does not understand of an object that the operator understands, or of a status; `None` if there is nothing of that kind.
///
/// The operator does not say that it has seen a spec that it cannot read. So if the status says that, an operator of a newer release than this
/// program has seen it. That operator may have been taken back to an older release since.
pub(super) fn not_understood(object: &Certificate) -> Option<String> {
    let unreadable = object.unreadable()?;
    let fault = unreadable.fault();
    let use_other = "use the program of the operator's release";
    if matches!(unreadable, Unreadable::Status(_)) {
        return Some(format!(
            "this program does not understand the status ({fault}): {use_other}. An operator of the same release as this program does not understand it either, and does nothing about the object"
        ));
    }
    let observed = object.status.as_ref().and_then(|status| status.observed_generation);
    let is_observed = observed.is_some() && observed == object.metadata.generation;
    is_observed.then(|| {
        format!(
            "this program does not understand the object ({fault}), and the operator did: {use_other}. An operator that was taken back to the release of this program does nothing about the object"
        )
    })
}

/// What is said of an object that the operator does not understand either.
pub(super) fn to_correct(unreadable: &Unreadable) -> String {
    format!("{unreadable}: correct what stands there")
}

/// What the conditions and the times say, and what of the object this program does not understand.
fn state_of(object: &Certificate, status: &DatabaseUserCertificateStatus, now: Timestamp) -> Verdict {
    let Some(unreadable) = object.unreadable() else { return as_told(object, status, now) };
    let reason = Reason::ObjectUnreadable.as_str();
    let Some(note) = not_understood(object) else {
        return said(State::NotReady, reason, to_correct(unreadable));
    };
    let has_conditions = condition(&status.conditions, READY).is_some() && !unreadable.fault().starts_with("status.conditions");
    match as_told(object, status, now) {
        _ if !has_conditions => said(State::NotReady, reason, note),
        (State::Good | State::Suspended, ..) => said(State::Warning, reason, note),
        (state, reason, None) => (state, reason, Some(note)),
        (state, reason, Some(message)) => (state, reason, Some(format!("{message}; {note}"))),
    }
}

/// The worst that is to be said: first of a certificate that does not work, then of its renewal, then of what depends on it.
fn as_told(object: &Certificate, status: &DatabaseUserCertificateStatus, now: Timestamp) -> Verdict {
    out_of_service(object, status, now)
        .or_else(|| not_renewed(object, status, now))
        .or_else(|| warning(status))
        .unwrap_or_else(|| (State::Good, condition(&status.conditions, ISSUING).map(|found| found.reason.clone()), None))
}

fn said(state: State, reason: &str, message: String) -> Verdict {
    (state, Some(reason.to_owned()), Some(message))
}

/// What the condition of this type says.
fn quoted(status: &DatabaseUserCertificateStatus, state: State, type_: &str) -> Verdict {
    let found = condition(&status.conditions, type_);
    (state, found.map(|found| found.reason.clone()), found.map(|found| found.message.clone()))
}

fn is(status: &DatabaseUserCertificateStatus, type_: &str, value: &str) -> bool {
    condition(&status.conditions, type_).is_some_and(|found| found.status == value)
}

/// Why the certificate does not work, or nobody knows whether it does.
fn out_of_service(object: &Certificate, status: &DatabaseUserCertificateStatus, now: Timestamp) -> Option<Verdict> {
    if let Some(not_after) = status.not_after.as_ref().filter(|not_after| not_after.0 <= now) {
        let (_, reason, message) = quoted(status, State::Expired, ISSUING);
        let cause = message.map(|message| format!("; {message}")).unwrap_or_default();
        let message = format!("the certificate expired at {}{cause}", not_after.0);
        return Some((State::Expired, reason.or_else(|| Some(Reason::Expired.to_string())), Some(message)));
    }
    // The operator says so by its own clock, which may be the one that is wrong.
    if let Some(not_before) = status.not_before.as_ref().filter(|not_before| not_before.0.duration_since(now) > SKEW) {
        let message = format!(
            "the certificate is valid from {} on: the clock of the operator, of the issuer or of this machine is wrong (kubectl usercert check)",
            not_before.0
        );
        return Some(said(State::NotReady, Reason::NotYetValid.as_str(), message));
    }
    if let Some(unattended) = unattended(object, status, now) {
        return Some((State::Unattended, None, Some(unattended)));
    }
    if is(status, READY, "True") {
        return None;
    }
    let ready = condition(&status.conditions, READY);
    let reason = ready.and_then(|ready| Reason::from_name(&ready.reason));
    let is_new = ready.is_none() || is(status, ISSUING, "True");
    let is_pending = is_new && reason.is_none_or(|reason| reason.severity() == Severity::Normal);
    if !is_pending {
        return Some(quoted(status, State::NotReady, READY));
    }
    let (_, reason, message) = quoted(status, State::Pending, READY);
    let since = pending_since(object, status).filter(|since| now.duration_since(*since) > FIRST_CERTIFICATE);
    let Some(since) = since else { return Some((State::Pending, reason, message)) };
    let before = message.map(|message| format!("{message}; ")).unwrap_or_default();
    let message = format!("{before}there is no certificate since {since}: see that the operator runs (kubectl usercert check)");
    Some((State::NotReady, reason, Some(message)))
}

/// Since when a certificate is on its way: since it is wanted or asked for, whichever came last.
fn pending_since(object: &Certificate, status: &DatabaseUserCertificateStatus) -> Option<Timestamp> {
    let changed = [READY, ISSUING].into_iter().filter_map(|type_| condition(&status.conditions, type_));
    let changed = changed.map(|found| found.last_transition_time.0).max();
    changed.or_else(|| object.creation_timestamp().map(|time| time.0))
}

/// Whether a renewal that was due at this time is late. A certificate that lives for hours has no more than half of the time that was left, as
/// the alert `UsercertRenewalOverdue` has it.
fn is_late(due: Timestamp, most: SignedDuration, status: &DatabaseUserCertificateStatus, now: Timestamp) -> bool {
    let half = status.not_after.as_ref().map(|not_after| not_after.0.duration_since(due) / 2);
    now.duration_since(due) > half.map_or(most, |half| most.min(half)).max(SignedDuration::ZERO)
}

/// Why a certificate that works is not renewed.
fn not_renewed(object: &Certificate, status: &DatabaseUserCertificateStatus, now: Timestamp) -> Option<Verdict> {
    if is(status, RENEWAL_FAILED, "True") {
        return Some(quoted(status, State::RenewalFailed, RENEWAL_FAILED));
    }
    if object.spec.suspend {
        let due = status.renewal_time.as_ref().map(|time| time.0).or_else(|| renewal_time_without_suspension(object));
        let due = due.filter(|due| is_late(*due, LATE, status, now));
        let Some(due) = due else { return Some(quoted(status, State::Suspended, ISSUING)) };
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let message = format!(
            "it is suspended, and its renewal was due at {due}. It expires unless you resume it: kubectl usercert resume {name} -n {namespace}"
        );
        return Some(said(State::RenewalLate, Reason::Suspended.as_str(), message));
    }
    let due = status.renewal_time.as_ref()?.0;
    let hint = "see that the operator runs (kubectl usercert check)";
    if !is(status, ISSUING, "True") {
        let message = || format!("the renewal was due at {due} and has not begun: {hint}");
        return is_late(due, LATE, status, now).then(|| (State::RenewalLate, None, Some(message())));
    }
    // The operator may have ended in the middle.
    let (state, reason, message) = quoted(status, State::RenewalLate, ISSUING);
    let message = message.map(|message| format!(" ({message})")).unwrap_or_default();
    let message = format!("the renewal was due at {due} and is not done{message}: {hint}");
    is_late(due, LATE_UNDER_WAY, status, now).then_some((state, reason, Some(message)))
}

/// What else needs attention.
fn warning(status: &DatabaseUserCertificateStatus) -> Option<Verdict> {
    let of = |type_: &str| condition(&status.conditions, type_);
    let is_warning = |name: &str| Reason::from_name(name).is_some_and(|reason| reason.severity() == Severity::Warning);
    if of(ROLLED_OUT).is_some_and(|found| found.status == "False" && is_warning(&found.reason)) {
        return Some(quoted(status, State::RolloutStopped, ROLLED_OUT));
    }
    if let Some(type_) = [ISSUING, READY].into_iter().find(|type_| of(type_).is_some_and(|found| is_warning(&found.reason))) {
        return Some(quoted(status, State::Warning, type_));
    }
    let unaccounted = status.unaccounted_certificates.as_ref()?;
    let message = format!(
        "{} of this database user can be used by whoever has their keys, which no Secret here holds: kubectl usercert orphans names them",
        crate::text::count(usize::try_from(unaccounted.count).unwrap_or_default(), "certificate")
    );
    Some(said(State::Warning, "UnaccountedCertificates", message))
}

/// Why it seems that no operator looks at the object.
fn unattended(object: &DatabaseUserCertificate, status: &DatabaseUserCertificateStatus, now: Timestamp) -> Option<String> {
    let observed = status.observed_generation.unwrap_or(-1);
    if Some(observed) == object.metadata.generation {
        return None;
    }
    // When the spec was changed last is nowhere, so a known object gets the benefit of the doubt only by its claim to have been seen.
    let created = object.creation_timestamp().map(|time| time.0)?;
    let is_old = now.duration_since(created) > FIRST_LOOK;
    let hint = "see that the operator runs and serves this namespace (kubectl usercert check)";
    match (is_old, observed) {
        (false, _) => None,
        (true, ..0) => Some(format!("no operator has looked at the object since it was created at {created}: {hint}")),
        (true, _) => Some(format!(
            "the operator has not looked at the present spec (generation {}, seen {observed}): {hint}",
            object.metadata.generation.unwrap_or_default()
        )),
    }
}
