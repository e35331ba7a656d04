//! A namespace with a CA, workloads, a kubelet, and an operator that reaches the API server through a proxy.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use k8s_openapi::{
    api::{
        core::v1::ServiceAccount,
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Config,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde_json::{Value, json};
use usercert_operator::{
    api::{DatabaseUserCertificateStatus, condition},
    controller::Scope,
};
use usercert_test_support::{atlas::DigestAlgorithm, control_plane::config_of, fault_proxy::FaultProxy};

use crate::{
    harness::{self, Cluster, Operator, Options, Shop, create_namespace, eventually, metric_of},
    kubelet::Kubelet,
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// The lag of the kubelet, and a second.
pub const LAG: SignedDuration = SignedDuration::from_secs(61);

/// Longer than the operator rests while workloads are on their way.
const LOOK: SignedDuration = SignedDuration::from_secs(6);

const PATIENCE: Duration = Duration::from_mins(1);

/// So long a look is waited for.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// A look that has ended is over when nothing more is asked for so long: what it writes leads to another pass.
const CALM: Duration = Duration::from_millis(300);

pub struct Stage {
    pub shop: Shop,
    pub proxy: FaultProxy,
    pub operator: Arc<Operator>,
    pub kubelet: Kubelet,
}

impl Stage {
    /// One whose operator has the rights that the chart gives it.
    pub async fn open(name: &str) -> Self {
        Self::with(name, |config| config, |operator| operator).await
    }

    /// One whose operator is changed before it starts, and may reach the API server by another configuration.
    pub async fn with(
        name: &str,
        configured: impl FnOnce(Config) -> Config,
        changed: impl FnOnce(Operator) -> Operator,
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let namespace = format!("{name}-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let shop = Shop::in_namespace(&CLUSTER, &namespace).await;
        create_namespace(&shop.client, &namespace).await;
        let mut config = configured(shop.cluster.operator_config());
        let ca_certificate = std::fs::read(shop.cluster.control_plane.directory().join("apiserver.crt")).unwrap();
        let proxy = FaultProxy::start(&config.cluster_url.to_string(), Some(&ca_certificate)).await.unwrap();
        config.cluster_url = proxy.url().parse().unwrap();
        let operator = Operator::new(config, vec![Scope::Namespace(namespace.clone())], shop.cluster.atlas.url());
        let operator = Arc::new(changed(operator));
        let killed = Arc::clone(&operator);
        proxy.on_kill(move || killed.kill());
        let clock = Arc::clone(&operator);
        let kubelet = Kubelet::start(shop.client.clone(), &namespace, move || clock.now());
        let stage = Self { shop, proxy, operator, kubelet };
        stage.start_operator().await;
        stage.shop.ca_issuer(3650).await;
        stage
    }

    pub async fn start_operator(&self) {
        let readiness = self.operator.start(&tokio::runtime::Handle::current());
        eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    }

    /// A certificate with a rollout. The workloads that are made after it have it.
    pub async fn certificate(&self, name: &str, rollout: Value) {
        self.shop.certificate(name, "ca", json!({ "rollout": rollout })).await;
        self.shop.until_ready(name).await;
        self.operator.advance(LAG);
    }

    /// A workload whose pods mount these Secrets, when all its pods are ready.
    pub async fn workload(&self, kind: &str, name: &str, secrets: &[&str], spec: Value) {
        self.shop.apply(manifest(kind, name, secrets, &spec)).await;
        self.until_rolled_out(kind, name).await;
    }

    pub async fn until_rolled_out(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name} is ready"), || async {
            let object = self.get(kind, name).await;
            let readiness = usercert_operator_core::rollout::readiness("apps/v1", kind, &object);
            (readiness == usercert_operator_core::rollout::Readiness::Ready).then_some(())
        })
        .await;
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, kind) = if is_further(kind) { ("example.com", kind) } else { ("apps", kind) };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.shop.client.clone(), &self.shop.namespace, &resource)
    }

    pub async fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::to_value(self.api(kind).get(name).await.unwrap()).unwrap()
    }

    pub async fn patch(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn patch_status(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind).patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// How often the spec of a workload has changed since it was made.
    pub async fn changes(&self, kind: &str, name: &str) -> i64 {
        self.get(kind, name).await["metadata"]["generation"].as_i64().unwrap() - 1
    }

    /// The annotation that the operator sets.
    pub async fn serial_numbers(&self, kind: &str, name: &str) -> String {
        let object = self.get(kind, name).await;
        object["spec"]["template"]["metadata"]["annotations"]["usercert.dev/serial-numbers"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Has a new certificate issued, and waits for it; its serial number. New pods cannot have it yet.
    pub async fn renew(&self, name: &str) -> String {
        let old = self.shop.status(name).await.serial_number.unwrap();
        self.shop.annotate(name, "usercert.dev/renew-requested-at", &self.operator.now().to_string()).await;
        self.shop.until_new_serial(name, &old).await.serial_number.unwrap()
    }

    /// Has the operator look at the workloads now: its clock moves on a little, and the object changes.
    pub async fn look(&self, name: &str) {
        self.look_after(name, LOOK).await;
    }

    pub async fn look_after(&self, name: &str, time: SignedDuration) {
        self.operator.advance(time);
        let before = self.done();
        self.shop.annotate(name, "example.com/look", &self.operator.now().to_string()).await;
        self.until_calm_after(before).await;
    }

    /// How many passes over certificates have ended, and how many requests were made.
    fn done(&self) -> (u32, usize) {
        let text = self.operator.metrics.encode().unwrap();
        let passes =
            text.lines().filter(|line| line.starts_with("usercert_reconciles_total{controller=\"DatabaseUserCertificate\""));
        let counts = passes.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
        (counts.sum(), self.proxy.asked_count())
    }

    /// Waits until a pass has ended since then, and nothing more goes on. An operator that was killed makes none, so this has an end.
    async fn until_calm_after(&self, before: (u32, usize)) {
        let started = Instant::now();
        let (mut last, mut since) = (before, Instant::now());
        while started.elapsed() < LOOK_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = self.done();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if now.0 > before.0 && since.elapsed() >= CALM {
                return;
            }
        }
    }

    /// Has the operator look again and again until the condition `RolledOut` is `status reason`.
    pub async fn until(&self, name: &str, expected: &str) -> DatabaseUserCertificateStatus {
        let started = Instant::now();
        loop {
            let status = self.shop.status(name).await;
            let found = condition(&status.conditions, "RolledOut");
            let rollout = status.rollout.as_ref();
            let is_current = rollout.is_none_or(|rollout| Some(&rollout.serial_number) == status.serial_number.as_ref());
            if is_current && found.is_some_and(|found| format!("{} {}", found.status, found.reason) == expected) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "{name} is not {expected}: {status:#?}\n{}", self.log());
            self.look(name).await;
        }
    }

    pub async fn until_complete(&self, name: &str) {
        self.until(name, "True RolloutComplete").await;
    }

    pub async fn message(&self, name: &str) -> String {
        self.shop.message(name, "RolledOut").await
    }

    /// The changes of workloads that the operator asked for, as `resource name`, in their order.
    pub fn patches(&self) -> Vec<String> {
        let patches = self
            .proxy
            .asked()
            .into_iter()
            .filter(|asked| asked.method == "PATCH" && asked.target.contains("usercert-operator-rollout"));
        let label = |target: &str| {
            let path: Vec<&str> = target.split('?').next().unwrap_or_default().split('/').collect();
            path[path.len() - 2..].join(" ")
        };
        patches.map(|asked| label(&asked.target)).collect()
    }

    /// The requests for workloads, their pods and Jobs.
    pub fn requests_for_workloads(&self) -> usize {
        let is_one = |target: &str| ["/apps/v1/", "/pods", "/jobs", "/example.com/"].iter().any(|part| target.contains(part));
        self.proxy.asked().iter().filter(|asked| is_one(&asked.target)).count()
    }

    /// The value of the metric `usercert_rollout_METRIC` for an object.
    pub fn metric(&self, metric: &str, name: &str) -> Option<i64> {
        metric_of(&self.operator.metrics, &format!("rollout_{metric}"), &self.shop.namespace, name)
    }

    /// Waits until the metrics say so of an object: how many workloads it has, how many are moved, and how many pods are behind. The watch
    /// may be behind a status that a test has read.
    pub async fn until_figures(&self, name: &str, expected: [Option<i64>; 3]) {
        eventually(&format!("the figures of {name} are {expected:?}"), || async {
            let found = ["workloads", "workloads_moved", "pods_behind"].map(|metric| self.metric(metric, name));
            (found == expected).then_some(())
        })
        .await;
    }

    /// The serial number that the metrics tell of an object.
    pub fn serial_number_in_metrics(&self, name: &str) -> Option<String> {
        let object = format!(r#"",namespace="{}",name="{name}"}} 1"#, self.shop.namespace);
        let text = self.operator.metrics.encode().unwrap();
        let series = text.lines().filter_map(|line| line.strip_prefix("usercert_rollout_info{serial_number=\""));
        series.filter_map(|line| line.strip_suffix(&object)).map(ToOwned::to_owned).next()
    }

    /// How often this warning was told.
    pub fn warnings(&self, reason: &str) -> u32 {
        self.counted(&format!("usercert_warnings_total{{reason=\"{reason}\"}} "))
    }

    /// How many passes over certificates are counted as failed.
    pub fn failed_passes(&self) -> u32 {
        self.counted("usercert_reconciles_total{controller=\"DatabaseUserCertificate\",outcome=\"failed\"} ")
    }

    fn counted(&self, series: &str) -> u32 {
        let text = self.operator.metrics.encode().unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)).map_or(0, |count| count.parse().unwrap())
    }

    fn log(&self) -> String {
        let log = self.shop.cluster.log.text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&self.shop.namespace)).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A workload whose pods mount these Secrets; `spec` adds to its spec.
pub fn manifest(kind: &str, name: &str, secrets: &[&str], spec: &Value) -> Value {
    let volumes: Vec<Value> =
        secrets.iter().map(|secret| json!({ "name": secret, "secret": { "secretName": secret } })).collect();
    let api_version = if is_further(kind) { "example.com/v1" } else { "apps/v1" };
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "example.com/none" }], "volumes": volumes },
            },
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

impl Shop {
    /// A kind of workloads that nobody but a test knows.
    pub async fn apply_definition(&self, kind: &str, resource: &str) {
        let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let schema = json!({ "type": "object", "properties": { "spec": any, "status": any } });
        let definitions: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
            Api::all(self.client.clone());
        let name = format!("{resource}.example.com");
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": name },
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": { "kind": kind, "plural": resource },
                "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} }, "schema": { "openAPIV3Schema": schema } }],
            },
        });
        definitions.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(definition)).await.unwrap();
        let objects: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", kind)),
        );
        eventually("the kind is served", || async { objects.list(&Default::default()).await.ok() }).await;
    }
}

/// Whether it is a kind that only tests define.
fn is_further(kind: &str) -> bool {
    matches!(kind, "Worker" | "Latecomer")
}

/// How an account reaches the API server that may do all that the operator may, but nothing about workloads.
pub async fn without_rights() -> Config {
    let cluster: &'static Cluster = tokio::task::spawn_blocking(|| &*CLUSTER).await.unwrap();
    let client = cluster.client().await;
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let mut role = roles.get("usercert-operator").await.unwrap();
    let groups = |rule: &PolicyRule| rule.api_groups.clone().unwrap_or_default();
    let is_about_workloads = |rule: &PolicyRule| {
        let about_pods = rule.resources.iter().flatten().any(|resource| resource == "pods");
        about_pods || groups(rule).iter().any(|group| ["apps", "batch", "example.com"].contains(&group.as_str()))
    };
    role.rules.as_mut().unwrap().retain(|rule| !is_about_workloads(rule));
    role.metadata = ObjectMeta { name: Some("narrow".to_owned()), ..ObjectMeta::default() };
    roles.create(&PostParams::default(), &role).await.unwrap();
    let binding = json!({
        "metadata": { "name": "narrow" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "narrow" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "usercert-system", "name": "narrow" }],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "usercert-system");
    let account = serde_json::from_value(json!({ "metadata": { "name": "narrow" } })).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let kubeconfig = cluster.control_plane.service_account_kubeconfig("usercert-system", "narrow").await.unwrap();
    let mut config = config_of(&kubeconfig).await.unwrap();
    config.default_retry = false;
    config
}

/// Gives the account of [`without_rights`] the right to these resources of a namespace.
pub async fn grant(shop: &Shop, rules: Value) {
    let api = "rbac.authorization.k8s.io";
    shop.apply(json!({ "apiVersion": format!("{api}/v1"), "kind": "Role", "metadata": { "name": "narrow" }, "rules": rules }))
        .await;
    let subject = json!({ "kind": "ServiceAccount", "namespace": "usercert-system", "name": "narrow" });
    shop.apply(json!({
        "apiVersion": format!("{api}/v1"), "kind": "RoleBinding", "metadata": { "name": "narrow" },
        "roleRef": { "apiGroup": api, "kind": "Role", "name": "narrow" }, "subjects": [subject],
    }))
    .await;
}

/// A node, which `DaemonSets` need. It is the whole cluster's.
pub async fn node(client: &Client) {
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({ "metadata": { "name": "node" } })).unwrap();
    let _ = nodes.create(&PostParams::default(), &node).await;
}
