//! `olm-bundle`: the bundle for the Operator Lifecycle Manager, made from what Helm installs, so that the two cannot differ.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};

/// Reads the chart's objects from standard input, as `helm template` writes them, and writes the bundle.
#[derive(Parser)]
struct Arguments {
    /// The chart's folder.
    #[arg(long)]
    chart: PathBuf,
    /// Where the bundle is written. What is there already is replaced.
    #[arg(long)]
    bundle: PathBuf,
    /// When the release was made, as `2026-01-31T00:00:00Z`. The bundle in the sources tells no time.
    #[arg(long)]
    created_at: Option<String>,
}

/// The package's name in catalogs.
const PACKAGE: &str = "usercert-operator";

/// The first release. A version takes the place of any before it: `docs/upgrade.md` asks for no stop in between.
const FIRST: &str = "0.1.0";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut rendered = String::new();
    io::stdin().read_to_string(&mut rendered)?;
    let objects = documents(&rendered)?;
    let chart: Value = parse(&fs::read_to_string(arguments.chart.join("Chart.yaml"))?)?;
    let definitions = fs::read_to_string(arguments.chart.join("files/crds.yaml"))?;

    if arguments.bundle.exists() {
        fs::remove_dir_all(&arguments.bundle)?;
    }
    let (manifests, metadata) = (arguments.bundle.join("manifests"), arguments.bundle.join("metadata"));
    fs::create_dir_all(&manifests)?;
    fs::create_dir_all(&metadata)?;
    for text in definitions.split("---\n").filter(|text| !text.trim().is_empty()) {
        let definition = parse(text)?;
        let file = format!("{}_{}.yaml", text_at(&definition, "/spec/group")?, text_at(&definition, "/spec/names/plural")?);
        fs::write(manifests.join(file), text)?;
    }
    // What the chart makes for people and Pods besides the operator, and OLM takes as it is.
    for object in objects.iter().filter(|object| is_kind(object, "Service") || is_role_for_people(object)) {
        let (kind, name) = (text_at(object, "/kind")?.to_lowercase(), text_at(object, "/metadata/name")?);
        write(&manifests.join(format!("{name}_{kind}.yaml")), &for_olm(object))?;
    }
    let mut version = service_version(&objects, &chart, &documents(&definitions)?)?;
    if let Some(created_at) = arguments.created_at {
        version["metadata"]["annotations"]["createdAt"] = json!(created_at);
    }
    write(&manifests.join(format!("{PACKAGE}.clusterserviceversion.yaml")), &version)?;
    write(&metadata.join("annotations.yaml"), &annotations())
}

/// The `ClusterServiceVersion`: what the operator is, its Deployment, and its rights.
fn service_version(objects: &[Value], chart: &Value, definitions: &[Value]) -> Result<Value> {
    let version = text_at(chart, "/appVersion")?;
    let deployment = for_olm(the(objects, "Deployment", PACKAGE)?);
    let account = text_at(&deployment, "/spec/template/spec/serviceAccountName")?;
    let container = "/spec/template/spec/containers/0";
    let rights = |object: &Value| json!({ "serviceAccountName": account, "rules": object["rules"] });
    let leader_election = the(objects, "Role", &format!("{PACKAGE}-leader-election"))?;
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{PACKAGE}.v{version}"),
            // OLM puts the namespace that the operator is installed in here.
            "namespace": "placeholder",
            "annotations": told(chart, text_at(&deployment, &format!("{container}/image"))?)?,
        },
        "spec": {
            "displayName": "Database user certificates",
            "description": text_at(chart, "/description")?,
            "version": version,
            "minKubeVersion": text_at(chart, "/kubeVersion")?.trim_start_matches(">=").trim_end_matches("-0"),
            "maturity": "alpha",
            "keywords": chart["keywords"],
            // No maintainers: each would need an address for mail, and the project has none. The repository is where to write.
            "provider": { "name": text_at(chart, "/maintainers/0/name")? },
            // The sources name no address; the chart of a release does.
            "links": chart["home"].as_str().map(|home| vec![json!({ "name": "Repository", "url": home })]).unwrap_or_default(),
            "icon": [icon(chart)?],
            // Namespaced mode is the chart's: there the rights are other ones, which OLM cannot know.
            "installModes": [
                { "type": "OwnNamespace", "supported": false },
                { "type": "SingleNamespace", "supported": false },
                { "type": "MultiNamespace", "supported": false },
                { "type": "AllNamespaces", "supported": true },
            ],
            "customresourcedefinitions": { "owned": owned(chart, definitions)? },
            "install": {
                "strategy": "deployment",
                "spec": {
                    "clusterPermissions": [rights(the(objects, "ClusterRole", PACKAGE)?)],
                    "permissions": [rights(leader_election)],
                    "deployments": [{ "name": PACKAGE, "label": deployment["metadata"]["labels"], "spec": deployment["spec"] }],
                },
            },
        },
    }))
}

/// What catalogs show, and which versions this one takes the place of.
fn told(chart: &Value, image: &str) -> Result<Value> {
    let mut annotations = json!({
        "alm-examples": serde_json::to_string_pretty(&examples(chart)?)?,
        "capabilities": text_at(chart, "/annotations/artifacthub.io~1operatorCapabilities")?,
        "categories": "Security, Database",
        "containerImage": image,
        "description": text_at(chart, "/description")?,
        "support": text_at(chart, "/maintainers/0/name")?,
        "operatorframework.io/suggested-namespace": "usercert-system",
        "olm.skipRange": earlier_than(text_at(chart, "/appVersion")?),
    });
    // The sources name no address; the chart of a release does.
    if let Some(home) = chart["home"].as_str() {
        annotations["repository"] = json!(home);
    }
    Ok(annotations)
}

/// The versions from which the Operator Lifecycle Manager upgrades to this one. Without it an installed version finds no way to the next one.
fn earlier_than(version: &str) -> String {
    format!(">={FIRST} <{version}")
}

/// The definitions with the names and descriptions that the chart gives them for Artifact Hub.
fn owned(chart: &Value, definitions: &[Value]) -> Result<Vec<Value>> {
    let described = parse(text_at(chart, "/annotations/artifacthub.io~1crds")?)?;
    let described = described.as_array().context("artifacthub.io/crds is not a list")?;
    ensure!(described.len() == definitions.len(), "artifacthub.io/crds does not describe each definition once");
    let describe = |definition: &Value| {
        let name = text_at(definition, "/metadata/name")?;
        let entry = described.iter().find(|entry| entry["name"] == name);
        let entry = entry.with_context(|| format!("artifacthub.io/crds does not describe {name}"))?;
        ensure!(entry["kind"] == definition["spec"]["names"]["kind"], "artifacthub.io/crds has another kind for {name}");
        Ok(entry.clone())
    };
    definitions.iter().map(describe).collect()
}

fn examples(chart: &Value) -> Result<Value> {
    parse(text_at(chart, "/annotations/artifacthub.io~1crdsExamples")?)
}

fn icon(chart: &Value) -> Result<Value> {
    let icon = text_at(chart, "/icon")?.strip_prefix("data:").and_then(|icon| icon.split_once(";base64,"));
    let (mediatype, data) = icon.context("the chart's icon is no data URL")?;
    Ok(json!({ "mediatype": mediatype, "base64data": data }))
}

/// `metadata/annotations.yaml`: by which package and channel catalogs know the bundle.
fn annotations() -> Value {
    json!({ "annotations": {
        "operators.operatorframework.io.bundle.mediatype.v1": "registry+v1",
        "operators.operatorframework.io.bundle.manifests.v1": "manifests/",
        "operators.operatorframework.io.bundle.metadata.v1": "metadata/",
        "operators.operatorframework.io.bundle.package.v1": PACKAGE,
        "operators.operatorframework.io.bundle.channels.v1": "alpha",
        "operators.operatorframework.io.bundle.channel.default.v1": "alpha",
    }})
}

/// Without what is Helm's, without the namespace, which OLM gives, and without a user: `OpenShift` chooses one itself and refuses a Pod that asks for
/// another. Elsewhere the image has its own.
fn for_olm(object: &Value) -> Value {
    let mut object = object.clone();
    for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(labels) = object.pointer_mut(labels).and_then(Value::as_object_mut) {
            labels.remove("helm.sh/chart");
            labels.remove("app.kubernetes.io/managed-by");
        }
    }
    if let Some(context) = object.pointer_mut("/spec/template/spec/securityContext").and_then(Value::as_object_mut) {
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            context.remove(field);
        }
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    object
}

/// The roles that are added to view, edit and admin.
fn is_role_for_people(object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    is_kind(object, "ClusterRole")
        && labels.is_some_and(|labels| labels.keys().any(|key| key.starts_with("rbac.authorization.k8s.io/aggregate-to-")))
}

fn is_kind(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}

fn the<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|object| is_kind(object, kind) && object["metadata"]["name"] == name);
    found.with_context(|| format!("the chart makes no {kind} {name}"))
}

fn documents(text: &str) -> Result<Vec<Value>> {
    let has_content = |text: &&str| text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
    text.split("\n---").filter(has_content).map(|text| parse(text.trim_start_matches("---"))).collect()
}

fn parse(text: &str) -> Result<Value> {
    serde_saphyr::from_str(text)
        .with_context(|| format!("cannot be read as YAML: {}", text.lines().take(3).collect::<String>()))
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("there is no text at {pointer}"))
}

fn write(file: &Path, value: &Value) -> Result<()> {
    // An image with its digest on one line, so that people and programs find it.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1000 };
    let text = serde_saphyr::to_string_with_options(value, options)?;
    fs::write(file, format!("# Written by `make generate` from the chart.\n{text}")).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;

    fn definition(plural: &str, kind: &str) -> Value {
        json!({ "metadata": { "name": format!("{plural}.usercert.dev") }, "spec": { "names": { "kind": kind } } })
    }

    #[test]
    fn a_definition_that_the_chart_does_not_describe_stops_the_bundle() {
        let crds = "- {name: as.usercert.dev, kind: A}\n- {name: bs.usercert.dev, kind: B}\n";
        let chart = json!({ "annotations": { "artifacthub.io/crds": crds } });
        let (a, b) = (definition("as", "A"), definition("bs", "B"));
        assert_eq!(owned(&chart, &[b.clone(), a.clone()]).unwrap()[1]["name"], "as.usercert.dev");
        for wrong in [vec![a.clone()], vec![a.clone(), definition("cs", "C")], vec![b, definition("as", "Z")]] {
            assert!(owned(&chart, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_version_is_reached_from_all_before_it() {
        assert_eq!(earlier_than("0.2.0"), ">=0.1.0 <0.2.0");
        assert_eq!(earlier_than("0.2.1"), ">=0.1.0 <0.2.1");
    }

    #[test]
    fn the_repository_is_told_where_the_chart_names_one() {
        let annotations =
            json!({ "artifacthub.io/operatorCapabilities": "Full Lifecycle", "artifacthub.io/crdsExamples": "[]" });
        let mut chart =
            json!({ "appVersion": "0.2.0", "description": "d", "maintainers": [{ "name": "m" }], "annotations": annotations });
        assert!(told(&chart, "image").unwrap()["repository"].is_null());
        chart["home"] = json!("https://example.com");
        assert_eq!(told(&chart, "image").unwrap()["repository"], "https://example.com");
    }

    #[test]
    fn no_user_is_asked_for() {
        let context = json!({ "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532 });
        let object = json!({ "spec": { "template": { "spec": { "securityContext": context } } } });
        let left = json!({ "runAsNonRoot": true });
        assert_eq!(for_olm(&object)["spec"]["template"]["spec"]["securityContext"], left);
    }

    #[test]
    fn nothing_of_helm_and_no_namespace_is_left() {
        let labels = json!({ "helm.sh/chart": "x-1", "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": "x" });
        let pod = json!({ "metadata": { "labels": labels } });
        let object = json!({ "metadata": { "name": "x", "namespace": "y", "labels": labels }, "spec": { "template": pod } });
        let left = json!({ "app.kubernetes.io/name": "x" });
        let object = for_olm(&object);
        assert_eq!(object["metadata"], json!({ "name": "x", "labels": left }));
        assert_eq!(object["spec"]["template"]["metadata"]["labels"], left);
    }
}
