//! Beside the Atlas Kubernetes Operator: its objects are referred to, never written, and their kinds may be absent.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use usercert_operator::api::{ClusterCertificateIssuer, DatabaseUserCertificate, condition};
use usercert_test_support::atlas::X509Type;

use crate::{
    CLUSTER,
    harness::{
        LENT, OPERATOR, PRIVATE_API_KEY, Shop,
        atlas_objects::{certificate_for, kinds, put, ready, serve_kinds, user, user_in},
        create_namespace, eventually,
    },
    open,
};

#[tokio::test]
async fn its_objects_are_found_when_they_come_followed_while_they_are_there_and_not_needed_when_they_go() {
    let shop = open("beside").await;
    let (name, elsewhere) = (shop.name("orders"), shop.name("customer"));
    shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
    certificate_for(&shop, "orders", "atlas-orders").await;
    shop.until("orders", "Ready", "False AtlasObjectNotFound").await;
    assert!(shop.message("orders", "Ready").await.contains("does not serve its kind"));

    serve_kinds(&shop.client).await;
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

    what_is_not_current_or_on_its_way_out_is_not_served(&shop).await;
    issuers_may_refer_to_projects(&shop).await;
    a_forged_user_gets_nothing(&shop).await;
    lent_credentials_serve_and_what_is_wrong_with_them_is_told_alike(&shop).await;
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
    let mut with_own = issuer(json!({ "name": "lending", "namespace": null }));
    with_own["spec"]["atlas"]["credentialsSecretRef"] = json!({ "name": "their-key" });
    shop.apply(with_own).await;
    shop.until_issuer("by-project", "True IssuerReady").await;
}

/// Leads a cluster issuer by a tenant's project to a Secret that the tenant chooses.
async fn until_cluster_issuer(shop: &Shop, namespace: &str, project: &str, expected: &str) {
    let name = shop.name("cluster");
    let reference = json!({ "name": project, "namespace": namespace });
    let issuer = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "ClusterCertificateIssuer", "metadata": { "name": name },
        "spec": { "atlas": { "projectRef": reference, "endpoint": shop.endpoint } },
    });
    let issuers = Api::<ClusterCertificateIssuer>::all(shop.client.clone());
    issuers.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(issuer)).await.unwrap();
    eventually(expected, || async {
        let status = issuers.get(&name).await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "Ready").is_some_and(|ready| ready.reason == expected).then_some(())
    })
    .await;
}

async fn what_is_not_current_or_on_its_way_out_is_not_served(shop: &Shop) {
    let name = shop.name("forged");
    put(shop, "AtlasDatabaseUser", "stale", user(&name, "MANAGED"), ready("True")).await;
    let status = json!({ "status": { "observedGeneration": null } });
    kinds(shop, "AtlasDatabaseUser").patch_status("stale", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    certificate_for(shop, "stale", "stale").await;
    shop.until("stale", "Ready", "False AtlasObjectNotReady").await;

    put(shop, "AtlasDatabaseUser", "leaving", user(&name, "MANAGED"), ready("True")).await;
    let finalizers = |finalizers: Value| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    let users = kinds(shop, "AtlasDatabaseUser");
    users.patch("leaving", &PatchParams::default(), &finalizers(json!(["test.usercert.dev/kept"]))).await.unwrap();
    users.delete("leaving", &Default::default()).await.unwrap();
    certificate_for(shop, "leaving", "leaving").await;
    shop.until("leaving", "Ready", "False AtlasObjectNotReady").await;
    assert!(shop.message("leaving", "Ready").await.contains("is being deleted"));
    users.patch("leaving", &PatchParams::default(), &finalizers(json!([]))).await.unwrap();
    shop.until("leaving", "Ready", "False AtlasObjectNotFound").await;
    assert!(shop.cluster.atlas.mints_of(&name).is_empty());
}

/// A tenant with all rights in its own namespace alone, statuses included.
async fn a_forged_user_gets_nothing(victim: &Shop) {
    let forger = open("forger").await;
    let name = forger.name("victim-s-user");
    victim.cluster.atlas.add_user(&victim.project, &name, X509Type::Managed);
    let asked = || victim.cluster.atlas.requests().iter().filter(|request| request.target.contains(&name)).count();
    let project = |secret: &str| json!({ "connectionSecretRef": { "name": secret, "namespace": victim.namespace } });
    let id = json!({ "id": victim.project });
    // Projects of its own, that name a Secret of the victim which exists and one which does not.
    put(&forger, "AtlasProject", "there", project("their-key"), id.clone()).await;
    put(&forger, "AtlasProject", "not-there", project("no-such-secret"), id.clone()).await;
    let mut messages = Vec::new();
    for (certificate, namespace, project) in [
        ("project", &victim.namespace, "project"),
        ("no-project", &victim.namespace, "no-such-project"),
        ("secret", &forger.namespace, "there"),
        ("no-secret", &forger.namespace, "not-there"),
    ] {
        put(&forger, "AtlasDatabaseUser", certificate, user_in(&name, namespace, project), ready("True")).await;
        certificate_for(&forger, certificate, certificate).await;
        forger.until(certificate, "Ready", "False CredentialsNotLent").await;
        forger.until_event(certificate, "CredentialsNotLent").await;
        messages.push(forger.message(certificate, "Ready").await);
    }
    assert!(messages[0].contains("atlas.lendCredentialsTo"), "{messages:?}");
    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
    // The operator's own credentials neither.
    put(&forger, "AtlasProject", "bare", json!({}), id).await;
    put(&forger, "AtlasDatabaseUser", "bare", user_in(&name, &forger.namespace, "bare"), ready("True")).await;
    certificate_for(&forger, "bare", "bare").await;
    forger.until("bare", "Ready", "False CredentialsNotFound").await;
    // Nor by way of the administrator's own issuer.
    until_cluster_issuer(&forger, &forger.namespace, "there", "CredentialsNotLent").await;
    until_cluster_issuer(&forger, &forger.namespace, "not-there", "CredentialsNotLent").await;

    forger.assert_quiet().await;
    assert_eq!((asked(), victim.cluster.atlas.mints_of(&name).len()), (0, 0), "the victim's key was used");
    let audit = victim.cluster.control_plane.audit().unwrap();
    let looked = audit.iter().filter(|event| event.user == OPERATOR && event.uri.contains("no-such-"));
    assert_eq!(looked.count(), 0, "nothing of another namespace is looked at");
}

async fn lent_credentials_serve_and_what_is_wrong_with_them_is_told_alike(owner: &Shop) {
    let lent = Shop::in_namespace(&CLUSTER, LENT).await;
    create_namespace(&lent.client, LENT).await;
    let serve = async |certificate: &str, namespace: &str, project: &str| {
        let name = lent.name(certificate);
        owner.cluster.atlas.add_user(&owner.project, &name, X509Type::Managed);
        put(&lent, "AtlasDatabaseUser", certificate, user_in(&name, namespace, project), ready("True")).await;
        certificate_for(&lent, certificate, certificate).await;
    };
    serve("project", &owner.namespace, "project").await;
    lent.until_ready("project").await;

    let key = |name: &str, label: &str, key: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "labels": { label: "credentials" } },
            "stringData": { "orgId": "o", "publicApiKey": owner.public_key, "privateApiKey": key },
        })
    };
    owner.apply(key("unlabelled", "atlas.mongodb.com/kind", PRIVATE_API_KEY)).await;
    owner.apply(key("empty", "atlas.mongodb.com/type", "")).await;
    let id = json!({ "id": owner.project });
    let mut messages = Vec::new();
    for (certificate, secret, id) in [
        ("unlabelled", "unlabelled", id.clone()),
        ("missing", "missing", id.clone()),
        ("empty", "empty", id.clone()),
        ("not-ready", "their-key", json!({})),
        ("no-project", "", json!({})),
    ] {
        let reference = json!({ "connectionSecretRef": { "name": secret } });
        if !secret.is_empty() {
            put(owner, "AtlasProject", certificate, reference, id).await;
        }
        serve(certificate, &owner.namespace, certificate).await;
        lent.until(certificate, "Ready", "False LentCredentialsUnusable").await;
        messages.push(lent.message(certificate, "Ready").await);
    }
    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
    let log = lent.cluster.log.text();
    for detail in ["Secret unlabelled in namespace", "Secret missing in namespace", "AtlasProject no-project in namespace"] {
        assert!(log.contains(&format!("the {detail} {}", owner.namespace)), "the log has the rest: {detail}");
    }
    // A label that comes makes it one that is lent; the operator's own credentials need it too.
    owner.apply(key("unlabelled", "atlas.mongodb.com/type", PRIVATE_API_KEY)).await;
    lent.until_ready("unlabelled").await;

    // Of those that Atlas refuses a metric tells. There is no issuer that could.
    owner.apply(key("refused", "atlas.mongodb.com/type", "revoked")).await;
    put(owner, "AtlasProject", "refused", json!({ "connectionSecretRef": { "name": "refused" } }), id).await;
    serve("refused", &owner.namespace, "refused").await;
    lent.until("refused", "Ready", "False AtlasUnauthorized").await;
    let series = format!(
        "usercert_credentials_refused{{kind=\"userRef\",namespace=\"{LENT}\",name=\"\",reason=\"AtlasUnauthorized\"}} 1\n"
    );
    let is_told = || lent.cluster.metrics.encode().unwrap().contains(&series);
    eventually("it is told", || async { is_told().then_some(()) }).await;
    owner.apply(key("refused", "atlas.mongodb.com/type", PRIVATE_API_KEY)).await;
    lent.until_ready("refused").await;
    eventually("it is told no more", || async { (!is_told()).then_some(()) }).await;
    the_operator_s_own_credentials_serve_who_names_none(&lent, owner).await;
}

async fn the_operator_s_own_credentials_serve_who_names_none(lent: &Shop, owner: &Shop) {
    let name = lent.name("global");
    owner.cluster.atlas.add_user(&owner.project, &name, X509Type::Managed);
    put(lent, "AtlasProject", "bare", json!({}), json!({ "id": owner.project })).await;
    put(lent, "AtlasDatabaseUser", "global", user_in(&name, LENT, "bare"), ready("True")).await;
    certificate_for(lent, "global", "global").await;
    lent.until("global", "Ready", "False LentCredentialsUnusable").await;
    create_namespace(&lent.client, "mongodb-atlas-system").await;
    let system = Shop::in_namespace(&CLUSTER, "mongodb-atlas-system").await;
    let secret = |labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mongodb-atlas-operator-api-key", "labels": labels },
            "stringData": { "orgId": "o", "publicApiKey": owner.public_key, "privateApiKey": PRIVATE_API_KEY },
        })
    };
    system.apply(secret(json!({}))).await;
    eventually("the label is missed", || async {
        lent.cluster.log.text().contains("mongodb-atlas-operator-api-key in namespace mongodb-atlas-system lacks").then_some(())
    })
    .await;
    assert_eq!(lent.condition("global", "Ready").await, "False LentCredentialsUnusable");
    system.apply(secret(json!({ "atlas.mongodb.com/type": "credentials" }))).await;
    lent.until_ready("global").await;
}
