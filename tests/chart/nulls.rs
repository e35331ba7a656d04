//! null in a file of values: a setting is as it is by default, and what a file before it has set is taken back.

use std::process::Command;

use serde_json::{Map, Value, json};
use usercert_test_support::control_plane::{repository, tool};

use crate::{defaults, rendered};

/// What null takes away, with all below it: what the chart hands on as it is.
const TAKEN_AWAY: [&str; 5] =
    ["resources", "podSecurityContext", "securityContext", "topologySpreadConstraints", "dashboard.labels"];

/// The chart of a release has another image, so no default stands in the chart's templates. And a profile without a type is none.
const REFUSED: [&str; 3] = ["image", "image.repository", "podSecurityContext.seccompProfile.type"];

/// With which each value of the chart has an effect.
fn all_on() -> Value {
    json!({
        "serviceMonitor": { "enabled": true }, "prometheusRule": { "enabled": true }, "dashboard": { "enabled": true },
        "networkPolicy": { "enabled": true }, "metrics": { "secure": { "enabled": true } }, "rollout": { "enabled": true },
        "rbac": { "clusterIssuerRoles": true, "serviceBinding": true }, "replicaCount": 2,
        "atlas": { "caBundle": { "configMap": "ca" } },
    })
}

/// The path of each value and each section.
fn paths(above: &[String], section: &Map<String, Value>) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (name, value) in section {
        let path = [above, std::slice::from_ref(name)].concat();
        if let Some(section) = value.as_object() {
            found.extend(paths(&path, section));
        }
        found.push(path);
    }
    found
}

/// The section that holds the last part of the path, with what is missing on the way made.
fn section<'a>(values: &'a mut Value, path: &[String]) -> &'a mut Map<String, Value> {
    path[..path.len() - 1]
        .iter()
        .fold(values, |value, name| value.as_object_mut().unwrap().entry(name).or_insert_with(|| json!({})))
        .as_object_mut()
        .unwrap()
}

/// Whether the path is this one or one below it.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What a template writes for a value that is not there.
fn is_written_as_nothing(manifests: &str) -> bool {
    let nothing = ["<no value>", "<nil>", "%!", ": null\n", "value: \"\"\n"];
    let own = manifests.split("\n---\n").filter(|document| !document.contains("kind: CustomResourceDefinition"));
    own.into_iter().any(|document| nothing.iter().any(|word| document.contains(word)))
}

#[test]
fn null_for_each_value_is_the_default_or_takes_it_away_or_is_refused_by_name() {
    let paths = paths(&[], defaults().as_object().unwrap());
    assert!(paths.len() > 120, "{paths:?}");
    let by_default = rendered("release", "space", &[&all_on()]).unwrap();
    for path in paths {
        let (mut without, mut null) = (all_on(), all_on());
        let name = path.last().unwrap().clone();
        section(&mut without, &path).remove(&name);
        section(&mut null, &path).insert(name.clone(), Value::Null);
        let path = path.join(".");
        match rendered("release", "space", &[&null]) {
            Err(message) => {
                assert!(REFUSED.contains(&path.as_str()), "{path}: {message}");
                assert!(message.contains(name.as_str()), "{message}");
            }
            Ok(manifests) => {
                assert!(!REFUSED.contains(&path.as_str()) && !is_written_as_nothing(&manifests), "{path}: {manifests}");
                if TAKEN_AWAY.iter().any(|above| is_below(&path, above)) {
                    assert!(manifests != by_default, "{path}: null takes nothing away");
                } else {
                    let differs = without != all_on();
                    let expected = if differs { &rendered("release", "space", &[&without]).unwrap() } else { &by_default };
                    assert!(manifests == *expected, "{path}: null is not the default");
                }
            }
        }
    }
}

#[test]
fn a_file_of_values_takes_back_what_one_before_it_sets() {
    let cases = [
        json!({ "podLabels": { "a": "b" } }),
        json!({ "commonLabels": { "a": "b" } }),
        json!({ "podAnnotations": { "a": "b" } }),
        json!({ "deploymentAnnotations": { "a": "b" } }),
        json!({ "nodeSelector": { "a": "b" } }),
        json!({ "affinity": { "podAffinity": {} } }),
        json!({ "resources": { "limits": { "cpu": "1" } } }),
        json!({ "probes": { "liveness": { "initialDelaySeconds": 1 } } }),
        json!({ "probes": { "liveness": { "failureThreshold": 1 } } }),
        json!({ "podSecurityContext": { "fsGroup": 1 } }),
        json!({ "podDisruptionBudget": { "minAvailable": 1 } }),
        json!({ "updateStrategy": { "rollingUpdate": { "maxSurge": 2 } } }),
        json!({ "updateStrategy": { "type": "Recreate" } }),
        json!({ "dnsConfig": { "searches": ["a"] } }),
        json!({ "serviceMonitor": { "labels": { "a": "b" }, "endpoint": { "path": "/other" } } }),
        json!({ "prometheusRule": { "alerts": { "UsercertCaExpired": { "enabled": false } } } }),
        json!({ "prometheusRule": { "alerts": { "UsercertCaExpired": { "labels": { "severity": "info" }, "for": "2h" } } } }),
        json!({ "prometheusRule": { "additionalLabels": { "a": "b" }, "annotations": { "a": "b" } } }),
        json!({ "dashboard": { "labels": { "a": "b" }, "annotations": { "a": "b" } } }),
        json!({ "global": { "priorityClassName": "low", "imageRegistry": "mirror", "imagePullSecrets": ["a"] } }),
        json!({ "atlas": { "timeoutSeconds": 10, "endpoint": "https://atlas", "allowedEndpoints": ["https://atlas"] } }),
    ];
    let by_default = rendered("release", "space", &[&all_on()]).unwrap();
    for case in cases {
        assert!(rendered("release", "space", &[&all_on(), &case]).unwrap() != by_default, "{case} has no effect");
        let null = all_null(&case);
        let manifests = rendered("release", "space", &[&all_on(), &case, &null]).unwrap();
        assert!(manifests == by_default, "{null} takes nothing back");
    }
}

/// The same with null for each value that is no section.
fn all_null(value: &Value) -> Value {
    match value.as_object() {
        Some(section) if !section.is_empty() => section.iter().map(|(name, value)| (name.clone(), all_null(value))).collect(),
        _ => Value::Null,
    }
}

#[test]
fn null_for_several_sections_is_the_default() {
    let null = json!({ "service": null, "probes": null, "metrics": null, "rollout": null, "networkPolicy": null });
    assert!(rendered("release", "space", &[&null]).unwrap() == rendered("release", "space", &[]).unwrap());
}

/// So it is with `--reuse-values`, and whatever is set by hand besides.
#[test]
fn a_release_with_the_values_of_the_first_one_is_told_how_to_upgrade() {
    let new = sections_since_the_first_release();
    assert!(new.len() > 20 && new.iter().any(|name| name == "securityContext"), "{new:?}");
    for set in &new {
        let lacking: Value = new.iter().filter(|name| *name != set).map(|name| (name.clone(), Value::Null)).collect();
        let refusal = rendered("release", "space", &[&lacking]).unwrap_err();
        assert!(refusal.contains("--reset-then-reuse-values"), "{set}: {refusal}");
    }
}

/// What the chart has by default and that of 0.1.0 has not.
fn sections_since_the_first_release() -> Vec<String> {
    let first = repository().join("tests/chart/usercert-operator-0.1.0.tgz");
    let shown = Command::new(tool("helm").unwrap()).args(["show", "values"]).arg(first).output().unwrap();
    let former: Value = serde_saphyr::from_str(&String::from_utf8(shown.stdout).unwrap()).unwrap();
    let names = defaults().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    names.into_iter().filter(|name| former.get(name).is_none()).collect()
}
