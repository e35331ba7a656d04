//! `spec.connection`: what the Secret then says of the database, and for how long.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use usercert_operator::connection::ENTRY_NAMES;
use usercert_test_support::atlas::X509Type;

use crate::{
    harness::{Shop, eventually},
    open,
};

/// The entries of a Secret that tell of the connection.
async fn entries(shop: &Shop, secret: &str) -> BTreeMap<String, String> {
    let data = shop.secret(secret).await.and_then(|secret| secret.data).unwrap_or_default();
    let told = data.into_iter().filter(|(name, _)| ENTRY_NAMES.contains(&name.as_str()));
    told.map(|(name, value)| (name, String::from_utf8(value.0).unwrap())).collect()
}

fn postgresql() -> Value {
    json!({ "type": "postgresql", "hosts": ["db.example:6543"], "database": "shop", "serverCAFile": "ca.crt", "mountPath": "/certs", "provider": "acme" })
}

#[tokio::test]
async fn entries_come_change_and_go_with_the_connection_and_cost_no_certificate() {
    let shop = open("connected").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let issued = shop.until_ready("orders").await;
    assert_eq!(entries(&shop, "orders").await, BTreeMap::new());
    assert_eq!(issued.binding, None);
    shop.patch_secret("orders", json!({ "stringData": { "theirs": "x" } })).await;

    shop.certificate("orders", "ca", json!({ "connection": postgresql() })).await;
    eventually("the entries of the connection", || async { entries(&shop, "orders").await.contains_key("uri").then_some(()) })
        .await;
    let told = entries(&shop, "orders").await;
    assert_eq!(told.len(), ENTRY_NAMES.len(), "{:?}", told.keys());
    for (name, value) in [
        ("type", "postgresql"),
        ("provider", "acme"),
        ("host", "db.example"),
        ("port", "6543"),
        ("database", "shop"),
        ("username", "orders"),
        (
            "uri",
            "postgresql://orders@db.example:6543/shop?sslmode=verify-full&sslcert=%2Fcerts%2Ftls.crt&sslkey=%2Fcerts%2Ftls.key&sslrootcert=%2Fcerts%2Fca.crt",
        ),
        ("certificates", &shop.value("orders", "ca.crt").await),
        ("private-key", &shop.value("orders", "tls.key").await),
    ] {
        assert_eq!(told[name], value, "{name}");
    }
    eventually("the binding", || async { shop.status("orders").await.binding.filter(|binding| binding.name == "orders") })
        .await;

    let mongodb = json!({ "hosts": ["a", "b"], "mountPath": "/certs" });
    shop.certificate("orders", "ca", json!({ "connection": mongodb })).await;
    eventually("the entries of another connection", || async {
        let told = entries(&shop, "orders").await;
        (told.get("type").map(String::as_str) == Some("mongodb")).then_some(())
    })
    .await;
    let told = entries(&shop, "orders").await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["private-key", "type", "uri", "username"]);
    assert_eq!(told["username"], "CN=orders");

    let edited = json!({ "stringData": { "uri": "mongodb://elsewhere" }, "data": { "type": null } });
    shop.patch_secret("orders", edited).await;
    eventually("what others change is put back", || async { (entries(&shop, "orders").await == told).then_some(()) }).await;

    shop.certificate("orders", "ca", json!({})).await;
    eventually("no entries", || async { entries(&shop, "orders").await.is_empty().then_some(()) }).await;
    eventually("no binding", || async { shop.status("orders").await.binding.is_none().then_some(()) }).await;
    assert_eq!(shop.value("orders", "theirs").await, "x");
    let after = shop.until_ready("orders").await;
    assert_eq!((after.serial_number, after.history.len()), (issued.serial_number, 1), "all of this cost no certificate");
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_renewal_leaves_the_uri_and_brings_the_new_key() {
    let shop = open("reconnected").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({ "connection": postgresql() })).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    let before = entries(&shop, "orders").await;
    shop.annotate("orders", "usercert.dev/renew-requested-at", "now").await;
    shop.until_new_serial("orders", &serial).await;
    shop.until_ready("orders").await;
    let after = entries(&shop, "orders").await;
    assert_eq!(after["uri"], before["uri"]);
    assert_ne!(after["private-key"], before["private-key"]);
    assert_eq!(after["private-key"], shop.value("orders", "tls.key").await);
    assert_eq!(shop.status("orders").await.binding.unwrap().name, "orders");
}

#[tokio::test]
async fn a_new_user_of_one_subject_is_named_without_a_new_certificate() {
    let shop = open("renamed").await;
    shop.ca_issuer(30).await;
    let named = |username: &str| json!({ "username": username, "subject": "CN=service", "connection": postgresql() });
    shop.certificate("orders", "ca", named("one")).await;
    let serial = shop.until_ready("orders").await.serial_number;
    assert_eq!(entries(&shop, "orders").await["username"], "one");
    shop.certificate("orders", "ca", named("two")).await;
    eventually("the new user", || async { (entries(&shop, "orders").await["username"] == "two").then_some(()) }).await;
    assert!(entries(&shop, "orders").await["uri"].starts_with("postgresql://two@"));
    assert_eq!(shop.until_ready("orders").await.serial_number, serial);
}

#[tokio::test]
async fn while_no_certificate_for_the_new_user_can_be_had_the_uri_is_for_the_old_one() {
    let shop = open("unrenamed").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({ "connection": postgresql() })).await;
    shop.until_ready("orders").await;
    let before = entries(&shop, "orders").await;
    let mut refusing = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" }, "allow": { "usernames": ["orders"] } },
    });
    shop.apply(refusing.take()).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let elsewhere = json!({ "hosts": ["elsewhere.example"] });
    let mut connection = postgresql();
    connection["hosts"] = elsewhere["hosts"].clone();
    shop.certificate("orders", "ca", json!({ "username": "reports", "connection": connection })).await;
    shop.until("orders", "Issuing", "False IssuerNotAllowed").await;
    eventually("the new host", || async { (entries(&shop, "orders").await["host"] == "elsewhere.example").then_some(()) })
        .await;
    let after = entries(&shop, "orders").await;
    assert_eq!((&after["username"], &after["private-key"]), (&before["username"], &before["private-key"]));
    assert!(after["uri"].starts_with("postgresql://orders@elsewhere.example/"), "{}", after["uri"]);
}

#[tokio::test]
async fn a_certificate_from_atlas_comes_with_a_uri_and_not_for_other_databases() {
    let shop = open("connected-atlas").await;
    shop.atlas_issuer().await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    let connection = json!({ "srv": "cluster0.ab1cd.mongodb.net", "mountPath": "/certs" });
    shop.certificate(&user, "atlas", json!({ "connection": connection })).await;
    shop.until_ready(&user).await;
    let told = entries(&shop, &user).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["private-key", "type", "uri", "username"]);
    assert_eq!(told["username"], format!("CN={user}"));
    for (more, words) in [
        (json!({ "serverCAFile": "ca.crt" }), "remove spec.connection.serverCAFile"),
        (
            json!({ "type": "postgresql", "hosts": ["a"], "srv": null, "serverCAFile": "/ca" }),
            "set spec.connection.type to mongodb",
        ),
    ] {
        let mut wrong = connection.clone();
        for (name, value) in more.as_object().unwrap() {
            wrong[name] = value.clone();
        }
        shop.certificate(&user, "atlas", json!({ "connection": wrong })).await;
        shop.until(&user, "Issuing", "False InvalidSpec").await;
        eventually("the field to change", || async { shop.message(&user, "Issuing").await.contains(words).then_some(()) })
            .await;
        assert_eq!(shop.condition(&user, "Ready").await, "True Issued", "the certificate works");
    }
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
}

#[tokio::test]
async fn the_uris_of_the_page_are_those_of_its_examples() {
    let shop = open("documented").await;
    shop.ca_issuer(30).await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders", X509Type::Managed);
    let page = include_str!("../../docs/connection.md");
    let blocks: Vec<(&str, &str)> = page
        .split("\n```")
        .filter_map(|block| {
            block
                .strip_prefix("yaml\n")
                .map(|yaml| ("yaml", yaml))
                .or_else(|| block.strip_prefix("text\n").map(|text| ("text", text)))
        })
        .collect();
    let examples: Vec<(Value, &str)> = blocks
        .windows(2)
        .filter(|pair| pair[0].0 == "yaml" && pair[1].0 == "text")
        .map(|pair| (serde_saphyr::from_str(pair[0].1).unwrap(), pair[1].1.trim()))
        .collect();
    assert_eq!(examples.len(), 4);
    for (example, uri) in examples {
        let name = shop.apply(example).await.name_any();
        shop.until_ready(&name).await;
        assert_eq!(entries(&shop, &name).await["uri"], uri);
    }
}

#[tokio::test]
async fn the_definition_says_that_it_is_a_provisioned_service() {
    let shop = open("discovered").await;
    let definitions = Api::<CustomResourceDefinition>::all(shop.client.clone());
    let found = definitions.get("databaseusercertificates.usercert.dev").await.unwrap();
    assert_eq!(found.labels()["servicebinding.io/provisioned-service"], "true");
}
