//! What a look costs where there are many workloads and pods.

use jiff::SignedDuration;
use serde_json::json;

use crate::stage::{LAG, Stage};

/// More pods than are in one page.
const MANY: i32 = 60;

impl Stage {
    /// The requests for workloads and pods since this one, as `METHOD resource?query`.
    fn asked_about_workloads(&self, since: usize) -> Vec<String> {
        let asked = self.proxy.asked().split_off(since).into_iter();
        let of_namespace = format!("/namespaces/{}/", self.shop.namespace);
        let found = asked.filter_map(|asked| {
            let (_, resource) = asked.target.split_once(&of_namespace)?;
            let is_one = ["deployments", "statefulsets", "daemonsets", "workers", "pods", "jobs"];
            is_one.iter().any(|one| resource.starts_with(one)).then(|| format!("{} {resource}", asked.method))
        });
        found.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_workload_is_on_its_way_the_others_and_their_pods_are_not_asked_for() {
    let stage = Stage::open("cost").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.until_complete("orders").await;
    stage.kubelet.break_new_pods("a");
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until("orders", "False RolloutInProgress").await;
    crate::harness::eventually("a is moved", || async { (stage.patches() == ["deployments a"]).then_some(()) }).await;
    stage.look("orders").await;
    let since = stage.proxy.asked_count();
    for _ in 0..20 {
        stage.look("orders").await;
    }
    let asked = stage.asked_about_workloads(since);
    let count = |start: &str| asked.iter().filter(|one| one.starts_with(start)).count();
    assert!(count("GET deployments/a") >= 10, "{asked:?}");
    assert!((1..=3).contains(&count("GET deployments?")), "all are looked at once a minute: {asked:?}");
    assert_eq!(count("GET pods"), 0, "{asked:?}");

    let since = stage.proxy.asked_count();
    stage.kubelet.mend("a");
    crate::harness::eventually("b is moved", || async {
        stage.look("orders").await;
        (stage.patches() == ["deployments a", "deployments b"]).then_some(())
    })
    .await;
    let asked = stage.asked_about_workloads(since);
    let pods: Vec<&String> = asked.iter().filter(|one| one.starts_with("GET pods")).collect();
    assert!(!pods.is_empty(), "before it is moved: {asked:?}");
    assert!(pods.iter().all(|one| one.contains("labelSelector=app%3Db")), "{pods:?}");
    stage.until_complete("orders").await;
    assert_eq!(stage.patches().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_restarts_before_its_turn_is_not_moved() {
    let stage = Stage::open("meanwhile").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    for name in ["a", "b"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.until_complete("orders").await;
    stage.kubelet.break_new_pods("a");
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    crate::harness::eventually("a is moved", || async {
        stage.look("orders").await;
        (stage.patches() == ["deployments a"]).then_some(())
    })
    .await;
    let template = json!({ "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } });
    stage.patch("Deployment", "b", json!({ "spec": { "template": template } })).await;
    stage.until_rolled_out("Deployment", "b").await;
    stage.kubelet.mend("a");
    stage.until_complete("orders").await;
    assert_eq!(stage.patches(), ["deployments a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_read_page_by_page_and_none_is_missed() {
    let stage = Stage::open("pages").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.workload("Deployment", "many", &["other"], json!({ "replicas": MANY })).await;
    let pod = json!({ "containers": [{ "name": "main", "image": "example.com/none" }], "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] });
    // The first and the last of all pods, by the order in which the API server lists them.
    for name in ["a-first", "z-last"] {
        let labels = json!({ "app": "alone" });
        stage
            .shop
            .apply(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels }, "spec": pod }))
            .await;
        crate::harness::eventually("it has started", || async {
            let pod = stage.shop.api::<k8s_openapi::api::core::v1::Pod>().get(name).await.unwrap();
            pod.status.and_then(|status| status.start_time)
        })
        .await;
    }
    stage.renew("orders").await;
    let since = stage.proxy.asked_count();
    stage.operator.advance(LAG);
    stage.until_complete("orders").await;
    assert!(stage.message("orders").await.contains("Pod a-first, Pod z-last"), "{}", stage.message("orders").await);
    let asked = stage.asked_about_workloads(since);
    let lists = |start: &str| asked.iter().filter(|one| one.starts_with(start)).collect::<Vec<_>>();
    assert!(
        asked.iter().filter(|one| one.starts_with("GET") && one.contains('?')).all(|one| one.contains("limit=50")),
        "{asked:?}"
    );
    let (all, next) = (lists("GET pods?").len(), lists("GET pods?").iter().filter(|one| one.contains("continue=")).count());
    assert!(next >= 1 && all > next, "{asked:?}");
    stage.look_after("orders", SignedDuration::from_mins(1)).await;
    assert_eq!(stage.patches(), ["deployments web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_others_have_to_act_all_pods_and_jobs_are_not_listed_again() {
    let stage = Stage::open("waits").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.workload("Deployment", "web", &["orders"], json!({})).await;
    stage.until_complete("orders").await;
    stage.patch("Deployment", "web", json!({ "spec": { "paused": true } })).await;
    stage.renew("orders").await;
    stage.operator.advance(LAG);
    stage.until("orders", "False RolloutLeftToOthers").await;
    // What the condition follows from may not all be asked for yet.
    stage.look("orders").await;
    let since = stage.proxy.asked_count();
    for _ in 0..3 {
        stage.look_after("orders", SignedDuration::from_mins(10)).await;
    }
    let asked = stage.asked_about_workloads(since);
    assert!(asked.iter().filter(|one| one.starts_with("GET deployments?")).count() >= 2, "it is looked at: {asked:?}");
    let of_all = |one: &&String| one.starts_with("GET jobs") || one.starts_with("GET pods") && !one.contains("labelSelector");
    assert_eq!(asked.iter().filter(of_all).count(), 0, "{asked:?}");
}
