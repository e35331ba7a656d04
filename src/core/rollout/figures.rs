//! How far a rollout is, in figures for metrics.

use jiff::Timestamp;

use super::RolledCertificate;
use crate::api::{DatabaseUserCertificate, RolloutStatus};

/// How far the workloads of an object are with the certificate in its Secret. All of it is in the status, so it costs no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The certificate in the Secret.
    pub serial_number: String,
    /// How many workloads are to be on it.
    pub workloads: i64,
    /// How many of them are known to be.
    pub moved: i64,
    /// Whether nothing is left to do.
    pub is_complete: bool,
    /// When the certificate expires that the others may still use; `None` if the rollout is complete.
    pub old_not_after: Option<Timestamp>,
    /// From when on windows do not hold; `None` if the rollout is complete or has no windows.
    pub regardless_of_windows_after: Option<Timestamp>,
}

impl Figures {
    /// Of an object with this certificate. `None` if nobody has looked at its workloads yet.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate, certificate: &RolledCertificate) -> Option<Self> {
        let rollout = object.status.as_ref()?.rollout.as_ref()?;
        let figures = Self {
            serial_number: certificate.serial_number.clone(),
            workloads: rollout.workloads,
            moved: 0,
            is_complete: false,
            old_not_after: old_not_after(Some(rollout), certificate),
            regardless_of_windows_after: None,
        };
        if rollout.serial_number != certificate.serial_number {
            // The certificate is new, and its workloads were not looked at since.
            return Some(figures);
        }
        let unless_complete = |time: Option<Timestamp>| time.filter(|_| !rollout.complete);
        Some(Self {
            moved: rollout.moved,
            is_complete: rollout.complete,
            old_not_after: unless_complete(figures.old_not_after),
            regardless_of_windows_after: unless_complete(rollout.regardless_of_windows_after.as_ref().map(|time| time.0)),
            ..figures
        })
    }
}

/// When the certificate expires that pods may have besides the new one, from the status of the last look. Of several the earliest counts.
pub(super) fn old_not_after(rollout: Option<&RolloutStatus>, certificate: &RolledCertificate) -> Option<Timestamp> {
    let known = rollout.and_then(|rollout| rollout.old_not_after.as_ref()).map(|time| time.0);
    match rollout {
        Some(rollout) if rollout.serial_number == certificate.serial_number => known,
        // What an incomplete rollout has not moved may have the one before.
        Some(rollout) => certificate.previous_not_after.into_iter().chain(known.filter(|_| !rollout.complete)).min(),
        // Pods that no rollout has moved may have any of the older ones.
        None => certificate.first_not_after.or(certificate.previous_not_after),
    }
}
