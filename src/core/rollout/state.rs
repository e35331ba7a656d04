//! How far each workload is.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Readiness, RolledCertificate, Updates, Workload};
use crate::api::{BegunWorkload, truncated_to_second};

/// How often a workload is moved again after another has taken the change back.
const MOST_TAKEN_BACK: i64 = 3;

/// The longest time between the status that has a workload begun and its change: no look lasts longer.
const LONGEST_LOOK: SignedDuration = SignedDuration::from_mins(2);

/// How far a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its pods have the certificate.
    Moved,
    /// Its template was changed, and it is not ready yet.
    Moving,
    /// The same, and it takes too long or says that it failed.
    Stuck(String),
    /// The same, and a person asked to go on without it.
    PassedOver,
    /// Its template was changed, and its pods are left to others, for this reason.
    LeftToOthers(&'static str),
    /// Another took the change back too often.
    LeftAlone,
    /// The change was refused, or it did not stay, for this reason. It is tried again later.
    Refused(String),
    /// It is to be moved.
    Behind,
}

/// A workload with its state and what the status keeps of it.
#[derive(Clone, Debug)]
pub(super) struct Tracked<'a> {
    pub(super) workload: &'a Workload,
    pub(super) state: State,
    pub(super) begun: Option<BegunWorkload>,
    /// The other certificate for which it is on its way, whose rollout has begun it.
    pub(super) begun_for: Option<String>,
}

impl<'a> Tracked<'a> {
    /// How far a workload is, from what the status kept of it.
    pub(super) fn new(
        workload: &'a Workload,
        begun: Option<BegunWorkload>,
        certificate: &RolledCertificate,
        ready_timeout: SignedDuration,
        now: Timestamp,
    ) -> Self {
        let is_named = workload.serial_numbers.get(&certificate.name) == Some(certificate.serial_number.as_str());
        let has_new_pods = workload.started_from(certificate.usable_from(now), now) || has_first(workload, certificate);
        // One whose readiness may be that from before its change is ready when its pods are new. If nobody knows its pods, it is believed.
        let is_about_change = workload.observes_changes || workload.pods.is_none() || has_new_pods;
        let is_ready = workload.readiness == Readiness::Ready && is_about_change;
        let begun = begun.map(|begun| seen(begun, is_named, now));
        let is_moved = match (is_named, &begun) {
            // Whoever restarted it.
            (false, None) => has_new_pods,
            (false, Some(_)) => has_new_pods && is_ready,
            (true, _) if workload.updates != Updates::Rolling => has_new_pods,
            // One that was moved before and is not ready now, such as one that is scaled up, is not waited for again.
            (true, None) => is_ready || has_new_pods,
            (true, Some(_)) => is_ready,
        };
        if is_moved {
            return Self { workload, state: State::Moved, begun: None, begun_for: None };
        }
        let is_restarted_by_another = has_new_pods && begun.is_some();
        if !(is_named || is_restarted_by_another) {
            let is_left_alone = begun.as_ref().is_some_and(|begun| begun.taken_back >= MOST_TAKEN_BACK);
            let state = if is_left_alone { State::LeftAlone } else { State::Behind };
            return Self { workload, state, begun, begun_for: None };
        }
        let begun = begun.unwrap_or_else(|| begin(workload, is_named, now));
        let state = state_of_changed(workload, &begun, is_ready, ready_timeout, now);
        Self { workload, state, begun: Some(begun), begun_for: None }
    }

    /// The same, if one of the other certificates may have it on its way.
    pub(super) fn shared_with(self, others: &[RolledCertificate], now: Timestamp) -> Self {
        let is_on_its_way = |begun: &BegunWorkload| {
            let is_recent = now.duration_since(begun.since.0) < LONGEST_LOOK;
            begun.workload == self.workload.reference
                && holds_place(self.workload, begun)
                && (is_recent || self.workload.readiness != Readiness::Ready)
        };
        let other = others.iter().find(|other| other.begun.iter().any(is_on_its_way) && other.covers(self.workload));
        Self { begun_for: other.map(|other| other.name.clone()), ..self }
    }

    /// The same, if its change was refused. Others go on without it.
    pub(super) fn refused(self, why: Option<&str>) -> Self {
        match why {
            Some(why) if self.state == State::Behind => Self { state: State::Refused(why.to_owned()), ..self },
            _ => self,
        }
    }

    /// How many of its pods are not known to have the certificate.
    pub(super) const fn pods_behind(&self) -> i64 {
        let Workload { pod_count, updated_pods, .. } = self.workload;
        match self.state {
            State::Moved => 0,
            State::Behind | State::LeftAlone | State::Refused(_) => *pod_count,
            State::Moving | State::Stuck(_) | State::PassedOver | State::LeftToOthers(_) => {
                let behind = pod_count.saturating_sub(*updated_pods);
                if behind < 0 { 0 } else { behind }
            }
        }
    }

    /// Notes that it is moved now.
    pub(super) fn begin(&mut self, now: Timestamp) {
        let begun = self.begun.get_or_insert_with(|| begin(self.workload, false, now));
        begun.since = Time(truncated_to_second(now));
    }

    /// Whether it takes one of the places for workloads that are moved at once.
    pub(super) fn takes_place(&self) -> bool {
        match self.state {
            State::Moving | State::Stuck(_) => true,
            State::Behind if self.begun.is_some() => self.workload.updates.leaves_all().is_none(),
            State::Behind | State::Moved => self.begun_for.is_some(),
            State::PassedOver | State::LeftToOthers(_) | State::LeftAlone | State::Refused(_) => false,
        }
    }
}

/// Whether a workload that was begun may have one of the places for workloads that are moved at once.
#[must_use]
pub const fn holds_place(workload: &Workload, begun: &BegunWorkload) -> bool {
    !begun.passed_over && begun.taken_back < MOST_TAKEN_BACK && workload.updates.leaves_all().is_none()
}

/// Whether its pods waited for the first certificate: none starts without it, and there was no other.
fn has_first(workload: &Workload, certificate: &RolledCertificate) -> bool {
    let is_required = workload.uses(&certificate.secret_name).is_required();
    certificate.first_seen().is_some_and(|first_seen| is_required && workload.ran_from(first_seen))
}

fn begin(workload: &Workload, changed: bool, now: Timestamp) -> BegunWorkload {
    BegunWorkload {
        workload: workload.reference.clone(),
        since: Time(truncated_to_second(now)),
        changed,
        taken_back: 0,
        passed_over: false,
    }
}

/// What is kept of it after it was seen with or without the serial number.
fn seen(mut begun: BegunWorkload, is_named: bool, now: Timestamp) -> BegunWorkload {
    if begun.changed && !is_named {
        begun.taken_back = begun.taken_back.saturating_add(1);
    }
    begun.changed = is_named;
    // The clock was set back.
    if begun.since.0 > now {
        begun.since = Time(truncated_to_second(now));
    }
    begun
}

fn state_of_changed(
    workload: &Workload,
    begun: &BegunWorkload,
    is_ready: bool,
    ready_timeout: SignedDuration,
    now: Timestamp,
) -> State {
    if let Some(why) = workload.updates.leaves_all() {
        return State::LeftToOthers(why);
    }
    if is_ready && let Updates::Partition(_) = workload.updates {
        return State::LeftToOthers("has a partition");
    }
    if begun.passed_over {
        return State::PassedOver;
    }
    let is_late = now.duration_since(begun.since.0) >= ready_timeout;
    match &workload.readiness {
        Readiness::Failed(why) => State::Stuck(why.clone()),
        Readiness::InProgress(why) if is_late => State::Stuck(why.clone()),
        Readiness::Ready if !is_ready && is_late => State::Stuck("pods from before its change are still there".to_owned()),
        Readiness::InProgress(_) | Readiness::Ready => State::Moving,
    }
}
