//! A renewal that is ahead.

use jiff::Timestamp;
use serde::Serialize;

/// One renewal: the next one of a certificate at the time that the operator has set, later ones where they will be if lifetimes stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Renewal {
    pub(super) time: Timestamp,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) issuer: String,
    /// Whether it is estimated: the time depends on a certificate that is not there yet.
    pub(super) is_estimate: bool,
    /// When the workloads follow, if a rollout window has to be waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workloads_from: Option<Timestamp>,
}
