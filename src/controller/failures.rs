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

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;
use tracing::{debug, warn};

use super::{
    Context, FromMetadata, Received, ReconcileError,
    kubernetes::{chain, request},
    status::status_patch,
    triggers::Waiting,
};
use crate::{
    api::{DatabaseUserCertificate, ISSUING, Reason, names::CONTROLLER, set_condition},
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
    count: u32,
    /// When the counter goes up next.
    counted_next: Instant,
    has_lasted: bool,
    /// When an Event is published next.
    told_next: Instant,
    /// How many Events in a row could not be published.
    lost: u32,
}

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    count: bool,
    tell: bool,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<Waiting, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure.
    fn failed(&self, who: &Waiting, now: Instant) -> Due {
        let mut all = self.lock();
        let first = now + TOLD_AFTER;
        let new = Series { count: 0, counted_next: first, has_lasted: false, told_next: first, lost: 0 };
        let series = all.entry(who.clone()).or_insert(new);
        series.count = series.count.saturating_add(1);
        let due = Due { count: now >= series.counted_next, tell: now >= series.told_next };
        if due.count {
            (series.counted_next, series.has_lasted) = (now + TOLD_AGAIN, true);
        }
        due
    }

    /// Notes whether an Event about the failures was published.
    fn told(&self, who: &Waiting, is_published: bool, now: Instant) {
        if let Some(series) = self.lock().get_mut(who) {
            series.lost = if is_published { 0 } else { series.lost.saturating_add(1) };
            let wait = if is_published { TOLD_AGAIN } else { TOLD_AFTER.saturating_mul(1 << series.lost.min(10)) };
            series.told_next = now + wait.min(TOLD_AGAIN);
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
pub(crate) trait Failing: FromMetadata<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
    /// Sets what is said of passes that fail.
    fn set_failing(conditions: &mut Vec<Condition>, message: &str, generation: Option<i64>, now: Timestamp);
    /// The API by which it is written.
    fn api(context: &Context, namespace: &str) -> Api<Received<Self>>;
}

impl Failing for DatabaseUserCertificate {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
    fn set_failing(conditions: &mut Vec<Condition>, message: &str, generation: Option<i64>, now: Timestamp) {
        set_condition(conditions, ISSUING, false, Reason::ReconcileFailing, message, generation, now);
    }
    fn api(context: &Context, namespace: &str) -> Api<Received<Self>> {
        Api::namespaced(context.client.clone(), namespace)
    }
}

/// Writes the condition. If that fails too, the Event has to do.
async fn write_condition<K: Failing>(context: &Context, object: &Received<K>, message: &str) {
    let mut conditions = object.conditions().to_vec();
    K::set_failing(&mut conditions, message, object.meta().generation, context.now());
    if object.unreadable().is_some() || conditions == object.conditions() {
        return;
    }
    let patch = Patch::Merge(status_patch(&**object, &json!({ "conditions": conditions })));
    let parameters = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    let api = K::api(context, &object.namespace().unwrap_or_default());
    if let Err(error) = request("patch the status", api.patch_status(&object.name_any(), &parameters, &patch)).await {
        debug!(error = chain(&error), "no condition tells of passes that fail");
    }
}

/// Notes how a pass over an object ended, and tells of failures that last.
///
/// # Errors
/// That of the pass.
pub(crate) async fn note<K>(
    context: &Context,
    who: &Waiting,
    object: &Received<K>,
    ended: Result<Action, ReconcileError>,
) -> Result<Action, ReconcileError>
where
    K: Failing,
{
    match &ended {
        Ok(_) => context.failures.end(who),
        // Whoever does not lead any more has nothing to tell.
        Err(ReconcileError::Pass(PassError::NotLeading)) => {}
        Err(error) => {
            let due = context.failures.failed(who, Instant::now());
            let message = format!("{}; it is tried again less and less often", chain(error));
            if due.count {
                context.settings.metrics.warned(Reason::ReconcileFailing);
                Box::pin(write_condition(context, object, &message)).await;
            }
            if due.tell {
                let is_published = Box::pin(context.events.publish(object, Reason::ReconcileFailing, &message)).await;
                context.failures.told(who, is_published, Instant::now());
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
    let (count, has_lasted) = (context.failures.count(who), context.failures.have_lasted(who));
    let again = pass_repeated_after(count, object.uid().as_deref().unwrap_or_default());
    match error {
        ReconcileError::Pass(PassError::NotLeading) => {
            debug!(error = chain(error), "the pass ended early");
            Action::requeue(LOST_EVENT)
        }
        ReconcileError::Pass(PassError::Superseded | PassError::Outdated(_)) if !has_lasted => {
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
    use crate::api::{IssuerKey, IssuerKind, ObjectKey};

    #[test]
    fn failures_are_told_when_they_have_lasted_for_some_seconds_and_then_every_hour() {
        let (failures, start) = (Failures::default(), Instant::now());
        let who = Waiting::Certificate(ObjectKey::new("shop", "orders"));
        let is_told = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            let due = failures.failed(&who, now);
            assert_eq!(due.count, due.tell);
            if due.tell {
                failures.told(&who, true, now);
            }
            due.tell
        };
        let told: Vec<u64> = [0, 1, 3, 7, 15, 60, 3606, 3607, 3700, 7300].into_iter().filter(is_told).collect();
        assert_eq!(told, [7, 3607, 7300]);
        assert_eq!((failures.count(&who), failures.have_lasted(&who)), (10, true));
        failures.end(&who);
        assert_eq!((failures.count(&who), failures.have_lasted(&who)), (0, false));
        let anew = failures.failed(&who, start + Duration::from_secs(7400));
        assert_eq!(anew, Due { count: false, tell: false });
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
            if due.tell {
                tried.push(second);
                failures.told(&who, second > 100, now);
            }
        }
        assert_eq!(tried, [6, 18, 42, 90, 186, 3786]);
        assert_eq!(counted, [6, 3606, 7206]);
    }
}
