//! A bundle holds what helps, and nothing that is secret.

use std::path::Path;

use serde_json::json;
use usercert_cli::exit::Exit;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::{
    atlas::X509Type,
    evidence::{self, Kind},
};

use super::{CLUSTER, PRIVATE_API_KEY, Shop, usercert};

/// Every file below a folder, as one text.
fn all_files(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { all_files(&path) } else { std::fs::read_to_string(path).unwrap() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_all_but_what_is_secret() {
    let shop = Shop::open(&CLUSTER, "reported").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({ "formats": [{ "type": "PKCS12" }] })).await;
    shop.until_ready(&name).await;
    shop.certificate("refused", "atlas", json!({})).await;
    shop.until("refused", "Ready", "False AtlasUserNotFound").await;
    // What people leave where it does not belong.
    let key = shop.value(&name, "tls.key").await;
    let applied = json!({ "metadata": { "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": key, "usercert.dev/note": format!("restored from {key}"),
    } } });
    shop.patch_secret(&name, applied.clone()).await;
    let objects = shop.api::<DatabaseUserCertificate>();
    objects.patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(applied)).await.unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(shop.client.clone(), &shop.namespace);
    let pod = json!({
        "metadata": { "name": format!("operator-{}", shop.namespace), "labels": { "app.kubernetes.io/name": "usercert-operator" } },
        "spec": { "containers": [{ "name": "operator", "image": "operator", "env": [
            { "name": "HTTPS_PROXY", "value": "http://proxy:hunter2-of-the-proxy@proxy:3128" }] },
            { "name": "cache", "image": "cache", "args": ["--requirepass", "hunter2-of-the-cache"],
                "livenessProbe": { "exec": { "command": ["redis-cli", "-a", "hunter2-of-the-probe", "ping"] } },
                "readinessProbe": { "httpGet": { "port": 80, "httpHeaders": [{ "name": "X-Key", "value": "hunter2-of-the-header" }] } },
                "lifecycle": { "preStop": { "exec": { "command": ["stop", "--key=hunter2-of-the-hook"] } } } }] },
    });
    pods.create(&kube::api::PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let to = format!("{}/bundle/", folder.path().display());
    let connection = ["--operator-namespace", shop.namespace.as_str()];
    usercert(&shop, &[&["report", "--to", &to], &connection[..]].concat())
        .await
        .says(Exit::Good, &["look at it before you hand it on"]);
    let bundle = all_files(Path::new(&to));
    evidence::append(Kind::Log, bundle.as_bytes());
    for expected in
        [name.as_str(), "refused", "AtlasUserNotFound", "HTTPS_PROXY", "X-Key", "--requirepass", "usercert.dev/serial-number"]
    {
        assert!(bundle.contains(expected), "{expected} is missing");
    }
    let mut secrets = vec![PRIVATE_API_KEY.to_owned(), "hunter2-of-the".to_owned()];
    for secret in [&name, "atlas-api-key"] {
        for (entry, value) in shop.secret(secret).await.unwrap().data.unwrap() {
            // Certificates are no secrets, and keys of API keys have names that are in Atlas's answers.
            if !matches!(entry.as_str(), "tls.crt" | "publicApiKey") {
                secrets.push(serde_json::to_value(&value).unwrap().as_str().unwrap().to_owned());
                let text = String::from_utf8_lossy(&value.0).into_owned();
                let lines = text.lines().filter(|line| line.len() > 20 && !line.starts_with("-----"));
                let in_certificate = shop.value(&name, "tls.crt").await;
                secrets.extend(lines.filter(|line| !in_certificate.contains(line)).map(str::to_owned));
            }
        }
    }
    assert!(secrets.len() > 8, "the Secrets have values");
    for secret in secrets {
        assert!(!bundle.contains(&secret), "a secret is in the bundle: {secret}");
    }
    assert!(!bundle.contains("PRIVATE KEY-----"), "a key is in the bundle");
    let archive = folder.path().join("bundle.tar.gz");
    let archive = archive.to_str().unwrap();
    usercert(&shop, &["report", "--to", archive]).await.says(Exit::Good, &["bundle.tar.gz has"]);
    usercert(&shop, &["report", "--to", archive]).await.says(Exit::Usage, &["exists: give another name"]);
}
