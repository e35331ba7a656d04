//! The steps that find out what became of a claim without its certificate: whether Atlas lists that certificate.

use jiff::Timestamp;

use super::{CALLS, Change, Next, Now, Pass, PassError, State, Step, TurnFound, finish::Outcome};
use crate::decide::{
    Decision, Desired, Observed, RecalledUser, decide, ended,
    lost::{claim_in_question, record_known_loss, record_still_unlisted},
};

impl Pass {
    /// Asks for the list, if it can tell what became of the request under the claim. Otherwise a claim that stands counts as lost.
    pub(super) fn count(&mut self, now: Now) -> Next {
        match self.claimed_username().filter(|_| now.may_act) {
            Some(username) => {
                let step = Step::TakeTurn { calls: CALLS, expiry: self.expiry() };
                self.go(State::TakingTurnToCount { username }, step)
            }
            None => self.finish(Outcome::Nothing, now),
        }
    }

    /// The database user, if it is known what Atlas listed for it before the claim. That the list is of the same account is seen later.
    fn claimed_username(&self) -> Option<String> {
        let claim = claim_in_question(&self.observed.status).filter(|claim| !self.observed.memory.knows_of(&claim.id))?;
        claim.user.as_ref()?.listed.as_ref()?;
        let issuer = self.observed.issuer.usable().filter(|_| !self.object.spec.suspend)?;
        Some(Desired::new(&self.object, issuer).ok()?.username)
    }

    pub(super) fn turn_to_count(&mut self, username: String, turn: TurnFound, now: Now) -> Next {
        if let TurnFound::Queued { paused_until } = turn {
            return self.finish(Outcome::Queued(paused_until), now);
        }
        self.has_turn = true;
        self.go(State::ListingToCount { username: username.clone() }, Step::ListCertificates { username })
    }

    pub(super) fn recalled_to_count(&mut self, user: Option<Box<RecalledUser>>, now: Now) -> Next {
        let claim = claim_in_question(&self.observed.status);
        let lost = user.filter(|user| claim.is_some_and(|claim| user.shows_loss(claim)));
        let outcome = match lost {
            // Only the leader may count it: the claim may belong to another process that leads now.
            Some(user) if now.may_act => Outcome::KnownLoss(user),
            _ => Outcome::Nothing,
        };
        self.finish(outcome, now)
    }

    /// The list shows what became of the request: the certificate is recorded by its serial number.
    pub(super) fn count_known_loss(&mut self, user: RecalledUser, now: Timestamp) -> Decision {
        // What is in memory was given up for the certificate in the Secret.
        self.observed.memory.unsaved = None;
        self.learn(user);
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        let Observed { status, process, released_by, .. } = &mut self.observed;
        let has_ended = |former: &str| ended(former, process.as_deref(), released_by.as_deref());
        record_known_loss(status, uid, has_ended, now);
        decide(&self.object, &self.observed, now)
    }

    /// The list does not show the certificate of a claim that was counted as lost. What it says besides is not learned: it would take the place
    /// of what is presumed.
    pub(super) fn not_listed_yet(&mut self, changes: &mut Vec<Change>, now: Now) -> Result<Decision, PassError> {
        if !now.may_act {
            return Err(PassError::NotLeading);
        }
        let user = claim_in_question(&self.observed.status).and_then(|claim| claim.user.as_ref());
        changes.push(Change::ForgetClaimedUser { key: user.map(|user| user.key.clone()) });
        record_still_unlisted(&mut self.observed.status, now.time);
        Ok(decide(&self.object, &self.observed, now.time))
    }

    /// What is decided until Atlas can be asked again.
    pub(super) fn decided_without_list(&self, now: Timestamp) -> Decision {
        let mut observed = self.observed.clone();
        if let Some(failure) = &mut observed.status.failure {
            failure.unlisted = None;
        }
        decide(&self.object, &observed, now)
    }
}
