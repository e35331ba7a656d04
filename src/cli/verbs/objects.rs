//! The objects that more than one verb reads.

use kube::{Api, api::ListParams};
use usercert_operator_controller::Received;
use usercert_operator_core::api::DatabaseUserCertificate;

use crate::{arguments::Selection, cluster::Cluster, exit::CliError};

/// A certificate as far as it can be read.
pub(super) type Certificate = Received<DatabaseUserCertificate>;

/// The certificates of these names in the namespace, or those that the selection takes.
pub(super) async fn certificates(
    cluster: &Cluster,
    names: &[String],
    selection: &Selection,
) -> Result<Vec<Certificate>, CliError> {
    if names.is_empty() {
        let parameters = ListParams::default().labels(selection.selector.as_deref().unwrap_or_default());
        return cluster.list("certificates", &certificates_api(cluster, selection.all_namespaces), &parameters).await;
    }
    let mut found = Vec::new();
    for name in names {
        found.push(certificate(cluster, name).await?);
    }
    Ok(found)
}

/// The certificate of this name in the namespace.
pub(super) async fn certificate(cluster: &Cluster, name: &str) -> Result<Certificate, CliError> {
    let namespace = &cluster.namespace;
    let found = cluster.ask(format!("read the certificate {name}"), certificates_api(cluster, false).get_opt(name)).await?;
    found.ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no DatabaseUserCertificate {name} in the namespace {namespace}: kubectl usercert status -n {namespace} lists those that are there"
        ))
    })
}

fn certificates_api(cluster: &Cluster, all_namespaces: bool) -> Api<Certificate> {
    match all_namespaces {
        true => Api::all(cluster.client.clone()),
        false => Api::namespaced(cluster.client.clone(), &cluster.namespace),
    }
}
