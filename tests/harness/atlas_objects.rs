//! Objects of the Atlas Kubernetes Operator, as it or a forger would write them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{Shop, eventually};

/// The definitions, as far as their form matters here.
pub async fn serve_kinds(client: &Client) {
    for (kind, plural) in [("AtlasProject", "atlasprojects"), ("AtlasDatabaseUser", "atlasdatabaseusers")] {
        let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.atlas.mongodb.com") },
            "spec": {
                "group": "atlas.mongodb.com", "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                    "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": open, "status": open } } },
                }],
            },
        });
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        api.patch(&format!("{plural}.atlas.mongodb.com"), &PatchParams::apply("test"), &Patch::Apply(definition))
            .await
            .unwrap();
        let objects = kinds_in(client, "default", kind);
        eventually("the kind is served", || async { objects.list(&Default::default()).await.is_ok().then_some(()) }).await;
    }
}

fn kinds_in(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("atlas.mongodb.com", "v1", kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Where this kind is read and written.
pub fn kinds(shop: &Shop, kind: &str) -> Api<DynamicObject> {
    kinds_in(&shop.client, &shop.namespace, kind)
}

/// Creates or changes an object with its status, which is about its current generation.
pub async fn put(shop: &Shop, kind: &str, name: &str, spec: Value, status: Value) {
    let object = shop
        .apply(json!({ "apiVersion": "atlas.mongodb.com/v1", "kind": kind, "metadata": { "name": name }, "spec": spec }))
        .await;
    let mut status = status;
    status["observedGeneration"] = json!(object.metadata.generation);
    kinds(shop, kind).patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
}

/// The spec of a user of the project `project`.
pub fn user(name: &str, x509_type: &str) -> Value {
    json!({ "username": name, "databaseName": "$external", "x509Type": x509_type, "projectRef": { "name": "project" } })
}

/// A status with this condition Ready.
pub fn ready(status: &str) -> Value {
    json!({ "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z" }] })
}

/// A certificate for an `AtlasDatabaseUser`.
pub async fn certificate_for(shop: &Shop, name: &str, user: &str) {
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": name },
        "spec": { "userRef": { "name": user } },
    }))
    .await;
}

/// The spec of a user of a project in this namespace.
pub fn user_in(name: &str, namespace: &str, project: &str) -> Value {
    let mut spec = user(name, "MANAGED");
    spec["projectRef"] = json!({ "name": project, "namespace": namespace });
    spec
}
