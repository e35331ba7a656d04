//! `kubectl usercert` on a real API server, with the operator at work: each verb, and what it says when something is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod harness;

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use harness::{Cluster, Options, PRIVATE_API_KEY, Shop};
use serde_json::{Value, json};
use usercert_cli::{
    arguments::Arguments,
    exit::{CliError, Exit},
    terminal::Terminal,
    verbs::Session,
};
use usercert_operator::{api::DatabaseUserCertificate, controller::chain};
use usercert_test_support::{
    atlas::{DigestAlgorithm, X509Type},
    evidence::{self, Kind},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// What a command said, and its exit code.
#[derive(Debug)]
struct Said {
    text: String,
    exit: Exit,
}

/// Runs a command in the shop's namespace, as an administrator.
async fn usercert(shop: &Shop, arguments: &[&str]) -> Said {
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let connection = ["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", &shop.namespace];
    usercert_with(shop, &connection, arguments).await
}

async fn usercert_with(shop: &Shop, connection: &[&str], arguments: &[&str]) -> Said {
    let parsed = <Arguments as clap::Parser>::try_parse_from(connection.iter().chain(arguments)).expect("the command line");
    let cluster = shop.cluster;
    let session = Session { terminal: Terminal::none(), clock: Arc::new(move || cluster.now()) };
    let said = match usercert_cli::execute(parsed, session).await {
        Ok(answer) => Said { text: answer.text(), exit: answer.exit },
        Err(error) => said_of(&error),
    };
    // No secret may be in it: the check of all evidence looks.
    evidence::append(Kind::Log, said.text.as_bytes());
    said
}

/// Creates an object that is in no namespace.
async fn apply_to_cluster(shop: &Shop, manifest: Value) {
    let object: kube::api::DynamicObject = serde_json::from_value(manifest).unwrap();
    let types = object.types.clone().unwrap();
    let (group, version) = types.api_version.split_once('/').unwrap();
    let plural = if types.kind.ends_with('y') {
        format!("{}ies", &types.kind[..types.kind.len() - 1])
    } else {
        format!("{}s", types.kind)
    };
    let resource = kube::discovery::ApiResource::from_gvk_with_plural(
        &kube::core::GroupVersionKind::gvk(group, version, &types.kind),
        &plural.to_lowercase(),
    );
    let api: kube::Api<kube::api::DynamicObject> = kube::Api::all_with(shop.client.clone(), &resource);
    api.create(&kube::api::PostParams::default(), &object).await.unwrap();
}

fn said_of(error: &CliError) -> Said {
    Said { text: format!("error: {}", chain(error)), exit: error.exit() }
}

impl Said {
    #[track_caller]
    fn says(&self, exit: Exit, words: &[&str]) {
        assert_eq!(self.exit, exit, "{}", self.text);
        for words in words {
            assert!(self.text.contains(words), "{words:?} is missing:\n{}", self.text);
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_is_told_and_explained() {
    let shop = Shop::open(&CLUSTER, "good").await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
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
async fn what_atlas_refuses_is_told_with_what_to_change() {
    let shop = Shop::open(&CLUSTER, "refused").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::None);
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until(&name, "Ready", "False AtlasUserNotManaged").await;
    usercert(&shop, &["status"]).await.says(Exit::Attention, &["Not ready", "AtlasUserNotManaged", "X.509 type MANAGED"]);
    let why = usercert(&shop, &["why", &name]).await;
    why.says(
        Exit::Attention,
        &[
            "Reason: AtlasUserNotManaged",
            "new There is a certificate (a new certificate is needed: NoCertificate)",
            "NO  No wait after a failure is under way",
            "-   Fewer than five renewals were forced within an hour",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_ca_and_a_missing_issuer_are_told() {
    let shop = Shop::open(&CLUSTER, "broken").await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until("orders", "Ready", "False IssuerNotFound").await;
    usercert(&shop, &["why", "orders"])
        .await
        .says(Exit::Attention, &["NO  The issuer exists and can be used", "IssuerNotFound"]);
    shop.ca_issuer(3650).await;
    shop.until_ready("orders").await;
    shop.apply_secret("ca-broken", &[("tls.crt", "no"), ("tls.key", "no")]).await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca-broken" } },
    }))
    .await;
    shop.until_issuer("ca", "False CaInvalid").await;
    let why = usercert(&shop, &["why", "orders"]).await;
    why.says(Exit::Attention, &["Reason: CaInvalid", "NO  The issuer exists and can be used", "In service: yes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_secret_is_seen_only_by_who_reads_it_and_a_foreign_one_by_everybody() {
    let shop = Shop::open(&CLUSTER, "secrets").await;
    shop.ca_issuer(3650).await;
    shop.apply_secret("bills", &[("password", "x")]).await;
    shop.certificate("bills", "ca", json!({})).await;
    shop.until("bills", "Ready", "False SecretNotOwned").await;
    let why = usercert(&shop, &["why", "bills"]).await;
    why.says(
        Exit::Attention,
        &["NO  The Secret of that name is this object's, or there is none", "was not made by this operator"],
    );
    // Nobody repairs what a suspended object has.
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    shop.certificate("orders", "ca", json!({ "suspend": true })).await;
    shop.until("orders", "Issuing", "False Suspended").await;
    shop.patch_secret("orders", json!({ "stringData": { "tls.key": "no", "tls-combined.pem": "no" } })).await;
    shop.until("orders", "Ready", "False PairUnusable").await;
    usercert(&shop, &["why", "orders"]).await.says(Exit::Attention, &["its content was not read", "--read-secret"]);
    let why = usercert(&shop, &["why", "orders", "--read-secret"]).await;
    why.says(Exit::Attention, &["In service: no (PairUnusable)", "NO  The object is not suspended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_are_asked_for_and_waited_for_within_the_brake() {
    let shop = Shop::open(&CLUSTER, "renewals").await;
    shop.ca_issuer(3650).await;
    for name in ["orders", "bills"] {
        shop.certificate(name, "ca", json!({})).await;
        shop.until_ready(name).await;
    }
    let before = shop.status("orders").await.serial_number.unwrap();
    let tried = usercert(&shop, &["renew", "--all", "--dry-run"]).await;
    tried.says(Exit::Good, &["bills    would be asked for", "orders   would be asked for", "2 certificates, 0 not renewed"]);
    assert_eq!(shop.status("orders").await.serial_number.as_ref(), Some(&before), "a dry run changes nothing");

    let renewed = usercert(&shop, &["renew", "orders", "--wait"]).await;
    let after = shop.status("orders").await.serial_number.unwrap();
    renewed.says(Exit::Good, &[&format!("renewed: certificate {after}")]);
    assert_ne!(before, after);

    usercert(&shop, &["suspend", "bills"]).await.says(Exit::Good, &["/bills is now suspended"]);
    usercert(&shop, &["suspend", "bills"]).await.says(Exit::Good, &["/bills already suspended"]);
    shop.until("bills", "Issuing", "False Suspended").await;
    usercert(&shop, &["renew", "--all", "--wait", "--at-most", "1000/s"]).await.says(
        Exit::Attention,
        &["bills    not: the object is suspended", "orders   renewed: certificate", "2 certificates, 1 not renewed"],
    );
    usercert(&shop, &["resume", "--all"]).await.says(Exit::Good, &["/bills is now resumed", "/orders already resumed"]);
    for _ in 0..3 {
        usercert(&shop, &["renew", "orders", "--wait"]).await.says(Exit::Good, &["renewed: certificate"]);
    }
    usercert(&shop, &["renew", "orders", "--wait"]).await.says(Exit::Attention, &["five renewals were forced within an hour"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_atlas_refuses_is_told_by_who_waits() {
    let shop = Shop::open(&CLUSTER, "refusals").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    shop.atlas.remove_user(&shop.project, &name);
    let said = usercert(&shop, &["renew", &name, "--wait", "--timeout", "20s"]).await;
    said.says(Exit::Attention, &["not: ", "AtlasUserNotFound"]);
    usercert(&shop, &["status", "--failing"]).await.says(Exit::Attention, &["Renewal fails", "AtlasUserNotFound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_inspected_with_its_consumers_and_never_with_its_key() {
    let shop = Shop::open(&CLUSTER, "inspected").await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "reader" },
        "spec": { "containers": [{ "name": "app", "image": "app", "envFrom": [{ "secretRef": { "name": "orders" } }] }] },
    }))
    .await;
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
    shop.apply_secret("other", &[("tls.crt", &shop.value("orders", "tls.crt").await), ("tls.key", &harness::new_ca(1).1)])
        .await;
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
async fn a_check_names_what_is_missing() {
    let shop = Shop::open(&CLUSTER, "checked").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    let of = |said: &Said, check: &str| {
        let found = said.json();
        let found = found.as_array().unwrap().iter().find(|finding| finding["check"] == check).cloned();
        let found = found.unwrap_or_else(|| panic!("{check} is missing: {}", said.text));
        (found["result"].as_str().unwrap().to_owned(), found["message"].as_str().unwrap().to_owned())
    };
    let said = usercert(&shop, &["check", "-o", "json"]).await;
    for check in ["API server", "Clock", "Definitions", "Operator's rights", "Your rights", "Webhooks", "Write of a Secret"] {
        assert_eq!(of(&said, check).0, "holds", "{}", said.text);
    }
    let (issuer, by) = (
        format!("CertificateIssuer atlas in {}", shop.namespace),
        format!("Atlas by CertificateIssuer atlas in {}", shop.namespace),
    );
    assert_eq!((of(&said, &issuer).0.as_str(), of(&said, &by).0.as_str()), ("holds", "holds"), "{}", said.text);
    // The operator runs in the test, without election and without Pods.
    assert_eq!(of(&said, "Operator").0, "skipped");
    let pods = of(&said, "Operator's Pods");
    assert_eq!(pods, ("fails".to_owned(), "0 in the namespace usercert-system, and none ready".to_owned()));
    let said = usercert(&shop, &["check", "-o", "json", "--service-account", "nobody"]).await;
    let (result, message) = of(&said, "Operator's rights");
    assert!(result == "fails" && message.contains("nobody may not get databaseusercertificates"), "{message}");

    // Whoever has few rights is told which, and nothing looks like a pass that was not looked at.
    let user = shop.cluster.control_plane.service_account_kubeconfig(&shop.namespace, "default").await.unwrap();
    let connection = ["kubectl-usercert", "--kubeconfig", user.to_str().unwrap(), "--namespace", &shop.namespace];
    let said = usercert_with(&shop, &connection, &["check", "-o", "json"]).await;
    for check in ["Operator's rights", "Webhooks", "Operator's Pods", "Write of a Secret"] {
        assert_eq!(of(&said, check).0, "skipped", "{}", said.text);
    }
    assert!(of(&said, "Your rights").1.contains("you may not list databaseusercertificates"), "{}", said.text);
    usercert_with(&shop, &connection, &["status"]).await.says(Exit::CouldNotAsk, &["could not list certificates", "forbidden"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_the_way_and_a_wrong_clock_are_found() {
    let shop = Shop::open(&CLUSTER, "denied").await;
    shop.ca_issuer(3650).await;
    let name = format!("no-secrets-{}", shop.namespace);
    let cluster = |manifest: Value| apply_to_cluster(&shop, manifest);
    cluster(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"] }] },
            "validations": [{ "expression": "false", "message": "no Secrets here" }],
        },
    }))
    .await;
    cluster(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": shop.namespace } } } },
    }))
    .await;
    harness::eventually("the policy is in force", || async {
        let said = usercert(&shop, &["check"]).await;
        said.text.contains("no Secrets here").then_some(())
    })
    .await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until("orders", "Ready", "False SecretNotWritable").await;
    usercert(&shop, &["status"]).await.says(Exit::Attention, &["Not ready", "SecretNotWritable", "no Secrets here"]);
    let why = usercert(&shop, &["why", "orders"]).await;
    why.says(Exit::Attention, &["Reason: SecretNotWritable", "NO  No wait after a failure is under way"]);
    let parsed = ["kubectl-usercert", "--kubeconfig", shop.cluster.control_plane.kubeconfig().to_str().unwrap(), "check"]
        .map(str::to_owned);
    let late = Session {
        terminal: Terminal::none(),
        clock: Arc::new(|| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1)),
    };
    let said = usercert_cli::execute(<Arguments as clap::Parser>::parse_from(parsed), late).await.unwrap();
    assert!(
        said.text().contains("FAILS   Clock: this machine is ") && said.text().contains("behind the API server"),
        "{}",
        said.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_gone_is_noticed() {
    let shop = Shop::open(&CLUSTER, "gone").await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    shop.apply(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "usercert-operator" },
        "spec": { "holderIdentity": "pod-1_abc", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15 },
    }))
    .await;
    let of_shop = ["--operator-namespace", shop.namespace.as_str()];
    let gone = "no operator leads: pod-1_abc renewed the Lease";
    usercert(&shop, &[&["why", "orders"], &of_shop[..]].concat()).await.says(Exit::Attention, &[gone]);
    usercert(&shop, &[&["check"], &of_shop[..]].concat()).await.says(Exit::Attention, &["FAILS   Operator: ", gone]);
    // Two months later, nobody has renewed it.
    let cluster = shop.cluster;
    let later = Session {
        terminal: Terminal::none(),
        clock: Arc::new(move || cluster.now() + jiff::SignedDuration::from_hours(24 * 65)),
    };
    let kubeconfig = cluster.control_plane.kubeconfig();
    let arguments = ["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap(), "-n", &shop.namespace, "status"];
    let said = usercert_cli::execute(<Arguments as clap::Parser>::parse_from(arguments), later).await.unwrap();
    assert_eq!(said.exit, Exit::Attention);
    assert!(said.text().contains("Renewal late") && said.text().contains("has not begun"), "{}", said.text());
}

/// Every file below a folder, as one text.
fn all_files(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { all_files(&path) } else { std::fs::read_to_string(path).unwrap() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_all_but_what_is_secret() {
    let shop = Shop::open(&CLUSTER, "reported").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({ "formats": [{ "type": "PKCS12" }] })).await;
    shop.until_ready(&name).await;
    shop.certificate("refused", "atlas", json!({})).await;
    shop.until("refused", "Ready", "False AtlasUserNotFound").await;
    // What people leave where it does not belong.
    let key = shop.value(&name, "tls.key").await;
    let applied = json!({ "metadata": { "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": key, "usercert.dev/note": format!("restored from {key}"),
    } } });
    shop.patch_secret(&name, applied.clone()).await;
    let objects = shop.api::<DatabaseUserCertificate>();
    objects.patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(applied)).await.unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(shop.client.clone(), &shop.namespace);
    let pod = json!({
        "metadata": { "name": format!("operator-{}", shop.namespace), "labels": { "app.kubernetes.io/name": "usercert-operator" } },
        "spec": { "containers": [{ "name": "operator", "image": "operator", "env": [
            { "name": "HTTPS_PROXY", "value": "http://proxy:hunter2-of-the-proxy@proxy:3128" }] }] },
    });
    pods.create(&kube::api::PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let to = format!("{}/bundle/", folder.path().display());
    let connection = ["--operator-namespace", shop.namespace.as_str()];
    usercert(&shop, &[&["report", "--to", &to], &connection[..]].concat())
        .await
        .says(Exit::Good, &["look at it before you hand it on"]);
    let bundle = all_files(Path::new(&to));
    evidence::append(Kind::Log, bundle.as_bytes());
    for expected in [name.as_str(), "refused", "AtlasUserNotFound", "HTTPS_PROXY", "usercert.dev/serial-number"] {
        assert!(bundle.contains(expected), "{expected} is missing");
    }
    let mut secrets = vec![PRIVATE_API_KEY.to_owned(), "hunter2-of-the-proxy".to_owned()];
    for secret in [&name, "atlas-api-key"] {
        for (entry, value) in shop.secret(secret).await.unwrap().data.unwrap() {
            // Certificates are no secrets, and keys of API keys have names that are in Atlas's answers.
            if !matches!(entry.as_str(), "tls.crt" | "publicApiKey") {
                secrets.push(serde_json::to_value(&value).unwrap().as_str().unwrap().to_owned());
                let text = String::from_utf8_lossy(&value.0).into_owned();
                let lines = text.lines().filter(|line| line.len() > 20 && !line.starts_with("-----"));
                let in_certificate = shop.value(&name, "tls.crt").await;
                secrets.extend(lines.filter(|line| !in_certificate.contains(line)).map(str::to_owned));
            }
        }
    }
    assert!(secrets.len() > 8, "the Secrets have values");
    for secret in secrets {
        assert!(!bundle.contains(&secret), "a secret is in the bundle: {secret}");
    }
    assert!(!bundle.contains("PRIVATE KEY-----"), "a key is in the bundle");
    let archive = folder.path().join("bundle.tar.gz");
    let archive = archive.to_str().unwrap();
    usercert(&shop, &["report", "--to", archive]).await.says(Exit::Good, &["bundle.tar.gz has"]);
    usercert(&shop, &["report", "--to", archive]).await.says(Exit::Usage, &["exists: give another name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_created_and_waited_for() {
    let shop = Shop::open(&CLUSTER, "created").await;
    shop.ca_issuer(3650).await;
    let arguments = ["create", "orders", "--username", "orders", "--issuer", "ca", "--duration", "48h"];
    let shown = usercert(&shop, &[&arguments[..], &["--dry-run"]].concat()).await;
    shown.says(Exit::Good, &["kind: DatabaseUserCertificate", "duration: 48h"]);
    assert!(shop.certificates().await.is_empty(), "a dry run creates nothing");
    let said = usercert(&shop, &[&arguments[..], &["--wait"]].concat()).await;
    said.says(Exit::Good, &["/orders is ready: the Secret orders holds the certificate"]);
    usercert(&shop, &arguments).await.says(Exit::CouldNotAsk, &["already exists"]);
    let bad = ["create", "bills", "--username", "..", "--issuer", "ca"];
    usercert(&shop, &bad).await.says(Exit::CouldNotAsk, &["username must not be"]);
}

/// A certificate for this subject that the CA of the shop signed, and its key.
async fn signed_by_ca(shop: &Shop, subject: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("ca.crt"), shop.value("ca", "tls.crt").await).unwrap();
    std::fs::write(file("ca.key"), shop.value("ca", "tls.key").await).unwrap();
    std::fs::write(file("extensions"), "extendedKeyUsage=clientAuth\n").unwrap();
    let key = harness::openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "");
    std::fs::write(file("key"), &key).unwrap();
    harness::openssl(&["req", "-new", "-key", &file("key"), "-subj", subject, "-out", &file("request")], "");
    let (request, ca, ca_key, extensions) = (file("request"), file("ca.crt"), file("ca.key"), file("extensions"));
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-days", "90", "-extfile", &extensions];
    (harness::openssl(&sign, ""), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_cert_manager_is_taken_over_with_its_certificate() {
    let shop = Shop::open(&CLUSTER, "migrated").await;
    let ca = shop.ca_issuer(3650).await;
    let (certificate, key) = signed_by_ca(&shop, "/O=Acme/CN=orders").await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "orders-tls", "annotations": { "cert-manager.io/certificate-name": "orders" } },
        "stringData": { "tls.crt": certificate, "tls.key": key, "ca.crt": ca },
    }))
    .await;
    let before = shop.secret("orders-tls").await.unwrap();
    let migrate = ["migrate", "orders-tls", "--issuer", "ca"];
    let shown = usercert(&shop, &migrate).await;
    shown.says(Exit::Good, &["CN=orders,O=Acme", "secretName: orders-tls", "algorithm: RSA", "Nothing was changed", "--yes"]);
    assert_eq!(shop.secret("orders-tls").await.unwrap().metadata.resource_version, before.metadata.resource_version);
    assert!(shop.certificates().await.is_empty());

    let done = usercert(&shop, &[&migrate[..], &["--yes"]].concat()).await;
    done.says(Exit::Good, &["/orders-tls has taken over the Secret orders-tls, with certificate"]);
    shop.until("orders-tls", "Issuing", "False Issued").await;
    let after = shop.secret("orders-tls").await.unwrap();
    let value = |secret: &k8s_openapi::api::core::v1::Secret, key: &str| secret.data.as_ref().unwrap().get(key).cloned();
    assert_eq!(value(&after, "tls.key"), value(&before, "tls.key"), "the key is the same");
    assert_eq!(shop.value("orders-tls", "tls.crt").await.trim(), certificate.trim(), "the certificate is the same");
    assert!(value(&after, "tls-combined.pem").is_some(), "the operator completes the Secret");
    assert_eq!(shop.status("orders-tls").await.history.len(), 1);
    usercert(&shop, &[&migrate[..], &["--yes"]].concat()).await.says(Exit::CouldNotAsk, &["is the operator's already"]);
    shop.apply_secret("opaque", &[("tls.crt", &certificate), ("tls.key", &key)]).await;
    usercert(&shop, &["migrate", "opaque", "--issuer", "ca"])
        .await
        .says(Exit::CouldNotAsk, &["cannot be taken over", "its type is"]);
    usercert(&shop, &["migrate", "opaque", "--issuer", "none"])
        .await
        .says(Exit::CouldNotAsk, &["there is no CertificateIssuer none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_terraform_filled_from_atlas_is_taken_over_without_a_mint() {
    let shop = Shop::open(&CLUSTER, "terraformed").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    // The certificate is made by the operator for another object, and copied as Terraform would have written it.
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    let (certificate, key) = (shop.value(&name, "tls.crt").await, shop.value(&name, "tls.key").await);
    shop.delete::<DatabaseUserCertificate>(&name).await;
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "from-terraform" },
        "stringData": { "tls.crt": certificate, "tls.key": key },
    }))
    .await;
    let mints = shop.atlas.mints_of(&name).len();
    let done = usercert(&shop, &["migrate", "from-terraform", "--issuer", "atlas", "--yes"]).await;
    done.says(Exit::Good, &["has taken over the Secret from-terraform, with certificate"]);
    shop.until("from-terraform", "Issuing", "False Issued").await;
    assert_eq!(shop.atlas.mints_of(&name).len(), mints, "nothing was minted");
    assert_eq!(shop.value("from-terraform", "tls.key").await, key);
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
