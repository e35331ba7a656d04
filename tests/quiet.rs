//! With nothing to do for two minutes and 100 certificates, the operator writes nothing, reads nothing, and asks Atlas nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{sync::LazyLock, time::Duration};

use harness::{Cluster, OPERATOR, Options, Shop, eventually};
use serde_json::json;
use usercert_test_support::atlas::{DigestAlgorithm, X509Type};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

#[tokio::test]
async fn a_hundred_certificates_at_rest_cost_nothing() {
    let shop = Shop::open(&CLUSTER, "quiet").await;
    shop.ca_issuer(3650).await;
    shop.atlas_issuer().await;
    for number in 0..50 {
        shop.certificate(&format!("ca-{number}"), "ca", json!({})).await;
        let user = format!("atlas-{number}");
        shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
        shop.certificate(&user, "atlas", json!({})).await;
    }
    eventually("all are ready", || async {
        let all = shop.certificates().await;
        (all.len() == 100 && all.iter().all(Shop::is_ready)).then_some(())
    })
    .await;
    assert_eq!(shop.cluster.atlas.mints().len(), 50);
    // The echoes of the last writes.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let requests = || {
        let audit = shop.cluster.control_plane.audit().unwrap();
        audit.into_iter().filter(|event| event.user == OPERATOR && event.verb != "watch").collect::<Vec<_>>()
    };
    let (before, asked) = (requests().len(), shop.cluster.atlas.requests().len());
    for elapsed in 0..12 {
        eprintln!("at rest for {} s of 120 s", elapsed * 10);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(requests()[before..], [], "but for watches, which the API server ends now and then");
    assert_eq!(shop.cluster.atlas.requests().len(), asked);
    eprintln!("100 certificates cost {before} requests to make and none in two minutes at rest");
}
