//! The control plane is a real one: its controllers work, and its audit log counts requests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use usercert_test_support::control_plane::ControlPlane;

#[tokio::test]
async fn it_deletes_namespaces_gives_tokens_and_keeps_an_audit_log() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.admin().await.unwrap();
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace: Namespace = serde_json::from_value(serde_json::json!({ "metadata": { "name": "short-lived" } })).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts = Api::<ServiceAccount>::namespaced(client, "short-lived");
    until(|| async { accounts.get_opt("default").await.unwrap().is_some() }).await;
    assert!(control_plane.service_account_kubeconfig("short-lived", "default").await.unwrap().is_file());
    namespaces.delete("short-lived", &DeleteParams::default()).await.unwrap();
    until(|| async { namespaces.get_opt("short-lived").await.unwrap().is_none() }).await;
    let audit = control_plane.audit().unwrap();
    let created = |user: &str| {
        audit.iter().filter(|event| event.user == user && event.verb == "create" && event.resource == "namespaces").count()
    };
    assert_eq!(created("admin"), 1);
}

async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    for _ in 0..300 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(condition().await, "not within 30 seconds");
}
