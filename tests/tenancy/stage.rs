//! Tenants, the neighbour, and the table.

use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1::Secret, rbac::v1::RoleBinding};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use usercert_operator::api::{ClusterCertificateIssuer, condition};
use usercert_test_support::control_plane::config_of;

use crate::harness::{Cluster, Shop, create_namespace, eventually, new_ca};

/// A cluster with a neighbour in it, whose namespace and issuer are ready.
pub struct Stage {
    pub cluster: &'static LazyLock<Cluster>,
    neighbour: Shop,
    rows: Mutex<Vec<Row>>,
}

/// One attempt.
struct Row {
    /// The number of the attempt's kind.
    kind: String,
    attempt: String,
    got: String,
    neighbour: Option<Duration>,
}

impl Stage {
    pub async fn set(cluster: &'static LazyLock<Cluster>) -> Self {
        let neighbour = tenant(cluster, "neighbour").await;
        neighbour.ca_issuer(300).await;
        neighbour.until_issuer("ca", "True IssuerReady").await;
        Self { cluster, neighbour, rows: Mutex::default() }
    }

    /// A tenant in a namespace of this name.
    pub async fn tenant(&self, namespace: &str) -> Shop {
        tenant(self.cluster, namespace).await
    }

    /// A client with all rights.
    pub async fn admin(&self) -> Client {
        self.cluster.client().await
    }

    /// Carries an attempt out, which returns what the tenant got, while the neighbour asks for a certificate. How long that took.
    /// The rows of attempts that are carried out side by side are in the order in which these began.
    pub async fn attempt(&self, kind: u8, attempt: &str, carried_out: impl Future<Output = String>) -> Duration {
        let row = self.push(&kind.to_string(), attempt, String::new(), None);
        let (got, neighbour) = tokio::join!(carried_out, self.serve_neighbour());
        println!("  {attempt}: {got}; the neighbour was served after {} ms", neighbour.as_millis());
        let row = &mut self.rows.lock().unwrap()[row];
        (row.got, row.neighbour) = (got, Some(neighbour));
        neighbour
    }

    /// Something that was shown without an attempt.
    pub fn record(&self, kind: &str, what: &str, shown: &str) {
        self.push(kind, what, shown.to_owned(), None);
    }

    /// Adds a row; returns its number.
    fn push(&self, kind: &str, attempt: &str, got: String, neighbour: Option<Duration>) -> usize {
        let mut rows = self.rows.lock().unwrap();
        rows.push(Row { kind: kind.to_owned(), attempt: attempt.to_owned(), got, neighbour });
        rows.len() - 1
    }

    async fn serve_neighbour(&self) -> Duration {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("served-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let started = Instant::now();
        self.neighbour.certificate(&name, "ca", json!({})).await;
        self.neighbour.until_ready(&name).await;
        started.elapsed()
    }

    pub fn print_table(&self) {
        let rows = self.rows.lock().unwrap();
        let width = |text: fn(&Row) -> &str| rows.iter().map(|row| text(row).chars().count()).max().unwrap_or_default().max(20);
        let (attempts, gains) = (width(|row| &row.attempt), width(|row| &row.got));
        println!("\n{:<9}{:<attempts$}  {:<gains$}  neighbour served after", "kind", "attempt", "what the tenant got");
        for Row { kind, attempt, got, neighbour } in rows.iter() {
            let neighbour = neighbour.map_or_else(|| "-".to_owned(), |served| format!("{} ms", served.as_millis()));
            println!("{kind:<9}{attempt:<attempts$}  {got:<gains$}  {neighbour:>22}");
        }
    }

    /// A cluster issuer with a new CA, and what it allows.
    pub async fn cluster_issuer(&self, name: &str, ca: Value, allow: Value) {
        let (certificate, key) = new_ca(300);
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": name }, "type": "kubernetes.io/tls", "stringData": { "tls.crt": certificate, "tls.key": key },
        }))
        .unwrap();
        let admin = self.admin().await;
        Api::<Secret>::namespaced(admin.clone(), "usercert-system").create(&PostParams::default(), &secret).await.unwrap();
        let mut issuer = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "ClusterCertificateIssuer", "metadata": { "name": name },
            "spec": { "ca": { "secretName": name }, "allow": allow },
        });
        for (key, value) in ca.as_object().unwrap() {
            issuer["spec"]["ca"][key] = value.clone();
        }
        let issuer: ClusterCertificateIssuer = serde_json::from_value(issuer).unwrap();
        Api::all(admin).create(&PostParams::default(), &issuer).await.unwrap();
        self.until_cluster_issuer(name, "True IssuerReady").await;
    }

    pub async fn until_cluster_issuer(&self, name: &str, expected: &str) {
        let issuers = Api::<ClusterCertificateIssuer>::all(self.admin().await);
        eventually(&format!("cluster issuer {name}: {expected}"), || async {
            let status = issuers.get(name).await.unwrap().status.unwrap_or_default();
            let ready = condition(&status.conditions, "Ready")?;
            (format!("{} {}", ready.status, ready.reason) == expected).then_some(())
        })
        .await;
    }
}

/// A namespace and a user who has the built-in role `admin` in it and no other right.
async fn tenant(cluster: &'static LazyLock<Cluster>, namespace: &str) -> Shop {
    let mut shop = Shop::in_namespace(cluster, namespace).await;
    create_namespace(&shop.client, namespace).await;
    let user = format!("tenant-of-{namespace}");
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "admin" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))
    .unwrap();
    shop.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
    let mut config = config_of(&shop.cluster.control_plane.kubeconfig()).await.unwrap();
    config.auth_info.impersonate = Some(user);
    shop.client = Client::try_from(config).unwrap();
    eventually("the tenant has its rights", || async { shop.api::<Secret>().list(&Default::default()).await.ok() }).await;
    shop
}

/// The object is refused for this reason: it has no Secret, and an Event and the condition say so. What the tenant got.
pub async fn refused(shop: &Shop, name: &str, reason: &str) -> String {
    shop.until(name, "Ready", &format!("False {reason}")).await;
    shop.until_event(name, reason).await;
    let made = shop.api::<Secret>().list(&Default::default()).await.unwrap().items;
    let uid = shop.get(name).await.metadata.uid;
    assert!(made.iter().all(|secret| secret.labels().get("usercert.dev/certificate-uid") != uid.as_ref()), "nothing is signed");
    format!("{reason}, no Secret")
}
