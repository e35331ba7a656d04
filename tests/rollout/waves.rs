//! Workloads are moved one after the other; who stops that, and how it goes on.

use jiff::SignedDuration;
use serde_json::json;

use crate::stage::{LAG, Stage, node};

#[tokio::test(flavor = "multi_thread")]
async fn deployments_stateful_sets_and_daemon_sets_are_moved_one_after_the_other() {
    let stage = Stage::open("order").await;
    node(&stage.shop.client).await;
    stage.certificate("orders", json!({ "workloads": [
        { "kind": "StatefulSet", "name": "store" }, { "kind": "Deployment", "name": "web" }, { "kind": "DaemonSet", "name": "agent" },
    ] })).await;
    for (kind, name, spec) in [
        ("StatefulSet", "store", json!({ "replicas": 2 })),
        ("Deployment", "web", json!({ "replicas": 2 })),
        ("DaemonSet", "agent", json!({})),
    ] {
        stage.workload(kind, name, &["orders"], spec).await;
    }
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), Vec::<String>::new(), "whoever started after the certificate has it");
    let serial_number = stage.renew("orders").await;
    stage.look_after("orders", SignedDuration::from_secs(1)).await;
    assert_eq!(stage.patches(), Vec::<String>::new(), "the kubelet may not have it yet");
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), ["statefulsets store", "deployments web", "daemonsets agent"]);
    for (kind, name) in [("StatefulSet", "store"), ("Deployment", "web"), ("DaemonSet", "agent")] {
        assert_eq!(stage.changes(kind, name).await, 1, "{kind} {name}");
        assert_eq!(stage.serial_numbers(kind, name).await, format!("orders={serial_number}"));
    }
    let status = stage.shop.status("orders").await.rollout.unwrap();
    assert_eq!((status.progress.as_str(), status.complete, status.begun.len()), ("3/3", true, 0));
    assert_eq!(stage.message("orders").await, format!("3 of 3 workloads on certificate {serial_number}"));
    assert_eq!(stage.shop.condition("orders", "Ready").await, "True Issued");
    stage.shop.until_event("orders", "RolloutComplete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_annotation_belongs_to_the_rollout() {
    let stage = Stage::open("owner").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    let object = stage.get("Deployment", "web").await;
    let fields: Vec<_> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["manager"] == "usercert-operator-rollout")
        .map(|entry| (entry["operation"].clone(), entry["fieldsV1"].clone()))
        .collect();
    let annotation =
        json!({ "f:spec": { "f:template": { "f:metadata": { "f:annotations": { "f:usercert.dev/serial-numbers": {} } } } } });
    assert_eq!(fields, [(json!("Apply"), annotation)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_does_not_become_ready_stops_the_rollout_until_it_is_mended_or_a_person_asks() {
    let stage = Stage::open("stop").await;
    stage.certificate("orders", json!({ "auto": true, "readyTimeout": "5m" })).await;
    for name in ["a", "b", "c"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.kubelet.break_new_pods("a");
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until("orders", "False RolloutInProgress").await;
    stage.operator.advance(SignedDuration::from_mins(5));
    stage.until("orders", "False RolloutStopped").await;
    assert!(stage.message("orders").await.contains("Deployment a"), "{}", stage.message("orders").await);
    stage.shop.until_event("orders", "RolloutStopped").await;
    assert_eq!(stage.shop.condition("orders", "Ready").await, "True Issued");
    assert_eq!(stage.patches(), ["deployments a"]);
    stage.until_figures("orders", [Some(3), Some(0), Some(3)]).await;
    stage.kubelet.break_new_pods("b");
    stage.shop.annotate("orders", "usercert.dev/resume-rollout", "1").await;
    stage.until("orders", "False RolloutInProgress").await;
    stage.operator.advance(SignedDuration::from_mins(5));
    stage.until("orders", "False RolloutStopped").await;
    assert_eq!(stage.patches(), ["deployments a", "deployments b"]);
    stage.kubelet.mend("a");
    stage.kubelet.mend("b");
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), ["deployments a", "deployments b", "deployments c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_windows_nothing_is_moved() {
    let stage = Stage::open("window").await;
    let at = |hours: i32| (stage.operator.now() + SignedDuration::from_hours(1) * hours).strftime("%H:%M").to_string();
    let rollout = json!({ "auto": true, "windows": [{ "from": at(2), "to": at(3) }] });
    stage.certificate("orders", rollout).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.until_complete("orders").await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    let status = stage.until("orders", "False RolloutWaitingForWindow").await;
    let rollout = status.rollout.unwrap();
    let (next, regardless) = (rollout.next_window.unwrap().0, rollout.regardless_of_windows_after.unwrap().0);
    assert!(next < regardless && regardless < status.not_after.unwrap().0);
    let before = stage.requests_for_workloads();
    stage.look("orders").await;
    assert_eq!((stage.patches().len(), stage.requests_for_workloads() - before), (0, 0), "it rests until the window opens");
    stage.operator.advance(next.duration_since(stage.operator.now()));
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), ["deployments web"]);
}
