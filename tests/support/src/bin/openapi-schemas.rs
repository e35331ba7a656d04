//! Writes the schemas of all kinds that an API server serves, as kubeconform reads them: a JSON Schema a kind that knows every field and
//! takes no other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::{Map, Value, json};
use usercert_test_support::control_plane::{ControlPlane, tool};

/// For how long the API server may take to publish the schemas of definitions.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Parser)]
struct Arguments {
    /// A file with custom resource definitions to serve too; may be repeated.
    #[arg(long = "definitions", value_name = "FILE")]
    definitions: Vec<PathBuf>,
    /// Where to write the schemas, each as `GROUP/KIND_VERSION.json`.
    directory: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let control_plane = ControlPlane::start().await?;
    for file in &arguments.definitions {
        let applied = Command::new(tool("kubectl")?)
            .args(["apply", "--server-side", "--filename"])
            .arg(file)
            .env("KUBECONFIG", control_plane.kubeconfig())
            .output()?;
        ensure!(applied.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&applied.stderr));
    }
    let client = control_plane.admin().await?;
    let documents = published(&client).await?;
    let counts = documents.iter().map(|document| write_kinds(document, &arguments.directory)).collect::<Result<Vec<_>>>()?;
    println!("{} schemas in {}", counts.iter().sum::<usize>(), arguments.directory.display());
    Ok(())
}

/// The documents of the API server for all groups and versions, once each kind that is defined is in one of them.
async fn published(client: &Client) -> Result<Vec<Value>> {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone()).list(&ListParams::default()).await?.items;
    let started = Instant::now();
    loop {
        let documents = documents(client).await?;
        let missing: Vec<_> =
            definitions.iter().filter(|definition| !documents.iter().any(|found| has(found, definition))).collect();
        if missing.is_empty() {
            return Ok(documents);
        }
        if started.elapsed() > PATIENCE {
            bail!(
                "the API server publishes no schemas of {:?}",
                missing.iter().map(|definition| definition.name_any()).collect::<Vec<_>>()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn has(document: &Value, definition: &CustomResourceDefinition) -> bool {
    let (group, kind) = (json!(definition.spec.group), json!(definition.spec.names.kind));
    let mut schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    schemas.any(|(_, schema)| {
        schema["x-kubernetes-group-version-kind"][0]["group"] == group
            && schema["x-kubernetes-group-version-kind"][0]["kind"] == kind
    })
}

/// Those of objects. The index names each with the hash of its content, which is another by the time a definition has become known; without
/// the hash the server answers with what is current.
async fn documents(client: &Client) -> Result<Vec<Value>> {
    let index = get(client, "/openapi/v3").await?;
    let paths = index["paths"].as_object().context("/openapi/v3 has no paths")?;
    let of_objects = paths.keys().filter(|path| path.starts_with("api/v") || path.matches('/').count() == 2);
    let urls = of_objects.map(|path| format!("/openapi/v3/{path}"));
    futures::future::try_join_all(urls.map(async |url| get(client, &url).await.with_context(|| url.clone()))).await
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    let request = axum::http::Request::get(path).header("Accept", "application/json").body(Vec::new())?;
    Ok(client.request(request).await?)
}

/// How many kinds of the document were written. Options of requests are in all groups, and are no objects.
fn write_kinds(document: &Value, directory: &Path) -> Result<usize> {
    let Some(schemas) = document["components"]["schemas"].as_object() else { return Ok(0) };
    let mut count = 0;
    for (name, schema) in schemas {
        let Some([kind]) = schema["x-kubernetes-group-version-kind"].as_array().map(Vec::as_slice) else { continue };
        let part = |key: &str| kind[key].as_str().unwrap_or_default();
        // kubeconform calls the group without a name by its version.
        let folder = directory.join(if part("group").is_empty() { part("version") } else { part("group") });
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}_{}.json", part("kind").to_lowercase(), part("version")));
        fs::write(&file, standalone(name, schemas)?).with_context(|| format!("could not write {}", file.display()))?;
        count += 1;
    }
    Ok(count)
}

/// The schema with all that it refers to. `OpenAPI` 3.0 has the keywords of draft 4.
fn standalone(name: &str, schemas: &Map<String, Value>) -> Result<String> {
    let mut definitions = Map::new();
    let mut wanted = BTreeSet::from([name.to_owned()]);
    while let Some(name) = wanted.pop_first() {
        let mut schema = schemas.get(&name).with_context(|| format!("{name} is referred to and missing"))?.clone();
        close(&mut schema);
        references(&schema, &mut wanted);
        definitions.insert(name, schema);
        wanted.retain(|name| !definitions.contains_key(name));
    }
    let reference = format!("#/components/schemas/{name}");
    let whole = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "$ref": reference, "definitions": definitions });
    Ok(serde_json::to_string(&whole)?.replace("#/components/schemas/", "#/definitions/"))
}

fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = value.as_str().and_then(|text| text.strip_prefix("#/components/schemas/"));
                match name {
                    Some(name) if key == "$ref" => _ = found.insert(name.to_owned()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Refuses fields that the schema does not name, and takes null where it may stand. What is below `allOf` and the like says more about fields
/// that are named beside it, so that it stays open.
fn close(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if fields.get("nullable") == Some(&json!(true))
        && let Some(kind) = fields.get("type").cloned()
    {
        fields.insert("type".to_owned(), json!([kind, "null"]));
    }
    let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") && !open {
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            close(inner);
        }
    }
}
