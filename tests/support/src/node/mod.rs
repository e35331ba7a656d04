//! A real node for the control plane: containerd, runc, the CNI plugins, kubelet and kube-scheduler, without Docker and without a service manager.
//!
//! All of it runs in namespaces of its own ([`isolated`]): network, processes and mounts. Nothing of the machine's network is touched, no registry
//! and no other host is reached, and the end of the namespace ends every process in it. It needs root.

mod cgroup;
mod containerd;
pub mod image;
mod isolation;
mod kubelet;
pub mod names;
pub mod network;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{on_path, run},
    control_plane::{ControlPlane, Place, START_LIMIT, Supervised, tool},
};

pub use containerd::PAUSE_IMAGE;
pub use isolation::{Isolated, isolated};

/// The node's name.
pub const NAME: &str = "node";

/// The user of the kubelet: the node authorizer goes by this name, and lets it read the Secrets of its own Pods alone.
const KUBELET: &str = "system:node:node";
const SCHEDULER: &str = "system:kube-scheduler";

/// What is missing for a node on this machine, as one sentence; `None` if nothing is.
#[must_use]
pub fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let programs = ["containerd", "ctr", "runc", "ip", "unshare", "mount"].into_iter().all(|name| find(name).is_some());
    (!root || !programs || !Path::new(network::PLUGINS).join("bridge").is_file()).then(|| {
        "needs root, containerd, runc and the CNI plugins (apt-get install containerd runc containernetworking-plugins iproute2)".to_owned()
    })
}

/// A control plane and a node, ready for Pods. Everything stops when it is dropped.
pub struct Node {
    // Dropped in this order: the kubelet first, for it would start again what ends.
    kubelet: Supervised,
    _scheduler: Supervised,
    _containerd: Supervised,
    control_plane: ControlPlane,
    directory: PathBuf,
}

impl Node {
    /// Starts it, with the images of these archives.
    ///
    /// # Errors
    /// A program is missing or does not become ready; the message names its log.
    pub async fn start(place: &Isolated, archives: &[&Path]) -> Result<Self> {
        let directory = place.directory().to_owned();
        network::set_up(&directory)?;
        names::serve().await?;
        let containerd = containerd::start(&directory).await?;
        for archive in archives {
            containerd::import(archive)?;
        }
        let control_plane = ControlPlane::start_at(&Place {
            address: network::SERVICE.into(),
            port: Some(443),
            service_range: network::SERVICES.to_owned(),
            users: vec![
                (KUBELET.to_owned(), "system:nodes".to_owned()),
                (SCHEDULER.to_owned(), "system:authenticated".to_owned()),
            ],
        })
        .await?;
        let scheduler = scheduler(&directory, &control_plane)?;
        let kubelet = kubelet::start(&directory, place.cgroup(), &control_plane.user_kubeconfig(KUBELET))?;
        let mut node = Self { kubelet, _scheduler: scheduler, _containerd: containerd, control_plane, directory };
        kubelet::wait_until_ready(&node.control_plane, &mut node.kubelet).await?;
        Ok(node)
    }

    /// The control plane.
    #[must_use]
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The folder with the logs of a Pod's containers: `CONTAINER/0.log`, each line with the time at which it was written.
    #[must_use]
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        kubelet::pod_logs(&self.directory).join(format!("{namespace}_{name}_{uid}"))
    }
}

fn scheduler(directory: &Path, control_plane: &ControlPlane) -> Result<Supervised> {
    let arguments = [
        format!("--kubeconfig={}", control_plane.user_kubeconfig(SCHEDULER).display()),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ];
    Supervised::spawn(&tool("kube-scheduler")?, &arguments, &[], &directory.join("kube-scheduler.log"))
}

/// A program of the system. Those of the administrator are not on everybody's PATH.
fn find(name: &str) -> Option<PathBuf> {
    let further = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    on_path(name).into_iter().chain(further).find(|program| program.is_file())
}

fn program(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("{name} is missing"))
}

/// Asks again until the answer is yes, or the process has ended, or the time is over.
async fn wait_until(what: &str, process: &mut Supervised, mut question: impl AsyncFnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !question().await {
        ensure!(
            process.is_running() && started.elapsed() < START_LIMIT,
            "{what} did not come; see {}",
            process.log().display()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
