//! The chart on a real API server: Pod Security, upgrade, and the rights that it gives.

use std::process::Command;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use usercert_test_support::control_plane::{repository, tool};

use crate::{harness::Shop, open};

fn helm(shop: &Shop, arguments: &[&str]) -> String {
    let output = Command::new(tool("helm").unwrap())
        .args(arguments)
        .env("KUBECONFIG", shop.cluster.control_plane.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn its_pods_pass_the_restricted_level_of_pod_security() {
    let shop = open("restricted").await;
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    Api::<Namespace>::all(shop.client.clone())
        .patch(&shop.namespace, &PatchParams::default(), &Patch::Merge(labels))
        .await
        .unwrap();
    let deployment =
        Api::<Deployment>::namespaced(shop.client.clone(), "usercert-system").get("usercert-operator").await.unwrap();
    let mut spec = deployment.spec.unwrap().template.spec.unwrap();
    (spec.service_account_name, spec.service_account) = (None, None);
    let mut pod = Pod { spec: Some(spec), ..Pod::default() };
    pod.metadata.name = Some("operator".to_owned());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pods = shop.api::<Pod>();
    pods.create(&dry_run, &pod).await.unwrap();
    pod.spec.as_mut().unwrap().containers[0].security_context = None;
    let refused = pods.create(&dry_run, &pod).await.unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity"), "the level is in force: {refused}");
}

#[tokio::test]
async fn an_upgrade_upgrades_the_definitions_and_keeps_them() {
    let shop = open("upgrade").await;
    let definitions = Api::<CustomResourceDefinition>::all(shop.client.clone());
    let name = "databaseusercertificates.usercert.dev";
    let stale = json!({ "spec": { "names": { "shortNames": ["duc", "stale"] } } });
    definitions.patch(name, &PatchParams::default(), &Patch::Merge(stale)).await.unwrap();
    let chart = repository().join("charts/usercert-operator").display().to_string();
    let mut arguments =
        vec!["upgrade", "usercert-operator", &chart, "--namespace", "usercert-system", "--set", "replicaCount=0"];
    // Helm 4 applies on the server's side, where the change above has another owner; Helm 3 does not ask.
    if helm(&shop, &["upgrade", "--help"]).contains("--force-conflicts") {
        arguments.push("--force-conflicts");
    }
    helm(&shop, &arguments);
    let definition = definitions.get(name).await.unwrap();
    assert_eq!(definition.spec.names.short_names.unwrap(), ["duc"]);
    assert_eq!(definition.metadata.annotations.unwrap()["helm.sh/resource-policy"], "keep");
}
