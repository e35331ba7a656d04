//! What kstatus, Flux and Argo CD make of our objects, by the pieces of YAML in docs/gitops.md.

use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde_json::{Value, json};
use usercert_test_support::{
    atlas::{Fault, Refusal, X509Type},
    command::output_with_input,
    control_plane::tool,
};

use crate::{
    harness::{Shop, eventually},
    open,
};

/// The document of this kind in the page.
fn document(kind: &str) -> Value {
    let page = include_str!("../../docs/gitops.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut documents = blocks.map(yaml);
    documents.find(|document| document["kind"] == kind).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Asks the tool about one object.
fn verdict(object: &DynamicObject) -> Value {
    let argo = document("ConfigMap");
    let health = yaml(string(&argo["data"]["resource.customizations"]));
    let actions = yaml(string(&argo["data"]["resource.customizations.actions.usercert.dev_DatabaseUserCertificate"]));
    let question = json!({
        "objects": [object],
        "healthChecks": document("Kustomization")["spec"]["healthCheckExprs"],
        "healthLua": health["usercert.dev/*"]["health.lua"],
        "discoveryLua": actions["discovery.lua"],
        "actionLua": actions["definitions"][0]["action.lua"],
    });
    let output = output_with_input(&mut Command::new(tool("gitops").unwrap()), &question.to_string()).unwrap();
    assert!(output.status.success(), "{} about {question:#}", String::from_utf8_lossy(&output.stderr));
    let mut answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    answers[0].take()
}

/// What kstatus, Flux and Argo CD say, in this order.
fn short(verdict: &Value) -> [String; 3] {
    [&verdict["kstatus"], &verdict["flux"], &verdict["argoHealth"]["status"]].map(|word| string(word).to_owned())
}

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("usercert.dev", "v1alpha1", kind))
}

async fn fetch(shop: &Shop, kind: &str, name: &str) -> DynamicObject {
    let api: Api<DynamicObject> = Api::namespaced_with(shop.client.clone(), &shop.namespace, &resource(kind));
    api.get(name).await.unwrap()
}

/// Waits until this is said of the object.
async fn until_said(shop: &Shop, kind: &str, name: &str, expected: [&str; 3]) -> Value {
    eventually(&format!("{kind} {name} is {expected:?}"), || async {
        let verdict = verdict(&fetch(shop, kind, name).await);
        (short(&verdict) == expected).then_some(verdict)
    })
    .await
}

const CERTIFICATE: &str = "DatabaseUserCertificate";
const ISSUER: &str = "CertificateIssuer";
const IN_PROGRESS: [&str; 3] = ["InProgress", "InProgress", "Progressing"];
const FAILED: [&str; 3] = ["Failed", "Failed", "Degraded"];
const CURRENT: [&str; 3] = ["Current", "Current", "Healthy"];

#[tokio::test]
async fn a_new_object_is_in_progress_before_the_operator_has_touched_it() {
    let shop = open("gitops-new").await;
    let issuer = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": ISSUER, "metadata": { "name": "new" },
        "spec": { "ca": { "secretName": "missing" } },
    });
    for manifest in [Shop::manifest("new", "missing", &json!({})), issuer] {
        let resource = resource(string(&manifest["kind"]));
        let api: Api<DynamicObject> = Api::namespaced_with(shop.client.clone(), &shop.namespace, &resource);
        let created = api.create(&PostParams::default(), &serde_json::from_value(manifest).unwrap()).await.unwrap();
        assert_eq!(created.data["status"]["observedGeneration"], -1);
        assert_eq!(short(&verdict(&created)), IN_PROGRESS);
    }
}

#[tokio::test]
async fn what_is_missing_is_in_progress_and_what_is_wrong_has_failed() {
    let shop = open("gitops-wrong").await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until("orders", "Ready", "False IssuerNotFound").await;
    until_said(&shop, CERTIFICATE, "orders", IN_PROGRESS).await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": ISSUER, "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.until_issuer("ca", "False CaNotFound").await;
    until_said(&shop, ISSUER, "ca", IN_PROGRESS).await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "ca" },
        "stringData": { "tls.crt": "garbage", "tls.key": "garbage" },
    }))
    .await;
    until_said(&shop, ISSUER, "ca", FAILED).await;
    let failed = until_said(&shop, CERTIFICATE, "orders", FAILED).await;
    assert!(string(&failed["argoHealth"]["message"]).starts_with("CaInvalid: "), "{failed}");
    shop.delete::<k8s_openapi::api::core::v1::Secret>("ca").await;
    shop.replace_ca(30).await;
    until_said(&shop, ISSUER, "ca", CURRENT).await;
    until_said(&shop, CERTIFICATE, "orders", CURRENT).await;
}

#[tokio::test]
async fn refused_credentials_show_in_the_issuer_and_a_failing_renewal_in_the_certificate_until_a_success() {
    let shop = open("gitops-refused").await;
    let (works, new) = (shop.name("works"), shop.name("new"));
    shop.atlas_issuer().await;
    for user in [&works, &new] {
        shop.cluster.atlas.add_user(&shop.project, user, X509Type::Managed);
    }
    shop.certificate(&works, "atlas", json!({})).await;
    shop.until_ready(&works).await;
    until_said(&shop, CERTIFICATE, &works, CURRENT).await;
    until_said(&shop, ISSUER, "atlas", CURRENT).await;

    for (status, reason) in [(401, "AtlasUnauthorized"), (402, "AtlasAccountSuspended"), (403, "AtlasForbidden")] {
        for user in [&works, &new] {
            shop.cluster.atlas.fault(user, Fault::Refuse(Refusal::new(status, "")));
        }
        shop.annotate(&works, "usercert.dev/renew-requested-at", reason).await;
        until_said(&shop, CERTIFICATE, &works, ["Current", "Failed", "Degraded"]).await;
        assert_eq!(shop.condition(&works, "RenewalFailed").await, format!("True {reason}"));
        shop.until_issuer("atlas", &format!("False {reason}")).await;
        until_said(&shop, ISSUER, "atlas", FAILED).await;

        shop.certificate(&new, "atlas", json!({ "monthsUntilExpiration": status - 400 })).await;
        shop.until(&new, "Stalled", &format!("True {reason}")).await;
        until_said(&shop, CERTIFICATE, &new, FAILED).await;
        for user in [&works, &new] {
            shop.cluster.atlas.clear_faults(user);
        }
        // The issuer keeps nobody from trying, and a success takes the condition away.
        let serial = shop.status(&works).await.serial_number.unwrap();
        shop.annotate(&works, "usercert.dev/renew-requested-at", &format!("after {reason}")).await;
        shop.until_new_serial(&works, &serial).await;
        until_said(&shop, ISSUER, "atlas", CURRENT).await;
        until_said(&shop, CERTIFICATE, &works, CURRENT).await;
        for gone in ["Stalled", "RenewalFailed"] {
            assert_eq!(shop.condition(&works, gone).await, "", "absent, not False");
        }
    }
}

#[tokio::test]
async fn a_suspended_object_has_neither_failed_nor_is_it_in_progress() {
    let shop = open("gitops-suspended").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    until_said(&shop, CERTIFICATE, "orders", CURRENT).await;
    shop.certificate("orders", "ca", json!({ "suspend": true })).await;
    let said = until_said(&shop, CERTIFICATE, "orders", ["Current", "Current", "Suspended"]).await;
    assert!(string(&said["argoHealth"]["message"]).contains("is valid until"), "{said}");

    // Without a certificate kstatus has to be told that waiting is of no use.
    shop.certificate("none", "ca", json!({ "suspend": true })).await;
    until_said(&shop, CERTIFICATE, "none", ["Failed", "Current", "Suspended"]).await;
    for name in ["orders", "none"] {
        shop.certificate(name, "ca", json!({})).await;
        until_said(&shop, CERTIFICATE, name, CURRENT).await;
    }
}

#[tokio::test]
async fn the_action_of_argo_cd_renews() {
    let shop = open("gitops-renew").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    let verdict = verdict(&fetch(&shop, CERTIFICATE, "orders").await);
    assert_eq!(verdict["argoActions"], json!({ "renew": { "disabled": false } }));
    let asked = &verdict["argoObject"]["metadata"]["annotations"]["usercert.dev/renew-requested-at"];
    assert!(string(asked).parse::<jiff::Timestamp>().is_ok(), "{asked}");
    shop.annotate("orders", "usercert.dev/renew-requested-at", string(asked)).await;
    shop.until_new_serial("orders", &serial).await;
}

/// Applies an object as Flux does in each round. Returns what that did.
fn applied_by_flux(shop: &Shop, object: &Value) -> String {
    let mut command = Command::new(tool("gitops").unwrap());
    command.arg("apply").env("KUBECONFIG", shop.cluster.control_plane.kubeconfig());
    let output = output_with_input(&mut command, &object.to_string()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn flux_does_not_undo_the_restart_of_a_workload() {
    let shop = open("flux").await;
    let in_git = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "orders", "namespace": shop.namespace },
        "spec": {
            "selector": { "matchLabels": { "app": "orders" } },
            "template": {
                "metadata": { "labels": { "app": "orders" }, "annotations": { "in-git": "stays" } },
                "spec": { "containers": [{ "name": "app", "image": "orders:1" }] },
            },
        },
    });
    assert_eq!(applied_by_flux(&shop, &in_git), "created");
    let deployments = Api::<Deployment>::namespaced(Client::try_from(shop.cluster.operator_config()).unwrap(), &shop.namespace);
    let moved = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": { "template": { "metadata": { "annotations": { "usercert.dev/serial-numbers": "orders=1" } } } },
    });
    let parameters = PatchParams::apply("usercert-operator-rollout").force();
    deployments.patch("orders", &parameters, &Patch::Apply(moved)).await.unwrap();
    assert_eq!(applied_by_flux(&shop, &in_git), "unchanged");

    let mut changed = in_git;
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("orders:2");
    assert_eq!(applied_by_flux(&shop, &changed), "configured");
    let found = deployments.get("orders").await.unwrap().spec.unwrap().template;
    let annotations = found.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations["usercert.dev/serial-numbers"], "orders=1");
    assert_eq!(found.spec.unwrap().containers[0].image.as_deref(), Some("orders:2"));
}
