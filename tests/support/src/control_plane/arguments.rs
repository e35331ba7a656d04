//! The command lines of the parts.

use super::{Files, Place, audit_log};

pub(super) fn etcd(files: &Files, url: &str, peer_port: u16) -> Vec<String> {
    let peer = format!("http://127.0.0.1:{peer_port}");
    vec![
        format!("--data-dir={}", files.path("etcd")),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data is thrown away with the control plane.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(super) fn api_server(files: &Files, place: &Place, etcd_url: &str, port: u16) -> Vec<String> {
    let key = files.path("service-account.key");
    vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--secure-port={port}"),
        format!("--bind-address={}", place.address),
        format!("--cert-dir={}", files.0.display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={key}"),
        format!("--service-account-signing-key-file={key}"),
        format!("--authorization-mode={}", if place.users.is_empty() { "RBAC" } else { "Node,RBAC" }),
        format!("--token-auth-file={}", files.path("tokens.csv")),
        format!("--service-cluster-ip-range={}", place.service_range),
        format!("--audit-policy-file={}", files.path("audit-policy.yaml")),
        format!("--audit-log-path={}", audit_log(&files.0).display()),
        "--audit-log-mode=blocking".to_owned(),
        // Megabytes: all of it is counted, so it must not be rotated.
        "--audit-log-maxsize=10000".to_owned(),
    ]
}

pub(super) fn controllers(files: &Files, port: u16) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.path("admin.kubeconfig")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", files.path("service-account.key")),
        format!("--root-ca-file={}", files.path("apiserver.crt")),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
    ]
}
