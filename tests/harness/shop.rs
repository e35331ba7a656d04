//! A namespace for one test, and what a test does in it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Secret, ServiceAccount},
    events::v1::Event,
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{GroupVersionKind, NamespaceResourceScope},
    discovery::ApiResource,
};
use serde_json::{Value, json};
use usercert_operator::api::{CertificateIssuer, DatabaseUserCertificate, DatabaseUserCertificateStatus, condition};

use usercert_test_support::{atlas::StandIn, evidence, fault_proxy::FaultProxy};

use super::{Cluster, PATIENCE, PRIVATE_API_KEY, create_namespace, eventually, metric_of, new_ca};

/// For how many seconds [`Shop::assert_quiet`] looks, one time after the other. On a slow machine the last requests may come late. So it looks again,
/// and then for longer, for what asks every three seconds would be missed by one of several short looks.
const QUIET_SECONDS: [u64; 4] = [2, 4, 4, 4];

/// A namespace of its own for one test, with an Atlas project and an API key.
pub struct Shop {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    /// Where its certificates are made, and the URL that leads there.
    pub atlas: StandIn,
    pub endpoint: String,
    pub project: String,
    pub public_key: String,
}

impl Shop {
    /// A new namespace.
    pub async fn open(cluster: &'static LazyLock<Cluster>, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let shop = Self::in_namespace(cluster, &format!("{name}-{number}")).await;
        create_namespace(&shop.client, &shop.namespace).await;
        shop
    }

    /// A namespace that exists.
    pub async fn in_namespace(cluster: &'static LazyLock<Cluster>, namespace: &str) -> Self {
        // The first test waits for the cluster on a thread that may block.
        let cluster: &'static Cluster = tokio::task::spawn_blocking(move || &**cluster).await.unwrap();
        Self::with_atlas(cluster, namespace, cluster.atlas.clone(), cluster.atlas.url()).await
    }

    /// One whose certificates are made by another stand-in than the cluster's.
    pub async fn with_atlas(cluster: &'static Cluster, namespace: &str, atlas: StandIn, endpoint: String) -> Self {
        let client = cluster.client().await;
        let hash = namespace.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(131).wrapping_add(u64::from(byte)));
        let (project, public_key) = (format!("{hash:024x}"), format!("key-{namespace}"));
        atlas.add_project(&project, &public_key, PRIVATE_API_KEY);
        Self { cluster, client, namespace: namespace.to_owned(), atlas, endpoint, project, public_key }
    }

    /// A name that no other shop has: users are told apart by their names alone in the stand-in's faults.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.namespace)
    }

    /// `status.unaccountedCertificates.count`.
    pub async fn unaccounted(&self, name: &str) -> i64 {
        self.status(name).await.unaccounted_certificates.map_or(0, |found| found.count)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A new service account, and a token of it.
    pub async fn account(&self, name: &str) -> String {
        self.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } })).await;
        let request: TokenRequest = serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
        let answer = self.api::<ServiceAccount>().create_token_request(name, &PostParams::default(), &request).await.unwrap();
        let token = answer.status.unwrap().token;
        evidence::secret(&token);
        token
    }

    /// Gives an account the chart's right to read metrics. The authorizer of the API server learns of it by a watch.
    pub async fn let_read_metrics(&self, account: &str) {
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": { "name": self.namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "usercert-operator-metrics-reader" },
            "subjects": [{ "kind": "ServiceAccount", "namespace": self.namespace, "name": account }],
        }))
        .unwrap();
        Api::<ClusterRoleBinding>::all(self.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    }

    /// A proxy before the API server, and a kubeconfig of the operator that leads through it.
    pub async fn proxied(&self) -> (Arc<FaultProxy>, PathBuf) {
        let directory = self.cluster.control_plane.directory();
        let url = self.cluster.operator_config().cluster_url.to_string();
        let certificate = std::fs::read(directory.join("apiserver.crt")).unwrap();
        let proxy = FaultProxy::start(&url, Some(&certificate)).await.unwrap();
        let kubeconfig = std::fs::read_to_string(self.cluster.operator_kubeconfig().await).unwrap();
        let direct = url.trim_end_matches('/');
        assert!(kubeconfig.contains(direct));
        let path = directory.join(format!("{}.kubeconfig", self.namespace));
        std::fs::write(&path, kubeconfig.replace(direct, &proxy.url())).unwrap();
        (Arc::new(proxy), path)
    }

    /// Creates or changes an object as `kubectl apply` would.
    pub async fn try_apply(&self, mut object: Value) -> Result<DynamicObject, kube::Error> {
        object["metadata"]["namespace"] = json!(self.namespace);
        let kind = object["kind"].as_str().unwrap().to_owned();
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), object["apiVersion"].as_str().unwrap().to_owned()),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind { group, version, kind });
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await
    }

    pub async fn apply(&self, object: Value) -> DynamicObject {
        self.try_apply(object).await.unwrap()
    }

    /// A Secret; its values are text.
    pub async fn apply_secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        self.apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data })).await;
    }

    /// The issuer `atlas` with its credentials, pointed at the stand-in.
    pub async fn atlas_issuer(&self) {
        self.apply_secret("atlas-api-key", &[("publicApiKey", &self.public_key), ("privateApiKey", PRIVATE_API_KEY)]).await;
        self.apply(self.atlas_issuer_manifest("v2")).await;
    }

    pub fn atlas_issuer_manifest(&self, api_version: &str) -> Value {
        json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "atlas" },
            "spec": { "atlas": {
                "projectId": self.project, "credentialsSecretRef": { "name": "atlas-api-key" },
                "endpoint": self.endpoint, "apiVersion": api_version,
            } },
        })
    }

    /// The issuer `ca` with a new CA; returns the CA's certificate.
    pub async fn ca_issuer(&self, days: u32) -> String {
        let certificate = self.replace_ca(days).await;
        self.apply(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
            "spec": { "ca": { "secretName": "ca" } },
        }))
        .await;
        certificate
    }

    /// Puts a new CA into the CA's Secret.
    pub async fn replace_ca(&self, days: u32) -> String {
        let (certificate, key) = new_ca(days);
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "ca" },
            "stringData": { "tls.crt": certificate, "tls.key": key },
        }))
        .await;
        certificate
    }

    pub fn manifest(name: &str, issuer: &str, spec: &Value) -> Value {
        let mut object = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": name },
            "spec": { "username": name, "issuerRef": { "kind": "CertificateIssuer", "name": issuer } },
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    }

    /// A certificate whose user, Secret and object have one name.
    pub async fn certificate(&self, name: &str, issuer: &str, spec: Value) {
        self.apply(Self::manifest(name, issuer, &spec)).await;
    }

    pub async fn get(&self, name: &str) -> DatabaseUserCertificate {
        self.api::<DatabaseUserCertificate>().get(name).await.unwrap()
    }

    pub async fn status(&self, name: &str) -> DatabaseUserCertificateStatus {
        self.get(name).await.status.unwrap_or_default()
    }

    /// The condition as `status reason`.
    pub async fn condition(&self, name: &str, type_: &str) -> String {
        let status = self.status(name).await;
        condition(&status.conditions, type_)
            .map_or_else(String::new, |condition| format!("{} {}", condition.status, condition.reason))
    }

    pub async fn message(&self, name: &str, type_: &str) -> String {
        condition(&self.status(name).await.conditions, type_).map_or_else(String::new, |condition| condition.message.clone())
    }

    /// Waits until a condition is `status reason`.
    pub async fn until(&self, name: &str, type_: &str, expected: &str) {
        let started = Instant::now();
        loop {
            let found = self.condition(name, type_).await;
            if found == expected {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{name} {type_}: {found:?} instead of {expected:?}: {:#?}\n{}",
                self.status(name).await,
                self.log_about(name)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log_about(&self, name: &str) -> String {
        let log = self.cluster.log.text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&self.namespace) && line.contains(name)).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub async fn until_ready(&self, name: &str) -> DatabaseUserCertificateStatus {
        self.until(name, "Ready", "True Issued").await;
        self.status(name).await
    }

    /// Waits until the issuer's Ready condition is `status reason`.
    pub async fn until_issuer(&self, name: &str, expected: &str) {
        eventually(&format!("issuer {name}: {expected}"), || async {
            let issuer = self.api::<CertificateIssuer>().get(name).await.unwrap();
            let status = issuer.status.unwrap_or_default();
            let ready = condition(&status.conditions, "Ready")?;
            let is_about_this = status.observed_generation == issuer.metadata.generation;
            (is_about_this && format!("{} {}", ready.status, ready.reason) == expected).then_some(())
        })
        .await;
    }

    /// Whether the condition Ready is True.
    pub fn is_ready(object: &DatabaseUserCertificate) -> bool {
        let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        condition(conditions, "Ready").is_some_and(|ready| ready.status == "True")
    }

    /// All certificates of the namespace.
    pub async fn certificates(&self) -> Vec<DatabaseUserCertificate> {
        self.api::<DatabaseUserCertificate>().list(&ListParams::default()).await.unwrap().items
    }

    pub async fn until_new_serial(&self, name: &str, old: &str) -> DatabaseUserCertificateStatus {
        eventually("a new serial number", || async {
            let status = self.status(name).await;
            status.serial_number.as_deref().is_some_and(|serial| serial != old).then_some(status)
        })
        .await
    }

    pub async fn secret(&self, name: &str) -> Option<Secret> {
        self.api::<Secret>().get_opt(name).await.unwrap()
    }

    /// A value of a Secret as text.
    pub async fn value(&self, secret: &str, key: &str) -> String {
        let secret = self.secret(secret).await.unwrap();
        String::from_utf8(secret.data.unwrap_or_default().remove(key).unwrap_or_default().0).unwrap()
    }

    /// The Secrets of the namespace that have our label, each in its version.
    pub async fn secrets_by_version(&self) -> BTreeMap<String, String> {
        let ours = ListParams::default().labels("usercert.dev/certificate-uid");
        let secrets = self.api::<Secret>().list(&ours).await.unwrap().items;
        secrets.iter().map(|secret| (secret.name_any(), secret.resource_version().unwrap())).collect()
    }

    /// Waits until data, labels and annotations of the Secret are these again after this damage.
    pub async fn until_mended(&self, name: &str, good: &Secret, damage: &Value) {
        eventually(&format!("{damage} is mended"), || async {
            let secret = self.secret(name).await?;
            (secret.data == good.data
                && secret.metadata.labels == good.metadata.labels
                && secret.metadata.annotations == good.metadata.annotations)
                .then_some(())
        })
        .await;
    }

    pub async fn patch_secret(&self, name: &str, patch: Value) {
        self.api::<Secret>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + serde::de::DeserializeOwned,
    {
        self.api::<K>().delete(name, &Default::default()).await.unwrap();
    }

    /// Deletes all certificates and issuers of the namespace.
    pub async fn delete_all(&self) {
        let (parameters, all) = (Default::default(), ListParams::default());
        self.api::<DatabaseUserCertificate>().delete_collection(&parameters, &all).await.unwrap();
        self.api::<CertificateIssuer>().delete_collection(&parameters, &all).await.unwrap();
    }

    pub async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        self.api::<DatabaseUserCertificate>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// The value of the metric `usercert_METRIC` for an object of this namespace.
    pub fn metric(&self, metric: &str, name: &str) -> Option<i64> {
        metric_of(&self.cluster.metrics, metric, &self.namespace, name)
    }

    /// The same, when there is one: the watch may be behind a status that a test has read.
    pub async fn until_metric(&self, metric: &str, name: &str) -> i64 {
        eventually(&format!("usercert_{metric} of {name}"), || async { self.metric(metric, name) }).await
    }

    /// Waits until the metric has this value.
    pub async fn until_metric_is(&self, metric: &str, name: &str, value: i64) {
        let is_it = || async { (self.metric(metric, name) == Some(value)).then_some(()) };
        eventually(&format!("usercert_{metric} of {name} is {value}"), is_it).await;
    }

    /// The reasons of the Events about an object.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let about = events
            .items
            .into_iter()
            .filter(|event| event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name));
        about.filter_map(|event| event.reason).collect()
    }

    /// The note of an Event about an object.
    pub async fn event_note(&self, name: &str, reason: &str) -> String {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let is_it = |event: &Event| {
            let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            about == Some(name) && event.reason.as_deref() == Some(reason)
        };
        events.items.into_iter().find(is_it).and_then(|event| event.note).unwrap_or_default()
    }

    /// Waits for an Event with this reason.
    pub async fn until_event(&self, name: &str, reason: &str) {
        eventually(&format!("an Event {reason} about {name}"), || async {
            self.events(name).await.iter().any(|found| found == reason).then_some(())
        })
        .await;
    }

    /// Nothing is written in this namespace, and nothing asked of Atlas, for a while. What asks every two seconds is found for certain, and what asks
    /// less often only by chance: `tests/quiet.rs` looks for two minutes.
    pub async fn assert_quiet(&self) {
        let asked_of_atlas =
            || self.cluster.atlas.requests().iter().filter(|request| request.target.contains(&self.project)).count();
        let quiet = || (self.cluster.requests_of_operator(&self.namespace).len(), asked_of_atlas());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut before = quiet();
        for seconds in QUIET_SECONDS {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let after = quiet();
            if after == before {
                return;
            }
            let asked = self.cluster.requests_of_operator(&self.namespace).split_off(before.0);
            eprintln!("{}: {before:?}, and {seconds} s later {after:?}: {asked:?}", self.namespace);
            before = after;
        }
        panic!("{}: it goes on asking", self.namespace);
    }
}
