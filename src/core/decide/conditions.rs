//! What the conditions say after a decision.

use jiff::Timestamp;

use super::{
    Decision, Observed,
    compromised::compromised_notes,
    desired,
    in_service::{ready_certificate, serves_as_it_is},
    renewal::unheeded_renew_before,
};
use crate::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, ISSUING, READY, RENEWAL_FAILED, Reason, Severity,
        names::COMPROMISED_ANNOTATION, remove_condition, set_condition, set_stalled,
    },
    certificate::CertificateFacts,
    compromised::Compromised,
};

/// Sets the conditions of the status after a decision.
pub(super) fn set_conditions(
    status: &mut DatabaseUserCertificateStatus,
    object: &DatabaseUserCertificate,
    observed: &Observed,
    decision: &Decision,
    now: Timestamp,
) {
    let generation = object.metadata.generation;
    let (issuing, mut reason, mut message) = issuing(decision);
    let keystore_fault = observed.secret.ours().and_then(|view| view.keystore.fault.as_ref());
    if let Some(fault) = keystore_fault.filter(|_| reason == Reason::Issued) {
        (reason, message) = (Reason::KeystorePasswordUnusable, fault.clone());
    }
    if reason == Reason::Issued {
        message.push_str(&renewal_note(object, observed));
        if let Some(warning) = long_name_warning(observed) {
            message = format!("{message}; {warning}");
        }
    }
    let compromised = Compromised::of(object);
    for note in compromised_notes(&compromised, observed, decision) {
        message = format!("{message}; {note}");
    }
    if reason == Reason::Issued && compromised.unreadable().is_some() {
        reason = Reason::InvalidAnnotation;
    }
    let conditions = &mut status.conditions;
    let ready = ready_certificate(object, observed, now);
    let fails = match &ready {
        Ok(_) => renewal_fails(object, observed, decision, now),
        Err(_) => Some(false),
    };
    match ready {
        Ok(certificate) => {
            let chain = observed.secret.ours().and_then(|view| view.chain.not_after);
            let (reason, message) = in_service(certificate, chain, &compromised);
            set_condition(conditions, READY, true, reason, &message, generation, now);
        }
        // Why there is no new certificate says more than why there is need of one, unless no new one is wanted.
        Err(_)
            if reason != Reason::ObjectBeingDeleted
                && matches!(
                    decision,
                    Decision::Wait { .. } | Decision::Block { .. } | Decision::Queue { .. } | Decision::AwaitKey
                ) =>
        {
            set_condition(conditions, READY, false, reason, &message, generation, now);
        }
        Err((reason, message)) => set_condition(conditions, READY, false, reason, &message, generation, now),
    }
    set_condition(conditions, ISSUING, issuing, reason, &message, generation, now);
    set_stalled(conditions, now);
    match fails {
        Some(true) => set_condition(conditions, RENEWAL_FAILED, true, reason, &message, generation, now),
        Some(false) => remove_condition(conditions, RENEWAL_FAILED),
        None => {}
    }
}

/// True if a working certificate cannot be replaced; `None` while that is tried. If the certificate need not be replaced, a failed
/// repair does not count.
fn renewal_fails(object: &DatabaseUserCertificate, observed: &Observed, decision: &Decision, now: Timestamp) -> Option<bool> {
    match decision {
        Decision::Wait { reason, .. } | Decision::Block { reason, .. } => {
            Some(reason.severity() == Severity::Warning && !serves_as_it_is(object, observed, now))
        }
        Decision::Queue { paused_until: Some(_) } => Some(!serves_as_it_is(object, observed, now)),
        Decision::Keep { .. }
        | Decision::Repair { .. }
        | Decision::Adopt
        | Decision::ApplyDeletionPolicy
        | Decision::Suspend => Some(false),
        Decision::Issue { .. }
        | Decision::LookUpUser { .. }
        | Decision::Queue { paused_until: None }
        | Decision::AwaitKey
        | Decision::Save
        | Decision::CountLostClaim
        | Decision::LookForLost
        | Decision::Await => None,
    }
}

/// A note if `renewBefore` does not fit into the lifetime.
fn renewal_note(object: &DatabaseUserCertificate, observed: &Observed) -> String {
    let wanted = desired::renew_before(object).ok().zip(observed.secret.certificate());
    let unheeded = wanted.and_then(|(wanted, certificate)| unheeded_renew_before(certificate, wanted));
    unheeded.map(|sentence| format!("; {sentence}")).unwrap_or_default()
}

/// What is said of a common name that is longer than RFC 5280 has it, of certificates that a CA issued.
#[must_use]
pub fn long_name_warning(observed: &Observed) -> Option<String> {
    observed.issuer.usable()?.ca()?;
    let certificate = observed.secret.certificate()?;
    let length = certificate.subject.overlong_common_name()?;
    Some(format!("the common name has {length} characters and RFC 5280 allows 64: other programs may refuse it"))
}

/// Reason and message of a certificate that works. One that is compromised works too: databases do not know of it, and Pods that start with it
/// do not fail.
fn in_service(
    certificate: &CertificateFacts,
    chain_not_after: Option<Timestamp>,
    compromised: &Compromised,
) -> (Reason, String) {
    let works = works_until(certificate, chain_not_after);
    if compromised.has(certificate.serial_number.as_str()) {
        let message = format!(
            "{works}; the annotation {COMPROMISED_ANNOTATION} says that its key is known to others: it stays until a new one is in the Secret, and databases let it in until it expires"
        );
        return (Reason::Compromised, message);
    }
    (Reason::Issued, works)
}

fn works_until(certificate: &CertificateFacts, chain_not_after: Option<Timestamp>) -> String {
    let CertificateFacts { serial_number, subject, not_after, .. } = certificate;
    let in_service = format!("certificate {serial_number} for {subject} is valid until {not_after}");
    match chain_not_after.filter(|chain| chain < not_after) {
        Some(chain) => format!("{in_service}, and the CA above it until {chain}: databases refuse it from then on"),
        None => in_service,
    }
}

fn issuing(decision: &Decision) -> (bool, Reason, String) {
    match decision {
        Decision::Await => (false, Reason::NoCertificate, "waiting for the issuer".to_owned()),
        Decision::Keep { wrong_type: Some(wrong_type), .. } => (
            false,
            Reason::SecretTypeWrong,
            format!(
                "the Secret's type is {wrong_type} and cannot be changed: nothing has to be done, for its content is kept up to date. To have the right type, delete the Secret when the issuer can issue: a new certificate follows, and pods that start meanwhile wait for it"
            ),
        ),
        Decision::Repair { renewal_time: None } => {
            (false, Reason::PairUnusable, "the Secret is put right from what is left in it".to_owned())
        }
        Decision::Keep { renewal_time, .. } | Decision::Repair { renewal_time: Some(renewal_time) } => {
            (false, Reason::Issued, format!("nothing to do before {renewal_time}"))
        }
        Decision::Issue { cause, .. } | Decision::LookUpUser { cause, .. } => {
            (true, *cause, "a certificate is being requested".to_owned())
        }
        Decision::Queue { paused_until: Some(until) } => (
            false,
            Reason::AtlasRateLimited,
            format!(
                "Atlas asked this operator to ask nothing more about this project before {until}; certificates of the project that expire sooner go first then"
            ),
        ),
        Decision::Queue { paused_until: None } => (
            true,
            Reason::AtlasQueued,
            "waiting for its turn: certificates of this Atlas project that expire sooner go first".to_owned(),
        ),
        Decision::AwaitKey => (
            true,
            Reason::KeyBeingMade,
            "the private key is being made: RSA keys take long, and namespaces take turns".to_owned(),
        ),
        Decision::Adopt => (false, Reason::SecretAdopted, "the Secret is being taken over".to_owned()),
        Decision::ApplyDeletionPolicy => {
            (false, Reason::DeletionPolicyApplied, "the Secret's controller is being changed".to_owned())
        }
        Decision::Suspend => (
            false,
            Reason::Suspended,
            "spec.suspend is true: nothing is issued, renewed or repaired until it is false".to_owned(),
        ),
        Decision::Save => {
            (true, Reason::SecretNotWritable, "a certificate was issued and is being written to the Secret".to_owned())
        }
        Decision::CountLostClaim | Decision::LookForLost => {
            (false, Reason::AtlasAnswerLost, "the answer to a request was lost".to_owned())
        }
        Decision::Wait { until, reason, message } => (false, *reason, format!("{message}; next attempt at {until}")),
        Decision::Block { reason, message } => (false, *reason, message.clone()),
    }
}
