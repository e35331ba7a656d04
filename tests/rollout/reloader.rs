//! stakater/Reloader, which restarts the workloads of a Secret too.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::eventually,
    stage::{LAG, Stage, manifest},
};

const IGNORE: &str = "reloader.stakater.com/ignore";

impl Stage {
    /// What the Secret tells Reloader.
    async fn told_to_reloader(&self, name: &str) -> Option<String> {
        self.shop.secret(name).await.unwrap().metadata.annotations.unwrap().remove(IGNORE)
    }

    async fn until_told_to_reloader(&self, name: &str, expected: Option<&str>) {
        let told = || async { (self.told_to_reloader(name).await.as_deref() == expected).then_some(()) };
        eventually(&format!("{IGNORE} of {name} is {expected:?}"), told).await;
    }

    async fn serial_number(&self, name: &str) -> Option<String> {
        self.shop.status(name).await.serial_number
    }

    async fn apply_spec(&self, name: &str, spec: Value) {
        self.shop.certificate(name, "ca", spec).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloader_is_told_to_leave_the_workloads_of_a_secret_to_a_rollout_of_all_of_them() {
    let stage = Stage::open("reloader-told").await;
    let auto = json!({ "rollout": { "auto": true } });
    stage.apply_spec("new", auto.clone()).await;
    stage.shop.until_ready("new").await;
    assert_eq!(stage.told_to_reloader("new").await.as_deref(), Some("true"), "from the first write on");

    stage.apply_spec("orders", json!({ "rollout": { "workloads": [{ "kind": "Deployment", "name": "web" }] } })).await;
    stage.shop.until_ready("orders").await;
    assert_eq!(stage.told_to_reloader("orders").await, None, "others may rely on Reloader");
    let serial_number = stage.serial_number("orders").await;
    stage.apply_spec("orders", auto.clone()).await;
    stage.until_told_to_reloader("orders", Some("true")).await;

    let removed = json!({ "metadata": { "annotations": { IGNORE: null } } });
    stage.shop.patch_secret("orders", removed).await;
    stage.until_told_to_reloader("orders", Some("true")).await;
    let of_the_user = json!({ "rollout": { "auto": true }, "secretTemplate": { "annotations": { IGNORE: "false" } } });
    stage.apply_spec("orders", of_the_user).await;
    stage.until_told_to_reloader("orders", Some("false")).await;
    stage.apply_spec("orders", auto).await;
    stage.until_told_to_reloader("orders", Some("true")).await;
    stage.apply_spec("orders", json!({})).await;
    stage.until_told_to_reloader("orders", None).await;
    assert_eq!(stage.serial_number("orders").await, serial_number, "nothing was issued for that");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_not_restart_workloads_leaves_them_to_reloader() {
    let stage = Stage::with("reloader-off", |config| config, crate::harness::Operator::without_rollout).await;
    stage.apply_spec("orders", json!({ "rollout": { "auto": true } })).await;
    stage.shop.until("orders", "RolledOut", "False RolloutNotEnabled").await;
    assert_eq!(stage.told_to_reloader("orders").await, None);
}

/// The program of Reloader. It is killed when this is dropped.
struct Reloader {
    child: Child,
    log: PathBuf,
}

impl Drop for Reloader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reloader {
    /// Starts it for the namespace of the stage.
    fn start(stage: &Stage) -> Self {
        let program = std::env::var("RELOADER").expect("RELOADER names the program");
        let log = stage.shop.cluster.control_plane.directory().join("reloader.log");
        let child = Command::new(program)
            .env("KUBECONFIG", stage.shop.cluster.control_plane.kubeconfig())
            .env("KUBERNETES_NAMESPACE", &stage.shop.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn();
        Self { child: child.unwrap(), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// A Deployment that asks for Reloader.
async fn deployment(stage: &Stage, name: &str, annotations: Value, secrets: &[&str]) {
    let mut object = manifest("Deployment", name, secrets, &json!({}));
    object["metadata"]["annotations"] = annotations;
    // Reloader looks for the container that mounts it.
    let mounts: Vec<Value> =
        secrets.iter().map(|secret| json!({ "name": secret, "mountPath": format!("/{secret}") })).collect();
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!(mounts);
    stage.shop.apply(object).await;
    stage.until_rolled_out("Deployment", name).await;
}

async fn until_changes(stage: &Stage, name: &str, count: i64) {
    let changed = || async { (stage.changes("Deployment", name).await == count).then_some(()) };
    eventually(&format!("{name} has changed {count} times"), changed).await;
}

/// Reloader works through the Secrets of a namespace one after the other. So when it has restarted `control` for a Secret that was changed
/// last, it is through with those before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of stakater/Reloader: make reloader RELOADER=FILE"]
async fn beside_reloader_a_workload_is_restarted_once() {
    let stage = Stage::open("reloader").await;
    let auto = || json!({ "reloader.stakater.com/auto": "true" });
    stage.certificate("orders", json!({ "auto": true })).await;
    stage.apply_spec("payments", json!({})).await;
    stage.shop.until_ready("payments").await;
    let shared = json!({ "rollout": { "auto": true }, "secretTemplate": { "annotations": { IGNORE: "false" } } });
    stage.apply_spec("billing", shared).await;
    stage.shop.until_ready("billing").await;
    stage.operator.advance(LAG);
    deployment(&stage, "web", auto(), &["orders"]).await;
    deployment(&stage, "reader", json!({ "secret.reloader.stakater.com/reload": "orders" }), &[]).await;
    deployment(&stage, "control", auto(), &["payments"]).await;
    deployment(&stage, "both", auto(), &["billing"]).await;
    for name in ["orders", "billing"] {
        stage.until_complete(name).await;
    }

    let reloader = Reloader::start(&stage);
    // It tells nobody when it has begun to watch.
    let mut tries = 0;
    while stage.changes("Deployment", "control").await == 0 {
        tries += 1;
        assert!(tries < 20, "Reloader restarts nobody: {}", reloader.log());
        stage.renew("payments").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    stage.until_rolled_out("Deployment", "control").await;
    let before = stage.changes("Deployment", "control").await;

    stage.renew("orders").await;
    stage.renew("billing").await;
    stage.renew("payments").await;
    until_changes(&stage, "control", before + 1).await;
    for (name, count) in [("web", 0), ("reader", 0), ("both", 1)] {
        assert_eq!(stage.changes("Deployment", name).await, count, "{name}: what Reloader has changed");
    }
    stage.until_rolled_out("Deployment", "both").await;
    stage.operator.advance(LAG);
    for name in ["orders", "billing"] {
        stage.until_complete(name).await;
    }
    for (name, count) in [("web", 1), ("reader", 1), ("both", 2), ("control", before + 1)] {
        assert_eq!(stage.changes("Deployment", name).await, count, "{name}: what Reloader and the operator have changed");
    }

    // A change of the annotation alone restarts nobody, and without the rollout Reloader is in charge again.
    stage.apply_spec("orders", json!({})).await;
    stage.until_told_to_reloader("orders", None).await;
    stage.renew("payments").await;
    until_changes(&stage, "control", before + 2).await;
    assert_eq!(stage.changes("Deployment", "web").await, 1);
    stage.renew("orders").await;
    until_changes(&stage, "web", 2).await;
}
