//! An `AtlasDatabaseUser` or an `AtlasProject` of one's own, with a status of one's own, leads to nothing of another namespace.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use serde_json::json;
use usercert_test_support::atlas::X509Type;

use crate::{
    harness::{
        OPERATOR, PRIVATE_API_KEY, Shop,
        atlas_objects::{certificate_for, put, ready, serve_kinds, user_in},
        eventually,
    },
    stage::{Stage, refused},
};

pub async fn a_forged_user_leads_to_nothing_of_another_namespace(stage: &'static Stage) {
    serve_kinds(&stage.admin().await).await;
    let (victim, forger) = (stage.tenant("victim").await, stage.tenant("forger").await);
    for tenant in [&victim, &forger] {
        let admin = stage.admin().await;
        may_write_atlas_objects(tenant, admin).await;
    }
    victim.apply(credentials(&victim)).await;
    let (id, key) =
        (json!({ "id": victim.project }), json!({ "connectionSecretRef": { "name": "key", "namespace": "victim" } }));
    put(&victim, "AtlasProject", "project", key.clone(), id.clone()).await;
    let name = victim.name("orders");
    victim.cluster.atlas.add_user(&victim.project, &name, X509Type::Managed);
    put(&forger, "AtlasProject", "of-key", key, id.clone()).await;
    let absent = json!({ "connectionSecretRef": { "name": "no-such-key", "namespace": "victim" } });
    put(&forger, "AtlasProject", "of-no-key", absent, id.clone()).await;
    put(&forger, "AtlasProject", "bare", json!({}), id).await;
    let mut told = Vec::new();
    for (what, certificate, namespace, project, reason) in [
        ("a forged user of the victim's project", "a", "victim", "project", "CredentialsNotLent"),
        ("a forged user of a project that is not there", "b", "victim", "no-such-project", "CredentialsNotLent"),
        ("a project of one's own with the victim's Secret", "c", "forger", "of-key", "CredentialsNotLent"),
        ("a project of one's own with a Secret that is not there", "d", "forger", "of-no-key", "CredentialsNotLent"),
        ("a project of one's own with the operator's credentials", "e", "forger", "bare", "CredentialsNotFound"),
    ] {
        put(&forger, "AtlasDatabaseUser", certificate, user_in(&name, namespace, project), ready("True")).await;
        let attempt = async {
            certificate_for(&forger, certificate, certificate).await;
            refused(&forger, certificate, reason).await
        };
        stage.attempt(4, what, attempt).await;
        told.push(forger.message(certificate, "Ready").await);
    }
    assert!(told[..4].iter().all(|message| *message == told[0]), "what is there is not told: {told:?}");
    let atlas = &victim.cluster.atlas;
    assert!(atlas.mints_of(&name).is_empty() && !atlas.requests().iter().any(|asked| asked.target.contains(&name)));
    let audit = victim.cluster.control_plane.audit().unwrap();
    assert!(!audit.iter().any(|event| event.user == OPERATOR && event.uri.contains("no-such-")), "nothing is looked for");
    // Whose it is has it.
    put(&victim, "AtlasDatabaseUser", "orders", user_in(&name, "victim", "project"), ready("True")).await;
    certificate_for(&victim, "orders", "orders").await;
    victim.until_ready("orders").await;
}

fn credentials(owner: &Shop) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "key", "labels": { "atlas.mongodb.com/type": "credentials" } },
        "stringData": { "orgId": "o", "publicApiKey": owner.public_key, "privateApiKey": PRIVATE_API_KEY },
    })
}

/// The right to write objects of the Atlas Kubernetes Operator in the tenant's namespace, their statuses included.
async fn may_write_atlas_objects(tenant: &Shop, admin: kube::Client) {
    let rights = json!([{ "apiGroups": ["atlas.mongodb.com"], "resources": ["*"], "verbs": ["*"] }]);
    let role: Role = serde_json::from_value(json!({ "metadata": { "name": "atlas" }, "rules": rights })).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "atlas" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "atlas" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("tenant-of-{}", tenant.namespace) }],
    }))
    .unwrap();
    Api::<Role>::namespaced(admin.clone(), &tenant.namespace).create(&PostParams::default(), &role).await.unwrap();
    Api::<RoleBinding>::namespaced(admin, &tenant.namespace).create(&PostParams::default(), &binding).await.unwrap();
    eventually("the tenant has its rights", || async {
        crate::harness::atlas_objects::kinds(tenant, "AtlasProject").list(&Default::default()).await.ok()
    })
    .await;
}
