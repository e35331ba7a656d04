//! Which pair stands beside a new one.

use jiff::Timestamp;

use crate::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, Reason},
    certificate::{CertificateFacts, SerialNumber},
    compromised::Compromised,
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
/// The pair that is replaced must be of use still: in date, for the same subject, not compromised, and replaced for a cause that says nothing
/// against it.
#[must_use]
pub fn former_pair(
    object: &DatabaseUserCertificate,
    cause: Reason,
    replaced: &CertificateFacts,
    new: &CertificateFacts,
    now: Timestamp,
) -> FormerPair {
    let is_of_use = matches!(cause, Reason::RenewalDue | Reason::RenewalRequested | Reason::PrivateKeyChanged)
        && replaced.subject == new.subject
        && replaced.not_after > now
        && !Compromised::of(object).has(replaced.serial_number.as_str());
    match object.spec.keep_previous {
        true if replaced.serial_number == new.serial_number => FormerPair::AsItIs,
        true if is_of_use => FormerPair::Replaced,
        _ => FormerPair::Nothing,
    }
}

/// Which pair a keystore holds that was last made for this one, if that is another than the present one and the status tells of it: when it
/// expires.
#[must_use]
pub fn former_pair_in_keystore(
    held: Option<&SerialNumber>,
    present: &SerialNumber,
    status: &DatabaseUserCertificateStatus,
) -> Option<Timestamp> {
    let held = held.filter(|held| *held != present)?;
    let issued = status.history.iter().find(|issued| issued.serial_number == held.as_str())?;
    Some(issued.not_after.0)
}

/// Whether the keystore holds a former pair that is of no use any more: it has expired, is compromised, or a certificate after it was issued
/// for a cause that is against it. `cause` is that of the present one, which the status may not tell of yet.
///
/// A pair that was damaged in the other entries (`PairUnusable`) may work in the keystore, so that cause is not against it.
#[must_use]
pub fn has_useless_keystore(
    object: &DatabaseUserCertificate,
    held: Option<&SerialNumber>,
    present: &SerialNumber,
    cause: Option<Reason>,
    status: &DatabaseUserCertificateStatus,
    now: Timestamp,
) -> bool {
    let Some(held) = held.filter(|held| *held != present) else { return false };
    let later = status.history.iter().take_while(|issued| issued.serial_number != held.as_str());
    let mut causes = later.filter_map(|issued| Reason::from_name(&issued.reason)).chain(cause);
    let has_expired = former_pair_in_keystore(Some(held), present, status).is_some_and(|not_after| not_after <= now);
    has_expired || Compromised::of(object).has(held.as_str()) || causes.any(Reason::is_against_former_certificate)
}
