//! Whoever has the operator's account restarts workloads, and does nothing else to them: the chart's admission policy.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::{
    harness::{Shop, eventually},
    rights::denied,
    stage::Stage,
};

/// The annotation of the pod template that the operator writes.
const ANNOTATION: &str = "usercert.dev/serial-numbers";

/// What is tried on a workload, as a merge patch.
fn attempts(api_version: &str) -> [(&'static str, Value); 13] {
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
        // Whoever applies this workload next would take away what these entries say is theirs and their manifest lacks.
        ("fields that are forgotten to be others'", json!({ "metadata": { "managedFields": [{}] } })),
        (
            "fields that are said to be others'",
            json!({ "metadata": { "managedFields": [{
                "manager": "kustomize-controller", "operation": "Apply", "apiVersion": api_version, "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:template": { "f:spec": { "f:hostNetwork": {} } } } },
            }] } }),
        ),
    ]
}

pub async fn the_operators_account_changes_one_annotation_of_a_workload(stage: &'static Stage) {
    let shop = stage.tenant("workloads").await;
    define_workers(stage).await;
    for (group, kind, spec) in [
        ("apps", "Deployment", json!({})),
        ("apps", "StatefulSet", json!({ "serviceName": "app" })),
        ("apps", "DaemonSet", json!({})),
        ("example.com", "Worker", json!({ "replicas": 1 })),
    ] {
        let workloads = Workloads::new(stage, &shop, group, kind).await;
        workloads.try_everything(stage, spec).await;
    }
}

/// Workloads that were written by whatever client, and that the operator moves all the same.
pub async fn the_policy_lets_the_operator_move_workloads_of_every_form(stage: &'static Stage) {
    let shop = stage.tenant("forms").await;
    define_workers(stage).await;
    let workers = Workloads::new(stage, &shop, "example.com", "Worker").await;
    for (name, metadata) in [("null", json!(null)), ("empty", json!({})), ("no-annotations", json!({ "annotations": null }))] {
        workers.create(name, json!({ "template": { "metadata": metadata, "spec": {} } })).await;
        workers.move_to(name, "orders=1").await;
        let image = json!({ "spec": { "template": { "spec": { "containers": [{ "image": "mine" }] } } } });
        denied(workers.account.patch(name, &PatchParams::default(), &Patch::Merge(image)).await);
        workers.move_to(name, "orders=2").await;
    }
    let labelled = json!({ "metadata": { "labels": { "app": "a" } }, "spec": {} });
    workers.create("labelled", json!({ "template": labelled })).await;
    let bare = Patch::Merge(json!({ "spec": { "template": { "metadata": null } } }));
    denied(workers.account.patch("labelled", &PatchParams::default(), &bare).await);
    workers.create("without", json!({ "template": { "spec": {} } })).await;
    workers.move_to("without", "orders=1").await;

    let deployments = Workloads::new(stage, &shop, "apps", "Deployment").await;
    deployments.create("forgotten", spec(json!({}))).await;
    let forget = Patch::Merge(json!({ "metadata": { "managedFields": [{}] } }));
    deployments.tenant.patch("forgotten", &PatchParams::default(), &forget).await.unwrap();
    deployments.create("applied", spec(json!({}))).await;
    let annotated = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "applied" },
        "spec": { "template": { "metadata": { "annotations": { ANNOTATION: "orders=0", "b": "c" } } } },
    });
    deployments.tenant.patch("applied", &PatchParams::apply("git").force(), &Patch::Apply(annotated)).await.unwrap();
    for name in ["forgotten", "applied"] {
        for serial_numbers in ["orders=1", "orders=1", "orders=2"] {
            deployments.move_to(name, serial_numbers).await;
        }
    }
    stage.record(
        "6",
        "the operator itself, workloads without pod metadata or managedFields, or with its annotation in Git",
        "all are moved",
    );
}

/// The workloads of a kind in a namespace, as the operator's account and as the tenant.
struct Workloads {
    account: Api<DynamicObject>,
    tenant: Api<DynamicObject>,
    resource: ApiResource,
}

impl Workloads {
    async fn new(stage: &Stage, shop: &Shop, group: &str, kind: &str) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let account = Client::try_from(shop.cluster.operator_config()).unwrap();
        let account = Api::namespaced_with(account, &shop.namespace, &resource);
        // The role admin is about built-in kinds alone.
        let tenant = Api::namespaced_with(stage.admin().await, &shop.namespace, &resource);
        Self { account, tenant, resource }
    }

    fn object(&self, name: &str, spec: &Value) -> DynamicObject {
        DynamicObject::new(name, &self.resource).data(json!({ "spec": spec }))
    }

    async fn create(&self, name: &str, spec: Value) {
        self.tenant.create(&PostParams::default(), &self.object(name, &spec)).await.unwrap();
    }

    /// Does what the operator does; what the pod template's annotations are then.
    async fn move_to(&self, name: &str, serial_numbers: &str) -> Value {
        let moved = json!({ "template": { "metadata": { "annotations": { ANNOTATION: serial_numbers } } } });
        let moved = self.object(name, &moved);
        let parameters = PatchParams::apply("usercert-operator-rollout").force();
        let written = self.account.patch(name, &parameters, &Patch::Apply(moved)).await;
        let written = written.unwrap_or_else(|error| panic!("{} {name}: {error}", self.resource.kind));
        let annotations = written.data["spec"]["template"]["metadata"]["annotations"].clone();
        assert_eq!(annotations[ANNOTATION], serial_numbers);
        let own = written.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some("usercert-operator-rollout"));
        // Where a schema says nothing about a field, the API server notes its parents too, as ".".
        let own = own.unwrap().fields_v1.as_ref().unwrap().0.to_string().replace("\".\":{},", "");
        let path =
            format!("{{\"f:spec\":{{\"f:template\":{{\"f:metadata\":{{\"f:annotations\":{{\"f:{ANNOTATION}\":{{}}}}}}}}}}}}");
        assert_eq!(own, path, "it owns nothing else");
        annotations
    }

    async fn try_everything(&self, stage: &Stage, with: Value) {
        let (account, kind) = (&self.account, &self.resource.kind);
        self.create("theirs", spec(with.clone())).await;
        assert_eq!(self.move_to("theirs", "orders=1").await, json!({ "theirs": "stays", ANNOTATION: "orders=1" }));
        for (what, patch) in attempts(&self.resource.api_version) {
            let attempt = async { denied(account.patch("theirs", &PatchParams::default(), &Patch::Merge(patch)).await) };
            stage.attempt(6, &format!("with the operator's account, give a {kind} {what}"), attempt).await;
        }
        // By server-side apply too, under whatever name.
        for manager in ["usercert-operator-rollout", "kustomize-controller"] {
            let image = json!({ "template": { "spec": { "containers": [{ "name": "app", "image": "mine" }] } } });
            let image = self.object("theirs", &image);
            denied(account.patch("theirs", &PatchParams::apply(manager).force(), &Patch::Apply(image)).await);
        }
        let same = self.object("theirs", &json!({ "template": { "metadata": { "annotations": { "theirs": "stays" } } } }));
        let same = async {
            denied(account.patch("theirs", &PatchParams::apply("kustomize-controller").force(), &Patch::Apply(same)).await)
        };
        stage.attempt(6, &format!("with the operator's account, own a field of a {kind} by the name of another"), same).await;
        self.move_to("theirs", "orders=2").await;
        // RBAC refuses what the operator has no use for.
        forbidden(account.create(&PostParams::default(), &self.object("another", &spec(with))).await);
        forbidden(account.delete("theirs", &Default::default()).await);
        forbidden(account.patch_status("theirs", &PatchParams::default(), &Patch::Merge(json!({ "status": {} }))).await);
        if kind != "DaemonSet" {
            let scale = json!({ "spec": { "replicas": 9 } });
            forbidden(account.patch_scale("theirs", &PatchParams::default(), &Patch::Merge(scale)).await);
        }
        stage.record(
            "6",
            &format!("with the operator's account, make, delete or scale a {kind}, or write its status"),
            "denied by RBAC",
        );
    }
}

fn spec(mut spec: Value) -> Value {
    spec["selector"] = json!({ "matchLabels": { "app": "a" } });
    spec["template"] = json!({
        "metadata": { "labels": { "app": "a" }, "annotations": { "theirs": "stays" } },
        "spec": { "containers": [{ "name": "app", "image": "theirs" }] },
    });
    spec
}

/// A further kind with everything that a Deployment has, which the chart's value `rollout.kinds` names.
async fn define_workers(stage: &Stage) {
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let schema = json!({ "type": "object", "properties": { "spec": any, "status": any } });
    let scale = json!({ "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "workers.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "kind": "Worker", "plural": "workers" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {}, "scale": scale },
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    });
    let definitions = Api::<CustomResourceDefinition>::all(stage.admin().await);
    definitions.patch("workers.example.com", &PatchParams::apply("test").force(), &Patch::Apply(definition)).await.unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Worker"));
    let workers = Api::<DynamicObject>::all_with(stage.admin().await, &resource);
    eventually("the kind is served", || async { workers.list(&Default::default()).await.ok() }).await;
}

/// RBAC's refusal.
fn forbidden<T: std::fmt::Debug>(result: Result<T, kube::Error>) {
    let refusal = result.unwrap_err().to_string();
    assert!(refusal.contains("is forbidden: User"), "{refusal}");
}
