//! From the chart of release 0.1.0 to this one and back, with certificates in service: nothing is issued again and no Secret is written.
//!
//! The chart of 0.1.0 is kept here as it was packaged, and its rights and definitions are shown with the program of this version. The program of
//! 0.1.0 is not kept: whoever has it runs the second test (`make upgrade FORMER_OPERATOR=FILE`).

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::ByteString;
use kube::ResourceExt;
use serde_json::json;
use usercert_test_support::{
    atlas::X509Type,
    control_plane::{Supervised, free_ports, repository},
    evidence,
};

use crate::{
    CLUSTER, DEFINITIONS, chart,
    harness::{Cluster, Shop, create_namespace, eventually},
    run, try_to_run,
};

const RELEASE: &str = "usercert-operator";
const NAMESPACE: [&str; 2] = ["--namespace", "usercert-system"];
/// With their issuers.
const CERTIFICATES: [(&str, &str); 3] = [("reports", "ca"), ("orders", "atlas"), ("kept", "ca")];

#[tokio::test]
async fn an_upgrade_from_the_chart_of_the_first_release_and_back_issues_nothing() {
    upgrade_and_back("in-service", &this()).await;
}

#[tokio::test]
#[ignore = "needs the program of release 0.1.0: make upgrade FORMER_OPERATOR=FILE"]
async fn an_upgrade_from_the_chart_and_the_program_of_the_first_release_and_back_issues_nothing() {
    let former = env::var_os("FORMER_OPERATOR").expect("FORMER_OPERATOR names the program of release 0.1.0");
    upgrade_and_back("in-service-before", Path::new(&former)).await;
}

/// The program of this version.
fn this() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_usercert-operator"))
}

/// With this program before the upgrade, and after the way back.
async fn upgrade_and_back(namespace: &str, former: &Path) {
    let _turn = DEFINITIONS.lock().await;
    let shop = Shop::in_namespace(&CLUSTER, namespace).await;
    let cluster = shop.cluster;
    create_namespace(&shop.client, &shop.namespace).await;
    install_first_release(cluster);

    let operator = start(&shop, former, "0.1.0").await;
    shop.ca_issuer(3650).await;
    shop.atlas_issuer().await;
    cluster.atlas.add_user(&shop.project, "orders", X509Type::Managed);
    for (name, issuer) in CERTIFICATES {
        shop.certificate(name, issuer, json!({})).await;
        shop.until_ready(name).await;
    }
    settled(&shop).await;
    let issued = in_service(&shop).await;
    stop(operator);

    let chart = chart();
    let upgrade = |values: &[&str]| {
        let arguments = [&["upgrade", RELEASE, &chart][..], values, &NAMESPACE].concat();
        try_to_run(cluster, "helm", &arguments, "")
    };
    for set in [&[][..], &["--set", "metrics.certificates=totals,service.enabled=true,probes.liveness.periodSeconds=20"]] {
        let refused = upgrade(&[&["--reuse-values"], set].concat()).unwrap_err();
        assert!(refused.contains("use helm upgrade --reset-then-reuse-values"), "{set:?}: {refused}");
    }
    upgrade(&["--reset-then-reuse-values"]).unwrap();
    let operator = start(&shop, &this(), "upgraded").await;
    look_at_all(&shop, "upgrade", &["reports", "orders", "kept"]).await;
    assert_eq!(in_service(&shop).await, issued, "no Secret is written");
    // Fields that 0.1.0 does not know.
    shop.apply(Shop::manifest("reports", "ca", &json!({ "secretTemplate": { "labels": { "team": "shop" } } }))).await;
    shop.apply(Shop::manifest("kept", "ca", &json!({ "deletionPolicy": "Retain" }))).await;
    settled(&shop).await;
    stop(operator);

    run(cluster, "helm", &[&["rollback", RELEASE, "1"][..], &NAMESPACE].concat(), "");
    let operator = start(&shop, former, "back").await;
    // A Secret that is retained has no owner, and 0.1.0 lets it be.
    look_at_all(&shop, "back", &["reports", "orders"]).await;
    nothing_is_issued(&shop, "back", &issued).await;
    stop(operator);

    run(cluster, "helm", &[&["rollback", RELEASE, "2"][..], &NAMESPACE].concat(), "");
    let operator = start(&shop, &this(), "again").await;
    look_at_all(&shop, "again", &["reports", "orders", "kept"]).await;
    nothing_is_issued(&shop, "again", &issued).await;
    stop(operator);
    assert_eq!(cluster.atlas.mints_of("orders").len(), 1);
}

/// In place of the release that the harness has installed.
fn install_first_release(cluster: &Cluster) {
    run(cluster, "helm", &[&["uninstall", RELEASE, "--wait"][..], &NAMESPACE].concat(), "");
    let definitions = run(cluster, "kubectl", &["get", "crd", "--output=name"], "");
    for definition in definitions.lines().filter(|name| name.ends_with(".usercert.dev")) {
        run(cluster, "kubectl", &["delete", definition], "");
    }
    let first = repository().join("tests/chart/usercert-operator-0.1.0.tgz").display().to_string();
    run(cluster, "helm", &[&["install", RELEASE, &first, "--set", "replicaCount=0"][..], &NAMESPACE].concat(), "");
}

/// A program that runs, and where its metrics are.
struct Started {
    operator: Supervised,
    port: u16,
}

/// The program with the rights that the chart gives it now, once it is ready.
async fn start(shop: &Shop, program: &Path, name: &str) -> Started {
    let [port] = free_ports().unwrap();
    let control_plane = &shop.cluster.control_plane;
    let kubeconfig = control_plane.service_account_kubeconfig("usercert-system", RELEASE).await.unwrap();
    let environment = [
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("HTTP_ADDRESS", format!("127.0.0.1:{port}")),
        ("POD_NAMESPACE", "usercert-system".to_owned()),
        ("ALLOWED_ATLAS_ENDPOINTS", shop.endpoint.clone()),
        ("RUST_LOG", "usercert_operator=debug,info".to_owned()),
    ];
    let log = control_plane.directory().join(format!("{name}.log"));
    let operator = Supervised::spawn_alone(program, &["run".to_owned()], &environment, &log).unwrap();
    eventually(&format!("{name} leads and is ready: see {}", log.display()), || async {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok()?;
        (answer.status() == 200 && answer.text().await.ok()?.contains("leads")).then_some(())
    })
    .await;
    Started { operator, port }
}

/// Keeps its metrics and its log for the check of secrecy.
fn stop(Started { operator, port }: Started) {
    let log = operator.log().to_owned();
    evidence::ended(&format!("127.0.0.1:{port}"), &log, || drop(operator));
}

/// The version of each Secret, and the certificate in it.
type InService = BTreeMap<&'static str, (String, ByteString)>;

async fn in_service(shop: &Shop) -> InService {
    let mut found = BTreeMap::new();
    for (name, _) in CERTIFICATES {
        let secret = shop.secret(name).await.unwrap();
        let version = secret.resource_version().unwrap();
        found.insert(name, (version, secret.data.unwrap().remove("tls.crt").unwrap()));
    }
    found
}

/// The Secrets may be written, as after a change of the spec.
async fn nothing_is_issued(shop: &Shop, step: &str, before: &InService) {
    let certificates = |found: &InService| found.values().map(|(_, certificate)| certificate.clone()).collect::<Vec<_>>();
    assert_eq!(certificates(&in_service(shop).await), certificates(before), "{step}");
}

/// Has every object looked at: once after the start, and once anew. These are Ready then.
async fn look_at_all(shop: &Shop, step: &str, ready: &[&str]) {
    settled(shop).await;
    for object in shop.certificates().await {
        shop.annotate(&object.name_any(), "looked-at", step).await;
    }
    settled(shop).await;
    for name in ready {
        assert_eq!(shop.condition(name, "Ready").await, "True Issued", "{step}: {name}");
    }
}

/// Waits until the operator has asked nothing about the namespace for two seconds.
async fn settled(shop: &Shop) {
    let requests = || shop.cluster.requests_of_operator(&shop.namespace).len();
    eventually("the operator rests", || async {
        let before = requests();
        tokio::time::sleep(Duration::from_secs(2)).await;
        (requests() == before).then_some(())
    })
    .await;
}
