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
    memory::{Glance, Refusals, Seen, Version},
    observe::{Observer, Obstacle, missing_right},
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
        Figures, Found, Input, Look, Move, Plan, RolledCertificate, Workload, is_at_rest, next_status, not_enabled, plan,
        refused, without_rollout,
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
        context.settings.metrics.rollout(&name, None);
        if let Some(status) = without_rollout(object) {
            write_status(context, object, &status).await?;
        }
        return Ok(None);
    }
    let Some(certificate) = RolledCertificate::of(object) else { return Ok(None) };
    context.settings.metrics.rollout(&name, Figures::of(object, &certificate));
    if is_at_rest(object, &certificate) {
        context.rollouts.forget(&name);
        return Ok(None);
    }
    let version = version(object, &certificate);
    let now = context.now();
    let until = if let Some(until) = context.rollouts.rests_until(&name, &version, now) {
        until
    } else {
        let mut refusals = context.rollouts.refusals(&name, &version, now);
        let mut seen = context.rollouts.seen(&name, &version);
        let turn = Turn { context, object: object.clone(), certificate, refusals: &mut refusals, seen: &mut seen };
        let look = tokio::time::timeout(LOOK_LIMIT, Box::pin(turn.look(now))).await;
        let rest = look.unwrap_or(Err(KubernetesError::TimedOut { operation: "look at the workloads" }));
        let rest = rest.unwrap_or_else(|error| {
            warn!(
                name = name.to_string(),
                error = chain(&error),
                "the workloads could not be looked at or changed, which is repeated"
            );
            AFTER_FAILURE
        });
        let until = now.saturating_add(rest.min(LONGEST_REST)).unwrap_or(now);
        context.rollouts.looked(&name, version, until, (refusals, seen));
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
    refusals: &'a mut Refusals,
    seen: &'a mut Seen,
}

impl Turn<'_> {
    /// Returns for how long nothing is to be done.
    async fn look(mut self, now: Timestamp) -> Result<SignedDuration, KubernetesError> {
        let Some(further) = &self.context.settings.rollout_kinds else {
            let (status, events) = not_enabled(&self.object, now);
            return self.tell_and_rest(&status, &events).await;
        };
        let kinds = Kind::all(further);
        if let Some(looked) = self.glance(&kinds, now).await {
            return Ok(looked);
        }
        let mut found = match self.observer(&kinds, now).observe().await {
            Ok(found) => found,
            Err(obstacle) => return self.hindered(obstacle, now).await,
        };
        found.refused = self.refusals.iter().map(|(workload, (why, _))| (workload.clone(), why.clone())).collect();
        let mut planned = self.plan(&found, now);
        loop {
            match self.observer(&kinds, now).look_before_moving(&planned.moves, &mut found).await {
                Ok(true) => planned = self.plan(&found, now),
                Ok(false) => break,
                Err(obstacle) => return self.hindered(obstacle, now).await,
            }
        }
        if found.outside.is_none() && has_moved_all_that_it_can(&planned) {
            match self.observer(&kinds, now).outside(&mut found.workloads).await {
                Ok(outside) => found.outside = Some(outside),
                Err(obstacle) => return self.hindered(obstacle, now).await,
            }
            planned = self.plan(&found, now);
        }
        if !self.tell(&planned, now).await? {
            return Ok(AFTER_CONFLICT);
        }
        if planned.moves.is_empty() {
            return Ok(self.rest_of(&planned, now));
        }
        for next in &planned.moves {
            // A process that was paused since may not lead any more.
            if !self.context.settings.leadership.may_act() {
                return Ok(AFTER_CONFLICT);
            }
            match self.carry_out(next, &kinds).await {
                Carried::Out(changed) => replace(&mut found, *changed),
                Carried::Conflict => return Ok(AFTER_CONFLICT),
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
        Ok(if is_written { self.rest_of(&noted, now) } else { AFTER_CONFLICT })
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
                Ok(written) => {
                    let figures = Figures::of(&written, &self.certificate);
                    self.context.settings.metrics.rollout(&ObjectKey::of(&written), figures);
                    self.object = written;
                }
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
    async fn hindered(self, obstacle: Obstacle, now: Timestamp) -> Result<SignedDuration, KubernetesError> {
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
    ) -> Result<SignedDuration, KubernetesError> {
        let is_written = self.tell_status(status, events).await?;
        Ok(if is_written { AFTER_REFUSAL } else { AFTER_CONFLICT })
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

/// Whether nothing is left to do for the operator, unless others act.
const fn has_moved_all_that_it_can(planned: &Plan) -> bool {
    matches!(
        planned.reason,
        Reason::RolloutComplete | Reason::RolloutLeftToOthers | Reason::RolloutContested | Reason::WorkloadNotFound
    )
}

/// Puts a workload that was changed in the place of what was seen of it.
fn replace(found: &mut Found, changed: Workload) {
    if let Some(seen) = found.workloads.iter_mut().find(|seen| seen.reference == changed.reference) {
        *seen = Workload { pods: seen.pods.take(), ..changed };
    }
}
