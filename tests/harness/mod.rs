//! A cluster for all tests of a program, and a namespace for each test.
//!
//! The API server, its controllers and the chart are real; the operator's own library runs against them with a token of the chart's
//! `ServiceAccount`, on a clock that a test may move; Atlas is the stand-in.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::default_trait_access,
    reason = "each test program uses a part; a test that cannot go on has failed"
)]

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use usercert_operator::{
    controller::{self, Scope, Settings},
    issuer::atlas::AtlasClient,
    operator::{Metrics, Readiness},
};
use usercert_test_support::{
    atlas::{DigestAlgorithm, StandIn, StandInConfig},
    control_plane::{ControlPlane, config_of, repository, tool},
};

mod shop;

pub use shop::Shop;

pub const OPERATOR: &str = "system:serviceaccount:usercert-system:usercert-operator";
pub const PRIVATE_API_KEY: &str = "9f6c1d2e-private-api-key";

/// How long a change may take to show.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a test program wants its cluster.
pub struct Options {
    pub digest: DigestAlgorithm,
    /// Namespaces to serve one by one; empty for the whole cluster.
    pub namespaces: &'static [&'static str],
}

pub struct Cluster {
    pub control_plane: ControlPlane,
    pub atlas: StandIn,
    pub metrics: Arc<Metrics>,
    pub log: Log,
    clock_offset: Arc<AtomicI64>,
    kubeconfig: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

/// What the operator logs, at its finest level.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts a cluster on threads of its own; for a `LazyLock`.
pub fn start(options: &'static Options) -> Cluster {
    thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let parts = runtime.block_on(start_parts(options));
        let (control_plane, atlas, metrics, log, clock_offset, kubeconfig) = parts;
        Cluster { control_plane, atlas, metrics, log, clock_offset, kubeconfig, _runtime: runtime }
    })
    .join()
    .unwrap()
}

async fn start_parts(options: &Options) -> (ControlPlane, StandIn, Arc<Metrics>, Log, Arc<AtomicI64>, PathBuf) {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter("usercert_operator=trace,kube=debug,reqwest=trace,hyper=debug,info")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let (control_plane, atlas) = tokio::join!(
        ControlPlane::start(),
        StandIn::start(StandInConfig { digest: options.digest, ..StandInConfig::default() })
    );
    let (control_plane, atlas) = (control_plane.unwrap(), atlas.unwrap());
    install_chart(&control_plane, options.namespaces).await;

    let token = control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap();
    let mut config = config_of(&token).await.unwrap();
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let clock_offset = Arc::new(AtomicI64::new(0));
    let metrics = Arc::new(Metrics::default());
    let scopes: Vec<Scope> = match options.namespaces {
        [] => vec![Scope::Cluster { operator_namespace: "usercert-system".to_owned() }],
        namespaces => namespaces.iter().map(|namespace| Scope::Namespace((*namespace).to_owned())).collect(),
    };
    let readiness = Readiness::awaiting(scopes.len());
    for scope in scopes {
        let offset = Arc::clone(&clock_offset);
        let settings = Settings {
            scope,
            max_concurrent: 10,
            clock: Arc::new(move || Timestamp::now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst))),
            atlas: AtlasClient::new(Duration::from_secs(3)).unwrap(),
            metrics: Arc::clone(&metrics),
        };
        tokio::spawn(controller::run(client.clone(), settings, readiness.clone(), std::future::pending().boxed()));
    }
    eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    let kubeconfig = control_plane.kubeconfig();
    (control_plane, atlas, metrics, log, clock_offset, kubeconfig)
}

async fn install_chart(control_plane: &ControlPlane, namespaces: &[&str]) {
    let client = control_plane.admin().await.unwrap();
    for namespace in namespaces {
        create_namespace(&client, namespace).await;
    }
    let chart = repository().join("charts/usercert-operator");
    let output = Command::new(tool("helm").unwrap())
        .args(["install", "usercert-operator"])
        .arg(chart)
        .args(["--namespace", "usercert-system", "--create-namespace", "--set", "replicaCount=0"])
        .arg(format!("--set-json=watchNamespaces={}", json!(namespaces)))
        .env("KUBECONFIG", control_plane.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn create_namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

impl Cluster {
    /// Moves the operator's clock, and Atlas's with it.
    pub fn advance(&self, by: SignedDuration) {
        let offset = self.clock_offset.fetch_add(by.as_secs(), Ordering::SeqCst) + by.as_secs();
        self.atlas.set_clock_offset(SignedDuration::from_secs(offset));
    }

    /// Now, by the operator's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.clock_offset.load(Ordering::SeqCst))
    }

    /// A client with all rights, for the runtime of the calling test.
    pub async fn client(&self) -> Client {
        Client::try_from(config_of(&self.kubeconfig).await.unwrap()).unwrap()
    }

    /// The requests of the operator about objects of a namespace, as `verb resource`.
    pub fn requests_of_operator(&self, namespace: &str) -> Vec<String> {
        let audit = self.control_plane.audit().unwrap();
        let ours = audit.iter().filter(|event| event.user == OPERATOR && event.namespace == namespace && event.verb != "watch");
        ours.map(|event| format!("{} {}{}", event.verb, event.resource, if event.dry_run { " (dry run)" } else { "" }))
            .collect()
    }
}

/// Asks until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, question: impl Fn() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "not within {} seconds: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Certificate and key of a CA that lasts this many days.
pub fn new_ca(days: u32) -> (String, String) {
    let key = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
    let days = days.to_string();
    let arguments = [
        "req",
        "-x509",
        "-key",
        "/dev/stdin",
        "-days",
        &days,
        "-subj",
        "/O=Acme/CN=CA",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ];
    (openssl(&arguments, &key), key)
}

/// Runs `openssl` with this text as its input.
pub fn openssl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
