//! The custom resources of group `usercert.dev`, version `v1alpha1`, and the vocabulary that they share.

mod certificate;
mod condition;
mod issuer;
pub mod names;
mod reason;

pub use certificate::{
    CertificateFailure, DatabaseUserCertificate, DatabaseUserCertificateSpec, DatabaseUserCertificateStatus, Issuance,
    IssuedCertificate, IssuerKind, IssuerReference, ObjectName, PrivateKey, PrivateKeyAlgorithm, UnaccountedCertificate,
    UnaccountedCertificates, VerifiedSecret,
};
pub use condition::{ISSUING, MESSAGE_CHARACTERS, READY, condition, printable, set_condition, truncated_to_second};
pub use issuer::{
    AllowedUse, AtlasApiVersion, AtlasIssuerSpec, CaIssuerSpec, CertificateIssuer, ClusterCertificateIssuer, ClusterIssuerSpec,
    IssuerSpec, IssuerStatus, NamespaceChoice, ProjectReference, SecretName,
};
pub use reason::{Reason, Severity};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The definitions of all custom resources, in the order in which they are printed.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    vec![DatabaseUserCertificate::crd(), CertificateIssuer::crd(), ClusterCertificateIssuer::crd()]
}
