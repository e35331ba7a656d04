//! The operator's own troubles: its rights, its lead, its absence.

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::json;
use tokio::task::JoinHandle;
use usercert_operator::{
    operator::{Health, serve},
    runtime::{CertificateSeries, Leadership, Liveness, Metrics, Readiness},
};
use usercert_test_support::{control_plane::Supervised, evidence};

use super::{Break, Row, alert, resolves};
use crate::{
    harness::{Shop, eventually},
    prometheus::Prometheus,
};

/// The program as a process of its own.
pub struct Operator {
    process: Supervised,
    port: u16,
    is_stopped: bool,
}

impl Operator {
    /// Kills it, and keeps its metrics and its log for the check of secrecy.
    pub fn stop(&mut self) {
        if !self.is_stopped {
            let log = self.process.log().to_owned();
            evidence::ended(&format!("127.0.0.1:{}", self.port), &log, || self.process.stop());
            self.is_stopped = true;
        }
    }

    /// With the rights that the chart gives it. Its log and metrics are in this folder and at this port.
    pub async fn start(shop: &Shop, folder: &Path, port: u16, more: &[&str]) -> Self {
        let operator = Self::start_unready(shop, folder, port, more).await;
        eventually("the operator leads", || async {
            let ready = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        operator
    }

    async fn start_unready(shop: &Shop, folder: &Path, port: u16, more: &[&str]) -> Self {
        let kubeconfig =
            shop.cluster.control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap();
        let address = format!("127.0.0.1:{port}");
        let arguments = [
            "run",
            "--http-address",
            &address,
            "--pod-name",
            "operator",
            "--rollout",
            "--allowed-atlas-endpoint",
            &shop.endpoint,
        ];
        let arguments: Vec<String> = arguments.iter().chain(more).map(ToString::to_string).collect();
        let environment =
            [("KUBECONFIG", kubeconfig.display().to_string()), ("RUST_LOG", "usercert_operator=debug,info".to_owned())];
        let program = Path::new(env!("CARGO_BIN_EXE_usercert-operator"));
        let process = Supervised::spawn_alone(program, &arguments, &environment, &folder.join("operator.log")).unwrap();
        Self { process, port, is_stopped: false }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop();
    }
}

const NAME: &str = "usercert-operator";

/// Takes rules from the operator's `ClusterRole`; the role as it was.
async fn restrict(client: &Client, keep: impl Fn(&mut PolicyRule)) -> ClusterRole {
    let roles = Api::<ClusterRole>::all(client.clone());
    let before = roles.get(NAME).await.unwrap();
    let mut role = before.clone();
    role.rules.as_mut().unwrap().iter_mut().for_each(keep);
    assert_ne!(role.rules, before.rules);
    roles.replace(NAME, &PostParams::default(), &role).await.unwrap();
    before
}

async fn give_back(client: &Client, before: ClusterRole) {
    let roles = Api::<ClusterRole>::all(client.clone());
    let version = roles.get(NAME).await.unwrap().resource_version();
    let role = ClusterRole {
        rules: before.rules,
        metadata: kube::api::ObjectMeta { resource_version: version, ..before.metadata },
        ..before
    };
    roles.replace(NAME, &PostParams::default(), &role).await.unwrap();
}

/// Leaves the rule without this resource.
fn without(resource: &'static str) -> impl Fn(&mut PolicyRule) {
    move |rule| rule.resources.iter_mut().for_each(|resources| resources.retain(|name| name != resource))
}

pub async fn all(prometheus: &Prometheus, shop: &Shop, operator: &mut Operator, folder: &Path) -> Vec<Row> {
    let mut rows = loop_stalled(prometheus).await;
    rows.extend(reconciles_failing(prometheus, shop).await);
    rows.extend(no_leader(prometheus, shop).await);
    rows.extend(leader_not_scraped(prometheus, shop, operator, folder).await);
    rows.extend(absent_and_watches_failing(prometheus, shop, operator, folder).await);
    rows
}

/// No process of the operator: the test itself serves the metrics of one that stands by, by the operator's code.
fn serve_standby(prometheus: &Prometheus, liveness: Liveness) -> JoinHandle<()> {
    let (readiness, (leadership, _)) = (Readiness::awaiting(0), Leadership::standing_by());
    let metrics = Metrics::new(leadership.clone(), liveness.clone(), readiness.clone(), CertificateSeries::Each);
    let health = Health { liveness, readiness, leadership };
    let address = ([127, 0, 0, 1], prometheus.port_of_another()).into();
    tokio::spawn(async move { serve(address, health, Some(Arc::new(metrics))).await.unwrap() })
}

/// Nothing outside of a process holds up one of its loops alone. So the test holds up a loop of its own.
async fn loop_stalled(prometheus: &Prometheus) -> Vec<Row> {
    let liveness = Liveness::default();
    liveness.watch_clocks().unwrap();
    let heartbeat = liveness.expect("passes/certificates", Duration::from_secs(3));
    let server = serve_standby(prometheus, liveness);
    heartbeat.beat();
    let broken = Break::now("a loop stands still (of the test: not shown on the operator)");
    let fired = broken.fires(prometheus, &[alert("UsercertLoopsStalled", &[("namespace", "usercert-system")])]).await;
    let beats = tokio::spawn(async move {
        loop {
            heartbeat.beat();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let rows = resolves(prometheus, "it moves", fired).await;
    beats.abort();
    assert!(!server.is_finished());
    server.abort();
    rows
}

async fn reconciles_failing(prometheus: &Prometheus, shop: &Shop) -> Vec<Row> {
    // A rule may not be left without any resource.
    let without_statuses = |rule: &mut PolicyRule| {
        let resources = rule.resources.iter_mut().flatten();
        resources.filter(|name| name.ends_with("/status")).for_each(|name| "nothing".clone_into(name));
    };
    let before = restrict(&shop.client, without_statuses).await;
    let broken = Break::now("the right to write statuses is taken away");
    shop.certificate("unheard", "ca", json!({})).await;
    let issuer = json!({ "ca": { "secretName": "ca" } });
    shop.apply(json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "unheard" }, "spec": issuer })).await;
    let of = |controller| alert("UsercertReconcilesFailing", &[("namespace", "usercert-system"), ("controller", controller)]);
    let fired = broken.fires(prometheus, &[of("DatabaseUserCertificate"), of("CertificateIssuer")]).await;
    give_back(&shop.client, before).await;
    resolves(prometheus, "it is given back", fired).await
}

async fn no_leader(prometheus: &Prometheus, shop: &Shop) -> Vec<Row> {
    let roles = Api::<Role>::namespaced(shop.client.clone(), "usercert-system");
    let name = format!("{NAME}-leader-election");
    let before = roles.get(&name).await.unwrap();
    let without_rules = Role { rules: None, ..before.clone() };
    roles.replace(&name, &PostParams::default(), &without_rules).await.unwrap();
    let fired = Break::now("the right to the Lease is taken away")
        .fires(prometheus, &[alert("UsercertNoLeader", &[("namespace", "usercert-system")])])
        .await;
    let version = roles.get(&name).await.unwrap().resource_version();
    let role = Role { metadata: kube::api::ObjectMeta { resource_version: version, ..before.metadata }, ..before };
    roles.replace(&name, &PostParams::default(), &role).await.unwrap();
    resolves(prometheus, "it is given back", fired).await
}

/// The leader is killed, and nobody takes its place: what Prometheus sees of one that it does not reach.
async fn leader_not_scraped(prometheus: &Prometheus, shop: &Shop, operator: &mut Operator, folder: &Path) -> Vec<Row> {
    let standby = serve_standby(prometheus, Liveness::default());
    eventually("the one that stands by is scraped", || async {
        (!prometheus.query("usercert_leading == 0").await.is_empty()).then_some(())
    })
    .await;
    operator.stop();
    let broken = Break::now("the leader is not scraped, and one that stands by is");
    let fired = broken.fires(prometheus, &[alert("UsercertLeaderNotScraped", &[("namespace", "usercert-system")])]).await;
    *operator = Operator::start(shop, folder, prometheus.port_of_operator(), &[]).await;
    let rows = resolves(prometheus, "it is scraped", fired).await;
    standby.abort();
    rows
}

async fn absent_and_watches_failing(prometheus: &Prometheus, shop: &Shop, operator: &mut Operator, folder: &Path) -> Vec<Row> {
    let port = prometheus.port_of_operator();
    operator.stop();
    let absent = Break::now("the operator is stopped").fires(prometheus, &[alert("UsercertOperatorAbsent", &[])]).await;
    let before = restrict(&shop.client, without("certificateissuers")).await;
    let watches = Break::now("the right to watch issuers is taken away before a start");
    *operator = Operator::start_unready(shop, folder, port, &[]).await;
    let mut rows = resolves(prometheus, "it is started", absent).await;
    let of = |name| alert(name, &[("namespace", "usercert-system")]);
    let fired = watches.fires(prometheus, &[of("UsercertWatchesFailing"), of("UsercertLeaderNotWorking")]).await;
    give_back(&shop.client, before).await;
    rows.extend(resolves(prometheus, "it is given back", fired).await);
    rows
}

/// Each start is to be scraped, and takes longer than that.
pub async fn restarting(prometheus: &Prometheus, shop: &Shop, operator: &mut Operator, folder: &Path) -> Vec<Row> {
    let broken = Break::now("the operator is killed twice within 30 seconds");
    for _ in 0..2 {
        operator.stop();
        *operator = Operator::start(shop, folder, prometheus.port_of_operator(), &[]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let fired = broken.fires(prometheus, &[alert("UsercertOperatorRestarting", &[("namespace", "usercert-system")])]).await;
    resolves(prometheus, "it runs for 30 seconds", fired).await
}
