//! containerd with runc and the CNI plugins.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::{network, program, run, wait_until};
use crate::control_plane::Supervised;

/// The image that keeps the namespaces of a Pod. Whoever starts a node brings it.
pub const PAUSE_IMAGE: &str = "usercert-test-pause:1";

/// `/run` is the namespace's own.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Starts it, and waits until it answers.
pub(super) async fn start(directory: &Path) -> Result<Supervised> {
    let file = directory.join("containerd.toml");
    fs::write(&file, configuration(directory, &program("runc")?))?;
    let arguments = [format!("--config={}", file.display())];
    let mut containerd = Supervised::spawn(&program("containerd")?, &arguments, &[], &directory.join("containerd.log"))?;
    wait_until("an answer of containerd", &mut containerd, async || ctr().is_ok_and(|mut ctr| run(ctr.arg("version")).is_ok()))
        .await?;
    Ok(containerd)
}

/// Imports the images of an archive. Nothing is pulled from anywhere.
pub(super) fn import(archive: &Path) -> Result<()> {
    run(ctr()?.args(["--namespace", "k8s.io", "images", "import"]).arg(archive)).map(|_| ())
}

fn ctr() -> Result<Command> {
    let mut command = Command::new(program("ctr")?);
    command.args(["--address", SOCKET]);
    Ok(command)
}

fn configuration(directory: &Path, runc: &Path) -> String {
    let folder = |name: &str| directory.join(name).display().to_string();
    let (root, optional, cni) = (folder("containerd"), folder("optional"), network::configuration(directory));
    let (cni, plugins, runc) = (cni.display(), network::PLUGINS, runc.display());
    // Without CAP_SYS_RESOURCE, as in many containers, runc must not lower an OOM score.
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{optional}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{runc}"
"#
    )
}
