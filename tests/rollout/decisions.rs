//! Workloads that are decided on purpose, with the real controllers.

use jiff::SignedDuration;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::json;

use crate::{
    harness::Operator,
    stage::{LAG, Stage},
};

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_paused_and_on_delete_workloads_are_left_to_others_and_hold_nobody_up() {
    let stage = Stage::open("left").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "a-web", &["orders"], json!({})).await;
    stage.workload("StatefulSet", "store", &["orders"], json!({ "updateStrategy": { "type": "OnDelete" } })).await;
    stage.workload("Deployment", "held", &["orders"], json!({})).await;
    stage.patch("Deployment", "held", json!({ "spec": { "paused": true } })).await;
    let serial_number = stage.renew("orders").await;
    stage.operator.advance(LAG);
    let status = stage.until("orders", "False RolloutLeftToOthers").await;
    assert_eq!(status.rollout.unwrap().progress, "1/3");
    let message = stage.message("orders").await;
    for said in ["Deployment held is paused", "StatefulSet store is updated OnDelete"] {
        assert!(message.contains(said), "{message}");
    }
    for (kind, name) in [("Deployment", "held"), ("StatefulSet", "store")] {
        assert_eq!(stage.serial_numbers(kind, name).await, format!("orders={serial_number}"), "its next pods say so");
    }
    stage.patch("Deployment", "held", json!({ "spec": { "paused": false } })).await;
    stage.shop.delete::<k8s_openapi::api::core::v1::Pod>("store-0").await;
    stage.operator.advance(jiff::SignedDuration::from_mins(10));
    stage.until_complete("orders").await;
    assert_eq!(stage.patches().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_without_pods_and_those_without_the_secret_are_left_as_they_are() {
    let stage = Stage::open("none").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "zero", &["orders"], json!({ "replicas": 0 })).await;
    stage.workload("Deployment", "other", &["payments"], json!({})).await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert_eq!(stage.shop.status("orders").await.rollout.unwrap().progress, "1/1");
    assert_eq!(stage.patches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rollout_can_move_is_named() {
    let stage = Stage::open("named").await;
    stage
        .certificate(
            "orders",
            json!({ "workloads": [{ "kind": "Deployment", "name": "web" }, { "kind": "Deployment", "name": "gone" }] }),
        )
        .await;
    let env = json!({ "env": [{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "orders", "key": "tls.key" } } }] });
    let container = json!([{ "name": "main", "image": "example.com/none", "env": env["env"] }]);
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": container } });
    stage.workload("Deployment", "web", &[], json!({ "template": template })).await;
    let pod = json!({ "containers": container, "restartPolicy": "Never" });
    stage.shop.apply(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "shell" }, "spec": pod })).await;
    let job = json!({ "template": { "spec": pod } });
    stage.shop.apply(json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate" }, "spec": job })).await;
    crate::harness::eventually("the Pod and the Job have started, with the first certificate", || async {
        let pod = stage.shop.api::<Pod>().get("shell").await.unwrap().status.and_then(|status| status.start_time);
        let job = stage.shop.api::<Job>().get("migrate").await.unwrap().status.and_then(|status| status.start_time);
        pod.and(job)
    })
    .await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until("orders", "False WorkloadNotFound").await;
    let message = stage.message("orders").await;
    for said in [
        "not there: Deployment gone",
        "only a restart updates these, and the rollout restarts them: Deployment web (env)",
        "cannot be moved: Job migrate, Pod shell",
    ] {
        assert!(message.contains(said), "{message}");
    }
    stage.shop.until_event("orders", "PodsNotMovable").await;
    assert_eq!(stage.patches(), ["deployments web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_kind_is_moved_by_the_generic_rules() {
    let workers = |operator: Operator| operator.with_rollout_kinds(&[("Worker", "workers")]);
    let stage = Stage::with("kind", |config| config, workers).await;
    stage.shop.apply_definition("Worker", "workers").await;
    stage
        .certificate("orders", json!({ "workloads": [{ "apiVersion": "example.com/v1", "kind": "Worker", "name": "sync" }] }))
        .await;
    stage.shop.apply(crate::stage::manifest("Worker", "sync", &["orders"], &json!({ "replicas": 1 }))).await;
    let is = |phase: &'static str, generation: i64| json!({ "status": { "phase": phase, "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1 } });
    stage.patch_status("Worker", "sync", is("Healthy", 1)).await;
    stage.operator.advance(LAG);
    stage.until("orders", "False RolloutInProgress").await;
    crate::harness::eventually("it is moved", || async { (stage.patches() == ["workers sync"]).then_some(()) }).await;
    stage.look("orders").await;
    assert_eq!(stage.shop.condition("orders", "RolledOut").await, "False RolloutInProgress", "its controller has not seen it");
    stage.patch_status("Worker", "sync", is("Healthy", 2)).await;
    stage.until_complete("orders").await;
    stage
        .shop
        .certificate(
            "other",
            "ca",
            json!({ "rollout": { "workloads": [{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly" }] } }),
        )
        .await;
    stage.until("other", "False InvalidSpec").await;
    assert!(stage.message("other").await.contains("next run"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_another_one_has_made_is_left_to_that_one_and_one_without_a_pod_template_is_named() {
    let workers = |operator: Operator| operator.with_rollout_kinds(&[("Worker", "workers")]);
    let stage = Stage::with("parent", |config| config, workers).await;
    stage.shop.apply_definition("Worker", "workers").await;
    stage.shop.apply(crate::stage::manifest("Worker", "sync", &["orders"], &json!({ "replicas": 1 }))).await;
    let is = |generation: i64| json!({ "status": { "phase": "Healthy", "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1 } });
    stage.patch_status("Worker", "sync", is(1)).await;
    let uid = stage.get("Worker", "sync").await["metadata"]["uid"].clone();
    let mut child = crate::stage::manifest("Deployment", "sync-pods", &["orders"], &json!({}));
    let owner = json!({ "apiVersion": "example.com/v1", "kind": "Worker", "name": "sync", "uid": uid, "controller": true });
    child["metadata"]["ownerReferences"] = json!([owner]);
    stage.shop.apply(child).await;
    stage.until_rolled_out("Deployment", "sync-pods").await;
    let bare = json!({ "apiVersion": "example.com/v1", "kind": "Worker", "metadata": { "name": "bare" }, "spec": { "workloadRef": { "name": "web" } } });
    stage.shop.apply(bare).await;
    stage.certificate("orders", json!({ "auto": true })).await;
    crate::harness::eventually("it is moved", || async {
        stage.look("orders").await;
        (!stage.patches().is_empty()).then_some(())
    })
    .await;
    stage.patch_status("Worker", "sync", is(2)).await;
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), ["workers sync"]);
    assert_eq!(stage.shop.status("orders").await.rollout.unwrap().progress, "1/1", "nobody has named one without a template");

    let named = json!([{ "apiVersion": "example.com/v1", "kind": "Worker", "name": "bare" }]);
    stage.certificate("named", json!({ "workloads": named })).await;
    stage.until("named", "False WorkloadNotFound").await;
    let message = stage.message("named").await;
    assert!(message.contains("have no pod template at spec.template") && !message.contains("not there"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_served_is_named_and_taken_up_when_it_is() {
    let kinds = |operator: Operator| operator.with_rollout_kinds(&[("Latecomer", "latecomers"), ("Wrong", "workers")]);
    let stage = Stage::with("late", |config| config, kinds).await;
    stage.shop.apply_definition("Worker", "workers").await;
    stage.shop.apply(crate::stage::manifest("Worker", "other", &[], &json!({}))).await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    let latecomer = json!({ "apiVersion": "example.com/v1", "kind": "Latecomer", "name": "sync" });
    let web = json!({ "kind": "Deployment", "name": "web" });
    stage.shop.certificate("named", "ca", json!({ "rollout": { "workloads": [latecomer, web] } })).await;
    stage.shop.certificate("plain", "ca", json!({ "rollout": { "workloads": [web] } })).await;
    for name in ["named", "plain"] {
        stage.shop.until_ready(name).await;
    }
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    let status = stage.until("orders", "False WorkloadKindNotServed").await;
    assert_eq!(status.rollout.unwrap().progress, "1/1", "the others are moved");
    stage.shop.until_event("orders", "WorkloadKindNotServed").await;
    let status = stage.until("named", "False WorkloadKindNotServed").await;
    assert_eq!(status.rollout.unwrap().progress, "1/2");
    stage.until_complete("plain").await;
    let message = stage.message("orders").await;
    for said in [
        "Latecomer is not served as latecomers of example.com/v1, workers of example.com/v1 are of kind Worker, not Wrong: ",
        "rollout.kinds",
    ] {
        assert!(message.contains(said), "{message}");
    }
    let message = stage.message("named").await;
    assert!(message.contains("not there: Latecomer sync") && !message.contains("Wrong"), "{message}");
    let log = stage.shop.cluster.log.text();
    assert_eq!(
        log.matches("kind=\"Latecomer is not served as latecomers of example.com/v1\"").count(),
        1,
        "once for all rollouts"
    );

    stage.shop.apply_definition("Latecomer", "latecomers").await;
    stage.operator.advance(SignedDuration::from_mins(10));
    stage.until("named", "False WorkloadNotFound").await;
    stage.shop.apply(crate::stage::manifest("Latecomer", "sync", &["orders"], &json!({ "replicas": 1 }))).await;
    stage
        .patch_status("Latecomer", "sync", json!({ "status": { "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1 } }))
        .await;
    stage.operator.advance(SignedDuration::from_mins(10));
    crate::harness::eventually("it is moved", || async {
        stage.look("named").await;
        stage.patches().contains(&"latecomers sync".to_owned()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_do_not_hold_for_workloads_with_a_compromised_certificate() {
    let stage = Stage::open("compromised").await;
    let day = (stage.operator.now() + jiff::SignedDuration::from_hours(72)).strftime("%a").to_string();
    let windows = json!([{ "days": [day], "from": "02:00", "to": "03:00" }]);
    stage.certificate("orders", json!({ "auto": true, "windows": windows })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    let first = stage.shop.status("orders").await.serial_number.unwrap();
    let second = stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until("orders", "False RolloutWaitingForWindow").await;
    assert_eq!(stage.patches(), Vec::<String>::new());
    stage.shop.annotate("orders", "usercert.dev/compromised", &first).await;
    crate::harness::eventually("it is moved", || async { (stage.patches() == ["deployments web"]).then_some(()) }).await;
    stage.until_complete("orders").await;

    let annotation = format!("{first},{second}");
    stage.shop.annotate("orders", "usercert.dev/compromised", &annotation).await;
    let third = stage.shop.until_new_serial("orders", &second).await.serial_number.unwrap();
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert_eq!(stage.serial_numbers("Deployment", "web").await, format!("orders={third}"));
    assert_eq!(stage.patches().len(), 2);
}
