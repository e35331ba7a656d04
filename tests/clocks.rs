//! Clocks that are wrong: the operator's, which jumps, and Atlas's, which is not the operator's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::sync::LazyLock;

use harness::{Cluster, Options, Shop};
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::Mutex;
use usercert_test_support::atlas::{DigestAlgorithm, X509Type};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// There is one clock, and so one test at a time.
static CLOCK: Mutex<()> = Mutex::const_new(());

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// One certificate from Atlas and one from a CA that lasts.
async fn open(name: &str) -> Shop {
    let shop = Shop::open(&CLUSTER, name).await;
    shop.ca_issuer(3650).await;
    shop.atlas_issuer().await;
    for (user, issuer) in [(shop.name("atlas"), "atlas"), (shop.name("ca"), "ca")] {
        shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
        shop.certificate(&user, issuer, json!({})).await;
    }
    for user in [shop.name("atlas"), shop.name("ca")] {
        shop.until_ready(&user).await;
    }
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_far_beyond_expiry_brings_one_new_certificate() {
    let _alone = CLOCK.lock().await;
    let shop = open("forward").await;
    let users = [shop.name("atlas"), shop.name("ca")];
    let mut old = Vec::new();
    for user in &users {
        old.push(shop.status(user).await.serial_number.unwrap());
    }
    shop.cluster.advance(DAY * 200);
    for (user, old) in users.iter().zip(&old) {
        shop.until_new_serial(user, old).await;
        shop.until_ready(user).await;
    }
    shop.assert_quiet().await;
    assert_eq!(shop.cluster.atlas.mints_of(&users[0]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_before_not_before_is_reported_and_costs_no_certificate() {
    let _alone = CLOCK.lock().await;
    let shop = open("back").await;
    let users = [shop.name("atlas"), shop.name("ca")];
    shop.cluster.advance(-(DAY * 20));
    for user in &users {
        shop.until(user, "Ready", "False NotYetValid").await;
        assert!(shop.message(user, "Ready").await.contains("clock"));
    }
    shop.assert_quiet().await;
    shop.cluster.advance(DAY * 20);
    for user in &users {
        shop.until_ready(user).await;
        assert_eq!(shop.status(user).await.history.len(), 1);
    }
    assert_eq!(shop.cluster.atlas.mints_of(&users[0]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atlas_whose_clock_is_wrong_costs_one_certificate_as_any_other() {
    let _alone = CLOCK.lock().await;
    let shop = open("skewed").await;
    for (name, skew, expected) in [
        ("slightly-ahead", SignedDuration::from_mins(30), "True Issued"),
        ("far-ahead", SignedDuration::from_hours(5), "False NotYetValid"),
        ("behind", -(DAY * 3), "True Issued"),
    ] {
        let user = shop.name(name);
        shop.cluster.skew_atlas(skew);
        shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
        shop.certificate(&user, "atlas", json!({})).await;
        shop.until(&user, "Ready", expected).await;
        shop.assert_quiet().await;
        assert_eq!((shop.cluster.atlas.mints_of(&user).len(), shop.unaccounted(&user).await), (1, 0), "{name}");
        assert!(shop.value(&user, "tls.key").await.starts_with("-----BEGIN PRIVATE KEY-----"), "{name}: it is kept");
    }
    // The certificate of the clock that was ahead becomes valid by itself.
    shop.cluster.skew_atlas(SignedDuration::ZERO);
    shop.cluster.advance(SignedDuration::from_hours(6));
    shop.until_ready(&shop.name("far-ahead")).await;
    assert_eq!(shop.cluster.atlas.mints_of(&shop.name("far-ahead")).len(), 1);
}
