//! Whether the certificate in the Secret serves: for the object, for the Pods that read it, and without a renewal.

use jiff::Timestamp;

use super::{
    Desired, Inputs, IssuerFacts, Observed, SecretState, SecretView,
    compromised::is_compromised,
    desired::{username, wanted_subject},
    forced::{forced, heeded},
    renewal_time,
};
use crate::{
    api::{CertificateFailure, DatabaseUserCertificate, IssuerIdentity, Reason, names::ADOPT_SECRET_ANNOTATION},
    certificate::CertificateFacts,
};

/// The Secret with a certificate that serves as it is, and its renewal time; else the cause for a new one.
pub(super) fn certificate_in_service<'a>(
    desired: &Desired,
    issuer: &IssuerFacts,
    observed: &'a Observed,
    now: Timestamp,
) -> Result<(&'a SecretView, Timestamp), Reason> {
    let view = observed.secret.ours().ok_or(Reason::NoCertificate)?;
    let certificate = view.certificate.as_ref().map_err(|_| Reason::PairUnusable)?;
    if certificate.subject != desired.subject {
        return Err(Reason::SubjectChanged);
    }
    if from_other_issuer(view, issuer) {
        return Err(Reason::IssuerChanged);
    }
    if is_compromised(desired, observed) {
        return Err(Reason::Compromised);
    }
    if desired.private_key().is_some_and(|wanted| wanted != certificate.private_key) {
        return Err(Reason::PrivateKeyChanged);
    }
    if certificate.not_after <= now {
        return Err(Reason::Expired);
    }
    if cannot_be_rebuilt(view, desired, issuer, observed) {
        return Err(Reason::ChainBroken);
    }
    let renewal_time = renewal_time(certificate, desired.renew_before, &desired.uid);
    let is_due = renewal_time <= now;
    let has_old_chain = !view.has_current_chain(issuer, &observed.status);
    // A forced renewal that has to wait delays no renewal that is due, and no repair of the chain.
    let forced = if is_due || has_old_chain { heeded(desired, observed, now) } else { forced(desired, observed) };
    match forced {
        Some(forced) => Err(forced),
        None if is_due => Err(Reason::RenewalDue),
        None => Ok((view, renewal_time)),
    }
}

/// Whether the certificate in the Secret serves and nothing asks for a new one.
pub(super) fn serves_as_it_is(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> bool {
    let Some(issuer) = observed.issuer.usable() else { return false };
    Desired::new(object, issuer).is_ok_and(|desired| certificate_in_service(&desired, issuer, observed, now).is_ok())
}

/// Whether a repair has shown that this certificate does not verify with the issuer's chain: the CA's key identifier changed, or
/// another CA made it and the annotation is lost. The failure or its cause tells, so it holds after a failed attempt too.
fn cannot_be_rebuilt(view: &SecretView, desired: &Desired, issuer: &IssuerFacts, observed: &Observed) -> bool {
    let is_about_it = |failure: &CertificateFailure| {
        let is_chain_broken = |reason: &str| reason == Reason::ChainBroken.as_str();
        (is_chain_broken(&failure.reason) || failure.cause.as_deref().is_some_and(is_chain_broken))
            && Inputs::of(failure) == Some(Inputs::new(desired, issuer))
    };
    observed.status.failure.as_ref().is_some_and(is_about_it) && !view.has_current_chain(issuer, &observed.status)
}

/// The annotation is compared only where it is present: one that was removed is put back, and costs no certificate.
fn from_other_issuer(view: &SecretView, issuer: &IssuerFacts) -> bool {
    view.issuer.as_ref().is_some_and(|identity| *identity != issuer.identity)
}

/// The certificate that makes the object Ready: it parses, fits its key, is for this user and issuer, and is in date.
///
/// If the issuer is not usable, the certificate counts as from the right one: Ready becomes False only when Pods would fail.
///
/// # Errors
/// The reason why there is none, and a sentence.
pub fn ready_certificate<'a>(
    object: &DatabaseUserCertificate,
    observed: &'a Observed,
    now: Timestamp,
) -> Result<&'a CertificateFacts, (Reason, String)> {
    if let Some(message) = not_owned(object, &observed.secret) {
        return Err((Reason::SecretNotOwned, message));
    }
    let Some(view) = observed.secret.ours() else {
        return Err((Reason::NoCertificate, "there is no certificate yet".to_owned()));
    };
    let certificate = view.certificate.as_ref().map_err(|fault| (Reason::PairUnusable, fault.clone()))?;
    if let Some(fault) = &view.spoilt {
        return Err((Reason::PairUnusable, fault.clone()));
    }
    if let Some(fault) = &view.chain.fault {
        return Err((Reason::ChainBroken, format!("the Secret does not verify: {fault}")));
    }
    if certificate.not_after <= now {
        return Err((Reason::Expired, format!("the certificate expired at {}", certificate.not_after)));
    }
    if let Some(not_after) = view.chain.not_after.filter(|not_after| *not_after <= now) {
        return Err((
            Reason::ChainBroken,
            format!("a certificate of the CA in the Secret expired at {not_after}: renew the CA"),
        ));
    }
    if certificate.not_before > now {
        let message = format!(
            "the certificate is valid from {} on: compare this machine's clock with the issuer's",
            certificate.not_before
        );
        return Err((Reason::NotYetValid, message));
    }
    let issuer = observed.issuer.usable();
    // Without the AtlasDatabaseUser that names it, the user of the certificate is taken to be the right one too.
    let wanted = username(object, issuer).map(|user| wanted_subject(object, user)).transpose();
    let wanted = wanted.map_err(|invalid| (Reason::InvalidSpec, invalid.0))?;
    if let Some(wanted) = wanted.filter(|wanted| certificate.subject != *wanted) {
        return Err((Reason::SubjectChanged, format!("the certificate is for {}, not for {wanted}", certificate.subject)));
    }
    match issuer {
        Some(issuer) if from_other_issuer(view, issuer) => Err((
            Reason::IssuerChanged,
            format!(
                "the certificate is from {}, not from {}",
                view.issuer.as_ref().map_or("an unknown issuer", IssuerIdentity::as_str),
                issuer.identity
            ),
        )),
        _ => Ok(certificate),
    }
}

/// What to do about a Secret that this object does not control.
pub(super) fn not_owned(object: &DatabaseUserCertificate, secret: &SecretState) -> Option<String> {
    let name = object.secret_name();
    let other_name = "choose another secretName in a new DatabaseUserCertificate";
    Some(match secret {
        SecretState::Absent | SecretState::Ours(_) => return None,
        SecretState::NotOurs(owner) => {
            format!(
                "the Secret {name} exists and {owner}; it was not touched: {other_name}, or delete that Secret if nothing uses it"
            )
        }
        SecretState::NeededByIssuer(issuer) => {
            format!("the Secret {name} is what {issuer} needs; it was not touched: {other_name}")
        }
        SecretState::Abandoned(found) => match &found.fault {
            Some(fault) => {
                format!(
                    "the Secret {name} exists and {}; it was not touched, and it cannot be adopted, for {fault}: {other_name}",
                    found.whose
                )
            }
            None => format!(
                "the Secret {name} exists and {}; it was not touched: the annotation {ADOPT_SECRET_ANNOTATION}=true on the DatabaseUserCertificate has it taken over",
                found.whose
            ),
        },
    })
}
