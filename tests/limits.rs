//! The certificates of several projects are due at once, and Atlas allows each project 60 calls a minute: 200 of 4 projects in `make test`,
//! 2,000 of 20 with `LIMITS=full`, as in `make chaos`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use harness::{Cluster, Options, PRIVATE_API_KEY, Shop};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use usercert_operator::api::condition;
use usercert_test_support::atlas::{DigestAlgorithm, RateLimit, X509Type};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// How many projects there are, and certificates of each.
static SIZE: LazyLock<(usize, usize)> =
    LazyLock::new(|| if std::env::var("LIMITS").is_ok_and(|wanted| wanted == "full") { (20, 100) } else { (4, 50) });

/// The project whose key is revoked.
const BROKEN: usize = 3;

/// Passes under way at once, and as many that were woken before others came: so far may neighbours be out of order.
const OUT_OF_ORDER: usize = 10;

fn projects() -> usize {
    SIZE.0
}

fn objects_each() -> usize {
    SIZE.1
}

fn objects() -> usize {
    projects() * objects_each()
}

fn project(number: usize) -> String {
    format!("{number:024x}")
}

fn user(number: usize) -> String {
    format!("user-{number:04}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soonest_expiry_goes_first_and_no_project_suffers_from_another() {
    let shop = Shop::open(&CLUSTER, "limits").await;
    let atlas = &shop.cluster.atlas;
    atlas.set_rate_limit(None, Duration::ZERO);
    for number in 0..projects() {
        let key = format!("public-{number}");
        atlas.add_project(&project(number), &key, PRIVATE_API_KEY);
        shop.apply_secret(&format!("key-{number}"), &[("publicApiKey", &key), ("privateApiKey", PRIVATE_API_KEY)]).await;
        shop.apply(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": format!("p{number}") },
            "spec": { "atlas": {
                "projectId": project(number), "credentialsSecretRef": { "name": format!("key-{number}") }, "endpoint": atlas.url(),
            } },
        }))
        .await;
    }
    make_objects(&shop).await;
    let first = atlas.mints();
    assert_eq!(first.len(), objects(), "each was made once");
    let expiry: BTreeMap<String, Timestamp> = first.iter().map(|mint| (mint.username.clone(), mint.not_after)).collect();

    shop.cluster.kill_operator();
    atlas.revoke_key(&format!("public-{BROKEN}"));
    atlas.set_rate_limit(Some(RateLimit { capacity: 60, refill_per_minute: 60 }), Duration::from_secs(30));
    shop.cluster.advance(SignedDuration::from_hours(24 * 20));
    let (asked, started) = (atlas.requests().len(), Instant::now());
    shop.cluster.start_operator().await;
    let wanted = objects_each() * (projects() - 1);
    while atlas.mints().len() < objects() + wanted {
        let renewed = atlas.mints().len() - objects();
        eprintln!("{renewed} of {wanted} renewed after {} s", started.elapsed().as_secs());
        assert!(started.elapsed() < Duration::from_mins(6), "the limit allows it in three minutes");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    eprintln!("{wanted} of {wanted} renewed after {} s", started.elapsed().as_secs());

    let mut renewals: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for mint in &atlas.mints()[objects()..] {
        renewals.entry(mint.project_id.clone()).or_default().push(expiry[&mint.username]);
    }
    assert_eq!(renewals.len(), projects() - 1);
    for (project, order) in &renewals {
        assert_eq!(order.len(), objects_each(), "{project}");
        for (at, expiry) in order.iter().enumerate() {
            let overtaken = order.iter().skip(at + OUT_OF_ORDER).filter(|later| *later < expiry).count();
            assert_eq!(overtaken, 0, "{project}: the one at {at} went before some that expire sooner: {order:?}");
        }
    }
    let calls = atlas.requests().split_off(asked);
    let refused = calls.iter().filter(|call| call.status == 429).count();
    eprintln!("{} calls, {refused} of them answered 429", calls.len());
    assert!(refused * 50 < calls.len(), "{refused} of {}", calls.len());
    let metrics = shop.cluster.metrics.encode().unwrap();
    let left = metrics.lines().filter_map(|line| line.strip_prefix("usercert_atlas_rate_limit_remaining{"));
    let left: Vec<u32> = left.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(
        left.len() == projects() - 1 && left.iter().all(|left| *left <= 60),
        "the project with a wrong key tells none: {left:?}"
    );
    let of_broken = shop.status(&user(BROKEN)).await;
    let ready = condition(&of_broken.conditions, "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Issued"), "its old certificate works");
    shop.until(&user(BROKEN), "Issuing", "False AtlasUnauthorized").await;
}

/// Certificates of one to five months, renewed when nine tenths of their life are left: all are due twenty days from now.
async fn make_objects(shop: &Shop) {
    for number in 0..objects() {
        let issuer = number % projects();
        shop.cluster.atlas.add_user(&project(issuer), &user(number), X509Type::Managed);
    }
    let started = Instant::now();
    let create = |number: usize| async move {
        let spec = json!({ "monthsUntilExpiration": 5 - number / projects() % 5, "renewBeforePercentage": 90 });
        shop.certificate(&user(number), &format!("p{}", number % projects()), spec).await;
    };
    futures::StreamExt::for_each_concurrent(futures::stream::iter(0..objects()), 16, create).await;
    loop {
        let ready = shop.certificates().await.iter().filter(|object| Shop::is_ready(object)).count();
        eprintln!("{ready} of {} made after {} s", objects(), started.elapsed().as_secs());
        if ready == objects() {
            return;
        }
        assert!(started.elapsed() < Duration::from_mins(8), "this machine is too slow");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}
