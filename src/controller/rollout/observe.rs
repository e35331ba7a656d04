//! What is there: the workloads that follow a certificate, their pods, and what cannot be moved.

use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::ListParams,
    core::{GroupVersionKind, Selector},
};
use serde_json::Value;

use super::{Kind, Object};
use crate::{
    Context,
    api::{Reason, Rollout, WorkloadReference},
    decide::pass::RequestErrorKind,
    kubernetes::KubernetesError,
    rollout_rules::{Found, Outside, Pod, RolledCertificate, Workload, outside},
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
    let (mut workloads, missing) = look.workloads().await?;
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    let is_first = rollout.is_none_or(|rollout| {
        rollout.serial_number != certificate.serial_number || rollout.observed_generation != object.metadata.generation
    });
    let needing = workloads.iter().filter(|workload| workload.needs_pods(certificate)).count();
    if !is_first && needing <= MOST_LISTED_ONE_BY_ONE {
        for workload in workloads.iter_mut().filter(|workload| workload.needs_pods(certificate)) {
            look.pods_of(workload).await?;
        }
        return Ok(Found { workloads, missing, ..Found::default() });
    }
    let pods = look.list(&Kind::pods(), &ListParams::default()).await?;
    let read: Vec<Pod> = pods.iter().map(Pod::read).collect();
    for workload in &mut workloads {
        workload.take_pods(&read);
    }
    let outside = if is_first { Some(look.outside(&pods, &workloads, now).await?) } else { None };
    Ok(Found { workloads, missing, outside, refused: Vec::new() })
}

/// What uses the Secret besides these workloads. It is looked for when a rollout begins, and when nothing is left to do for the operator.
/// It is read from the pods and Jobs of the namespace, so it costs the same two requests whichever workloads there are.
pub(super) async fn look_outside(
    context: &Context,
    object: &Object,
    certificate: &RolledCertificate,
    (kinds, workloads): (&[Kind], &[Workload]),
    now: Timestamp,
) -> Result<Outside, Obstacle> {
    let look = Observer { context, namespace: object.namespace().unwrap_or_default(), certificate, kinds };
    let pods = look.list(&Kind::pods(), &ListParams::default()).await?;
    look.outside(&pods, workloads, now).await
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

    async fn outside(&self, pods: &[Value], workloads: &[Workload], now: Timestamp) -> Result<Outside, Obstacle> {
        let jobs = self.list(&Kind::jobs(), &ListParams::default()).await?;
        let kinds = self.kinds.iter().map(|kind| GroupVersionKind::gvk(&kind.0.group, &kind.0.version, &kind.0.kind));
        let kinds: Vec<GroupVersionKind> = kinds.collect();
        Ok(outside((pods, &jobs), workloads, self.certificate, &kinds, now))
    }

    async fn workloads(&self) -> Result<(Vec<Workload>, Vec<WorkloadReference>), Obstacle> {
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
        let mut found = Vec::new();
        for kind in self.kinds {
            found.extend(self.list(kind, &parameters).await?.iter().filter_map(|object| kind.read(object)));
        }
        found.retain(|workload| self.certificate.covers(workload));
        found.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok((found, Vec::new()))
    }

    /// The workloads that the spec names, in its order, and those of them that do not exist.
    async fn named(&self, named: &[WorkloadReference]) -> Result<(Vec<Workload>, Vec<WorkloadReference>), Obstacle> {
        if let Some(other) = named.iter().find(|workload| !self.kinds.iter().any(|kind| kind.is_of(workload))) {
            return Err(Obstacle::Refused(Reason::InvalidSpec, not_served(other, self.kinds)));
        }
        let mut read = Vec::new();
        for kind in self.kinds {
            let of_kind: Vec<&WorkloadReference> = named.iter().filter(|workload| kind.is_of(workload)).collect();
            if of_kind.len() > MOST_READ_ONE_BY_ONE {
                read.extend(self.list(kind, &ListParams::default()).await?.iter().filter_map(|object| kind.read(object)));
                continue;
            }
            for workload in of_kind {
                let found = kind.get(&self.context.client, &self.namespace, &workload.name).await;
                let found = found.map_err(|error| Obstacle::of(error, "get", kind, &self.namespace))?;
                read.extend(found.and_then(|object| kind.read(&object)));
            }
        }
        let (mut found, mut missing) = (Vec::<Workload>::new(), Vec::new());
        for reference in named {
            match read.iter().find(|workload| workload.reference == *reference) {
                // A workload that is named twice counts once.
                Some(workload) if found.iter().all(|known| known.reference != *reference) => found.push(workload.clone()),
                Some(_) => {}
                None => missing.push(reference.clone()),
            }
        }
        Ok((found, missing))
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
        _ => "the argument --rollout-kind (chart value rollout.kinds) names further kinds",
    };
    let WorkloadReference { api_version, kind, name } = workload;
    format!("spec.rollout.workloads: {kind} {name} of {api_version} is none of {}; {hint}", known.join(", "))
}
