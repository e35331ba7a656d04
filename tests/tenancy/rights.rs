//! Whoever has the operator's account has not the cluster: the chart's admission policy.

use std::{process::Command, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use usercert_operator::{api::DatabaseUserCertificate, controller::Scope};
use usercert_test_support::{
    atlas::X509Type,
    control_plane::{config_of, repository, tool},
};

use crate::{
    adoption::adopt_own,
    harness::{Operator, Shop, eventually},
    stage::Stage,
};

pub async fn the_operators_account_writes_only_secrets_of_its_own(stage: &'static Stage) {
    let shop = stage.tenant("rights").await;
    let account = Client::try_from(shop.cluster.operator_config()).unwrap();
    attempts(stage, &shop, &account, ("the operator's account", "kube-system")).await;
}

/// What somebody with the operator's account tries.
async fn attempts(stage: &Stage, shop: &Shop, account: &Client, (whose, elsewhere): (&str, &str)) {
    shop.ca_issuer(300).await;
    shop.apply_secret("db-password", &[("password", "theirs")]).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    let uid = shop.get("orders").await.metadata.uid.unwrap();
    let owner = |uid: &str| json!([{ "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "name": "x", "uid": uid, "controller": true }]);
    let empty = json!({ "tls.crt": "", "tls.key": "" });
    let label = |uid: &str| json!({ "usercert.dev/certificate-uid": uid });
    let token = json!({ "name": "stolen", "annotations": { "kubernetes.io/service-account.name": "default" } });
    let mut own_token = token.clone();
    (own_token["labels"], own_token["ownerReferences"]) = (label(&uid), owner(&uid));
    for (what, namespace, type_, metadata, data) in [
        ("a token of a service account", elsewhere, "kubernetes.io/service-account-token", token, json!({})),
        ("the same with our label and owner", elsewhere, "kubernetes.io/service-account-token", own_token, json!({})),
        (
            "an opaque Secret with both",
            &shop.namespace,
            "Opaque",
            json!({ "name": "a", "labels": label(&uid), "ownerReferences": owner(&uid) }),
            json!({}),
        ),
        ("a TLS Secret without both", elsewhere, "kubernetes.io/tls", json!({ "name": "a" }), empty.clone()),
        ("one without an owner", elsewhere, "kubernetes.io/tls", json!({ "name": "a", "labels": label(&uid) }), empty.clone()),
        (
            "one whose owner is another than its label says",
            elsewhere,
            "kubernetes.io/tls",
            json!({ "name": "a", "labels": label("0"), "ownerReferences": owner(&uid) }),
            empty,
        ),
    ] {
        let secret: Secret =
            serde_json::from_value(json!({ "metadata": metadata, "type": type_, "stringData": data })).unwrap();
        let api = Api::<Secret>::namespaced(account.clone(), namespace);
        let attempt = async { denied(api.create(&PostParams::default(), &secret).await) };
        stage.attempt(6, &format!("with {whose}, create {what}"), attempt).await;
    }
    let own = Api::<Secret>::namespaced(account.clone(), &shop.namespace);
    let theirs =
        json!({ "metadata": { "labels": label(&uid), "ownerReferences": owner(&uid) }, "stringData": { "password": "ours" } });
    for (what, name, patch) in [
        ("a password", "db-password", theirs.clone()),
        ("the CA of an issuer", "ca", theirs),
        ("our own Secret, its owner taken away", "orders", json!({ "metadata": { "ownerReferences": null } })),
        (
            "our own Secret, retained without our label",
            "orders",
            json!({ "metadata": {
                "ownerReferences": null, "annotations": { "usercert.dev/retained-for": "x" },
                "labels": { "usercert.dev/certificate-uid": null },
            } }),
        ),
        (
            "our own Secret, its label taken away",
            "orders",
            json!({ "metadata": { "labels": { "usercert.dev/certificate-uid": null } } }),
        ),
    ] {
        let attempt = async { denied(own.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await) };
        stage.attempt(6, &format!("with {whose}, change {what}"), attempt).await;
    }
    assert!(own.delete("db-password", &Default::default()).await.is_err());
}

/// The policy's refusal.
pub fn denied<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> String {
    let refusal = result.unwrap_err().to_string();
    assert!(refusal.contains("ValidatingAdmissionPolicy"), "{refusal}");
    "denied by the admission policy".to_owned()
}

pub async fn in_namespaced_mode_the_policy_lets_everything_work_that_should(stage: &'static Stage) {
    let shop = stage.tenant("fenced").await;
    // The operator of the whole cluster would serve this namespace too.
    shop.cluster.kill_operator();
    install(&shop);
    let kubeconfig = shop.cluster.control_plane.service_account_kubeconfig("fenced-system", "fenced").await.unwrap();
    let mut config = config_of(&kubeconfig).await.unwrap();
    config.default_retry = false;
    let account = Client::try_from(config.clone()).unwrap();
    eventually("the policy is in force", || async {
        let secret: Secret = serde_json::from_value(json!({ "metadata": { "name": "tried" } })).unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let refusal = Api::namespaced(account.clone(), "fenced").create(&dry_run, &secret).await.err()?;
        refusal.to_string().contains("ValidatingAdmissionPolicy").then_some(())
    })
    .await;
    let operator = Arc::new(Operator::new(config, vec![Scope::Namespace("fenced".to_owned())], shop.cluster.atlas.url()));
    let readiness = operator.start(&tokio::runtime::Handle::current());
    eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    what_the_operator_does_is_admitted(&shop).await;
    operator.kill();
    shop.cluster.start_operator().await;
    attempts(stage, &shop, &account, ("its account in namespaced mode", "fenced")).await;
}

fn install(shop: &Shop) {
    let output = Command::new(tool("helm").unwrap())
        .args(["install", "fenced", &repository().join("charts/usercert-operator").display().to_string()])
        .args(["--namespace", "fenced-system", "--create-namespace", "--set", "replicaCount=0,crds.install=false"])
        .args(["--set", "watchNamespaces={fenced},admissionPolicy.enabled=true,fullnameOverride=fenced"])
        .env("KUBECONFIG", shop.cluster.control_plane.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Issue, renewal, repair, adoption, a Secret of the wrong type, and Atlas with its dry run. The other tests of this operator do so in
/// whole-cluster mode, where the policy is in force by default.
async fn what_the_operator_does_is_admitted(shop: &Shop) {
    shop.ca_issuer(300).await;
    shop.certificate("works", "ca", json!({})).await;
    let serial = shop.until_ready("works").await.serial_number.unwrap();
    shop.annotate("works", "usercert.dev/renew-requested-at", "1").await;
    shop.until_new_serial("works", &serial).await;
    let spoilt: Value =
        json!({ "stringData": { "tls.crt": "garbage" }, "metadata": { "labels": { "usercert.dev/certificate-uid": null } } });
    shop.patch_secret("works", spoilt).await;
    shop.until_event("works", "SecretRepaired").await;
    adopt_own(shop, "works").await;
    one_is_retained_and_taken_up_again(shop).await;
    one_of_a_wrong_type_is_renewed(shop, "works").await;

    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "fenced-user", X509Type::Managed);
    shop.certificate("fenced-user", "atlas", json!({})).await;
    let serial = shop.until_ready("fenced-user").await.serial_number.unwrap();
    shop.annotate("fenced-user", "usercert.dev/renew-requested-at", "1").await;
    shop.until_new_serial("fenced-user", &serial).await;
    let requests = shop.cluster.control_plane.audit().unwrap();
    assert!(requests.iter().any(|event| event.namespace == "fenced" && event.dry_run && event.user.contains("fenced-system")));
}

/// With a renewal, a changed policy both ways, and an object of its name.
async fn one_is_retained_and_taken_up_again(shop: &Shop) {
    let retain = |policy: &str| json!({ "deletionPolicy": policy });
    shop.certificate("retained", "ca", retain("Retain")).await;
    let serial = shop.until_ready("retained").await.serial_number.unwrap();
    shop.annotate("retained", "usercert.dev/renew-requested-at", "1").await;
    let serial = shop.until_new_serial("retained", &serial).await.serial_number;
    for (policy, controllers) in [("Delete", 1), ("Retain", 0)] {
        shop.certificate("retained", "ca", retain(policy)).await;
        eventually(&format!("{policy} is carried out"), || async {
            let owners = shop.secret("retained").await?.metadata.owner_references.unwrap_or_default();
            (owners.len() == controllers).then_some(())
        })
        .await;
    }
    shop.delete::<DatabaseUserCertificate>("retained").await;
    eventually("the object is gone", || async {
        shop.api::<DatabaseUserCertificate>().get_opt("retained").await.unwrap().is_none().then_some(())
    })
    .await;
    shop.certificate("retained", "ca", retain("Retain")).await;
    assert_eq!(shop.until_ready("retained").await.serial_number, serial);
}

/// As a restore may bring it back.
async fn one_of_a_wrong_type_is_renewed(shop: &Shop, name: &str) {
    let mut secret = shop.secret(name).await.unwrap();
    secret.type_ = Some("Opaque".to_owned());
    (secret.metadata.resource_version, secret.metadata.uid) = (None, None);
    let api = shop.api::<Secret>();
    eventually("it takes the place of the operator's own", || async {
        let _ = api.delete(name, &Default::default()).await;
        api.create(&PostParams::default(), &secret).await.ok()
    })
    .await;
    shop.until(name, "Issuing", "False SecretTypeWrong").await;
    let serial = shop.status(name).await.serial_number.unwrap();
    shop.annotate(name, "usercert.dev/renew-requested-at", "2").await;
    shop.until_new_serial(name, &serial).await;
    let renewed = shop.secret(name).await.unwrap();
    assert_eq!(renewed.type_.as_deref(), Some("Opaque"));
    assert_ne!(renewed.data, secret.data);
}
