//! The logs in a bundle, from an API server on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod server;

use std::fs;

use serde_json::{Value, json};

use self::server::{Response, WITH_TOKEN, kubeconfig, program, serve};

const PODS: &str = "/api/v1/namespaces/usercert-system/pods";

/// A Pod whose containers have been restarted so often.
fn pod(name: &str, containers: &[(&str, u32)]) -> Value {
    let statuses = containers
        .iter()
        .map(|(name, restarts)| json!({ "name": name, "restartCount": restarts, "ready": true, "image": "i", "imageID": "i" }));
    json!({
        "metadata": { "name": name, "namespace": "usercert-system" },
        "spec": { "containers": containers.iter().map(|(name, _)| json!({ "name": name })).collect::<Vec<_>>() },
        "status": { "containerStatuses": statuses.collect::<Vec<_>>() },
    })
}

/// Answers as the API server does: a log is of one container, which has to be named if there are several.
fn answer(path: &str, query: &str, pods: &Value) -> Response {
    let of_query = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let json = |status, body: &Value| Response { status, content_type: "application/json", body: body.to_string() };
    let refused = |code: u16, message: &str| {
        json(
            code,
            &json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message, "reason": "r" }),
        )
    };
    match path.strip_prefix(PODS) {
        Some("") => json(200, &json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods })),
        Some(log) if log.ends_with("/log") => match (of_query("container"), of_query("previous")) {
            (None, _) => refused(400, "a container name must be specified"),
            (Some(container), previous) => {
                let before = if previous == Some("true") { " before" } else { "" };
                Response { status: 200, content_type: "text/plain", body: format!("{container}{before}: token=hunter2\n") }
            }
        },
        _ => refused(404, "not here"),
    }
}

#[test]
fn the_operators_log_is_read_beside_other_containers() {
    let pods = json!([
        pod("injected", &[("istio-proxy", 1), ("operator", 0)]),
        pod("restarted", &[("istio-proxy", 0), ("operator", 1)]),
        pod("renamed", &[("a", 0), ("b", 2)]),
    ]);
    let address = serve(move |_, path, query| answer(path, query, &pods));
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), &address, "", WITH_TOKEN);
    let bundle = folder.path().join("bundle");
    let to = format!("{}/", bundle.display());
    let said = program().args(["--kubeconfig", config.to_str().unwrap(), "report", "--to", &to]).output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    let readme = fs::read_to_string(bundle.join("README.txt")).unwrap();
    let expected = [
        ("injected.log", "operator"),
        ("restarted.log", "operator"),
        ("restarted-before.log", "operator before"),
        ("renamed/a.log", "a"),
        ("renamed/b.log", "b"),
        ("renamed/b-before.log", "b before"),
    ];
    for (file, log) in expected {
        let text = fs::read_to_string(bundle.join("operator").join(file)).unwrap_or_else(|_| readme.clone());
        assert_eq!(text, format!("{log}: token=[taken out]\n"), "{file}");
    }
    assert_eq!(readme.matches(".log").count(), expected.len(), "{readme}");
}
