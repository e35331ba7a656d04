//! What uses the Secret besides the workloads of the rollout.

use kube_core::GroupVersionKind;
use rstest::rstest;

use super::*;

const OLD: Timestamp = Timestamp::constant(1_795_698_000 - 2 * 3600, 0);

fn files() -> Value {
    json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] })
}

fn env() -> Value {
    json!({ "containers": [{ "envFrom": [{ "secretRef": { "name": "orders" } }] }] })
}

fn sub_path() -> Value {
    let mut spec = files();
    spec["containers"] = json!([{ "volumeMounts": [{ "name": "v", "subPath": "tls.crt" }] }]);
    spec
}

fn object(name: &str, started: Timestamp, spec: &Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec, "status": { "startTime": started.to_string() } })
}

/// A pod whose controller is `group/version kind name`, with the label that Deployments give to their pods, or another one.
fn owned(controller: &str, labels: Value, started: Timestamp, spec: &Value) -> Value {
    let [api_version, kind, name] = controller.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mut pod = object(&format!("pod-of-{name}"), started, spec);
    let owner = json!({ "apiVersion": api_version, "kind": kind, "name": name, "controller": true });
    let other = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "other" });
    pod["metadata"]["ownerReferences"] = json!([other, owner]);
    pod["metadata"]["labels"] = labels;
    pod
}

fn found(pods: &[Value], jobs: &[Value], workloads: &[Workload]) -> Outside {
    found_beside(&certificate(json!({ "auto": true })), pods, jobs, workloads)
}

fn found_beside(certificate: &RolledCertificate, pods: &[Value], jobs: &[Value], workloads: &[Workload]) -> Outside {
    let kinds = [
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("example.com", "Worker"),
        ("argoproj.io", "Rollout"),
    ];
    let kinds = kinds.map(|(group, kind)| GroupVersionKind::gvk(group, "v1", kind));
    let mut found = Outside::default();
    found.add((pods, jobs), workloads, certificate, &kinds, NOW);
    found
}

#[test]
fn jobs_and_pods_of_their_own_that_run_with_the_old_certificate_cannot_be_moved() {
    let mut ended = object("ended", OLD, &files());
    ended["status"]["phase"] = json!("Succeeded");
    let pods = [
        object("shell", OLD, &files()),
        object("new", NOW, &files()),
        object("uses-nothing", OLD, &json!({})),
        owned("batch/v1 Job migrate", json!({}), OLD, &files()),
        ended,
        Value::Null,
    ];
    let job = |name, started| object(name, started, &json!({ "template": { "spec": files() } }));
    let mut done = job("done", OLD);
    done["status"]["conditions"] = json!([{ "type": "Complete", "status": "True" }]);
    let jobs = [job("migrate", OLD), job("nightly", NOW), done, json!({}), Value::Null];
    let found = found(&pods, &jobs, &[]);
    assert_eq!((found.not_movable, found.not_covered), (vec!["Job migrate".to_owned(), "Pod shell".to_owned()], vec![]));
}

#[test]
fn what_waited_for_the_first_certificate_has_no_older_one() {
    let first = RolledCertificate { is_first: true, ..certificate(json!({ "auto": true })) };
    let second = certificate(json!({ "auto": true }));
    let job = object("migrate", OLD, &json!({ "template": { "spec": files() } }));
    let waiting = |name: &str, spec: &Value| {
        let mut pod = object(name, OLD, spec);
        pod["status"]["phase"] = json!("Pending");
        pod["status"]["containerStatuses"] = json!([{ "state": { "waiting": { "reason": "ContainerCreating" } } }]);
        pod
    };
    let mut started = waiting("started", &files());
    started["status"]["containerStatuses"] = json!([{ "state": { "running": { "startedAt": NOW.to_string() } } }]);
    let pods = [waiting("waits", &files()), started];
    assert_eq!(found_beside(&first, &pods, std::slice::from_ref(&job), &[]), Outside::default());
    assert_eq!(found_beside(&second, &pods, &[job], &[]).not_movable.len(), 3, "there was an older one");

    let mut optional = files();
    optional["volumes"][0]["secret"]["optional"] = json!(true);
    let mut before = waiting("before", &files());
    before["status"]["containerStatuses"] = json!([{ "state": { "running": { "startedAt": OLD.to_string() } } }]);
    let pods = [waiting("optional", &optional), before];
    let job = object("optional", OLD, &json!({ "template": { "spec": optional } }));
    let named = ["Job optional", "Pod before", "Pod optional"];
    assert_eq!(found_beside(&first, &pods, &[job], &[]).not_movable, named, "they may run without it, or with another Secret");
}

#[rstest]
#[case::of_a_database_operator("mongodb.com/v1 MongoDB db", json!({}), Some("Pod pod-of-db"))]
#[case::a_stateful_set_of_another_group("apps.kruise.io/v1 StatefulSet db", json!({}), Some("Pod pod-of-db"))]
#[case::a_job_of_another_group("batch.volcano.sh/v1alpha1 Job train", json!({}), Some("Pod pod-of-train"))]
#[case::a_replica_set_of_its_own("apps/v1 ReplicaSet web", json!({ "app": "web" }), Some("ReplicaSet web"))]
#[case::a_replica_set_of_a_kind_that_is_not_served("apps/v1 ReplicaSet web-7d", json!({ "rollouts-pod-template-hash": "7d" }), Some("ReplicaSet web-7d"))]
#[case::another_label("apps/v1 ReplicaSet web-7d", json!({ "pod-template-hash": "8e" }), Some("ReplicaSet web-7d"))]
#[case::of_a_deployment("apps/v1 ReplicaSet web-7d", json!({ "pod-template-hash": "7d" }), None)]
#[case::of_a_stateful_set("apps/v1 StatefulSet store", json!({}), None)]
#[case::of_a_daemon_set("apps/v1 DaemonSet agent", json!({}), None)]
#[case::of_a_further_kind("example.com/v1 Worker sync", json!({}), None)]
fn pods_whose_controller_is_of_a_kind_that_is_not_served_are_named(
    #[case] controller: &str,
    #[case] labels: Value,
    #[case] expected: Option<&str>,
) {
    let pods = [OLD, OLD, NOW].map(|started| owned(controller, labels.clone(), started, &files()));
    let found = found(&pods, &[], &[]);
    assert_eq!(
        found.not_movable,
        Vec::from_iter(expected.map(ToOwned::to_owned)),
        "once, and only those with an old certificate"
    );
    assert_eq!(found.not_covered, Vec::<String>::new());
    let new = owned(controller, labels, NOW, &files());
    assert_eq!(self::found(&[new], &[], &[]), Outside::default());
}

#[rstest]
#[case::of_a_deployment("apps/v1 ReplicaSet web-7d", json!({ "pod-template-hash": "7d" }), env(), Some("Deployment web (env)"))]
#[case::of_a_stateful_set("apps/v1 StatefulSet store", json!({}), sub_path(), Some("StatefulSet store (subPath)"))]
#[case::of_a_daemon_set("apps/v1 DaemonSet agent", json!({}), env(), Some("DaemonSet agent (env)"))]
#[case::of_a_further_kind("example.com/v1 Worker sync", json!({}), env(), Some("Worker sync (env)"))]
#[case::files_alone("apps/v1 StatefulSet store", json!({}), files(), None)]
#[case::no_use("apps/v1 StatefulSet store", json!({}), json!({}), None)]
fn workloads_that_the_rollout_does_not_cover_are_named_if_only_a_restart_updates_them(
    #[case] controller: &str,
    #[case] labels: Value,
    #[case] spec: Value,
    #[case] expected: Option<&str>,
) {
    let pods = [OLD, NOW].map(|started| owned(controller, labels.clone(), started, &spec));
    let found = found(&pods, &[], &[deployment("another")]);
    assert_eq!(found.not_covered, Vec::from_iter(expected.map(ToOwned::to_owned)), "before they have an old certificate, too");
    assert_eq!(found.not_movable, Vec::<String>::new());
}

#[rstest]
#[case::deployment("apps/v1 ReplicaSet web-7d", "Deployment", json!({ "pod-template-hash": "7d" }))]
#[case::stateful_set("apps/v1 StatefulSet web", "StatefulSet", json!({}))]
#[case::further_kind("example.com/v1 Worker web", "Worker", json!({}))]
#[case::further_kind_with_stateful_sets("apps/v1 StatefulSet web-1", "Worker", json!({ "app": "web" }))]
#[case::further_kind_with_replica_sets("apps/v1 ReplicaSet web-7d", "Rollout", json!({ "app": "web", "rollouts-pod-template-hash": "7d" }))]
fn pods_of_the_workloads_of_the_rollout_are_not_named(#[case] controller: &str, #[case] kind: &str, #[case] labels: Value) {
    let mut workload = deployment("web");
    kind.clone_into(&mut workload.reference.kind);
    if matches!(kind, "Worker" | "Rollout") {
        "example.com/v1".clone_into(&mut workload.reference.api_version);
    }
    workload.selector = serde_json::from_value(json!({ "matchLabels": { "app": "web" } })).unwrap();
    assert_eq!(found(&[owned(controller, labels, OLD, &env())], &[], &[workload]), Outside::default());
}

#[test]
fn a_pod_of_its_own_with_the_labels_of_a_workload_cannot_be_moved_all_the_same() {
    let mut workload = deployment("web");
    workload.selector = serde_json::from_value(json!({ "matchLabels": { "app": "web" } })).unwrap();
    let mut pod = object("shell", OLD, &files());
    pod["metadata"]["labels"] = json!({ "app": "web" });
    assert_eq!(found(&[pod], &[], &[workload]).not_movable, ["Pod shell"]);
}
