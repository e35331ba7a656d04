//! What becomes of a certificate that is in memory alone: it is written, kept, or given up for the one in the Secret.

use jiff::Timestamp;

use super::{
    Decision, IssuerState, Observed, SaveFailure, UnsavedCertificate,
    desired::{NO_USERNAME, username},
    hold::repaired_first,
    in_service::{ready_certificate, serves_as_it_is},
    issuer::missing_issuer,
};
use crate::{
    api::{DatabaseUserCertificate, Reason},
    certificate::CertificateFacts,
};

/// A certificate that is in memory alone is written now, or after the wait that follows a failed write.
pub(super) fn save(unsaved: &UnsavedCertificate, now: Timestamp) -> Decision {
    match &unsaved.failure {
        Some(failure @ SaveFailure { until, reason, message }) if failure.holds(now) => {
            let serial_number = &unsaved.certificate.serial_number;
            Decision::Wait {
                until: *until,
                reason: *reason,
                message: format!("certificate {serial_number} was issued, but the Secret could not be written: {message}"),
            }
        }
        _ => Decision::Save,
    }
}

/// What is done while nobody knows which of two certificates is wanted (see [`is_undecided`]). Both stay: the one in the Secret, and the one in
/// memory with the claim that counts it.
pub(super) fn keep_both(
    object: &DatabaseUserCertificate,
    observed: &Observed,
    unsaved: &UnsavedCertificate,
    now: Timestamp,
) -> Option<Decision> {
    if !is_undecided(object, observed, unsaved, now) {
        return None;
    }
    let (reason, why) = match &observed.issuer {
        IssuerState::Unknown => return Some(Decision::Await),
        IssuerState::Missing => (Reason::IssuerNotFound, missing_issuer(object)),
        IssuerState::Unusable(reason, message) => (*reason, message.clone()),
        IssuerState::Usable(_) => (Reason::InvalidSpec, NO_USERNAME.to_owned()),
    };
    let CertificateFacts { serial_number, subject, .. } = &unsaved.certificate;
    let message = format!(
        "{why}; until it is known which user is wanted, certificate {serial_number} for {subject} is kept in memory, and the one in the Secret stays"
    );
    let refusal = Decision::block(reason, message);
    Some(if object.spec.suspend { refusal } else { repaired_first(object, refusal, observed, now) })
}

/// Whether nobody knows which certificate is wanted. The one in the Secret is in date and has another subject than the one in memory, and the
/// issuer does not tell the user: the `AtlasDatabaseUser` that `userRef` names cannot be used now. Its user may be either.
pub(super) fn is_undecided(
    object: &DatabaseUserCertificate,
    observed: &Observed,
    unsaved: &UnsavedCertificate,
    now: Timestamp,
) -> bool {
    let is_user_known = observed.is_spec_unreadable || username(object, observed.issuer.usable()).is_some();
    let is_other = |present: &CertificateFacts| present.subject != unsaved.certificate.subject && present.not_after > now;
    !is_user_known && observed.secret.certificate().is_some_and(is_other)
}

/// Whether the certificate in memory was asked for after the one in the Secret, so far as times and the claim tell. A process that stops goes
/// by that where [`is_undecided`] holds, because it cannot wait: what was asked for last is what was wanted last.
pub(super) fn was_asked_for_last(observed: &Observed, unsaved: &UnsavedCertificate) -> bool {
    observed.secret.certificate().is_none_or(|present| {
        stood_at_claim(observed, present, unsaved) || present.not_before <= unsaved.certificate.not_before
    })
}

/// Whether this certificate stood in the Secret when the one in memory was claimed, and the claim still stands.
fn stood_at_claim(observed: &Observed, present: &CertificateFacts, unsaved: &UnsavedCertificate) -> bool {
    let status = &observed.status;
    let is_claimed = status.issuance.as_ref().is_some_and(|claim| unsaved.claim.as_ref() == Some(&claim.id));
    is_claimed && status.serial_number.as_deref() == Some(present.serial_number.as_str())
}

/// Whether the certificate in memory is given up for the one in the Secret. If so, the one in memory is counted as unaccounted.
///
/// The certificate in the Secret must work for what the spec asks for, or both must be for a user that it asks for no more. The first line that
/// fits decides:
///
/// | The certificate in the Secret | The one in memory |
/// | --- | --- |
/// | has another subject, and the user of `userRef` is not known now | is kept, and not written either: [`keep_both`] |
/// | has another subject: the spec was changed back meanwhile | is given up |
/// | has another subject, and the spec cannot be read | is kept, for nobody knows which one is wanted |
/// | stood in the Secret when the one in memory was claimed, and the claim still stands | is kept, even if it begins earlier (the issuer's clock was set back) |
/// | begins later: another process made it while this one was paused | is given up |
/// | begins in the same second (RFC 5280 section 4.1.2.5 knows no less), and nothing asks for a new one | is given up |
/// | begins earlier | is kept |
///
/// The end of validity tells nothing, for the spec may ask for shorter lifetimes now.
pub(super) fn is_superseded(
    object: &DatabaseUserCertificate,
    observed: &Observed,
    unsaved: &UnsavedCertificate,
    now: Timestamp,
) -> bool {
    if is_undecided(object, observed, unsaved, now) {
        return false;
    }
    let certificate = &unsaved.certificate;
    let is_alike = |present: &&CertificateFacts| present.subject == certificate.subject;
    let ready = match ready_certificate(object, observed, now) {
        Ok(ready) => Some(ready),
        Err((Reason::SubjectChanged, _)) => observed.secret.certificate().filter(is_alike),
        Err(_) => None,
    };
    let Some(ready) = ready else { return false };
    if ready.subject != certificate.subject {
        return !observed.is_spec_unreadable;
    }
    if stood_at_claim(observed, ready, unsaved) {
        return false;
    }
    let begins_together = ready.not_before == certificate.not_before && ready.serial_number != certificate.serial_number;
    ready.not_before > certificate.not_before || begins_together && serves_as_it_is(object, observed, now)
}
