//! How a request for a certificate ends.

use jiff::{SignedDuration, Timestamp};

use crate::api::Reason;

/// Whether a failed request may have made a certificate all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minted {
    /// Certainly not.
    No,
    /// It may have: the certificate is counted.
    Possibly,
}

/// When a failed request is worth repeating, if nothing that it depends on changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before this long, whatever changes: the issuer said so.
    NotBefore(SignedDuration),
    /// Not before this time, whatever changes: until then it cannot succeed.
    At(Timestamp),
    /// After a delay that doubles with each failure: the fault passes by itself.
    Backoff,
    /// About hourly: a person has to change something, perhaps where the operator cannot see it.
    Slowly,
}

/// An issuer refused, or failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct IssueError {
    /// The reason in conditions, Events and metrics.
    pub reason: Reason,
    /// What happened and what to change; never holds a secret.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
    /// Whether a certificate may have been made.
    pub minted: Minted,
}
