//! What the message of a rollout says, and its reason.

use jiff::Timestamp;

use super::{
    Input,
    found::MOST_NAMES,
    gate::Gate,
    state::{State, Tracked},
};
use crate::api::{Reason, RolloutStatus};

/// So many names stand in one part of a message.
const NAMES_IN_MESSAGE: usize = 5;

/// Whether all is done, the reason, and the message.
pub(super) fn summary(
    input: &Input<'_>,
    status: &RolloutStatus,
    tracked: &[Tracked<'_>],
    gate: Gate,
    expired: Option<&str>,
) -> (bool, Reason, String) {
    let reason = reason(input, tracked, gate);
    let is_complete = reason == Reason::RolloutComplete;
    let mut parts = vec![format!("{} of {} workloads on certificate {}", status.moved, status.workloads, status.serial_number)];
    parts.extend(expired.map(ToOwned::to_owned));
    parts.extend(stuck(tracked));
    parts.extend(with_names(tracked, "being moved: ", |state| *state == State::Moving));
    parts.extend(on_their_way_for_others(tracked));
    parts.extend(with_names(tracked, "another controller keeps taking the change back from ", |state| {
        *state == State::LeftAlone
    }));
    parts.extend(with_names(tracked, "passed over, and not ready yet: ", |state| *state == State::PassedOver));
    parts.extend(left_to_others(tracked));
    parts.extend(change_refused(tracked));
    parts.extend(not_served(&input.found.not_served));
    if !input.found.missing.is_empty() {
        parts.push(format!("not there: {}", names(input.found.missing.iter().map(ToString::to_string))));
    }
    if !input.found.without_template.is_empty() {
        let names = names(input.found.without_template.iter().map(ToString::to_string));
        parts.push(format!("these have no pod template at spec.template, so they cannot be moved: {names}"));
    }
    if !is_complete {
        parts.extend(waiting(input, status, gate));
    }
    parts.extend(STANDING.iter().filter_map(|standing| standing.sentence(status)));
    (is_complete, reason, parts.join("; "))
}

fn reason(input: &Input<'_>, tracked: &[Tracked<'_>], gate: Gate) -> Reason {
    let any = |is: fn(&State) -> bool| tracked.iter().any(|tracked| is(&tracked.state));
    let waits = any(|state| *state == State::Behind);
    if any(|state| matches!(state, State::Stuck(_))) {
        Reason::RolloutStopped
    } else if any(|state| *state == State::Moving) {
        Reason::RolloutInProgress
    } else if gate == Gate::SecretIncomplete {
        // Pods that started meanwhile look as if they were moved.
        Reason::RolloutInProgress
    } else if waits && gate == Gate::Suspended {
        Reason::Suspended
    } else if waits && matches!(gate, Gate::Window(_)) {
        Reason::RolloutWaitingForWindow
    } else if waits {
        Reason::RolloutInProgress
    } else if any(|state| matches!(state, State::Refused(_))) {
        Reason::RolloutForbidden
    } else if any(|state| *state == State::LeftAlone) {
        Reason::RolloutContested
    } else if any(|state| *state == State::PassedOver) {
        Reason::RolloutStopped
    } else if any(|state| matches!(state, State::LeftToOthers(_))) {
        Reason::RolloutLeftToOthers
    } else if !input.found.not_served.is_empty() {
        Reason::WorkloadKindNotServed
    } else if !input.found.missing.is_empty() || !input.found.without_template.is_empty() {
        Reason::WorkloadNotFound
    } else {
        Reason::RolloutComplete
    }
}

/// Who stopped the rollout, and how it goes on.
fn stuck(tracked: &[Tracked<'_>]) -> Option<String> {
    let stuck = tracked.iter().filter_map(|tracked| match &tracked.state {
        State::Stuck(why) => Some(format!("{} ({why})", tracked.workload.reference)),
        _ => None,
    });
    let stuck: Vec<String> = stuck.collect();
    (!stuck.is_empty()).then(|| {
        let stuck = names(stuck.into_iter());
        format!(
            "no further workload is moved, because this is not ready: {stuck}. Mend it, or give the annotation usercert.dev/resume-rollout a new value to go on without it"
        )
    })
}

/// Workloads that take a place because another certificate has begun them.
fn on_their_way_for_others(tracked: &[Tracked<'_>]) -> Option<String> {
    let found = tracked.iter().filter(|tracked| tracked.begun.is_none() && tracked.takes_place());
    let found = found.filter_map(|tracked| {
        let certificate = tracked.begun_for.as_deref()?;
        Some(format!("{} ({certificate})", tracked.workload.reference))
    });
    let found: Vec<String> = found.collect();
    (!found.is_empty()).then(|| format!("on their way for another certificate: {}", names(found.into_iter())))
}

fn left_to_others(tracked: &[Tracked<'_>]) -> Option<String> {
    let left = tracked.iter().filter_map(|tracked| match tracked.state {
        State::LeftToOthers(why) => Some(format!("{} {why}", tracked.workload.reference)),
        _ => None,
    });
    let left: Vec<String> = left.collect();
    (!left.is_empty()).then(|| format!("old pods are left to others: {}", names(left.into_iter())))
}

/// Whose change was refused, and how often it is tried.
fn change_refused(tracked: &[Tracked<'_>]) -> Option<String> {
    let refused = tracked.iter().filter_map(|tracked| match &tracked.state {
        State::Refused(why) => Some(format!("{} ({why})", tracked.workload.reference)),
        _ => None,
    });
    let refused: Vec<String> = refused.collect();
    (!refused.is_empty()).then(|| {
        format!("the change of these is refused, and is tried again every ten minutes: {}", names(refused.into_iter()))
    })
}

/// Which kinds are not served. Workloads may be there all the same, under another name of the resource or in another version.
fn not_served(kinds: &[String]) -> Option<String> {
    (!kinds.is_empty()).then(|| {
        let kinds = names(kinds.iter().cloned());
        format!("{kinds}: install it, or correct or take out its entry in the chart's value rollout.kinds (--rollout-kind)")
    })
}

/// When it goes on, and when at the latest.
fn waiting(input: &Input<'_>, status: &RolloutStatus, gate: Gate) -> Option<String> {
    let next = match gate {
        Gate::Lag(until) => Some(format!("new pods have it from {until} on")),
        Gate::Window(_) => status.next_window.as_ref().map(|next| format!("the next window opens at {}", next.0)),
        Gate::SecretIncomplete => Some(
            "nobody is moved while the Secret lacks something that the spec asks for; the condition Issuing says what"
                .to_owned(),
        ),
        Gate::NotReady => Some("nobody is moved while the certificate is not Ready".to_owned()),
        Gate::Compromised => {
            Some("nobody is moved to this certificate, because it is compromised: the next one is waited for".to_owned())
        }
        Gate::Suspended | Gate::Stopped if input.certificate.is_suspended => {
            Some("nobody is moved while spec.suspend is true".to_owned())
        }
        Gate::Open | Gate::Suspended | Gate::Stopped => None,
    };
    let has_windows = input.certificate.rollout.windows.is_some();
    let regardless = status.regardless_of_windows_after.as_ref();
    let windows = match regardless {
        _ if status.urgent && has_windows => {
            Some("the old certificate may be refused already or is compromised, so windows do not hold".to_owned())
        }
        _ if status.urgent => Some("the old certificate may be refused already or is compromised".to_owned()),
        _ => regardless.map(|time| format!("windows do not hold from {} on", time.0)),
    };
    let expiry = status.old_not_after.as_ref().filter(|old| old.0 > input.now);
    let expiry = expiry.map(|old| format!("the old certificate expires at {}", old.0));
    let parts: Vec<String> = [next, windows, expiry].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// That the old certificate has expired, if a workload may still use it, and which.
pub(super) fn expired(input: &Input<'_>, status: &RolloutStatus, tracked: &[Tracked<'_>]) -> Option<String> {
    let behind = tracked.iter().filter(|tracked| tracked.state != State::Moved);
    let behind: Vec<String> = behind.map(|tracked| tracked.workload.reference.to_string()).collect();
    let expired = has_expired(status.old_not_after.as_ref()?.0, behind.len(), input.now)?;
    Some(format!("{expired}: {}", names(behind.into_iter())))
}

/// The same without names, if so many workloads do not have the new one.
pub(super) fn has_expired(old_not_after: Timestamp, behind: usize, now: Timestamp) -> Option<String> {
    let workloads = if behind == 1 { "workload" } else { "workloads" };
    (behind > 0 && old_not_after <= now)
        .then(|| format!("the old certificate expired at {old_not_after}; {behind} {workloads} may still use it"))
}

/// What stands in the status until it is another, and is an Event when a name is new.
pub(super) struct Standing {
    pub(super) reason: Reason,
    text: &'static str,
    names: fn(&RolloutStatus) -> &[String],
}

pub(super) const STANDING: [Standing; 3] = [
    Standing {
        reason: Reason::PodsNotMovable,
        text: "these use the Secret and cannot be moved: ",
        names: |status| &status.not_movable,
    },
    Standing {
        reason: Reason::UpdatedByRestartAlone,
        text: "only a restart updates these, and the rollout restarts them: ",
        names: |status| &status.updated_by_restart_alone,
    },
    Standing {
        reason: Reason::WorkloadsNotCovered,
        text: "only a restart updates these, and spec.rollout does not cover them: ",
        names: |status| &status.not_covered,
    },
];

impl Standing {
    fn sentence(&self, status: &RolloutStatus) -> Option<String> {
        let found = (self.names)(status);
        (!found.is_empty()).then(|| format!("{}{}", self.text, names(found.iter().cloned())))
    }

    /// The sentence, if a name was not in the status before.
    pub(super) fn news(&self, status: &RolloutStatus, before: Option<&RolloutStatus>) -> Option<String> {
        let before = before.map(self.names).unwrap_or_default();
        let is_news = (self.names)(status).iter().any(|name| !before.contains(name));
        self.sentence(status).filter(|_| is_news)
    }
}

fn with_names(tracked: &[Tracked<'_>], text: &str, is: impl Fn(&State) -> bool) -> Option<String> {
    let found = tracked.iter().filter(|tracked| is(&tracked.state)).map(|tracked| tracked.workload.reference.to_string());
    let found: Vec<String> = found.collect();
    (!found.is_empty()).then(|| format!("{text}{}", names(found.into_iter())))
}

/// The first few names, and how many more there are.
fn names(mut all: impl Iterator<Item = String>) -> String {
    let first: Vec<String> = all.by_ref().take(NAMES_IN_MESSAGE).collect();
    let more = all.take(MOST_NAMES * MOST_NAMES).count();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}
