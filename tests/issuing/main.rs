//! From `kubectl apply` to a TLS Secret, on a real API server: what works, and what each bad input is answered with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../cases/authority.rs"]
#[allow(dead_code, reason = "the cases need more")]
mod authority;

mod admission;
mod answers;
mod atlas;
mod atlas_operator;
mod ca;
mod chart;
mod compromised;
mod connection;
mod endpoints;
mod formats;
mod gitops;
mod layout;
mod lifecycle;
mod metrics;
mod schema;
mod secrecy;
mod secrets;
mod service_accounts;
mod suspension;
mod users;

use std::sync::LazyLock;

use harness::{Cluster, Options, Shop};
use usercert_test_support::atlas::DigestAlgorithm;

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

async fn open(name: &str) -> Shop {
    Shop::open(&CLUSTER, name).await
}
