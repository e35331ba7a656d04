//! Pods and Jobs that use the Secret and that the rollout does not reach.

use jiff::Timestamp;
use kube_core::GroupVersionKind;
use serde_json::Value;

use super::{
    Pod, RolledCertificate, Uses, Workload,
    workload::{texts, time},
};

/// Controllers whose pods a change of their own template replaces, and that the operator always serves.
const SERVED: [&str; 2] = ["StatefulSet", "DaemonSet"];

/// The label of the pods of a Deployment. Its value ends the name of their `ReplicaSet`, after the name of the Deployment.
const DEPLOYMENT_LABEL: &str = "pod-template-hash";

/// What uses the Secret besides the workloads of the rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Jobs, Pods, and `ReplicaSet`s of no Deployment that run with an older certificate and cannot be moved, such as `Job migrate`.
    pub not_movable: Vec<String>,
    /// Workloads that the rollout does not cover, with a use of the Secret that only a restart updates, such as
    /// `Deployment web (env)`. They have pods.
    pub not_covered: Vec<String>,
}

impl Outside {
    /// Adds what a page of the pods and Jobs of the namespace tells, besides these workloads of the rollout. `kinds` are the kinds that are
    /// moved. Each name is there once, in order.
    pub fn add(
        &mut self,
        (pods, jobs): (&[Value], &[Value]),
        workloads: &[Workload],
        certificate: &RolledCertificate,
        kinds: &[GroupVersionKind],
        now: Timestamp,
    ) {
        let usable_from = certificate.usable_from(now);
        let is_old = |object: &Value| time(&object["status"]["startTime"]).is_some_and(|started| started < usable_from);
        let uses = |pod_spec: &Value| Uses::of(pod_spec, &certificate.secret_name);
        // No container that needs the Secret starts without it, so there is no older certificate that it can have.
        let waits_for_first = |uses: Uses| certificate.is_first && uses.is_required();
        let has_first = |pod: &Value, uses: Uses| {
            let ran_since = Pod::read(pod).ran_since;
            waits_for_first(uses) && certificate.first_seen().is_some_and(|first| ran_since.is_none_or(|since| since >= first))
        };
        let jobs = jobs.iter().filter(|job| {
            let uses = uses(&job["spec"]["template"]["spec"]);
            is_running(job) && is_old(job) && uses.any() && !waits_for_first(uses)
        });
        self.not_movable.extend(jobs.map(|job| named("Job", name(job))));
        for pod in pods.iter().filter(|pod| is_alive(pod)) {
            let uses = uses(&pod["spec"]);
            match owner(pod, workloads, kinds) {
                Owner::Workload(workload) => {
                    self.not_covered.extend(uses.updated_by_restart_alone().map(|how| format!("{workload} ({how})")));
                }
                Owner::NotMovable(owner) if uses.any() && is_old(pod) && !has_first(pod, uses) => self.not_movable.push(owner),
                Owner::NotMovable(_) | Owner::Named => {}
            }
        }
        for names in [&mut self.not_movable, &mut self.not_covered] {
            names.sort();
            names.dedup();
        }
    }
}

/// What a pod belongs to.
enum Owner {
    /// A workload of the rollout; or a Job, which is named itself. Those of a `CronJob` are Jobs, and its next run has the new certificate.
    Named,
    /// A workload of a kind that is moved, and that the rollout does not cover.
    Workload(String),
    /// Nothing that can be moved; this is what to name.
    NotMovable(String),
}

fn owner(pod: &Value, workloads: &[Workload], kinds: &[GroupVersionKind]) -> Owner {
    let Some(controller) = controller(pod) else { return Owner::NotMovable(named("Pod", name(pod))) };
    let (kind, owner) = (controller["kind"].as_str().unwrap_or_default(), controller["name"].as_str().unwrap_or_default());
    let group = controller["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    let labels = texts(&pod["metadata"]["labels"]);
    let deployment = labels.get(DEPLOYMENT_LABEL).and_then(|hash| owner.strip_suffix(hash.as_str())?.strip_suffix('-'));
    let workload = match (group, kind) {
        ("batch", "Job") => return Owner::Named,
        ("apps", "ReplicaSet") => deployment.map(|deployment| ("Deployment", deployment)),
        ("apps", kind) if SERVED.contains(&kind) => Some((kind, owner)),
        (group, kind) => kinds.iter().any(|known| known.group == group && known.kind == kind).then_some((kind, owner)),
    };
    let is_covered = workloads.iter().any(|known| match workload {
        Some((kind, name)) if known.reference.kind == kind && known.reference.name == name => true,
        // Such as the ReplicaSets or StatefulSets of a further kind.
        Some(_) => known.reference.api_version != "apps/v1" && known.selects(&labels),
        None => known.selects(&labels),
    });
    match workload {
        _ if is_covered => Owner::Named,
        Some((kind, name)) => Owner::Workload(named(kind, name)),
        None if (group, kind) == ("apps", "ReplicaSet") => Owner::NotMovable(named(kind, owner)),
        None => Owner::NotMovable(named("Pod", name(pod))),
    }
}

fn named(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn controller(object: &Value) -> Option<&Value> {
    object["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

/// Whether a pod is neither being deleted nor at its end.
#[must_use]
pub fn is_alive(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_running(job: &Value) -> bool {
    let has_ended =
        |condition: &Value| matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True";
    job["metadata"]["deletionTimestamp"].is_null()
        && !job["status"]["conditions"].as_array().into_iter().flatten().any(has_ended)
}
