//! Getting the pods of workloads onto the certificate in the Secret: reads what [`plan`] wants to know, and carries out what it says.
//!
//! # Guarantees
//!
//! - An object without `spec.rollout`, and one whose rollout is complete, cost no request.
//! - The status is written before a workload is changed, in the version of the object that was seen. So a workload is only changed for
//!   a spec that stands, and a kill at any point leaves a record of it.
//! - A workload is changed in the version that was seen, in one annotation alone. Repeating the change changes nothing.
//! - Nothing is begun by a process that does not lead.

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
    memory::{Refusals, Version},
    observe::{Obstacle, look_for_not_movable, missing_right, observe},
};
use crate::{
    Context, Received,
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, ObjectKey, Reason, Severity,
        names::{RESUME_ROLLOUT_ANNOTATION, ROLLOUT_MANAGER, SERIAL_NUMBERS_ANNOTATION},
    },
    decide::pass::RequestErrorKind,
    kubernetes::{KubernetesError, chain},
    rollout_rules::{
        Found, Input, Look, Move, Plan, RolledCertificate, Workload, is_at_rest, next_status, not_enabled, plan, refused,
        without_rollout,
    },
    status::write_status,
};

/// The longest time for one look. A look that is cut off is repeated from its start.
const LOOK_LIMIT: Duration = Duration::from_mins(2);

/// What needs another right, or a change by a person, is tried again after this time.
const AFTER_REFUSAL: SignedDuration = SignedDuration::from_mins(10);

/// After a request that failed for a cause that passes, such as an API server that is overloaded.
const AFTER_FAILURE: SignedDuration = SignedDuration::from_secs(30);

/// After a conflict: somebody changed the workload or the object meanwhile.
const AFTER_CONFLICT: SignedDuration = SignedDuration::from_secs(1);

/// The longest rest until the next look.
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(1);

type Object = Received<DatabaseUserCertificate>;

/// Looks at the workloads of an object if that is due, and moves those whose turn it is. Returns when to look again.
pub(crate) async fn follow(context: &Context, object: &Object) -> Result<Option<Duration>, KubernetesError> {
    let name = ObjectKey::of(object);
    if object.unreadable().is_some() {
        return Ok(None);
    }
    if object.spec.rollout.is_none() {
        context.rollouts.forget(&name, &context.settings.metrics);
        if let Some(status) = without_rollout(object) {
            write_status(context, object, &status).await?;
        }
        return Ok(None);
    }
    let Some(certificate) = RolledCertificate::of(object) else { return Ok(None) };
    if is_at_rest(object, &certificate) {
        context.rollouts.forget(&name, &context.settings.metrics);
        return Ok(None);
    }
    let version = version(object, &certificate);
    let now = context.now();
    let until = if let Some(until) = context.rollouts.rests_until(&name, &version, now) {
        until
    } else {
        let mut refusals = context.rollouts.refusals(&name, &version, now);
        let turn = Turn { context, object: object.clone(), certificate, refusals: &mut refusals };
        let look = tokio::time::timeout(LOOK_LIMIT, Box::pin(turn.look(now))).await;
        let looked = look.unwrap_or(Err(KubernetesError::TimedOut { operation: "look at the workloads" }));
        let looked = looked.unwrap_or_else(|error| {
            warn!(
                name = name.to_string(),
                error = chain(&error),
                "the workloads could not be looked at or changed, which is repeated"
            );
            Looked { rest: AFTER_FAILURE, behind: behind(object.status.as_ref()) }
        });
        let until = now.saturating_add(looked.rest.min(LONGEST_REST)).unwrap_or(now);
        context.rollouts.looked(&name, version, until, (looked.behind, refusals), &context.settings.metrics);
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
        resume: resume(object).map(ToOwned::to_owned),
    }
}

fn resume(object: &Object) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(RESUME_ROLLOUT_ANNOTATION).map(String::as_str)
}

/// What a look came to.
struct Looked {
    rest: SignedDuration,
    behind: i64,
}

/// One look at the workloads of one object.
struct Turn<'a> {
    context: &'a Context,
    /// As it was written last.
    object: Object,
    certificate: RolledCertificate,
    refusals: &'a mut Refusals,
}

impl Turn<'_> {
    async fn look(mut self, now: Timestamp) -> Result<Looked, KubernetesError> {
        let Some(further) = &self.context.settings.rollout_kinds else {
            let (status, events) = not_enabled(&self.object, now);
            return self.tell_and_rest(&status, &events).await;
        };
        let kinds = Kind::all(further);
        let mut found = match observe(self.context, &self.object, &self.certificate, &kinds, now).await {
            Ok(found) => found,
            Err(obstacle) => return self.hindered(obstacle, now).await,
        };
        found.refused = self.refusals.iter().map(|(workload, (why, _))| (workload.clone(), why.clone())).collect();
        let mut planned = self.plan(&found, now);
        if found.not_movable.is_none() && has_moved_all_that_it_can(&planned) {
            match look_for_not_movable(self.context, &self.object, &self.certificate, &kinds, now).await {
                Ok(not_movable) => found.not_movable = Some(not_movable),
                Err(obstacle) => return self.hindered(obstacle, now).await,
            }
            planned = self.plan(&found, now);
        }
        if !self.tell(&planned, now).await? {
            return Ok(rest(&planned, AFTER_CONFLICT));
        }
        if planned.moves.is_empty() {
            return Ok(rest_of(&planned, now));
        }
        for next in &planned.moves {
            // A process that was paused since may not lead any more.
            if !self.context.settings.leadership.may_act() {
                return Ok(rest(&planned, AFTER_CONFLICT));
            }
            match self.carry_out(next, &kinds).await {
                Carried::Out(changed) => replace(&mut found, *changed),
                Carried::Conflict => return Ok(rest(&planned, AFTER_CONFLICT)),
                Carried::Refused(why) => {
                    warn!(name = self.object.name_any(), workload = next.workload.to_string(), why, "the change was refused");
                    let until = now.saturating_add(AFTER_REFUSAL).unwrap_or(now);
                    self.refusals.insert(next.workload.clone(), (why.clone(), until));
                    found.refused.push((next.workload.clone(), why));
                }
                Carried::Failed(error) => return Err(error),
            }
        }
        // What was changed is noted at once: another controller may take it back before the next look.
        let noted = self.plan(&found, now);
        let is_written = self.tell(&noted, now).await?;
        Ok(if is_written { rest_of(&noted, now) } else { rest(&noted, AFTER_CONFLICT) })
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
        plan(&Input {
            certificate: &self.certificate,
            others: &others,
            objects: &objects,
            generation: self.object.metadata.generation,
            resume: resume(&self.object),
            status: self.object.status.as_ref().and_then(|status| status.rollout.as_ref()),
            found,
            now,
        })
    }

    /// Writes the status, and tells what is new. False: the object has changed, and is looked at again.
    async fn tell(&mut self, planned: &Plan, now: Timestamp) -> Result<bool, KubernetesError> {
        let (status, events) = next_status(&self.object, planned, now);
        self.tell_status(&status, &events).await
    }

    async fn tell_status(
        &mut self,
        status: &DatabaseUserCertificateStatus,
        events: &[(Reason, String)],
    ) -> Result<bool, KubernetesError> {
        if self.object.status.as_ref() != Some(status) {
            match write_status(self.context, &self.object, status).await {
                Ok(written) => self.object = written,
                Err(error) if error.kind() == RequestErrorKind::Conflict => {
                    info!(name = self.object.name_any(), error = chain(&error), "the status was not written");
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        for (reason, message) in events {
            if reason.severity() == Severity::Warning {
                self.context.settings.metrics.warned(*reason);
            }
            self.context.events.publish(&*self.object, *reason, message).await;
        }
        Ok(true)
    }

    /// Changes one workload.
    async fn carry_out(&self, next: &Move, kinds: &[Kind]) -> Carried {
        let Some(kind) = kinds.iter().find(|kind| kind.is_of(&next.workload)) else { return Carried::Conflict };
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
                    return Carried::Refused("the API server drops the annotation of its pod template".to_owned());
                };
                let message = format!("{} is moved to certificate {}", next.workload, self.certificate.serial_number);
                info!(namespace, name = self.object.name_any(), message);
                self.context.events.publish(&*self.object, Reason::RolloutInProgress, &message).await;
                Carried::Out(Box::new(changed))
            }
            Err(error) => match error.kind() {
                RequestErrorKind::Conflict | RequestErrorKind::NotFound => Carried::Conflict,
                // By RBAC, and not by a webhook.
                RequestErrorKind::Refused if error.explanation().contains("cannot patch resource") => {
                    Carried::Refused(missing_right(&error, "patch", kind, &namespace))
                }
                RequestErrorKind::Refused => Carried::Refused(error.explanation()),
                _ => Carried::Failed(error),
            },
        }
    }

    /// Says what is in the way, and tries again much later; or fails, if that may pass by itself.
    async fn hindered(self, obstacle: Obstacle, now: Timestamp) -> Result<Looked, KubernetesError> {
        match obstacle {
            Obstacle::Failed(error) => Err(error),
            Obstacle::Refused(reason, message) => {
                warn!(name = self.object.name_any(), message, "workloads cannot be moved");
                let (status, events) = refused(&self.object, reason, &message, now);
                self.tell_and_rest(&status, &events).await
            }
        }
    }

    async fn tell_and_rest(
        mut self,
        status: &DatabaseUserCertificateStatus,
        events: &[(Reason, String)],
    ) -> Result<Looked, KubernetesError> {
        let is_written = self.tell_status(status, events).await?;
        Ok(Looked { rest: if is_written { AFTER_REFUSAL } else { AFTER_CONFLICT }, behind: behind(Some(status)) })
    }
}

/// What became of the change of a workload.
enum Carried {
    /// It was made.
    Out(Box<Workload>),
    /// The workload has changed or gone since it was looked at.
    Conflict,
    /// The API server, or a webhook that it asks, refuses it.
    Refused(String),
    /// The request failed, and is repeated.
    Failed(KubernetesError),
}

fn behind(status: Option<&DatabaseUserCertificateStatus>) -> i64 {
    let rollout = status.and_then(|status| status.rollout.as_ref());
    rollout.map_or(0, |rollout| rollout.workloads - rollout.moved)
}

/// Whether nothing is left to do for the operator, unless others act.
const fn has_moved_all_that_it_can(planned: &Plan) -> bool {
    matches!(
        planned.reason,
        Reason::RolloutComplete | Reason::RolloutLeftToOthers | Reason::RolloutContested | Reason::WorkloadNotFound
    )
}

fn rest_of(planned: &Plan, now: Timestamp) -> Looked {
    let rest_until = match planned.look {
        Look::Never => LONGEST_REST,
        Look::At(at) => at.duration_since(now),
    };
    rest(planned, rest_until)
}

fn rest(planned: &Plan, rest: SignedDuration) -> Looked {
    Looked { rest, behind: planned.status.workloads - planned.status.moved }
}

/// Puts a workload that was changed in the place of what was seen of it.
fn replace(found: &mut Found, changed: Workload) {
    if let Some(seen) = found.workloads.iter_mut().find(|seen| seen.reference == changed.reference) {
        *seen = Workload { pods: seen.pods.take(), ..changed };
    }
}
