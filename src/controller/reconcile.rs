//! One pass over one object: observe, decide, act, report.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tracing::{debug, warn};

use super::{
    Context, Received, ReconcileError,
    act::{Acted, Pass},
    examine::Examined,
    issuer_controller::tell_issuer,
    kubernetes::chain,
    memory::{ECHO_LIMIT, NamespacedName},
    observe::{Look, now, observe},
    report::{report, report_unreadable},
    triggers::Waiting,
};
use crate::{
    api::{DatabaseUserCertificate, Reason, truncated_to_second},
    certificate::CertificateFacts,
    decide::{self, Decision, Desired, SaveRefused, SecretState, decide},
    issuer::IssueError,
};

/// The longest time for one pass: longer than all the time limits inside it, so that it cuts nothing off that may mint.
const PASS_LIMIT: Duration = Duration::from_mins(12);

/// How often a pass looks, live after the first time, before it takes an answer of the API server for what it says, or leaves the rest to
/// the next pass.
const LOOKS: usize = 3;

/// An object is looked at again after this time at the latest, in memory and without a request.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// Reconciles one object.
pub(super) async fn reconcile(
    object: Arc<Received<DatabaseUserCertificate>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if object.metadata.deletion_timestamp.is_some() {
        // The garbage collector deletes the Secret by its owner reference.
        return Ok(Action::await_change());
    }
    context.caches.filled().await;
    // A process that was paused may know all that it decides by from before.
    if !context.leadership.may_act() {
        return Err(ReconcileError::NotLeading);
    }
    report_unreadable(&context, &Waiting::Certificate(name_of(&object)), &object).await;
    let Some(object) = workable(&context, Arc::unwrap_or_clone(object)) else { return Ok(Action::await_change()) };
    tell_issuer(&context, &object);
    let started = std::time::Instant::now();
    let result =
        tokio::time::timeout(PASS_LIMIT, Box::pin(pass(&object, &context))).await.unwrap_or(Err(ReconcileError::TooLong));
    context.metrics.reconciled(started.elapsed());
    result
}

/// The object as a pass may work on it; `None` if its spec cannot be read, for then it is not known what it asks for. If a certificate that
/// was made for it before waits for its Secret, there is a pass all the same, which saves it under the name that the Secret had then.
pub(super) fn workable(
    context: &Context,
    mut object: Received<DatabaseUserCertificate>,
) -> Option<Received<DatabaseUserCertificate>> {
    if object.unreadable_object().is_some() {
        let unsaved = context.memory.unsaved(&name_of(&object), &object.uid().unwrap_or_default())?;
        object.spec.secret_name = Some(unsaved.secret_name);
    }
    Some(object)
}

/// After a failure of the API server: again, after a delay that doubles.
#[allow(clippy::needless_pass_by_value, reason = "the signature is kube's")]
pub(super) fn after_error(
    object: Arc<Received<DatabaseUserCertificate>>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    if matches!(error, ReconcileError::NotLeading) {
        return Action::requeue(Duration::from_secs(5));
    }
    if matches!(error, ReconcileError::Superseded) {
        // The newer version's watch event starts the next pass; this is for the event that gets lost.
        debug!("the object has changed meanwhile");
        return Action::requeue(Duration::from_secs(5));
    }
    warn!(error = chain(error), "a pass failed and is repeated");
    let doublings = context.memory.count_failure(&name_of(&object)).min(9);
    Action::requeue(Duration::from_secs(1 << doublings.saturating_sub(1)))
}

async fn pass(object: &Received<DatabaseUserCertificate>, context: &Context) -> Result<Action, ReconcileError> {
    let mut look = Look::Cached;
    for looks_left in (0..LOOKS).rev() {
        let found = observe(context, object, look).await?;
        let mut pass = Pass { context, object: object.clone(), observed: found.observed, issuer: found.issuer, turn: None };
        let mut decision = decide(&pass.object, &pass.observed, now(context));
        debug!(?look, decision = label(&decision), "decided");
        if matches!(decision, Decision::Examine { .. }) {
            match pass.examine().await {
                Examined::Known => decision = decide(&pass.object, &pass.observed, now(context)),
                Examined::Queued => return Box::pin(finish(pass, decision, Acted::Queued)).await,
                Examined::Failed(error) => return Box::pin(finish(pass, decision, Acted::Failed(error))).await,
            }
            debug!(decision = label(&decision), "decided with the account");
        }
        match pass.act(&decision).await? {
            Acted::Stale(Some(outcome)) if looks_left == 0 => return Box::pin(finish(pass, decision, *outcome)).await,
            Acted::Stale(_) => look = Look::Live,
            acted => return Box::pin(finish(pass, decision, acted)).await,
        }
    }
    Err(ReconcileError::Superseded)
}

/// Reports what came of an act.
pub(super) async fn finish(mut pass: Pass<'_>, decision: Decision, acted: Acted) -> Result<Action, ReconcileError> {
    let context = pass.context;
    let (name, now) = (pass.name(), now(context));
    // Others may ask Atlas while this pass reports.
    pass.turn = None;
    // Whoever met a 429 keeps the place in the queue.
    let keeps_place = matches!(decision, Decision::Wait { reason: Reason::AtlasRateLimited, .. });
    if !matches!(acted, Acted::Queued) && !keeps_place {
        context.turns.forget(&name);
    }
    let waits_to_save = matches!(acted, Acted::Nothing) && pass.observed.unsaved.is_some();
    let failures_end = !matches!(acted, Acted::Unsaved { .. }) && !waits_to_save;
    let (mut event, mut warning) = (None, None);
    let decision = match acted {
        Acted::Nothing | Acted::Stale(_) if decision == Decision::Account => account(&mut pass, now)?,
        Acted::Nothing | Acted::Stale(_) => decision,
        Acted::Queued => Decision::Queue,
        Acted::Written { view, reason } => {
            event = Some(written(&view.certificate, reason));
            if reason == Reason::SecretRepaired {
                context.memory.repaired(name.clone(), now);
            }
            pass.observed.secret = SecretState::Ours(view);
            if !matches!(reason, Reason::SecretRepaired | Reason::SecretAdopted) {
                warning = decide::long_name_warning(&pass.observed);
            }
            // What waits to be saved goes into a Secret that was adopted with the next pass.
            if reason != Reason::SecretAdopted {
                pass.observed.unsaved = None;
            }
            decide(&pass.object, &pass.observed, now)
        }
        Acted::Failed(error) => after_failure(&mut pass, cause_of(&decision), &error, now),
        Acted::Unsaved { reason, message } => {
            let until = later(now, context.memory.count_failure(&name));
            let refused = SaveRefused { until, reason, message };
            pass.observed.unsaved = context.memory.refused(&name, refused.clone());
            pass.observed.save_refused = Some(refused);
            decide(&pass.object, &pass.observed, now)
        }
    };
    watch_by_name(&pass, &decision);
    if decision == Decision::Await {
        return Ok(Action::await_change());
    }
    let status = decide::next_status(&pass.object, &pass.observed, &decision, now);
    context.metrics.unaccounted(&name, status.unaccounted_certificates.as_ref());
    let reported = report(context, &pass.object, status).await;
    if let Some((reason, message)) = event {
        context.events.publish(&pass.object, reason, &message).await;
    }
    if let Some(warning) = warning {
        context.events.publish(&pass.object, Reason::CommonNameTooLong, &warning).await;
    }
    reported?;
    // An API server that fails at everything fails at the report too, and is asked less and less often.
    if failures_end {
        context.memory.forget_failures(&name);
    }
    context.memory.forget_end(&name);
    let sleep = sleep(decide::next_look(&pass.observed, &decision, now), &decision, now);
    // In case the Secret is changed by another before the watch has shown our own write of it.
    let secret = (pass.observed.namespace.clone(), pass.object.secret_name());
    let awaits_echo = context.memory.awaits_echo(&secret);
    Ok(Action::requeue(if awaits_echo { sleep.min(ECHO_LIMIT) } else { sleep }))
}

/// A claim without its certificate. If this process knows how its request ended, and only the report of it met a newer object, that
/// is what happened; else it must be taken for lost, which is for the leader to say: it may be the claim of who has taken over.
fn account(pass: &mut Pass<'_>, now: Timestamp) -> Result<Decision, ReconcileError> {
    let (context, name) = (pass.context, pass.name());
    let claim = pass.observed.status.issuance.as_ref().map(|claim| claim.id.clone()).unwrap_or_default();
    if let Some(error) = context.memory.end_of(&name, &claim) {
        return Ok(after_failure(pass, None, &error, now));
    }
    pass.check_leadership()?;
    // What is kept in memory for it is for another user than the Secret's, which works.
    context.memory.saved(&name);
    pass.observed.unsaved = None;
    context.accounts.forget_all();
    decide::record_lost_claim(&mut pass.observed.status, &pass.object.uid().unwrap_or_default(), now);
    Ok(decide(&pass.object, &pass.observed, now))
}

fn after_failure(pass: &mut Pass<'_>, cause: Option<Reason>, error: &IssueError, now: Timestamp) -> Decision {
    warn!(reason = error.reason.as_str(), message = error.message, "no certificate was issued");
    let wait = || Decision::Wait { until: later(now, 5), reason: error.reason, message: error.message.clone() };
    let Some(loaded) = &pass.issuer else { return wait() };
    let Ok(desired) = Desired::new(&pass.object, &loaded.facts) else { return wait() };
    pass.context.metrics.failed(desired.issuer_type, error.reason);
    decide::record_failure(&mut pass.observed.status, &desired, &loaded.facts, cause, error, now);
    if error.reason == Reason::AtlasRateLimited {
        pass.queues_again();
    }
    decide(&pass.object, &pass.observed, now)
}

/// Why a certificate is needed, if the decision is to issue one.
const fn cause_of(decision: &Decision) -> Option<Reason> {
    match decision {
        Decision::Issue { cause, .. } | Decision::Examine { cause } => Some(*cause),
        _ => None,
    }
}

/// A Secret that the label-selected watch does not show is watched by its name, so that its changes and its deletion are seen: a foreign one
/// in the way, and ours if its label was taken away and cannot be put back now.
fn watch_by_name(pass: &Pass<'_>, decision: &Decision) {
    let waiting = Waiting::Certificate(pass.name());
    let secret = (pass.observed.namespace.clone(), pass.object.secret_name());
    let is_foreign = matches!(decision, Decision::Refuse { reason: Reason::SecretNotOwned, .. } | Decision::Adopt);
    let lacks_label = pass.observed.secret.ours().is_some_and(|view| !view.complete)
        && pass.context.secrets.get(&ObjectRef::new(&secret.1).within(&secret.0)).is_none();
    if is_foreign || lacks_label {
        pass.context.secret_watches.watch(&waiting, &secret);
    } else {
        pass.context.secret_watches.forget(&waiting);
    }
}

/// The Event that tells of a Secret that was written: reason and message. A certificate that was issued is a success, whatever was the cause.
fn written(certificate: &Result<CertificateFacts, String>, reason: Reason) -> (Reason, String) {
    match (certificate, reason) {
        (Ok(facts), Reason::SecretRepaired) => {
            (reason, format!("the Secret of certificate {} is complete again", facts.serial_number))
        }
        (Ok(facts), Reason::SecretAdopted) => {
            (reason, format!("the Secret with certificate {} was taken over as it is", facts.serial_number))
        }
        (Ok(facts), cause) => {
            let CertificateFacts { serial_number, subject, not_after, .. } = facts;
            (
                Reason::Issued,
                format!("issued certificate {serial_number} for {subject}, valid until {not_after}; cause: {cause}"),
            )
        }
        (Err(fault), _) => (reason, fault.clone()),
    }
}

/// How long nothing has to be looked at.
fn sleep(next: Option<Timestamp>, decision: &Decision, now: Timestamp) -> Duration {
    let soon = matches!(
        decision,
        Decision::Issue { .. } | Decision::Examine { .. } | Decision::Wait { .. } | Decision::Save | Decision::Account
    )
    .then_some(Duration::from_secs(30));
    let until = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    // Times are compared in whole seconds: a second later all of it has come.
    let until = until.map(|until| until + Duration::from_secs(1));
    until.or(soon).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
}

fn later(now: Timestamp, failures: u32) -> Timestamp {
    let delay = jiff::SignedDuration::from_secs(1 << failures.min(9));
    truncated_to_second(now.saturating_add(delay).unwrap_or(now))
}

pub(super) fn name_of(object: &DatabaseUserCertificate) -> NamespacedName {
    (object.namespace().unwrap_or_default(), object.name_any())
}

const fn label(decision: &Decision) -> &'static str {
    match decision {
        Decision::Await => "await",
        Decision::Keep { .. } => "keep",
        Decision::Repair { .. } => "repair",
        Decision::Issue { cause, .. } => cause.as_str(),
        Decision::Examine { .. } => "examine",
        Decision::Queue => "queue",
        Decision::Adopt => "adopt",
        Decision::Save => "save",
        Decision::Account => "account",
        Decision::Wait { reason, .. } | Decision::Refuse { reason, .. } => reason.as_str(),
    }
}
