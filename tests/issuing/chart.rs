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
use usercert_test_support::{
    command::output_with_input,
    control_plane::{repository, tool},
};

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
    // The other tests go on with the rights that the release has.
    let mut arguments = vec!["upgrade", "usercert-operator", &chart, "--namespace", "usercert-system", "--reuse-values"];
    // Helm 4 applies on the server's side, where the change above has another owner; Helm 3 does not ask.
    if helm(&shop, &["upgrade", "--help"]).contains("--force-conflicts") {
        arguments.push("--force-conflicts");
    }
    helm(&shop, &arguments);
    let definition = definitions.get(name).await.unwrap();
    assert_eq!(definition.spec.names.short_names.unwrap(), ["duc"]);
    assert_eq!(definition.metadata.annotations.unwrap()["helm.sh/resource-policy"], "keep");
}

/// The chart's manifests with these values, as a release that is not installed.
fn rendered(shop: &Shop, values: &[&str]) -> String {
    let chart = repository().join("charts/usercert-operator").display().to_string();
    let mut arguments =
        vec!["template", "tried-usercert-operator", &chart, "--namespace", "usercert-system", "--set", "replicaCount=0"];
    for value in values {
        arguments.extend(["--set", value]);
    }
    helm(shop, &arguments)
}

#[tokio::test]
async fn what_the_user_sets_takes_the_place_of_what_the_chart_sets() {
    let shop = open("extra-env").await;
    let values = [
        "extraEnv[0].name=RUST_LOG,extraEnv[0].value=debug",
        "extraEnv[1].name=HTTPS_PROXY,extraEnv[1].value=http://proxy:3128",
        "podLabels.team=db,podLabels.app\\.kubernetes\\.io/version=mine",
        "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null",
    ];
    let manifests = rendered(&shop, &values);
    let documents = manifests.split("\n---\n").find(|document| document.contains("kind: Deployment")).unwrap();
    let mut kubectl = Command::new(tool("kubectl").unwrap());
    kubectl
        .args(["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--output=json", "--filename=-"])
        .env("KUBECONFIG", shop.cluster.control_plane.kubeconfig());
    let output = output_with_input(&mut kubectl, documents).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let deployment: Deployment = serde_json::from_slice(&output.stdout).unwrap();
    let template = deployment.spec.unwrap().template;
    let pod = template.spec.unwrap();
    let env = pod.containers[0].env.as_ref().unwrap();
    let values = |name: &str| {
        env.iter().filter(|variable| variable.name == name).map(|variable| variable.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(values("RUST_LOG"), [Some("debug".to_owned())]);
    assert_eq!(values("HTTPS_PROXY").len(), 1);
    let labels = template.metadata.unwrap().labels.unwrap();
    assert_eq!((labels["team"].as_str(), labels["app.kubernetes.io/version"].as_str()), ("db", "mine"));
    assert_eq!(pod.security_context.unwrap().run_as_user, None, "OpenShift chooses one");
}

#[tokio::test]
async fn a_second_release_is_told_what_to_set() {
    let shop = open("second-release").await;
    let chart = repository().join("charts/usercert-operator").display().to_string();
    let output = Command::new(tool("helm").unwrap())
        .args(["install", "second", &chart, "--namespace", "usercert-system", "--dry-run=server"])
        .env("KUBECONFIG", shop.cluster.control_plane.kubeconfig())
        .output()
        .unwrap();
    let refusal = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && refusal.contains("installed by the release usercert-operator in namespace usercert-system")
    );
    // The condition comes before the way out: without it both would serve the whole cluster, and mint twice.
    let (condition, way_out) =
        (refusal.find("give each of the two its own watchNamespaces"), refusal.find("crds.install=false"));
    assert!(condition.is_some() && condition < way_out, "{refusal}");
}

#[tokio::test]
async fn roles_for_users_are_made_in_namespaced_mode_and_for_cluster_issuers_if_asked_for() {
    let shop = open("roles").await;
    let fenced = ["watchNamespaces={a}"];
    assert!(!rendered(&shop, &fenced).contains("kind: ClusterRole"));
    let asked =
        rendered(&shop, &[fenced[0], "rbac.aggregate=true", "rbac.clusterIssuerRoles=true", "rbac.serviceBinding=true"]);
    for name in [
        "tried-usercert-operator-view",
        "tried-usercert-operator-edit",
        "tried-usercert-operator-admin",
        "tried-usercert-operator-cluster-issuers-view",
        "tried-usercert-operator-service-binding",
    ] {
        assert!(asked.contains(&format!("name: {name}\n")), "{name}");
    }
    assert!(asked.contains("servicebinding.io/controller: \"true\"\n"));
}

#[tokio::test]
async fn null_takes_a_value_away() {
    let shop = open("nulls").await;
    let manifests = rendered(&shop, &["extraEnv=null,podLabels=null,podSecurityContext=null,rbac.aggregate=null"]);
    assert!(manifests.contains("kind: Deployment"));
}

#[tokio::test]
async fn rights_policy_and_operator_go_by_one_resource_of_a_further_kind() {
    let shop = open("rollout-kinds").await;
    let kind = "rollout.enabled=true,rollout.kinds[0].group=example.com,rollout.kinds[0].version=v1,rollout.kinds[0].kind=Proxy,rollout.kinds[0].resource=proxies";
    let manifests = rendered(&shop, &[kind]);
    let rule = |role: &str| {
        let document =
            manifests.split("\n---\n").find(|document| document.contains(role) && document.contains("example.com")).unwrap();
        document.split("\"example.com\"").nth(1).unwrap().lines().take(4).collect::<Vec<_>>().join(" ")
    };
    for role in ["kind: ClusterRole\n", "kind: ValidatingAdmissionPolicy\n"] {
        assert!(rule(role).contains("[\"proxies\"]"), "{}", rule(role));
    }
    let argument = manifests.split("ROLLOUT_KINDS").nth(1).unwrap().lines().nth(1).unwrap();
    assert_eq!(argument.trim(), "value: example.com/v1/Proxy=proxies");
}
