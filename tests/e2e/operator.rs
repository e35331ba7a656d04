//! The operator's Pod: installed, deleted, killed, uninstalled.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;
use usercert_test_support::{command::until, control_plane::repository, node::names};

use crate::cluster::{Cluster, OPERATOR_NAMESPACE};

pub const RELEASE: &str = "usercert-operator";

/// Installs the chart as its README says, with the image that is on the node already and the stand-in instead of Atlas.
pub async fn install(cluster: &Cluster) -> Result<((), String)> {
    for namespace in [OPERATOR_NAMESPACE, crate::cluster::SHOP] {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let object = serde_json::from_value(json!({ "metadata": { "name": namespace, "labels": labels } }))?;
        Api::<Namespace>::all(cluster.client.clone()).create(&PostParams::default(), &object).await?;
        ensure_restricted(cluster, namespace).await?;
    }
    let ca = cluster.directory.join("atlas-ca.crt");
    fs::write(&ca, cluster.atlas.ca_certificate().context("the stand-in serves no TLS")?)?;
    let from_file = format!("--from-file=ca.crt={}", ca.display());
    cluster.run("kubectl", &["--namespace", OPERATOR_NAMESPACE, "create", "configmap", "atlas-ca", &from_file]).await?;
    let chart = repository().join("charts/usercert-operator").display().to_string();
    let endpoint = format!("atlas.allowedEndpoints={{{}}}", cluster.atlas_url());
    let values = ["image.pullPolicy=Never", "atlas.caBundle.configMap=atlas-ca", "rollout.enabled=true", &endpoint];
    let mut arguments = vec!["install", RELEASE, &chart, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "180s"];
    arguments.extend(values.iter().flat_map(|value| ["--set", *value]));
    println!("$ helm {}", arguments.join(" "));
    cluster.run("helm", &arguments).await?;
    let [pod] = pods(cluster).await?.try_into().ok().context("there is not exactly one Pod of the operator")?;
    Ok(((), format!("{} is ready", pod.name_any())))
}

/// Runs the chart's test. The Service is headless, so that its name stands for the Pod.
pub async fn test(cluster: &Cluster) -> Result<((), String)> {
    let [pod] = pods(cluster).await?.try_into().ok().context("there is not exactly one Pod of the operator")?;
    let address = pod.status.and_then(|status| status.pod_ip).context("the operator's Pod has no address")?;
    names::add(&format!("{RELEASE}.{OPERATOR_NAMESPACE}.svc.cluster.local"), address.parse()?);
    let arguments = ["test", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--timeout", "120s"];
    println!("$ helm {}", arguments.join(" "));
    let told = cluster.run("helm", &arguments).await?;
    ensure!(
        told.lines().any(|line| line.starts_with("Phase:") && line.ends_with("Succeeded")),
        "the test has not succeeded:\n{told}"
    );
    Ok(((), format!("the Pod asked {address} by the Service's name, and succeeded")))
}

/// A Pod that says nothing of its security is refused.
async fn ensure_restricted(cluster: &Cluster, namespace: &str) -> Result<()> {
    let pod = json!({ "metadata": { "name": "lax" }, "spec": { "containers": [{ "name": "lax", "image": "lax" }] } });
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    // The namespace's ServiceAccount comes a moment after it.
    let refused = until("the ServiceAccount of the namespace", 20, async || {
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        let error = pods.create(&parameters, &serde_json::from_value(pod.clone())?).await.err().map(|error| error.to_string());
        Ok(Some(error).filter(|error| error.as_ref().is_none_or(|error| !error.contains("serviceaccount"))))
    });
    let refused = refused.await?.unwrap_or_default();
    ensure!(refused.contains("violates PodSecurity \"restricted"), "the level restricted is not in force: {refused}");
    Ok(())
}

/// The Pods of the operator that are not on their way out.
pub async fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let api = Api::<Pod>::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let mut pods = api.list(&ListParams::default().labels("app.kubernetes.io/name=usercert-operator")).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

/// Deletes the operator's Pod as a drain would, and gives its name.
pub async fn delete(cluster: &Cluster) -> Result<String> {
    let [pod] = pods(cluster).await?.try_into().ok().context("there is not exactly one Pod of the operator")?;
    let name = pod.name_any();
    Api::<Pod>::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE).delete(&name, &DeleteParams::default()).await?;
    Ok(name)
}

/// Sends SIGKILL to the operator's process, as the kernel does for want of memory. The namespace shows only processes of this test.
pub fn kill() -> Result<()> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
        if command.starts_with(b"/usercert-operator\0run") {
            processes.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let [process] = processes.try_into().map_err(|found| anyhow::anyhow!("not one process of the operator: {found:?}"))?;
    let killed = std::process::Command::new("sh").args(["-c", &format!("kill -KILL {process}")]).status()?;
    ensure!(killed.success(), "the process {process} could not be killed");
    Ok(())
}

/// Who has the lead.
pub async fn leader(cluster: &Cluster) -> Result<Option<String>> {
    let lease = Api::<Lease>::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE).get(RELEASE).await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty()))
}

/// Waits until another Pod than this one leads, and gives its name.
pub async fn other_leader(cluster: &Cluster, former: &str) -> Result<String> {
    until("another Pod leads", 60, async || Ok(leader(cluster).await?.filter(|leader| !leader.starts_with(former)))).await
}

/// Uninstalls the chart, and looks at what is left: the definitions, the certificates and their Secrets, as the chart's values say of `crds.keep`.
pub async fn uninstall(cluster: &Cluster) -> Result<((), String)> {
    let before = kept(cluster).await?;
    cluster.run("helm", &["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "180s"]).await?;
    until("the operator's Pod is gone", 60, async || Ok(pods(cluster).await?.is_empty().then_some(()))).await?;
    // The garbage collector would need a moment.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let after = kept(cluster).await?;
    ensure!(before == after, "before: {before:?}; after: {after:?}");
    for kind in ["deployment", "serviceaccount"] {
        let found = cluster.run("kubectl", &["-n", OPERATOR_NAMESPACE, "get", kind, RELEASE]).await;
        ensure!(found.is_err(), "the operator's {kind} is still there");
    }
    Ok(((), format!("{} certificates and Secrets are as before, the operator's own objects are gone", after.len())))
}

/// UID and version of each certificate and Secret.
async fn kept(cluster: &Cluster) -> Result<BTreeSet<(String, String)>> {
    let mut kept = BTreeSet::new();
    for certificate in cluster.certificates().list(&ListParams::default()).await? {
        kept.insert((certificate.uid().unwrap_or_default(), certificate.resource_version().unwrap_or_default()));
    }
    for secret in cluster.secrets().list(&ListParams::default()).await? {
        kept.insert((secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default()));
    }
    ensure!(kept.len() >= 4, "certificates or Secrets are missing: {kept:?}");
    Ok(kept)
}

/// The examples, with the stand-in instead of Atlas.
pub async fn apply_examples(cluster: &Cluster) -> Result<()> {
    let example = |name: &str| fs::read_to_string(repository().join("examples").join(name));
    let (key, certificate) = (cluster.directory.join("ca.key"), cluster.directory.join("ca.crt"));
    make_ca(&key, &certificate)?;
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    cluster.kubectl(&["create", "secret", "tls", "database-users-ca", "--cert", &certificate, "--key", &key]).await?;
    let atlas = example("atlas.yaml")?;
    ensure!(atlas.contains("https://cloud.mongodb.com"), "examples/atlas.yaml names another endpoint than the real Atlas");
    cluster.apply("atlas.yaml", &atlas.replace("https://cloud.mongodb.com", &cluster.atlas_url())).await?;
    cluster.apply("ca.yaml", &example("ca.yaml")?).await
}

fn make_ca(key: &Path, certificate: &Path) -> Result<()> {
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "3650", "-subj", "/O=Acme/CN=MongoDB users"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout"])
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .output()?;
    ensure!(made.status.success(), "openssl made no CA: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
