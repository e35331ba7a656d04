//! The rules: what is decided about one object, in the order in which it is checked.

use jiff::Timestamp;

use super::{
    Decision, Desired, Inputs, IssuerFacts, IssuerState, Observed, SaveFailure, SecretState, SecretView,
    compromised::is_compromised,
    desired::{username, wanted_subject},
    forced::{forced, heeded},
    hold::{after_refused_write, contested, hold, repair_held, write_was_refused},
    renewal_time,
    unsaved::{is_superseded, keep_both, save},
};
use crate::{
    api::{CertificateFailure, DatabaseUserCertificate, Issuance, IssuerIdentity, Reason, names::ADOPT_SECRET_ANNOTATION},
    certificate::CertificateFacts,
};

/// Decides about one object.
///
/// # Suspended objects
///
/// While `spec.suspend` is true, nothing is begun: no certificate is issued, nobody is asked, and a damaged Secret is not repaired.
/// Whoever suspends an object wants its Secret to stay as it is. Often that person is about to edit the Secret by hand, and a
/// repair would undo the edit in the middle. Pods lose nothing that they have: they have read their files already, and `Ready` and
/// an Event tell at once that new ones would fail. Everything else that holds for an object holds for a suspended one:
///
/// - What was begun before is finished, because a certificate that was minted cannot be had again: one in memory is saved, and a
///   claim is counted.
/// - The owner of the Secret is kept in order: a Secret is adopted, and a changed `deletionPolicy` is carried out. Neither touches
///   the content, and without them the next deletion of the object could delete a Secret that was to stay.
#[must_use]
pub fn decide(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> Decision {
    if object.metadata.deletion_timestamp.is_some() {
        let held_by = object.metadata.finalizers.clone().unwrap_or_default().join(", ");
        let message = format!("the object is being deleted, held by {held_by}: nothing is issued or written for it any more");
        return Decision::block(Reason::ObjectBeingDeleted, message);
    }
    if let Some(message) = not_owned(object, &observed.secret) {
        return match &observed.secret {
            SecretState::Abandoned(found) if found.fault.is_none() && (found.is_retained || asks_to_adopt(object)) => {
                owner_held(None, observed, now).unwrap_or(Decision::Adopt)
            }
            _ => Decision::block(Reason::SecretNotOwned, message),
        };
    }
    if let Some(unsaved) = observed.memory.unsaved.as_ref().filter(|unsaved| !is_superseded(object, observed, unsaved, now)) {
        if let Some(going) = secret_going(object, observed) {
            return going;
        }
        let next = keep_both(object, observed, unsaved, now).unwrap_or_else(|| save(unsaved, now));
        let applied = if next == Decision::Save { None } else { deletion_policy(object, observed, now) };
        return applied.unwrap_or(next);
    }
    if let Some(unreadable) = &observed.unreadable {
        let message = format!("{unreadable}: correct what stands there; until then no certificate is issued");
        let refusal = Decision::block(Reason::ObjectUnreadable, message);
        // What the Secret is to hold is not known without the spec.
        let may_repair = !object.spec.suspend && !observed.is_spec_unreadable;
        return if may_repair { repaired_first(object, refusal, observed, now) } else { refusal };
    }
    if let Some(applied) = deletion_policy(object, observed, now) {
        return applied;
    }
    if let Some(claim) = unanswered_claim(observed) {
        // The issuer can tell whether its certificate was made. A watch event follows.
        let may_tell = claim.user.as_ref().is_some_and(|user| user.listed.is_some()) && !object.spec.suspend;
        let is_awaited = may_tell && observed.issuer == IssuerState::Unknown && !observed.memory.knows_of(&claim.id);
        return if is_awaited { Decision::Await } else { Decision::CountLostClaim };
    }
    if let Some(going) = secret_going(object, observed) {
        return going;
    }
    let issuer = match &observed.issuer {
        IssuerState::Unknown => return Decision::Await,
        _ if object.spec.suspend => return policy_held(object, observed, now).unwrap_or(Decision::Suspend),
        IssuerState::Missing => {
            let refusal = Decision::block(Reason::IssuerNotFound, missing_issuer(object));
            return repaired_first(object, refusal, observed, now);
        }
        IssuerState::Unusable(reason, message) => {
            return repaired_first(object, Decision::block(*reason, message), observed, now);
        }
        IssuerState::Usable(issuer) => issuer,
    };
    match wanted(object, issuer, observed) {
        Ok(desired) => decide_certificate(object, desired, issuer, observed, now),
        Err((reason, message)) => repaired_first(object, Decision::block(reason, message), observed, now),
    }
}

/// Why nothing is written into a Secret that is being deleted: it would go with the Secret. The watch tells when it is gone.
pub(super) fn secret_going(object: &DatabaseUserCertificate, observed: &Observed) -> Option<Decision> {
    let held_by = observed.secret.ours()?.held_by.as_ref()?;
    let name = object.secret_name();
    let message = format!(
        "the Secret {name} is being deleted, held by {held_by}: nothing is written into it, and a new one is made when it is gone"
    );
    Some(Decision::block(Reason::SecretBeingDeleted, message))
}

/// What the object asks for, if the issuer may be used for it.
fn wanted(object: &DatabaseUserCertificate, issuer: &IssuerFacts, observed: &Observed) -> Result<Desired, (Reason, String)> {
    let not_allowed = |message| (Reason::IssuerNotAllowed, message);
    issuer.allow.check_namespace(&observed.namespace, &observed.namespace_labels).map_err(not_allowed)?;
    let desired = Desired::new(object, issuer).map_err(|invalid| (Reason::InvalidSpec, invalid.0))?;
    issuer.allow.check_subject(&observed.namespace, &desired.username, &desired.subject).map_err(not_allowed)?;
    // Databases would refuse the certificate.
    if let Some(ca) = issuer.ca() {
        ca.name_constraints.check(&desired.subject).map_err(|violation| not_allowed(violation.to_string()))?;
    }
    Ok(desired)
}

/// Repairs a damaged Secret from its own content while no new certificate can be had; otherwise returns `decision`.
pub(super) fn repaired_first(
    object: &DatabaseUserCertificate,
    decision: Decision,
    observed: &Observed,
    now: Timestamp,
) -> Decision {
    let damaged = observed.secret.ours().filter(|view| {
        view.held_by.is_none()
            && view.certificate.is_ok()
            && !view.is_settled(object, &observed.status, now)
            && (view.spoilt.is_some() || view.issuer.is_some())
    });
    let Some(view) = damaged else { return decision };
    repair_held(view, observed, now)
        .or_else(|| write_was_refused(observed, now))
        .unwrap_or(Decision::Repair { renewal_time: None })
}

/// Has the Secret follow `deletionPolicy`. This goes before all that may take long, because the object may be deleted at any moment
/// and no finalizer holds the deletion up. It holds nothing up itself: while it has to wait, the other rules go on.
pub(super) fn deletion_policy(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> Option<Decision> {
    let view = unapplied(object, observed)?;
    owner_held(Some(view), observed, now).is_none().then_some(Decision::ApplyDeletionPolicy)
}

/// Why the Secret does not follow `deletionPolicy` yet, if that has to wait.
fn policy_held(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> Option<Decision> {
    owner_held(Some(unapplied(object, observed)?), observed, now)
}

/// The Secret, if it does not follow `deletionPolicy`. Of an object that cannot be read, the policy is not known for certain.
fn unapplied<'a>(object: &DatabaseUserCertificate, observed: &'a Observed) -> Option<&'a SecretView> {
    let view = observed.secret.ours().filter(|view| observed.unreadable.is_none() && view.held_by.is_none())?;
    (view.deletion_policy != Some(object.spec.deletion_policy)).then_some(view)
}

/// Why the owner of the Secret is not changed now: something keeps undoing that, or the last attempt was refused.
fn owner_held(view: Option<&SecretView>, observed: &Observed, now: Timestamp) -> Option<Decision> {
    contested(view, observed, now).or_else(|| {
        let SaveFailure { until, reason, message } =
            observed.memory.owner_failure.as_ref().filter(|failure| failure.holds(now))?;
        let message = format!("the Secret's controller could not be changed: {message}");
        Some(Decision::Wait { until: *until, reason: *reason, message })
    })
}

fn decide_certificate(
    object: &DatabaseUserCertificate,
    desired: Desired,
    issuer: &IssuerFacts,
    observed: &Observed,
    now: Timestamp,
) -> Decision {
    match certificate_in_service(&desired, issuer, observed, now) {
        Ok((view, renewal_time))
            if view.is_settled(object, &observed.status, now) && view.has_current_chain(issuer, &observed.status) =>
        {
            policy_held(object, observed, now)
                .unwrap_or_else(|| Decision::Keep { renewal_time, wrong_type: view.wrong_type.clone() })
        }
        Ok((view, renewal_time)) => repair_held(view, observed, now)
            .or_else(|| after_refused_write(&desired, issuer, observed, now))
            .unwrap_or(Decision::Repair { renewal_time: Some(renewal_time) }),
        Err(cause) => match hold(&desired, issuer, observed, cause, now) {
            Err(held) => repaired_first(object, held, observed, now),
            Ok(cause) => Decision::Issue { desired: Box::new(desired), cause },
        },
    }
}

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
    // One that has to wait holds up nothing that is due, and no repair of the chain.
    let forced = if is_due || has_old_chain { heeded(desired, observed, now) } else { forced(desired, observed) };
    match forced {
        Some(forced) => Err(forced),
        None if is_due => Err(Reason::RenewalDue),
        None => Ok((view, renewal_time)),
    }
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

/// The claim that stands in the status, if the Secret does not hold its certificate.
pub(super) fn unanswered_claim(observed: &Observed) -> Option<&Issuance> {
    let answered = observed.secret.ours().and_then(|view| view.issuance.as_deref());
    observed.status.issuance.as_ref().filter(|claim| answered != Some(claim.id.as_str()))
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

fn asks_to_adopt(object: &DatabaseUserCertificate) -> bool {
    object
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ADOPT_SECRET_ANNOTATION))
        .is_some_and(|asked| asked == "true")
}

pub(super) fn missing_issuer(object: &DatabaseUserCertificate) -> String {
    let Some(issuer) = &object.spec.issuer_ref else { return "give spec.issuerRef or spec.userRef".to_owned() };
    format!("create the {} {}, or correct spec.issuerRef", issuer.kind.as_str(), issuer.name)
}
