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
use kube::Client;
use serde_json::{Map, Value, json};
use usercert_test_support::control_plane::{ControlPlane, tool};

/// For how long the API server may take to publish the schemas of definitions.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Parser)]
struct Arguments {
    /// A file with custom resource definitions to serve too; may be repeated.
    #[arg(long = "definitions", value_name = "FILE")]
    definitions: Vec<PathBuf>,
    /// A group and version that have to be served, such as usercert.dev/v1alpha1; may be repeated.
    #[arg(long = "await", value_name = "GROUP/VERSION")]
    awaited: Vec<String>,
    /// Where to write the schemas, each as GROUP/KIND_VERSION.json.
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
    let paths = published(&client, &arguments.awaited).await?;
    let mut count = 0;
    // Of objects. The other documents are about the server itself.
    for (path, place) in paths.iter().filter(|(path, _)| path.starts_with("api/v") || path.matches('/').count() == 2) {
        let url = place["serverRelativeURL"].as_str().with_context(|| format!("{path} has no URL"))?;
        count += write_kinds(&get(&client, url).await.with_context(|| path.clone())?, &arguments.directory)?;
    }
    println!("{count} schemas in {}", arguments.directory.display());
    Ok(())
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    Ok(client.request(http_get(path)?).await?)
}

fn http_get(path: &str) -> Result<axum::http::Request<Vec<u8>>> {
    Ok(axum::http::Request::get(path).header("Accept", "application/json").body(Vec::new())?)
}

/// The documents of the API server by group and version, once all that are awaited are among them.
async fn published(client: &Client, awaited: &[String]) -> Result<Map<String, Value>> {
    let started = Instant::now();
    loop {
        let index = get(client, "/openapi/v3").await?;
        let paths = index["paths"].as_object().context("/openapi/v3 has no paths")?;
        let missing: Vec<_> = awaited.iter().filter(|version| !paths.contains_key(&format!("apis/{version}"))).collect();
        if missing.is_empty() {
            return Ok(paths.clone());
        }
        if started.elapsed() > PATIENCE {
            bail!("the API server publishes no schemas of {missing:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
