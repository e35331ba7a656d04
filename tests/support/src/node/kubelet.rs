//! The kubelet, with its defaults where nothing is said: above all, how soon it looks at Secrets again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use super::{NAME, containerd, network, wait_until};
use crate::control_plane::{ControlPlane, Supervised, free_ports, tool};

/// Starts it. `cgroup` is the path of a cgroup below which all Pods are.
pub(super) fn start(directory: &Path, cgroup: &str, kubeconfig: &Path) -> Result<Supervised> {
    let [port] = free_ports()?;
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": port,
        "healthzPort": 0,
        "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": true } },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // The machine's other users may have filled its disk.
        "evictionHard": { "memory.available": "10Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%" },
        "makeIPTablesUtilChains": false,
        "clusterDNS": [network::NODE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": pod_logs(directory),
        "volumePluginDir": directory.join("volume-plugins"),
    });
    let file = directory.join("kubelet.json");
    fs::write(&file, configuration.to_string())?;
    let arguments = [
        format!("--config={}", file.display()),
        format!("--root-dir={}", directory.join("kubelet").display()),
        format!("--cert-dir={}", directory.join("kubelet-certificates").display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={}", network::NODE),
    ];
    Supervised::spawn(&tool("kubelet")?, &arguments, &[], &directory.join("kubelet.log"))
}

/// Where the logs of the Pods are.
pub(super) fn pod_logs(directory: &Path) -> PathBuf {
    directory.join("pod-logs")
}

/// Waits until the node has registered itself and says Ready.
pub(super) async fn wait_until_ready(control_plane: &ControlPlane, kubelet: &mut Supervised) -> Result<()> {
    let nodes = Api::<Node>::all(control_plane.admin().await?);
    wait_until("a Ready node", kubelet, async || {
        let node = nodes.get_opt(NAME).await.ok().flatten();
        let conditions = node.and_then(|node| node.status).and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
    .await
}
