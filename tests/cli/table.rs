//! What `status`, `why` and `check` say on a cluster in which something is wrong: the table of docs/cli.md, held to by the program itself.
//!
//! The operator is the program with its Lease. Each fault is a real one: a user that Atlas does not have, credentials and addresses that it
//! refuses, its limits and its outages, a CA's Secret with rubbish in it, a webhook that denies, a right that is taken away, clocks that are an
//! hour off, a process that was killed. The first line has no fault, so that an exit code tells the fault from the cluster in which it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../harness/mod.rs"]
mod harness;
mod operator;

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use harness::{Cluster, Options, Shop};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration},
        core::v1::Pod,
        rbac::v1::ClusterRole,
    },
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use operator::{Operator, an_hour_ahead};
use serde_json::json;
use usercert_cli::{
    arguments::Arguments,
    exit::{CliError, Exit},
    session::Session,
    terminal::Terminal,
};
use usercert_operator::controller::chain;
use usercert_test_support::{
    atlas::{DigestAlgorithm, Fault, Refusal, X509Type},
    evidence::{self, Kind},
    webhook::{DENIAL, DenyingWebhook},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// The name of the certificate in each namespace.
const NAME: &str = "orders";

/// How long it may take until something is said. That nobody looks at an object is said two minutes after its creation at the earliest.
const PATIENCE: Duration = Duration::from_secs(150);

/// A line of the table: what is wrong, the telling parts of what each verb says, and their exit codes.
struct Line {
    fault: &'static str,
    status: &'static [&'static str],
    why: &'static [&'static str],
    check: &'static [&'static str],
    /// Of the three verbs.
    exits: [Exit; 3],
}

/// What each verb ends with where all of them see the fault.
const ATTENTION: [Exit; 3] = [Exit::Attention; 3];

const HEALTHY: Line = Line {
    fault: "Nothing is wrong",
    status: &["Good"],
    why: &["Decision: the certificate is kept until", "In service: yes"],
    check: &["ok      Operator's Pods: 1 of 1 ready", "ok      CertificateIssuer ca", "0 failed"],
    exits: [Exit::Good; 3],
};

const ATLAS: Line = Line {
    fault: "Atlas refuses: it has no such user",
    status: &["Not ready", "AtlasUserNotFound", "create the database user"],
    why: &[
        "Reason: AtlasUserNotFound",
        "new There is a certificate (a new certificate is needed: NoCertificate)",
        "NO  No wait after a failure is under way",
    ],
    check: &["ok      Atlas by CertificateIssuer atlas", "AtlasUserNotFound, which is about that certificate", "0 failed"],
    exits: [Exit::Attention, Exit::Attention, Exit::Good],
};

const CREDENTIALS: Line = Line {
    fault: "Atlas refuses the issuer's credentials",
    status: &["Not ready", "AtlasUnauthorized", "Project Owner"],
    why: &["Reason: AtlasUnauthorized", "Project Owner", "NO  No wait after a failure is under way"],
    check: &["FAILS   Atlas by CertificateIssuer atlas", "AtlasUnauthorized"],
    exits: ATTENTION,
};

const ACCESS_LIST: Line = Line {
    fault: "Atlas refuses the operator's address: it is not on the access list",
    status: &["Not ready", "AtlasAccessListDenied", "access list"],
    why: &["Reason: AtlasAccessListDenied", "access list", "NO  No wait after a failure is under way"],
    check: &["FAILS   Atlas by CertificateIssuer atlas", "AtlasAccessListDenied"],
    exits: ATTENTION,
};

const LIMITED: Line = Line {
    fault: "Atlas limits the project's requests",
    status: &["Not ready", "AtlasRateLimited"],
    why: &["Reason: AtlasRateLimited", "NO  No wait after a failure is under way"],
    check: &["FAILS   Atlas by CertificateIssuer atlas", "AtlasRateLimited"],
    exits: ATTENTION,
};

const OUTAGE: Line = Line {
    fault: "Atlas is out of order: it answers 503",
    status: &["Not ready", "AtlasAnswerLost"],
    why: &["Reason: AtlasAnswerLost", "NO  No wait after a failure is under way"],
    check: &["FAILS   Atlas by CertificateIssuer atlas", "AtlasAnswerLost"],
    exits: ATTENTION,
};

const CA: Line = Line {
    fault: "The CA is broken: its Secret holds no certificate",
    status: &["Renewal fails", "CaInvalid"],
    why: &["Reason: CaInvalid", "In service: yes", "NO  The issuer exists and can be used"],
    check: &["FAILS   CertificateIssuer ca", "CaInvalid", "until then none of its certificates is issued or renewed"],
    exits: ATTENTION,
};

const WEBHOOK: Line = Line {
    fault: "A webhook denies the Secret",
    status: &["Not ready", "SecretNotWritable", DENIAL],
    why: &["Reason: SecretNotWritable", DENIAL, "NO  No wait after a failure is under way"],
    check: &["asked about Secrets or certificates: deny.example.test", "FAILS   Write of a Secret", DENIAL],
    exits: ATTENTION,
};

const RIGHT: Line = Line {
    fault: "A right is missing: the operator may not create Secrets",
    status: &["Not ready", "SecretNotWritable", "cannot create resource"],
    why: &["Reason: SecretNotWritable", "cannot create resource", "NO  No wait after a failure is under way"],
    check: &["FAILS   Operator's rights", "usercert-operator may not create secrets"],
    exits: ATTENTION,
};

const OWN_CLOCK: Line = Line {
    fault: "The clock of the machine that asks is an hour behind",
    status: &["Not ready", "NotYetValid", "this machine's clock is 60m behind the API server's"],
    why: &["In service: no (NotYetValid)", "this machine's clock is 60m behind the API server's"],
    check: &["FAILS   Clock", "this machine's clock is 60m behind the API server's"],
    exits: ATTENTION,
};

const OWN_CLOCK_AHEAD: Line = Line {
    fault: "The clock of the machine that asks is an hour ahead",
    status: &["Good", "this machine's clock is 60m ahead of the API server's"],
    why: &["In service: yes", "this machine's clock is 60m ahead of the API server's"],
    check: &["FAILS   Clock", "this machine's clock is 60m ahead of the API server's"],
    exits: ATTENTION,
};

const OPERATOR_CLOCK: Line = Line {
    fault: "The operator's clock is an hour ahead",
    status: &["Not ready", "NotYetValid", "the operator's clock is 60m ahead of the API server's"],
    why: &["In service: no (NotYetValid)", "the operator's clock is 60m ahead of the API server's"],
    check: &["FAILS   Operator's clock", "the operator's clock is 60m ahead of the API server's"],
    exits: ATTENTION,
};

const QUIET: Line = Line {
    fault: "The operator is gone: it was killed, and nothing was changed since",
    status: &["Good", "no operator leads", "Until then nothing is issued or renewed"],
    why: &["no operator leads", "Look at the operator's Pods in usercert-system"],
    check: &["FAILS   Operator: no operator leads", "without a leader nothing is issued or renewed"],
    exits: ATTENTION,
};

const GONE: Line = Line {
    fault: "The operator is gone: it was killed, and a spec was changed since",
    status: &["Unattended", "the operator has not looked at the present spec", "no operator leads"],
    why: &["no operator leads", "Look at the operator's Pods in usercert-system"],
    check: &["FAILS   Operator: no operator leads", "without a leader nothing is issued or renewed"],
    exits: ATTENTION,
};

const TABLE: [&Line; 14] = [
    &HEALTHY,
    &ATLAS,
    &CREDENTIALS,
    &ACCESS_LIST,
    &LIMITED,
    &OUTAGE,
    &CA,
    &WEBHOOK,
    &RIGHT,
    &OWN_CLOCK,
    &OWN_CLOCK_AHEAD,
    &OPERATOR_CLOCK,
    &QUIET,
    &GONE,
];

/// What a command says on a clock that is so far ahead.
async fn say(shop: &Shop, ahead: SignedDuration, verb: &[&str]) -> (String, Exit) {
    say_on(Terminal::none(), shop, ahead, verb).await
}

async fn say_on(terminal: Terminal, shop: &Shop, ahead: SignedDuration, verb: &[&str]) -> (String, Exit) {
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let connection = ["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", &shop.namespace];
    let parsed = <Arguments as clap::Parser>::try_parse_from(connection.iter().chain(verb)).expect("the command line");
    let session = Session { terminal, clock: Arc::new(move || Timestamp::now() + ahead) };
    let (text, exit) = match usercert_cli::execute(parsed, session).await {
        Ok(answer) => (answer.text(), answer.exit),
        Err(error) => (format!("error: {}", told(&error)), error.exit()),
    };
    evidence::append(Kind::Log, text.as_bytes());
    (text, exit)
}

fn told(error: &CliError) -> String {
    chain(error)
}

/// Asks the three verbs until each says its part and ends as it should, and prints what they say.
async fn hold(line: &Line, shop: &Shop, ahead: SignedDuration) {
    println!("\n=== {} ===", line.fault);
    let started = Instant::now();
    let verbs = [(&["status"][..], line.status), (&["why", NAME], line.why), (&["check"], line.check)];
    for ((verb, parts), expected) in verbs.into_iter().zip(line.exits) {
        let text = loop {
            let (text, exit) = say(shop, ahead, verb).await;
            if exit == expected && parts.iter().all(|part| text.contains(part)) {
                break text;
            }
            let said = || format!("{}: {verb:?} does not say {parts:?} and end with {expected:?}:\n{text}{exit:?}", line.fault);
            assert!(started.elapsed() < PATIENCE, "{}", said());
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        println!("\n$ kubectl usercert {}\n{text}exit code {}", verb.join(" "), expected as u8);
        fits(line, shop, ahead, verb).await;
    }
}

/// On a narrow terminal no line is longer than it, unless the line is one word; and colours take no room.
async fn fits(line: &Line, shop: &Shop, ahead: SignedDuration, verb: &[&str]) {
    for (width, has_colour) in [(40, false), (60, false), (60, true)] {
        let terminal = Terminal { width: Some(width), has_colour, ..Terminal::none() };
        let text = say_on(terminal, shop, ahead, verb).await.0;
        assert_eq!(text.contains('\u{1b}'), has_colour, "{text}");
        let text = anstream::adapter::strip_str(&text).to_string();
        if width == 40 {
            println!("on {width} columns:\n{text}");
        }
        for found in text.lines().filter(|found| found.chars().count() > width) {
            assert!(found.split_whitespace().count() < 3, "{}, {verb:?} on {width} columns: {found:?}", line.fault);
        }
    }
}

/// The line as docs/cli.md has it.
fn in_docs(line: &Line) -> String {
    let cell = |parts: &[&str], exit: Exit| {
        let parts = parts.iter().map(|part| format!("`{part}`")).chain([format!("ends with {}", exit as u8)]);
        parts.collect::<Vec<_>>().join("<br>")
    };
    let [status, why, check] = line.exits;
    format!("| {} | {} | {} | {} |", line.fault, cell(line.status, status), cell(line.why, why), cell(line.check, check))
}

/// Has the API server ask a webhook that denies before a Secret with the operator's label is written in the namespace.
async fn deny(shop: &Shop, webhook: &DenyingWebhook) {
    let mut denying: ValidatingWebhook = serde_json::from_value(json!({
        "name": "deny.example.test", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "clientConfig": { "url": webhook.url(403) },
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": shop.namespace } },
        "objectSelector": { "matchExpressions": [{ "key": "usercert.dev/certificate-uid", "operator": "Exists" }] },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"] }],
    }))
    .unwrap();
    denying.client_config.ca_bundle = Some(ByteString(webhook.ca_certificate().into_bytes()));
    let mut configuration = ValidatingWebhookConfiguration { webhooks: Some(vec![denying]), ..Default::default() };
    configuration.metadata.name = Some(shop.namespace.clone());
    let api = Api::<ValidatingWebhookConfiguration>::all(shop.client.clone());
    api.create(&PostParams::default(), &configuration).await.unwrap();
    let started = Instant::now();
    while !say(shop, SignedDuration::ZERO, &["check"]).await.0.contains(DENIAL) {
        assert!(started.elapsed() < PATIENCE, "the webhook is not asked");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A Pod of the operator that is ready, as a kubelet would report it.
async fn ready_pod(shop: &Shop) {
    let api = Api::<Pod>::namespaced(shop.client.clone(), "usercert-system");
    let pod = json!({
        "metadata": { "name": "first", "labels": {
            "app.kubernetes.io/name": "usercert-operator", "app.kubernetes.io/instance": "usercert-operator",
        } },
        "spec": { "serviceAccountName": "usercert-operator", "containers": [{ "name": "operator", "image": "operator" }] },
    });
    api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    api.patch_status("first", &PatchParams::default(), &Patch::Merge(ready)).await.unwrap();
}

/// A certificate of Atlas in a namespace of its own. Atlas has the user, and answers each request for a certificate like this.
async fn refused_by_atlas(name: &str, status: u16, code: &'static str) -> Shop {
    let shop = Shop::open(&CLUSTER, name).await;
    let user = shop.name(NAME);
    shop.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.atlas.fault(&user, Fault::Refuse(Refusal::new(status, code)));
    shop.atlas_issuer().await;
    shop.certificate(NAME, "atlas", json!({ "username": user })).await;
    shop
}

/// The verbs with which the operator may use Secrets.
async fn allow_secrets(shop: &Shop, verbs: &[&str]) {
    let api = Api::<ClusterRole>::all(shop.client.clone());
    let mut role = api.get("usercert-operator").await.unwrap();
    for rule in role.rules.iter_mut().flatten().filter(|rule| rule.resources == Some(vec!["secrets".to_owned()])) {
        rule.verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
    }
    let patch = Patch::Merge(json!({ "rules": role.rules }));
    api.patch("usercert-operator", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_told_by_status_why_and_check() {
    let on_time = SignedDuration::ZERO;
    let open = async |name: &str| {
        let shop = Shop::open(&CLUSTER, name).await;
        shop.ca_issuer(3650).await;
        shop
    };
    let (kept, broken) = (open("kept").await, open("broken").await);
    let operator = Operator::start(&kept, "first", None).await;
    for shop in [&kept, &broken] {
        shop.certificate(NAME, "ca", json!({})).await;
        shop.until_ready(NAME).await;
    }
    ready_pod(&kept).await;
    hold(&HEALTHY, &kept, on_time).await;
    hold(&OWN_CLOCK, &kept, SignedDuration::from_secs(-3630)).await;
    hold(&OWN_CLOCK_AHEAD, &kept, SignedDuration::from_secs(3630)).await;

    let refused = Shop::open(&CLUSTER, "refused").await;
    refused.atlas_issuer().await;
    refused.certificate(NAME, "atlas", json!({})).await;
    hold(&ATLAS, &refused, on_time).await;

    let wrong_key = Shop::open(&CLUSTER, "wrong-key").await;
    wrong_key.atlas_issuer().await;
    wrong_key.apply_secret("atlas-api-key", &[("publicApiKey", &wrong_key.public_key), ("privateApiKey", "wrong")]).await;
    wrong_key.certificate(NAME, "atlas", json!({})).await;
    hold(&CREDENTIALS, &wrong_key, on_time).await;
    for (line, name, status, code) in [
        (&ACCESS_LIST, "address", 403, "IP_ADDRESS_NOT_ON_ACCESS_LIST"),
        (&LIMITED, "limited", 429, "RATE_LIMITED"),
        (&OUTAGE, "outage", 503, "SERVICE_UNAVAILABLE"),
    ] {
        hold(line, &refused_by_atlas(name, status, code).await, on_time).await;
    }

    broken.patch_secret("ca", json!({ "stringData": { "tls.crt": "no certificate" } })).await;
    hold(&CA, &broken, on_time).await;

    let (denied, webhook) = (open("denied").await, DenyingWebhook::start().await.unwrap());
    deny(&denied, &webhook).await;
    denied.certificate(NAME, "ca", json!({})).await;
    hold(&WEBHOOK, &denied, on_time).await;

    let forbidden = open("forbidden").await;
    allow_secrets(&forbidden, &["get", "list", "watch", "patch"]).await;
    forbidden.certificate(NAME, "ca", json!({})).await;
    hold(&RIGHT, &forbidden, on_time).await;
    allow_secrets(&forbidden, &["get", "list", "watch", "create", "patch"]).await;

    drop(operator);
    let folder = tempfile::tempdir().unwrap();
    let ahead = Operator::start(&kept, "ahead", Some(&an_hour_ahead(folder.path()))).await;
    let early = open("early").await;
    early.certificate(NAME, "ca", json!({})).await;
    hold(&OPERATOR_CLOCK, &early, on_time).await;

    drop(ahead);
    hold(&QUIET, &kept, on_time).await;
    kept.certificate(NAME, "ca", json!({ "duration": "48h" })).await;
    hold(&GONE, &kept, on_time).await;

    let docs = include_str!("../../docs/cli.md");
    println!("\n=== The table ===\n");
    for line in TABLE.map(in_docs) {
        println!("{line}");
    }
    for line in TABLE.map(in_docs) {
        assert!(docs.lines().any(|found| found == line), "docs/cli.md must have the line:\n{line}");
    }
}
