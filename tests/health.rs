//! The program as an on-call engineer meets it: health, the log and its level, and metrics by HTTPS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;
#[cfg(feature = "otlp-test")]
#[path = "health/otlp.rs"]
mod otlp;
#[path = "health/secure.rs"]
mod secure;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use harness::{Cluster, Options, Shop, eventually};
use serde_json::{Value, json};
use tokio::sync::Notify;
use usercert_test_support::{
    atlas::{DigestAlgorithm, Fault as AtlasFault, Point, X509Type},
    command::command_alone,
    control_plane::free_ports,
    evidence,
    fault_proxy::{Asked, Fault, Moment},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// What is logged unless the level is changed. It names a part of the program, which must not win over that.
const STANDARD: &str = "usercert_operator=info,usercert_operator_controller::pass=info,warn";

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
        let kubeconfig = shop.cluster.operator_kubeconfig().await;
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
        let [http, debug, https] = free_ports().unwrap().map(|port| format!("127.0.0.1:{port}"));
        let log = shop.cluster.control_plane.directory().join(format!("{}.log", shop.namespace));
        let child = command_alone(env!("CARGO_BIN_EXE_usercert-operator"))
            .args(["run", "--leader-elect=false", "--log-format=json", "--watch-namespace", &shop.namespace])
            .args([format!("--http-address={http}"), format!("--debug-address={debug}")])
            .arg(format!("--metrics-secure-address={https}"))
            .args(arguments)
            .envs(environment.iter().copied())
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", STANDARD)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let url = |scheme: &str, address: String| format!("{scheme}://{address}");
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
        evidence::ended(self.http.trim_start_matches("http://"), &self.log, || {
            let _ = self.child.kill();
            let _ = self.child.wait();
        });
    }
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
    let lines = ["clock/certificates", "clock/issuers", "clock/lists", "deletions", "passes/certificates", "passes/issuers"]
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
        // A machine that stalls for so long by itself counts too.
        let pauses =
            metrics.lines().find_map(|line| line.strip_prefix("usercert_process_pauses_total ")?.parse::<u64>().ok())?;
        (pauses >= 1 && metrics.contains("\nusercert_loops_stalled 0\n")).then_some(())
    })
    .await;
    let told = program.lines().into_iter().find(|line| message(line).starts_with("this process was paused")).unwrap();
    assert!(told["fields"]["seconds"].as_u64().unwrap() >= 10, "{told}");
}

/// A certificate that takes longer than a loop may stand still: what is under way when the process stops ends first.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_waits_for_a_slow_answer_is_not_punished() {
    let shop = Shop::open(&CLUSTER, "stopped").await;
    let (proxy, kubeconfig) = shop.proxied().await;
    let is_write = |asked: &Asked| asked.is_write() && asked.target.contains("/secrets");
    proxy.plan(move |asked| is_write(asked).then_some(Fault::Delay(Moment::Before, Duration::from_secs(18))));
    let arguments = ["--atlas-timeout=60", "--allowed-atlas-endpoint", &shop.endpoint];
    let mut program = Program::start_with(&shop, &kubeconfig, &arguments);
    let late = shop.name("late");
    shop.cluster.atlas.add_user(&shop.project, &late, X509Type::Managed);
    shop.cluster.atlas.fault_once(&late, AtlasFault::Delay(Duration::from_secs(55)));
    let asked = Arc::new(Notify::new());
    let (tell, whom) = (Arc::clone(&asked), late.clone());
    shop.cluster.atlas.observe(move |point, username| {
        if point == Point::Made && username == whom {
            tell.notify_one();
        }
    });
    shop.atlas_issuer().await;
    shop.certificate(&late, "atlas", json!({})).await;
    tokio::time::timeout(Duration::from_mins(1), asked.notified()).await.expect("the certificate is asked for");
    program.signal("TERM");
    let stopped = Instant::now();
    while program.child.try_wait().unwrap().is_none() {
        assert!(stopped.elapsed() < Duration::from_mins(3), "it does not end");
        if let Some((code, body)) = program.get("livez").await {
            assert_eq!((code, body.as_str()), (200, "ok\n"), "after {:?}", stopped.elapsed());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(stopped.elapsed() > Duration::from_secs(70), "it ended too soon to show anything: {:?}", stopped.elapsed());
    assert!(shop.secret(&late).await.is_some(), "the answer was waited for and saved");
    assert!(!program.lines().iter().any(|line| message(line).contains("stands still")));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_the_watch_that_cannot_list() {
    let shop = Shop::open(&CLUSTER, "unlisted").await;
    let (proxy, path) = shop.proxied().await;
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
    let (good, bad, failing) = (shop.name("good"), shop.name("bad"), shop.name("failing"));
    let (proxy, kubeconfig) = shop.proxied().await;
    let refused = format!("/{failing}/status");
    proxy.plan(move |asked| asked.target.contains(&refused).then_some(Fault::Refuse(Moment::Before, 403)));
    let program = Program::start_with(&shop, &kubeconfig, &[]);
    eventually("it is ready", || async { (program.get("readyz").await?.0 == 200).then_some(()) }).await;
    assert_eq!(program.log_level(reqwest::Method::PUT, "debug").await, (200, "debug\n".to_owned()));
    shop.ca_issuer(3650).await;
    shop.certificate(&good, "ca", json!({})).await;
    shop.certificate(&bad, "missing", json!({})).await;
    shop.until_ready(&good).await;
    shop.until(&bad, "Ready", "False IssuerNotFound").await;
    shop.certificate(&failing, "ca", json!({})).await;
    let is_failure = |line: &Value| message(line) == "a pass failed and is repeated";
    eventually("a pass fails", || async { program.lines().iter().any(is_failure).then_some(()) }).await;
    let lines = program.lines();
    let of_passes: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"].as_str().unwrap().starts_with("usercert_operator_controller::pass") || is_failure(line))
        .collect();
    assert!(of_passes.len() > 5, "{of_passes:?}");
    for line in of_passes {
        let span = &line["spans"][0];
        let object = span["object"].as_str().unwrap_or_default();
        assert!([&good, &bad, &failing].iter().any(|name| object == format!("{}/{name}", shop.namespace)), "{line}");
        assert_eq!((&span["name"], &span["kind"]), (&json!("pass"), &json!("DatabaseUserCertificate")), "{line}");
        let other = line["spans"].as_array().unwrap().iter().filter(|span| span["name"] != json!("HTTP"));
        assert_eq!(other.count(), 1, "one span for a pass: {line}");
        // The first lines of a pass are from before its decision. Whatever is not kept has a reason.
        let has_decided = span["decision"] == "keep" || (span["decision"].is_string() && span["reason"].is_string());
        assert!(has_decided || message(line) == "next step", "{line}");
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
    assert_eq!(level(reqwest::Method::GET, "").await, (200, format!("{STANDARD} (RUST_LOG)\n")));
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
