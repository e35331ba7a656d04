//! Whether the definitions in the cluster are those that this program knows.

use std::collections::BTreeSet;

use futures::future::join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use serde_json::Value;
use usercert_operator_core::api::{custom_resource_definitions, names::GROUP};

use super::findings::Finding;
use crate::cluster::Cluster;

/// Compares the definitions in the cluster with those that this program knows.
pub(super) async fn definitions(cluster: &Cluster) -> Finding {
    const NAME: &str = "Definitions";
    let resources =
        match cluster.ask("ask for the kinds", cluster.client.list_api_group_resources(&format!("{GROUP}/v1alpha1"))).await {
            Ok(resources) => resources,
            Err(error) if error.is_missing() => {
                return Finding::fails(
                    NAME,
                    format!("the API server serves nothing of {GROUP}/v1alpha1"),
                    "install the operator's chart, which brings the definitions",
                );
            }
            Err(error) => return Finding::could_not(NAME, &error),
        };
    let own = custom_resource_definitions();
    let is_served = |definition: &&CustomResourceDefinition| {
        resources.resources.iter().any(|served| served.name == definition.spec.names.plural)
    };
    let missing: Vec<&str> = own
        .iter()
        .filter(|definition| !is_served(definition))
        .map(|definition| definition.spec.names.plural.as_str())
        .collect();
    if !missing.is_empty() {
        return Finding::fails(
            NAME,
            format!("the API server does not serve {}", missing.join(", ")),
            "install the operator's chart, which brings the definitions",
        );
    }
    let api = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let names = own.iter().map(ResourceExt::name_any);
    let stored = join_all(names.map(|name| {
        let api = api.clone();
        async move { cluster.ask(format!("read the definition {name}"), api.get(&name)).await }
    }))
    .await;
    let mut lacking = Vec::new();
    for (definition, stored) in own.iter().zip(stored) {
        match stored {
            Ok(stored) => lacking.extend(fields_lacking(definition, &stored)),
            Err(error) if error.is_denied() => {
                return Finding::skipped(
                    NAME,
                    "all kinds are served, and whether with every field of this version is not known: you may not get the definitions",
                );
            }
            Err(error) => return Finding::could_not(NAME, &error),
        }
    }
    if lacking.is_empty() {
        return Finding::holds(NAME, "all kinds are served, with every field of this version");
    }
    Finding::fails(
        NAME,
        format!("the definitions are older than this program: they lack {}", lacking.join(", ")),
        "upgrade the chart and let it bring the definitions, or use the program of the operator's version",
    )
}

/// The fields that the stored definition lacks. Of a field that is missing, those below it are not named.
fn fields_lacking(own: &CustomResourceDefinition, stored: &CustomResourceDefinition) -> Vec<String> {
    let fields = |definition: &CustomResourceDefinition| {
        let mut found = BTreeSet::new();
        let versions = definition.spec.versions.iter();
        let schemas = versions.filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        for schema in schemas.filter_map(|schema| serde_json::to_value(schema).ok()) {
            for part in ["spec", "status"] {
                collect(&schema["properties"][part], part, &mut found);
            }
        }
        found
    };
    let (own_fields, stored) = (fields(own), fields(stored));
    let is_lacking = |field: &&String| !stored.contains(*field);
    let above = |field: &str| field.rsplit_once('.').map(|(above, _)| above.trim_end_matches("[]").to_owned());
    let is_topmost = |field: &&String| above(field).is_none_or(|above| !own_fields.contains(&above) || stored.contains(&above));
    let lacking = own_fields.iter().filter(is_lacking).filter(is_topmost);
    lacking.map(|field| format!("{field} of {}", own.spec.names.kind)).collect()
}

/// The paths of all fields below a schema.
fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect(below, &path, found);
        found.insert(path);
    }
    for (field, mark) in [("items", "[]"), ("additionalProperties", "")] {
        if schema[field].is_object() {
            collect(&schema[field], &format!("{path}{mark}"), found);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_definition_of_before_lacks_fields_at_any_depth() {
        let own = custom_resource_definitions();
        assert_eq!(fields_lacking(&own[0], &own[0]), Vec::<String>::new());
        let without = |path: &[&str], field: &str| {
            let mut old = serde_json::to_value(&own[0]).unwrap();
            let mut schema = &mut old["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            for part in path {
                schema = &mut schema[*part];
            }
            assert!(schema.as_object_mut().unwrap().remove(field).is_some(), "{field}");
            fields_lacking(&own[0], &serde_json::from_value(old).unwrap())
        };
        let spec = ["properties", "spec", "properties"];
        assert_eq!(without(&spec, "rollout"), ["spec.rollout of DatabaseUserCertificate"]);
        let rollout = [&spec[..], &["rollout", "properties"]].concat();
        assert_eq!(without(&rollout, "windows"), ["spec.rollout.windows of DatabaseUserCertificate"]);
        let window = [&rollout[..], &["windows", "items", "properties"]].concat();
        assert_eq!(without(&window, "days"), ["spec.rollout.windows[].days of DatabaseUserCertificate"]);
    }
}
