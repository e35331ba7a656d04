//! Kinds of workloads, and the requests about them. Their objects are read as JSON: one that is odd must not hide the others.

use kube::{
    Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, Request, Resource, Status},
    discovery::ApiResource,
};
use serde_json::Value;

use crate::{
    api::WorkloadReference,
    kubernetes::{KubernetesError, request},
    rollout_rules::Workload,
};

/// A kind of objects in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Kind(pub(super) ApiResource);

impl Kind {
    /// The kinds of workloads that may be moved.
    pub(super) fn all(further: &[ApiResource]) -> Vec<Self> {
        let built_in = ["Deployment", "StatefulSet", "DaemonSet"].map(|kind| Self::built_in("apps", "v1", kind));
        built_in.into_iter().chain(further.iter().cloned().map(Self)).collect()
    }

    /// Pods.
    pub(super) fn pods() -> Self {
        Self::built_in("", "v1", "Pod")
    }

    /// Jobs.
    pub(super) fn jobs() -> Self {
        Self::built_in("batch", "v1", "Job")
    }

    /// One whose resource is the plural of its kind.
    fn built_in(group: &str, version: &str, kind: &str) -> Self {
        Self(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
    }

    /// Whether the workload is of this kind.
    pub(super) fn is_of(&self, workload: &WorkloadReference) -> bool {
        self.0.api_version == workload.api_version && self.0.kind == workload.kind
    }

    /// Resource and group, such as `deployments.apps`, as RBAC rules are read.
    pub(super) fn resource(&self) -> String {
        if self.0.group.is_empty() { self.0.plural.clone() } else { format!("{}.{}", self.0.plural, self.0.group) }
    }

    /// What is wrong if the API server has no such resource, or no resource of a namespace.
    pub(super) fn not_served(&self) -> String {
        let ApiResource { kind, plural, api_version, .. } = &self.0;
        format!("{kind} is not served as {plural} of {api_version}")
    }

    /// What is wrong if an object that the API server gave for this resource is of another kind. Objects of built-in kinds do not say
    /// theirs in a list.
    pub(super) fn other_kind(&self, object: &Value) -> Option<String> {
        let ApiResource { kind, plural, api_version, .. } = &self.0;
        let other = object["kind"].as_str().filter(|other| other != kind)?;
        Some(format!("{plural} of {api_version} are of kind {other}, not {kind}"))
    }

    /// An object of this kind as a workload.
    pub(super) fn read(&self, object: &Value) -> Option<Workload> {
        Workload::read(&self.0.api_version, &self.0.kind, object)
    }

    /// Which object of this kind it is; `None` if it has no name.
    pub(super) fn reference(&self, object: &Value) -> Option<WorkloadReference> {
        let (api_version, kind) = (self.0.api_version.clone(), self.0.kind.clone());
        Some(WorkloadReference { api_version, kind, name: object["metadata"]["name"].as_str()?.to_owned() })
    }

    /// One object; `None` if it does not exist. That its kind is not served is an error: this answer names no object.
    pub(super) async fn get(&self, client: &Client, namespace: &str, name: &str) -> Result<Option<Value>, KubernetesError> {
        let built = self.requests(namespace).get(name, &kube::api::GetParams::default()).map_err(kube::Error::BuildRequest);
        request("read a workload", async {
            match client.request::<Value>(built?).await {
                Ok(found) => Ok(Some(found)),
                Err(kube::Error::Api(status)) if status.code == 404 && names(&status, name) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Applies a patch to one object.
    pub(super) async fn patch(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        parameters: &PatchParams,
        patch: &Value,
    ) -> Result<Value, KubernetesError> {
        let built = self.requests(namespace).patch(name, parameters, &Patch::Apply(patch)).map_err(kube::Error::BuildRequest);
        request("patch a workload", async { client.request::<Value>(built?).await }).await
    }

    /// The requests for its objects in a namespace.
    pub(super) fn requests(&self, namespace: &str) -> Request {
        Request::new(DynamicObject::url_path(&self.0, Some(namespace)))
    }
}

/// Whether an answer is about this object. The API conventions ask this of a 404 (`details.name`); where the path leads nowhere, the
/// answer is a bare text.
fn names(status: &Status, name: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.name == name)
}
