//! The end of a pass: what its outcome means for the status, for Events, for what is remembered, and when to look again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{CALLS, Change, End, Next, Now, Pass, PassError, Report, RequestError, State, Step, WatchByName};
use crate::{
    api::{DatabaseUserCertificateStatus, Reason},
    certificate::CertificateFacts,
    decide::{
        Decision, Desired, Inputs, IssueError, RecalledUser, SaveFailure, SecretState, SecretView,
        backoff::next_write,
        decide,
        hold::{is_refused_write, waits_for_issuer},
        long_name_warning, new_warnings, next_look, next_status, record_failure, record_lost_claim,
        status::record_held,
    },
    layout,
};

/// An object is looked at again after this time at the latest, in memory and without a request.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// If something is due, the object is looked at again after this time at the latest.
const SOON: Duration = Duration::from_secs(30);

/// A pause of the whole project that lasts longer is told. After a shorter one the queue goes on soon.
const LONG_PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What the steps came to.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// Others go first, or nobody before this time.
    Queued(Option<Timestamp>),
    /// Atlas lists the certificate of a claim, and nobody holds it.
    KnownLoss(Box<RecalledUser>),
    /// The Secret was written, for this reason: a cause of issue, `SecretRepaired`, `SecretUpdated`, `SecretAdopted` or
    /// `DeletionPolicyApplied`.
    Written(Box<SecretView>, Reason),
    /// The private key is being made.
    KeyAwaited,
    /// There is no certificate.
    Failed(IssueError),
    /// The certificate is in memory alone, for the Secret could not be written.
    NotSaved { reason: Reason, message: String },
    /// The Secret's controller is as it was, for the Secret could not be written.
    OwnerNotChanged { reason: Reason, message: String },
}

impl Outcome {
    pub(super) fn not_saved(error: &RequestError) -> Self {
        Self::NotSaved { reason: error.reason(), message: error.message.clone() }
    }
}

impl Pass {
    /// Decides what the outcome means, and reports that.
    pub(super) fn finish(&mut self, outcome: Outcome, now: Now) -> Next {
        // Others may ask the issuer while this pass reports.
        let mut changes: Vec<Change> = std::mem::take(&mut self.has_turn).then_some(Change::EndTurn).into_iter().collect();
        // Whoever met a 429 keeps the place in the queue.
        let keeps_place = matches!(self.decision, Decision::Wait { reason: Reason::AtlasRateLimited, .. });
        if !matches!(outcome, Outcome::Queued(_) | Outcome::KeyAwaited) && !keeps_place {
            changes.push(Change::LeaveQueue);
        }
        let mut report = Report::default();
        match self.conclude(outcome, &mut report, &mut changes, now) {
            Ok(decision) => self.decision = decision,
            Err(error) => return Next { changes, step: Step::End(End::Failed(error)) },
        }
        let memory = &self.observed.memory;
        let failures_end = memory.unsaved.is_none() && memory.owner_failure.is_none() && memory.repair_failure.is_none();
        report.watch_by_name = self.watch_by_name();
        let end = if self.decision == Decision::Await {
            End::AwaitChange
        } else {
            self.report_status(&mut report, now.time);
            End::Sleep(sleep(next_look(&self.observed, &self.decision, now.time), &self.decision, now.time))
        };
        self.state = State::Reporting { end, failures_end };
        Next { changes, step: Step::Report(Box::new(report)) }
    }

    /// The decision that stands after the outcome.
    fn conclude(
        &mut self,
        outcome: Outcome,
        report: &mut Report,
        changes: &mut Vec<Change>,
        now: Now,
    ) -> Result<Decision, PassError> {
        let cause = self.decision.cause();
        Ok(match outcome {
            Outcome::Nothing if self.decision == Decision::CountLostClaim => self.count_lost_claim(report, changes, now)?,
            Outcome::Nothing if self.decision == Decision::LookForLost => self.not_listed_yet(changes, now)?,
            Outcome::Nothing => self.decision.clone(),
            // The place in the queue is kept, and what is waited for is told.
            Outcome::Queued(_) if self.decision == Decision::LookForLost => self.decided_without_list(now.time),
            Outcome::Queued(paused_until) => {
                Decision::Queue { paused_until: paused_until.filter(|until| until.duration_since(now.time) > LONG_PAUSE) }
            }
            Outcome::KeyAwaited => Decision::AwaitKey,
            Outcome::KnownLoss(user) => self.count_known_loss(*user, now.time),
            Outcome::Written(view, reason) => self.conclude_written(view, reason, report, now.time),
            Outcome::Failed(error) => self.conclude_failed(cause, error, report, changes, now.time),
            Outcome::NotSaved { reason, message } => {
                let until = self.later(now.time);
                if let Some(unsaved) = &mut self.observed.memory.unsaved {
                    unsaved.failure = Some(SaveFailure { until, reason, message });
                }
                decide(&self.object, &self.observed, now.time)
            }
            Outcome::OwnerNotChanged { reason, message } => {
                let until = self.later(now.time);
                self.observed.memory.owner_failure = Some(SaveFailure { until, reason, message });
                decide(&self.object, &self.observed, now.time)
            }
        })
    }

    fn conclude_written(&mut self, view: Box<SecretView>, reason: Reason, report: &mut Report, now: Timestamp) -> Decision {
        report.events.push(written(&view.certificate, reason));
        // What is replaced may have come into the Secret a moment ago, from a process that was cut off.
        if let SecretState::Ours(replaced) = std::mem::replace(&mut self.observed.secret, SecretState::Ours(view)) {
            record_held(&mut self.observed.status, &replaced, now);
        }
        self.observed.memory.owner_failure = None;
        self.observed.memory.repair_failure = None;
        if !matches!(reason, Reason::SecretAdopted | Reason::DeletionPolicyApplied) {
            self.observed.memory.written_layout = Some(layout::digest(&self.object.spec));
        }
        match reason {
            // An owner that is put right again and again is braked as any other repair. What a new spec asks for is not.
            Reason::SecretAdopted | Reason::DeletionPolicyApplied => {
                if self.object.metadata.generation == self.observed.status.observed_generation {
                    self.observed.memory.repaired(now);
                }
            }
            Reason::SecretRepaired => self.observed.memory.repaired(now),
            Reason::SecretUpdated => {}
            _ => {
                let warning = long_name_warning(&self.observed);
                report.events.extend(warning.map(|warning| (Reason::CommonNameTooLong, warning)));
            }
        }
        decide(&self.object, &self.observed, now)
    }

    fn conclude_failed(
        &mut self,
        cause: Option<Reason>,
        error: IssueError,
        report: &mut Report,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Decision {
        if cause.is_none() && is_refused_write(error.reason) && waits_for_issuer(self.observed.status.failure.as_ref(), now) {
            let until = self.later(now);
            let (reason, message) = (error.reason, error.message.clone());
            self.observed.memory.repair_failure = Some(SaveFailure { until, reason, message });
        } else {
            let issuer = self.observed.issuer.usable();
            let inputs = issuer.and_then(|facts| Some(Inputs::new(&Desired::new(&self.object, facts).ok()?, facts)));
            let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
            record_failure(&mut self.observed.status, inputs.as_ref(), uid, cause, &error, now);
            if error.reason == Reason::AtlasRateLimited {
                changes.push(Change::QueueAgain { calls: CALLS, expiry: self.expiry() });
            }
        }
        report.failure = Some(error);
        decide(&self.object, &self.observed, now)
    }

    /// When a write is tried again that no status counts.
    fn later(&mut self, now: Timestamp) -> Timestamp {
        let failures = self.observed.memory.count_failure();
        next_write(failures, self.object.metadata.uid.as_deref().unwrap_or_default(), now)
    }

    /// A claim without its certificate. If this process remembers how the request failed, that is recorded. Otherwise the
    /// certificate counts as lost. Only the leader may count it: the claim may belong to another process that leads now.
    fn count_lost_claim(&mut self, report: &mut Report, changes: &mut Vec<Change>, now: Now) -> Result<Decision, PassError> {
        let claim = self.observed.status.issuance.as_ref();
        let key = claim.and_then(|claim| Some(claim.user.as_ref()?.key.clone()));
        let claim = claim.map(|claim| claim.id.as_str());
        if claim.is_some_and(|claim| self.observed.memory.is_unsent(claim)) {
            self.observed.memory.unsent_claims.clear();
            self.observed.status.issuance = None;
            return Ok(decide(&self.object, &self.observed, now.time));
        }
        let ended = self.observed.memory.failed_request.as_ref().filter(|failed| Some(failed.claim.as_str()) == claim);
        if let Some(error) = ended.map(|failed| failed.error.clone()) {
            return Ok(self.conclude_failed(None, error, report, changes, now.time));
        }
        if !now.may_act {
            return Err(PassError::NotLeading);
        }
        // What is in memory was given up for the certificate in the Secret.
        self.observed.memory.unsaved = None;
        changes.push(Change::ForgetClaimedUser { key });
        record_lost_claim(&mut self.observed.status, self.object.metadata.uid.as_deref().unwrap_or_default(), now.time);
        Ok(decide(&self.object, &self.observed, now.time))
    }

    /// A status of which not all can be read is left alone: it may hold a claim.
    fn report_status(&mut self, report: &mut Report, now: Timestamp) {
        let old = self.object.status.as_ref();
        let status = next_status(&self.object, &self.observed, &self.decision, now);
        if self.observed.unreadable.is_some() || old == Some(&status) {
            return;
        }
        report.warnings = new_warnings(old.map(|old| old.conditions.as_slice()).unwrap_or_default(), &status.conditions);
        // A claim or a place in the queue stood in the condition between two failures that are alike.
        if let Some(same) = old.and_then(|old| repeated_failure(old, &status)) {
            report.warnings.retain(|(reason, _)| *reason != same);
        }
        report.status = Some(Box::new(status));
    }

    /// The label's watch shows neither another's Secret nor ours without its label. These are watched by name.
    fn watch_by_name(&self) -> WatchByName {
        match &self.decision {
            Decision::Block { reason: Reason::SecretNotOwned, .. } | Decision::Adopt => WatchByName::Yes,
            _ if matches!(self.observed.secret, SecretState::Abandoned(_)) => WatchByName::Yes,
            _ if self.observed.secret.ours().is_some_and(|view| !view.complete) => WatchByName::UnlessShown,
            _ => WatchByName::No,
        }
    }

    pub(super) fn reported(&mut self, end: End, failures_end: bool, reported: Result<(), RequestError>) -> Next {
        if let Err(error) = reported {
            return error.of_object().into();
        }
        // A pass that only awaits a change has reported nothing.
        if end == End::AwaitChange {
            return Step::End(end).into();
        }
        // An API server that fails at everything fails at the report too, and is asked less and less often.
        if failures_end {
            self.observed.memory.failures = 0;
        }
        self.observed.memory.failed_request = None;
        Step::End(end).into()
    }
}

/// The reason of a failure that follows one of the same reason, with nothing changed that it depends on.
fn repeated_failure(old: &DatabaseUserCertificateStatus, new: &DatabaseUserCertificateStatus) -> Option<Reason> {
    let (old, new) = old.failure.as_ref().zip(new.failure.as_ref())?;
    Reason::from_name(&new.reason).filter(|_| old.reason == new.reason && old.inputs == new.inputs)
}

/// The Event that tells of a Secret that was written: reason and message. A certificate that was issued is a success, whatever was the cause.
fn written(certificate: &Result<CertificateFacts, String>, reason: Reason) -> (Reason, String) {
    match (certificate, reason) {
        (Ok(facts), Reason::SecretRepaired) => {
            (reason, format!("the Secret of certificate {} is complete again", facts.serial_number))
        }
        (Ok(facts), Reason::SecretUpdated) => {
            (reason, format!("the Secret of certificate {} has what the spec asks for now", facts.serial_number))
        }
        (Ok(facts), Reason::SecretAdopted) => {
            (reason, format!("the Secret with certificate {} was taken over as it is", facts.serial_number))
        }
        (Ok(facts), Reason::DeletionPolicyApplied) => {
            (reason, format!("the Secret of certificate {} follows spec.deletionPolicy", facts.serial_number))
        }
        (Ok(facts), cause) => {
            let CertificateFacts { serial_number, subject, not_after, .. } = facts;
            let message = format!("issued certificate {serial_number} for {subject}, valid until {not_after}; cause: {cause}");
            (Reason::Issued, message)
        }
        (Err(fault), _) => (reason, fault.clone()),
    }
}

/// How long the object may rest.
fn sleep(next: Option<Timestamp>, decision: &Decision, now: Timestamp) -> Duration {
    let is_due = match decision {
        Decision::Issue { .. }
        | Decision::LookUpUser { .. }
        | Decision::Save
        | Decision::CountLostClaim
        | Decision::LookForLost
        | Decision::ApplyDeletionPolicy => true,
        Decision::Wait { .. } => next.is_none(),
        _ => false,
    };
    let until = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    // Times are compared in whole seconds: a second later all of it has come.
    let until = until.map(|until| until + Duration::from_secs(1));
    [until, is_due.then_some(SOON)].into_iter().flatten().min().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
}
