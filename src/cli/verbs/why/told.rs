//! All that `why` tells.

use serde::Serialize;

use crate::verbs::leader::Leader;

/// All that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Why {
    pub(super) namespace: String,
    pub(super) name: String,
    /// In a few words; `None` if too little could be read.
    pub(super) decision: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    /// Whether the certificate in the Secret works, and until when.
    pub(super) in_service: Option<String>,
    pub(super) checks: Vec<ToldCheck>,
    /// What the operator itself says, as its conditions have it.
    pub(super) operator_says: Vec<String>,
    /// Where the two differ.
    pub(super) differs: Option<String>,
    pub(super) leader: Leader,
    /// Clocks that are wrong. What is told of times is off then.
    pub(super) clocks: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) needs_attention: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToldCheck {
    pub(super) statement: &'static str,
    pub(super) result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// How a check came out, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    Passed,
    NeedsCertificate,
    Settles,
    NotReached,
    OnlyTheOperatorKnows,
    /// It rests on what was not read.
    NotLookedAt,
}
