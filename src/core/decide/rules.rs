//! The rules: what is decided about one object, in the order in which it is checked.

use jiff::Timestamp;

use super::{
    Decision, Desired, IssuerFacts, IssuerState, Observed, SaveFailure, SecretState, SecretView,
    hold::{after_refused_write, contested, hold, repair_held, repaired_first},
    in_service::{certificate_in_service, not_owned},
    issuer::missing_issuer,
    unsaved::{is_superseded, keep_both, save},
};
use crate::api::{DatabaseUserCertificate, Issuance, Reason, names::ADOPT_SECRET_ANNOTATION};

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

/// The claim that stands in the status, if the Secret does not hold its certificate.
pub(super) fn unanswered_claim(observed: &Observed) -> Option<&Issuance> {
    let answered = observed.secret.ours().and_then(|view| view.issuance.as_deref());
    observed.status.issuance.as_ref().filter(|claim| answered != Some(claim.id.as_str()))
}

fn asks_to_adopt(object: &DatabaseUserCertificate) -> bool {
    object
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ADOPT_SECRET_ANNOTATION))
        .is_some_and(|asked| asked == "true")
}
