//! What is there: the workloads that follow a certificate, their pods, and what cannot be moved.

use jiff::Timestamp;
use kube::{ResourceExt, api::ListParams, core::Selector};
use serde_json::Value;

use super::{Kind, Object};
use crate::{
    Context,
    api::{Reason, Rollout, WorkloadReference},
    decide::pass::RequestErrorKind,
    kubernetes::KubernetesError,
    rollout_rules::{Found, Pod, RolledCertificate, Workload, not_movable},
};

/// Up to so many workloads of a kind are read one by one; more are listed.
const MOST_READ_ONE_BY_ONE: usize = 3;

/// The pods of up to so many workloads are listed one by one; for more, all pods of the namespace are listed once.
const MOST_LISTED_ONE_BY_ONE: usize = 4;

/// Why workloads cannot be looked at or changed.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// A person has to change something.
    Refused(Reason, String),
    /// A request failed, and is repeated.
    Failed(KubernetesError),
}

impl Obstacle {
    /// Of a request about objects of this kind.
    pub(super) fn of(error: KubernetesError, verb: &str, kind: &Kind, namespace: &str) -> Self {
        if error.kind() != RequestErrorKind::Refused {
            return Self::Failed(error);
        }
        if !error.is_denied() {
            let message = format!("the API server refuses to {verb} {}: {}", kind.resource(), error.explanation());
            return Self::Refused(Reason::InvalidSpec, message);
        }
        Self::Refused(Reason::RolloutForbidden, missing_right(&error, verb, kind, namespace))
    }
}

/// Which right is missing, as a sentence.
pub(super) fn missing_right(error: &KubernetesError, verb: &str, kind: &Kind, namespace: &str) -> String {
    let what = format!("the operator may not {verb} {} in namespace {namespace}", kind.resource());
    format!("{what}: the chart's value rollout.enabled gives this right; {}", error.explanation())
}

/// Everything that a plan wants to know.
pub(super) async fn observe(
    context: &Context,
    object: &Object,
    certificate: &RolledCertificate,
    kinds: &[Kind],
    now: Timestamp,
) -> Result<Found, Obstacle> {
    let look = Observer { context, namespace: object.namespace().unwrap_or_default(), certificate, kinds };
    let Followers { mut workloads, missing, not_served } = look.workloads().await?;
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    let is_first = rollout.is_none_or(|rollout| {
        rollout.serial_number != certificate.serial_number || rollout.observed_generation != object.metadata.generation
    });
    let needing = workloads.iter().filter(|workload| workload.needs_pods(certificate)).count();
    if !is_first && needing <= MOST_LISTED_ONE_BY_ONE {
        for workload in workloads.iter_mut().filter(|workload| workload.needs_pods(certificate)) {
            look.pods_of(workload).await?;
        }
        return Ok(Found { workloads, missing, not_served, ..Found::default() });
    }
    let pods = look.list(&Kind::pods(), &ListParams::default()).await?;
    let read: Vec<Pod> = pods.iter().map(Pod::read).collect();
    for workload in &mut workloads {
        workload.take_pods(&read);
    }
    let not_movable = if is_first { Some(look.not_movable(&pods, now).await?) } else { None };
    Ok(Found { workloads, missing, not_served, not_movable, refused: Vec::new() })
}

/// The Jobs and Pods that run with an older certificate and cannot be moved. They are looked for when a rollout begins, and when only
/// they or others are left.
pub(super) async fn look_for_not_movable(
    context: &Context,
    object: &Object,
    certificate: &RolledCertificate,
    kinds: &[Kind],
    now: Timestamp,
) -> Result<Vec<String>, Obstacle> {
    let look = Observer { context, namespace: object.namespace().unwrap_or_default(), certificate, kinds };
    let pods = look.list(&Kind::pods(), &ListParams::default()).await?;
    look.not_movable(&pods, now).await
}

/// The workloads that follow a certificate.
#[derive(Default)]
struct Followers {
    workloads: Vec<Workload>,
    /// Those that the spec names and that do not exist.
    missing: Vec<WorkloadReference>,
    /// What is wrong with kinds that the API server does not serve.
    not_served: Vec<String>,
}

impl Followers {
    /// Adds what a request for objects of a kind came to. It is `Err` only if the other kinds cannot be looked at either.
    fn add(
        &mut self,
        kind: &Kind,
        namespace: &str,
        verb: &str,
        asked: Result<Vec<Value>, KubernetesError>,
    ) -> Result<(), Obstacle> {
        match asked {
            Ok(objects) => match objects.iter().find_map(|object| kind.other_kind(object)) {
                Some(other_kind) => self.not_served.push(other_kind),
                None => self.workloads.extend(objects.iter().filter_map(|object| kind.read(object))),
            },
            Err(error) if error.kind() == RequestErrorKind::NotFound => self.not_served.push(kind.not_served()),
            Err(error) => return Err(Obstacle::of(error, verb, kind, namespace)),
        }
        Ok(())
    }
}

struct Observer<'a> {
    context: &'a Context,
    namespace: String,
    certificate: &'a RolledCertificate,
    kinds: &'a [Kind],
}

impl Observer<'_> {
    async fn list(&self, kind: &Kind, parameters: &ListParams) -> Result<Vec<Value>, Obstacle> {
        let listed = kind.list(&self.context.client, &self.namespace, parameters).await;
        listed.or_else(|error| match error.kind() {
            // The kind is not served, so there are none.
            RequestErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(Obstacle::of(error, "list", kind, &self.namespace)),
        })
    }

    async fn not_movable(&self, pods: &[Value], now: Timestamp) -> Result<Vec<String>, Obstacle> {
        let jobs = self.list(&Kind::jobs(), &ListParams::default()).await?;
        let kinds: Vec<String> = self.kinds.iter().map(|kind| kind.0.kind.clone()).collect();
        Ok(not_movable(pods, &jobs, self.certificate, &kinds, now))
    }

    async fn workloads(&self) -> Result<Followers, Obstacle> {
        let Rollout { workloads, selector, .. } = &self.certificate.rollout;
        if let Some(named) = workloads {
            return self.named(named).await;
        }
        let mut parameters = ListParams::default();
        if let Some(selector) = selector {
            let read = Selector::try_from(selector.clone());
            let read =
                read.map_err(|error| Obstacle::Refused(Reason::InvalidSpec, format!("spec.rollout.selector: {error}")))?;
            parameters = parameters.labels_from(&read);
        }
        let mut found = Followers::default();
        for kind in self.kinds {
            found.add(kind, &self.namespace, "list", kind.list(&self.context.client, &self.namespace, &parameters).await)?;
        }
        found.workloads.retain(|workload| self.certificate.covers(workload));
        found.workloads.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(found)
    }

    /// The workloads that the spec names, in its order, and those of them that do not exist.
    async fn named(&self, named: &[WorkloadReference]) -> Result<Followers, Obstacle> {
        if let Some(other) = named.iter().find(|workload| !self.kinds.iter().any(|kind| kind.is_of(workload))) {
            return Err(Obstacle::Refused(Reason::InvalidSpec, not_served(other, self.kinds)));
        }
        let mut read = Followers::default();
        for kind in self.kinds {
            let of_kind: Vec<&WorkloadReference> = named.iter().filter(|workload| kind.is_of(workload)).collect();
            let (client, namespace) = (&self.context.client, self.namespace.as_str());
            if of_kind.len() > MOST_READ_ONE_BY_ONE {
                read.add(kind, namespace, "list", kind.list(client, namespace, &ListParams::default()).await)?;
            } else if !of_kind.is_empty() {
                let asked = of_kind.iter().map(|workload| kind.get(client, namespace, &workload.name));
                let asked = futures::future::try_join_all(asked).await;
                read.add(kind, namespace, "get", asked.map(|found| found.into_iter().flatten().collect()))?;
            }
        }
        let mut found = Followers { not_served: read.not_served, ..Followers::default() };
        for reference in named {
            match read.workloads.iter().find(|workload| workload.reference == *reference) {
                // A workload that is named twice counts once.
                Some(workload) if found.workloads.iter().all(|known| known.reference != *reference) => {
                    found.workloads.push(workload.clone());
                }
                Some(_) => {}
                None => found.missing.push(reference.clone()),
            }
        }
        Ok(found)
    }

    /// Asks for the pods of one workload. One without a selector that can be read has none that are known.
    async fn pods_of(&self, workload: &mut Workload) -> Result<(), Obstacle> {
        let Some(Ok(selector)) = workload.selector.clone().map(Selector::try_from) else { return Ok(()) };
        let pods = self.list(&Kind::pods(), &ListParams::default().labels_from(&selector)).await?;
        let pods: Vec<Pod> = pods.iter().map(Pod::read).collect();
        workload.take_pods(&pods);
        Ok(())
    }
}

fn not_served(workload: &WorkloadReference, kinds: &[Kind]) -> String {
    let known: Vec<&str> = kinds.iter().map(|kind| kind.0.kind.as_str()).collect();
    let hint = match workload.kind.as_str() {
        "CronJob" => "the next run of a CronJob has the new certificate anyway",
        "Job" | "Pod" => "a Job and a Pod cannot be moved: replace it",
        _ => "the chart's value rollout.kinds (--rollout-kind) names further kinds",
    };
    let WorkloadReference { api_version, kind, name } = workload;
    format!("spec.rollout.workloads: {kind} {name} of {api_version} is none of {}; {hint}", known.join(", "))
}
