//! Requests that the API server refuses for as long as it likes, with any code: what is told, and how often each is repeated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use harness::{Bench, Cluster, Options, eventually};
use k8s_openapi::api::core::v1::Secret;
use rstest::rstest;
use serde_json::json;
use usercert_test_support::{
    atlas::{DigestAlgorithm, X509Type},
    fault_proxy::{Asked, Fault, Moment},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// Codes with which webhooks and gateways refuse. The API server answers 429 for quotas of requests.
const CODES: [u16; 7] = [401, 404, 406, 409, 429, 500, 503];

/// How long refusals are counted.
const WHILE: Duration = Duration::from_secs(40);

fn is_status(asked: &Asked) -> bool {
    asked.is_write() && asked.target.split('?').next().unwrap().ends_with("/status")
}

fn is_write_of_secret(asked: &Asked) -> bool {
    asked.method != "GET" && asked.target.contains("/secrets")
}

/// How often something was asked since `since`.
fn count(bench: &Bench, since: usize, is_it: impl Fn(&Asked) -> bool) -> usize {
    bench.proxy.asked().iter().skip(since).filter(|asked| is_it(asked)).count()
}

fn warnings(bench: &Bench, reason: &str) -> String {
    let metrics = bench.metrics().encode().unwrap();
    let line = metrics.lines().find(|line| line.starts_with("usercert_warnings") && line.contains(reason));
    line.unwrap_or_default().to_owned()
}

fn watch_failures(bench: &Bench) -> u64 {
    let metrics = bench.metrics().encode().unwrap();
    let count = metrics.lines().find_map(|line| line.strip_prefix("usercert_watch_failures_total "));
    count.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_refused_is_told_in_an_event_and_written_less_and_less_often() {
    futures::future::join_all(CODES.map(|code| async move {
        let bench = Bench::open(&CLUSTER, &format!("status-{code}")).await;
        bench.shop.ca_issuer(30).await;
        bench.shop.atlas_issuer().await;
        // The statuses of the issuers are written before the refusals begin, which count warnings.
        for issuer in ["ca", "atlas"] {
            bench.shop.until_issuer(issuer, "True IssuerReady").await;
        }
        let user = bench.shop.name("minted");
        bench.shop.cluster.atlas.add_user(&bench.shop.project, &user, X509Type::Managed);
        bench.proxy.plan(move |asked| is_status(asked).then_some(Fault::Refuse(Moment::Before, code)));
        let since = bench.proxy.asked_count();
        let started = Instant::now();
        bench.shop.certificate("signed", "ca", json!({})).await;
        bench.shop.certificate(&user, "atlas", json!({})).await;
        for name in ["signed", &user] {
            bench.shop.until_event(name, "ReconcileFailing").await;
        }
        assert!(warnings(&bench, "ReconcileFailing").ends_with(" 2"), "{code}: {}", warnings(&bench, "ReconcileFailing"));
        tokio::time::sleep(WHILE.saturating_sub(started.elapsed())).await;
        for name in ["signed", &user] {
            let of_it = count(&bench, since, |asked| is_status(asked) && asked.target.contains(&format!("/{name}/")));
            assert!((3..=8).contains(&of_it), "{code}: {of_it} writes of the status of {name}");
        }
        assert!(bench.shop.cluster.atlas.mints_of(&user).is_empty(), "nothing is minted without a claim");
        bench.proxy.clear();
        for name in ["signed", &user] {
            bench.shop.annotate(name, "example.com/looked-at", "now").await;
            bench.shop.until_ready(name).await;
        }
        assert_eq!(bench.shop.cluster.atlas.mints_of(&user).len(), 1);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_the_secret_refuses_is_told_in_a_condition_and_written_less_and_less_often() {
    futures::future::join_all(CODES.map(|code| async move {
        let bench = Bench::open(&CLUSTER, &format!("renewal-{code}")).await;
        bench.shop.ca_issuer(3650).await;
        bench.shop.certificate("orders", "ca", json!({})).await;
        let before = bench.shop.until_ready("orders").await.serial_number.unwrap();
        bench.proxy.plan(move |asked| is_write_of_secret(asked).then_some(Fault::Refuse(Moment::Before, code)));
        let since = bench.proxy.asked_count();
        let started = Instant::now();
        bench.shop.annotate("orders", "usercert.dev/renew-requested-at", "1").await;
        let reason = if code == 429 || code >= 500 { "SecretWriteFailed" } else { "SecretNotWritable" };
        bench.shop.until("orders", "RenewalFailed", &format!("True {reason}")).await;
        bench.shop.until_event("orders", reason).await;
        tokio::time::sleep(WHILE.saturating_sub(started.elapsed())).await;
        let writes = count(&bench, since, is_write_of_secret);
        // A 404 or a 409 is taken for a webhook's after the third in a pass.
        assert!((1..=6).contains(&writes), "{code}: {writes} writes of the Secret");
        bench.proxy.clear();
        bench.shop.annotate("orders", "usercert.dev/renew-requested-at", "2").await;
        bench.shop.until_new_serial("orders", &before).await;
    }))
    .await;
}

#[rstest]
#[case::without_permission(403)]
#[case::broken(500)]
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_refused_is_told_in_a_condition_until_it_succeeds(#[case] code: u16) {
    let bench = Bench::open(&CLUSTER, &format!("unread-{code}")).await;
    bench.shop.ca_issuer(3650).await;
    bench.shop.certificate("orders", "ca", json!({})).await;
    let before = bench.shop.until_ready("orders").await.serial_number;
    bench.proxy.plan(move |asked| {
        let is_read = asked.method == "GET" && asked.target.split('?').next().unwrap().ends_with("/secrets/orders");
        is_read.then_some(Fault::Refuse(Moment::Before, code))
    });
    let annotations = json!({ "metadata": { "annotations": { "example.com/touched": "by hand" } } });
    bench.shop.patch_secret("orders", annotations).await;
    bench.shop.until("orders", "Issuing", "False ReconcileFailing").await;
    bench.shop.until_event("orders", "ReconcileFailing").await;
    bench.proxy.clear();
    bench.shop.annotate("orders", "example.com/looked-at", "now").await;
    bench.shop.until("orders", "Issuing", "False Issued").await;
    assert_eq!(bench.shop.status("orders").await.serial_number, before);
}

#[rstest]
#[case::without_permission(401)]
#[case::over_quota(429)]
#[case::broken(500)]
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_secret_cannot_be_watched_says_so_and_its_certificates_too(#[case] code: u16) {
    let bench = Bench::open(&CLUSTER, &format!("unwatched-{code}")).await;
    // The watch of the operator's own Secrets goes by their label.
    let is_of_issuer =
        |asked: &Asked| asked.method == "GET" && asked.target.contains("/secrets?") && !asked.target.contains("labelSelector");
    bench.proxy.plan(move |asked| is_of_issuer(asked).then_some(Fault::Refuse(Moment::Before, code)));
    bench.shop.ca_issuer(30).await;
    bench.shop.certificate("orders", "ca", json!({})).await;
    bench.shop.until_issuer("ca", "False CaNotFound").await;
    bench.shop.until("orders", "Ready", "False CaNotFound").await;
    let message = bench.shop.message("orders", "Issuing").await;
    assert!(message.contains("cannot be read"), "{message}");
    assert!(watch_failures(&bench) >= 3);
    bench.proxy.clear();
    bench.shop.until_ready("orders").await;
}

/// A tenant names such objects, and could have the alert about watches fire.
#[rstest]
#[case::without_permission(403)]
#[case::not_served(404)]
#[tokio::test(flavor = "multi_thread")]
async fn an_object_by_name_that_may_not_be_listed_is_told_by_its_user_and_not_counted(#[case] code: u16) {
    let bench = Bench::open(&CLUSTER, &format!("uncounted-{code}")).await;
    // All lists have come then. The rights of a new namespace may be refused for a moment.
    bench.shop.certificate("orders", "missing", json!({})).await;
    bench.shop.until("orders", "Ready", "False IssuerNotFound").await;
    let before = watch_failures(&bench);
    let is_of_issuer =
        |asked: &Asked| asked.method == "GET" && asked.target.contains("/secrets?") && !asked.target.contains("labelSelector");
    bench.proxy.plan(move |asked| is_of_issuer(asked).then_some(Fault::Refuse(Moment::Before, code)));
    bench.shop.ca_issuer(30).await;
    bench.shop.until_issuer("ca", "False CaNotFound").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(watch_failures(&bench), before);
    bench.proxy.clear();
    bench.shop.until_issuer("ca", "True IssuerReady").await;
}

/// Some authorizers answer like that for a moment.
#[rstest]
#[case::without_permission(403)]
#[case::not_served(404)]
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_refused_after_its_list_hides_nothing_and_lists_follow(#[case] code: u16) {
    let bench = Bench::open(&CLUSTER, &format!("unlasting-{code}")).await;
    let is_of_issuer =
        |asked: &Asked| asked.is_watch() && asked.target.contains("/secrets?") && !asked.target.contains("labelSelector");
    bench.proxy.refuse_watches(move |asked| is_of_issuer(asked).then_some(code));
    bench.shop.ca_issuer(30).await;
    bench.shop.until_issuer("ca", "True IssuerReady").await;
    let refused = || bench.proxy.watches().iter().filter(|asked| is_of_issuer(asked)).count();
    eventually("it is refused again", || async { (refused() >= 3).then_some(()) }).await;
    bench.shop.until_issuer("ca", "True IssuerReady").await;
    bench.shop.delete::<Secret>("ca").await;
    bench.shop.until_issuer("ca", "False CaNotFound").await;
    bench.proxy.clear();
    bench.shop.replace_ca(30).await;
    bench.shop.until_issuer("ca", "True IssuerReady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_secret_cannot_be_read_says_so_and_its_certificates_too() {
    let bench = Bench::open(&CLUSTER, "unread").await;
    let is_read = |asked: &Asked| asked.method == "GET" && asked.target.split('?').next().unwrap().contains("/secrets/");
    bench.proxy.plan(move |asked| is_read(asked).then_some(Fault::Refuse(Moment::Before, 403)));
    bench.shop.ca_issuer(30).await;
    bench.shop.certificate("orders", "ca", json!({})).await;
    bench.shop.until("orders", "Ready", "False ReconcileFailing").await;
    bench.shop.until_event("ca", "ReconcileFailing").await;
    let message = bench.shop.message("orders", "Issuing").await;
    assert!(message.contains("could not read the issuer's Secret"), "{message}");
    assert!(bench.shop.secret("orders").await.is_none());
    bench.proxy.clear();
    eventually("it is tried again", || async {
        bench.shop.condition("orders", "Ready").await.starts_with("True").then_some(())
    })
    .await;
    bench.shop.delete::<Secret>("orders").await;
    bench.shop.until_ready("orders").await;
}
