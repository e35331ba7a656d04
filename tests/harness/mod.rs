//! A cluster for all tests of a program, and a namespace for each test.
//!
//! The API server, its controllers and the chart are real; the operator's own library runs against them with a token of the chart's
//! `ServiceAccount`, on a clock that a test may move; Atlas is the stand-in.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::default_trait_access,
    reason = "each test program uses a part; a test that cannot go on has failed"
)]

use std::{
    io::Write,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PostParams, core::GroupVersionKind, discovery::ApiResource};
use serde_json::json;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};
use usercert_operator::{
    api::SecretLocation,
    controller::{self, AtlasDefaults, DatabaseUsers, Keys, Scope, Settings, Turns},
    issuer::atlas::AtlasClient,
    operator::without_bodies,
    runtime::{Leadership, Liveness, Metrics, Readiness},
};
use usercert_test_support::{
    atlas::{DigestAlgorithm, StandIn, StandInConfig},
    control_plane::{ControlPlane, config_of, repository, tool},
    evidence::{self, Kind},
};

pub use usercert_test_support::openssl::openssl;

use tokio::task::AbortHandle;

pub mod atlas_objects;
mod bench;
mod shop;
pub mod webhooks;

pub use bench::Bench;
pub use shop::Shop;

pub const OPERATOR: &str = "system:serviceaccount:usercert-system:usercert-operator";
pub const PRIVATE_API_KEY: &str = "9f6c1d2e-private-api-key";

/// The namespace that the credentials of others are lent to.
pub const LENT: &str = "lent";

/// How long the operator waits for an answer of Atlas, unless a test says otherwise.
const ATLAS_LIMIT: Duration = Duration::from_secs(10);

/// So late an answer of Atlas is still in time, and a test can do something meanwhile.
pub const SLOWLY: Duration = Duration::from_secs(6);

/// How long a change may take to show.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a test program wants its cluster.
pub struct Options {
    pub digest: DigestAlgorithm,
    /// Namespaces to serve one by one; empty for the whole cluster.
    pub namespaces: &'static [&'static str],
}

/// All that is logged, for the check that no secret is.
const FINEST: &str = "usercert_operator=trace,kube=debug,reqwest=trace,hyper=debug,info";

pub struct Cluster {
    pub control_plane: ControlPlane,
    pub atlas: StandIn,
    pub metrics: Arc<Metrics>,
    pub log: Log,
    operator: Operator,
    kubeconfig: PathBuf,
    runtime: tokio::runtime::Runtime,
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
        evidence::append(Kind::Log, bytes);
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts a cluster on threads of its own; for a `LazyLock`.
pub fn start(options: &'static Options) -> Cluster {
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (control_plane, atlas, log, operator) = runtime.block_on(start_parts(options, FINEST));
        let cluster = Cluster::new(control_plane, atlas, log, operator, runtime);
        cluster.runtime.block_on(cluster.start_operator());
        cluster.runtime.spawn(keep_metrics(Arc::clone(&cluster.metrics)));
        cluster
    })
    .join()
    .unwrap()
}

/// The same, with less in the log and without an operator: the test starts its own.
pub fn start_without_operator(options: &'static Options) -> Cluster {
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (control_plane, atlas, log, operator) =
            runtime.block_on(start_parts(options, "usercert_operator=debug,kube=info,warn"));
        Cluster::new(control_plane, atlas, log, operator, runtime)
    })
    .join()
    .unwrap()
}

async fn keep_metrics(metrics: Arc<Metrics>) {
    loop {
        evidence::append(Kind::Metrics, metrics.encode().unwrap().as_bytes());
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn start_parts(options: &'static Options, filter: &str) -> (ControlPlane, StandIn, Log, Operator) {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    tracing_subscriber::registry().with(lines.with_filter(without_bodies(EnvFilter::new(filter)))).init();
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let config = StandInConfig { digest: options.digest, ..StandInConfig::default() };
    let (control_plane, atlas) = tokio::join!(ControlPlane::start(), StandIn::start(config));
    let (control_plane, atlas) = (control_plane.unwrap(), atlas.unwrap());
    install_chart(&control_plane, options.namespaces).await;
    let token = control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap();
    let mut config = config_of(&token).await.unwrap();
    config.default_retry = false;
    let scopes = match options.namespaces {
        [] => vec![Scope::Cluster { operator_namespace: "usercert-system".to_owned() }],
        namespaces => namespaces.iter().map(|namespace| Scope::Namespace((*namespace).to_owned())).collect(),
    };
    let operator = Operator::new(config, scopes, atlas.url());
    (control_plane, atlas, log, operator)
}

/// The operator's library, which runs until it is killed.
pub struct Operator {
    config: kube::Config,
    scopes: Vec<Scope>,
    atlas_url: String,
    rollout_kinds: Option<Vec<ApiResource>>,
    pub metrics: Arc<Metrics>,
    clock_offset: Arc<AtomicI64>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// The Pod in which it runs, if it knows that, and how often it was started.
    pod: Mutex<Option<&'static str>>,
    starts: AtomicI64,
    atlas_limit: Mutex<Duration>,
}

impl Operator {
    /// One that is not started yet.
    pub fn new(config: kube::Config, scopes: Vec<Scope>, atlas_url: String) -> Self {
        let (metrics, clock_offset, tasks) = (Arc::default(), Arc::default(), Mutex::default());
        let (pod, starts, atlas_limit) = (Mutex::default(), AtomicI64::default(), Mutex::new(ATLAS_LIMIT));
        let rollout_kinds = Some(Vec::new());
        Self { config, scopes, atlas_url, rollout_kinds, metrics, clock_offset, tasks, pod, starts, atlas_limit }
    }

    /// One that tells these metrics.
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics: Arc::new(metrics), ..self }
    }

    /// One that changes no workload.
    pub fn without_rollout(self) -> Self {
        Self { rollout_kinds: None, ..self }
    }

    /// One that changes workloads of these kinds of `example.com/v1` too, each with its resource.
    pub fn with_rollout_kinds(self, kinds: &[(&str, &str)]) -> Self {
        let kind = |(kind, resource): &(&str, &str)| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", kind), resource)
        };
        Self { rollout_kinds: Some(kinds.iter().map(kind).collect()), ..self }
    }

    /// From its next start on it waits so long for an answer of Atlas.
    pub fn limit_atlas(&self, limit: Duration) {
        *self.atlas_limit.lock().unwrap() = limit;
    }

    /// Starts it with nothing remembered, as a new process would.
    pub fn start(&self, runtime: &tokio::runtime::Handle) -> Readiness {
        let readiness = Readiness::awaiting(self.scopes.len());
        let _inside = runtime.enter();
        let client = Client::try_from(self.config.clone()).unwrap();
        let atlas = AtlasClient::new(*self.atlas_limit.lock().unwrap(), None).unwrap();
        let start = self.starts.fetch_add(1, Ordering::SeqCst);
        let leadership = Leadership::alone(self.pod.lock().unwrap().map(|pod| format!("{pod}_{start}")));
        let liveness = Liveness::default();
        let turns = Turns::new(atlas.clone(), 32, liveness.clone());
        let (users, keys) = (Arc::<DatabaseUsers>::default(), Keys::default());
        for scope in self.scopes.clone() {
            let offset = Arc::clone(&self.clock_offset);
            let settings = Settings {
                scope,
                max_concurrent: 32,
                clock: Arc::new(move || Timestamp::now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst))),
                atlas: atlas.clone(),
                atlas_defaults: AtlasDefaults {
                    endpoint: self.atlas_url.parse().unwrap(),
                    credentials: Some(SecretLocation::new("mongodb-atlas-system", "mongodb-atlas-operator-api-key")),
                    lending: [LENT.to_owned()].into_iter().collect(),
                },
                // The stand-ins and the proxies before them listen on ports that nobody knows before.
                endpoint_rule: Arc::new(|endpoint| endpoint.host_str() == Some("127.0.0.1")),
                turns: turns.clone(),
                keys: keys.clone(),
                users: Arc::clone(&users),
                metrics: Arc::clone(&self.metrics),
                leadership: leadership.clone(),
                liveness: liveness.clone(),
                rollout_kinds: self.rollout_kinds.clone(),
                stop_limit: Duration::from_mins(1),
            };
            let run = controller::run(client.clone(), settings, readiness.clone());
            self.tasks.lock().unwrap().push(runtime.spawn(run).abort_handle());
        }
        readiness
    }

    /// Another one like it, on the same clock.
    pub fn twin(&self) -> Self {
        let clock_offset = Arc::clone(&self.clock_offset);
        Self { clock_offset, ..Self::new(self.config.clone(), self.scopes.clone(), self.atlas_url.clone()) }
    }

    /// Drops everything that it has under way, wherever it is, and all that it remembers.
    pub fn kill(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
        evidence::append(Kind::Metrics, self.metrics.encode().unwrap().as_bytes());
    }

    /// Moves its clock by so much; how far it is from the machine's clock then.
    pub fn advance(&self, by: SignedDuration) -> SignedDuration {
        SignedDuration::from_secs(self.clock_offset.fetch_add(by.as_secs(), Ordering::SeqCst) + by.as_secs())
    }

    /// Now, by its clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.clock_offset.load(Ordering::SeqCst))
    }
}

async fn install_chart(control_plane: &ControlPlane, namespaces: &[&str]) {
    let client = control_plane.admin().await.unwrap();
    for namespace in namespaces {
        create_namespace(&client, namespace).await;
    }
    let chart = repository().join("charts/usercert-operator");
    let kind =
        |kind: &str, resource: &str| json!({ "group": "example.com", "version": "v1", "kind": kind, "resource": resource });
    let kinds = [kind("Worker", "workers"), kind("Latecomer", "latecomers")];
    let output = Command::new(tool("helm").unwrap())
        .args(["install", "usercert-operator"])
        .arg(chart)
        .args([
            "--namespace",
            "usercert-system",
            "--create-namespace",
            "--set",
            "replicaCount=0,rollout.enabled=true,metrics.secure.enabled=true",
        ])
        .arg(format!("--set-json=rollout.kinds={}", json!(kinds)))
        .arg(format!("--set-json=watchNamespaces={}", json!(namespaces)))
        .env("KUBECONFIG", control_plane.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub async fn create_namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

impl Cluster {
    fn new(
        control_plane: ControlPlane,
        atlas: StandIn,
        log: Log,
        operator: Operator,
        runtime: tokio::runtime::Runtime,
    ) -> Self {
        let (kubeconfig, metrics) = (control_plane.kubeconfig(), Arc::clone(&operator.metrics));
        Self { control_plane, atlas, metrics, log, operator, kubeconfig, runtime }
    }

    /// A kubeconfig of the operator, with its own rights.
    pub async fn operator_kubeconfig(&self) -> PathBuf {
        self.control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap()
    }

    /// How the operator reaches the API server, with its own rights.
    pub fn operator_config(&self) -> kube::Config {
        self.operator.config.clone()
    }

    /// Kills the operator.
    pub fn kill_operator(&self) {
        self.operator.kill();
    }

    /// From its next start on the operator runs in this Pod, and knows that.
    pub fn run_operator_in(&self, pod: Option<&'static str>) {
        *self.operator.pod.lock().unwrap() = pod;
    }

    /// From its next start on the operator waits so long for an answer of Atlas.
    pub fn limit_atlas(&self, limit: Duration) {
        self.operator.limit_atlas(limit);
    }

    /// Starts the operator again, and waits until it is ready.
    pub async fn start_operator(&self) {
        let readiness = self.operator.start(self.runtime.handle());
        eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    }

    /// Moves the operator's clock, and Atlas's with it.
    pub fn advance(&self, by: SignedDuration) {
        self.atlas.set_clock_offset(self.operator.advance(by));
    }

    /// Has Atlas's clock differ from the operator's by so much.
    pub fn skew_atlas(&self, by: SignedDuration) {
        self.atlas.set_clock_offset(self.operator.advance(SignedDuration::ZERO) + by);
    }

    /// Now, by the operator's clock.
    pub fn now(&self) -> Timestamp {
        self.operator.now()
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

/// The value of the metric `usercert_METRIC` for an object.
pub fn metric_of(metrics: &Metrics, metric: &str, namespace: &str, name: &str) -> Option<i64> {
    let (series, object) = (format!("usercert_{metric}{{"), format!("namespace=\"{namespace}\",name=\"{name}\""));
    let text = metrics.encode().unwrap();
    let line = text.lines().find(|line| line.starts_with(&series) && line.contains(&object))?;
    line.rsplit(' ').next()?.parse().ok()
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
