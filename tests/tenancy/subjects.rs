//! A user name that is allowed allows no other subject.

use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use crate::{
    harness::Shop,
    stage::{Stage, refused},
};

fn by_cluster_issuer(issuer: &str, username: &str, subject: Option<&str>) -> Value {
    let reference = json!({ "kind": "ClusterCertificateIssuer", "name": issuer });
    let mut spec = json!({ "username": username, "issuerRef": reference });
    if let Some(subject) = subject {
        spec["subject"] = json!(subject);
    }
    spec
}

pub async fn the_signed_subject_is_what_is_allowed(stage: &'static Stage) {
    let (shop, other) = (stage.tenant("shop").await, stage.tenant("shop-eu").await);
    let namespaces = json!({ "names": ["shop", "shop-eu"] });
    stage.cluster_issuer("users", json!({}), json!({ "namespaces": namespaces, "usernames": ["{{namespace}}.*"] })).await;
    stage.cluster_issuer("by-end", json!({}), json!({ "namespaces": namespaces, "usernames": ["*.{{namespace}}"] })).await;
    for (number, (issuer, username, subject)) in [
        ("users", "shop.x", Some("CN=mongo-0,OU=members,O=Acme")),
        ("users", "shop.x", Some("CN=shop-eu.orders")),
        ("users", "shop.x", Some("CN=postgres")),
        ("users", "shop.x", Some("UID=root+CN=shop.x,DC=acme")),
        ("users", "CN=shop.x,OU=members,O=Acme", None),
        ("users", "shop-eu.orders", None),
        ("by-end", "CN=postgres,O=Acme,OU=x.shop", None),
    ]
    .into_iter()
    .enumerate()
    {
        let what = subject.map_or_else(|| format!("username {username}"), |subject| format!("subject {subject}"));
        let name = format!("attempt-{number}");
        let attempt = async {
            shop.certificate(&name, "", by_cluster_issuer(issuer, username, subject)).await;
            refused(&shop, &name, "IssuerNotAllowed").await
        };
        stage.attempt(1, &what, attempt).await;
    }
    each_attempt_is_seen(&shop).await;
    let long = "long".repeat(63);
    shop.certificate(&long, "", by_cluster_issuer("users", "postgres", None)).await;
    shop.until(&long, "Ready", "False IssuerNotAllowed").await;
    crate::harness::eventually("an Event about an object with a long name", || async {
        let events = shop.api::<Event>().list(&Default::default()).await.unwrap().items;
        events.into_iter().find(|event| event.note.as_ref().is_some_and(|note| note.contains("\"postgres\"")))
    })
    .await;
    shop.certificate("own", "", by_cluster_issuer("users", "shop.orders", None)).await;
    assert_eq!(shop.until_ready("own").await.subject.as_deref(), Some("CN=shop.orders"));
    other.certificate("own", "", by_cluster_issuer("users", "shop-eu.orders", None)).await;
    other.until_ready("own").await;
}

/// One object that is changed again and again leaves one count for each attempt, and an Event that says what was tried.
async fn each_attempt_is_seen(shop: &Shop) {
    let counted = || {
        let metrics = shop.cluster.metrics.encode().unwrap();
        let line =
            metrics.lines().find(|line| line.starts_with("usercert_warnings_total{reason=\"IssuerNotAllowed\"}")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = counted();
    for name in ["CN=root", "CN=admin"] {
        shop.certificate("attempt-1", "", by_cluster_issuer("users", "shop.x", Some(name))).await;
        crate::harness::eventually("the attempt is answered", || async {
            shop.message("attempt-1", "Ready").await.contains(name).then_some(())
        })
        .await;
    }
    crate::harness::eventually("both are counted", || async { (counted() == before + 2).then_some(()) }).await;
    for name in ["CN=root", "CN=admin"] {
        crate::harness::eventually("an Event tells of it", || async {
            let events = shop.api::<Event>().list(&Default::default()).await.unwrap().items;
            events.into_iter().find(|event| event.note.as_ref().is_some_and(|note| note.contains(name)))
        })
        .await;
    }
}

pub async fn members_of_the_database_are_signed_for_nobody(stage: &'static Stage) {
    let shop = stage.tenant("members").await;
    shop.ca_issuer(300).await;
    let issuer = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca", "forbiddenSubjects": ["OU=members,O=Acme"] } },
    });
    shop.apply(issuer).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    for (number, subject) in ["CN=mongo-0,OU=members,O=Acme", "CN=x,O=acme,L=Bonn,OU=Members"].into_iter().enumerate() {
        let name = format!("member-{number}");
        let attempt = async {
            shop.certificate(&name, "ca", json!({ "subject": subject })).await;
            refused(&shop, &name, "IssuerNotAllowed").await
        };
        stage.attempt(1, &format!("a member's subject: {subject}"), attempt).await;
    }
    shop.certificate("apps", "ca", json!({ "subject": "CN=apps,OU=apps,O=Acme" })).await;
    shop.until_ready("apps").await;
}
