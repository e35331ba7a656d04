//! The steps on the way to the Secret.

use jiff::Timestamp;

use super::{End, Next, Now, Pass, PassError, RequestError, RequestErrorKind, State, Step, Write, finish::Outcome};
use crate::{
    api::Reason,
    certificate::SerialNumber,
    decide::{
        Decision, IssueError, Minted, Retry, SecretState, SecretView, decide,
        unsaved::{is_undecided, was_asked_for_last},
    },
    layout,
};

impl Pass {
    /// A process that stops does nothing but save. The Secret may hold a better certificate by now: then the one in memory is given up. The
    /// leader counts it by its claim, or has done so.
    pub(super) fn save_only(&mut self, now: Now) -> Next {
        if let Some(unsaved) = &mut self.observed.memory.unsaved {
            unsaved.failure = None;
        }
        self.decision = decide(&self.object, &self.observed, now.time);
        match &self.decision {
            // To adopt takes the lead, which a process that stops may have no more: then it is tried again until the grace period ends.
            Decision::Save | Decision::Adopt => self.act(now),
            Decision::Block {
                reason: Reason::SecretNotOwned | Reason::SecretBeingDeleted | Reason::ObjectBeingDeleted,
                ..
            } => Step::End(End::AwaitChange).into(),
            // It cannot wait until it is known which user is wanted.
            _ if self.saves_undecided(now.time) => {
                self.decision = Decision::Save;
                self.act(now)
            }
            // The adoption has to wait.
            _ if matches!(self.observed.secret, SecretState::Abandoned(_)) => Step::End(End::AwaitChange).into(),
            _ => {
                self.observed.memory.unsaved = None;
                Step::End(End::AwaitChange).into()
            }
        }
    }

    /// Whether nobody knows which of two certificates is wanted, and the one in memory was asked for last.
    fn saves_undecided(&self, now: Timestamp) -> bool {
        let (object, observed) = (&self.object, &self.observed);
        let asked_last = |unsaved| is_undecided(object, observed, unsaved, now) && was_asked_for_last(observed, unsaved);
        observed.memory.unsaved.as_ref().is_some_and(asked_last)
    }

    pub(super) fn secret_read(
        &mut self,
        with_issuer: bool,
        read: Result<Option<SerialNumber>, RequestError>,
        now: Now,
    ) -> Next {
        let decided_on = self.observed.secret.certificate().map(|certificate| &certificate.serial_number);
        match read {
            Err(error) => PassError::Request(error).into(),
            Ok(serial_number) if serial_number.is_some() && serial_number.as_ref() == decided_on => {
                self.confirm(Write::Repaired { with_issuer }, now)
            }
            Ok(_) => self.look_again(None, now),
        }
    }

    /// Before a write of the Secret. An unsaved certificate is written also by a process that stops or does not lead any more: this process
    /// alone has the key, and the write has a precondition.
    pub(super) fn confirm(&mut self, write: Write, now: Now) -> Next {
        if write != Write::Unsaved && !now.may_act {
            return PassError::NotLeading.into();
        }
        self.go(State::ReadingObject(write), Step::ReadObject)
    }

    pub(super) fn object_read(&mut self, write: Write, read: Result<bool, RequestError>, now: Now) -> Next {
        match read {
            Ok(true) if write != Write::Unsaved && !now.may_act => PassError::NotLeading.into(),
            Ok(true) => self.go(State::Writing(write), Step::WriteSecret(write)),
            // The newer spec may want to keep the certificate that this write would replace. The next pass decides.
            Ok(false) => PassError::Superseded.into(),
            Err(error) if write == Write::Unsaved => self.finish(Outcome::not_saved(&error), now),
            Err(error) => PassError::Request(error).into(),
        }
    }

    pub(super) fn written(&mut self, write: Write, written: Result<Box<SecretView>, RequestError>, now: Now) -> Next {
        let view = match (written, write) {
            (Ok(view), _) => view,
            (Err(error), Write::Unsaved) if error.kind == RequestErrorKind::Conflict => {
                return self.look_again(Some(Outcome::not_saved(&error)), now);
            }
            (Err(error), Write::Unsaved) => return self.finish(Outcome::not_saved(&error), now),
            (Err(error), Write::Adopted | Write::DeletionPolicy) => {
                let refused = Outcome::OwnerNotChanged { reason: error.reason(), message: error.message.clone() };
                return self.refused(refused, error, now);
            }
            (Err(error), _) => return self.write_failed(error, now),
        };
        let reason = match write {
            Write::Signed { cause } => cause,
            Write::Unsaved => self.observed.memory.unsaved.take().map_or(Reason::Issued, |unsaved| unsaved.cause),
            Write::Repaired { .. } => self.repair_reason(now),
            Write::Adopted => Reason::SecretAdopted,
            Write::DeletionPolicy => Reason::DeletionPolicyApplied,
        };
        self.finish(Outcome::Written(view, reason), now)
    }

    /// Whether the Secret was spoilt, or the object asks for something else now. Only the first counts against whoever keeps spoiling it, so it
    /// is the answer unless something other than the Secret has changed.
    fn repair_reason(&self, now: Now) -> Reason {
        let Some(view) = self.observed.secret.ours() else { return Reason::SecretRepaired };
        let (status, memory) = (&self.observed.status, &self.observed.memory);
        let asked_for = layout::digest(&self.object.spec);
        // A Secret that was written for this spec before, and is not as this spec asks, was set back by another.
        let has_new_spec =
            view.layout.is_readable() && view.layout.digest != asked_for && memory.written_layout.as_ref() != Some(&asked_for);
        let former_password = status.verified.as_ref().and_then(|verified| verified.keystore_password.as_ref());
        let password = view.keystore.password.as_ref().filter(|_| view.keystore.fault.is_none());
        let has_new_password = password.is_some() && password != former_password;
        let has_useless_pair = view.has_useless_pair(&self.object, status, now.time);
        if has_new_spec || has_new_password || has_useless_pair { Reason::SecretUpdated } else { Reason::SecretRepaired }
    }

    /// A write of the Secret failed, and what was to be written need not be kept.
    pub(super) fn write_failed(&mut self, error: RequestError, now: Now) -> Next {
        let failed = Outcome::Failed(IssueError {
            reason: error.reason(),
            message: error.message.clone(),
            retry: Retry::Backoff,
            minted: Minted::No,
        });
        self.refused(failed, error, now)
    }

    /// What follows the refusal of a write, if its outcome is this once it is final. Without an answer nobody can say what came of the write, so
    /// the pass is repeated, once: if the next write gets no answer either, that is told.
    fn refused(&mut self, outcome: Outcome, error: RequestError, now: Now) -> Next {
        match error.kind {
            RequestErrorKind::Unanswered if self.is_first_without_answer() => PassError::Request(error).into(),
            RequestErrorKind::Conflict | RequestErrorKind::NotFound => self.look_again(Some(outcome), now),
            _ => self.finish(outcome, now),
        }
    }

    /// Counts the write, and tells whether the ones before it were answered.
    fn is_first_without_answer(&mut self) -> bool {
        let failure = self.observed.status.failure.as_ref();
        let is_told = failure.is_some_and(|failure| failure.reason == Reason::SecretWriteFailed.as_str());
        self.observed.memory.count_failure() == 1 && !is_told
    }
}
