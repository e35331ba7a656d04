//! How much memory and how many connections the program takes for objects, issuers and lists that their authors have made as expensive as they
//! can, and how long a neighbour's new certificate takes meanwhile. Prints a table: `cargo test --test memory -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../tenancy/own_endpoint.rs"]
#[allow(dead_code, reason = "the attempts on others need more")]
mod own_endpoint;

mod program;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use harness::{Cluster, Options, PRIVATE_API_KEY, Shop, eventually};
use k8s_openapi::api::core::v1::Secret;
use own_endpoint::{OwnEndpoint, page_number, page_of};
use program::{Program, Taken};
use serde_json::{Value, json};
use usercert_operator::api::{DatabaseUserCertificate, condition};
use usercert_test_support::atlas::DigestAlgorithm;

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// How many objects of each kind there are; fewer of those that take the API server long.
const OBJECTS: usize = 300;
const WITH_LONG_ANNOTATIONS: usize = 200;
const WITH_FULL_SPECS: usize = 100;

/// The most memory for an object of ours with a usual spec and its status, in bytes, whatever is in its metadata.
const MOST_FOR_AN_OBJECT: usize = 16 * 1024;

/// The most memory that metrics of one object leave behind, in bytes. Nothing is kept of them, but the allocator keeps some room, and the
/// server a connection.
const MOST_FOR_METRICS_OF_AN_OBJECT: usize = 4 * 1024;

/// The most memory for an object whose spec is as full as the API server lets it be, in bytes.
const MOST_FOR_A_FULL_OBJECT: usize = 192 * 1024;

/// The most memory for what is under way, in bytes: objects that are being read and looked at.
const MOST_FOR_WORK: usize = 8 << 20;

/// The most memory for an issuer that names a missing Secret, in bytes.
const MOST_FOR_AN_ISSUER: usize = 24 * 1024;

/// The most memory beside that at the start, in bytes: one page of a list is in memory as text, twice.
const MOST_AT_THE_START: usize = 36 << 20;

/// The most memory for all lists of certificates together, in bytes: 100,000 entries, and what is being read of them.
const MOST_FOR_LISTS: usize = 48 << 20;

/// The most connections at any time, and at rest. Each watch has one, each namespace in which a Secret is awaited, and each request that is
/// under way. Those that are not used any more are kept for some seconds.
const MOST_CONNECTIONS: usize = 100;
const MOST_CONNECTIONS_AT_REST: usize = 40;

/// How long a neighbour may wait for what a tenant does.
const BEARABLE: Duration = Duration::from_secs(15);

/// How many entries of all lists are kept, and the most memory for one, in bytes: with its share of what is being read, and of the users.
const MOST_REMEMBERED: usize = 100_000;
const MOST_FOR_AN_ENTRY: usize = 256;

/// How many users there are whose lists are long, in how many projects.
const USERS: usize = 60;
const PROJECTS: usize = 10;

/// A suspended object, so that nothing but the object itself takes memory.
fn certificate(number: usize, annotations: &Value, spec: &Value) -> Value {
    let mut object = Shop::manifest(&format!("c{number}"), "ca", spec);
    object["spec"]["suspend"] = json!(true);
    object["metadata"]["annotations"] = annotations.clone();
    object
}

/// Annotations of our prefix that the operator does not use, as many as the API server takes.
fn crowded() -> Value {
    let value = "x".repeat(16_280);
    ('a'..='p').map(|name| (format!("usercert.dev/{name}"), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn labelled_secret(number: usize, annotations: &Value) -> Value {
    let labels = json!({ "usercert.dev/certificate-uid": "u" });
    let metadata = json!({ "name": format!("s{number}"), "labels": labels, "annotations": annotations });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata })
}

/// A spec with as much text as the API server takes: characters of four bytes where it takes any.
fn full_spec() -> Value {
    let wide = |characters: usize| "\u{1d4d0}".repeat(characters);
    let long = |number: usize, length: usize| format!("{number:a>length$}");
    let key = |number: usize| format!("{}/{}", ["a"; 127].join("."), long(number, 63));
    let map = |value: &str| (0..16).map(|number| (key(number), json!(value))).collect::<serde_json::Map<_, _>>();
    let format = |number: usize| json!({ "type": "CA", "key": long(number, 253) });
    let workload = |number: usize| json!({ "apiVersion": "a".repeat(253), "kind": "K".repeat(63), "name": long(number, 253) });
    let option = |number: usize| json!({ "name": long(number, 64), "value": wide(256) });
    let window = json!({ "from": "22:00", "to": "04:00", "timeZone": "E".repeat(64) });
    json!({
        "username": wide(1024),
        "secretTemplate": { "annotations": map(&wide(256)), "labels": map(&"v".repeat(63)) },
        "formats": (0..16).map(format).collect::<Vec<_>>(),
        "rollout": { "workloads": (0..64).map(workload).collect::<Vec<_>>(), "windows": vec![window; 16] },
        "connection": {
            "type": "mongodb", "hosts": (0..32).map(|number| format!("{}.{}", ["a"; 120].join("."), long(number, 12))).collect::<Vec<_>>(),
            "mountPath": format!("/{}", "m".repeat(511)), "options": (0..32).map(option).collect::<Vec<_>>(),
        },
    })
}

fn issuer(number: usize) -> Value {
    json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": format!("i{number}") },
        "spec": { "ca": { "secretName": format!("no-such-secret-{number}") } },
    })
}

async fn apply_all(shop: &Shop, objects: impl Iterator<Item = Value>) {
    stream::iter(objects).for_each_concurrent(8, |object| async { drop(shop.apply(object).await) }).await;
}

/// A tenant, a neighbour, and the table.
struct Stage {
    tenant: Shop,
    neighbour: Shop,
    /// The endpoint of the tenant's choice.
    endpoint: OwnEndpoint,
}

impl Stage {
    async fn set() -> Self {
        // What it lists for a user depends on the project: pages of 5,000 entries, or as many as there may be.
        let endpoint = OwnEndpoint::start(|target| {
            let page = page_number(target);
            let (size, total) = if target.contains("/groups/f") { (5_000, 50_000) } else { (500, 2_000) };
            (Duration::ZERO, page_of((page - 1) * size..page * size, total))
        })
        .await;
        let (tenant, neighbour) = (Shop::open(&CLUSTER, "memory").await, Shop::open(&CLUSTER, "beside-memory").await);
        neighbour.ca_issuer(300).await;
        println!(
            "{:<62}{:>6}{:>10}{:>9}{:>18}{:>24}",
            "what there is", "MiB", "peak MiB", "sockets", "bytes per object", "neighbour served after"
        );
        Self { tenant, neighbour, endpoint }
    }

    async fn program(&self) -> Program {
        Program::start(&self.tenant, &self.endpoint.url).await
    }

    /// Carries out what a tenant does, while the neighbour asks for a certificate. How long that took.
    async fn beside(&self, attempt: impl Future<Output = ()>) -> Duration {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("served-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let neighbour = async {
            let started = Instant::now();
            self.neighbour.certificate(&name, "ca", json!({})).await;
            self.neighbour.until_ready(&name).await;
            started.elapsed()
        };
        let ((), felt) = tokio::join!(attempt, neighbour);
        assert!(felt < BEARABLE, "the neighbour waited for {felt:?}");
        felt
    }
}

/// Prints a row; returns how many bytes each of the objects took beside what there was before.
fn row(what: &str, taken: Taken, before: Taken, objects: usize, felt: Option<Duration>) -> usize {
    let each = taken.memory.saturating_sub(before.memory) / objects;
    let felt = felt.map_or_else(|| "-".to_owned(), |felt| format!("{} ms", felt.as_millis()));
    println!("{what:<62}{:>6}{:>10}{:>9}{each:>18}{felt:>24}", taken.memory >> 20, taken.peak >> 20, taken.sockets);
    each
}

#[tokio::test(flavor = "multi_thread")]
async fn what_authors_put_into_their_objects_takes_bounded_memory_and_few_connections() {
    let stage = Stage::set().await;
    let empty = stage.program().await;
    let nothing = empty.taken();
    apply_all(&stage.tenant, (0..OBJECTS).map(|number| certificate(number, &json!({}), &json!({})))).await;
    empty.until_at_rest().await;
    drop(empty);
    // Each was looked at once and got its status. What is measured is the next start.
    let plain = objects_alone(&stage, nothing).await;
    long_annotations(&stage, plain).await;
    full_specs(&stage, plain).await;
    crowded_secrets(&stage).await;
    long_credentials(&stage).await;
    missing_secrets(&stage).await;
    long_lists(&stage).await;
}

async fn objects_alone(stage: &Stage, nothing: Taken) -> Taken {
    let program = stage.program().await;
    let plain = program.taken();
    let each = row(&format!("{OBJECTS} certificates, a start"), plain, nothing, OBJECTS, None);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes for each object");
    for _ in 0..5 {
        // All are suspended, and have no certificate.
        assert!(program.scrape().await.matches("usercert_certificate_suspended{").count() >= OBJECTS);
    }
    let each = row("the same, after five scrapes of their metrics", program.taken(), plain, OBJECTS, None);
    assert!(each <= MOST_FOR_METRICS_OF_AN_OBJECT, "{each} bytes more for each object");
    plain
}

/// Prints the row of so many objects, which are applied beside the neighbour while the program runs. Returns the bytes for each, and the program.
async fn applied(stage: &Stage, what: &str, before: Option<Taken>, objects: Vec<Value>) -> (usize, Program) {
    let program = stage.program().await;
    let (before, count) = (before.unwrap_or_else(|| program.taken()), objects.len());
    let felt = stage.beside(apply_all(&stage.tenant, objects.into_iter())).await;
    program.until_at_rest().await;
    (row(&format!("{count} {what}"), program.taken(), before, count, Some(felt)), program)
}

async fn long_annotations(stage: &Stage, plain: Taken) {
    let long = crowded();
    let objects = (0..WITH_LONG_ANNOTATIONS).map(|number| certificate(number, &long, &json!({}))).collect();
    let what = "of them with 16 annotations of 15.9 KiB of our prefix";
    let (each, program) = applied(stage, what, Some(plain), objects).await;
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes more for each object");
    drop(program);
    let taken = stage.program().await.taken();
    let each = row("the same, a start", taken, plain, WITH_LONG_ANNOTATIONS, None);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes more for each object");
    assert!(taken.peak <= plain.memory + WITH_LONG_ANNOTATIONS * MOST_FOR_AN_OBJECT + MOST_AT_THE_START, "{taken:?}");
}

async fn full_specs(stage: &Stage, plain: Taken) {
    let spec = full_spec();
    let objects = (0..WITH_FULL_SPECS).map(|number| certificate(number, &json!({}), &spec)).collect();
    let (each, program) = applied(stage, "of them with a spec that is as full as it may be", Some(plain), objects).await;
    assert!(each <= MOST_FOR_A_FULL_OBJECT + MOST_FOR_WORK / WITH_FULL_SPECS, "{each} bytes more for each object");
    drop(program);
    let taken = stage.program().await.taken();
    let each = row("the same, a start", taken, plain, WITH_FULL_SPECS, None);
    assert!(each <= MOST_FOR_A_FULL_OBJECT, "{each} bytes more for each object");
    assert!(taken.peak <= plain.memory + WITH_FULL_SPECS * MOST_FOR_A_FULL_OBJECT + MOST_AT_THE_START, "{taken:?}");
    stage.tenant.delete_all().await;
}

async fn crowded_secrets(stage: &Stage) {
    let before = stage.program().await.taken();
    let long = crowded();
    apply_all(&stage.tenant, (0..WITH_LONG_ANNOTATIONS).map(|number| labelled_secret(number, &long))).await;
    let taken = stage.program().await.taken();
    let what = format!("{WITH_LONG_ANNOTATIONS} Secrets with our label and such annotations, a start");
    let each = row(&what, taken, before, WITH_LONG_ANNOTATIONS, None);
    assert!(each <= MOST_FOR_AN_OBJECT, "{each} bytes for each Secret");
    stage.tenant.api::<Secret>().delete_collection(&Default::default(), &Default::default()).await.unwrap();
}

/// Each issuer reads the same Secret of nearly a megabyte.
async fn long_credentials(stage: &Stage) {
    let long = "x".repeat(900_000);
    stage.tenant.apply_secret("long", &[("tls.crt", &long), ("tls.key", &long[..100])]).await;
    let named = (0..WITH_LONG_ANNOTATIONS).map(|number| {
        let mut issuer = issuer(number);
        issuer["spec"]["ca"]["secretName"] = json!("long");
        issuer
    });
    let (each, program) = applied(stage, "issuers that name one Secret of 900 kB", None, named.collect()).await;
    stage.tenant.until_issuer("i0", "False CaInvalid").await;
    assert!(each <= MOST_FOR_AN_ISSUER + MOST_FOR_WORK / WITH_LONG_ANNOTATIONS, "{each} bytes for each issuer");
    drop(program);
    stage.tenant.delete_all().await;
}

async fn missing_secrets(stage: &Stage) {
    let program = stage.program().await;
    let before = program.taken();
    let felt = stage.beside(apply_all(&stage.tenant, (0..OBJECTS).map(issuer))).await;
    program.until_at_rest().await;
    let taken = program.taken();
    let each = row(&format!("{OBJECTS} issuers that name missing Secrets"), taken, before, OBJECTS, Some(felt));
    assert!(each <= MOST_FOR_AN_ISSUER, "{each} bytes for each issuer");
    assert!(taken.sockets <= MOST_CONNECTIONS, "{taken:?}");
    eventually("connections that are not used any more are closed", || async {
        (program.taken().sockets <= MOST_CONNECTIONS_AT_REST).then_some(())
    })
    .await;
    drop(program);
    let taken = stage.program().await.taken();
    row("the same, a start", taken, before, OBJECTS, None);
    assert!(taken.sockets <= MOST_CONNECTIONS_AT_REST, "{taken:?}");
    stage.tenant.delete_all().await;
}

async fn long_lists(stage: &Stage) {
    let tenant = &stage.tenant;
    tenant.apply_secret("atlas-api-key", &[("publicApiKey", "key"), ("privateApiKey", PRIVATE_API_KEY)]).await;
    let program = stage.program().await;
    let before = program.taken();
    let felt = lists(stage, 'f', "AtlasUnavailable").await;
    let refused = program.taken();
    row("lists of ten pages with 5,000 entries for 60 users, refused", refused, before, USERS, Some(felt));
    assert!(refused.peak <= before.memory + MOST_FOR_LISTS, "{refused:?}");
    let felt = lists(stage, '0', "AtlasMintBudget").await;
    let taken = program.taken();
    let each = row("lists of 2,000 entries for 60 users: 100,000 are kept", taken, refused, MOST_REMEMBERED, Some(felt));
    assert!(each <= MOST_FOR_AN_ENTRY, "{each} bytes for each entry");
    assert!(taken.peak <= before.memory + MOST_FOR_LISTS, "{taken:?}");
}

/// Issuers of the tenant's endpoint whose projects begin with this digit, and users who are refused for this reason once they are listed. How
/// long the neighbour waited.
async fn lists(stage: &Stage, digit: char, reason: &str) -> Duration {
    let tenant = &stage.tenant;
    for number in 0..PROJECTS {
        let mut issuer = tenant.atlas_issuer_manifest("v2");
        issuer["metadata"]["name"] = json!(format!("i{digit}-{number}"));
        issuer["spec"]["atlas"]["projectId"] = json!(format!("{digit}{number:023x}"));
        issuer["spec"]["atlas"]["endpoint"] = json!(stage.endpoint.url);
        tenant.apply(issuer).await;
    }
    let user = |user: usize| Shop::manifest(&format!("u{digit}-{user}"), &format!("i{digit}-{}", user % PROJECTS), &json!({}));
    let attempt = async {
        apply_all(tenant, (0..USERS).map(user)).await;
        until_all(tenant, reason).await;
    };
    let felt = stage.beside(attempt).await;
    tenant.delete_all().await;
    felt
}

/// Waits until all certificates of the namespace are refused for this reason.
async fn until_all(shop: &Shop, reason: &str) {
    let is_refused = |object: &DatabaseUserCertificate| {
        let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        condition(conditions, "Ready").is_some_and(|ready| ready.reason == reason)
    };
    eventually(&format!("all are refused: {reason}"), || async {
        shop.certificates().await.iter().all(is_refused).then_some(())
    })
    .await;
}
