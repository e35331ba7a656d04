//! Each example in YAML is taken by a real API server: whole objects as they are, parts of objects within one, values by the chart.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Map, Value, json};
use usercert_test_support::control_plane::{repository, tool};

use crate::{
    page::{Block, Page, has_extension},
    scene::{Stage, kubectl},
};

/// Objects of programs whose definitions are not here, by the beginning of their `apiVersion`, and what tries them.
const OF_OTHERS: [(&str, &str); 1] =
    [("kustomize.toolkit.fluxcd.io/", "tests/issuing/gitops.rs runs it in Flux's own libraries")];

/// Applies all examples of the pages and of the folder `examples`, by a dry run of the server that refuses unknown fields.
pub fn are_taken(stage: &Stage, pages: &[Page]) {
    let kubeconfig = stage.control_plane.kubeconfig();
    let (mut objects, mut values) = (Vec::new(), Vec::new());
    for page in pages {
        let blocks = page.blocks.iter().filter(|block| block.info == "yaml" || block.info == "yaml tested");
        for block in blocks {
            for document in documents(&block.code) {
                sort(page, block, document, &mut objects, &mut values);
            }
        }
    }
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if has_extension(path.to_str().unwrap(), "yaml") {
            objects.extend(documents(&fs::read_to_string(path).unwrap()));
        }
    }
    assert!(objects.len() > 30 && values.len() > 1, "{} objects, {} sets of values", objects.len(), values.len());
    let told: BTreeSet<&str> = objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()).collect();
    for namespace in told {
        let (done, said) = kubectl(&kubeconfig, &["create", "namespace", namespace], "");
        assert!(done || said.contains("AlreadyExists"), "{said}");
    }
    let all = list(&objects);
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--field-manager=docs",
        "-f",
        "-",
    ];
    let (done, said) = kubectl(&kubeconfig, &arguments, &all);
    assert!(done, "{said}");
    assert_eq!(said.matches(" serverside-applied").count(), objects.len(), "{said}");
    for (place, values) in &values {
        let output = Command::new(tool("helm").unwrap())
            .args(["template", "docs"])
            .arg(repository().join("charts/usercert-operator"))
            .arg(format!(
                "--set-json={}",
                values.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
            ))
            .output()
            .unwrap();
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
    println!("{} objects and {} sets of values are taken", objects.len(), values.len());
}

/// Puts a document of a page where it is tried.
fn sort(page: &Page, block: &Block, document: Value, objects: &mut Vec<Value>, values: &mut Vec<(String, Map<String, Value>)>) {
    let place = format!("{}:{}", page.name(), block.line);
    let Value::Object(document) = document else { panic!("{place}: not a map: {document}") };
    let has = |key: &str| document.contains_key(key);
    if let Some(version) = document.get("apiVersion").and_then(Value::as_str) {
        let reason = OF_OTHERS.iter().find(|(beginning, _)| version.starts_with(beginning));
        match reason {
            Some((_, reason)) => println!("not applied: {place}: {reason}"),
            None => objects.push(Value::Object(document)),
        }
    } else if has("containers") {
        objects.push(pod(document));
    } else if let Some(spec) = document.get("spec").filter(|spec| spec.get("containers").is_some()) {
        objects.push(pod(spec.as_object().unwrap().clone()));
    } else if has("spec") {
        objects.push(certificate(&document["spec"]));
    } else if has("connection") {
        objects.push(certificate(&Value::Object(document)));
    } else {
        values.push((place, document));
    }
}

/// A Pod with a part of its spec: what a container has to have besides, a page may leave out.
fn pod(mut part: Map<String, Value>) -> Value {
    for container in part["containers"].as_array_mut().unwrap() {
        for missing in ["name", "image"] {
            container.as_object_mut().unwrap().entry(missing).or_insert_with(|| json!("orders"));
        }
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "part" }, "spec": part })
}

/// A certificate with a part of its spec.
fn certificate(part: &Value) -> Value {
    let mut spec = json!({ "username": "orders", "issuerRef": { "name": "atlas" }, "secretName": "part" });
    spec.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "part" }, "spec": spec })
}

/// A manifest with all of them.
pub fn list(objects: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}

/// The documents of a stream of YAML.
pub fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n").filter(|part| part.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    parts.map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{error}:\n{part}"))).collect()
}
