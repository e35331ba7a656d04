//! 2,000 certificates of 20 projects are due at once, and Atlas allows each project 60 calls a minute.
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

const PROJECTS: usize = 20;
const OBJECTS: usize = 2000;

/// The project whose key is revoked.
const BROKEN: usize = 7;

/// Passes under way at once, and as many that were woken before others came: so far may neighbours be out of order.
const OUT_OF_ORDER: usize = 10;

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
    for number in 0..PROJECTS {
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
    assert_eq!(first.len(), OBJECTS, "each was made once");
    let expiry: BTreeMap<String, Timestamp> = first.iter().map(|mint| (mint.username.clone(), mint.not_after)).collect();

    shop.cluster.kill_operator();
    atlas.revoke_key(&format!("public-{BROKEN}"));
    atlas.set_rate_limit(Some(RateLimit { capacity: 60, refill_per_minute: 60 }), Duration::from_secs(30));
    shop.cluster.advance(SignedDuration::from_hours(24 * 20));
    let (asked, started) = (atlas.requests().len(), Instant::now());
    shop.cluster.start_operator().await;
    let wanted = OBJECTS / PROJECTS * (PROJECTS - 1);
    while atlas.mints().len() < OBJECTS + wanted {
        let renewed = atlas.mints().len() - OBJECTS;
        eprintln!("{renewed} of {wanted} renewed after {} s", started.elapsed().as_secs());
        assert!(started.elapsed() < Duration::from_mins(6), "the limit allows it in three minutes");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    eprintln!("{wanted} of {wanted} renewed after {} s", started.elapsed().as_secs());

    let mut renewals: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for mint in &atlas.mints()[OBJECTS..] {
        renewals.entry(mint.project_id.clone()).or_default().push(expiry[&mint.username]);
    }
    assert_eq!(renewals.len(), PROJECTS - 1);
    for (project, order) in &renewals {
        assert_eq!(order.len(), OBJECTS / PROJECTS, "{project}");
        for (at, expiry) in order.iter().enumerate() {
            let overtaken = order.iter().skip(at + OUT_OF_ORDER).filter(|later| *later < expiry).count();
            assert_eq!(overtaken, 0, "{project}: the one at {at} went before some that expire sooner: {order:?}");
        }
    }
    let calls = atlas.requests().split_off(asked);
    let refused = calls.iter().filter(|call| call.status == 429).count();
    eprintln!("{} calls, {refused} of them answered 429", calls.len());
    assert!(refused * 50 < calls.len(), "{refused} of {}", calls.len());
    let of_broken = shop.status(&user(BROKEN)).await;
    let ready = condition(&of_broken.conditions, "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Issued"), "its old certificate works");
    shop.until(&user(BROKEN), "Issuing", "False AtlasUnauthorized").await;
}

/// Certificates of one to five months, renewed when nine tenths of their life are left: all are due twenty days from now.
async fn make_objects(shop: &Shop) {
    for number in 0..OBJECTS {
        let issuer = number % PROJECTS;
        shop.cluster.atlas.add_user(&project(issuer), &user(number), X509Type::Managed);
    }
    let started = Instant::now();
    let create = |number: usize| async move {
        let spec = json!({ "monthsUntilExpiration": 5 - number / PROJECTS % 5, "renewBeforePercentage": 90 });
        shop.certificate(&user(number), &format!("p{}", number % PROJECTS), spec).await;
    };
    futures::StreamExt::for_each_concurrent(futures::stream::iter(0..OBJECTS), 16, create).await;
    loop {
        let ready = shop.certificates().await.iter().filter(|object| Shop::is_ready(object)).count();
        eprintln!("{ready} of {OBJECTS} made after {} s", started.elapsed().as_secs());
        if ready == OBJECTS {
            return;
        }
        assert!(started.elapsed() < Duration::from_mins(8), "this machine is too slow");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}
