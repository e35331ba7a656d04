//! What the chart makes of each file in its folder `ci` is taken by the API server, field by field, and its Pods are admitted.

use std::{collections::BTreeMap, fs, path::PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use serde_json::Value;
use usercert_test_support::control_plane::repository;

use crate::{
    CLUSTER, DEFINITIONS, chart,
    harness::{Cluster, create_namespace, eventually},
    run,
};

/// The files of the folder `ci`.
fn sets() -> Vec<PathBuf> {
    let folder = fs::read_dir(repository().join("charts/usercert-operator/ci")).unwrap();
    let mut sets: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    sets.sort();
    assert!(sets.len() > 4, "{sets:?}");
    sets
}

/// Values that stay as they are in every set, and why.
const UNCHANGED: [(&str, &str); 5] = [
    ("podSecurityContext.runAsNonRoot", "root is nobody's choice"),
    ("podSecurityContext.seccompProfile.type", "Unconfined is refused by the restricted standard"),
    ("securityContext.allowPrivilegeEscalation", "the same"),
    ("securityContext.capabilities.drop", "it needs no capability"),
    ("securityContext.readOnlyRootFilesystem", "the program writes no file"),
];

/// What has no further names below it, by its path.
fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            fields.iter().for_each(|(name, value)| leaves(&below(name), value, found));
        }
        _ => drop(found.insert(path.to_owned(), value.clone())),
    }
}

#[test]
fn each_value_is_in_some_set_and_not_as_it_is_by_default() {
    let read = |path: PathBuf| serde_saphyr::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let mut defaults = BTreeMap::new();
    leaves("", &read(repository().join("charts/usercert-operator/values.yaml")), &mut defaults);
    assert!(defaults.len() > 90, "{defaults:?}");
    let sets: Vec<Value> = sets().into_iter().map(read).collect();
    let is_changed = |path: &str, default: &Value| {
        let at = |set: &Value| set.pointer(&format!("/{}", path.replace('.', "/"))).cloned();
        sets.iter().filter_map(at).any(|value| value != *default)
    };
    let unchanged = defaults.iter().filter(|(path, default)| !is_changed(path, default)).map(|(path, _)| path.as_str());
    assert_eq!(
        unchanged.collect::<Vec<_>>(),
        UNCHANGED.map(|(path, _)| path),
        "set them in a file of the folder ci, or say why not"
    );
}

#[tokio::test]
async fn the_api_server_takes_every_value_set_and_admits_its_pods() {
    let _turn = DEFINITIONS.lock().await;
    let cluster: &'static Cluster = tokio::task::spawn_blocking(|| &*CLUSTER).await.unwrap();
    let client = cluster.client().await;
    let of_prometheus = repository().join("tests/chart/prometheus-operator");
    for definition in ["servicemonitors", "podmonitors", "prometheusrules"] {
        let file = of_prometheus.join(format!("{definition}.json")).display().to_string();
        run(cluster, "kubectl", &["apply", "--server-side", "--filename", &file], "");
    }
    run(cluster, "kubectl", &["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "");
    // That the value sets name.
    for namespace in ["shop", "shop-eu", "monitoring"] {
        create_namespace(&client, namespace).await;
    }
    for set in sets() {
        let (file, name) = (set.display().to_string(), set.file_name().unwrap().to_str().unwrap());
        let name = &format!("set-{}", name.strip_suffix("-values.yaml").unwrap());
        create_namespace(&client, name).await;
        let manifests = run(cluster, "helm", &["template", name, &chart(), "--namespace", name, "--values", &file], "");
        let arguments = ["apply", "--server-side", "--validate=strict", "--filename=-"];
        let applied = run(cluster, "kubectl", &arguments, &manifests);
        let objects = manifests.matches("\nkind: ").count();
        assert_eq!(applied.lines().count(), objects, "{name}: {applied}");
        let deployments = Api::<Deployment>::namespaced(client.clone(), name);
        let what = format!("the Pods of {name}");
        let pods = eventually(&what, || async {
            let all = deployments.list(&Default::default()).await.unwrap().items;
            let [deployment] = &all[..] else { panic!("{name} has {} Deployments", all.len()) };
            let wanted = deployment.spec.as_ref().unwrap().replicas.unwrap();
            let made = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
            (wanted == made).then(|| format!("{made} Pods of {}", deployment.name_any()))
        });
        eprintln!("{name}: {objects} objects applied, {} admitted", pods.await);
    }
}
