//! What a rollout costs, and what it says where it may not.

use std::time::Duration;

use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use usercert_operator::api::DatabaseUserCertificate;

use crate::{
    harness::Operator,
    stage::{LAG, Stage, grant, without_rights},
};

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_and_without_a_rollout_nothing_is_asked() {
    let stage = Stage::open("rest").await;
    stage.shop.certificate("plain", "ca", json!({})).await;
    stage.shop.until_ready("plain").await;
    stage.renew("plain").await;
    stage.operator.advance(LAG);
    stage.look("plain").await;
    assert_eq!(stage.requests_for_workloads(), 0);
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = stage.proxy.asked_count();
    for _ in 0..5 {
        for name in ["plain", "orders"] {
            stage.look_after(name, SignedDuration::from_mins(4)).await;
        }
    }
    assert_eq!(stage.proxy.asked_count(), before, "{:?}", stage.proxy.asked().split_off(before));
    assert!(stage.proxy.watches().iter().all(|watch| !watch.target.contains("/apps/") && !watch.target.contains("/pods")));
    let before = stage.requests_for_workloads();
    stage.operator.kill();
    stage.until_figures("orders", [None; 3]).await;
    stage.start_operator().await;
    stage.look("orders").await;
    assert_eq!(stage.requests_for_workloads(), before, "a restart neither");
    stage.until_figures("orders", [Some(1), Some(1), Some(0)]).await;
    assert!(stage.serial_number_in_metrics("orders").is_some());
    assert_eq!(stage.metric("deadline_timestamp_seconds", "orders"), None, "nobody can have the old one");
    assert_eq!(stage.metric("workloads", "plain"), None, "it has no rollout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_status_restarts_nobody() {
    let stage = Stage::open("wiped").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.until_complete("orders").await;
    let written = stage.shop.status("orders").await.history[0].recorded_at.clone();
    stage.operator.advance(SignedDuration::from_hours(1));
    for is_restarted in [false, true] {
        let objects = stage.shop.api::<DatabaseUserCertificate>();
        if is_restarted {
            stage.operator.kill();
        }
        let nothing = Patch::Merge(json!({ "status": null }));
        objects.patch_status("orders", &PatchParams::default(), &nothing).await.unwrap();
        if is_restarted {
            stage.start_operator().await;
        }
        stage.shop.until_ready("orders").await;
        stage.until_complete("orders").await;
        let again = stage.shop.status("orders").await.history[0].recorded_at.clone();
        assert!(again.0.duration_since(written.0).abs() < SignedDuration::from_secs(5), "{again:?} is not {written:?}");
    }
    assert_eq!(stage.patches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_the_condition_names_the_one_that_is_missing_and_the_next_try_is_late() {
    let narrow = without_rights().await;
    let stage = Stage::with("forbidden", |_| narrow, |operator| operator).await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.until("orders", "False RolloutForbidden").await;
    let missing = async |verb: &str, resource: &str| {
        let message = stage.message("orders").await;
        let expected = format!("the operator may not {verb} {resource} in namespace {}", stage.shop.namespace);
        assert!(message.contains(&expected) && message.contains("rollout.enabled"), "{message}");
    };
    missing("list", "deployments.apps").await;
    stage.shop.until_event("orders", "RolloutForbidden").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = stage.requests_for_workloads();
    for _ in 0..5 {
        stage.look("orders").await;
    }
    assert_eq!(stage.requests_for_workloads(), before);
    let apps = |verbs: &[&str]| json!({ "apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": verbs });
    let pods = json!({ "apiGroups": ["", "batch"], "resources": ["pods", "jobs"], "verbs": ["list"] });
    let workers = json!({ "apiGroups": ["example.com"], "resources": ["workers"], "verbs": ["list"] });
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    grant(&stage.shop, json!([apps(&["get", "list"]), pods, workers])).await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    crate::harness::eventually("patch is missing", || async {
        stage.look_after("orders", SignedDuration::from_mins(10)).await;
        stage.message("orders").await.contains("may not patch").then_some(())
    })
    .await;
    missing("patch", "deployments.apps").await;
    grant(&stage.shop, json!([apps(&["get", "list", "patch"]), pods, workers])).await;
    stage.operator.advance(SignedDuration::from_mins(10));
    stage.until_complete("orders").await;
    assert_eq!(stage.changes("Deployment", "web").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_the_argument_asks_for_nothing_and_says_so() {
    let stage = Stage::with("off", |config| config, Operator::without_rollout).await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.until("orders", "False RolloutNotEnabled").await;
    assert!(stage.message("orders").await.contains("--rollout"));
    assert_eq!(stage.requests_for_workloads(), 0);
}
