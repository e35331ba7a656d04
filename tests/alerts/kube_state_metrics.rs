//! The configuration of kube-state-metrics, beside the definitions of the custom resources.

use std::collections::BTreeMap;

use serde_json::Value;
use usercert_test_support::control_plane::repository;

use crate::chart::{file, yaml};

/// The schemas of the custom resources, by their kinds.
fn schemas() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(repository().join("crds/crds.yaml")).unwrap();
    let definitions = text.split("---\n").filter(|part| !part.trim().is_empty()).map(yaml::<Value>);
    definitions
        .map(|definition| {
            let version = &definition["spec"]["versions"][0];
            assert_eq!(version["name"], "v1alpha1");
            (definition["spec"]["names"]["kind"].as_str().unwrap().to_owned(), version["schema"]["openAPIV3Schema"].clone())
        })
        .collect()
}

/// What is at this path: of lists, as kube-state-metrics goes through them, what an entry has.
fn at<'a>(schema: &'a Value, path: &Value) -> Option<&'a Value> {
    path.as_array()?.iter().try_fold(schema, |schema, name| entry(schema)["properties"].get(name.as_str()?))
}

fn entry(schema: &Value) -> &Value {
    schema.get("items").unwrap_or(schema)
}

/// Every object has these, and the schema does not name them.
fn is_of_every_object(path: &Value) -> bool {
    path[0] == "metadata" && ["name", "namespace"].iter().any(|name| path[1] == *name)
}

#[test]
fn each_path_of_the_configuration_leads_to_a_field_of_the_definitions() {
    let (schemas, configuration) = (schemas(), yaml::<Value>(&file("kube-state-metrics.yaml")));
    let mut found = 0;
    let mut expect = |schema: &Value, path: &Value, what: &str| {
        let field = at(schema, path).unwrap_or_else(|| panic!("{what}: there is no {path}"));
        assert!(what.contains("path") || entry(field)["type"] != "object", "{what}: {path} is no value");
        found += 1;
    };
    let resources = configuration["spec"]["resources"].as_array().unwrap();
    for resource in resources {
        let kind = resource["groupVersionKind"]["kind"].as_str().unwrap();
        assert_eq!(
            (&resource["groupVersionKind"]["group"], &resource["groupVersionKind"]["version"]),
            (&"usercert.dev".into(), &"v1alpha1".into())
        );
        let schema = &schemas[kind];
        for path in resource["labelsFromPath"].as_object().unwrap().values().filter(|path| !is_of_every_object(path)) {
            expect(schema, path, kind);
        }
        for metric in resource["metrics"].as_array().unwrap() {
            let name = format!("{kind} {}", metric["name"]);
            let each = metric["each"].as_object().unwrap();
            let settings = each["type"].as_str().map(|type_| &each[&type_.to_lowercase()]).unwrap();
            let base = match settings.get("path") {
                Some(path) => {
                    expect(schema, path, &format!("{name} path"));
                    entry(at(schema, path).unwrap())
                }
                None => schema,
            };
            for path in settings.get("labelsFromPath").and_then(Value::as_object).into_iter().flat_map(|labels| labels.values())
            {
                expect(base, path, &name);
            }
            if let Some(path) = settings.get("valueFrom") {
                expect(base, path, &name);
            }
        }
    }
    assert_eq!(resources.len(), schemas.len(), "each kind has an entry");
    assert!(found > 20, "{found}");
}

#[test]
fn a_path_that_leads_nowhere_is_noticed() {
    let schema = &schemas()["DatabaseUserCertificate"];
    assert!(at(schema, &serde_json::json!(["status", "notAfter"])).is_some());
    assert!(at(schema, &serde_json::json!(["status", "conditions", "reason"])).is_some());
    assert!(at(schema, &serde_json::json!(["status", "expires"])).is_none());
    assert!(at(schema, &serde_json::json!(["status", "notAfter", "seconds"])).is_none());
}
