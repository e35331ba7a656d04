//! A name is a name, also where YAML reads it as a number, as null, or as yes or no; and a number is written as one.

use serde_json::{Value, json};

use crate::rendered;

/// Each one is a name that Kubernetes takes, and something else to a parser of YAML 1.1, 1.2 or both.
const MISREAD: [&str; 16] =
    ["no", "yes", "on", "off", "y", "n", "true", "false", "null", "123", "012", "0x1f", "0o17", "1e3", "1e5", "2026-11-27"];

/// A name that nothing misreads, and that stands nowhere in the chart.
const PLAIN: &str = "qzx";

/// Values with this name in all places for one, without a Service: its name begins with a letter.
fn every_place(name: &str) -> Vec<Value> {
    let overrides = json!({
        "watchNamespaces": [name], "fullnameOverride": name, "nameOverride": name, "priorityClassName": name,
        "serviceAccount": { "name": name }, "admissionPolicy": { "enabled": true }, "rollout": { "enabled": true },
        "rbac": { "aggregate": true, "clusterIssuerRoles": true, "serviceBinding": true },
        "atlas": { "caBundle": { "configMap": name }, "lendCredentialsTo": [name] },
        "metrics": { "secure": { "enabled": true, "certificateSecret": name } },
        "imagePullSecrets": [{ "name": name }], "podLabels": { "a": name }, "commonLabels": { "b": name },
        "podAnnotations": { "a": name }, "nodeSelector": { "a": name },
        "service": { "enabled": false }, "networkPolicy": { "enabled": true }, "replicaCount": 2,
        "podMonitor": { "enabled": true, "namespace": name, "endpoint": { "authorization": { "type": name } } },
        "prometheusRule": { "enabled": true, "namespace": name }, "dashboard": { "enabled": true, "namespace": name }
    });
    let by_release =
        json!({ "service": { "enabled": false }, "rollout": { "enabled": true }, "dashboard": { "enabled": true } });
    let with_service = json!({
        "fullnameOverride": "operator", "nameOverride": name, "global": { "priorityClassName": name, "imagePullSecrets": [name] },
        "serviceAccount": { "create": false, "name": name }, "serviceMonitor": { "enabled": true, "namespace": name }
    });
    vec![overrides, by_release, with_service]
}

/// The objects as they are read, without the definitions, in which nothing is filled in.
fn objects(manifests: &str) -> Vec<Value> {
    let documents = manifests.split("\n---\n").filter(|document| !document.contains("kind: CustomResourceDefinition"));
    documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// With this name in place of the plain one, in values and in keys.
fn renamed(value: &Value, name: &str) -> Value {
    serde_json::from_str(&value.to_string().replace(PLAIN, name)).unwrap()
}

/// How often the name stands without quotes, where a parser of YAML 1.1 may take it for something else.
fn bare(manifests: &str, name: &str) -> usize {
    let between = |character: char| character.is_whitespace() || ",[]{}".contains(character);
    manifests.split(between).filter(|word| *word == name).count()
}

#[test]
fn a_name_is_a_name_though_yaml_reads_it_as_something_else() {
    let of = |name: &str, values: &Value| rendered(name, name, &[values]).unwrap_or_else(|error| panic!("{name}: {error}"));
    let plain: Vec<_> = every_place(PLAIN).iter().map(|values| of(PLAIN, values)).collect();
    for name in MISREAD {
        for (values, plain) in every_place(name).iter().zip(&plain) {
            let manifests = of(name, values);
            assert_eq!(
                objects(&manifests),
                renamed(&json!(objects(plain)), name).as_array().unwrap().clone(),
                "{name}: {values}"
            );
            assert_eq!(bare(&manifests, name), bare(plain, name), "{name} without quotes: {values}");
        }
    }
}

#[test]
fn an_override_alone_is_a_name_though_yaml_reads_it_as_something_else() {
    for name in MISREAD.into_iter().chain(["1.5", "1_000", "0x_f", "NULL", "Yes"]) {
        let values = json!({ "nameOverride": name, "fullnameOverride": "operator", "serviceAccount": { "name": name.to_lowercase().replace('_', "-") } });
        let manifests = rendered("release", "space", &[&values]).unwrap();
        for object in objects(&manifests) {
            let label = &object["metadata"]["labels"]["app.kubernetes.io/name"];
            let expected = if object["kind"] == "Pod" { format!("{name}-test") } else { name.to_owned() };
            assert_eq!(*label, json!(expected), "{object}");
        }
        let plain = rendered("release", "space", &[&json!({ "fullnameOverride": "operator" })]).unwrap();
        assert_eq!(bare(&manifests, name), bare(&plain, name), "{name}");
    }
}

#[test]
fn a_name_that_is_cut_off_ends_with_a_letter_or_digit() {
    for dots in [50, 53, 54, 57, 58, 62] {
        let name = format!("{}.{}", "a".repeat(dots), "b".repeat(62 - dots)).trim_end_matches('.').to_owned();
        let values = json!({ "fullnameOverride": name, "service": { "enabled": false }, "dashboard": { "enabled": true } });
        for object in objects(&rendered("release", "space", &[&values]).unwrap()) {
            let found = object["metadata"]["name"].as_str().unwrap();
            let parts: Vec<_> = found.split('.').collect();
            assert!(parts.iter().all(|part| !part.starts_with('-') && !part.ends_with('-') && !part.is_empty()), "{found}");
        }
    }
}

#[test]
fn a_large_number_is_written_as_kubernetes_reads_it() {
    let values = json!({
        "revisionHistoryLimit": 2_000_000, "replicaCount": 2_000_000, "podSecurityContext": { "runAsUser": 1_000_680_000 },
        "podDisruptionBudget": { "enabled": true, "minAvailable": 2_000_000 },
        "tolerations": [{ "key": "a", "tolerationSeconds": 3_000_000 }],
    });
    let manifests = rendered("release", "space", &[&values]).unwrap();
    for line in [
        "revisionHistoryLimit: 2000000",
        "replicas: 2000000",
        "runAsUser: 1000680000",
        "minAvailable: 2000000",
        "tolerationSeconds: 3000000",
    ] {
        assert!(manifests.contains(&format!("{line}\n")), "{line}");
    }
}
