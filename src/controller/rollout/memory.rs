//! When each rollout is looked at next. Losing it costs one look.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::LONGEST_REST;
use crate::{
    api::{ObjectKey, WorkloadReference},
    rollout_rules::{AFTER_REFUSAL, Move, Repetition, Unchanged},
    runtime::Metrics,
};

/// What a look depends on. If it changes, the rest ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) uid: String,
    pub(super) generation: Option<i64>,
    pub(super) serial_number: String,
    pub(super) is_ready: bool,
    pub(super) is_complete: bool,
    pub(super) resume: Option<String>,
}

struct Rest {
    version: Version,
    until: Timestamp,
    behind: i64,
    setbacks: Setbacks,
}

/// What did not come about, and how often in a row: changes of workloads, writes of the status, looks at the workloads.
#[derive(Clone, Debug, Default)]
pub(super) struct Setbacks {
    workloads: BTreeMap<WorkloadReference, Setback>,
    status: u32,
    status_is_told: bool,
    looks: u32,
}

#[derive(Clone, Debug, Default)]
struct Setback {
    in_a_row: u32,
    /// What is said of it, and until when it is not tried again.
    told: Option<(String, Timestamp)>,
}

impl Setbacks {
    /// The workloads that are not tried again yet, and why.
    pub(super) fn told(&self) -> Vec<(WorkloadReference, String)> {
        let told = self.workloads.iter().filter_map(|(workload, setback)| Some((workload, setback.told.as_ref()?)));
        told.map(|(workload, (why, _))| (workload.clone(), why.clone())).collect()
    }

    /// Notes that a workload was not changed; what follows.
    pub(super) fn not_changed(&mut self, next: &Move, answer: Unchanged, why: &str, now: Timestamp) -> Repetition {
        let setback = self.workloads.entry(next.workload.clone()).or_default();
        setback.in_a_row = setback.in_a_row.saturating_add(1);
        let repetition = answer.repetition(setback.in_a_row, &next.uid);
        if repetition == Repetition::Told {
            setback.told = Some((why.to_owned(), now.saturating_add(AFTER_REFUSAL).unwrap_or(now)));
        }
        repetition
    }

    /// Notes that a workload was changed.
    pub(super) fn changed(&mut self, workload: &WorkloadReference) {
        self.workloads.remove(workload);
    }

    /// Notes that what is there could not be looked at; what follows.
    pub(super) fn not_seen(&mut self, uid: &str) -> Repetition {
        self.looks = self.looks.saturating_add(1);
        Unchanged::Failed.repetition(self.looks, uid)
    }

    /// Notes a look.
    pub(super) const fn seen(&mut self) {
        self.looks = 0;
    }

    /// Notes that the status was not written; what follows, and whether it is new that it is told.
    pub(super) fn status_not_written(&mut self, answer: Unchanged, uid: &str) -> (Repetition, bool) {
        self.status = self.status.saturating_add(1);
        let repetition = answer.repetition(self.status, uid);
        let is_told = repetition == Repetition::Told;
        (repetition, is_told && !std::mem::replace(&mut self.status_is_told, is_told))
    }

    /// Notes that the status was written.
    pub(super) const fn status_written(&mut self) {
        (self.status, self.status_is_told) = (0, false);
    }
}

/// The rollouts that are not complete, and the kinds of which the log says that they are not served.
#[derive(Default)]
pub struct Rollouts(Mutex<HashMap<ObjectKey, Rest>>, Mutex<BTreeSet<String>>);

impl Rollouts {
    /// Whether the log does not say yet that this kind is not served. The conditions say it of each rollout.
    pub(super) fn tells_not_served(&self, kind: &str) -> bool {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned())
    }

    /// Until when the rollout rests. `None`: it is due. A rest that is longer than any ends: the clock was set back.
    pub(super) fn rests_until(&self, name: &ObjectKey, version: &Version, now: Timestamp) -> Option<Timestamp> {
        let rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = rollouts.get(name).filter(|rest| rest.version == *version)?;
        (now < rest.until && rest.until.duration_since(now) <= LONGEST_REST).then_some(rest.until)
    }

    /// The setbacks until the last look. What was told long enough ago is tried again, and told at once if it fails again.
    pub(super) fn setbacks(&self, name: &ObjectKey, version: &Version, now: Timestamp) -> Setbacks {
        let rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rollouts.get(name).filter(|rest| rest.version == *version).map(|rest| rest.setbacks.clone());
        let mut setbacks = known.unwrap_or_default();
        for setback in setbacks.workloads.values_mut() {
            setback.told.take_if(|(_, until)| now >= *until);
        }
        setbacks
    }

    /// Notes a look, and how many workloads are behind.
    pub(super) fn looked(
        &self,
        name: &ObjectKey,
        version: Version,
        until: Timestamp,
        (behind, setbacks): (i64, Setbacks),
        metrics: &Metrics,
    ) {
        let mut rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = rollouts.insert(name.clone(), Rest { version, until, behind, setbacks });
        metrics.rollout_behind(behind - before.map_or(0, |rest| rest.behind));
    }

    /// Forgets a rollout that is complete, or whose object is gone.
    pub(crate) fn forget(&self, name: &ObjectKey, metrics: &Metrics) {
        let mut rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = rollouts.remove(name) {
            metrics.rollout_behind(-rest.behind);
        }
    }
}
