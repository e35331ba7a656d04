//! Whether the former pair is kept at a renewal.

use jiff::Timestamp;

use crate::{
    api::{DatabaseUserCertificateSpec, Reason},
    certificate::CertificateFacts,
};

/// Whether the pair that a new one replaces is kept beside it.
///
/// It must be of use still: in date, for the same subject, and replaced for a cause that says nothing against it.
#[must_use]
pub fn keeps_previous(
    spec: &DatabaseUserCertificateSpec,
    cause: Reason,
    former: &CertificateFacts,
    new: &CertificateFacts,
    now: Timestamp,
) -> bool {
    let is_of_use = matches!(cause, Reason::RenewalDue | Reason::RenewalRequested | Reason::PrivateKeyChanged);
    spec.keep_previous
        && is_of_use
        && former.serial_number != new.serial_number
        && former.subject == new.subject
        && former.not_after > now
}
