//! Whether there is a namespace in which nothing was found.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, core::PartialObjectMeta};
use usercert_operator_controller::Received;

use crate::{cluster::Cluster, exit::CliError};

/// [`must_exist`], if nothing was found in the one namespace that was looked at. A list of a namespace that is not there is empty, as that of a namespace without objects is.
///
/// # Errors
/// The API server says that there is no such namespace.
pub(super) async fn must_exist_if_empty(cluster: &Cluster, is_empty: bool, all_namespaces: bool) -> Result<(), CliError> {
    if is_empty && !all_namespaces { must_exist(cluster).await } else { Ok(()) }
}

/// The error that there is no such namespace.
///
/// Whoever may not look at the namespace is told nothing of it.
///
/// # Errors
/// The API server says that there is no such namespace.
pub(super) async fn must_exist(cluster: &Cluster) -> Result<(), CliError> {
    let namespace = &cluster.namespace;
    let api = Api::<Received<PartialObjectMeta<Namespace>>>::all(cluster.client.clone());
    match cluster.ask(format!("look at the namespace {namespace}"), api.get(namespace)).await {
        Err(error) if error.is_missing() => Err(CliError::NotFound(format!(
            "there is no namespace {namespace}: give another one with -n, or see that --context is the cluster that you mean"
        ))),
        _ => Ok(()),
    }
}
