//! Workloads whose Pods mount the Secrets and tell which certificate they see.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::cluster::{CONSUMER_IMAGE, Cluster, SHOP, until};

/// The Secret of the certificate from Atlas, and the one of the certificate from the CA: those of the examples.
pub const ATLAS_SECRET: &str = "orders-mongodb";
pub const CA_SECRET: &str = "reports-mongodb";

/// Kind, name, replicas (a `DaemonSet` has as many as there are nodes), and the Secrets that are mounted.
pub const WORKLOADS: [(&str, &str, u64, &[&str]); 3] = [
    ("Deployment", "orders", 2, &[ATLAS_SECRET]),
    ("StatefulSet", "ledger", 2, &[CA_SECRET]),
    ("DaemonSet", "agent", 1, &[ATLAS_SECRET, CA_SECRET]),
];

/// A Pod has loaded a certificate.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// `KIND/NAME` of the workload.
    pub workload: String,
    pub pod: String,
    pub secret: String,
    /// The serial number, or what is wrong.
    pub serial: String,
    pub time: Timestamp,
}

/// The manifests of all workloads.
pub fn manifests() -> String {
    let items = WORKLOADS.map(|(kind, name, replicas, secrets)| manifest(kind, name, replicas, secrets));
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn manifest(kind: &str, name: &str, replicas: u64, secrets: &[&str]) -> Value {
    let files: Vec<String> = secrets.iter().map(|secret| format!("/certificates/{secret}/tls-combined.pem")).collect();
    let command = |first: &[&str]| [first.iter().map(ToString::to_string).collect(), files.clone()].concat();
    let mounts = secrets.iter().map(|secret| json!({ "name": secret, "mountPath": format!("/certificates/{secret}") }));
    let volumes = secrets.iter().map(|secret| json!({ "name": secret, "secret": { "secretName": secret } }));
    let labels = json!({ "app": name, "consumer": "true" });
    let mut spec = json!({
        "selector": { "matchLabels": { "app": name } },
        "template": {
            "metadata": { "labels": labels },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 5,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "consumer",
                    "image": CONSUMER_IMAGE,
                    "imagePullPolicy": "Never",
                    "args": command(&["watch"]),
                    "readinessProbe": { "exec": { "command": command(&["/secret-reader", "check"]) }, "periodSeconds": 2 },
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                    },
                    "volumeMounts": mounts.collect::<Vec<_>>(),
                }],
                "volumes": volumes.collect::<Vec<_>>(),
            },
        },
    });
    if kind != "DaemonSet" {
        spec["replicas"] = replicas.into();
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = name.into();
    }
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": SHOP }, "spec": spec })
}

/// Everything that the Pods that are there have told, in no order.
pub async fn sightings(cluster: &Cluster) -> Result<Vec<Sighting>> {
    let mut sightings = Vec::new();
    for pod in pods(cluster).await? {
        let workload = workload_of(&pod).with_context(|| format!("the Pod {} belongs to no workload", pod.name_any()))?;
        let folder = cluster.node.pod_logs(SHOP, &pod.name_any(), &pod.uid().unwrap_or_default());
        // One file for each start of the container.
        for entry in fs::read_dir(folder.join("consumer")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path())?;
            sightings.extend(text.lines().filter_map(|line| read(line, &workload, &pod.name_any())));
        }
    }
    Ok(sightings)
}

/// Reads `TIME stdout F /certificates/SECRET/tls-combined.pem SERIAL`, as the container runtime writes it.
fn read(line: &str, workload: &str, pod: &str) -> Option<Sighting> {
    let mut words = line.splitn(5, ' ');
    let time = words.next()?.parse().ok()?;
    let (_, _, file, serial) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let secret = file.strip_prefix("/certificates/")?.split('/').next()?.to_owned();
    Some(Sighting { workload: workload.to_owned(), pod: pod.to_owned(), secret, serial: serial.to_owned(), time })
}

/// The Pods of all workloads that are not on their way out.
pub async fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let api = Api::<Pod>::namespaced(cluster.client.clone(), SHOP);
    let mut pods = api.list(&ListParams::default().labels("consumer=true")).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

fn workload_of(pod: &Pod) -> Option<String> {
    let app = pod.labels().get("app")?;
    WORKLOADS.iter().find(|(_, name, _, _)| name == app).map(|(kind, name, _, _)| format!("{kind}/{name}"))
}

/// Waits until each Pod that mounts the Secret has loaded this certificate, and says when each did.
pub async fn all_see(cluster: &Cluster, secret: &str, serial: &str, seconds: u64) -> Result<Vec<Sighting>> {
    let of_workload =
        |(_, _, replicas, secrets): &(&str, &str, u64, &[&str])| if secrets.contains(&secret) { *replicas } else { 0 };
    let expected = WORKLOADS.iter().map(of_workload).sum::<u64>();
    until(&format!("{expected} Pods see {serial}"), seconds, async || {
        let mut seen = sightings(cluster).await?;
        seen.retain(|sighting| sighting.secret == secret && sighting.serial == serial);
        Ok((seen.len() as u64 >= expected).then_some(seen))
    })
    .await
}

/// No Pod ever saw a file that could not be loaded, and no container was restarted.
pub async fn ensure_undisturbed(cluster: &Cluster) -> Result<()> {
    for sighting in sightings(cluster).await? {
        ensure!(!sighting.serial.starts_with("unusable"), "{} saw a bad file: {}", sighting.pod, sighting.serial);
    }
    for pod in pods(cluster).await? {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
        ensure!(statuses.iter().all(|status| status.restart_count == 0 && status.ready), "{} is disturbed", pod.name_any());
    }
    Ok(())
}
