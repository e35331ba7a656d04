//! From the chart of release 0.1.0 to this one and back, with certificates in service: nothing is issued again and no Secret is written.
//!
//! The chart of 0.1.0 is kept here as it was packaged. Its program is not: `FORMER_OPERATOR` names one, and without it the program of
//! this version runs with the rights and definitions of 0.1.0.

use std::{
    collections::BTreeMap,
    env,
    net::TcpListener,
    path::{Path, PathBuf},
};

use kube::ResourceExt;
use serde_json::json;
use usercert_test_support::{
    atlas::X509Type,
    control_plane::{Supervised, repository},
    evidence,
};

use crate::{
    CLUSTER, DEFINITIONS, chart,
    harness::{Cluster, Shop, create_namespace, eventually},
    run,
};

const RELEASE: &str = "usercert-operator";
const NAMESPACE: [&str; 2] = ["--namespace", "usercert-system"];
const CERTIFICATES: [&str; 2] = ["reports", "orders"];

#[tokio::test]
async fn an_upgrade_from_the_first_release_and_back_issues_nothing() {
    let _turn = DEFINITIONS.lock().await;
    let shop = Shop::in_namespace(&CLUSTER, "in-service").await;
    let cluster = shop.cluster;
    create_namespace(&shop.client, &shop.namespace).await;
    install_first_release(cluster);
    let this = PathBuf::from(env!("CARGO_BIN_EXE_usercert-operator"));
    let former = env::var_os("FORMER_OPERATOR").map(PathBuf::from);
    if former.is_none() {
        println!(
            "skipped: needs FORMER_OPERATOR, the program of 0.1.0; this version's runs with the rights and definitions of 0.1.0"
        );
    }
    let former = former.unwrap_or_else(|| this.clone());

    let operator = start(&shop, &former, "0.1.0").await;
    shop.ca_issuer(3650).await;
    shop.atlas_issuer().await;
    cluster.atlas.add_user(&shop.project, "orders", X509Type::Managed);
    for (name, issuer) in CERTIFICATES.into_iter().zip(["ca", "atlas"]) {
        shop.certificate(name, issuer, json!({})).await;
        shop.until_ready(name).await;
    }
    shop.assert_quiet().await;
    let issued = in_service(&shop).await;
    stop(operator);

    run(cluster, "helm", &[&["upgrade", RELEASE, &chart(), "--set", "replicaCount=0"][..], &NAMESPACE].concat(), "");
    let operator = start(&shop, &this, "upgraded").await;
    nothing_changes(&shop, "upgrade", &issued).await;
    // A field that 0.1.0 does not know.
    shop.apply(Shop::manifest("reports", "ca", &json!({ "deletionPolicy": "Retain" }))).await;
    shop.assert_quiet().await;
    let retained = in_service(&shop).await;
    stop(operator);

    run(cluster, "helm", &[&["rollback", RELEASE, "1"][..], &NAMESPACE].concat(), "");
    let operator = start(&shop, &former, "back").await;
    nothing_is_issued(&shop, "back", &retained).await;
    let back = in_service(&shop).await;
    stop(operator);

    run(cluster, "helm", &[&["rollback", RELEASE, "2"][..], &NAMESPACE].concat(), "");
    let operator = start(&shop, &this, "again").await;
    nothing_is_issued(&shop, "again", &back).await;
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

/// The program with the rights that the chart gives it now, once it is ready.
async fn start(shop: &Shop, program: &Path, name: &str) -> Supervised {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
    let operator = Supervised::spawn(program, &["run".to_owned()], &environment, &log).unwrap();
    eventually(&format!("{name} leads and is ready: see {}", log.display()), || async {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok()?;
        (answer.status() == 200 && answer.text().await.ok()?.contains("leads")).then_some(())
    })
    .await;
    operator
}

fn stop(operator: Supervised) {
    let log = operator.log().to_owned();
    drop(operator);
    evidence::append(evidence::Kind::Log, &std::fs::read(log).unwrap());
}

/// The certificates of objects and Secrets: serial number, and the Secret's version and data.
type InService = BTreeMap<String, (String, String, String)>;

async fn in_service(shop: &Shop) -> InService {
    let mut found = BTreeMap::new();
    for name in CERTIFICATES {
        let secret = shop.secret(name).await.unwrap();
        let (version, data) = (secret.resource_version().unwrap(), secret.data.unwrap());
        let serial = shop.status(name).await.serial_number.unwrap();
        found.insert(name.to_owned(), (serial, version, format!("{:?}", data["tls.crt"])));
    }
    found
}

/// Neither at the start nor when each object is looked at anew.
async fn nothing_changes(shop: &Shop, step: &str, before: &InService) {
    look_at_all(shop, step).await;
    assert_eq!(in_service(shop).await, *before, "{step}");
}

/// The Secret may be written, as after a change of the spec.
async fn nothing_is_issued(shop: &Shop, step: &str, before: &InService) {
    look_at_all(shop, step).await;
    let certificates = |found: &InService| -> Vec<_> {
        found.values().map(|(serial, _, certificate)| (serial.clone(), certificate.clone())).collect()
    };
    let after = in_service(shop).await;
    assert_eq!(certificates(&after), certificates(before), "{step}");
    println!(
        "{step}: {} Secrets written",
        after.values().zip(before.values()).filter(|(after, before)| after.1 != before.1).count()
    );
}

async fn look_at_all(shop: &Shop, step: &str) {
    shop.assert_quiet().await;
    for object in shop.certificates().await {
        shop.annotate(&object.name_any(), "looked-at", step).await;
    }
    shop.assert_quiet().await;
    for name in CERTIFICATES {
        assert_eq!(shop.condition(name, "Ready").await, "True Issued", "{step}: {name}");
    }
}
