//! Whoever has the operator's account restarts workloads, and does nothing else to them: the chart's admission policy.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{harness::Shop, rights::denied, stage::Stage};

/// The annotation of the pod template that the operator writes.
const ANNOTATION: &str = "usercert.dev/serial-numbers";

/// What is tried on a workload, as a merge patch.
fn attempts() -> [(&'static str, Value); 11] {
    let template = |template: Value| json!({ "spec": { "template": template } });
    [
        ("another image", template(json!({ "spec": { "containers": [{ "name": "app", "image": "mine" }] } }))),
        (
            "another container",
            template(
                json!({ "spec": { "containers": [{ "name": "app", "image": "theirs" }, { "name": "b", "image": "c" }] } }),
            ),
        ),
        ("another service account", template(json!({ "spec": { "serviceAccountName": "admin" } }))),
        ("the network of the node", template(json!({ "spec": { "hostNetwork": true } }))),
        ("another annotation of the pods", template(json!({ "metadata": { "annotations": { "other": "x" } } }))),
        ("an annotation of the pods less", template(json!({ "metadata": { "annotations": { "theirs": null } } }))),
        ("another label of the pods", template(json!({ "metadata": { "labels": { "other": "x" } } }))),
        ("another field beside the pod template", json!({ "spec": { "minReadySeconds": 5 } })),
        ("an annotation of the workload", json!({ "metadata": { "annotations": { "other": "x" } } })),
        (
            "an owner",
            json!({ "metadata": { "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x" }] } }),
        ),
        ("a finalizer", json!({ "metadata": { "finalizers": ["example.com/forever"] } })),
    ]
}

pub async fn the_operators_account_changes_one_annotation_of_a_workload(stage: &'static Stage) {
    let shop = stage.tenant("workloads").await;
    let account = Client::try_from(shop.cluster.operator_config()).unwrap();
    on::<Deployment>(stage, &shop, &account, json!({})).await;
    on::<StatefulSet>(stage, &shop, &account, json!({ "serviceName": "app" })).await;
    on::<DaemonSet>(stage, &shop, &account, json!({})).await;
}

async fn on<K>(stage: &Stage, shop: &Shop, account: &Client, mut spec: Value)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let kind = K::kind(&());
    spec["selector"] = json!({ "matchLabels": { "app": "a" } });
    spec["template"] = json!({
        "metadata": { "labels": { "app": "a" }, "annotations": { "theirs": "stays" } },
        "spec": { "containers": [{ "name": "app", "image": "theirs" }] },
    });
    let workload: K = serde_json::from_value(json!({ "metadata": { "name": "theirs" }, "spec": spec })).unwrap();
    shop.api::<K>().create(&PostParams::default(), &workload).await.unwrap();
    let own = Api::<K>::namespaced(account.clone(), &shop.namespace);

    let moved = json!({
        "apiVersion": K::api_version(&()), "kind": kind, "metadata": { "name": "theirs" },
        "spec": { "template": { "metadata": { "annotations": { ANNOTATION: "orders=1" } } } },
    });
    let parameters = PatchParams::apply("usercert-operator-rollout").force();
    let written = own.patch("theirs", &parameters, &Patch::Apply(moved)).await.unwrap();
    let written = serde_json::to_value(&written).unwrap();
    assert_eq!(written["spec"]["template"]["metadata"]["annotations"], json!({ "theirs": "stays", ANNOTATION: "orders=1" }));

    for (what, patch) in attempts() {
        let attempt = async { denied(own.patch("theirs", &PatchParams::default(), &Patch::Merge(patch)).await) };
        stage.attempt(6, &format!("with the operator's account, give a {kind} {what}"), attempt).await;
    }
    // RBAC refuses what the operator has no use for.
    let mut another = workload.clone();
    another.meta_mut().name = Some("another".to_owned());
    forbidden(own.create(&PostParams::default(), &another).await);
    forbidden(own.delete("theirs", &Default::default()).await);
    forbidden(own.patch_status("theirs", &PatchParams::default(), &Patch::Merge(json!({ "status": {} }))).await);
    if kind != "DaemonSet" {
        let scale = json!({ "spec": { "replicas": 9 } });
        forbidden(own.patch_scale("theirs", &PatchParams::default(), &Patch::Merge(scale)).await);
    }
}

/// RBAC's refusal.
fn forbidden<T: std::fmt::Debug>(result: Result<T, kube::Error>) {
    let refusal = result.unwrap_err().to_string();
    assert!(refusal.contains("is forbidden: User"), "{refusal}");
}
