//! The steps before a claim without its certificate is counted: whether Atlas lists that certificate.

use super::{CALLS, Next, Now, Pass, State, Step, TurnFound, finish::Outcome};
use crate::decide::{Desired, RecalledUser};

impl Pass {
    /// Asks for the list, if it can tell what became of the request under the claim. Otherwise the claim counts as lost.
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
        let claim = self.observed.status.issuance.as_ref().filter(|claim| !self.observed.memory.knows_of(&claim.id))?;
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
        let claim = self.observed.status.issuance.as_ref();
        let lost = user.filter(|user| claim.is_some_and(|claim| user.shows_loss(claim)));
        let outcome = match lost {
            // Only the leader may count it: the claim may belong to another process that leads now.
            Some(user) if now.may_act => Outcome::KnownLoss(user),
            _ => Outcome::Nothing,
        };
        self.finish(outcome, now)
    }
}
