//! Questions about what is in order, and questions that cannot be answered.

use serde_json::json;
use usercert_cli::exit::Exit;
use usercert_operator::api::DatabaseUserCertificate;

use super::{CLUSTER, Shop, add_reader, harness::new_ca, usercert, usercert_with, with_certificate};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_is_told_and_explained() {
    let shop = with_certificate("good").await;
    let status = usercert(&shop, &["status"]).await;
    status.says(Exit::Good, &["NAME", "orders", "Good", "in 8", "CertificateIssuer/ca"]);
    let as_json = usercert(&shop, &["status", "-o", "json"]).await.json();
    assert_eq!(as_json["certificates"][0]["state"], "Good");
    for read_secret in [&[][..], &["--read-secret"]] {
        let why = usercert(&shop, &[&["why", "orders"], read_secret].concat()).await;
        why.says(
            Exit::Good,
            &["Decision: the certificate is kept until", "In service: yes", "ok  The renewal time has not come"],
        );
        assert!(!why.text.contains("  NO "), "{}", why.text);
        assert!(!why.text.contains("the operator says"), "{}", why.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_inspected_with_its_consumers_and_never_with_its_key() {
    let shop = with_certificate("inspected").await;
    add_reader(&shop).await;
    let said = usercert(&shop, &["inspect", "orders"]).await;
    said.says(
        Exit::Good,
        &[
            "Certificate: CN=orders",
            "Key: fits",
            "Chain: leads to the CA",
            "controlled by DatabaseUserCertificate/orders",
            "reader",
        ],
    );
    let as_json = usercert(&shop, &["inspect", "orders", "-o", "json"]).await;
    assert_eq!(as_json.json()["secret"]["consumers"][0]["updatedInPlace"], false);
    let key = shop.value("orders", "tls.key").await;
    let line = key.lines().nth(1).unwrap();
    assert!(!said.text.contains(line) && !as_json.text.contains(line));
    shop.apply_secret("other", &[("tls.crt", &shop.value("orders", "tls.crt").await), ("tls.key", &new_ca(1).1)]).await;
    usercert(&shop, &["inspect", "other"]).await.says(Exit::Attention, &["the private key does not fit the certificate"]);
    usercert(&shop, &["inspect", "none"]).await.says(Exit::CouldNotAsk, &["there is no Secret none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_without_their_object_are_found() {
    let shop = Shop::open(&CLUSTER, "orphans").await;
    shop.ca_issuer(3650).await;
    shop.certificate("kept", "ca", json!({ "deletionPolicy": "Retain" })).await;
    shop.until_ready("kept").await;
    usercert(&shop, &["orphans"]).await.says(Exit::Good, &["there are none"]);
    shop.delete::<DatabaseUserCertificate>("kept").await;
    usercert(&shop, &["orphans"]).await.says(Exit::Good, &["RetainedSecret", "kept", "takes it up again"]);
    shop.patch_secret("kept", json!({ "metadata": { "annotations": { "usercert.dev/retained-for": null } } })).await;
    usercert(&shop, &["orphans"]).await.says(Exit::Attention, &["SecretWithoutObject", "usercert.dev/adopt-secret=true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_renewals_ahead_are_planned() {
    let shop = Shop::open(&CLUSTER, "planned").await;
    shop.ca_issuer(3650).await;
    for name in ["orders", "bills"] {
        shop.certificate(name, "ca", json!({})).await;
        shop.until_ready(name).await;
    }
    usercert(&shop, &["plan"]).await.says(Exit::Good, &["2 renewals from", "each line is a week", "orders", "bills"]);
    shop.certificate("orders", "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    let said = usercert(&shop, &["plan", "--days", "120"]).await;
    said.says(Exit::Attention, &["Not renewed before they expire", "/orders expires in", "it is suspended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_an_error_of_its_own() {
    let shop = Shop::open(&CLUSTER, "unasked").await;
    usercert(&shop, &["why", "nobody"])
        .await
        .says(Exit::CouldNotAsk, &["there is no DatabaseUserCertificate nobody in the namespace"]);
    usercert(&shop, &["status"]).await.says(Exit::Good, &["there are no certificates here"]);
    let nowhere = ["kubectl-usercert", "--kubeconfig", "/nonexistent"];
    usercert_with(&shop, &nowhere, &["status"]).await.says(Exit::CouldNotAsk, &["could not use the kubeconfig"]);
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let context = ["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap(), "--context", "none"];
    usercert_with(&shop, &context, &["status"]).await.says(Exit::CouldNotAsk, &["could not use the kubeconfig"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_completed_from_the_cluster() {
    let shop = with_certificate("completed").await;
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let completed = async |words: &[&str]| {
        let line = ["--kubeconfig", kubeconfig.to_str().unwrap(), "-n", &shop.namespace];
        let line: Vec<std::ffi::OsString> = line.iter().chain(words).map(std::ffi::OsString::from).collect();
        // It waits for the cluster by itself, as a process of its own does.
        tokio::task::spawn_blocking(move || usercert_cli::complete::complete(&line)).await.unwrap()
    };
    assert!(completed(&["why", "or"]).await.starts_with("orders\n"), "{}", completed(&["why", "or"]).await);
    assert!(completed(&["renew", ""]).await.contains("orders\n"));
    assert!(completed(&["inspect", "ord"]).await.starts_with("orders\n"));
    assert!(completed(&["migrate", "orders", "--issuer", ""]).await.contains("ca\n"));
    assert!(completed(&["status", "-n", "compl"]).await.starts_with(&shop.namespace));
    assert_eq!(completed(&["why", "none"]).await, ":4\n");
}
