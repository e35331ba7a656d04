//! When each rollout is looked at next. Losing it costs one look.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::LONGEST_REST;
use crate::{
    api::{ObjectKey, WorkloadReference},
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
    pub(super) compromised_not_after: Option<Timestamp>,
    pub(super) resume: Option<String>,
}

struct Rest {
    version: Version,
    until: Timestamp,
    behind: i64,
    refusals: Refusals,
}

/// Workloads whose change was refused or did not stay: why, and until when it is not tried again.
pub(super) type Refusals = BTreeMap<WorkloadReference, (String, Timestamp)>;

/// The rollouts that are not complete.
#[derive(Default)]
pub struct Rollouts(Mutex<HashMap<ObjectKey, Rest>>);

impl Rollouts {
    /// Until when the rollout rests. `None`: it is due. A rest that is longer than any ends: the clock was set back.
    pub(super) fn rests_until(&self, name: &ObjectKey, version: &Version, now: Timestamp) -> Option<Timestamp> {
        let rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = rollouts.get(name).filter(|rest| rest.version == *version)?;
        (now < rest.until && rest.until.duration_since(now) <= LONGEST_REST).then_some(rest.until)
    }

    /// The refusals of the last look that still count.
    pub(super) fn refusals(&self, name: &ObjectKey, version: &Version, now: Timestamp) -> Refusals {
        let rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rollouts.get(name).filter(|rest| rest.version == *version).map(|rest| rest.refusals.clone());
        let mut refusals = known.unwrap_or_default();
        refusals.retain(|_, (_, until)| now < *until);
        refusals
    }

    /// Notes a look, and how many workloads are behind.
    pub(super) fn looked(
        &self,
        name: &ObjectKey,
        version: Version,
        until: Timestamp,
        (behind, refusals): (i64, Refusals),
        metrics: &Metrics,
    ) {
        let mut rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = rollouts.insert(name.clone(), Rest { version, until, behind, refusals });
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
