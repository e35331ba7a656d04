//! The program as an on-call engineer meets it: health, the log and its level, and metrics by HTTPS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;
#[cfg(feature = "otlp-test")]
#[path = "health/otlp.rs"]
mod otlp;

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::LazyLock,
    time::{Duration, Instant},
};

use harness::{Cluster, Options, Shop, eventually, openssl};
use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount, rbac::v1::ClusterRoleBinding};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use usercert_test_support::{
    atlas::DigestAlgorithm,
    evidence::{self, Kind},
    fault_proxy::{Fault, FaultProxy, Moment},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// The program as a process of its own; killed when dropped.
struct Program {
    child: Child,
    http: String,
    debug: String,
    https: String,
    log: PathBuf,
}

impl Program {
    async fn start(shop: &Shop, arguments: &[&str]) -> Self {
        let kubeconfig = service_account(shop).await;
        let program = Self::start_with(shop, &kubeconfig, arguments);
        eventually("it is ready", || async { (program.get("readyz").await?.0 == 200).then_some(()) }).await;
        program
    }

    /// One that serves the namespace of this shop alone, with a lease of its own, and reaches the API server by this kubeconfig.
    fn start_with(shop: &Shop, kubeconfig: &Path, arguments: &[&str]) -> Self {
        Self::start_in(shop, kubeconfig, arguments, &[])
    }

    /// The same, with variables of the environment.
    fn start_in(shop: &Shop, kubeconfig: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let [http, debug, https] =
            [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).map(|listener| listener.local_addr().unwrap());
        let log = shop.cluster.control_plane.directory().join(format!("{}.log", shop.namespace));
        let child = Command::new(env!("CARGO_BIN_EXE_usercert-operator"))
            .args(["run", "--leader-elect=false", "--log-format=json", "--watch-namespace", &shop.namespace])
            .args([format!("--http-address={http}"), format!("--debug-address={debug}")])
            .arg(format!("--metrics-secure-address={https}"))
            .args(arguments)
            .envs(environment.iter().copied())
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "usercert_operator=info,warn")
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let url = |scheme: &str, address| format!("{scheme}://{address}");
        Self { child, http: url("http", http), debug: url("http", debug), https: url("https", https), log }
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("{}/{path}", self.http)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Asks for the log level, or changes it.
    async fn log_level(&self, method: reqwest::Method, body: &'static str) -> (u16, String) {
        let request = reqwest::Client::new().request(method, format!("{}/debug/log-level", self.debug)).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The lines that were logged, as JSON.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        evidence::append(Kind::Log, &std::fs::read(&self.log).unwrap_or_default());
    }
}

async fn service_account(shop: &Shop) -> PathBuf {
    shop.cluster.control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap()
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_all_loops_and_a_pause_is_told_and_not_punished() {
    let shop = Shop::open(&CLUSTER, "loops").await;
    let program = Program::start(&shop, &[]).await;
    let ready = program.get("readyz?verbose").await.unwrap();
    let namespace = &shop.namespace;
    let watches =
        format!("[+]{namespace}/watch/certificates ok\n[+]{namespace}/watch/issuers ok\n[+]{namespace}/watch/secrets ok\n");
    assert_eq!(ready, (200, format!("{watches}[+]caches ok\n[+]lead ok\nok\nreadyz check passed\n")));
    assert_eq!(program.get("readyz").await.unwrap(), (200, "ok\n".to_owned()));

    // Each loop shows that it moves, the queues of the controllers too, though there is no object.
    let lines = ["clock/certificates", "clock/issuers", "clock/lists", "passes/certificates", "passes/issuers"]
        .map(|name| format!("[+]{namespace}/{name} ok\n"));
    let loops = lines.concat();
    eventually("all loops have begun", || async {
        let (code, body) = program.get("livez?verbose").await?;
        (code == 200 && body == format!("{loops}{watches}ok\nlivez check passed\n")).then_some(())
    })
    .await;

    program.signal("STOP");
    tokio::time::sleep(Duration::from_secs(12)).await;
    program.signal("CONT");
    assert_eq!(program.get("livez").await.unwrap(), (200, "ok\n".to_owned()));
    eventually("the pause is counted", || async {
        let metrics = program.get("metrics").await?.1;
        (metrics.contains("\nusercert_process_pauses_total 1\n") && metrics.contains("\nusercert_loops_stalled 0\n"))
            .then_some(())
    })
    .await;
    let told = program.lines().into_iter().find(|line| message(line).starts_with("this process was paused")).unwrap();
    assert!(told["fields"]["seconds"].as_u64().unwrap() >= 10, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_the_watch_that_cannot_list() {
    let shop = Shop::open(&CLUSTER, "unlisted").await;
    let url = shop.cluster.operator_config().cluster_url.to_string();
    let certificate = std::fs::read(shop.cluster.control_plane.directory().join("apiserver.crt")).unwrap();
    let proxy = FaultProxy::start(&url, Some(&certificate)).await.unwrap();
    let kubeconfig = std::fs::read_to_string(service_account(&shop).await).unwrap();
    let path = shop.cluster.control_plane.directory().join("unlisted.kubeconfig");
    std::fs::write(&path, kubeconfig.replace(url.trim_end_matches('/'), &proxy.url())).unwrap();
    let is_about_issuers = |target: &str| target.contains("/certificateissuers");
    proxy.plan(move |asked| is_about_issuers(&asked.target).then_some(Fault::Refuse(Moment::Before, 403)));
    let program = Program::start_with(&shop, &path, &[]);
    let line = format!("[-]{}/watch/issuers failed: its first list has not come: the API server answers 403\n", shop.namespace);
    eventually("it says which watch is waited for", || async {
        let (code, body) = program.get("readyz").await?;
        (code == 503 && body.contains(&line) && body.contains("watch/secrets ok")).then_some(())
    })
    .await;
    assert_eq!(program.get("livez").await.unwrap().0, 200, "a restart would not help");
    proxy.clear();
    eventually("it is ready", || async { (program.get("readyz").await?.0 == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_pass_carries_its_object_its_decision_and_the_reason() {
    let shop = Shop::open(&CLUSTER, "spans").await;
    let program = Program::start(&shop, &[]).await;
    assert_eq!(program.log_level(reqwest::Method::PUT, "debug").await, (200, "debug\n".to_owned()));
    shop.ca_issuer(3650).await;
    let (good, bad) = (shop.name("good"), shop.name("bad"));
    shop.certificate(&good, "ca", json!({})).await;
    shop.certificate(&bad, "missing", json!({})).await;
    shop.until_ready(&good).await;
    shop.until(&bad, "Ready", "False IssuerNotFound").await;
    let lines = program.lines();
    let of_passes: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"].as_str().unwrap().starts_with("usercert_operator_controller::pass"))
        .collect();
    assert!(of_passes.len() > 5, "{of_passes:?}");
    for line in of_passes {
        let span = &line["spans"][0];
        let object = span["object"].as_str().unwrap_or_default();
        assert!(object == format!("{}/{good}", shop.namespace) || object == format!("{}/{bad}", shop.namespace), "{line}");
        assert_eq!((&span["name"], &span["kind"]), (&json!("pass"), &json!("DatabaseUserCertificate")), "{line}");
        let other = line["spans"].as_array().unwrap().iter().filter(|span| span["name"] != json!("HTTP"));
        assert_eq!(other.count(), 1, "one span for a pass: {line}");
    }
    for (object, decision, reason) in [(&good, "issue", "NoCertificate"), (&bad, "block", "IssuerNotFound")] {
        let is_it = |line: &&Value| {
            let span = &line["span"];
            span["object"] == format!("{}/{object}", shop.namespace) && span["decision"] == decision && span["reason"] == reason
        };
        assert!(
            lines.iter().any(|line| is_it(&line)),
            "{object} {decision} {reason}: {}",
            std::fs::read_to_string(&program.log).unwrap()
        );
    }
    let issuer = lines.iter().find(|line| line["span"]["kind"] == json!("CertificateIssuer"));
    assert!(issuer.is_none_or(|line| line["span"]["object"] == format!("{}/ca", shop.namespace)), "{issuer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_is_changed_while_the_program_runs() {
    let shop = Shop::open(&CLUSTER, "level").await;
    let program = Program::start(&shop, &[]).await;
    shop.ca_issuer(3650).await;
    let (before, after, again) = (shop.name("before"), shop.name("after"), shop.name("again"));
    let debug_lines = |object: &str| {
        let lines = program.lines();
        lines.iter().filter(|line| line["level"] == "DEBUG" && line.to_string().contains(object)).count()
    };
    shop.certificate(&before, "ca", json!({})).await;
    shop.until_ready(&before).await;
    assert_eq!(debug_lines(&before), 0);
    let level = async |method, body| program.log_level(method, body).await;
    assert_eq!(level(reqwest::Method::GET, "").await, (200, "usercert_operator=info,warn (RUST_LOG)\n".to_owned()));
    assert_eq!(level(reqwest::Method::PUT, "DEBUG\n").await, (200, "debug\n".to_owned()));
    shop.certificate(&after, "ca", json!({})).await;
    shop.until_ready(&after).await;
    assert!(debug_lines(&after) > 0);
    for refused in ["loud", "", "hyper=trace", "info,hyper=trace"] {
        assert_eq!(level(reqwest::Method::PUT, refused).await.0, 400, "{refused}");
    }
    assert_eq!(level(reqwest::Method::GET, "").await.1, "debug\n");
    let long: &'static str = Box::leak("debug ".repeat(100).into_boxed_str());
    assert_eq!(level(reqwest::Method::PUT, long).await.0, 413);
    assert_eq!(level(reqwest::Method::DELETE, "").await.0, 200);
    shop.certificate(&again, "ca", json!({})).await;
    shop.until_ready(&again).await;
    assert_eq!(debug_lines(&again), 0);
    let on_network = program.get("debug/log-level").await.unwrap();
    assert_eq!(on_network.0, 404, "the port that the network reaches has it not");
}

/// A service account in the namespace of the shop, and a token of it.
async fn account(shop: &Shop, name: &str) -> String {
    let accounts = Api::<ServiceAccount>::namespaced(shop.client.clone(), &shop.namespace);
    let account = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request: TokenRequest = serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
    accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap().status.unwrap().token
}

fn https() -> reqwest::Client {
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_by_https_are_for_those_whom_the_api_server_lets_get_them() {
    let shop = Shop::open(&CLUSTER, "scraped").await;
    let program = Program::start(&shop, &["--metrics-secure"]).await;
    let (with, without) = (account(&shop, "with").await, account(&shop, "without").await);
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": shop.namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "usercert-operator-metrics-reader" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": shop.namespace, "name": "with" }],
    }))
    .unwrap();
    Api::<ClusterRoleBinding>::all(shop.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    let client = https();
    let ask = async |authorization: Option<&str>| {
        let request = client.get(format!("{}/metrics", program.https));
        let request = authorization.iter().fold(request, |request, value| request.header("Authorization", *value));
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("WWW-Authenticate").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge, answer.text().await.unwrap())
    };
    // The authorizer of the API server learns of the binding by a watch.
    eventually("who has the right is let in", || async {
        let (code, _, body) = ask(Some(&format!("Bearer {with}"))).await;
        (code == 200 && body.contains("usercert_leading 1")).then_some(())
    })
    .await;
    let unknown = (401, Some("Bearer".to_owned()), "a token of this cluster is needed\n".to_owned());
    for refused in [None, Some("Bearer wrong"), Some("Basic YTpi"), Some("Bearer "), Some(with.as_str())] {
        assert_eq!(ask(refused).await, unknown, "{refused:?}");
    }
    let forged = format!("Bearer {}AAAA", &with[..with.len() - 4]);
    assert_eq!(ask(Some(&forged)).await, unknown, "another signature");
    let user = format!("system:serviceaccount:{}:without", shop.namespace);
    let forbidden = (403, None, format!("{user} has no right to get /metrics\n"));
    assert_eq!(ask(Some(&format!("Bearer {without}"))).await, forbidden);

    // A scraper costs no review each time.
    let reviews = || {
        let audit = shop.cluster.control_plane.audit().unwrap();
        audit.iter().filter(|event| event.user == harness::OPERATOR && event.resource.ends_with("reviews")).count()
    };
    let before = reviews();
    for _ in 0..20 {
        assert_eq!(ask(Some(&format!("Bearer {with}"))).await.0, 200);
        assert_eq!(ask(Some(&format!("Bearer {without}"))).await.0, 403);
    }
    assert!(reviews() <= before + 4, "{} reviews for 40 scrapes", reviews() - before);
    // Other paths and the open port have no metrics.
    assert_eq!(client.get(format!("{}/debug/log-level", program.https)).send().await.unwrap().status(), 401);
    assert_eq!(program.get("metrics").await.unwrap().0, 404);
    assert_eq!(program.get("livez").await.unwrap().0, 200);
    let log = std::fs::read_to_string(&program.log).unwrap();
    assert!(!log.contains(&with) && !log.contains(&without), "a token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_metrics_that_changes_is_taken_into_use() {
    let shop = Shop::open(&CLUSTER, "served").await;
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let write = |name: &str| {
        let pem = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
        let subject = format!("/CN={name}");
        let request = [
            "req",
            "-x509",
            "-key",
            "/dev/stdin",
            "-days",
            "1",
            "-subj",
            &subject,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        let signed = openssl(&request, &pem);
        std::fs::write(&certificate, &signed).unwrap();
        std::fs::write(&key, pem).unwrap();
        reqwest::Certificate::from_pem(signed.as_bytes()).unwrap()
    };
    let first = write("first");
    let files = [format!("--metrics-cert-file={}", certificate.display()), format!("--metrics-key-file={}", key.display())];
    let program = Program::start(&shop, &["--metrics-secure", &files[0], &files[1]]).await;
    let trusts = async |root: reqwest::Certificate| {
        let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
        client.get(format!("{}/metrics", program.https)).send().await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(trusts(first.clone()).await.unwrap(), 401);
    // A file that cannot be used leaves the former certificate in use.
    std::fs::write(&key, "no key").unwrap();
    let told = Instant::now();
    while !program.lines().iter().any(|line| message(line).contains("the former one is used")) {
        assert!(told.elapsed() < Duration::from_mins(1), "a key that cannot be used is told");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(trusts(first.clone()).await.unwrap(), 401);
    let second = write("second");
    let changed = Instant::now();
    while trusts(second.clone()).await.is_err() {
        assert!(changed.elapsed() < Duration::from_mins(1), "the new certificate is taken into use");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(trusts(first).await.is_err());
}
