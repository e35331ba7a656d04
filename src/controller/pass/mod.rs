//! One pass over one object. [`Pass::next`] names the steps, and [`Performer`] performs them.

mod additions;
mod drain;
mod observe;
mod perform;
mod report;

use std::{sync::Arc, time::Duration};

use kube::{Resource, ResourceExt, runtime::controller::Action};
use tracing::{Instrument, debug};

pub(super) use self::drain::drain;
use self::perform::Performer;
use super::{Context, Received, ReconcileError, failures, issuers::controller::tell_issuer, rollout, span, triggers::Waiting};
use crate::{
    api::{DatabaseUserCertificate, ObjectKey},
    decide::{
        Decision,
        pass::{End, Found, Next, Pass, PassError, PassOutcome, Purpose, RequestError, RequestErrorKind, Step},
    },
    issuer::Deadline,
    kubernetes::KubernetesError,
    layout::take_over_from_reloader,
    runtime::ControllerName,
    status::report_unreadable,
};

/// The longest time for one pass.
const PASS_LIMIT: Duration = Duration::from_mins(12);

/// How long a pass may ask Atlas, from its beginning. A request that mints and might not end by then is not begun. So the limit of the pass
/// cuts none off, and leaves as much time to save the certificate as the requests for that may take.
const ASKING_LIMIT: Duration = Duration::from_mins(8);

/// When a pass without a place is tried again. Its object is woken before, when there is one.
const WITHOUT_A_PLACE: Duration = Duration::from_mins(1);

/// Reconciles one object.
pub(super) async fn reconcile(
    object: Arc<Received<DatabaseUserCertificate>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let name = ObjectKey::of(&object);
    let Some(_place) = context.places.take(&name, &context.triggers) else { return Ok(Action::requeue(WITHOUT_A_PLACE)) };
    let span = span_of(&name);
    let who = Waiting::Certificate(name);
    async {
        context.lists.filled().await;
        let started = std::time::Instant::now();
        let ended = Box::pin(look_at(Arc::clone(&object), &context)).await;
        let outcome = ended.as_ref().map_or_else(|error| failures::outcome(&context, &who, error), |looked| looked.outcome);
        context.settings.metrics.reconciled(ControllerName::Certificates, outcome);
        context.settings.metrics.pass_took(started.elapsed());
        let is_whole = ended.as_ref().is_ok_and(|looked| looked.is_whole);
        failures::note(&context, &who, &object, ended.map(|looked| looked.action), is_whole).await
    }
    .instrument(span)
    .await
}

fn span_of(object: &ObjectKey) -> tracing::Span {
    span::of_pass(&DatabaseUserCertificate::kind(&()), object)
}

/// How a look at an object ended.
struct Looked {
    action: Action,
    outcome: PassOutcome,
    /// Whether all was looked at. If a status was written, the next look follows the rollout.
    is_whole: bool,
}

async fn look_at(object: Arc<Received<DatabaseUserCertificate>>, context: &Context) -> Result<Looked, ReconcileError> {
    // A process that was paused may see an old state.
    if !context.settings.leadership.may_act() {
        return Err(PassError::NotLeading.into());
    }
    report_unreadable(context, &Waiting::Certificate(ObjectKey::of(&object)), &object).await;
    let Some(object) = workable(context, Arc::unwrap_or_clone(object)) else {
        return Ok(Looked { action: Action::await_change(), outcome: PassOutcome::Blocked, is_whole: true });
    };
    tell_issuer(context, &object);
    let run = Box::pin(run(context, &object, Purpose::Certificate));
    let ended = tokio::time::timeout(PASS_LIMIT, run).await;
    let Ended { end, pass, has_reported_status } = ended.map_err(|_| ReconcileError::TooLong)?;
    let outcome = PassOutcome::of(&end, pass.decision());
    let sleep = match end {
        End::Sleep(duration) => Some(observe::until_echo(context, &object, duration)),
        End::AwaitChange => None,
        End::Failed(error) => return Err(error.into()),
    };
    // The watch brings the status that the pass has written, and with it the next pass.
    // Nor is a workload moved to a Secret that may go.
    let is_done = has_reported_status || object.metadata.deletion_timestamp.is_some();
    let next_look = if is_done { None } else { rollout::follow(context, &object).await.map_err(not_followed)? };
    let action = sleep.into_iter().chain(next_look).min().map_or_else(Action::await_change, Action::requeue);
    Ok(Looked { action, outcome, is_whole: !has_reported_status || object.spec.rollout.is_none() })
}

/// A conflict with another write of the status is none of the rollout's faults, unless it goes on.
fn not_followed(error: KubernetesError) -> ReconcileError {
    let error = RequestError::from(error);
    ReconcileError::Rollout(match error.kind {
        RequestErrorKind::Conflict | RequestErrorKind::NotFound => PassError::Outdated(error),
        _ => PassError::Request(error),
    })
}

/// How a pass ended.
struct Ended {
    end: End,
    pass: Pass,
    /// Whether it wrote a new status, or tried to.
    has_reported_status: bool,
}

/// Performs the steps of one pass, until it ends. What is to be remembered of the object is remembered before each step.
async fn run(context: &Context, object: &Received<DatabaseUserCertificate>, purpose: Purpose) -> Ended {
    let mut pass = Pass::new(DatabaseUserCertificate::clone(object), purpose);
    let mut performer = Performer::new(context, object, Deadline::after(ASKING_LIMIT));
    let mut found = Found::Begun;
    let mut has_reported_status = false;
    let mut noted = None;
    loop {
        let Next { changes, step } = pass.next(found, performer.now());
        if let Some(memory) = pass.memory() {
            performer.remember(memory);
        }
        for change in changes {
            performer.change(change);
        }
        let decided = (pass.decision().name(), pass.decision().reason());
        let is_end = matches!(step, Step::End(_));
        if is_noted(pass.decision(), noted.is_some(), is_end) && noted.replace(decided) != Some(decided) {
            span::decided(decided.0, decided.1);
        }
        debug!(%step, "next step");
        has_reported_status |= matches!(&step, Step::Report(told) if told.status.is_some());
        found = match step {
            Step::End(end) => return Ended { end, pass, has_reported_status },
            step => performer.perform(&pass, step).await,
        };
    }
}

/// Whether a decision is what this pass is about. A pass begins with nothing decided, and after an issue the certificate is good: neither tells
/// what it did.
fn is_noted(decision: &Decision, has_noted: bool, is_end: bool) -> bool {
    match decision {
        Decision::Await => is_end && !has_noted,
        Decision::Keep { .. } => !has_noted,
        _ => true,
    }
}

/// The object as a pass works on it: with what is added to the template of its Secret. `None` if the spec cannot be read.
///
/// If a certificate waits to be saved, such an object is worked on all the same, with the Secret name and the deletion policy of that time.
/// The policy matters only where the Secret is created: that of a Secret which is there is not changed for a spec that cannot be read.
fn workable(context: &Context, mut object: Received<DatabaseUserCertificate>) -> Option<Received<DatabaseUserCertificate>> {
    if object.unreadable_object().is_some() {
        let kept = context.memory.kept(&ObjectKey::of(&object), &object.uid().unwrap_or_default())?;
        object.spec.secret_name = Some(kept.secret_name);
        object.spec.deletion_policy = kept.deletion_policy;
    }
    if context.settings.rollout_kinds.is_some() {
        take_over_from_reloader(&mut object.spec);
    }
    Some(object)
}

/// After a pass that failed: again, after a delay that grows.
#[allow(clippy::needless_pass_by_value, reason = "the signature is kube's")]
pub(super) fn after_error(
    object: Arc<Received<DatabaseUserCertificate>>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    failures::repeat(&context, &Waiting::Certificate(ObjectKey::of(&object)), &**object, error)
}
