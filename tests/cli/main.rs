//! `kubectl usercert` on a real API server, with the operator at work: each verb, and what it says when something is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../harness/mod.rs"]
mod harness;

mod asked;
mod changed;
mod migrated;
mod reported;
mod spoilt;
mod wrong;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use harness::{Cluster, Options, PRIVATE_API_KEY, Shop};
use jiff::SignedDuration;
use serde_json::{Value, json};
use usercert_cli::{
    arguments::Arguments,
    exit::{CliError, Exit},
    session::Session,
    terminal::Terminal,
};
use usercert_operator::controller::chain;
use usercert_test_support::{
    atlas::DigestAlgorithm,
    evidence::{self, Kind},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// What a command said, and its exit code.
#[derive(Debug)]
struct Said {
    text: String,
    exit: Exit,
}

/// Runs a command in the shop's namespace, as an administrator.
async fn usercert(shop: &Shop, arguments: &[&str]) -> Said {
    usercert_ahead(shop, SignedDuration::ZERO, arguments).await
}

/// The same on a machine whose clock is so far ahead. With `-A` no namespace is given.
async fn usercert_ahead(shop: &Shop, ahead: SignedDuration, arguments: &[&str]) -> Said {
    let kubeconfig = shop.cluster.control_plane.kubeconfig();
    let mut connection = vec!["kubectl-usercert", "--kubeconfig", kubeconfig.to_str().unwrap()];
    if !arguments.contains(&"-A") {
        connection.extend(["--namespace", &shop.namespace]);
    }
    run(shop, ahead, &connection, arguments).await
}

async fn usercert_with(shop: &Shop, connection: &[&str], arguments: &[&str]) -> Said {
    run(shop, SignedDuration::ZERO, connection, arguments).await
}

async fn run(shop: &Shop, ahead: SignedDuration, connection: &[&str], arguments: &[&str]) -> Said {
    let parsed = <Arguments as clap::Parser>::try_parse_from(connection.iter().chain(arguments)).expect("the command line");
    let cluster = shop.cluster;
    let session = Session { terminal: Terminal::none(), clock: Arc::new(move || cluster.now() + ahead) };
    let said = match usercert_cli::execute(parsed, session).await {
        Ok(answer) => Said { text: answer.text(), exit: answer.exit },
        Err(error) => said_of(&error),
    };
    // No secret may be in it: the check of all evidence looks.
    evidence::append(Kind::Log, said.text.as_bytes());
    said
}

/// A shop with a CA and the certificate `orders`, which is ready.
async fn with_certificate(name: &str) -> Shop {
    let shop = Shop::open(&CLUSTER, name).await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    shop
}

/// A Pod that reads the Secret `orders` as environment variables.
async fn add_reader(shop: &Shop) {
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "reader" },
        "spec": { "containers": [{ "name": "app", "image": "app", "envFrom": [{ "secretRef": { "name": "orders" } }] }] },
    }))
    .await;
}

/// The kubeconfig of a tenant who has these rights in the shop's namespace, and no others.
async fn tenant_who_may(shop: &Shop, rules: Value) -> PathBuf {
    let api_version = "rbac.authorization.k8s.io/v1";
    shop.apply(json!({ "apiVersion": api_version, "kind": "Role", "metadata": { "name": "tenant" }, "rules": rules })).await;
    shop.apply(json!({
        "apiVersion": api_version, "kind": "RoleBinding", "metadata": { "name": "tenant" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": shop.namespace }],
    }))
    .await;
    shop.cluster.control_plane.service_account_kubeconfig(&shop.namespace, "default").await.unwrap()
}

/// Creates an object that is in no namespace.
async fn apply_to_cluster(shop: &Shop, manifest: Value) {
    let object: kube::api::DynamicObject = serde_json::from_value(manifest).unwrap();
    let types = object.types.clone().unwrap();
    let (group, version) = types.api_version.split_once('/').unwrap();
    let plural = if types.kind.ends_with('y') {
        format!("{}ies", &types.kind[..types.kind.len() - 1])
    } else {
        format!("{}s", types.kind)
    };
    let resource = kube::discovery::ApiResource::from_gvk_with_plural(
        &kube::core::GroupVersionKind::gvk(group, version, &types.kind),
        &plural.to_lowercase(),
    );
    let api: kube::Api<kube::api::DynamicObject> = kube::Api::all_with(shop.client.clone(), &resource);
    api.create(&kube::api::PostParams::default(), &object).await.unwrap();
}

fn said_of(error: &CliError) -> Said {
    Said { text: format!("error: {}", chain(error)), exit: error.exit() }
}

impl Said {
    #[track_caller]
    fn says(&self, exit: Exit, words: &[&str]) {
        assert_eq!(self.exit, exit, "{}", self.text);
        for words in words {
            assert!(self.text.contains(words), "{words:?} is missing:\n{}", self.text);
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}
