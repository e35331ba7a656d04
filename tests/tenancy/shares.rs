//! What one tenant asks for takes no more than a share of what all have.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::json;
use usercert_test_support::atlas::X509Type;

use crate::{
    harness::{PRIVATE_API_KEY, Shop, eventually},
    own_endpoint::{OwnEndpoint, page_number, page_of},
    stage::{Stage, refused},
};

/// How long a neighbour may wait for what a tenant does.
const BEARABLE: Duration = Duration::from_secs(8);

/// A neighbour with a user at Atlas.
async fn neighbour(stage: &Stage, namespace: &str) -> (Shop, String) {
    let shop = stage.tenant(namespace).await;
    shop.atlas_issuer().await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.until_issuer("atlas", "True IssuerReady").await;
    (shop, user)
}

/// An issuer of this name with a project that does not exist, at an endpoint of the tenant.
async fn atlas_issuer_at(shop: &Shop, name: &str, endpoint: &str, project: &str) {
    shop.apply_secret("atlas-api-key", &[("publicApiKey", "key"), ("privateApiKey", PRIVATE_API_KEY)]).await;
    let mut issuer = shop.atlas_issuer_manifest("v2");
    issuer["metadata"]["name"] = json!(name);
    issuer["spec"]["atlas"]["projectId"] = json!(project);
    issuer["spec"]["atlas"]["endpoint"] = json!(endpoint);
    shop.apply(issuer).await;
}

/// So many such issuers, and three objects for each.
async fn many_projects(shop: &Shop, endpoint: &str, projects: usize) {
    for number in 0..projects {
        atlas_issuer_at(shop, &format!("i{number}"), endpoint, &format!("{number:024x}")).await;
        for user in 0..3 {
            shop.certificate(&format!("u{number}-{user}"), &format!("i{number}"), json!({})).await;
        }
    }
}

pub async fn a_slow_endpoint_holds_up_nobody_else(stage: &'static Stage) {
    let (neighbour, user) = neighbour(stage, "beside-slow").await;
    let shop = stage.tenant("slow").await;
    let slow = OwnEndpoint::start(|target| {
        let page = page_number(target);
        (Duration::from_millis(2500), page_of((page - 1) * 500..page * 500, 5_000))
    })
    .await;
    many_projects(&shop, &slow.url, 40).await;
    eventually("the endpoint is asked", || async { (slow.at_once() >= 8).then_some(()) }).await;
    let attempt = async {
        let started = Instant::now();
        neighbour.certificate(&user, "atlas", json!({})).await;
        neighbour.until_ready(&user).await;
        let served = started.elapsed();
        assert!(served < BEARABLE, "the neighbour's certificate of Atlas took {served:?}");
        format!("{} of its lists are waited for; the neighbour's Atlas took {} ms", slow.at_once(), served.as_millis())
    };
    let felt = stage.attempt(9, "40 projects at an endpoint that takes 25 s for a list, 120 objects", attempt).await;
    assert!(felt < BEARABLE, "the neighbour waited for {felt:?}");
    shop.delete_all().await;
}

pub async fn an_implausible_list_mints_nothing_and_says_so(stage: &'static Stage) {
    let shop = stage.tenant("implausible").await;
    for (what, name, page) in [
        ("a list without entries that tells of seven", "fewer", page_of(0..0, 7)),
        ("a list without its entries", "without", json!({ "totalCount": 0 })),
        ("a list that tells of 10,000 certificates", "longer", page_of(0..500, 10_000)),
        ("a page of 5,000 entries", "fuller", page_of(0..5_000, 5_000)),
        ("a second page that is the first again", "again", page_of(0..500, 1_000)),
    ] {
        let endpoint = OwnEndpoint::start(move |_| (Duration::ZERO, page.clone())).await;
        atlas_issuer_at(&shop, name, &endpoint.url, &format!("{:024x}", name.len())).await;
        let attempt = async {
            shop.certificate(name, name, json!({})).await;
            refused(&shop, name, "AtlasUnavailable").await
        };
        stage.attempt(9, what, attempt).await;
        assert!(shop.message(name, "Issuing").await.contains("is not what Atlas answers"));
    }
    shop.delete_all().await;
}

pub async fn five_forced_renewals_an_hour_are_made_and_the_others_wait_visibly(stage: &'static Stage) {
    const REQUESTED: &str = "usercert.dev/renew-requested-at";
    let (shop, user) = neighbour(stage, "forcing").await;
    // A colleague, whose certificates come from the same project.
    let colleague = shop.name("colleague");
    shop.cluster.atlas.add_user(&shop.project, &colleague, X509Type::Managed);
    shop.certificate(&user, "atlas", json!({})).await;
    let mut serial = shop.until_ready(&user).await.serial_number.unwrap();
    let attempt = async {
        for number in 1..=5 {
            shop.annotate(&user, REQUESTED, &format!("{number}")).await;
            serial = shop.until_new_serial(&user, &serial).await.serial_number.unwrap();
        }
        for number in 6..=12 {
            shop.annotate(&user, REQUESTED, &format!("{number}")).await;
        }
        shop.until(&user, "Issuing", "False TooManyForcedRenewals").await;
        shop.until_event(&user, "TooManyForcedRenewals").await;
        let started = Instant::now();
        shop.certificate(&colleague, "atlas", json!({})).await;
        shop.until_ready(&colleague).await;
        let served = started.elapsed();
        assert!(served < BEARABLE, "the certificate of the same project took {served:?}");
        format!("5 are made, then TooManyForcedRenewals; the same project served another user after {} ms", served.as_millis())
    };
    stage.attempt(9, "12 forced renewals of one certificate", attempt).await;
    let status = shop.status(&user).await;
    let heeded_again = status.forced_renewals[4].0 + SignedDuration::from_hours(1);
    assert!(shop.message(&user, "Issuing").await.ends_with(&format!("next attempt at {heeded_again}")));
    assert_eq!(shop.condition(&user, "Ready").await, "True Issued");
    assert_eq!((status.forced_renewals.len(), shop.cluster.atlas.mints_of(&user).len()), (5, 6));
}

pub async fn keys_that_take_long_hold_up_nobody_else(stage: &'static Stage) {
    let (shop, neighbour) = (stage.tenant("long-keys").await, stage.tenant("beside-long-keys").await);
    for shop in [&shop, &neighbour] {
        shop.ca_issuer(300).await;
    }
    let rsa = |size: u32| json!({ "privateKey": { "algorithm": "RSA", "size": size } });
    for number in 0..60 {
        shop.certificate(&format!("u{number}"), "ca", rsa(4096)).await;
    }
    let attempt = async {
        let started = Instant::now();
        neighbour.certificate("long-too", "ca", rsa(2048)).await;
        neighbour.until_ready("long-too").await;
        let served = started.elapsed();
        assert!(served < BEARABLE, "the neighbour's RSA key took {served:?}");
        let ready = shop.certificates().await.iter().filter(|object| Shop::is_ready(object)).count();
        assert!(ready < 60, "the attempt was over before");
        format!("{ready} are made; the neighbour's own RSA key took {} ms", served.as_millis())
    };
    let felt = stage.attempt(9, "60 objects with RSA keys of 4096 bits", attempt).await;
    assert!(felt < BEARABLE, "the neighbour waited for {felt:?}");
    shop.delete_all().await;
}
