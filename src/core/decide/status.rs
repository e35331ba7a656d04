//! What the status says after a decision: a pure function of the old status, what was found, and the decision.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Decision, Inputs, IssueError, Minted, Observed, Retry, SecretState, SecretView, UserCertificates,
    backoff::awaits_lost_answer,
    conditions::set_conditions,
    forced,
    lost::{count_lost, next_question, uncount_saved},
    next_attempt,
    user::drop_expired,
};
use crate::{
    api::{
        CertificateFailure, ClaimedUser, DatabaseUserCertificate, DatabaseUserCertificateStatus, DeletionPolicy, ISSUING,
        Issuance, IssuedCertificate, MESSAGE_CHARACTERS, ROLLED_OUT, Reason, SecretBinding, VerifiedSecret, condition,
        printable, set_condition, truncated_to_second,
    },
    connection,
    layout::former_pair_in_keystore,
};

const HISTORY_LENGTH: usize = 5;

/// Within this time after its write a new certificate is in the status. The clock of the API server may be behind by as much.
const JUST_WRITTEN: SignedDuration = SignedDuration::from_mins(2);

/// When a keystore's password that could not be read is read again.
const PASSWORD_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The status to report. Equal to the old one if nothing changed.
#[must_use]
pub fn next_status(
    object: &DatabaseUserCertificate,
    observed: &Observed,
    decision: &Decision,
    now: Timestamp,
) -> DatabaseUserCertificateStatus {
    let mut status = observed.status.clone();
    status.observed_generation = object.metadata.generation;
    status.secret_name = Some(object.secret_name());
    // Of an object that is being deleted the rest of the status tells later what went with it.
    if object.metadata.deletion_timestamp.is_none() {
        record_certificate(&mut status, observed, now);
        for serial_number in &observed.held {
            uncount_saved(&mut status, serial_number, None);
        }
        status.retained_secret_uid = retained_secret_uid(object, observed);
    }
    status.binding = binding(object, observed);
    drop_expired(&mut status, now);
    if *decision == Decision::Suspend {
        status.renewal_time = None;
    }
    if let Decision::Keep { renewal_time, .. } | Decision::Repair { renewal_time: Some(renewal_time) } = decision {
        status.renewal_time = Some(Time(*renewal_time));
        status.failure = status.failure.filter(|failure| awaits_lost_answer(failure, now));
    }
    set_conditions(&mut status, object, observed, decision, now);
    begin_rollout(&mut status, object, now);
    status
}

/// What the status says of the workloads is about the certificate before, until they are looked at.
fn begin_rollout(status: &mut DatabaseUserCertificateStatus, object: &DatabaseUserCertificate, now: Timestamp) {
    let (Some(serial_number), Some(rollout)) = (&status.serial_number, &mut status.rollout) else { return };
    if object.spec.rollout.is_none() || rollout.serial_number == *serial_number {
        return;
    }
    rollout.moved = 0;
    rollout.progress = format!("0/{}", rollout.workloads);
    if condition(&status.conditions, ROLLED_OUT).is_some_and(|rolled_out| rolled_out.status == "True") {
        let message = format!("certificate {serial_number} was issued, and the workloads are looked at next");
        let generation = object.metadata.generation;
        set_condition(&mut status.conditions, ROLLED_OUT, false, Reason::RolloutInProgress, &message, generation, now);
    }
}

/// The Secret, for service bindings: once it holds the entries of the connection, and while they are asked for.
fn binding(object: &DatabaseUserCertificate, observed: &Observed) -> Option<SecretBinding> {
    let has_entries = |view: &&SecretView| view.certificate.is_ok() && view.layout.entries.contains(connection::URI);
    observed.secret.ours().filter(has_entries).filter(|_| object.spec.connection.is_some())?;
    Some(SecretBinding { name: object.secret_name() })
}

/// The UID of the Secret that is retained. It stays while that Secret is there and has lost a mark.
fn retained_secret_uid(object: &DatabaseUserCertificate, observed: &Observed) -> Option<String> {
    if object.spec.deletion_policy != DeletionPolicy::Retain {
        return None;
    }
    match &observed.secret {
        SecretState::Ours(view) => Some(view.uid.clone()),
        SecretState::Abandoned(_) => observed.status.retained_secret_uid.clone(),
        SecretState::Absent | SecretState::NotOurs(_) | SecretState::NeededByIssuer(_) => None,
    }
}

/// A claim that is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewClaim<'a> {
    /// A random id.
    pub id: &'a str,
    /// Why the certificate is needed.
    pub cause: Reason,
    /// What is known of the database user.
    pub user: Option<&'a UserCertificates>,
    /// The process that writes it, where it has a name.
    pub process: Option<&'a str>,
}

/// The status that claims one certificate, written before it is asked for.
#[must_use]
pub fn claimed(
    object: &DatabaseUserCertificate,
    status: &DatabaseUserCertificateStatus,
    NewClaim { id, cause, user, process }: NewClaim<'_>,
    now: Timestamp,
) -> DatabaseUserCertificateStatus {
    let mut status = status.clone();
    status.issuance = Some(Issuance {
        id: id.to_owned(),
        reason: cause.as_str().to_owned(),
        attempt: status.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1),
        since: Time(truncated_to_second(now)),
        user: user.map(|user| ClaimedUser { key: user.key.clone(), listed: user.listed.clone() }),
        process: process.map(ToOwned::to_owned),
    });
    let message = "a certificate is being requested";
    set_condition(&mut status.conditions, ISSUING, true, cause, message, object.metadata.generation, now);
    status
}

/// Records a failed attempt to issue or to write: when the next is due, and whether a certificate may exist. `cause` is why it was
/// needed. `inputs` is what the attempt depended on; `None` where there is no issuer, or where the spec does not fit it.
pub fn record_failure(
    status: &mut DatabaseUserCertificateStatus,
    inputs: Option<&Inputs>,
    uid: &str,
    cause: Option<Reason>,
    error: &IssueError,
    now: Timestamp,
) {
    let has_same_inputs = |old: &CertificateFailure| Inputs::of(old).is_none_or(|old| inputs.is_none_or(|new| old == *new));
    // A lost claim has no inputs, so a failure after it continues its count.
    let old = status.failure.as_ref().filter(|old| error.minted == Minted::Possibly || has_same_inputs(old));
    let count = old.map_or(0, |old| old.count).saturating_add(1);
    let count_of_reason = old.map_or(0, |old| old.in_a_row(error.reason)).saturating_add(1);
    status.issuance = None;
    if error.minted == Minted::Possibly {
        count_lost(status, None);
    }
    status.failure = Some(CertificateFailure {
        count,
        count_of_reason: Some(count_of_reason),
        reason: error.reason.as_str().to_owned(),
        message: printable(&error.message, MESSAGE_CHARACTERS),
        last_time: Time(truncated_to_second(now)),
        next_attempt: Time(next_attempt(error.retry, error.minted, count, uid, now)),
        asked_by_issuer: matches!(error.retry, Retry::NotBefore(_)),
        inputs: inputs.map(ToString::to_string).unwrap_or_default(),
        cause: cause.map(|cause| cause.as_str().to_owned()),
        unlisted: None,
    });
}

fn record_certificate(status: &mut DatabaseUserCertificateStatus, observed: &Observed, now: Timestamp) {
    let view = observed.secret.ours();
    let certificate = observed.secret.certificate();
    status.serial_number = certificate.map(|certificate| certificate.serial_number.clone().into());
    status.subject = certificate.map(|certificate| certificate.subject.mongodb_user_name());
    status.not_before = certificate.map(|certificate| Time(certificate.not_before));
    status.not_after = certificate.map(|certificate| Time(certificate.not_after));
    let found_good_for = found_good_for(status, observed);
    // What is incomplete is read again after a restart, and so repaired.
    let verified = view.filter(|view| view.complete && view.chain.fault.is_none() && view.keystore.fault.is_none());
    status.verified = verified.zip(certificate).map(|(view, certificate)| VerifiedSecret {
        uid: view.uid.clone(),
        resource_version: view.resource_version.clone(),
        issuer: certificate.issuer.clone(),
        private_key: certificate.private_key.to_string(),
        chain: found_good_for,
        chain_not_after: view.chain.not_after.map(Time),
        keystore_password: view.keystore.password.clone(),
        wrong_type: view.wrong_type.clone(),
    });
    if certificate.is_none() {
        status.renewal_time = None;
    }
    if let Some(view) = view {
        record_held(status, view, now);
    }
}

/// Records what the certificate in the Secret answers, and that a Secret holds or has held it.
pub(super) fn record_held(status: &mut DatabaseUserCertificateStatus, view: &SecretView, now: Timestamp) {
    let Ok(certificate) = &view.certificate else { return };
    if view.renew_request.is_some() {
        status.renew_request_handled.clone_from(&view.renew_request);
    }
    if status.issuance.as_ref().is_some_and(|claim| view.issuance.as_ref() == Some(&claim.id)) {
        status.issuance = None;
    }
    uncount_saved(status, &certificate.serial_number, view.issuance.as_deref());
    let newest = status.history.first().map(|newest| newest.serial_number.as_str());
    if newest != Some(certificate.serial_number.as_str()) {
        let reason = view.issue_reason.clone().unwrap_or_else(|| Reason::Issued.as_str().to_owned());
        if Reason::from_name(&reason).is_some_and(Reason::is_forced) {
            forced::count(status, now);
        }
        status.history.insert(
            0,
            IssuedCertificate {
                serial_number: certificate.serial_number.clone().into(),
                reason,
                issuer: view.issuer.as_ref().map(ToString::to_string),
                recorded_at: Time(truncated_to_second(recorded_at(status, view, now))),
                not_after: Time(certificate.not_after),
            },
        );
        status.history.truncate(HISTORY_LENGTH);
    }
}

/// When a certificate that the status does not know was written: just now, unless the status was lost and the Secret is known to be older.
fn recorded_at(status: &DatabaseUserCertificateStatus, view: &SecretView, now: Timestamp) -> Timestamp {
    let is_lost = |written: &Timestamp| status.history.is_empty() && now.duration_since(*written) > JUST_WRITTEN;
    view.written.filter(is_lost).unwrap_or(now)
}

/// The digest of the issuer's chain if the Secret fits it; else the one stored before.
fn found_good_for(status: &DatabaseUserCertificateStatus, observed: &Observed) -> Option<String> {
    let before = || status.verified.as_ref().and_then(|verified| verified.chain.clone());
    let (Some(issuer), Some(view)) = (observed.issuer.usable(), observed.secret.ours()) else { return before() };
    if view.has_current_chain(issuer, status) { issuer.ca().map(|ca| ca.chain_digest.clone()) } else { before() }
}

/// When the object must be looked at again although nothing changes; always after `now`.
#[must_use]
pub fn next_look(observed: &Observed, decision: &Decision, now: Timestamp) -> Option<Timestamp> {
    let next = match decision {
        Decision::Keep { renewal_time, .. } => Some(*renewal_time),
        Decision::Repair { renewal_time } => *renewal_time,
        Decision::Wait { until, .. } => Some(*until),
        // What was said of the pause is true no longer then.
        Decision::Queue { paused_until } => *paused_until,
        Decision::Block { .. }
        | Decision::Await
        | Decision::Adopt
        | Decision::ApplyDeletionPolicy
        | Decision::Suspend
        | Decision::LookUpUser { .. }
        | Decision::AwaitKey
        | Decision::Issue { .. }
        | Decision::Save
        | Decision::CountLostClaim
        | Decision::LookForLost => None,
    };
    // Readiness begins and ends with the certificate, whatever was decided about the next one.
    let validity = observed.secret.certificate().map(|certificate| [certificate.not_before, certificate.not_after]);
    let lost_answer = observed.status.failure.as_ref().filter(|failure| awaits_lost_answer(failure, now));
    let over = lost_answer.map(|failure| failure.next_attempt.0);
    let secret = observed.secret.ours();
    let chain = secret.and_then(|view| view.chain.not_after);
    let previous = secret.and_then(|view| view.previous_not_after);
    let in_keystore = secret.and_then(|view| {
        let present = &view.certificate.as_ref().ok()?.serial_number;
        former_pair_in_keystore(view.keystore.serial_number.as_ref(), present, &observed.status)
    });
    let password = secret.filter(|view| view.keystore.is_passing).and_then(|_| now.checked_add(PASSWORD_AGAIN).ok());
    // What waits, such as a repair, must not be all that is looked at when the certificate is due.
    let is_wait = matches!(decision, Decision::Wait { .. });
    let renewal = observed.status.renewal_time.as_ref().filter(|_| is_wait).map(|renewal| renewal.0);
    let question = next_question(&observed.status).filter(|_| is_wait);
    let others = [chain, over, question, previous, in_keystore, password, renewal].into_iter().flatten();
    next.into_iter().chain(validity.into_iter().flatten()).chain(others).filter(|next| *next > now).min()
}
