//! What a tenant, time, or a wrong name of a namespace makes of the answers.

use axum::http::Request;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use usercert_cli::exit::Exit;
use usercert_operator::{api::DatabaseUserCertificate, controller::Received};

use super::{
    CLUSTER, Shop, add_reader,
    harness::{create_namespace, eventually},
    tenant_who_may, usercert, usercert_with, with_certificate,
};

/// A time that Kubernetes takes and this program's library does not.
const LAST_DAY: &str = "9999-12-31T23:59:59Z";

/// Gives the `managedFields` of an object a time that a typed list cannot be read with, as `kubectl replace --raw` does it.
async fn spoil(shop: &Shop, path: &str) {
    eventually("the object has not changed meanwhile", || async {
        let get = Request::get(path).body(Vec::new()).unwrap();
        let mut object: Value = shop.client.request(get).await.unwrap();
        for entry in object["metadata"]["managedFields"].as_array_mut().unwrap() {
            entry["time"] = json!(LAST_DAY);
        }
        // Without another change the times would not be taken over.
        object["metadata"]["annotations"]["spoilt"] = json!("yes");
        let put = Request::put(path).header("content-type", "application/json").body(object.to_string().into_bytes());
        let stored = shop.client.request::<Value>(put.unwrap()).await.ok()?;
        stored["metadata"]["managedFields"].to_string().contains(LAST_DAY).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_be_read_by_others_take_no_answer_from_anybody() {
    let shop = with_certificate("spoilt").await;
    add_reader(&shop).await;
    shop.certificate("refused", "none", json!({})).await;
    shop.until("refused", "Ready", "False IssuerNotFound").await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "note" }, "reason": "Note", "message": "m", "type": "Normal",
        "involvedObject": { "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "name": "orders", "namespace": shop.namespace },
    });
    shop.apply(event).await;
    let of = |group: &str, rest: &str| format!("/{group}/namespaces/{}/{rest}", shop.namespace);
    let ours = "apis/usercert.dev/v1alpha1";
    for path in [
        of("api/v1", "secrets/orders"),
        of("api/v1", "pods/reader"),
        of("api/v1", "events/note"),
        of(ours, "databaseusercertificates/orders"),
        of(ours, "certificateissuers/ca"),
    ] {
        spoil(&shop, &path).await;
    }
    for everywhere in [&[][..], &["-A"]] {
        let asked = async |verb: &str| usercert(&shop, &[&[verb], everywhere].concat()).await;
        asked("status").await.says(Exit::Attention, &["orders", "Good", "IssuerNotFound"]);
        asked("plan").await.says(Exit::Attention, &["refused: it has no certificate"]);
        let orphans = asked("orphans").await;
        assert!(!orphans.text.starts_with("error"), "{}", orphans.text);
        let check = asked("check").await;
        assert!(check.text.contains("ok      CertificateIssuer") && check.text.contains("ca"), "{}", check.text);
        let folder = tempfile::tempdir().unwrap();
        let to = format!("{}/bundle/", folder.path().display());
        usercert(&shop, &[&["report", "--to", &to], everywhere].concat()).await.says(Exit::Good, &["has"]);
        let file =
            |name: &str| std::fs::read_to_string(format!("{to}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (name, held) in [
            ("certificates.json", "orders"),
            ("issuers.json", "ca"),
            ("secrets-metadata.json", "orders"),
            ("events.json", "Note"),
        ] {
            assert!(file(name).contains(held) && !file(name).contains("managedFields"), "{name}: {}", file(name));
        }
    }
    usercert(&shop, &["orphans"]).await.says(Exit::Good, &["there are none"]);
    for read_secret in [&[][..], &["--read-secret"]] {
        let why = usercert(&shop, &[&["why", "orders"], read_secret].concat()).await;
        why.says(Exit::Good, &["Decision: the certificate is kept until", "In service: yes"]);
    }
    usercert(&shop, &["inspect", "orders"]).await.says(Exit::Good, &["Key: fits", "reader"]);
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let completed = async |words: &[&str]| {
        let line = ["--kubeconfig", kubeconfig.to_str().unwrap(), "-n", &shop.namespace];
        let line: Vec<std::ffi::OsString> = line.iter().chain(words).map(std::ffi::OsString::from).collect();
        // It waits for the cluster by itself, as a process of its own does.
        tokio::task::spawn_blocking(move || usercert_cli::complete::complete(&line)).await.unwrap()
    };
    assert!(completed(&["why", "or"]).await.starts_with("orders\n"));
    assert!(completed(&["inspect", "or"]).await.starts_with("orders\n"));
    assert!(completed(&["create", "new", "--issuer", "c"]).await.starts_with("ca\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_is_told_to_who_may_look_at_it() {
    let shop = Shop::open(&CLUSTER, "misspelt").await;
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let connection = ["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", "misspelt-at-all"];
    for verb in ["status", "plan", "orphans"] {
        let said = usercert_with(&shop, &connection, &[verb]).await;
        said.says(Exit::CouldNotAsk, &["there is no namespace misspelt-at-all: give another one with -n"]);
    }
    let check = usercert_with(&shop, &connection, &["check"]).await;
    check.says(Exit::Attention, &["FAILS   Namespace: there is no namespace misspelt-at-all"]);
    let rules = json!([{ "apiGroups": ["usercert.dev"], "resources": ["databaseusercertificates"], "verbs": ["list"] }]);
    let user = tenant_who_may(&shop, rules).await;
    let connection = ["kubectl-usercert", "--kubeconfig", user.to_str().unwrap(), "--namespace", &shop.namespace];
    for (verb, said) in [("status", "there are no certificates here"), ("plan", "0 renewals")] {
        usercert_with(&shop, &connection, &[verb]).await.says(Exit::Good, &[said]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_secret_of_another_namespace_is_no_orphan() {
    let shop = with_certificate("copied").await;
    let copies = format!("{}-copies", shop.namespace);
    create_namespace(&shop.client, &copies).await;
    let original = shop.secret("orders").await.unwrap();
    let mut copy = Secret { type_: original.type_, data: original.data, ..Secret::default() };
    copy.metadata.name = Some("orders".to_owned());
    copy.metadata.labels = original.metadata.labels;
    let secrets: kube::Api<Secret> = kube::Api::namespaced(shop.client.clone(), &copies);
    secrets.create(&kube::api::PostParams::default(), &copy).await.unwrap();
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let connection = ["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", &copies];
    usercert_with(&shop, &connection, &["orphans"]).await.says(Exit::Good, &["there are none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_not_understood_is_nothing_to_correct() {
    let shop = with_certificate("newer").await;
    let newer = kube::api::Patch::Merge(json!({ "status": { "notAfter": LAST_DAY } }));
    let objects = shop.api::<Received<DatabaseUserCertificate>>();
    objects.patch_status("orders", &kube::api::PatchParams::default(), &newer).await.unwrap();
    for verb in [&["status"][..], &["why", "orders"]] {
        let said = usercert(&shop, verb).await;
        said.says(Exit::Attention, &["this program does not understand the status (status.notAfter"]);
        assert!(!said.text.contains("correct what stands there"), "{}", said.text);
    }
    let renewed = usercert(&shop, &["renew", "orders", "--dry-run"]).await;
    renewed.says(Exit::Attention, &["use the program of the operator's release"]);
}
