//! A workload and its pods, as far as a rollout looks at them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use serde_json::Value;

use super::{
    Readiness, RolledCertificate, SerialNumbers, Uses,
    readiness::{is_unobserved, readiness},
};
use crate::api::{
    WorkloadReference,
    names::{RELOADER_SECRETS_ANNOTATION, SERIAL_NUMBERS_ANNOTATION},
};

/// Who replaces the pods of a workload when its template changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// Its controller, all of them.
    Rolling,
    /// Its controller, those from this ordinal on.
    Partition(i64),
    /// Whoever deletes them (`updateStrategy` `OnDelete`).
    OnDelete,
    /// Nobody, until it is not paused any more.
    Paused,
}

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Which one.
    pub reference: WorkloadReference,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub is_being_deleted: bool,
    /// The certificates that it was moved to.
    pub serial_numbers: SerialNumbers,
    /// `spec` of its pod template.
    pub pod_spec: Value,
    /// The Secrets that its annotation for Reloader names: it may read them through the API. A pattern stays what it is, and names none.
    pub named_to_reloader: Vec<String>,
    /// Which labels its pods have.
    pub selector: Option<LabelSelector>,
    /// How many pods it has, as its status says.
    pub pod_count: i64,
    /// How many of these are of its present template, as its status says; 0 while its controller has not seen that template.
    pub updated_pods: i64,
    /// Whether its last change is carried out.
    pub readiness: Readiness,
    /// Whether it says which of its changes its readiness is about (`status.observedGeneration`). If not, it may be ready with the pods that
    /// it had before.
    pub observes_changes: bool,
    /// The object that has made it and would make it anew, such as one of a further kind.
    pub controller: Option<WorkloadReference>,
    /// Who replaces its pods.
    pub updates: Updates,
    /// Its pods; `None` if they were not asked for.
    pub pods: Option<Vec<Pod>>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When its kubelet took it up; `None` before.
    pub started: Option<Timestamp>,
    /// Since when a container of it may have run; `None` if none has.
    pub ran_since: Option<Timestamp>,
    /// Whether it runs no more, or is being deleted.
    pub is_over: bool,
}

impl Workload {
    /// From the object. `None` if it has no name or no pod template.
    #[must_use]
    pub fn read(api_version: &str, kind: &str, object: &Value) -> Option<Self> {
        let (metadata, template) = (&object["metadata"], &object["spec"]["template"]);
        if !template.is_object() {
            return None;
        }
        let annotation = template["metadata"]["annotations"][SERIAL_NUMBERS_ANNOTATION].as_str();
        let count = ["replicas", "currentNumberScheduled"].into_iter().find_map(|field| object["status"][field].as_i64());
        Some(Self {
            reference: WorkloadReference {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                name: metadata["name"].as_str()?.to_owned(),
            },
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            resource_version: metadata["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            labels: texts(&metadata["labels"]),
            is_being_deleted: !metadata["deletionTimestamp"].is_null(),
            serial_numbers: annotation.map(SerialNumbers::parse).unwrap_or_default(),
            pod_spec: template["spec"].clone(),
            named_to_reloader: [metadata, &template["metadata"]].into_iter().flat_map(named_to_reloader).collect(),
            selector: serde_json::from_value(object["spec"]["selector"].clone()).ok(),
            pod_count: count.unwrap_or(0),
            updated_pods: updated_pods(object),
            readiness: readiness(api_version, kind, object),
            observes_changes: !object["status"]["observedGeneration"].is_null(),
            controller: controller(metadata),
            updates: updates(object),
            pods: None,
        })
    }

    /// Whether its pods have to be known: they tell unless its annotation and its readiness do. One that was begun is waited for until it
    /// is ready, whatever its pods are.
    #[must_use]
    pub fn needs_pods(&self, certificate: &RolledCertificate, is_begun: bool) -> bool {
        self.serial_numbers.get(&certificate.name) != Some(certificate.serial_number.as_str())
            || self.readiness != Readiness::Ready && !is_begun
            || self.updates != Updates::Rolling
            || !self.observes_changes
    }

    /// Whether one of these has made it: then a change of that one reaches its pods, and would take back a change of this one.
    #[must_use]
    pub fn is_made_by_one_of(&self, others: &[Self]) -> bool {
        let group = |reference: &WorkloadReference| reference.api_version.split_once('/').map(|(group, _)| group.to_owned());
        self.controller.as_ref().is_some_and(|controller| {
            let is_it = |other: &WorkloadReference| {
                (group(other), &other.kind, &other.name) == (group(controller), &controller.kind, &controller.name)
            };
            others.iter().any(|other| is_it(&other.reference))
        })
    }

    /// How its pods use a Secret.
    #[must_use]
    pub fn uses(&self, secret: &str) -> Uses {
        Uses::of(&self.pod_spec, secret)
    }

    /// Whether its labels are as this selector asks. A selector that cannot be read selects nothing.
    #[must_use]
    pub fn has_labels_of(&self, selector: &LabelSelector) -> bool {
        matches(selector, &self.labels)
    }

    /// Whether pods with these labels are its own. A selector that cannot be read selects nothing.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_some_and(|selector| matches(selector, labels))
    }

    /// Takes its pods out of a page of those of the namespace, and keeps those that matter. A workload without a selector that can be
    /// read has none that are known.
    pub fn take_pods(&mut self, page: &[Pod]) {
        let Some(Ok(selector)) = self.selector.clone().map(Selector::try_from) else { return };
        let found = page.iter().filter(|pod| selector.matches(&pod.labels)).cloned();
        self.pods = Some(decisive(self.pods.take().unwrap_or_default().into_iter().chain(found).collect()));
    }

    /// Whether no container of it can have run before this time.
    pub(super) fn ran_from(&self, time: Timestamp) -> bool {
        let Some(pods) = &self.pods else { return false };
        let mut running = pods.iter().filter(|pod| !pod.is_over).peekable();
        running.peek().is_some() && running.all(|pod| pod.ran_since.is_none_or(|since| since >= time))
    }

    /// Whether each of its pods that runs was taken up at this time or later, or will be. Not so if its pods are not known.
    pub(super) fn started_from(&self, time: Timestamp, now: Timestamp) -> bool {
        let Some(pods) = &self.pods else { return false };
        let mut running = pods.iter().filter(|pod| !pod.is_over).peekable();
        if running.peek().is_none() {
            return self.pod_count == 0 && now >= time;
        }
        running.all(|pod| pod.started.map_or(now >= time, |started| started >= time))
    }
}

impl Pod {
    /// From the object.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        let is_finished = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        Self {
            labels: texts(&metadata["labels"]),
            started: time(&status["startTime"]),
            ran_since: ran_since(status),
            is_over: is_finished || !metadata["deletionTimestamp"].is_null(),
        }
    }
}

impl Updates {
    /// Why a change of the template leaves running pods as they are, if it leaves all.
    pub(super) const fn leaves_all(self) -> Option<&'static str> {
        match self {
            Self::OnDelete => Some("is updated OnDelete"),
            Self::Paused => Some("is paused"),
            Self::Rolling | Self::Partition(_) => None,
        }
    }
}

/// Of the pods that run: one that no kubelet has taken up, the one that was taken up first, and the one whose container ran first. They
/// say as much as all do.
fn decisive(mut pods: Vec<Pod>) -> Vec<Pod> {
    pods.retain(|pod| !pod.is_over);
    let waiting = pods.iter().find(|pod| pod.started.is_none());
    let started = pods.iter().filter(|pod| pod.started.is_some()).min_by_key(|pod| pod.started);
    let ran = pods.iter().filter(|pod| pod.ran_since.is_some()).min_by_key(|pod| pod.ran_since);
    waiting.into_iter().chain(started).chain(ran).cloned().collect()
}

/// The earliest start of a container that is known, or that of the pod where earlier ones may be forgotten.
fn ran_since(status: &Value) -> Option<Timestamp> {
    let containers = ["initContainerStatuses", "containerStatuses"].into_iter();
    let containers: Vec<&Value> = containers.flat_map(|field| status[field].as_array().into_iter().flatten()).collect();
    let is_told = !containers.is_empty() || status["phase"] == "Pending";
    // Only the last two runs of a container are told.
    if !is_told || containers.iter().any(|container| container["restartCount"].as_i64().unwrap_or(0) > 1) {
        return time(&status["startTime"]);
    }
    let runs = containers.iter().flat_map(|container| {
        let (now, before) = (&container["state"], &container["lastState"]);
        [&now["running"], &now["terminated"], &before["terminated"]].map(|run| time(&run["startedAt"]))
    });
    runs.flatten().min()
}

fn updated_pods(object: &Value) -> i64 {
    if is_unobserved(object) {
        return 0;
    }
    let count = ["updatedReplicas", "updatedNumberScheduled"].into_iter().find_map(|field| object["status"][field].as_i64());
    count.unwrap_or(0)
}

fn controller(metadata: &Value) -> Option<WorkloadReference> {
    let owner = metadata["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)?;
    let [api_version, kind, name] = ["apiVersion", "kind", "name"].map(|field| owner[field].as_str().map(ToOwned::to_owned));
    Some(WorkloadReference { api_version: api_version?, kind: kind?, name: name? })
}

fn named_to_reloader(metadata: &Value) -> impl Iterator<Item = String> {
    let names = metadata["annotations"][RELOADER_SECRETS_ANNOTATION].as_str().unwrap_or_default().split(',');
    names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn updates(object: &Value) -> Updates {
    let spec = &object["spec"];
    let strategy = &spec["updateStrategy"];
    if spec["paused"] == true {
        return Updates::Paused;
    }
    if strategy["type"] == "OnDelete" {
        return Updates::OnDelete;
    }
    match strategy["rollingUpdate"]["partition"].as_i64() {
        Some(partition) if partition > 0 => Updates::Partition(partition),
        _ => Updates::Rolling,
    }
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

pub(super) fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
