//! Passes that fail, one after the other: a condition tells nothing of them, because the status itself may be what cannot be written.
//!
//! # Guarantees
//!
//! - Each failed pass is in the log. Once passes over an object have failed for longer than [`TOLD_AFTER`], a counter and an Event tell what
//!   failed and who refused it, and again every hour ([`TOLD_AGAIN`]) for as long as that lasts.
//! - The waits between them grow, whatever the answer was, and objects do not come back together ([`pass_repeated_after`]).
//! - What is kept is dropped at the first pass that succeeds, and when the object is gone.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{Resource, ResourceExt, runtime::controller::Action};
use tracing::{debug, warn};

use super::{Context, ReconcileError, kubernetes::chain, triggers::Waiting};
use crate::{
    api::Reason,
    decide::{pass::PassError, pass_repeated_after},
};

/// So long after the first failure in a row the failures are told. A conflict, or an API server that is started anew, takes less time.
const TOLD_AFTER: Duration = Duration::from_secs(6);

/// Events are deleted after an hour (`--event-ttl` of the API server).
const TOLD_AGAIN: Duration = Duration::from_hours(1);

/// After a pass that ended early: the event that should repeat it may get lost.
const LOST_EVENT: Duration = Duration::from_secs(5);

/// The failures in a row of each object.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<Waiting, Series>>);

struct Series {
    since: Instant,
    count: u32,
    told: Option<Instant>,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<Waiting, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure. Returns whether it is time to tell of them.
    fn failed(&self, who: &Waiting, now: Instant) -> bool {
        let mut all = self.lock();
        let series = all.entry(who.clone()).or_insert(Series { since: now, count: 0, told: None });
        series.count = series.count.saturating_add(1);
        let (since, wait) = series.told.map_or((series.since, TOLD_AFTER), |told| (told, TOLD_AGAIN));
        let is_time = now.saturating_duration_since(since) >= wait;
        if is_time {
            series.told = Some(now);
        }
        is_time
    }

    /// A pass has succeeded, or the object is gone.
    pub(crate) fn end(&self, who: &Waiting) {
        self.lock().remove(who);
    }

    /// Whether failures in a row were told.
    pub(crate) fn are_told(&self, who: &Waiting) -> bool {
        self.lock().get(who).is_some_and(|series| series.told.is_some())
    }

    /// How many passes have failed in a row.
    fn count(&self, who: &Waiting) -> u32 {
        self.lock().get(who).map_or(0, |series| series.count)
    }
}

/// Notes how a pass over an object ended, and tells of failures that last.
///
/// # Errors
/// That of the pass.
pub(crate) async fn note<K>(
    context: &Context,
    who: &Waiting,
    object: &K,
    ended: Result<Action, ReconcileError>,
) -> Result<Action, ReconcileError>
where
    K: Resource<DynamicType = ()>,
{
    match &ended {
        Ok(_) => context.failures.end(who),
        // Whoever does not lead any more has nothing to tell.
        Err(ReconcileError::Pass(PassError::NotLeading)) => {}
        Err(error) => {
            if context.failures.failed(who, Instant::now()) {
                context.settings.metrics.warned(Reason::ReconcileFailing);
                let message = format!("{}; it is tried again less and less often", chain(error));
                Box::pin(context.events.publish(object, Reason::ReconcileFailing, &message)).await;
            }
        }
    }
    ended
}

/// When a pass that failed is repeated.
pub(crate) fn repeat<K>(context: &Context, who: &Waiting, object: &K, error: &ReconcileError) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let (count, is_told) = (context.failures.count(who), context.failures.are_told(who));
    let again = pass_repeated_after(count, object.uid().as_deref().unwrap_or_default());
    match error {
        ReconcileError::Pass(PassError::NotLeading) => {
            debug!(error = chain(error), "the pass ended early");
            Action::requeue(LOST_EVENT)
        }
        ReconcileError::Pass(PassError::Superseded | PassError::Outdated(_)) if !is_told => {
            debug!(error = chain(error), "the pass ended early");
            Action::requeue(again.max(LOST_EVENT))
        }
        _ => {
            warn!(kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any(), failures = count, error = chain(error), "a pass failed and is repeated");
            Action::requeue(again)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;

    #[test]
    fn failures_are_told_when_they_have_lasted_for_some_seconds_and_then_every_hour() {
        let (failures, start) = (Failures::default(), Instant::now());
        let who = Waiting::Certificate(ObjectKey::new("shop", "orders"));
        let told: Vec<u64> = [0, 1, 3, 7, 15, 60, 3606, 3607, 3700, 7300]
            .into_iter()
            .filter(|second| failures.failed(&who, start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(told, [7, 3607, 7300]);
        assert_eq!((failures.count(&who), failures.are_told(&who)), (10, true));
        failures.end(&who);
        assert_eq!((failures.count(&who), failures.are_told(&who)), (0, false));
        assert!(!failures.failed(&who, start + Duration::from_secs(7400)), "it begins anew");
    }
}
