//! The objects that more than one verb reads.

use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use usercert_operator_controller::Received;
use usercert_operator_core::api::DatabaseUserCertificate;

use crate::{
    arguments::{Selection, Targets},
    cluster::Cluster,
    exit::CliError,
};

/// The name in which this program writes, as `managedFields` have it.
pub(super) const MANAGER: &str = "kubectl-usercert";

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

/// Refuses to change all certificates of all namespaces without a word that says so.
///
/// # Errors
/// The word is missing.
pub(super) fn confirmed(targets: &Targets) -> Result<(), CliError> {
    if targets.all && targets.selection.all_namespaces && !targets.yes {
        return Err(CliError::Usage(
            "this changes all certificates of all namespaces: give --yes to do it, or --dry-run to see which they are"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The certificates that are to be changed, that which expires first in front.
pub(super) async fn targets(cluster: &Cluster, targets: &Targets) -> Result<Vec<Certificate>, CliError> {
    let mut found = certificates(cluster, &targets.names, &targets.selection).await?;
    if found.is_empty() {
        return Err(CliError::NotFound(
            "there are no such certificates: kubectl usercert status lists those that are there".to_owned(),
        ));
    }
    let not_after = |object: &Certificate| object.status.as_ref()?.not_after.as_ref().map(|time| time.0);
    // One without a certificate needs one most.
    found.sort_by_key(|object| (not_after(object), object.namespace(), object.name_any()));
    Ok(found)
}

/// Changes an object by a merge patch, if it is still the one that was read, and returns it as it is then. `dry_run`: the API server checks the patch and stores nothing.
///
/// # Errors
/// The API server refuses it, or the object was deleted and created anew meanwhile.
pub(super) async fn change(
    cluster: &Cluster,
    object: &Certificate,
    mut patch: serde_json::Value,
    dry_run: bool,
) -> Result<Certificate, CliError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    patch["metadata"]["uid"] = serde_json::json!(object.uid());
    let api = Api::<Certificate>::namespaced(cluster.client.clone(), &namespace);
    let parameters = PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let operation = format!("change the certificate {namespace}/{name}");
    cluster.ask(operation, api.patch(&name, &parameters, &Patch::Merge(patch))).await
}

/// The certificate of this name in the namespace.
pub(super) async fn certificate(cluster: &Cluster, name: &str) -> Result<Certificate, CliError> {
    certificate_of(cluster, &cluster.namespace, name).await
}

/// The certificate of this name in any namespace.
pub(super) async fn certificate_of(cluster: &Cluster, namespace: &str, name: &str) -> Result<Certificate, CliError> {
    let api = Api::<Certificate>::namespaced(cluster.client.clone(), namespace);
    let found = cluster.find(format!("read the certificate {name}"), &api, name).await?;
    found.ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no DatabaseUserCertificate {name} in the namespace {namespace}: kubectl usercert status -n {namespace} lists those that are there"
        ))
    })
}

fn certificates_api(cluster: &Cluster, all_namespaces: bool) -> Api<Certificate> {
    if all_namespaces { Api::all(cluster.client.clone()) } else { Api::namespaced(cluster.client.clone(), &cluster.namespace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_certificates_of_all_namespaces_are_changed_only_on_a_word() {
        let targets = |all, all_namespaces, yes| Targets {
            names: Vec::new(),
            all,
            yes,
            selection: Selection { all_namespaces, selector: None },
        };
        assert!(confirmed(&targets(true, true, false)).is_err_and(|error| error.exit() == crate::exit::Exit::Usage));
        for taken in [targets(true, true, true), targets(true, false, false), targets(false, true, false)] {
            assert!(confirmed(&taken).is_ok());
        }
    }
}
