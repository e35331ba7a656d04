//! The program itself on its way to Atlas: through a proxy, past it, and with a CA that the system does not know. And what it writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{path::Path, sync::LazyLock};

use harness::{Cluster, Options, PRIVATE_API_KEY, Shop};
use serde_json::json;
use usercert_test_support::{
    atlas::{DigestAlgorithm, StandIn, StandInConfig, X509Type},
    command::command_alone,
    control_plane::Supervised,
    evidence,
    proxy::Proxy,
};

/// The operator of the harness serves another namespace.
static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &["connected", "elsewhere"] }));

const NAMED: &str = "atlas.test";

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_and_a_private_ca_lead_to_atlas_and_tls_is_always_verified() {
    let shop = Shop::in_namespace(&CLUSTER, "connected").await;
    shop.cluster.kill_operator();
    let atlas = StandIn::start(StandInConfig { tls: true, ..StandInConfig::default() }).await.unwrap();
    atlas.add_project(&shop.project, &shop.public_key, PRIVATE_API_KEY);
    let address = atlas.url().trim_start_matches("https://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    shop.apply_secret("atlas-api-key", &[("publicApiKey", &shop.public_key), ("privateApiKey", PRIVATE_API_KEY)]).await;
    for (name, endpoint) in [("proxied", format!("https://{NAMED}")), ("direct", atlas.url())] {
        let mut issuer = shop.atlas_issuer_manifest("v2");
        issuer["metadata"]["name"] = json!(name);
        issuer["spec"]["atlas"]["endpoint"] = json!(endpoint);
        shop.apply(issuer).await;
        atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.certificate(name, name, json!({})).await;
    }
    let files = tempfile::tempdir().unwrap();
    let untrusting = start(&shop, &proxy, &atlas.url(), files.path(), None);
    for name in ["proxied", "direct"] {
        shop.until(name, "Ready", "False AtlasUnavailable").await;
        assert!(shop.message(name, "Ready").await.to_lowercase().contains("certificate"), "the message tells of TLS");
    }
    drop(untrusting);
    assert!(atlas.requests().is_empty(), "nothing was sent to who is not trusted");

    let bundle = files.path().join("ca.crt");
    std::fs::write(&bundle, atlas.ca_certificate().unwrap()).unwrap();
    let _trusting = start(&shop, &proxy, &atlas.url(), files.path(), Some(&bundle));
    for name in ["proxied", "direct"] {
        shop.annotate(name, "usercert.dev/renew-requested-at", "now").await;
        shop.until_ready(name).await;
        assert_eq!(atlas.mints_of(name).len(), 1);
    }
    for log in ["untrusting.log", "trusting.log"] {
        evidence::append(evidence::Kind::Log, &std::fs::read(files.path().join(log)).unwrap());
    }
    let asked = proxy.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|host| *host == format!("{NAMED}:443")),
        "NO_PROXY names the other: {asked:?}"
    );
}

/// The program, as a Pod would run it.
fn start(shop: &Shop, proxy: &Proxy, direct: &str, files: &Path, bundle: Option<&Path>) -> Supervised {
    let mut arguments =
        vec!["run".to_owned(), "--watch-namespace=connected".to_owned(), "--http-address=127.0.0.1:0".to_owned()];
    arguments.push(format!("--allowed-atlas-endpoint=https://{NAMED},{direct}"));
    arguments.extend(bundle.map(|bundle| format!("--atlas-ca-file={}", bundle.display())));
    let environment = [
        ("KUBECONFIG", shop.cluster.control_plane.kubeconfig().display().to_string()),
        ("HTTPS_PROXY", proxy.url()),
        ("NO_PROXY", "127.0.0.1".to_owned()),
        ("RUST_LOG", "usercert_operator=trace,reqwest=trace,info".to_owned()),
    ];
    let log = files.join(if bundle.is_some() { "trusting.log" } else { "untrusting.log" });
    Supervised::spawn_alone(Path::new(env!("CARGO_BIN_EXE_usercert-operator")), &arguments, &environment, &log).unwrap()
}

#[tokio::test]
async fn a_bundle_without_certificates_stops_the_program_with_a_reason() {
    let files = tempfile::tempdir().unwrap();
    let bundle = files.path().join("empty.crt");
    std::fs::write(&bundle, "nothing").unwrap();
    let cluster = tokio::task::spawn_blocking(|| &*CLUSTER).await.unwrap();
    let output = command_alone(env!("CARGO_BIN_EXE_usercert-operator"))
        .args(["run", "--http-address=127.0.0.1:0"])
        .arg(format!("--atlas-ca-file={}", bundle.display()))
        .env("KUBECONFIG", cluster.control_plane.kubeconfig())
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("CA bundle"), "{message}");
}

#[test]
fn a_reader_that_has_closed_the_pipe_is_no_error() {
    let mut program = command_alone(env!("CARGO_BIN_EXE_usercert-operator"))
        .arg("crds")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(program.stdout.take());
    let output = program.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn a_full_disk_is_told() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command_alone(env!("CARGO_BIN_EXE_usercert-operator")).arg("crds").stdout(full).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && message.contains("could not write the answer: see whether the disk is full"),
        "{message}"
    );
}
