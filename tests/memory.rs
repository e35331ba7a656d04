//! How much memory and how many connections the program takes for objects that their authors have made as expensive as they can. Prints a table:
//! `cargo test --test memory -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command},
    sync::LazyLock,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use harness::{Cluster, Options, Shop, eventually};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use usercert_test_support::atlas::DigestAlgorithm;

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// How many objects of each kind there are.
const OBJECTS: usize = 300;

/// The most memory for one object, whatever its author put into it, in bytes.
const MOST_FOR_AN_OBJECT: usize = 16 * 1024;

/// The most memory beside that at the start, in bytes: one page of a list is in memory as text, twice.
const MOST_AT_THE_START: usize = 48 << 20;

/// The most connections. Each watch has one, and each namespace in which a Secret is awaited.
const MOST_CONNECTIONS: usize = 40;

/// The program as a process of its own; killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process takes.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// In bytes.
    memory: usize,
    /// The most memory since its start, in bytes.
    peak: usize,
    sockets: usize,
}

impl Program {
    /// Starts it, and waits until it is ready and has nothing to do.
    async fn start(shop: &Shop) -> Self {
        let control_plane = &shop.cluster.control_plane;
        let token = control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = File::create(control_plane.directory().join("memory.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_usercert-operator"))
            .args(["run", "--http-address", &format!("127.0.0.1:{port}"), "--pod-name", "memory"])
            .env("KUBECONFIG", token)
            .env("RUST_LOG", "warn")
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("MALLOC_TRIM_THRESHOLD_", "131072")
            .stderr(log)
            .spawn()
            .unwrap();
        let program = Self(child);
        let url = format!("http://127.0.0.1:{port}/readyz");
        eventually("the program leads", || async {
            let answer = reqwest::get(&url).await.ok()?;
            (answer.status().is_success() && !answer.text().await.ok()?.contains("standing by")).then_some(())
        })
        .await;
        program.until_at_rest().await;
        program
    }

    fn processor_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Waits until it takes next to no processor time.
    async fn until_at_rest(&self) {
        let started = Instant::now();
        loop {
            let before = self.processor_time();
            tokio::time::sleep(Duration::from_secs(2)).await;
            if self.processor_time() - before <= 4 {
                return;
            }
            assert!(started.elapsed() < Duration::from_mins(3), "it does not come to rest");
        }
    }

    fn taken(&self) -> Taken {
        let process = format!("/proc/{}", self.0.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
        };
        let files = fs::read_dir(format!("{process}/fd")).unwrap();
        let is_socket = |file: std::io::Result<fs::DirEntry>| {
            fs::read_link(file.unwrap().path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        Taken { memory: bytes("VmRSS:"), peak: bytes("VmHWM:"), sockets: files.map(is_socket).filter(|is| *is).count() }
    }
}

/// How long the client keeps connections that it does not use; and a little.
const IDLE_CONNECTIONS_LAST: Duration = Duration::from_secs(5);

/// A suspended object, so that nothing but the object itself takes memory.
fn certificate(number: usize, annotations: &Value) -> Value {
    let mut object = Shop::manifest(&format!("c{number}"), "ca", &json!({ "suspend": true }));
    object["metadata"]["annotations"] = annotations.clone();
    object
}

fn issuer(number: usize) -> Value {
    json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": format!("i{number}") },
        "spec": { "ca": { "secretName": format!("no-such-secret-{number}") } },
    })
}

/// Annotations of our prefix that the operator does not use, as many as the API server takes.
fn crowded() -> Value {
    ('a'..='p')
        .map(|name| (format!("usercert.dev/{name}"), json!("x".repeat(16_280))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn labelled_secret(number: usize, annotations: &Value) -> Value {
    let labels = json!({ "usercert.dev/certificate-uid": "u" });
    let metadata = json!({ "name": format!("s{number}"), "labels": labels, "annotations": annotations });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata })
}

async fn apply_all(shop: &Shop, objects: impl Iterator<Item = Value>) {
    stream::iter(objects).for_each_concurrent(8, |object| async { drop(shop.apply(object).await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_authors_put_into_their_objects_takes_little_memory_and_no_connections() {
    let shop = Shop::open(&CLUSTER, "memory").await;
    apply_all(&shop, (0..OBJECTS).map(|number| certificate(number, &json!({})))).await;
    // Each is looked at once and gets its status. What is measured is the next start.
    drop(Program::start(&shop).await);
    let plain = Program::start(&shop).await.taken();
    println!("{:<58}{:>10}{:>10}{:>9}{:>18}", "what there is", "MiB", "peak MiB", "sockets", "bytes per object");
    let print = |what: &str, taken: Taken, objects: usize| {
        let each = taken.memory.saturating_sub(plain.memory) / objects.max(1);
        println!("{what:<58}{:>10}{:>10}{:>9}{each:>18}", taken.memory >> 20, taken.peak >> 20, taken.sockets);
        each
    };
    print(&format!("{OBJECTS} certificates"), plain, 0);

    let long = json!({ "note": "x".repeat(250_000) });
    apply_all(&shop, (0..OBJECTS).map(|number| certificate(number, &long))).await;
    let program = Program::start(&shop).await;
    let taken = program.taken();
    let each = print("the same with an annotation of 250 kB each, a start", taken, OBJECTS);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes more for each object");
    assert!(taken.peak <= plain.memory + OBJECTS * MOST_FOR_AN_OBJECT + MOST_AT_THE_START, "{taken:?}");
    let other = json!({ "note": "y".repeat(250_000) });
    apply_all(&shop, (0..OBJECTS).map(|number| certificate(number, &other))).await;
    program.until_at_rest().await;
    let each = print("the same, each annotation changed once", program.taken(), OBJECTS);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes more for each object");
    drop(program);
    let others = crowded();
    apply_all(&shop, (0..OBJECTS).map(|number| certificate(number, &others))).await;
    let each = print("with 16 annotations of our prefix, 15.9 KiB each, a start", Program::start(&shop).await.taken(), OBJECTS);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes more for each object");
    apply_all(&shop, (0..OBJECTS).map(|number| certificate(number, &json!({})))).await;
    apply_all(&shop, (0..OBJECTS).map(|number| labelled_secret(number, &others))).await;
    let each = print("as many Secrets with our label, annotated so, a start", Program::start(&shop).await.taken(), OBJECTS);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes more for each Secret");
    let secrets = shop.api::<Secret>();
    secrets.delete_collection(&Default::default(), &Default::default()).await.unwrap();

    apply_all(&shop, (0..OBJECTS).map(issuer)).await;
    drop(Program::start(&shop).await);
    let program = Program::start(&shop).await;
    let each = print(&format!("and {OBJECTS} issuers that name missing Secrets, a start"), program.taken(), OBJECTS);
    assert!(each <= 2 * MOST_FOR_AN_OBJECT, "{each} bytes more for each issuer");
    assert!(program.taken().sockets <= MOST_CONNECTIONS, "{:?}", program.taken());
    apply_all(&shop, (OBJECTS..OBJECTS * 2).map(issuer)).await;
    program.until_at_rest().await;
    let each = print("and as many again, made meanwhile", program.taken(), OBJECTS * 2);
    assert!(each <= 2 * MOST_FOR_AN_OBJECT, "{each} bytes more for each issuer");
    tokio::time::sleep(IDLE_CONNECTIONS_LAST).await;
    assert!(program.taken().sockets <= MOST_CONNECTIONS, "{:?}", program.taken());
}
