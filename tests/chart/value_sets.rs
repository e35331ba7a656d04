//! What the chart makes of each file in its folder `ci` is taken by the API server, field by field, and its Pods are admitted.

use std::fs;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use usercert_test_support::control_plane::repository;

use crate::{
    CLUSTER, DEFINITIONS, chart,
    harness::{Cluster, create_namespace, eventually},
    run,
};

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
    let mut sets: Vec<_> =
        fs::read_dir(repository().join("charts/usercert-operator/ci")).unwrap().map(Result::unwrap).collect();
    sets.sort_by_key(fs::DirEntry::path);
    assert!(sets.len() > 4, "{sets:?}");
    for set in sets {
        let (file, name) = (set.path().display().to_string(), set.file_name().into_string().unwrap());
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
