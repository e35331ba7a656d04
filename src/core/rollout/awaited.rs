//! On whom alone the next step of a rollout depends.

use jiff::{SignedDuration, Timestamp};

use super::{
    RolledCertificate, Updates, Workload,
    gate::Gate,
    state::{State, Tracked},
};
use crate::api::{BegunWorkload, WorkloadReference};

/// Workloads that are on their way or stuck, while no other may be begun. As long as each of them is as it was, a look at all workloads
/// would move nobody, unless another controller has taken the change of a further workload back meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct Awaited {
    workloads: Vec<(BegunWorkload, State)>,
    ready_timeout: SignedDuration,
}

impl Awaited {
    /// `None` if the next step depends on more than those that have a place.
    pub(super) fn of(
        tracked: &[Tracked<'_>],
        gate: Gate,
        certificate: &RolledCertificate,
        ready_timeout: SignedDuration,
        now: Timestamp,
    ) -> Option<Self> {
        // Until pods that start have the certificate, who counts as moved changes with the time.
        if certificate.usable_from(now) >= now {
            return None;
        }
        let with_place = || tracked.iter().filter(|tracked| tracked.takes_place());
        let may_begin = |tracked: &Tracked<'_>| {
            let needs_place = tracked.workload.updates.leaves_all().is_none();
            let is_place_free = !needs_place || with_place().count() < certificate.rollout.max_concurrent();
            tracked.state == State::Behind && is_place_free
        };
        if gate != Gate::Stopped && tracked.iter().any(may_begin) {
            return None;
        }
        let workloads = with_place().map(|tracked| {
            // Of any other its pods have to be known.
            let tells_by_itself =
                !tracked.workload.needs_pods(certificate, true) && tracked.workload.updates == Updates::Rolling;
            let begun = tracked.begun.clone().filter(|_| tells_by_itself)?;
            Some((begun, tracked.state.clone()))
        });
        let workloads: Vec<_> = workloads.collect::<Option<_>>()?;
        (!workloads.is_empty()).then_some(Self { workloads, ready_timeout })
    }

    /// Which workloads.
    #[must_use]
    pub fn references(&self) -> impl ExactSizeIterator<Item = &WorkloadReference> {
        self.workloads.iter().map(|(begun, _)| &begun.workload)
    }

    /// Whether each of them is as it was.
    #[must_use]
    pub fn are_as_before(&self, seen: &[Workload], certificate: &RolledCertificate, now: Timestamp) -> bool {
        self.workloads.iter().all(|(begun, state)| {
            let found = seen.iter().find(|workload| workload.reference == begun.workload && !workload.is_being_deleted);
            let tracked =
                found.map(|workload| Tracked::new(workload, Some(begun.clone()), certificate, self.ready_timeout, now));
            tracked.is_some_and(|tracked| tracked.state == *state)
        })
    }
}
