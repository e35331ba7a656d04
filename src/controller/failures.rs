//! Passes that fail, one after the other.
//!
//! # Guarantees
//!
//! - Each failed pass is in the log. Once passes over an object have failed for longer than [`TOLD_AFTER`], a counter and an Event tell what
//!   failed and who refused it, and a condition where the status can be written; and again every hour ([`TOLD_AGAIN`]) for as long as that lasts.
//! - An Event that cannot be published counts as not told: it is tried again with the passes, less and less often.
//! - The waits between them grow, whatever the answer was, and objects do not come back together ([`pass_repeated_after`]).
//! - What is kept is dropped at the first pass that succeeds, and when the object is gone.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt, runtime::controller::Action};
use serde_json::json;
use tracing::{debug, warn};

use super::{
    Context, Received, ReconcileError,
    kubernetes::chain,
    status::{Ours, PATCH_STATUS, write_status},
    triggers::Waiting,
};
use crate::{
    api::{DatabaseUserCertificate, ISSUING, Reason, set_condition},
    decide::{
        pass::{PassError, PassOutcome},
        pass_repeated_after,
    },
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
    count: u32,
    /// When the counter goes up next.
    counted_next: Instant,
    has_lasted: bool,
    event: Telling,
    condition: Telling,
}

/// When something is told next.
#[derive(Clone, Copy)]
struct Telling {
    next: Instant,
    /// How often in a row it could not be told.
    lost: u32,
}

impl Telling {
    fn told(&mut self, is_told: bool, now: Instant) {
        self.lost = if is_told { 0 } else { self.lost.saturating_add(1) };
        let wait = if is_told { TOLD_AGAIN } else { TOLD_AFTER.saturating_mul(1 << self.lost.min(10)) };
        self.next = now + wait.min(TOLD_AGAIN);
    }
}

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    count: bool,
    event: bool,
    condition: bool,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<Waiting, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure.
    fn failed(&self, who: &Waiting, now: Instant) -> Due {
        let mut all = self.lock();
        let first = now + TOLD_AFTER;
        let telling = Telling { next: first, lost: 0 };
        let new = Series { count: 0, counted_next: first, has_lasted: false, event: telling, condition: telling };
        let series = all.entry(who.clone()).or_insert(new);
        series.count = series.count.saturating_add(1);
        let (event, condition) = (now >= series.event.next, now >= series.condition.next);
        let due = Due { count: now >= series.counted_next, event, condition };
        if due.count {
            (series.counted_next, series.has_lasted) = (now + TOLD_AGAIN, true);
        }
        due
    }

    /// Notes whether an Event about the failures was published.
    fn told(&self, who: &Waiting, is_published: bool, now: Instant) {
        if let Some(series) = self.lock().get_mut(who) {
            series.event.told(is_published, now);
        }
    }

    /// Notes whether a condition tells of the failures.
    fn stands_in_condition(&self, who: &Waiting, is_written: bool, now: Instant) {
        if let Some(series) = self.lock().get_mut(who) {
            series.condition.told(is_written, now);
        }
    }

    /// A pass has succeeded, or the object is gone.
    pub(crate) fn end(&self, who: &Waiting) {
        self.lock().remove(who);
    }

    /// Whether failures in a row have lasted for so long that they are told.
    pub(crate) fn have_lasted(&self, who: &Waiting) -> bool {
        self.lock().get(who).is_some_and(|series| series.has_lasted)
    }

    /// How many passes have failed in a row.
    fn count(&self, who: &Waiting) -> u32 {
        self.lock().get(who).map_or(0, |series| series.count)
    }
}

/// An object whose conditions tell of passes that fail.
pub(crate) trait Failing: Ours {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
    /// Sets what is said of passes that fail.
    fn set_failing(&self, context: &Context, conditions: &mut Vec<Condition>, message: &str);
}

impl Failing for DatabaseUserCertificate {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
    fn set_failing(&self, context: &Context, conditions: &mut Vec<Condition>, message: &str) {
        let generation = self.metadata.generation;
        set_condition(conditions, ISSUING, false, Reason::ReconcileFailing, message, generation, context.now());
    }
}

/// Writes the condition. Returns whether it stands.
async fn write_condition<K: Failing>(context: &Context, object: &Received<K>, message: &str) -> bool {
    let mut conditions = object.conditions().to_vec();
    object.set_failing(context, &mut conditions, message);
    if object.unreadable().is_some() || conditions == object.conditions() {
        return true;
    }
    let written = write_status(context, &**object, &json!({ "conditions": conditions })).await;
    if let Err(error) = &written {
        debug!(error = chain(error), "no condition tells of passes that fail yet");
    }
    written.is_ok()
}

/// Notes how a pass over an object ended, and tells of failures that last. It is called within the span of the pass. One that is not whole ends
/// no failures: what it left out may be what fails.
///
/// # Errors
/// That of the pass.
pub(crate) async fn note<K>(
    context: &Context,
    who: &Waiting,
    object: &Received<K>,
    ended: Result<Action, ReconcileError>,
    is_whole: bool,
) -> Result<Action, ReconcileError>
where
    K: Failing,
{
    match &ended {
        Ok(_) if is_whole => context.failures.end(who),
        // Whoever does not lead any more has nothing to tell.
        Ok(_) | Err(ReconcileError::Pass(PassError::NotLeading)) => {}
        Err(error) => {
            let due = context.failures.failed(who, Instant::now());
            let message = format!("{}; it is tried again less and less often", chain(error));
            if due.count {
                context.settings.metrics.warned(Reason::ReconcileFailing);
            }
            // The next pass says what it decides, whatever the rollout after it does. And a status that is not written tells nothing.
            if due.condition && !matches!(error, ReconcileError::Rollout(_)) && !is_of_status(error) {
                let is_written = Box::pin(write_condition(context, object, &message)).await;
                context.failures.stands_in_condition(who, is_written, Instant::now());
            }
            if due.event {
                let is_published = Box::pin(context.events.publish(object, Reason::ReconcileFailing, &message)).await;
                context.failures.told(who, is_published, Instant::now());
            }
        }
    }
    if let Err(error) = &ended {
        log(context, who, error);
    }
    ended
}

/// What metrics count a pass as that failed so. A conflict is a failure once it has lasted: then it is a webhook that answers so.
pub(crate) fn outcome(context: &Context, who: &Waiting, error: &ReconcileError) -> PassOutcome {
    match error {
        ReconcileError::Pass(error) | ReconcileError::Rollout(error) => match PassOutcome::of_error(error) {
            PassOutcome::Superseded if context.failures.have_lasted(who) => PassOutcome::Failed,
            outcome => outcome,
        },
        ReconcileError::Kubernetes(_) | ReconcileError::TooLong => PassOutcome::Failed,
    }
}

/// Whether it was the write of the status that failed.
fn is_of_status(error: &ReconcileError) -> bool {
    let ReconcileError::Pass(PassError::Request(error) | PassError::Outdated(error)) = error else { return false };
    error.operation == PATCH_STATUS
}

/// When a pass that failed is repeated.
pub(crate) fn repeat<K>(context: &Context, who: &Waiting, object: &K, error: &ReconcileError) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let again = pass_repeated_after(context.failures.count(who), object.uid().as_deref().unwrap_or_default());
    Action::requeue(match outcome(context, who, error) {
        PassOutcome::NotLeading => LOST_EVENT,
        PassOutcome::Superseded => again.max(LOST_EVENT),
        _ => again,
    })
}

/// Logs how a pass failed, within its span.
fn log(context: &Context, who: &Waiting, error: &ReconcileError) {
    if matches!(outcome(context, who, error), PassOutcome::NotLeading | PassOutcome::Superseded) {
        debug!(error = chain(error), "the pass ended early");
    } else {
        warn!(failures = context.failures.count(who), error = chain(error), "a pass failed and is repeated");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{IssuerKey, IssuerKind, ObjectKey};

    #[test]
    fn failures_are_told_when_they_have_lasted_for_some_seconds_and_then_every_hour() {
        let (failures, start) = (Failures::default(), Instant::now());
        let who = Waiting::Certificate(ObjectKey::new("shop", "orders"));
        let is_told = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            let due = failures.failed(&who, now);
            assert_eq!(due.count, due.event);
            if due.event {
                failures.told(&who, true, now);
            }
            due.event
        };
        let told: Vec<u64> = [0, 1, 3, 7, 15, 60, 3606, 3607, 3700, 7300].into_iter().filter(is_told).collect();
        assert_eq!(told, [7, 3607, 7300]);
        assert_eq!((failures.count(&who), failures.have_lasted(&who)), (10, true));
        failures.end(&who);
        assert_eq!((failures.count(&who), failures.have_lasted(&who)), (0, false));
        let anew = failures.failed(&who, start + Duration::from_secs(7400));
        assert_eq!(anew, Due { count: false, event: false, condition: false });
    }

    #[test]
    fn an_event_that_is_lost_is_published_soon_and_less_and_less_often_and_counted_once() {
        let (failures, start) = (Failures::default(), Instant::now());
        let who =
            Waiting::Issuer(IssuerKey { kind: IssuerKind::CertificateIssuer, namespace: "shop".into(), name: "ca".into() });
        let (mut counted, mut tried) = (Vec::new(), Vec::new());
        for second in 0..=7_300 {
            let now = start + Duration::from_secs(second);
            let due = failures.failed(&who, now);
            if due.count {
                counted.push(second);
            }
            if due.event {
                tried.push(second);
                failures.told(&who, second > 100, now);
            }
        }
        assert_eq!(tried, [6, 18, 42, 90, 186, 3786]);
        assert_eq!(counted, [6, 3606, 7206]);
    }
}
