//! The network of the node, inside a network namespace of its own. Its addresses are those that RFC 5737 reserves for examples.
//!
//! There is no kube-proxy. The API server itself listens on the address of the Service `kubernetes`, which is all that Pods need here.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use anyhow::Result;
use serde_json::json;

use super::{program, run};

/// Where Debian's package containernetworking-plugins has its programs.
pub(super) const PLUGINS: &str = "/usr/lib/cni";

/// The address of the Service `kubernetes`: the first of its range.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const SERVICES: &str = "192.0.2.0/25";
/// The node's own address, which Pods have as their gateway.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 129);
const PODS: &str = "192.0.2.128/25";
const BRIDGE: &str = "pods0";

/// Makes the bridge and the addresses. The API server needs them before there is a Pod.
pub(super) fn set_up(directory: &Path) -> Result<()> {
    let ip = program("ip")?;
    for arguments in [
        "link set lo up".to_owned(),
        format!("address add {SERVICE}/32 dev lo"),
        format!("link add {BRIDGE} type bridge"),
        format!("address add {NODE}/25 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
    ] {
        run(Command::new(&ip).args(arguments.split(' ')))?;
    }
    let folder = configuration(directory);
    fs::create_dir_all(&folder)?;
    let bridge = json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": PODS, "gateway": NODE }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dataDir": directory.join("addresses"),
        },
    });
    let list = json!({ "cniVersion": "0.4.0", "name": "pods", "plugins": [bridge] });
    Ok(fs::write(folder.join("pods.conflist"), list.to_string())?)
}

/// The folder of the CNI configuration.
pub(super) fn configuration(directory: &Path) -> std::path::PathBuf {
    directory.join("cni")
}
