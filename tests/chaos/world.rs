//! One schedule's world: a namespace, an operator for it alone, a stand-in for Atlas, and fault proxies before both servers.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;
use usercert_operator::{api::DatabaseUserCertificate, controller::Scope};
use usercert_test_support::{
    atlas::{StandIn, StandInConfig, X509Type},
    fault_proxy::{Asked, FaultProxy},
};

use crate::{
    CLUSTER,
    authority::{Authority, P256},
    harness::{Operator, Shop, create_namespace},
    schedule::ATLAS_LIMIT,
    secrets::SecretWatch,
};

/// The object, its Secret, and the user whom it is for at first.
pub const NAME: &str = "orders";
/// The user whom the spec is changed to.
pub const OTHER_USER: &str = "billing";

/// Nothing asked for so long is quiet enough to look at the state.
const CALM: Duration = Duration::from_millis(250);
/// After the state is reached, nothing may be asked for so long.
const QUIET: Duration = Duration::from_millis(1200);
/// Without progress for so long, the clock is moved.
const PATIENCE: Duration = Duration::from_secs(8);
/// So often it is moved.
const ROUNDS: usize = 12;

/// CAs for all schedules, each below a root of its own and with that in one file, and their keys. Making one takes four processes.
static AUTHORITIES: LazyLock<[(String, String); 3]> = LazyLock::new(|| {
    let authority = Authority::new();
    ["first", "second", "third"].map(|name| {
        let (root, days) = (format!("{name}-root"), ["-days", "3650"]);
        let top = authority.ca(&root, &root, &format!("/O=Acme/CN={root}"), None, &days);
        let issuing = authority.ca(name, name, &format!("/O=Acme/CN={name}"), Some((&root, &root)), &days);
        (issuing + &top, authority.key(name, P256))
    })
});

/// The last certificate of a file.
pub fn last_certificate(file: &str) -> &str {
    file.rfind("-----BEGIN").map_or("", |start| &file[start..])
}

/// Which issuer a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerType {
    Atlas,
    Ca,
}

impl IssuerType {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Atlas => "atlas",
            Self::Ca => "ca",
        }
    }
}

/// Where a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Kubernetes,
    Atlas,
}

impl Server {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Atlas => "atlas",
        }
    }
}

pub struct World {
    pub shop: Shop,
    pub issuer: IssuerType,
    pub kubernetes: FaultProxy,
    pub atlas: FaultProxy,
    pub operator: Arc<Operator>,
    pub secrets: SecretWatch,
}

impl World {
    /// A new namespace with issuers and a running operator.
    pub async fn open(label: &str, issuer: IssuerType) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let cluster = tokio::task::spawn_blocking(|| &*CLUSTER).await?;
        let namespace = format!("{label}-{}-{}", issuer.name(), NEXT.fetch_add(1, Ordering::SeqCst));
        let stand_in = StandIn::start(StandInConfig::default()).await?;
        let atlas = FaultProxy::start(&stand_in.url(), None).await?;
        let shop = Shop::with_atlas(cluster, &namespace, stand_in, atlas.url()).await;
        create_namespace(&shop.client, &namespace).await;
        let mut config = cluster.operator_config();
        let ca_certificate = std::fs::read(cluster.control_plane.directory().join("apiserver.crt"))?;
        let kubernetes = FaultProxy::start(&config.cluster_url.to_string(), Some(&ca_certificate)).await?;
        config.cluster_url = kubernetes.url().parse()?;
        let operator = Arc::new(Operator::new(config, vec![Scope::Namespace(namespace)], atlas.url()));
        operator.limit_atlas(ATLAS_LIMIT);
        for proxy in [&kubernetes, &atlas] {
            let killed = Arc::clone(&operator);
            proxy.on_kill(move || killed.kill());
        }
        let secrets = SecretWatch::start(shop.client.clone(), &shop.namespace);
        let world = Self { shop, issuer, kubernetes, atlas, operator, secrets };
        world.make_issuers().await?;
        world.start_operator().await?;
        for name in [world.issuer_name(), world.other_issuer_name()] {
            world.shop.until_issuer(name, "True IssuerReady").await;
        }
        Ok(world)
    }

    pub const fn issuer_name(&self) -> &'static str {
        self.issuer.name()
    }

    /// The issuer that the spec is changed to.
    pub const fn other_issuer_name(&self) -> &'static str {
        match self.issuer {
            IssuerType::Atlas => "atlas-2",
            IssuerType::Ca => "ca-2",
        }
    }

    pub fn other_project(&self) -> String {
        format!("{:0>24}", format!("2{}", &self.shop.project[1..23]))
    }

    pub async fn make_issuers(&self) -> Result<()> {
        let shop = &self.shop;
        match self.issuer {
            IssuerType::Atlas => {
                let other = self.other_project();
                shop.atlas.add_project(&other, &shop.public_key, crate::harness::PRIVATE_API_KEY);
                for user in [NAME, OTHER_USER] {
                    shop.atlas.add_user(&shop.project, user, X509Type::Managed);
                    shop.atlas.add_user(&other, user, X509Type::Managed);
                }
                shop.atlas_issuer().await;
                let mut second = shop.atlas_issuer_manifest("v2");
                second["metadata"]["name"] = json!("atlas-2");
                second["spec"]["atlas"]["projectId"] = json!(other);
                shop.apply(second).await;
            }
            IssuerType::Ca => {
                for (name, number) in [("ca", 0), ("ca-2", 1)] {
                    self.put_authority(name, number).await;
                    shop.apply(json!({
                        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": name },
                        "spec": { "ca": { "secretName": name } },
                    }))
                    .await;
                }
            }
        }
        Ok(())
    }

    /// Puts one of the CAs into this Secret.
    pub async fn put_authority(&self, secret: &str, number: usize) {
        let (certificate, key) = &AUTHORITIES[number];
        self.shop
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": secret },
                "stringData": { "tls.crt": certificate, "tls.key": key },
            }))
            .await;
    }

    /// Writes down the CA's certificates otherwise: glued together, and the root twice.
    pub async fn rewrite_authority(&self) {
        if self.issuer == IssuerType::Ca {
            let (certificate, _) = &AUTHORITIES[0];
            let glued = certificate.replacen("-----\n-----", "----------", 1) + last_certificate(certificate);
            self.shop.patch_secret("ca", json!({ "stringData": { "tls.crt": glued } })).await;
        }
    }

    /// Starts the operator, and waits until its caches are filled.
    pub async fn start_operator(&self) -> Result<()> {
        self.start(&self.operator).await
    }

    /// The same of another operator.
    pub async fn start(&self, operator: &Operator) -> Result<()> {
        let readiness = operator.start(&tokio::runtime::Handle::current());
        for _ in 0..600 {
            if readiness.is_ready() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the operator does not become ready")
    }

    pub async fn restart_operator(&self) -> Result<()> {
        self.operator.kill();
        self.start_operator().await
    }

    /// Moves the clocks of the operator and of Atlas.
    pub fn advance(&self, by: SignedDuration) {
        self.shop.atlas.set_clock_offset(self.operator.advance(by));
    }

    pub fn proxy(&self, server: Server) -> &FaultProxy {
        match server {
            Server::Kubernetes => &self.kubernetes,
            Server::Atlas => &self.atlas,
        }
    }

    pub fn asked_count(&self) -> usize {
        self.kubernetes.asked_count() + self.atlas.asked_count()
    }

    pub fn asked_since(&self, server: Server, number: usize) -> Vec<Asked> {
        self.proxy(server).asked().split_off(number)
    }

    pub async fn object(&self) -> Result<Option<DatabaseUserCertificate>> {
        Ok(self.shop.api::<DatabaseUserCertificate>().get_opt(NAME).await?)
    }

    pub async fn secret(&self) -> Result<Option<Secret>> {
        Ok(Api::<Secret>::namespaced(self.shop.client.clone(), &self.shop.namespace).get_opt(NAME).await?)
    }

    /// Waits until nothing was asked for a moment; false if that takes too long.
    pub async fn calm(&self) -> bool {
        let (started, mut last, mut since) = (Instant::now(), self.asked_count(), Instant::now());
        while started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(25)).await;
            if self.asked_count() != last {
                (last, since) = (self.asked_count(), Instant::now());
            }
            if since.elapsed() >= CALM {
                return true;
            }
        }
        false
    }

    /// Lets waits pass by moving the clock, until the state is reached.
    pub async fn settle<F: Future<Output = Result<bool>>>(&self, reached: impl Fn() -> F) -> Result<()> {
        for _ in 0..ROUNDS {
            let started = Instant::now();
            loop {
                if self.calm().await && reached().await? {
                    return Ok(());
                }
                let object = self.object().await?;
                let failure = object.and_then(|object| object.status).and_then(|status| status.failure);
                let until = failure.map(|failure| failure.next_attempt.0).filter(|until| *until > self.now());
                if let Some(until) = until {
                    self.advance(until.duration_since(self.now()) + SignedDuration::from_secs(2));
                    // Jumps are noticed every five seconds.
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    break;
                }
                if started.elapsed() >= PATIENCE {
                    self.advance(SignedDuration::from_mins(70));
                    break;
                }
            }
        }
        bail!("the state is not reached: {:#?}", self.object().await?.and_then(|object| object.status))
    }

    /// Nothing is asked any more, but for what a busy machine has still under way.
    pub async fn assert_quiet(&self) -> Result<()> {
        for _ in 0..3 {
            if self.is_quiet().await.is_ok() {
                return Ok(());
            }
        }
        self.is_quiet().await
    }

    async fn is_quiet(&self) -> Result<()> {
        let before = (self.kubernetes.asked_count(), self.atlas.asked_count());
        tokio::time::sleep(QUIET).await;
        let mut after: Vec<String> = self.asked_since(Server::Kubernetes, before.0).iter().map(Asked::label).collect();
        after.extend(self.asked_since(Server::Atlas, before.1).iter().map(Asked::label));
        // What a clock that was moved, or a list, makes looked at again.
        after.retain(|label| !is_list(label));
        if after.is_empty() { Ok(()) } else { bail!("settled, and yet it asks: {after:?}") }
    }

    /// The end of the operator's log about this world.
    pub fn last_words(&self) -> String {
        let log = self.shop.cluster.log.text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&self.shop.namespace)).collect();
        format!("the operator's last words:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
    }

    pub fn now(&self) -> Timestamp {
        self.operator.now()
    }

    /// Ends the operator; the namespace is left to the control plane's end.
    pub fn close(&self) {
        self.operator.kill();
    }
}

fn is_list(label: &str) -> bool {
    label.starts_with("GET") && (label.ends_with("/secrets") || label.ends_with("certificates") || label.ends_with("issuers"))
}
