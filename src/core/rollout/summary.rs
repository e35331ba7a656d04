//! What the message of a rollout says, and its reason.

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
) -> (bool, Reason, String) {
    let reason = reason(input, tracked, gate);
    let is_complete = reason == Reason::RolloutComplete;
    let mut parts = vec![format!("{} of {} workloads on certificate {}", status.moved, status.workloads, status.serial_number)];
    parts.extend(stuck(tracked));
    parts.extend(with_names(tracked, "being moved: ", |state| *state == State::Moving));
    parts.extend(with_names(tracked, "another controller keeps taking the change back from ", |state| {
        *state == State::LeftAlone
    }));
    parts.extend(with_names(tracked, "passed over, and not ready yet: ", |state| *state == State::PassedOver));
    parts.extend(left_to_others(tracked));
    parts.extend(change_refused(tracked));
    if !input.found.missing.is_empty() {
        parts.push(format!("not there: {}", names(input.found.missing.iter().map(ToString::to_string))));
    }
    if !is_complete {
        parts.extend(waiting(status, gate));
    }
    parts.extend(updated_by_restart_alone(input, tracked));
    parts.extend(not_movable(status));
    (is_complete, reason, parts.join("; "))
}

fn reason(input: &Input<'_>, tracked: &[Tracked<'_>], gate: Gate) -> Reason {
    let any = |is: fn(&State) -> bool| tracked.iter().any(|tracked| is(&tracked.state));
    let waits = any(|state| *state == State::Behind);
    if gate == Gate::Stopped {
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
    } else if !input.found.missing.is_empty() {
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

/// When it goes on, and when at the latest.
fn waiting(status: &RolloutStatus, gate: Gate) -> Option<String> {
    let next = match gate {
        Gate::Lag(until) => Some(format!("new pods have it from {until} on")),
        Gate::Window(_) => status.next_window.as_ref().map(|next| format!("the next window opens at {}", next.0)),
        Gate::SecretIncomplete => Some(
            "nobody is moved while the Secret lacks something that the spec asks for; the condition Issuing says what"
                .to_owned(),
        ),
        Gate::NotReady => Some("nobody is moved while the certificate is not Ready".to_owned()),
        Gate::Suspended => Some("nobody is moved while spec.suspend is true".to_owned()),
        Gate::Open | Gate::Stopped => None,
    };
    let latest = match (&status.regardless_of_windows_after, &status.old_not_after) {
        _ if status.urgent => {
            Some("the old certificate may be refused already or is compromised, so windows do not hold".to_owned())
        }
        (Some(regardless), _) => Some(format!("from {} on windows do not hold", regardless.0)),
        (None, Some(old)) => Some(format!("the old certificate expires at {}", old.0)),
        (None, None) => None,
    };
    let parts: Vec<String> = [next, latest].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Workloads in which the kubelet cannot update what running pods have: without this rollout they would keep the old certificate.
fn updated_by_restart_alone(input: &Input<'_>, tracked: &[Tracked<'_>]) -> Option<String> {
    let found = tracked.iter().filter_map(|tracked| {
        let how = tracked.workload.uses(&input.certificate.secret_name).updated_by_restart_alone()?;
        Some(format!("{} ({how})", tracked.workload.reference))
    });
    let found: Vec<String> = found.collect();
    (!found.is_empty()).then(|| format!("updated by a restart alone: {}", names(found.into_iter())))
}

pub(super) fn not_movable(status: &RolloutStatus) -> Option<String> {
    let found = &status.not_movable;
    (!found.is_empty()).then(|| format!("these use the Secret and cannot be moved: {}", names(found.iter().cloned())))
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
