//! The chart: what it makes of odd names and of null; and on a real API server every value set applied by the server's side, and an upgrade from
//! release 0.1.0 and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

mod names;
mod nulls;
mod upgrade;
mod value_sets;

use std::{fs, process::Command, sync::LazyLock};

use harness::{Cluster, Options};
use serde_json::Value;
use tokio::sync::Mutex;
use usercert_test_support::{
    atlas::DigestAlgorithm,
    command::output_with_input,
    control_plane::{repository, tool},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// Both tests change the definitions, and so run one after the other.
static DEFINITIONS: Mutex<()> = Mutex::const_new(());

/// Runs a tool against the cluster with this text as its input; what it prints.
fn run(cluster: &Cluster, program: &str, arguments: &[&str], input: &str) -> String {
    try_to_run(cluster, program, arguments, input)
        .unwrap_or_else(|message| panic!("{program} {}: {message}", arguments.join(" ")))
}

/// The same; what it says if it fails.
fn try_to_run(cluster: &Cluster, program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(tool(program).unwrap());
    command.args(arguments).env("KUBECONFIG", cluster.control_plane.kubeconfig());
    let output = output_with_input(&mut command, input).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The chart of this version.
fn chart() -> String {
    repository().join("charts/usercert-operator").display().to_string()
}

/// The values that the chart has by itself.
fn defaults() -> Value {
    let file = repository().join("charts/usercert-operator/values.yaml");
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What Helm makes of the chart without a cluster, with one file of values after the other; what it says if it fails.
fn rendered(release: &str, namespace: &str, files: &[&Value]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(tool("helm").unwrap());
    command.args(["template", release, &chart(), "--namespace", namespace]);
    for (number, values) in files.iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, values.to_string()).unwrap();
        command.arg("--values").arg(file);
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
