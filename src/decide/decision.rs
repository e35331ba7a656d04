//! The one function that decides.

use jiff::{SignedDuration, Timestamp};

use super::{
    Desired, IssuerFacts, IssuerState, Observed, SaveRefused, SecretState, SecretView,
    backoff::inputs_digest,
    desired::{username, wanted_subject},
    hold::{after_refused_write, contested, hold, write_was_refused},
    renewal_time,
};
use crate::{
    api::{CertificateFailure, DatabaseUserCertificate, Reason, names::ADOPT_SECRET_ANNOTATION},
    certificate::CertificateFacts,
};

/// How long a write of a certificate that is kept in memory waits at most.
const LONGEST_SAVE_WAIT: SignedDuration = SignedDuration::from_mins(10);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The issuer has not been looked at yet: nothing, not even a status. A watch event follows.
    Await,
    /// The certificate is good.
    Keep {
        /// When it is renewed.
        renewal_time: Timestamp,
        /// The Secret's type, where it is not the one that we give.
        wrong_type: Option<String>,
    },
    /// The certificate is good; what surrounds it in the Secret is not.
    Repair {
        /// When it is renewed; `None` while that cannot be said, for want of a valid spec or a usable issuer.
        renewal_time: Option<Timestamp>,
    },
    /// A certificate is to be made at Atlas: first the account of the database user is looked at.
    Examine {
        /// Why.
        cause: Reason,
    },
    /// A certificate is to be made at Atlas, and others of the project go first. Whoever waits is woken when its turn has come.
    Queue,
    /// A certificate is to be issued.
    Issue {
        /// The certificate.
        desired: Box<Desired>,
        /// Why.
        cause: Reason,
    },
    /// The Secret of an object that is gone is taken over as it is. No certificate is issued in the same pass.
    Adopt,
    /// A certificate was issued and is kept in memory: write it to the Secret.
    Save,
    /// A claim without its certificate: whoever made it stopped after it may have minted. Count it and wait.
    Account,
    /// Not now.
    Wait {
        /// The next attempt.
        until: Timestamp,
        /// Why not.
        reason: Reason,
        /// What happened and what to change.
        message: String,
    },
    /// Not until something changes.
    Refuse {
        /// Why not.
        reason: Reason,
        /// What to change.
        message: String,
    },
}

impl Decision {
    pub(super) fn refuse(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refuse { reason, message: message.into() }
    }
}

/// Decides about one object.
#[must_use]
pub fn decide(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> Decision {
    if let Some(message) = not_owned(object, &observed.secret) {
        return match &observed.secret {
            SecretState::Abandoned(found) if found.fault.is_none() && asks_to_adopt(object) => Decision::Adopt,
            _ => Decision::refuse(Reason::SecretNotOwned, message),
        };
    }
    if let Some(unsaved) = observed.unsaved.as_ref().filter(|unsaved| !is_superseded(object, observed, unsaved, now)) {
        return save(observed, unsaved, now);
    }
    if let Some(unreadable) = &observed.unreadable {
        let message = format!("{unreadable}: correct what stands there; until then no certificate is issued");
        return repaired_first(Decision::refuse(Reason::ObjectUnreadable, message), observed, now);
    }
    if has_unanswered_claim(observed) {
        return Decision::Account;
    }
    let issuer = match &observed.issuer {
        IssuerState::Unknown => return Decision::Await,
        IssuerState::Missing => {
            let refusal = Decision::refuse(Reason::IssuerNotFound, missing_issuer(object));
            return repaired_first(refusal, observed, now);
        }
        IssuerState::Refused(reason, message) => {
            return repaired_first(Decision::refuse(*reason, message), observed, now);
        }
        IssuerState::Usable(issuer) => issuer,
    };
    match wanted(object, issuer, observed) {
        Ok(desired) => decide_certificate(desired, issuer, observed, now),
        Err((reason, message)) => repaired_first(Decision::refuse(reason, message), observed, now),
    }
}

/// What the object asks for, if the issuer may be used for it.
fn wanted(object: &DatabaseUserCertificate, issuer: &IssuerFacts, observed: &Observed) -> Result<Desired, (Reason, String)> {
    let not_allowed = |message| (Reason::IssuerNotAllowed, message);
    issuer.allow.check_namespace(&observed.namespace, &observed.namespace_labels).map_err(not_allowed)?;
    let desired = Desired::new(object, issuer).map_err(|invalid| (Reason::InvalidSpec, invalid.0))?;
    issuer.allow.check_subject(&observed.namespace, &desired.username, &desired.subject).map_err(not_allowed)?;
    // Databases would refuse the certificate.
    issuer.name_constraints.check(&desired.subject).map_err(|violation| not_allowed(violation.to_string()))?;
    Ok(desired)
}

/// While no new certificate can be had, the present one is kept in order all the same, with what the Secret itself tells.
fn repaired_first(decision: Decision, observed: &Observed, now: Timestamp) -> Decision {
    let damaged = observed
        .secret
        .ours()
        .filter(|view| view.certificate.is_ok() && !view.complete && (view.spoilt.is_some() || view.issuer.is_some()));
    let Some(view) = damaged else { return decision };
    contested(view, observed, now)
        .or_else(|| write_was_refused(observed, now))
        .unwrap_or(Decision::Repair { renewal_time: None })
}

/// A certificate was made and is not in its Secret yet: written now, or when the Secret may take it.
fn save(observed: &Observed, unsaved: &CertificateFacts, now: Timestamp) -> Decision {
    match &observed.save_refused {
        // A longer wait is none of ours: the clock was set back.
        Some(SaveRefused { until, reason, message }) if now < *until && until.duration_since(now) <= LONGEST_SAVE_WAIT => {
            Decision::Wait {
                until: *until,
                reason: *reason,
                message: format!(
                    "certificate {} was issued, but the Secret could not be written: {message}",
                    unsaved.serial_number
                ),
            }
        }
        _ => Decision::Save,
    }
}

/// Whether the Secret holds a working certificate for what the spec asks for, and the one in memory is for something else (the spec was
/// changed back meanwhile) or older: this process was paused, and who leads now has made another. A working certificate is not given
/// up for it; it is counted as unaccounted. The end of validity tells nothing, for the spec may ask for shorter ones. Of two that begin
/// in one second (RFC 5280 section 4.1.2.5 knows no less) the Secret's stays if nothing asks for another. Where the Secret holds
/// what it held under our claim nobody has taken over, and if that begins later, then by the issuer's clock, which was set back.
fn is_superseded(object: &DatabaseUserCertificate, observed: &Observed, unsaved: &CertificateFacts, now: Timestamp) -> bool {
    ready_certificate(object, observed, now).is_ok_and(|ready| {
        let status = &observed.status;
        let claimed = status.issuance.as_ref().is_some_and(|claim| observed.unsaved_claim.as_ref() == Some(&claim.id));
        if ready.subject == unsaved.subject && claimed && status.serial_number.as_ref() == Some(&ready.serial_number) {
            return false;
        }
        let as_old = ready.not_before == unsaved.not_before && ready.serial_number != unsaved.serial_number;
        ready.subject != unsaved.subject
            || ready.not_before > unsaved.not_before
            || as_old && serves_as_it_is(object, observed, now)
    })
}

pub(super) fn serves_as_it_is(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> bool {
    let IssuerState::Usable(issuer) = &observed.issuer else { return false };
    Desired::new(object, issuer).is_ok_and(|desired| certificate_in_service(&desired, issuer, observed, now).is_ok())
}

fn decide_certificate(desired: Desired, issuer: &IssuerFacts, observed: &Observed, now: Timestamp) -> Decision {
    match certificate_in_service(&desired, issuer, observed, now) {
        Ok((view, renewal_time)) if view.complete && view.has_current_chain(issuer, &observed.status) => {
            Decision::Keep { renewal_time, wrong_type: view.wrong_type.clone() }
        }
        Ok((view, renewal_time)) => contested(view, observed, now)
            .or_else(|| after_refused_write(&desired, issuer, observed, now))
            .unwrap_or(Decision::Repair { renewal_time: Some(renewal_time) }),
        Err(cause) => match hold(&desired, issuer, observed, cause, now) {
            Some(held) => repaired_first(held, observed, now),
            None => Decision::Issue { desired: Box::new(desired), cause },
        },
    }
}

/// The Secret with a certificate that serves as it is, and its renewal time; else the cause for a new one.
fn certificate_in_service<'a>(
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
    if desired.private_key.is_some_and(|wanted| wanted != certificate.private_key) {
        return Err(Reason::PrivateKeyChanged);
    }
    if certificate.not_after <= now {
        return Err(Reason::Expired);
    }
    if cannot_be_rebuilt(view, desired, issuer, observed) {
        return Err(Reason::ChainBroken);
    }
    if is_renewal_requested(desired, observed) {
        return Err(Reason::RenewalRequested);
    }
    let renewal_time = renewal_time(certificate, desired.renew_before, &desired.uid);
    if renewal_time <= now { Err(Reason::RenewalDue) } else { Ok((view, renewal_time)) }
}

/// Whether it was tried to hand on the issuer's chain with this certificate, and the two do not verify together. The CA has another key
/// identifier now, or the certificate is another CA's and the Secret has lost the annotation that says so. A new certificate is needed then,
/// also after an attempt to issue one has failed.
fn cannot_be_rebuilt(view: &SecretView, desired: &Desired, issuer: &IssuerFacts, observed: &Observed) -> bool {
    let is_about_it = |failure: &CertificateFailure| {
        let is_chain_broken = |reason: &str| reason == Reason::ChainBroken.as_str();
        (is_chain_broken(&failure.reason) || failure.cause.as_deref().is_some_and(is_chain_broken))
            && failure.inputs == inputs_digest(desired, issuer)
    };
    observed.status.failure.as_ref().is_some_and(is_about_it) && !view.has_current_chain(issuer, &observed.status)
}

/// The annotation is compared only where it is present: one that was removed is put back, and costs no certificate.
fn from_other_issuer(view: &SecretView, issuer: &IssuerFacts) -> bool {
    view.issuer.as_ref().is_some_and(|identity| *identity != issuer.identity)
}

/// The Secret remembers the request that it answered, so that a lost status renews nothing; the status does so for a Secret
/// that lost its annotations.
pub(super) fn is_renewal_requested(desired: &Desired, observed: &Observed) -> bool {
    let answered = observed.secret.ours().and_then(|view| view.renew_request.as_ref());
    desired.renew_request.is_some()
        && desired.renew_request.as_ref() != answered
        && desired.renew_request != observed.status.renew_request_handled
}

/// Whether a claim stands in the status whose certificate the Secret does not hold.
fn has_unanswered_claim(observed: &Observed) -> bool {
    let answered = observed.secret.ours().and_then(|view| view.issuance.as_deref());
    observed.status.issuance.as_ref().is_some_and(|claim| answered != Some(claim.id.as_str()))
}

/// The certificate that makes the object Ready: it parses, fits its key, is for this user and issuer, and is in date.
///
/// While the issuer cannot be looked at, the one that made the certificate is taken to be the right one: Ready goes False
/// only when pods would fail.
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
    let issuer = match &observed.issuer {
        IssuerState::Usable(issuer) => Some(issuer.as_ref()),
        _ => None,
    };
    // Without the AtlasDatabaseUser that names it, the user of the certificate is taken to be the right one too.
    let wanted = username(object, issuer).map(|user| wanted_subject(object, user)).transpose();
    let wanted = wanted.map_err(|invalid| (Reason::InvalidSpec, invalid.0))?;
    if let Some(wanted) = wanted.filter(|wanted| certificate.subject != *wanted) {
        return Err((Reason::SubjectChanged, format!("the certificate is for {}, not for {wanted}", certificate.subject)));
    }
    match issuer {
        Some(issuer) if from_other_issuer(view, issuer) => Err((
            Reason::IssuerChanged,
            format!("the certificate is from {}, not from {}", view.issuer.as_deref().unwrap_or_default(), issuer.identity),
        )),
        _ => Ok(certificate),
    }
}

/// What to do about a Secret that this object does not control.
fn not_owned(object: &DatabaseUserCertificate, secret: &SecretState) -> Option<String> {
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

fn asks_to_adopt(object: &DatabaseUserCertificate) -> bool {
    object
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ADOPT_SECRET_ANNOTATION))
        .is_some_and(|asked| asked == "true")
}

fn missing_issuer(object: &DatabaseUserCertificate) -> String {
    let Some(issuer) = &object.spec.issuer_ref else { return "give spec.issuerRef or spec.userRef".to_owned() };
    format!("create the {} {}, or correct spec.issuerRef", issuer.kind.as_str(), issuer.name)
}
