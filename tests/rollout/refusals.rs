//! Webhooks that answer the operator's changes with whatever code: how often it asks, what it says, and who is moved meanwhile.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, apps::v1::Deployment};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::{
    fault_proxy::{Fault, Moment},
    webhook::{DENIAL, DenyingWebhook},
};

use crate::{
    harness::webhooks::{WEBHOOK, until_asked},
    stage::{LAG, Stage},
};

/// Has the operator's updates of these resources in the namespace, where this CEL expression holds, asked of the webhook. Nothing is known of it at once.
async fn ask(stage: &Stage, webhook: &DenyingWebhook, code: u16, resources: (&str, &str), only: &str) {
    let of_operator = "request.userInfo.username == 'system:serviceaccount:usercert-system:usercert-operator'";
    let ca = k8s_openapi::ByteString(webhook.ca_certificate().into_bytes());
    let configuration: ValidatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": { "name": stage.shop.namespace },
        "webhooks": [{
            "name": WEBHOOK, "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 30,
            "clientConfig": { "url": webhook.url(code), "caBundle": ca },
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": stage.shop.namespace } },
            "rules": [{ "apiGroups": [resources.0], "apiVersions": ["v1", "v1alpha1"], "operations": ["UPDATE"], "resources": [resources.1] }],
            "matchConditions": [{ "name": "operator", "expression": of_operator }, { "name": "only", "expression": only }],
        }],
    }))
    .unwrap();
    let api = Api::<ValidatingWebhookConfiguration>::all(stage.shop.client.clone());
    api.create(&PostParams::default(), &configuration).await.unwrap();
}

async fn ask_no_more<T>(stage: &Stage, request: impl AsyncFn() -> Result<T, kube::Error>) {
    let api = Api::<ValidatingWebhookConfiguration>::all(stage.shop.client.clone());
    api.delete(&stage.shop.namespace, &Default::default()).await.unwrap();
    until_asked(false, request).await;
}

/// A dry run of a change of the Deployment `a` by the operator, of the one kind that the chart's policy lets it make.
async fn try_workload(stage: &Stage) -> Result<Deployment, kube::Error> {
    let workloads = Api::<Deployment>::namespaced(stage.shop.client_of_operator(), &stage.shop.namespace);
    let template = json!({ "metadata": { "annotations": { "usercert.dev/serial-numbers": "orders=00" } } });
    let change =
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a" }, "spec": { "template": template } });
    let parameters = PatchParams { dry_run: true, ..PatchParams::apply("usercert-operator-rollout") };
    workloads.patch("a", &parameters, &Patch::Apply(change)).await
}

/// A dry run of a change of the rollout in the status of `orders` by the operator.
async fn try_status(stage: &Stage) -> Result<DatabaseUserCertificate, kube::Error> {
    let certificates = Api::<DatabaseUserCertificate>::namespaced(stage.shop.client_of_operator(), &stage.shop.namespace);
    let change = json!({ "status": { "rollout": { "serialNumber": "tried" } } });
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    certificates.patch_status("orders", &parameters, &Patch::Merge(change)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_answers_with_any_code_is_asked_a_few_times_and_named_and_holds_nobody_up() {
    let webhook = DenyingWebhook::start().await.unwrap();
    let tries = [(401, 1), (406, 1), (404, 5), (409, 5), (429, 3), (500, 3), (503, 3)];
    futures::future::join_all(tries.map(|(code, tries)| {
        let webhook = &webhook;
        async move {
            let stage = Stage::open(&format!("code-{code}")).await;
            stage.certificate("orders", json!({ "auto": true })).await;
            for name in ["a", "b"] {
                stage.workload("Deployment", name, &["orders"], json!({})).await;
            }
            ask(&stage, webhook, code, ("apps", "deployments"), "object.metadata.name == 'a'").await;
            until_asked(true, async || try_workload(&stage).await).await;
            let by_us = webhook.asked(&stage.shop.namespace, "a");
            stage.renew("orders").await;
            stage.operator.advance(LAG);
            stage.until("orders", "False RolloutForbidden").await;
            let message = stage.message("orders").await;
            for said in ["Deployment a (", WEBHOOK, DENIAL, "every ten minutes"] {
                assert!(message.contains(said), "{code}: {message}");
            }
            stage.shop.until_event("orders", "RolloutForbidden").await;
            let asked = || webhook.asked(&stage.shop.namespace, "a") - by_us;
            // Another writer may have changed the workload meanwhile. Such a try counts, and does not reach the webhook.
            let first = asked();
            assert!((1.max(tries - 1)..=tries).contains(&first), "{code}: it was asked {first} times");
            assert_eq!(stage.changes("Deployment", "b").await, 1, "{code}");
            for _ in 0..5 {
                stage.look("orders").await;
            }
            assert_eq!(asked(), first, "{code}: it is not asked before ten minutes are over");
            stage.operator.advance(SignedDuration::from_mins(10));
            crate::harness::eventually("it is asked once more", || async {
                stage.look("orders").await;
                (asked() == first + 1).then_some(())
            })
            .await;
            assert_eq!(asked(), first + 1, "{code}");
            ask_no_more(&stage, async || try_workload(&stage).await).await;
            stage.operator.advance(SignedDuration::from_mins(10));
            stage.until_complete("orders").await;
            assert_eq!(stage.changes("Deployment", "a").await, 1, "{code}");
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_cannot_be_written_is_told_in_an_event_and_tried_less_and_less_often_and_nobody_is_moved() {
    let webhook = DenyingWebhook::start().await.unwrap();
    futures::future::join_all([403, 404, 409, 500].map(|code| {
        let webhook = &webhook;
        async move {
            let stage = Stage::open(&format!("status-{code}")).await;
            stage.certificate("orders", json!({ "auto": true })).await;
            stage.workload("Deployment", "web", &["orders"], json!({})).await;
            stage.until_complete("orders").await;
            // What the renewal itself writes passes.
            let changed = "object.status.rollout.serialNumber != oldObject.status.rollout.serialNumber";
            ask(&stage, webhook, code, ("usercert.dev", "databaseusercertificates/status"), changed).await;
            until_asked(true, async || try_status(&stage).await).await;
            let by_us = webhook.asked(&stage.shop.namespace, "orders");
            stage.renew("orders").await;
            stage.operator.advance(LAG);
            let started = Instant::now();
            stage.look("orders").await;
            stage.shop.until_event("orders", "ReconcileFailing").await;
            let note = stage.shop.event_note("orders", "ReconcileFailing").await;
            assert!(note.contains("could not patch the status") && note.contains(DENIAL), "{code}: {note}");
            tokio::time::sleep(Duration::from_secs(40).saturating_sub(started.elapsed())).await;
            assert_eq!(stage.warnings("ReconcileFailing"), 1, "{code}");
            let asked = webhook.asked(&stage.shop.namespace, "orders") - by_us;
            assert!((3..=8).contains(&asked), "{code}: {asked}");
            assert_eq!(stage.patches(), Vec::<String>::new(), "{code}");
            // The passes before the rollouts were good; so the rollouts count.
            let is_counted = || async { (stage.failed_passes() > 0).then_some(()) };
            crate::harness::eventually(&format!("a pass is counted as failed: {code}"), is_counted).await;
            ask_no_more(&stage, async || try_status(&stage).await).await;
            stage.until_complete("orders").await;
            assert_eq!(stage.patches(), ["deployments web"], "{code}");
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_be_looked_at_before_a_move_are_told_after_three_times() {
    let stage = Stage::open("before-moving").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.until_complete("orders").await;
    stage.renew("orders").await;
    stage.until("orders", "False RolloutInProgress").await;
    // All that comes before this request succeeds.
    stage.proxy.plan(|asked| {
        let is_it = asked.target.contains("/pods?") && asked.target.contains("labelSelector");
        is_it.then_some(Fault::Refuse(Moment::Before, 500))
    });
    stage.operator.advance(LAG);
    // Less than ten minutes: what was seen of the pods is not asked for anew.
    for _ in 0..12 {
        stage.look_after("orders", SignedDuration::from_secs(35)).await;
        if stage.shop.condition("orders", "RolledOut").await == "False RolloutForbidden" {
            break;
        }
    }
    let message = stage.message("orders").await;
    assert!(message.contains("the workloads cannot be looked at, which is tried again every ten minutes"), "{message}");
    assert_eq!(stage.patches(), Vec::<String>::new());
    stage.proxy.clear();
    stage.operator.advance(SignedDuration::from_mins(10));
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), ["deployments web"]);
}
