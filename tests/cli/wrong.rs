//! What is said when something is wrong.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use usercert_cli::{arguments::Arguments, exit::Exit, session::Session, terminal::Terminal, verbs::rights};
use usercert_test_support::atlas::X509Type;

use super::{
    CLUSTER, Said, Shop, apply_to_cluster, harness::eventually, tenant_who_may, usercert, usercert_with, with_certificate,
};

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
async fn a_check_names_what_is_missing() {
    let shop = Shop::open(&CLUSTER, "checked").await;
    shop.atlas_issuer().await;
    let name = shop.name("orders");
    shop.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    let of = |said: &Said, check: &str| {
        let found = said.json();
        let found = found["checks"].as_array().unwrap().iter().find(|finding| finding["check"] == check).cloned();
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
    let account = format!("system:serviceaccount:{}:default", shop.namespace);
    let as_account = usercert(&shop, &["status", "--as", &account]).await;
    as_account.says(Exit::CouldNotAsk, &["could not list certificates", "forbidden", &account]);
    let said = usercert_with(&shop, &connection, &["check", "-o", "json"]).await;
    for check in ["Operator's rights", "Webhooks", "Operator's Pods", "Write of a Secret"] {
        assert_eq!(of(&said, check).0, "skipped", "{}", said.text);
    }
    assert!(of(&said, "Your rights").1.contains("you may not list databaseusercertificates"), "{}", said.text);
    usercert_with(&shop, &connection, &["status"]).await.says(Exit::CouldNotAsk, &["could not list certificates", "forbidden"]);
}

/// What `check` asks about is what the chart gives, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_checked_are_those_of_the_chart() {
    use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
    type Right = (String, String, String);
    let shop = Shop::open(&CLUSTER, "rights").await;
    let of_rules = |rules: Option<Vec<PolicyRule>>| -> BTreeSet<Right> {
        let each = |rule: PolicyRule| {
            let (groups, resources) = (rule.api_groups.unwrap_or_default(), rule.resources.unwrap_or_default());
            let pairs = groups
                .into_iter()
                .flat_map(move |group| resources.clone().into_iter().map(move |resource| (group.clone(), resource)));
            pairs.flat_map(move |(group, resource)| {
                rule.verbs.clone().into_iter().map(move |verb| (group.clone(), resource.clone(), verb))
            })
        };
        rules.into_iter().flatten().flat_map(each).collect()
    };
    let checked = |rights: &[rights::Rights]| -> BTreeSet<Right> {
        let each = rights.iter().flat_map(|rights| rights.iter());
        each.flat_map(|(group, resource, verbs)| verbs.iter().map(|verb| [*group, *resource, *verb].map(str::to_owned).into()))
            .collect()
    };
    let role = kube::Api::<ClusterRole>::all(shop.client.clone()).get("usercert-operator").await.unwrap();
    let of_chart = of_rules(role.rules);
    let (always, with_rollouts) = ([rights::IN_NAMESPACES, rights::IN_CLUSTER], [rights::FOR_ROLLOUTS]);
    let (always, with_rollouts) = (checked(&always), checked(&with_rollouts));
    assert!(always.is_subset(&of_chart), "the chart lacks {:?}", always.difference(&of_chart).collect::<Vec<_>>());
    let unchecked: Vec<_> = of_chart.iter().filter(|right| !always.contains(right) && !with_rollouts.contains(right)).collect();
    let of_kinds_in_values = |right: &&&Right| right.0 != "apps" && ["get", "list", "patch"].contains(&right.2.as_str());
    assert!(unchecked.iter().all(|right| of_kinds_in_values(&right)), "check does not ask about {unchecked:?}");
    let leases = kube::Api::<Role>::namespaced(shop.client.clone(), "usercert-system");
    let on_lease = of_rules(leases.get("usercert-operator-leader-election").await.unwrap().rules);
    assert_eq!(on_lease, checked(&[rights::ON_LEASE]));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_says_what_a_tenant_may_not_see_and_refuses_nothing_for_it() {
    let shop = with_certificate("tenant").await;
    let rules = json!([
        { "apiGroups": ["usercert.dev"], "resources": ["databaseusercertificates"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] },
    ]);
    let user = tenant_who_may(&shop, rules).await;
    let connection = ["kubectl-usercert", "--kubeconfig", user.to_str().unwrap(), "--namespace", &shop.namespace];
    let why = usercert_with(&shop, &connection, &["why", "orders"]).await;
    why.says(
        Exit::Good,
        &[
            "Decision: the certificate is kept until",
            "?   The operator has looked at the issuer (you may not get the issuer)",
            "?   The certificate verifies with the CA of the issuer (you may not get the issuer)",
            "ok  The renewal time has not come",
            "you may not get the CertificateIssuer ca",
        ],
    );
    assert!(!why.text.contains("  NO "), "{}", why.text);
    let folder = tempfile::tempdir().unwrap();
    let to = format!("{}/bundle/", folder.path().display());
    usercert_with(&shop, &connection, &["report", "--to", &to]).await.says(Exit::Good, &["could not be read, see README.txt"]);
    let readme = std::fs::read_to_string(format!("{to}README.txt")).unwrap();
    assert!(readme.contains("status.json: could not list certificates"), "{readme}");
    // Without the Secret, nothing tells which issuer it is.
    shop.certificate("missing", "none", json!({})).await;
    shop.until("missing", "Ready", "False IssuerNotFound").await;
    let why = usercert_with(&shop, &connection, &["why", "missing"]).await;
    why.says(Exit::Attention, &["Reason: IssuerNotFound", "you may not list CertificateIssuers"]);
    // Whoever may see the issuer is told what the CA's Secret alone tells.
    let why = usercert(&shop, &["why", "orders"]).await;
    why.says(
        Exit::Good,
        &[
            "ok  The operator has looked at the issuer",
            "?   The certificate verifies with the CA of the issuer (the CA's Secret was not read)",
        ],
    );
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
    eventually("the policy is in force", || async {
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
        clock: Arc::new(|| jiff::Timestamp::now() - jiff::SignedDuration::from_secs(3630)),
    };
    let said = usercert_cli::execute(<Arguments as clap::Parser>::parse_from(parsed), late).await.unwrap();
    assert!(said.text().contains("FAILS   Clock: this machine's clock is 60m behind the API server's"), "{}", said.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_gone_is_noticed() {
    let shop = with_certificate("gone").await;
    // One that was stopped has given its Lease back.
    shop.apply(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "mine" },
        "spec": { "holderIdentity": "", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 1 },
    }))
    .await;
    let of_shop = ["--operator-namespace", shop.namespace.as_str(), "--lease-name", "mine"];
    let gone = "no operator leads: the last one has given the Lease back";
    usercert(&shop, &[&["why", "orders"], &of_shop[..]].concat()).await.says(Exit::Attention, &[gone]);
    usercert(&shop, &[&["check"], &of_shop[..]].concat()).await.says(Exit::Attention, &["FAILS   Operator: ", gone]);
    usercert(&shop, &[&["status"], &of_shop[..]].concat()).await.says(Exit::Attention, &["Good", "The operator", gone]);
    usercert(&shop, &[&["plan"], &of_shop[..]].concat()).await.says(Exit::Attention, &["1 renewal from", "The operator", gone]);
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
