//! Other controllers, other certificates, persons.

use std::time::Duration;

use serde_json::json;
use usercert_operator::api::DatabaseUserCertificate;

use crate::stage::{LAG, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn two_certificates_that_change_together_cost_one_restart() {
    let stage = Stage::open("together").await;
    for name in ["orders", "payments"] {
        stage.certificate(name, json!({ "workloads": [{ "kind": "Deployment", "name": "web" }] })).await;
    }
    stage.workload("Deployment", "web", &["orders", "payments"], json!({})).await;
    for name in ["orders", "payments"] {
        stage.until_complete(name).await;
    }
    let (orders, payments) = (stage.renew("orders").await, stage.renew("payments").await);
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    stage.until_complete("payments").await;
    assert_eq!(stage.changes("Deployment", "web").await, 1);
    assert_eq!(stage.serial_numbers("Deployment", "web").await, format!("orders={orders},payments={payments}"));
    let again = stage.renew("payments").await;
    stage.operator.advance(LAG);
    stage.until_complete("payments").await;
    assert_eq!(
        stage.serial_numbers("Deployment", "web").await,
        format!("orders={orders},payments={again}"),
        "the other entry stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_another_controller_moves_back_is_left_alone_and_named() {
    let stage = Stage::open("contested").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    for name in ["a", "b"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.kubelet.break_new_pods("a");
    stage.renew("orders").await;
    stage.look_after("orders", LAG).await;
    let back = json!({ "spec": { "template": { "metadata": { "annotations": { "usercert.dev/serial-numbers": null } } } } });
    let interfere = async {
        loop {
            if !stage.serial_numbers("Deployment", "a").await.is_empty() {
                stage.patch("Deployment", "a", back.clone()).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = interfere => {}
        // Nobody else writes the object: the operator looks again by itself.
        () = stage.shop.until("orders", "RolledOut", "False RolloutContested") => {}
    }
    assert!(stage.message("orders").await.contains("Deployment a"), "{}", stage.message("orders").await);
    stage.shop.until_event("orders", "RolloutContested").await;
    assert_eq!(stage.patches(), ["deployments a", "deployments a", "deployments a", "deployments b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_restarted_by_a_person_is_not_restarted_again() {
    let stage = Stage::open("person").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.renew("orders").await;
    // A person is faster; the operator has not looked yet when the lag is over.
    stage.operator.kill();
    stage.operator.advance(LAG);
    let restart =
        json!({ "spec": { "template": { "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } } } });
    stage.patch("Deployment", "web", restart).await;
    stage.until_rolled_out("Deployment", "web").await;
    stage.start_operator().await;
    stage.until_complete("orders").await;
    assert_eq!((stage.patches(), stage.changes("Deployment", "web").await), (vec![], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_asks_for_a_rollout_no_more_tells_of_none() {
    let stage = Stage::open("ended").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.until_complete("orders").await;
    stage.until_figures("orders", [Some(0), Some(0), Some(0)]).await;
    stage.shop.certificate("orders", "ca", json!({})).await;
    crate::harness::eventually("no condition", || async {
        let object: DatabaseUserCertificate = stage.shop.get("orders").await;
        let status = object.status.unwrap();
        (status.rollout.is_none() && status.conditions.iter().all(|condition| condition.type_ != "RolledOut")).then_some(())
    })
    .await;
    stage.until_figures("orders", [None; 3]).await;
    assert_eq!(stage.serial_number_in_metrics("orders"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_waited_for_its_first_certificate_is_not_restarted() {
    let stage = Stage::open("first").await;
    stage.kubelet.have_new_pods_wait("web");
    stage.shop.apply(crate::stage::manifest("Deployment", "web", &["orders"], &json!({}))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A kubelet tries again after a while.
    stage.operator.advance(LAG);
    stage.shop.certificate("orders", "ca", json!({ "rollout": { "auto": true } })).await;
    stage.shop.until_ready("orders").await;
    stage.kubelet.mend("web");
    stage.until_rolled_out("Deployment", "web").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert_eq!((stage.patches(), stage.changes("Deployment", "web").await), (vec![], 0));
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert_eq!(stage.changes("Deployment", "web").await, 1);
}
