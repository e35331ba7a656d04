//! What is told of a rollout: metrics, until when, and who keeps the old certificate.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};
use usercert_operator::api::DatabaseUserCertificate;

use crate::{
    harness::eventually,
    stage::{LAG, Stage, manifest},
};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_condition_say_how_many_workloads_are_on_which_certificate_by_when() {
    let stage = Stage::open("figures").await;
    let at = |hours: i32| (stage.operator.now() + SignedDuration::from_hours(1) * hours).strftime("%H:%M").to_string();
    stage.certificate("orders", json!({ "auto": true, "windows": [{ "from": at(4), "to": at(5) }] })).await;
    for name in ["a", "b"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.until_complete("orders").await;
    let old_not_after = stage.shop.status("orders").await.not_after.unwrap().0;
    let serial_number = stage.renew("orders").await;
    stage.operator.advance(LAG);
    let rollout = stage.until("orders", "False RolloutWaitingForWindow").await.rollout.unwrap();
    stage.until_figures("orders", [Some(2), Some(0), Some(2)]).await;
    assert_eq!(stage.metric("deadline_timestamp_seconds", "orders"), Some(old_not_after.as_second()));
    let regardless = rollout.regardless_of_windows_after.unwrap().0;
    assert_eq!(stage.metric("regardless_of_windows_timestamp_seconds", "orders"), Some(regardless.as_second()));
    assert_eq!(stage.serial_number_in_metrics("orders").as_ref(), Some(&serial_number));
    let message = stage.message("orders").await;
    let parts = [
        format!("0 of 2 workloads on certificate {serial_number}"),
        format!("windows do not hold from {regardless} on"),
        format!("the old certificate expires at {old_not_after}"),
    ];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    let next = stage.renew("orders").await;
    eventually("the series is that of the next certificate", || async {
        (stage.serial_number_in_metrics("orders").as_ref() == Some(&next)).then_some(())
    })
    .await;
    stage.shop.certificate("orders", "ca", json!({ "rollout": { "auto": true } })).await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    stage.until_figures("orders", [Some(2), Some(2), Some(0)]).await;
    assert_eq!(stage.metric("deadline_timestamp_seconds", "orders"), None);
    stage.shop.delete::<DatabaseUserCertificate>("orders").await;
    stage.until_figures("orders", [None; 3]).await;
    assert_eq!(stage.serial_number_in_metrics("orders"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_old_certificate_has_expired_is_told_once_with_the_workloads_that_may_still_use_it() {
    let stage = Stage::open("expired").await;
    let spec = |duration: &str| json!({ "duration": duration, "renewBefore": "1h", "rollout": { "auto": true, "readyTimeout": "24h" } });
    stage.shop.certificate("orders", "ca", spec("24h")).await;
    stage.shop.until_ready("orders").await;
    stage.operator.advance(LAG);
    for name in ["a", "b", "c"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.until_complete("orders").await;
    let old_not_after = stage.shop.status("orders").await.not_after.unwrap().0;
    stage.shop.certificate("orders", "ca", spec("2160h")).await;
    stage.kubelet.break_new_pods("b");
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    eventually("the first is moved, and the second does not become ready", || async {
        stage.look("orders").await;
        (stage.patches() == ["deployments a", "deployments b"]).then_some(())
    })
    .await;
    let left = old_not_after.duration_since(stage.operator.now());
    stage.operator.advance(left - SignedDuration::from_mins(1));
    stage.look("orders").await;
    assert!(stage.message("orders").await.contains(&format!("the old certificate expires at {old_not_after}")));
    assert!(!stage.shop.events("orders").await.contains(&"OldCertificateExpired".to_owned()));
    stage.operator.advance(SignedDuration::from_mins(1));
    let said =
        format!("the old certificate expired at {old_not_after}; 2 workloads may still use it: Deployment b, Deployment c");
    eventually("the condition says so", || async {
        stage.look("orders").await;
        stage.message("orders").await.contains(&said).then_some(())
    })
    .await;
    stage.shop.until_event("orders", "OldCertificateExpired").await;
    assert!(stage.shop.status("orders").await.rollout.unwrap().old_certificate_expired);
    assert!(stage.warnings("OldCertificateExpired") == 1, "of three looks");
    stage.kubelet.mend("b");
    stage.until_complete("orders").await;
    assert!(!stage.message("orders").await.contains("expired"));
    assert_eq!(stage.warnings("OldCertificateExpired"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_the_old_certificate_until_a_restart_is_warned_of_without_further_requests() {
    let stage = Stage::open("restart").await;
    stage.certificate("orders", json!({ "workloads": [{ "kind": "Deployment", "name": "web" }] })).await;
    // It sees all pods at once, so each list is told once.
    stage.operator.kill();
    let env = json!({ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "orders", "key": "tls.key" } } });
    let part = json!({ "name": "orders", "mountPath": "/tls/tls.crt", "subPath": "tls.crt" });
    let template = |name: &str, container: Value| {
        let mut container = container;
        container["name"] = json!("main");
        container["image"] = json!("example.com/none");
        let volumes = json!([{ "name": "orders", "secret": { "secretName": "orders" } }]);
        json!({ "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [container], "volumes": volumes } } })
    };
    stage.workload("Deployment", "web", &[], template("web", json!({ "env": [env] }))).await;
    stage.workload("Deployment", "other", &[], template("other", json!({ "volumeMounts": [part] }))).await;
    stage.workload("StatefulSet", "store", &[], template("store", json!({ "env": [env] }))).await;
    stage.workload("Deployment", "files", &["orders"], json!({})).await;
    stage.shop.apply(manifest("ReplicaSet", "legacy", &["orders"], &json!({}))).await;
    eventually("all pods have started, with the first certificate", || async {
        let pods = stage.shop.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        let started = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        (pods.len() == 5 && pods.iter().all(started)).then_some(())
    })
    .await;
    stage.start_operator().await;
    stage.until_complete("orders").await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    for reason in ["UpdatedByRestartAlone", "WorkloadsNotCovered", "PodsNotMovable"] {
        stage.shop.until_event("orders", reason).await;
        assert_eq!(stage.warnings(reason), 1, "{reason}");
    }
    let rollout = stage.shop.status("orders").await.rollout.unwrap();
    assert_eq!(rollout.updated_by_restart_alone, ["Deployment web (env)"]);
    assert_eq!(rollout.not_covered, ["Deployment other (subPath)", "StatefulSet store (env)"]);
    assert_eq!(rollout.not_movable, ["ReplicaSet legacy"]);
    assert_eq!(rollout.progress, "1/1");
    assert_eq!(stage.patches(), ["deployments web"]);
    let lists = |resource: &str| {
        let path = format!("/{resource}?");
        stage.proxy.asked().iter().filter(|asked| asked.method == "GET" && asked.target.contains(&path)).count()
    };
    assert!(lists("pods") > 0);
    assert_eq!(["deployments", "statefulsets", "daemonsets", "replicasets"].map(lists), [0; 4]);
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert_eq!(stage.warnings("WorkloadsNotCovered"), 1, "no name is new");
}
