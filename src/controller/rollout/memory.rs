//! When each rollout is looked at next. Losing it costs one look.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::LONGEST_REST;
use crate::{
    api::{BegunWorkload, ObjectKey, WorkloadReference},
    rollout_rules::{AFTER_REFUSAL, Awaited, Move, Plan, Pod, Repetition, RolledCertificate, Unchanged, Workload},
};

/// The pods of a workload that does not change are asked for this often.
const PODS_ARE_ASKED_FOR_EVERY: SignedDuration = SignedDuration::from_mins(10);

/// What a look depends on. If it changes, the rest ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) uid: String,
    pub(super) generation: Option<i64>,
    pub(super) serial_number: String,
    pub(super) is_ready: bool,
    pub(super) is_complete: bool,
    pub(super) compromised_not_after: Option<Timestamp>,
    pub(super) is_compromised: bool,
    pub(super) resume: Option<String>,
}

struct Rest {
    version: Version,
    until: Timestamp,
    setbacks: Setbacks,
    seen: Seen,
}

/// What the last looks have seen, so that the next ones need not ask for it.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) pods: SeenPods,
    pub(super) awaited: Option<Glance>,
}

/// The workloads at which a glance is enough.
#[derive(Clone)]
pub(super) struct Glance {
    pub(super) awaited: Awaited,
    /// When all workloads were looked at.
    pub(super) looked: Timestamp,
    /// For how long the rollout rests while nothing changes.
    pub(super) rest: SignedDuration,
}

/// The pods of workloads, as they were seen last.
#[derive(Clone, Default)]
pub(super) struct SeenPods(BTreeMap<WorkloadReference, PodsOfWorkload>);

#[derive(Clone)]
struct PodsOfWorkload {
    uid: String,
    resource_version: String,
    asked: Timestamp,
    pods: Option<Vec<Pod>>,
}

impl SeenPods {
    /// Notes the pods of a workload, which were asked for just now.
    pub(super) fn note(&mut self, workload: &Workload, now: Timestamp) {
        let Workload { uid, resource_version, pods, .. } = workload.clone();
        self.0.insert(workload.reference.clone(), PodsOfWorkload { uid, resource_version, asked: now, pods });
    }

    /// Gives a workload the pods that were seen of it. False if its pods may have changed since: when they do, so does its status.
    pub(super) fn recall(&self, workload: &mut Workload, now: Timestamp) -> bool {
        let is_same = |seen: &&PodsOfWorkload| {
            let age = now.duration_since(seen.asked);
            let is_recent = (SignedDuration::ZERO..PODS_ARE_ASKED_FOR_EVERY).contains(&age);
            is_recent && (&seen.uid, &seen.resource_version) == (&workload.uid, &workload.resource_version)
        };
        let Some(seen) = self.0.get(&workload.reference).filter(is_same) else { return false };
        workload.pods.clone_from(&seen.pods);
        true
    }

    /// Whether the pods of this workload were asked for just now.
    pub(super) fn is_of_now(&self, workload: &WorkloadReference, now: Timestamp) -> bool {
        self.0.get(workload).is_some_and(|seen| seen.asked == now)
    }

    /// Forgets workloads that are gone.
    pub(super) fn retain(&mut self, workloads: &[Workload]) {
        self.0.retain(|reference, _| workloads.iter().any(|workload| workload.reference == *reference));
    }
}

/// What did not come about, and how often in a row: changes of workloads, looks at the workloads.
#[derive(Clone, Debug, Default)]
pub(super) struct Setbacks {
    workloads: BTreeMap<WorkloadReference, Setback>,
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
}

/// What the last plan for a certificate came to.
struct Planned {
    /// The workloads that were begun. The object that the watch has shown may be older.
    begun: Vec<BegunWorkload>,
    serial_number: String,
    pods_behind: i64,
}

/// The rollouts that are not complete, and the kinds of which the log says that they are not served.
#[derive(Default)]
pub struct Rollouts {
    rests: Mutex<HashMap<ObjectKey, Rest>>,
    /// What the last plan of each came to.
    planned: Mutex<HashMap<ObjectKey, Planned>>,
    /// The kinds of which the log says that they are not served.
    not_served: Mutex<BTreeSet<String>>,
}

impl Rollouts {
    /// Whether the log does not say yet that this kind is not served. The conditions say it of each rollout.
    pub(super) fn tells_not_served(&self, kind: &str) -> bool {
        self.not_served.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned())
    }

    /// Until when the rollout rests. `None`: it is due. A rest that is longer than any ends: the clock was set back.
    pub(super) fn rests_until(&self, name: &ObjectKey, version: &Version, now: Timestamp) -> Option<Timestamp> {
        let rollouts = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = rollouts.get(name).filter(|rest| rest.version == *version)?;
        (now < rest.until && rest.until.duration_since(now) <= LONGEST_REST).then_some(rest.until)
    }

    /// The setbacks until the last look, and what it has seen. What was told long enough ago is tried again, and told at once if it fails
    /// again.
    pub(super) fn last(&self, name: &ObjectKey, version: &Version, now: Timestamp) -> (Setbacks, Seen) {
        let rollouts = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        let last = rollouts.get(name).filter(|rest| rest.version == *version);
        let (mut setbacks, seen) = last.map(|rest| (rest.setbacks.clone(), rest.seen.clone())).unwrap_or_default();
        for setback in setbacks.workloads.values_mut() {
            setback.told.take_if(|(_, until)| now >= *until);
        }
        (setbacks, seen)
    }

    /// Notes a look.
    pub(super) fn looked(&self, name: &ObjectKey, version: Version, until: Timestamp, (setbacks, seen): (Setbacks, Seen)) {
        let mut rollouts = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rollouts.insert(name.clone(), Rest { version, until, setbacks, seen });
    }

    /// Plans what comes next for one of several certificates. Looks at them run side by side, so one plan at a time is made, and each
    /// knows what the one before it has begun.
    pub(super) fn plan(
        &self,
        name: &ObjectKey,
        mut others: Vec<RolledCertificate>,
        plan: impl FnOnce(&[RolledCertificate]) -> Plan,
    ) -> Plan {
        let mut last = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        for other in &mut others {
            if let Some(newest) = last.get(&ObjectKey::new(name.namespace.as_str(), other.name.as_str())) {
                other.begun.clone_from(&newest.begun);
            }
        }
        let next = plan(&others);
        let (begun, serial_number) = (next.status.begun.clone(), next.status.serial_number.clone());
        last.insert(name.clone(), Planned { begun, serial_number, pods_behind: next.pods_behind });
        next
    }

    /// How many pods are not known to have this certificate; `None` if nobody has looked.
    pub(crate) fn pods_behind(&self, name: &ObjectKey, serial_number: &str) -> Option<i64> {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.get(name).filter(|last| last.serial_number == serial_number).map(|last| last.pods_behind)
    }

    /// Forgets a rollout that is complete, or whose object is gone.
    pub(crate) fn forget(&self, name: &ObjectKey) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
