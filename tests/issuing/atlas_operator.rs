//! Beside the Atlas Kubernetes Operator: its objects are referred to, never written, and their kinds may be absent.

use k8s_openapi::{api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::atlas::X509Type;

use crate::{
    harness::{OPERATOR, PRIVATE_API_KEY, Shop, eventually},
    open,
};

/// The definitions, as far as their form matters here.
async fn serve_kinds(shop: &Shop) {
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
        let api = Api::<CustomResourceDefinition>::all(shop.client.clone());
        api.patch(&format!("{plural}.atlas.mongodb.com"), &PatchParams::apply("test"), &Patch::Apply(definition))
            .await
            .unwrap();
        eventually("the kind is served", || async { kinds(shop, kind).list(&Default::default()).await.is_ok().then_some(()) })
            .await;
    }
}

fn kinds(shop: &Shop, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("atlas.mongodb.com", "v1", kind));
    Api::namespaced_with(shop.client.clone(), &shop.namespace, &resource)
}

async fn put(shop: &Shop, kind: &str, name: &str, spec: Value, status: Value) {
    let object = shop
        .apply(json!({ "apiVersion": "atlas.mongodb.com/v1", "kind": kind, "metadata": { "name": name }, "spec": spec }))
        .await;
    let mut status = status;
    status["observedGeneration"] = json!(object.metadata.generation);
    kinds(shop, kind).patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
}

fn user(name: &str, x509_type: &str) -> Value {
    json!({ "username": name, "databaseName": "$external", "x509Type": x509_type, "projectRef": { "name": "project" } })
}

fn ready(status: &str) -> Value {
    json!({ "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z" }] })
}

async fn certificate_for(shop: &Shop, name: &str, user: &str) {
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": name },
        "spec": { "userRef": { "name": user } },
    }))
    .await;
}

#[tokio::test]
async fn its_objects_are_found_when_they_come_followed_while_they_are_there_and_not_needed_when_they_go() {
    let shop = open("beside").await;
    let (name, elsewhere) = (shop.name("orders"), shop.name("customer"));
    shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
    certificate_for(&shop, "orders", "atlas-orders").await;
    shop.until("orders", "Ready", "False AtlasObjectNotFound").await;
    assert!(shop.message("orders", "Ready").await.contains("does not serve its kind"));

    serve_kinds(&shop).await;
    put(&shop, "AtlasDatabaseUser", "atlas-orders", user(&name, "MANAGED"), ready("False")).await;
    shop.until("orders", "Ready", "False AtlasObjectNotReady").await;
    put(&shop, "AtlasDatabaseUser", "atlas-orders", user(&name, "MANAGED"), ready("True")).await;
    shop.until("orders", "Ready", "False AtlasObjectNotFound").await;
    put(&shop, "AtlasProject", "project", json!({ "name": "P", "connectionSecretRef": { "name": "their-key" } }), json!({}))
        .await;
    shop.until("orders", "Ready", "False AtlasObjectNotReady").await;
    put(
        &shop,
        "AtlasProject",
        "project",
        json!({ "name": "P", "connectionSecretRef": { "name": "their-key" } }),
        json!({ "id": shop.project }),
    )
    .await;
    shop.until("orders", "Ready", "False CredentialsNotFound").await;
    // Its Secret as it is: with its label and its further key.
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "their-key", "labels": { "atlas.mongodb.com/type": "credentials" } },
        "stringData": { "orgId": "o", "publicApiKey": shop.public_key, "privateApiKey": PRIVATE_API_KEY },
    }))
    .await;
    let status = shop.until_ready("orders").await;
    assert_eq!(status.subject.as_deref(), Some(format!("CN={name}").as_str()));
    let labels = shop.secret("orders").await.unwrap().metadata.labels.unwrap();
    assert!(labels.keys().all(|label| label.starts_with("usercert.dev/")), "it deletes Secrets with its labels: {labels:?}");

    put(&shop, "AtlasDatabaseUser", "atlas-customer", user(&elsewhere, "CUSTOMER"), ready("True")).await;
    certificate_for(&shop, "customer", "atlas-customer").await;
    shop.until("customer", "Ready", "False AtlasUserNotManaged").await;

    issuers_may_refer_to_projects(&shop).await;
    the_operator_s_own_credentials_serve_who_names_none(&shop).await;
    let written = shop.cluster.control_plane.audit().unwrap().into_iter().filter(|event| {
        event.user == OPERATOR
            && event.resource.starts_with("atlas")
            && !matches!(event.verb.as_str(), "get" | "list" | "watch")
    });
    assert_eq!(written.count(), 0, "its objects are never written");

    let serial = status.serial_number;
    for plural in ["atlasprojects", "atlasdatabaseusers"] {
        let api = Api::<CustomResourceDefinition>::all(shop.client.clone());
        api.delete(&format!("{plural}.atlas.mongodb.com"), &Default::default()).await.unwrap();
    }
    shop.until("orders", "Issuing", "False AtlasObjectNotFound").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued", "pods can still log in");
    assert_eq!(shop.status("orders").await.serial_number, serial);
    shop.delete::<DatabaseUserCertificate>("customer").await;
}

async fn issuers_may_refer_to_projects(shop: &Shop) {
    let user = shop.name("by-project");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    let issuer = |reference: Value| {
        json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "by-project" },
            "spec": { "atlas": { "projectRef": reference, "endpoint": shop.cluster.atlas.url() } },
        })
    };
    shop.apply(issuer(json!({ "name": "project", "namespace": "elsewhere" }))).await;
    shop.until_issuer("by-project", "False InvalidSpec").await;
    shop.apply(issuer(json!({ "name": "project", "namespace": null }))).await;
    shop.until_issuer("by-project", "True IssuerReady").await;
    shop.certificate(&user, "by-project", json!({})).await;
    shop.until_ready(&user).await;
    // Credentials of another namespace are not lent to an issuer of this one.
    put(
        shop,
        "AtlasProject",
        "lending",
        json!({ "connectionSecretRef": { "name": "key", "namespace": "kube-system" } }),
        json!({ "id": shop.project }),
    )
    .await;
    shop.apply(issuer(json!({ "name": "lending", "namespace": null }))).await;
    shop.until_issuer("by-project", "False CredentialsInvalid").await;
}

async fn the_operator_s_own_credentials_serve_who_names_none(shop: &Shop) {
    let name = shop.name("global");
    shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
    put(shop, "AtlasProject", "bare", json!({}), json!({ "id": shop.project })).await;
    let mut spec = user(&name, "MANAGED");
    spec["projectRef"]["name"] = json!("bare");
    put(shop, "AtlasDatabaseUser", "global", spec, ready("True")).await;
    certificate_for(shop, "global", "global").await;
    shop.until("global", "Ready", "False CredentialsNotFound").await;
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": "mongodb-atlas-system" } })).unwrap();
    Api::<Namespace>::all(shop.client.clone()).create(&Default::default(), &namespace).await.unwrap();
    let secret = serde_json::from_value(json!({
        "metadata": { "name": "mongodb-atlas-operator-api-key" },
        "stringData": { "orgId": "o", "publicApiKey": shop.public_key, "privateApiKey": PRIVATE_API_KEY },
    }))
    .unwrap();
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(shop.client.clone(), "mongodb-atlas-system");
    secrets.create(&Default::default(), &secret).await.unwrap();
    shop.until_ready("global").await;
}
