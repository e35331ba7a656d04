//! Whether a workload has finished its last change, by the rules of kstatus (`sigs.k8s.io/cli-utils/pkg/kstatus`), which Flux and
//! `kubectl` based tools share.

use serde_json::Value;

/// What a workload is, by its generation, status and conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Its last change is carried out, and its pods are ready. kstatus: `Current`.
    Ready,
    /// It is on its way; the text says what is missing. kstatus: `InProgress`.
    InProgress(String),
    /// It says that it failed; the text is its own. kstatus: `Failed`.
    Failed(String),
}

/// The readiness of an object of this kind of `apps/v1`, or by the generic rules.
#[must_use]
pub fn readiness(api_version: &str, kind: &str, object: &Value) -> Readiness {
    if is_unobserved(object) {
        return Readiness::InProgress("its last change is not observed yet".to_owned());
    }
    let problem = match (api_version, kind) {
        ("apps/v1", "Deployment") => deployment(object),
        ("apps/v1", "StatefulSet") => stateful_set(object),
        ("apps/v1", "DaemonSet") => daemon_set(object),
        _ => generic(object),
    };
    problem.unwrap_or(Readiness::Ready)
}

/// Whether its controller has not seen the last change yet. Argo Rollouts writes the number as a text.
pub(super) fn is_unobserved(object: &Value) -> bool {
    let observed = &object["status"]["observedGeneration"];
    let observed = observed.as_i64().or_else(|| observed.as_str()?.parse().ok());
    let generation = object["metadata"]["generation"].as_i64();
    observed.is_some() && observed != generation
}

fn deployment(object: &Value) -> Option<Readiness> {
    let progressing = condition(object, "Progressing");
    if let Some(condition) = progressing.filter(|condition| condition["reason"] == "ProgressDeadlineExceeded") {
        return Some(Readiness::Failed(text(condition)));
    }
    let wanted = count(object, "spec", "replicas").unwrap_or(1);
    let [replicas, updated, ready, available] =
        ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].map(|field| in_status(object, field));
    if replicas < wanted || updated < wanted {
        return in_progress(format!("{} of {wanted} pods are new", updated.min(replicas)));
    }
    if replicas > wanted {
        let message = match replicas.saturating_sub(wanted) {
            1 => "1 old pod is still there".to_owned(),
            old => format!("{old} old pods are still there"),
        };
        return in_progress(message);
    }
    if available < updated || ready < wanted {
        return in_progress(format!("{} of {wanted} pods are available", available.min(ready)));
    }
    // Without a deadline its controller does not say whether it progresses. The largest number stands for no deadline.
    let deadline = count(object, "spec", "progressDeadlineSeconds").filter(|seconds| *seconds != i64::from(i32::MAX));
    let is_done =
        progressing.is_some_and(|condition| condition["status"] == "True" && condition["reason"] == "NewReplicaSetAvailable");
    if deadline.is_some() && !is_done {
        return in_progress("its last change is not carried out yet".to_owned());
    }
    let is_available = condition(object, "Available").is_some_and(|condition| condition["status"] == "True");
    if is_available { None } else { in_progress("it is not available".to_owned()) }
}

fn stateful_set(object: &Value) -> Option<Readiness> {
    let strategy = &object["spec"]["updateStrategy"];
    if strategy["type"] == "OnDelete" {
        return None;
    }
    let wanted = count(object, "spec", "replicas").unwrap_or(1);
    let [replicas, updated, ready, current] =
        ["replicas", "updatedReplicas", "readyReplicas", "currentReplicas"].map(|field| in_status(object, field));
    if replicas != wanted || ready < wanted {
        return in_progress(format!("{} of {wanted} pods are ready", ready.min(replicas)));
    }
    // The API server sets it to 0 if it is not given.
    if let Some(partition) = strategy["rollingUpdate"]["partition"].as_i64() {
        let to_update = wanted.saturating_sub(partition);
        return if updated < to_update { in_progress(format!("{updated} of {to_update} pods are new")) } else { None };
    }
    let is_done = current >= wanted && object["status"]["currentRevision"] == object["status"]["updateRevision"];
    if is_done { None } else { in_progress("its last change is not carried out yet".to_owned()) }
}

fn daemon_set(object: &Value) -> Option<Readiness> {
    let Some(wanted) =
        count(object, "status", "desiredNumberScheduled").filter(|_| !object["status"]["observedGeneration"].is_null())
    else {
        return in_progress("its controller has not seen it yet".to_owned());
    };
    let [scheduled, updated, available, ready] =
        ["currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"]
            .map(|field| in_status(object, field));
    if scheduled < wanted || updated < wanted {
        return in_progress(format!("{} of {wanted} pods are new", updated.min(scheduled)));
    }
    if available < wanted || ready < wanted {
        return in_progress(format!("{} of {wanted} pods are available", available.min(ready)));
    }
    None
}

/// kstatus's rules for any kind, the counts that all kinds with replicas have, and the phase of Argo Rollouts.
fn generic(object: &Value) -> Option<Readiness> {
    let is_true = |type_: &str| condition(object, type_).filter(|condition| condition["status"] == "True");
    if let Some(stalled) = is_true("Stalled") {
        return Some(Readiness::Failed(text(stalled)));
    }
    if let Some(reconciling) = is_true("Reconciling") {
        return in_progress(text(reconciling));
    }
    match object["status"]["phase"].as_str() {
        Some("Degraded" | "Error") => return Some(Readiness::Failed(message(object))),
        Some("Progressing" | "Paused") => return in_progress(message(object)),
        _ => {}
    }
    if let Some(ready) = condition(object, "Ready").filter(|condition| condition["status"] != "True") {
        return in_progress(text(ready));
    }
    let wanted = count(object, "spec", "replicas")?;
    for field in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        if let Some(found) = count(object, "status", field).filter(|found| *found < wanted) {
            return in_progress(format!("{field} is {found} of {wanted}"));
        }
    }
    None
}

#[allow(clippy::unnecessary_wraps, reason = "each rule gives what it found, or nothing")]
const fn in_progress(text: String) -> Option<Readiness> {
    Some(Readiness::InProgress(text))
}

fn count(object: &Value, part: &str, field: &str) -> Option<i64> {
    object[part][field].as_i64()
}

fn in_status(object: &Value, field: &str) -> i64 {
    count(object, "status", field).unwrap_or(0)
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

fn text(condition: &Value) -> String {
    let [reason, message] = ["reason", "message"].map(|field| condition[field].as_str().unwrap_or_default());
    if message.is_empty() { reason.to_owned() } else { message.to_owned() }
}

fn message(object: &Value) -> String {
    let status = &object["status"];
    status["message"].as_str().or_else(|| status["phase"].as_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "each case writes its values out")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn object(spec: Value, status: Value) -> Value {
        json!({ "metadata": { "generation": 4 }, "spec": spec, "status": status })
    }

    fn with(mut whole: Value, changes: Value) -> Value {
        for (field, value) in changes.as_object().into_iter().flatten() {
            whole[field] = value.clone();
        }
        whole
    }

    fn deployed(status: Value) -> Value {
        let whole = json!({ "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3, "conditions": [{ "type": "Available", "status": "True" },
            { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }] });
        object(json!({ "replicas": 3, "progressDeadlineSeconds": 600 }), with(whole, status))
    }

    fn set(spec: Value, status: Value) -> Value {
        let whole = json!({ "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "currentReplicas": 3,
            "currentRevision": "b", "updateRevision": "b" });
        object(json!({ "replicas": 3, "updateStrategy": spec }), with(whole, status))
    }

    fn daemons(status: Value) -> Value {
        let whole = json!({ "observedGeneration": 4, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
            "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2 });
        object(json!({}), with(whole, status))
    }

    #[derive(Debug)]
    enum Is {
        Ready,
        InProgress,
        Failed,
    }

    #[rstest]
    #[case::whole("Deployment", deployed(json!({})), Is::Ready)]
    #[case::unobserved("Deployment", deployed(json!({ "observedGeneration": 3 })), Is::InProgress)]
    #[case::never_observed("Deployment", object(json!({ "replicas": 0 }), json!({})), Is::InProgress)]
    #[case::updating("Deployment", deployed(json!({ "updatedReplicas": 2 })), Is::InProgress)]
    #[case::old_pods("Deployment", deployed(json!({ "replicas": 4 })), Is::InProgress)]
    #[case::unavailable("Deployment", deployed(json!({ "availableReplicas": 2 })), Is::InProgress)]
    #[case::deadline("Deployment", deployed(json!({ "updatedReplicas": 1, "conditions": [{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }] })), Is::Failed)]
    #[case::whole_set("StatefulSet", set(json!({ "type": "RollingUpdate" }), json!({})), Is::Ready)]
    #[case::updating_set("StatefulSet", set(json!({}), json!({ "updatedReplicas": 1, "currentRevision": "a" })), Is::InProgress)]
    #[case::unready_set("StatefulSet", set(json!({}), json!({ "readyReplicas": 2 })), Is::InProgress)]
    #[case::revision_not_taken_over("StatefulSet", set(json!({}), json!({ "currentRevision": "a" })), Is::InProgress)]
    #[case::partition_done("StatefulSet", set(json!({ "rollingUpdate": { "partition": 2 } }), json!({ "updatedReplicas": 1, "currentRevision": "a" })), Is::Ready)]
    #[case::partition_not_done("StatefulSet", set(json!({ "rollingUpdate": { "partition": 2 } }), json!({ "updatedReplicas": 0, "currentRevision": "a" })), Is::InProgress)]
    #[case::on_delete("StatefulSet", set(json!({ "type": "OnDelete" }), json!({ "updatedReplicas": 0, "currentRevision": "a" })), Is::Ready)]
    #[case::whole_daemons("DaemonSet", daemons(json!({})), Is::Ready)]
    #[case::no_node_fits("DaemonSet", daemons(json!({ "desiredNumberScheduled": 0 })), Is::Ready)]
    #[case::updating_daemons("DaemonSet", daemons(json!({ "updatedNumberScheduled": 1 })), Is::InProgress)]
    #[case::unready_daemons("DaemonSet", daemons(json!({ "numberReady": 1 })), Is::InProgress)]
    #[case::argo_rollout("Rollout", object(json!({ "replicas": 2 }), json!({ "observedGeneration": "4", "phase": "Healthy", "updatedReplicas": 2 })), Is::Ready)]
    #[case::argo_rollout_unobserved("Rollout", object(json!({}), json!({ "observedGeneration": "3", "phase": "Healthy" })), Is::InProgress)]
    #[case::argo_rollout_paused("Rollout", object(json!({}), json!({ "phase": "Paused" })), Is::InProgress)]
    #[case::argo_rollout_degraded("Rollout", object(json!({}), json!({ "phase": "Degraded", "message": "timed out" })), Is::Failed)]
    #[case::stalled("Worker", object(json!({}), json!({ "conditions": [{ "type": "Stalled", "status": "True" }] })), Is::Failed)]
    #[case::reconciling("Worker", object(json!({}), json!({ "conditions": [{ "type": "Reconciling", "status": "True" }] })), Is::InProgress)]
    #[case::not_ready("Worker", object(json!({}), json!({ "conditions": [{ "type": "Ready", "status": "False" }] })), Is::InProgress)]
    #[case::few_replicas("Worker", object(json!({ "replicas": 2 }), json!({ "readyReplicas": 1 })), Is::InProgress)]
    #[case::says_nothing("Worker", object(json!({}), json!({})), Is::Ready)]
    fn readiness_is_what_kstatus_says(#[case] kind: &str, #[case] object: Value, #[case] expected: Is) {
        let api_version = if matches!(kind, "Rollout" | "Worker") { "example.com/v1" } else { "apps/v1" };
        let found = readiness(api_version, kind, &object);
        let fits = match expected {
            Is::Ready => found == Readiness::Ready,
            Is::InProgress => matches!(found, Readiness::InProgress(_)),
            Is::Failed => matches!(found, Readiness::Failed(_)),
        };
        assert!(fits, "{found:?} is not {expected:?}");
    }

    #[test]
    fn garbage_is_no_panic() {
        for value in [Value::Null, json!([]), json!({ "status": [], "spec": "x", "metadata": 1 })] {
            for kind in ["Deployment", "StatefulSet", "DaemonSet", "Other"] {
                let _ = readiness("apps/v1", kind, &value);
            }
        }
    }
}
