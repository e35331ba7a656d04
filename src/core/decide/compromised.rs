//! What follows for a certificate whose key is known to others.

use super::{Decision, Desired, Observed};
use crate::{
    api::{Reason, names::COMPROMISED_ANNOTATION},
    certificate::SerialNumber,
    compromised::Compromised,
};

/// Whether the certificate in the Secret is compromised.
pub(super) fn is_compromised(desired: &Desired, observed: &Observed) -> bool {
    observed.secret.certificate().is_some_and(|certificate| desired.compromised.has(certificate.serial_number.as_str()))
}

/// Whether the certificate in the Secret is compromised, and no other was issued for this cause lately. Otherwise limits count, because
/// somebody may put the compromised one back into the Secret, again and again.
pub(super) fn is_newly_compromised(desired: &Desired, observed: &Observed) -> bool {
    let present = observed.secret.certificate().map(|certificate| certificate.serial_number.as_str());
    let mut others = observed.status.history.iter().filter(|issued| Some(issued.serial_number.as_str()) != present);
    is_compromised(desired, observed) && others.all(|issued| issued.reason != Reason::Compromised.as_str())
}

/// What the annotation leads to that is not seen otherwise: what in it counts for nothing, and that a suspended object keeps
/// compromised certificates.
pub(super) fn compromised_notes(compromised: &Compromised, observed: &Observed, decision: &Decision) -> Vec<String> {
    let found = observed.secret.certificate().map(|found| &found.serial_number);
    let in_history = |serial_number: &SerialNumber| {
        observed.status.history.iter().any(|issued| issued.serial_number == serial_number.as_str())
    };
    let is_kept = |serial_number: &&SerialNumber| *decision == Decision::Suspend && found == Some(*serial_number);
    let is_unknown = |serial_number: &&SerialNumber| found != Some(*serial_number) && !in_history(serial_number);
    let unreadable = compromised.unreadable().map(|unreadable| {
        format!(
            "the annotation {COMPROMISED_ANNOTATION} must be serial numbers as status.serialNumber has them, separated by commas, and {unreadable:?} is none: what else it names counts"
        )
    });
    let kept = compromised.serial_numbers().find(is_kept);
    let kept = kept.map(|kept| format!("certificate {kept} is compromised, and is renewed when spec.suspend is false"));
    let is_former_kept = |serial_number: &&SerialNumber| {
        let view = observed.secret.ours().filter(|_| *decision == Decision::Suspend);
        found != Some(*serial_number)
            && view.is_some_and(|view| {
                [&view.previous_serial_number, &view.keystore.serial_number]
                    .into_iter()
                    .flatten()
                    .any(|held| held == *serial_number)
            })
    };
    let former_kept = compromised.serial_numbers().find(is_former_kept);
    let former_kept = former_kept.map(|kept| {
        format!("the former certificate {kept} is compromised, and stays in the Secret until spec.suspend is false")
    });
    let unknown = compromised.serial_numbers().find(is_unknown);
    let unknown = unknown.map(|unknown| {
        format!("the annotation {COMPROMISED_ANNOTATION} names {unknown}, which is none of the certificates in status.history")
    });
    [unreadable, kept, former_kept, unknown].into_iter().flatten().collect()
}
