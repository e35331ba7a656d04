//! Which pair stands beside a new one.

use jiff::Timestamp;

use crate::{
    api::{DatabaseUserCertificateSpec, Reason},
    certificate::CertificateFacts,
};

/// Which pair stands beside a new one after its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormerPair {
    /// None.
    Nothing,
    /// The one that the new one replaces.
    Replaced,
    /// The one that stands there already: the Secret holds the new certificate, for the answer to its write was lost.
    AsItIs,
}

/// Which pair stands beside a new certificate that is written over this one.
///
/// The pair that is replaced must be of use still: in date, for the same subject, and replaced for a cause that says nothing against it.
#[must_use]
pub fn former_pair(
    spec: &DatabaseUserCertificateSpec,
    cause: Reason,
    replaced: &CertificateFacts,
    new: &CertificateFacts,
    now: Timestamp,
) -> FormerPair {
    let is_of_use = matches!(cause, Reason::RenewalDue | Reason::RenewalRequested | Reason::PrivateKeyChanged)
        && replaced.subject == new.subject
        && replaced.not_after > now;
    match spec.keep_previous {
        true if replaced.serial_number == new.serial_number => FormerPair::AsItIs,
        true if is_of_use => FormerPair::Replaced,
        _ => FormerPair::Nothing,
    }
}
