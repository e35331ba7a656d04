//! The program itself, as two replicas with one lease: stopped, killed and paused in the middle of a mint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;
#[path = "rollout/kubelet.rs"]
#[allow(dead_code, reason = "the rollouts of one replica need more")]
mod kubelet;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use harness::{Cluster, Options, Shop, eventually};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Secret};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::{Mutex, Notify};
use usercert_test_support::{
    atlas::{DigestAlgorithm, Fault, Point, X509Type},
    command::command_alone,
    control_plane::free_ports,
    evidence,
    fault_proxy::{Fault as ProxyFault, Moment},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// There is one lease, and so one test at a time.
static LEASE: Mutex<()> = Mutex::const_new(());

/// The program as a process of its own; killed when dropped.
struct Replica {
    name: &'static str,
    child: Child,
    url: String,
    log: PathBuf,
}

impl Replica {
    async fn start(shop: &Shop, name: &'static str) -> Self {
        Self::start_with(shop, name, &shop.cluster.operator_kubeconfig().await)
    }

    /// One that reaches the API server by this kubeconfig.
    fn start_with(shop: &Shop, name: &'static str, kubeconfig: &Path) -> Self {
        let [port] = free_ports().unwrap();
        let control_plane = &shop.cluster.control_plane;
        let log = control_plane.directory().join(format!("{}-{name}.log", shop.namespace));
        let child = command_alone(env!("CARGO_BIN_EXE_usercert-operator"))
            .args([
                "run",
                "--http-address",
                &format!("127.0.0.1:{port}"),
                "--pod-name",
                name,
                "--atlas-timeout",
                "60",
                "--rollout",
            ])
            .args(["--allowed-atlas-endpoint", &shop.endpoint])
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "usercert_operator=debug,kube_client=debug,info")
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { name, child, url: format!("http://127.0.0.1:{port}"), log }
    }

    /// Two of them, of which the first leads.
    async fn pair(shop: &Shop) -> (Self, Self) {
        Self::pair_with(shop, &shop.cluster.operator_kubeconfig().await).await
    }

    /// The same; the first reaches the API server by this kubeconfig.
    async fn pair_with(shop: &Shop, kubeconfig: &Path) -> (Self, Self) {
        let first = Self::start_with(shop, "first", kubeconfig);
        first.until_leading(Duration::from_secs(30)).await;
        let second = Self::start(shop, "second").await;
        eventually("the second stands by", || async {
            let ready = second.get("readyz").await?;
            (ready.contains("standing by") && ready.contains("first_")).then_some(())
        })
        .await;
        assert_eq!(second.metric("usercert_leading").await, "0");
        assert_eq!(first.metric("usercert_leading").await, "1");
        for (replica, tells) in [(&first, true), (&second, false)] {
            let metrics = replica.get("metrics").await.unwrap();
            assert_eq!(metrics.contains("\nusercert_issuer_ready{"), tells, "of objects only the leader tells: {metrics}");
        }
        (first, second)
    }

    async fn get(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("{}/{path}", self.url)).await.ok()?;
        answer.text().await.ok()
    }

    async fn metric(&self, name: &str) -> String {
        let metrics = self.get("metrics").await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }

    async fn until_leading(&self, limit: Duration) {
        let started = Instant::now();
        while !self.get("readyz").await.is_some_and(|ready| ready.contains("this process leads")) {
            assert!(started.elapsed() < limit, "{} does not lead after {limit:?}: {}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn until_ended(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < limit, "{} has not ended after {limit:?}: {}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        evidence::ended(self.url.trim_start_matches("http://"), &self.log, || {
            let _ = self.child.kill();
            let _ = self.child.wait();
        });
    }
}

fn signal(process: u32, signal: &str) {
    assert!(Command::new("kill").args([format!("-{signal}"), process.to_string()]).status().unwrap().success());
}

/// Stops the process as SIGSTOP does, and waits until each of its threads stands still. The signal wakes one thread, which stops the
/// others when it gets a processor: until then they go on.
fn pause(process: u32) {
    signal(process, "STOP");
    let stands_still = |thread: std::fs::DirEntry| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tT"))
    };
    let since = Instant::now();
    while !std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten().all(stands_still) {
        assert!(since.elapsed() < Duration::from_secs(10), "the process does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A namespace with an Atlas issuer, and no operator but those that the test starts.
async fn open(name: &str) -> Shop {
    let shop = Shop::open(&CLUSTER, name).await;
    shop.cluster.kill_operator();
    let leases = Api::<Lease>::namespaced(shop.client.clone(), "usercert-system");
    // The lease of replicas that were killed at the end of another test.
    let _ = leases.delete("usercert-operator", &Default::default()).await;
    shop.atlas_issuer().await;
    shop
}

/// Calls `action` once when this user's mint comes to this point.
fn when(shop: &Shop, point: Point, user: &str, action: impl Fn() + Send + Sync + 'static) {
    let (user, done) = (user.to_owned(), std::sync::Once::new());
    shop.cluster.atlas.observe(move |at, who| {
        if at == point && who == user {
            done.call_once(&action);
        }
    });
}

async fn create(shop: &Shop, name: &str) {
    shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
    shop.certificate(name, "atlas", json!({})).await;
}

async fn lease(shop: &Shop) -> Lease {
    let leases = Api::<Lease>::namespaced(shop.client.clone(), "usercert-system");
    leases.get("usercert-operator").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_saves_the_answer_that_is_on_its_way_and_hands_over_within_seconds() {
    let _alone = LEASE.lock().await;
    let shop = open("stop").await;
    let (mut first, mut second) = Replica::pair(&shop).await;
    let late = shop.name("late");
    shop.cluster.atlas.fault_once(&late, Fault::Delay(Duration::from_secs(4)));
    let leader = first.child.id();
    when(&shop, Point::Made, &late, move || signal(leader, "TERM"));
    create(&shop, &late).await;
    eventually("it was told to stop", || async { first.log().contains("stopping: what is under way").then_some(()) }).await;
    let holder = lease(&shop).await.spec.unwrap().holder_identity.unwrap();
    assert!(shop.secret(&late).await.is_none() && holder.starts_with("first_"), "the lead is kept for the answer: {holder}");
    assert!(first.until_ended(Duration::from_secs(30)).await.success(), "{}", first.log());
    let ended = Instant::now();
    assert_eq!(lease(&shop).await.annotations().get("usercert.dev/released-by"), Some(&holder));
    assert!(shop.secret(&late).await.is_some(), "the answer was waited for and saved");
    second.until_leading(Duration::from_secs(12)).await;
    eprintln!("the lead went over {:.1} s after the stop", ended.elapsed().as_secs_f64());
    shop.until_ready(&late).await;
    assert_eq!((shop.cluster.atlas.mints_of(&late).len(), shop.unaccounted(&late).await), (1, 0));

    // What the Secret refuses is kept trying to be saved.
    let refused = shop.name("refused");
    shop.cluster.atlas.fault_once(&refused, Fault::Delay(Duration::from_secs(2)));
    let made = Arc::new(Notify::new());
    let notify = Arc::clone(&made);
    when(&shop, Point::Made, &refused, move || notify.notify_one());
    create(&shop, &refused).await;
    made.notified().await;
    shop.apply_secret(&refused, &[("other", "owner")]).await;
    shop.until(&refused, "Ready", "False SecretNotOwned").await;
    signal(second.child.id(), "TERM");
    eventually("it says what it waits for", || async { second.log().contains("wait for their Secrets").then_some(()) }).await;
    shop.delete::<Secret>(&refused).await;
    assert!(second.until_ended(Duration::from_secs(20)).await.success(), "{}", second.log());
    assert!(shop.value(&refused, "tls.crt").await.starts_with("-----BEGIN CERTIFICATE-----"));
    let third = Replica::start(&shop, "third").await;
    third.until_leading(Duration::from_secs(12)).await;
    shop.until_ready(&refused).await;
    assert_eq!((shop.cluster.atlas.mints_of(&refused).len(), shop.unaccounted(&refused).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_other_leads_within_the_lease_time() {
    let _alone = LEASE.lock().await;
    let shop = open("kill").await;
    let (mut first, second) = Replica::pair(&shop).await;
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let killed = Instant::now();
    second.until_leading(Duration::from_secs(15 + 2 * 5)).await;
    eprintln!("the lead went over {:.1} s after the kill", killed.elapsed().as_secs_f64());
    let user = shop.name("after");
    create(&shop, &user).await;
    shop.until_ready(&user).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_before_its_request_mints_nothing_when_it_wakes_up() {
    let _alone = LEASE.lock().await;
    let shop = open("pause").await;
    let (mut first, second) = Replica::pair(&shop).await;
    let user = shop.name("paused");
    let leader = first.child.id();
    // The claim is written, and the challenge is on its way: only the request that mints is missing.
    when(&shop, Point::Challenge, &user, move || pause(leader));
    create(&shop, &user).await;
    second.until_leading(Duration::from_secs(30)).await;
    eventually("the new leader takes the claim for lost", || async { (shop.unaccounted(&user).await == 1).then_some(()) })
        .await;
    signal(leader, "CONT");
    assert!(!first.until_ended(Duration::from_secs(30)).await.success(), "it ends, to be started anew");
    assert!(first.log().contains("no certificate was asked for"), "{}", first.log());
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 0);
    assert!(shop.secret(&user).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_asks_for_nothing_and_saves_what_it_has() {
    let _alone = LEASE.lock().await;
    let shop = open("cut-off").await;
    let (proxy, kubeconfig) = shop.proxied().await;
    let (mut first, second) = Replica::pair_with(&shop, &kubeconfig).await;
    // One request waits for its challenge until long after the lease has ended; the answer of the other is on its way.
    let (asking, made) = (shop.name("asking"), shop.name("made"));
    shop.cluster.atlas.fault_once(&asking, Fault::DelayChallenge(Duration::from_secs(18)));
    shop.cluster.atlas.fault_once(&made, Fault::Delay(Duration::from_secs(2)));
    create(&shop, &asking).await;
    eventually("the claim", || async { shop.status(&asking).await.issuance }).await;
    let wall = Arc::clone(&proxy);
    when(&shop, Point::Made, &made, move || wall.plan(|_| Some(ProxyFault::Cut(Moment::Before))));
    create(&shop, &made).await;
    second.until_leading(Duration::from_secs(40)).await;
    for user in [&asking, &made] {
        eventually("the new leader takes the claim for lost", || async { (shop.unaccounted(user).await == 1).then_some(()) })
            .await;
    }
    eventually("the old leader asks for nothing", || async {
        first.log().contains("no certificate was asked for").then_some(())
    })
    .await;
    assert_eq!(shop.cluster.atlas.mints_of(&asking).len(), 0);
    assert!(shop.secret(&made).await.is_none());
    proxy.clear();
    assert!(!first.until_ended(Duration::from_secs(40)).await.success(), "it ends, to be started anew");
    shop.until_ready(&made).await;
    assert_eq!(shop.cluster.atlas.mints_of(&made).len(), 1, "the only one was saved by who had it");
    eventually("what is in the Secret is counted no more", || async { (shop.unaccounted(&made).await == 0).then_some(()) })
        .await;
    let in_question = shop.status(&made).await.failure.and_then(|failure| failure.unlisted);
    assert_eq!(in_question, None, "Atlas is asked no more");
}

/// Longer than the lease time and two looks at the lease, and than what a new leader takes to look at a rollout.
const ANOTHER_LEADS: Duration = Duration::from_secs(80);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_in_the_middle_of_a_rollout_restarts_nobody_when_it_wakes_up() {
    let _alone = LEASE.lock().await;
    let shop = open("wave").await;
    shop.ca_issuer(3650).await;
    let _kubelet = kubelet::Kubelet::start(shop.client.clone(), &shop.namespace, jiff::Timestamp::now);
    let (proxy, kubeconfig) = shop.proxied().await;
    let (mut first, second) = Replica::pair_with(&shop, &kubeconfig).await;
    let user = shop.name("wave");
    shop.certificate(&user, "ca", json!({ "rollout": { "auto": true } })).await;
    let old = shop.until_ready(&user).await.serial_number.unwrap();
    for name in ["a", "b"] {
        shop.apply(deployment(name, &user)).await;
        eventually("it is ready", || async {
            let status = shop.api::<Deployment>().get(name).await.unwrap().status?;
            (status.ready_replicas == Some(1)).then_some(())
        })
        .await;
    }
    // The request that moves the first workload is on its way for so long that another leads, and the leader stands still.
    let (leader, is_move) =
        (first.child.id(), |target: &str| target.contains("/deployments/") && target.contains("fieldManager"));
    proxy.plan(move |asked| {
        is_move(&asked.target).then(|| {
            pause(leader);
            ProxyFault::Delay(Moment::Before, ANOTHER_LEADS)
        })
    });
    shop.annotate(&user, "usercert.dev/renew-requested-at", "now").await;
    shop.until_new_serial(&user, &old).await;
    let renewed = Instant::now();
    while proxy.played().is_empty() {
        assert!(renewed.elapsed() < Duration::from_secs(100), "nothing is moved: {}", first.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let paused = Instant::now();
    second.until_leading(Duration::from_secs(15 + 2 * 5)).await;
    shop.until(&user, "RolledOut", "True RolloutComplete").await;
    assert!(paused.elapsed() < ANOTHER_LEADS, "the request that is late must be the later one: {:?}", paused.elapsed());
    tokio::time::sleep((ANOTHER_LEADS + Duration::from_secs(2)).saturating_sub(paused.elapsed())).await;
    signal(leader, "CONT");
    assert!(!first.until_ended(Duration::from_secs(30)).await.success(), "it ends, to be started anew");
    let moves = proxy.asked().iter().filter(|asked| is_move(&asked.target)).count();
    assert_eq!(moves, 1, "it asks for nothing but what was on its way");
    for name in ["a", "b"] {
        let generation = shop.api::<Deployment>().get(name).await.unwrap().metadata.generation;
        assert_eq!(generation, Some(2), "{name} is restarted once");
    }
    shop.until(&user, "RolledOut", "True RolloutComplete").await;
}

/// A Deployment whose pod mounts this Secret.
fn deployment(name: &str, secret: &str) -> serde_json::Value {
    let pod = json!({
        "containers": [{ "name": "main", "image": "example.com/none" }],
        "volumes": [{ "name": "certificate", "secret": { "secretName": secret } }],
    });
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_whose_answer_is_cut_short_is_in_no_log() {
    let _alone = LEASE.lock().await;
    let shop = open("halved").await;
    let (proxy, kubeconfig) = shop.proxied().await;
    let user = shop.name("halved");
    let secrets = format!("/namespaces/{}/secrets", shop.namespace);
    proxy.plan(move |asked| (asked.is_write() && asked.target.contains(&secrets)).then_some(ProxyFault::Halve));
    let replica = Replica::start_with(&shop, "only", &kubeconfig);
    replica.until_leading(Duration::from_secs(30)).await;
    create(&shop, &user).await;
    eventually("an answer is cut short", || async { (!proxy.played().is_empty()).then_some(()) }).await;
    proxy.clear();
    shop.until_ready(&user).await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
    // How a PEM text begins in a Secret.
    assert!(!replica.log().contains("LS0tLS1CRUdJTi"), "the body is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_first_lists_have_come_ends_the_process_and_frees_the_lease() {
    let _alone = LEASE.lock().await;
    let shop = open("early").await;
    let (proxy, kubeconfig) = shop.proxied().await;
    proxy.plan(|asked| (asked.is_list() && asked.target.contains("databaseusercertificates")).then_some(ProxyFault::Hang));
    let mut replica = Replica::start_with(&shop, "early", &kubeconfig);
    eventually("a list gets no answer", || async { (!proxy.played().is_empty()).then_some(()) }).await;
    signal(replica.child.id(), "TERM");
    assert!(replica.until_ended(Duration::from_secs(15)).await.success(), "{}", replica.log());
    assert!(replica.log().contains("the lease was released"), "{}", replica.log());
}
