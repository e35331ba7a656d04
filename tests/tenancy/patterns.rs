//! Patterns with `{{namespace}}` give no name to two namespaces.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use usercert_operator::{
    api::{AllowedUse, ClusterCertificateIssuer},
    decide::Allow,
};

use crate::{
    harness::eventually,
    stage::{Stage, refused},
};

/// The definition of cluster issuers.
pub const DEFINITION: &str = "clustercertificateissuers.usercert.dev";

pub async fn no_name_belongs_to_two_namespaces(stage: &'static Stage) {
    let admin = stage.admin().await;
    for list in [json!(["{{namespace}}-*"]), json!(["*-{{namespace}}"]), json!(["{{namespace}}.*", "*.{{namespace}}"])] {
        let attempt = async {
            let refusal = create(&admin, json!({ "usernames": list })).await.unwrap_err();
            assert!(refusal.contains("may allow one name to two namespaces"), "{refusal}");
            "the API server refuses the issuer".to_owned()
        };
        stage.attempt(2, &format!("usernames: {list}"), attempt).await;
    }
}

/// The verdict of the API server on an issuer that is not stored.
async fn create(admin: &Client, allow: Value) -> Result<(), String> {
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("usercert.dev", "v1alpha1", "ClusterCertificateIssuer"),
        "clustercertificateissuers",
    );
    let api: Api<DynamicObject> = Api::all_with(admin.clone(), &resource);
    let issuer = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "ClusterCertificateIssuer", "metadata": { "name": "tried" },
        "spec": { "ca": { "secretName": "ca" }, "allow": allow },
    });
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry_run, &serde_json::from_value(issuer).unwrap()).await.map(|_| ()).map_err(|error| error.to_string())
}

const USERNAMES: [&str; 19] = [
    "orders",
    "*",
    "{{namespace}}",
    "{{namespace}}.*",
    "{{namespace}}-*",
    "{{namespace}}*",
    "{{namespace}}x",
    "{{namespace}}}",
    "{{namespace}}{{namespace}}",
    "{{namespace}}.{{namespace}}",
    "*.{{namespace}}",
    "*-{{namespace}}",
    "*{{namespace}}",
    "x{{namespace}}",
    "x.{{namespace}}",
    "{{namespace}},a",
    "a,{{namespace}}",
    "CN={{namespace}}.*",
    "*@{{namespace}}.db",
];

const SUBJECTS: [&str; 20] = [
    "CN=orders,OU=apps",
    "CN=*,OU={{namespace}}",
    "CN={{namespace}},O=Acme",
    "CN={{namespace}}.*,O=Acme\\, Inc.",
    "CN={{namespace}}-*,O=Acme",
    "CN={{namespace}}\\2D*,O=Acme",
    "CN=*-{{name\\73pace}},O=Acme",
    "CN=*-\\7B{namespace}},O=Acme",
    "CN=*,O=Acme\\2A",
    "CN=*,O=B\\C3\\BCro",
    "CN={{namespace}}\\,x,O=Acme",
    "CN=a\\,{{namespace}},O=Acme",
    "CN=*.{{namespace}},O=Acme",
    "CN=*-{{namespace}},O=Acme",
    "OU={{namespace}},OU=*",
    "OU=*,OU={{namespace}}",
    "UID=*+OU={{namespace}}",
    "O={{namespace}}_x,CN=a",
    "CN={{namespace}}",
    "L={{namespace}},CN=a",
];

/// Each pattern alone, and with each other one.
fn lists<'a>(patterns: &'a [&'a str]) -> impl Iterator<Item = Vec<&'a str>> {
    let pairs = patterns
        .iter()
        .enumerate()
        .flat_map(move |(index, one)| patterns[index + 1..].iter().map(move |other| vec![*one, *other]));
    patterns.iter().map(|one| vec![*one]).chain(pairs)
}

fn every_list() -> Vec<Value> {
    let usernames = lists(&USERNAMES).map(|list| json!({ "usernames": list }));
    let subjects = lists(&SUBJECTS).map(|list| json!({ "subjects": list }));
    let both = lists(&USERNAMES[..4])
        .flat_map(|names| lists(&SUBJECTS[..3]).map(move |list| json!({ "usernames": names, "subjects": list })));
    usernames.chain(subjects).chain(both).collect()
}

/// Lists that keep namespaces apart and cost the API server as much as lists can: all is as it should be for each rule but the last, but for the
/// last pattern.
fn longest_lists() -> [Value; 2] {
    let username = |number| format!("{}{{{{namespace}}}}.{:x<240}", if number == 64 { "y." } else { "" }, "");
    let usernames: Vec<String> = (1..=64).map(username).collect();
    let subject = |number| {
        let value = if number == 64 { "y" } else { "{{namespace}}" };
        let end = "DC=*.{{namespace}}";
        format!("{:x<237},{end}", format!("CN={value},OU={value},O={value},UID={value},L="))
    };
    let subjects: Vec<String> = (1..=64).map(subject).collect();
    [json!({ "usernames": usernames }), json!({ "subjects": subjects })]
}

pub async fn the_definition_and_the_operator_refuse_the_same_lists(stage: &'static Stage) {
    let admin = stage.admin().await;
    let (mut accepted, mut all) = (0, 0);
    for allow in every_list().into_iter().chain(longest_lists()) {
        let parsed: AllowedUse = serde_json::from_value(allow.clone()).unwrap();
        let by_operator = Allow::of_cluster_issuer(Some(&parsed)).map(|_| ()).map_err(|error| error.to_string());
        let by_definition = create(&admin, allow.clone()).await;
        assert_eq!(by_definition.is_ok(), by_operator.is_ok(), "{allow}: {by_definition:?}, {by_operator:?}");
        (accepted, all) = (accepted + usize::from(by_definition.is_ok()), all + 1);
    }
    println!("  {all} lists, {accepted} of them accepted");
    assert!(accepted > 20 && all - accepted > 100);
    for allow in longest_lists() {
        create(&admin, allow).await.unwrap();
    }
}

pub async fn a_stored_list_that_is_ambiguous_makes_the_issuer_say_so(stage: &'static Stage) {
    let (shop, other) = (stage.tenant("store").await, stage.tenant("store-eu").await);
    let namespaces = json!({ "names": ["store", "store-eu"] });
    stage.cluster_issuer("stored", json!({}), json!({ "namespaces": namespaces })).await;
    let reference = json!({ "kind": "ClusterCertificateIssuer", "name": "stored" });
    other.certificate("orders", "", json!({ "username": "store-eu-orders", "issuerRef": reference })).await;
    let before = other.until_ready("orders").await;

    // As release 0.1.0 let it be stored.
    let admin = stage.admin().await;
    let definitions = Api::<CustomResourceDefinition>::all(admin.clone());
    let strict = definitions.get(DEFINITION).await.unwrap();
    replace_definition(&definitions, without_rules(&strict)).await;
    let issuers = Api::<ClusterCertificateIssuer>::all(admin.clone());
    until_stored(&issuers, "stored", &json!({ "spec": { "allow": { "usernames": ["{{namespace}}-*"] } } })).await;
    replace_definition(&definitions, strict).await;
    eventually("the rules are back", || async { create(&admin, json!({ "usernames": ["{{namespace}}-*"] })).await.err() })
        .await;

    let attempt = async {
        stage.until_cluster_issuer("stored", "False InvalidSpec").await;
        shop.certificate("orders", "", json!({ "username": "store-eu-orders", "issuerRef": reference })).await;
        refused(&shop, "orders", "InvalidSpec").await
    };
    stage.attempt(2, "a stored list that gives store the user store-eu-orders", attempt).await;
    other.until("orders", "Issuing", "False InvalidSpec").await;
    assert_eq!(other.condition("orders", "Ready").await, "True Issued", "what works stays in service");
    assert_eq!(other.status("orders").await.serial_number, before.serial_number);
}

/// Changes an issuer as soon as the definition lets it be stored.
pub async fn until_stored(issuers: &Api<ClusterCertificateIssuer>, name: &str, change: &Value) {
    let patch = kube::api::Patch::Merge(change);
    eventually("the change is stored", || async { issuers.patch(name, &Default::default(), &patch).await.ok() }).await;
}

/// Replaces the definition, whatever version it has now.
pub async fn replace_definition(definitions: &Api<CustomResourceDefinition>, mut definition: CustomResourceDefinition) {
    definition.metadata.resource_version = definitions.get(DEFINITION).await.unwrap().metadata.resource_version;
    definitions.replace(DEFINITION, &PostParams::default(), &definition).await.unwrap();
}

/// The definition as it would be if it let everything be stored.
pub fn without_rules(definition: &CustomResourceDefinition) -> CustomResourceDefinition {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("x-kubernetes-validations");
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(definition).unwrap();
    strip(&mut value);
    serde_json::from_value(value).unwrap()
}
