//! A namespace with an operator for it alone, which reaches the API server through a proxy.

use std::sync::{Arc, LazyLock};

use usercert_operator::{controller::Scope, runtime::Metrics};
use usercert_test_support::fault_proxy::FaultProxy;

use super::{Cluster, Operator, Shop, create_namespace, eventually};

pub struct Bench {
    pub shop: Shop,
    pub operator: Operator,
    pub proxy: FaultProxy,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.operator.kill();
    }
}

impl Bench {
    /// A new namespace.
    pub async fn open(cluster: &'static LazyLock<Cluster>, name: &str) -> Self {
        let shop = Shop::in_namespace(cluster, name).await;
        create_namespace(&shop.client, name).await;
        let mut config = shop.cluster.operator_config();
        let trusted = std::fs::read(shop.cluster.control_plane.directory().join("apiserver.crt")).unwrap();
        let proxy = FaultProxy::start(&config.cluster_url.to_string(), Some(&trusted)).await.unwrap();
        config.cluster_url = proxy.url().parse().unwrap();
        let operator = Operator::new(config, vec![Scope::Namespace(name.to_owned())], shop.endpoint.clone());
        let bench = Self { shop, operator, proxy };
        bench.start().await;
        bench
    }

    /// Starts the operator with nothing remembered.
    pub async fn start(&self) {
        let readiness = self.operator.start(&tokio::runtime::Handle::current());
        eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    }

    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.operator.metrics)
    }
}
