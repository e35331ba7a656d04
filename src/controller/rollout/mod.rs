//! Getting the pods of workloads onto the certificate in the Secret: reads what [`plan`] wants to know, and carries out what it says.
//!
//! # Guarantees
//!
//! - An object without `spec.rollout`, and one whose rollout is complete, cost no request.
//! - The status is written before a workload is changed, in the version of the object that was seen. So a workload is only changed for
//!   a spec that stands, and a kill at any point leaves a record of it.
//! - A workload is changed in the version that was seen, in one annotation alone. Repeating the change changes nothing.
//! - Nothing is begun by a process that does not lead.
//!
//! # Errors
//!
//! - A status that is not written is the error of the pass. No condition can say that conditions cannot be written: `failures` tells it.

mod kinds;
mod memory;
mod observe;

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, api::PatchParams};
use serde_json::json;
use tracing::{info, warn};

pub use self::memory::Rollouts;
use self::{
    kinds::Kind,
    memory::{Glance, Seen, Setbacks, Version},
    observe::{Observer, Obstacle, missing_right},
};
use crate::{
    Context, Received,
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, ObjectKey, ROLLED_OUT, Reason, Severity, condition,
        names::{RESUME_ROLLOUT_ANNOTATION, ROLLOUT_MANAGER, SERIAL_NUMBERS_ANNOTATION},
    },
    decide::pass::RequestErrorKind,
    kubernetes::{KubernetesError, chain},
    rollout_rules::{
        AFTER_REFUSAL, Found, Input, Look, Move, Plan, Repetition, RolledCertificate, Unchanged, Workload, is_at_rest,
        next_status, not_enabled, plan, refused, without_rollout,
    },
    status::write_status,
};

/// The longest time for one look. A look that is cut off is repeated from its start.
const LOOK_LIMIT: Duration = Duration::from_mins(2);

/// Where another process may lead by now, or another kind be asked for.
const SOON: SignedDuration = SignedDuration::from_secs(1);

/// The longest rest until the next look.
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(1);

/// While the next step depends on a few workloads alone, all others are looked at this often.
const ALL_ARE_LOOKED_AT_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Up to so many workloads are read one by one between looks at all.
const MOST_GLANCED_AT: usize = 4;

type Object = Received<DatabaseUserCertificate>;

/// Looks at the workloads of an object if that is due, and moves those whose turn it is. Returns when to look again.
pub(crate) async fn follow(context: &Context, object: &Object) -> Result<Option<Duration>, KubernetesError> {
    let name = ObjectKey::of(object);
    if object.unreadable().is_some() {
        return Ok(None);
    }
    if object.spec.rollout.is_none() {
        context.rollouts.forget(&name);
        if let Some(status) = without_rollout(object) {
            write_status(context, &**object, &status).await?;
        }
        return Ok(None);
    }
    let Some(certificate) = RolledCertificate::of(object) else { return Ok(None) };
    if is_at_rest(object, &certificate) {
        context.rollouts.forget(&name);
        return Ok(None);
    }
    let version = version(object, &certificate);
    let now = context.now();
    let until = if let Some(until) = context.rollouts.rests_until(&name, &version, now) {
        until
    } else {
        let (mut setbacks, mut seen) = context.rollouts.last(&name, &version, now);
        let mut turn = Turn { context, object: object.clone(), certificate, setbacks: &mut setbacks, seen: &mut seen };
        let looked = turn.look_in_time(now).await;
        let rest = looked.as_ref().map_or(SignedDuration::ZERO, |rest| (*rest).min(LONGEST_REST));
        let until = now.saturating_add(rest).unwrap_or(now);
        context.rollouts.looked(&name, version, until, (setbacks, seen));
        looked?;
        until
    };
    // Times are compared in whole seconds: a little later all of it has come.
    Ok(Duration::try_from(until.duration_since(now)).ok().map(|rest| rest + Duration::from_millis(500)))
}

/// What a look depends on besides the workloads and the time.
fn version(object: &Object, certificate: &RolledCertificate) -> Version {
    Version {
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation,
        serial_number: certificate.serial_number.clone(),
        is_ready: certificate.is_ready,
        is_complete: certificate.is_complete,
        compromised_not_after: certificate.compromised_not_after,
        is_compromised: certificate.is_compromised,
        resume: resume(object).map(ToOwned::to_owned),
    }
}

fn resume(object: &Object) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(RESUME_ROLLOUT_ANNOTATION).map(String::as_str)
}

/// One look at the workloads of one object.
struct Turn<'a> {
    context: &'a Context,
    /// As it was written last.
    object: Object,
    certificate: RolledCertificate,
    setbacks: &'a mut Setbacks,
    seen: &'a mut Seen,
}

impl Turn<'_> {
    /// Looks, and says what is in the way. Returns for how long nothing is to be done.
    async fn look_in_time(&mut self, now: Timestamp) -> Result<SignedDuration, KubernetesError> {
        let look = tokio::time::timeout(LOOK_LIMIT, Box::pin(self.look(now))).await;
        match look.unwrap_or(Err(Obstacle::CutOff(LOOK_LIMIT))) {
            Ok(rest) => {
                self.setbacks.seen();
                Ok(rest)
            }
            Err(obstacle) => {
                let told = tokio::time::timeout(LOOK_LIMIT, Box::pin(self.hindered(obstacle, now))).await;
                told.unwrap_or(Ok(AFTER_REFUSAL))
            }
        }
    }

    /// Returns for how long nothing is to be done.
    async fn look(&mut self, now: Timestamp) -> Result<SignedDuration, Obstacle> {
        let Some(further) = &self.context.settings.rollout_kinds else {
            let (status, events) = not_enabled(&self.object, now);
            return self.tell_and_rest(&status, &events).await.map_err(Obstacle::NotWritten);
        };
        let kinds = Kind::all(further);
        if let Some(rest) = self.glance(&kinds, now).await {
            return Ok(rest);
        }
        let mut found = self.observer(&kinds, now).observe().await?;
        for kind in found.not_served.iter().filter(|kind| self.context.rollouts.tells_not_served(kind)) {
            warn!(kind, "workloads of this kind cannot be moved; it is tried again");
        }
        found.refused = self.setbacks.told();
        let mut planned = self.plan(&found, now);
        while self.observer(&kinds, now).look_before_moving(&planned.moves, &mut found).await? {
            planned = self.plan(&found, now);
        }
        if found.outside.is_none() && has_moved_all_that_it_can(&planned) && self.is_news(&planned) {
            found.outside = Some(self.observer(&kinds, now).outside(&mut found.workloads).await?);
            planned = self.plan(&found, now);
        }
        self.tell(&planned, now).await?;
        if planned.moves.is_empty() {
            return Ok(self.rest_of(&planned, now));
        }
        for next in &planned.moves {
            // A process that was paused since may not lead any more.
            if !self.context.settings.leadership.may_act() {
                return Ok(SOON);
            }
            let Some(kind) = kinds.iter().find(|kind| kind.is_of(&next.workload)) else { continue };
            match self.carry_out(next, kind).await {
                Ok(changed) => {
                    self.setbacks.changed(&next.workload);
                    replace(&mut found, changed);
                }
                Err((answer, why)) => {
                    let repetition = self.setbacks.not_changed(next, answer, &why, now);
                    let (name, workload) = (self.object.name_any(), next.workload.to_string());
                    match repetition {
                        Repetition::After(wait) => {
                            info!(name, workload, why, "the workload was not changed, which is repeated");
                            return Ok(wait);
                        }
                        Repetition::Told => {
                            warn!(name, workload, why, "the change of the workload is refused");
                            found.refused.push((next.workload.clone(), why));
                        }
                    }
                }
            }
        }
        // What was changed is noted at once: another controller may take it back before the next look.
        let noted = self.plan(&found, now);
        self.tell(&noted, now).await?;
        Ok(self.rest_of(&noted, now))
    }

    /// Whether the status does not say yet how far the workloads are.
    fn is_news(&self, planned: &Plan) -> bool {
        let status = self.object.status.as_ref();
        let told = status.and_then(|status| condition(&status.conditions, ROLLED_OUT)).map(|told| told.reason.as_str());
        let moved = status.and_then(|status| status.rollout.as_ref()).map(|rollout| rollout.moved);
        told != Some(planned.reason.as_str()) || moved != Some(planned.status.moved)
    }

    fn observer<'b>(&'b mut self, kinds: &'b [Kind], now: Timestamp) -> Observer<'b> {
        let Self { context, object, certificate, seen, .. } = self;
        Observer { context, object, certificate, kinds, seen: &mut seen.pods, now }
    }

    /// Looks at the workloads alone on which the next step depends. Returns the rest; `None` if all have to be looked at.
    async fn glance(&mut self, kinds: &[Kind], now: Timestamp) -> Option<SignedDuration> {
        let glance = self.seen.awaited.take()?;
        let since = now.duration_since(glance.looked);
        if since.is_negative() || since >= ALL_ARE_LOOKED_AT_EVERY {
            return None;
        }
        let workloads = self.observer(kinds, now).glance(&glance.awaited).await?;
        if !glance.awaited.are_as_before(&workloads, &self.certificate, now) {
            return None;
        }
        let rest = glance.rest;
        self.seen.awaited = Some(glance);
        Some(rest)
    }

    /// The rest after a look that was carried through.
    fn rest_of(&mut self, planned: &Plan, now: Timestamp) -> SignedDuration {
        let rest = match planned.look {
            Look::Never => LONGEST_REST,
            Look::At(at) => at.duration_since(now),
        };
        let awaited = planned.awaited.clone().filter(|awaited| awaited.references().len() <= MOST_GLANCED_AT);
        self.seen.awaited = awaited.map(|awaited| Glance { awaited, looked: now, rest });
        rest
    }

    fn plan(&self, found: &Found, now: Timestamp) -> Plan {
        let namespace = self.object.namespace();
        let neighbours: Vec<_> =
            self.context.certificate_store.state().into_iter().filter(|object| object.namespace() == namespace).collect();
        let others: Vec<RolledCertificate> = neighbours
            .iter()
            .filter(|object| object.name_any() != self.object.name_any() && object.metadata.deletion_timestamp.is_none())
            .filter_map(|object| RolledCertificate::of(object))
            .collect();
        let objects: BTreeSet<String> = neighbours.iter().map(|object| object.name_any()).collect();
        self.context.rollouts.plan(&ObjectKey::of(&self.object), others, |others| {
            plan(&Input {
                certificate: &self.certificate,
                others,
                objects: &objects,
                generation: self.object.metadata.generation,
                resume: resume(&self.object),
                status: self.object.status.as_ref().and_then(|status| status.rollout.as_ref()),
                found,
                now,
            })
        })
    }

    /// Writes the status, and tells what is new.
    async fn tell(&mut self, planned: &Plan, now: Timestamp) -> Result<(), Obstacle> {
        let (status, events) = next_status(&self.object, planned, now);
        self.tell_status(&status, &events).await.map_err(Obstacle::NotWritten)
    }

    async fn tell_status(
        &mut self,
        status: &DatabaseUserCertificateStatus,
        events: &[(Reason, String)],
    ) -> Result<(), KubernetesError> {
        if self.object.status.as_ref() != Some(status) {
            self.object = write_status(self.context, &*self.object, status).await?;
        }
        for (reason, message) in events {
            if reason.severity() == Severity::Warning {
                self.context.settings.metrics.warned(*reason);
            }
            self.context.events.publish(&*self.object, *reason, message).await;
        }
        Ok(())
    }

    /// Changes one workload. If it is not changed, the answer and what it says.
    async fn carry_out(&self, next: &Move, kind: &Kind) -> Result<Workload, (Unchanged, String)> {
        let patch = json!({
            "apiVersion": next.workload.api_version,
            "kind": next.workload.kind,
            "metadata": { "name": next.workload.name, "uid": next.uid, "resourceVersion": next.resource_version },
            "spec": { "template": { "metadata": { "annotations": { SERIAL_NUMBERS_ANNOTATION: next.serial_numbers } } } },
        });
        let parameters = PatchParams::apply(ROLLOUT_MANAGER).force();
        let namespace = self.object.namespace().unwrap_or_default();
        match kind.patch(&self.context.client, &namespace, &next.workload.name, &parameters, &patch).await {
            Ok(changed) => {
                let Some(changed) = kind.read(&changed).filter(|changed| changed.serial_numbers == next.serial_numbers())
                else {
                    return Err((Unchanged::Refused, "the API server drops the annotation of its pod template".to_owned()));
                };
                let message = format!("{} is moved to certificate {}", next.workload, self.certificate.serial_number);
                info!(namespace, name = self.object.name_any(), message);
                self.context.events.publish(&*self.object, Reason::RolloutInProgress, &message).await;
                Ok(changed)
            }
            // By RBAC, and not by a webhook.
            Err(error) if error.is_denied() && error.explanation().contains("cannot patch resource") => {
                Err((Unchanged::Refused, missing_right(&error, "patch", kind, &namespace)))
            }
            Err(error) => Err((unchanged(&error), error.explanation())),
        }
    }

    /// Says what is in the way, and tries again much later; sooner if it may pass by itself.
    async fn hindered(&mut self, obstacle: Obstacle, now: Timestamp) -> Result<SignedDuration, KubernetesError> {
        let why = match obstacle {
            Obstacle::NotWritten(error) => return Err(error),
            Obstacle::Refused(reason, message) => {
                warn!(name = self.object.name_any(), message, "workloads cannot be moved");
                let (status, events) = refused(&self.object, reason, &message, now);
                return self.tell_and_rest(&status, &events).await;
            }
            Obstacle::Failed(error) => chain(&error),
            Obstacle::CutOff(limit) => format!("a look takes longer than {} s", limit.as_secs()),
        };
        let repetition = self.setbacks.not_seen(&self.object.uid().unwrap_or_default());
        warn!(name = self.object.name_any(), why, "the workloads could not be looked at, which is repeated");
        if let Repetition::After(rest) = repetition {
            return Ok(rest);
        }
        let message = format!("the workloads cannot be looked at, which is tried again every ten minutes: {why}");
        let (status, events) = refused(&self.object, Reason::RolloutForbidden, &message, now);
        self.tell_and_rest(&status, &events).await
    }

    async fn tell_and_rest(
        &mut self,
        status: &DatabaseUserCertificateStatus,
        events: &[(Reason, String)],
    ) -> Result<SignedDuration, KubernetesError> {
        self.tell_status(status, events).await?;
        Ok(AFTER_REFUSAL)
    }
}

fn unchanged(error: &KubernetesError) -> Unchanged {
    match error.kind() {
        RequestErrorKind::Refused => Unchanged::Refused,
        RequestErrorKind::Conflict | RequestErrorKind::NotFound => Unchanged::Outdated,
        RequestErrorKind::Unanswered | RequestErrorKind::NamespaceTerminating | RequestErrorKind::Failed => Unchanged::Failed,
    }
}

/// Whether nothing is left to do for the operator, unless others act.
const fn has_moved_all_that_it_can(planned: &Plan) -> bool {
    matches!(
        planned.reason,
        Reason::RolloutComplete
            | Reason::RolloutLeftToOthers
            | Reason::RolloutContested
            | Reason::WorkloadKindNotServed
            | Reason::WorkloadNotFound
    )
}

/// Puts a workload that was changed in the place of what was seen of it.
fn replace(found: &mut Found, changed: Workload) {
    if let Some(seen) = found.workloads.iter_mut().find(|seen| seen.reference == changed.reference) {
        *seen = Workload { pods: seen.pods.take(), ..changed };
    }
}
