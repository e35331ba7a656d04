//! Pods that use the Secret and that no change of a template reaches.

use jiff::Timestamp;
use serde_json::Value;

use super::{RolledCertificate, Uses};

/// The kinds whose pods are moved or named by what they belong to. Those of a `CronJob` belong to its Jobs, and its next run has the new
/// certificate.
const SEEN_TO: [&str; 4] = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"];

/// The Jobs and Pods of the namespace that run with an older certificate and cannot be moved, such as `Job migrate`. `kinds` are further
/// kinds of workloads that are moved.
#[must_use]
pub fn not_movable(
    pods: &[Value],
    jobs: &[Value],
    certificate: &RolledCertificate,
    kinds: &[String],
    now: Timestamp,
) -> Vec<String> {
    let usable_from = certificate.usable_from(now);
    let is_old =
        |time: &Value| time.as_str().and_then(|time| time.parse().ok()).is_some_and(|time: Timestamp| time < usable_from);
    let uses = |pod_spec: &Value| Uses::of(pod_spec, &certificate.secret_name).any();
    let jobs = jobs
        .iter()
        .filter(|job| is_running(job) && is_old(&job["status"]["startTime"]) && uses(&job["spec"]["template"]["spec"]));
    let pods = pods.iter().filter(|pod| {
        let is_seen_to = controller(pod).is_some_and(|kind| SEEN_TO.contains(&kind) || kinds.iter().any(|known| known == kind));
        !is_seen_to && is_alive(pod) && is_old(&pod["status"]["startTime"]) && uses(&pod["spec"])
    });
    let names = jobs.map(|job| named("Job", job)).chain(pods.map(|pod| named("Pod", pod)));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn named(kind: &str, object: &Value) -> String {
    format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default())
}

fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["kind"].as_str()
}

fn is_alive(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_running(job: &Value) -> bool {
    let has_ended =
        |condition: &Value| matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True";
    job["metadata"]["deletionTimestamp"].is_null()
        && !job["status"]["conditions"].as_array().into_iter().flatten().any(has_ended)
}
