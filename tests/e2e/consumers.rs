//! Workloads whose Pods mount the Secrets and tell which certificate they see.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use usercert_test_support::command::until;

use crate::cluster::{CONSUMER_IMAGE, Cluster, SHOP};

/// The Secret of the certificate from Atlas, and the one of the certificate from the CA: those of the examples.
pub const ATLAS_SECRET: &str = "orders-mongodb";
pub const CA_SECRET: &str = "reports-database";

/// A workload that mounts Secrets.
pub struct Workload {
    pub kind: &'static str,
    pub name: &'static str,
    /// A `DaemonSet` has as many as there are nodes.
    pub replicas: u64,
    pub secrets: &'static [&'static str],
    /// As sources of projected volumes, not as volumes of their own.
    pub projected: bool,
}

impl Workload {
    /// `KIND/NAME`, as kubectl takes it.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// All of them.
pub const WORKLOADS: [Workload; 4] = [
    Workload { kind: "Deployment", name: "orders", replicas: 2, secrets: &[ATLAS_SECRET], projected: false },
    Workload { kind: "Deployment", name: "billing", replicas: 1, secrets: &[CA_SECRET], projected: true },
    Workload { kind: "StatefulSet", name: "ledger", replicas: 2, secrets: &[CA_SECRET], projected: false },
    Workload { kind: "DaemonSet", name: "agent", replicas: 1, secrets: &[ATLAS_SECRET, CA_SECRET], projected: false },
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
    /// Whether it is the first that the Pod saw of this Secret.
    pub first: bool,
}

/// The manifests of all workloads.
pub fn manifests() -> String {
    let items = WORKLOADS.iter().map(manifest).collect::<Vec<_>>();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn manifest(workload: &Workload) -> Value {
    let Workload { kind, name, replicas, secrets, projected } = workload;
    let files: Vec<String> = secrets.iter().map(|secret| format!("/certificates/{secret}/tls-combined.pem")).collect();
    let command = |first: &[&str]| [first.iter().map(ToString::to_string).collect(), files.clone()].concat();
    let mounts = secrets.iter().map(|secret| json!({ "name": secret, "mountPath": format!("/certificates/{secret}") }));
    let volumes = secrets.iter().map(|secret| match projected {
        true => json!({ "name": secret, "projected": { "sources": [{ "secret": { "name": secret } }] } }),
        false => json!({ "name": secret, "secret": { "secretName": secret } }),
    });
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
                    "readinessProbe": {
                        "exec": { "command": command(&["/secret-reader", "check"]) }, "timeoutSeconds": 10, "periodSeconds": 5,
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                    },
                    "volumeMounts": mounts.collect::<Vec<_>>(),
                }],
                "volumes": volumes.collect::<Vec<_>>(),
            },
        },
    });
    if *kind != "DaemonSet" {
        spec["replicas"] = (*replicas).into();
    }
    if *kind == "StatefulSet" {
        spec["serviceName"] = (*name).into();
    }
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": SHOP }, "spec": spec })
}

/// Everything that the Pods that are there have told, each in its order.
pub async fn sightings(cluster: &Cluster) -> Result<Vec<Sighting>> {
    let mut sightings = Vec::new();
    for pod in pods(cluster).await? {
        let workload = workload_of(&pod).with_context(|| format!("the Pod {} belongs to no workload", pod.name_any()))?;
        let folder = cluster.node.pod_logs(SHOP, &pod.name_any(), &pod.uid().unwrap_or_default());
        // There is no file yet while the container has not started. No container is started twice.
        let text = fs::read_to_string(folder.join("consumer/0.log")).unwrap_or_default();
        let mut secrets = BTreeSet::new();
        for mut sighting in text.lines().filter_map(|line| read(line, &workload, &pod.name_any())) {
            sighting.first = secrets.insert(sighting.secret.clone());
            sightings.push(sighting);
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
    Some(Sighting { workload: workload.to_owned(), pod: pod.to_owned(), secret, serial: serial.to_owned(), time, first: false })
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
    WORKLOADS.iter().find(|workload| workload.name == app).map(Workload::path)
}

/// Waits until each Pod that mounts the Secret has loaded this certificate, those that are being replaced included, and says when each did.
pub async fn all_see(cluster: &Cluster, secret: &str, serial: &str, seconds: u64) -> Result<Vec<Sighting>> {
    let users: Vec<&Workload> = WORKLOADS.iter().filter(|workload| workload.secrets.contains(&secret)).collect();
    until(&format!("all Pods see {serial}"), seconds, async || {
        let mut seen = sightings(cluster).await?;
        seen.retain(|sighting| sighting.secret == secret && sighting.serial == serial);
        let present = pods(cluster).await?.iter().filter_map(workload_of).collect::<Vec<_>>();
        let complete = users.iter().all(|workload| {
            let seeing = seen.iter().filter(|sighting| sighting.workload == workload.path()).count() as u64;
            let present = present.iter().filter(|path| **path == workload.path()).count() as u64;
            seeing >= workload.replicas && seeing >= present
        });
        Ok(complete.then_some(seen))
    })
    .await
}

/// No Pod that is there ever saw a file that could not be loaded. What a Pod has seen goes with it, so this is asked before Pods are replaced.
pub async fn ensure_whole(cluster: &Cluster) -> Result<()> {
    for sighting in sightings(cluster).await? {
        ensure!(!sighting.serial.starts_with("unusable"), "{} saw a bad file: {}", sighting.pod, sighting.serial);
    }
    Ok(())
}

/// The same, no container was restarted, and all are ready, which one that was probed on a busy machine is again soon.
pub async fn ensure_undisturbed(cluster: &Cluster) -> Result<()> {
    ensure_whole(cluster).await?;
    until("all consumers are ready", 60, async || {
        let mut all_ready = true;
        for pod in pods(cluster).await? {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
            ensure!(statuses.iter().all(|status| status.restart_count == 0), "{} was restarted", pod.name_any());
            all_ready &= !statuses.is_empty() && statuses.iter().all(|status| status.ready);
        }
        Ok(all_ready.then_some(()))
    })
    .await
}
