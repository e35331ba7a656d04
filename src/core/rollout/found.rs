//! What a plan depends on.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Outside, RolledCertificate, Workload};
use crate::api::{RolloutStatus, WorkloadReference};

/// So many names are kept in the status.
pub(super) const MOST_NAMES: usize = 20;

/// What was found in the namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The workloads that follow the certificate.
    pub workloads: Vec<Workload>,
    /// Those that the spec names and that do not exist.
    pub missing: Vec<WorkloadReference>,
    /// Those that the spec names and that have no pod template, such as an Argo Rollout with `workloadRef`.
    pub without_template: Vec<WorkloadReference>,
    /// Further kinds of workloads that the API server does not serve, and what is wrong with each.
    pub not_served: Vec<String>,
    /// What uses the Secret besides them; `None` if it was not looked for.
    pub outside: Option<Outside>,
    /// Workloads whose change was refused or did not stay, a short while ago, and why.
    pub refused: Vec<(WorkloadReference, String)>,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The certificate.
    pub certificate: &'a RolledCertificate,
    /// The others of the namespace with a rollout.
    pub others: &'a [RolledCertificate],
    /// The names of all objects of the namespace, with a rollout or without.
    pub objects: &'a BTreeSet<String>,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The value of the annotation that asks to go on.
    pub resume: Option<&'a str>,
    /// The status as it was.
    pub status: Option<&'a RolloutStatus>,
    /// What was found.
    pub found: &'a Found,
    /// Now.
    pub now: Timestamp,
}
