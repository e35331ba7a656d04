//! The custom resources of group `usercert.dev`, version `v1alpha1`, and the vocabulary that they share.

mod certificate;
mod certificate_status;
mod condition;
mod connection;
mod formats;
mod forms;
mod issuer;
mod keys;
pub mod names;
mod reason;
mod rollout;

pub use certificate::{
    DatabaseUserCertificate, DatabaseUserCertificateSpec, DeletionPolicy, IssuerKind, IssuerReference, ObjectName, PrivateKey,
    PrivateKeyAlgorithm,
};
pub use certificate_status::{
    CertificateFailure, ClaimedUser, DatabaseUserCertificateStatus, Issuance, IssuedCertificate, ListedBefore, SecretBinding,
    UnaccountedCertificate, UnaccountedCertificates, UnlistedClaim, VerifiedSecret,
};
pub use condition::{
    ISSUING, MESSAGE_CHARACTERS, READY, RENEWAL_FAILED, ROLLED_OUT, STALLED, condition, printable, remove_condition,
    set_condition, set_stalled, truncated_to_second,
};
pub use connection::{Connection, ConnectionOption, DatabaseType};
pub use formats::{FormatType, SecretFormat, SecretKeyReference, SecretTemplate};
pub use issuer::{
    AllowedUse, AtlasApiVersion, AtlasIssuerSpec, CaIssuerSpec, CertificateIssuer, ClusterCertificateIssuer, ClusterIssuerSpec,
    IssuerSource, IssuerSpec, IssuerStatus, IssuerType, NamespaceChoice, ProjectReference, SecretName,
};
pub use keys::{IssuerIdentity, IssuerKey, NamespacedName, ObjectKey, SecretLocation};
pub use reason::{Reason, Remedy, Severity};
pub use rollout::{BegunWorkload, Day, Rollout, RolloutStatus, RolloutWindow, WorkloadReference};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube_core::CustomResourceExt;

/// The definitions of all custom resources, in the order in which they are printed.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    [DatabaseUserCertificate::crd(), CertificateIssuer::crd(), ClusterCertificateIssuer::crd()].map(with_default_status).into()
}

/// Gives the status of each object the default `observedGeneration: -1`, until the operator has written one. Without it
/// kstatus, and so Flux, takes an object without a status for one that is ready. Flux sets the same default in its own
/// definitions.
fn with_default_status(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas =
        definition.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for status in schemas.filter_map(|schema| schema.properties.as_mut()?.get_mut("status")) {
        status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_nobody_has_touched_is_of_no_generation() {
        for definition in custom_resource_definitions() {
            let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let status = schema.and_then(|schema| schema.properties.as_ref()?.get("status"));
            let default = status.and_then(|status| status.default.clone());
            assert_eq!(default, Some(JSON(serde_json::json!({ "observedGeneration": -1 }))), "{:?}", definition.metadata.name);
        }
    }

    #[test]
    fn kubectl_explain_shows_no_syntax_of_rustdoc() {
        let definitions = include_str!("../../../crds/crds.yaml");
        let links: Vec<&str> = definitions.lines().filter(|line| line.contains("[`") || line.contains("`]")).collect();
        assert_eq!(links, Vec::<&str>::new());
    }
}
