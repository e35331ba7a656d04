//! The order of a pass: what the last step found decides the next. Pure.
//!
//! [`Pass::next`] alone decides what comes next. The operator performs the steps (`controller::pass`), and the model check answers them from
//! an abstract world (`tests/model`).
//!
//! | Decision | Steps, if each one succeeds |
//! | --- | --- |
//! | any | observe |
//! | look up the user | recall user; where nothing is known: take turn, list certificates, recall user; then decide again |
//! | issue, by minting | try write, take turn unless it has one, check user, write claim, request certificate, read object, write unsaved |
//! | issue, by signing | request certificate, read object, write signed; before, for an RSA key: make key |
//! | count a lost claim, where Atlas listed the user's certificates before it | take turn, list certificates, recall user |
//! | save | read object, write unsaved |
//! | repair | read Secret, read object, write repaired |
//! | adopt | read object, write adopted |
//! | apply the deletion policy | read object, write deletion policy |
//! | any | report, end |
//!
//! Where a step does not succeed, the tables in `tests` say what follows. Three cases add steps: a request that was not sent because the process
//! does not lead any more (withdraw claim), Atlas's limit of certificates for a user (list certificates, recall user), and a write that met
//! something else than was observed (observe again, live). A process that stops ([`Purpose::SaveOnly`]) saves, and does nothing else.
//! To write a new certificate may take reads too, of what the spec wants kept from the Secret or taken from another: these may fail without holding
//! it up, so they are no steps (`controller::pass::additions`).
//!
//! # Guarantees
//!
//! - Nothing is minted without a claim in the status of the newest version of the object, nor before the API server would take the Secret, nor
//!   twice under one claim.
//! - Before each write of the Secret the object is read live. Before each but that of an unsaved certificate the process leads.
//! - A certificate that was minted is forgotten only when its Secret was written, when the Secret holds a better one, when the
//!   Secret holds one that works for another subject that is wanted now, or when the object is gone. While nobody knows which subject
//!   is wanted, both certificates stay. A process that stops then saves the one in memory, unless the one in the Secret was asked for later.
//! - [`Pass::next`] never panics; an answer that a step cannot have gives [`PassError::OutOfOrder`].
//!
//! # Assumptions
//!
//! - Whoever performs a step keeps the key of a certificate that was made before it asks for the next step.
//! - There is one pass over an object at a time.

mod count;
mod finish;
mod issue;
mod outcome;
mod step;
#[cfg(test)]
mod tests;
mod write;

use jiff::Timestamp;

pub use self::outcome::PassOutcome;
pub use self::step::{
    ClaimedObject, End, Found, Look, PassError, Report, RequestError, RequestErrorKind, Step, TurnFound, WatchByName, Write,
};
use self::{finish::Outcome, step::Found as F};
use super::{Decision, Desired, IssueError, ObjectMemory, Observed, decide};
use crate::{
    api::{DatabaseUserCertificate, Reason},
    certificate::SerialNumber,
};

/// How many looks a pass takes, all live but the first of an ordinary pass. After the last, a refusal counts as final, or the next
/// pass goes on.
const LOOKS: u32 = 3;

/// Calls that count against the limit of a project, with the list: one for it, one for the certificate.
pub const CALLS_WITH_LIST: u32 = 2;

/// Without the list: the request for the certificate.
const CALLS: u32 = 1;

/// The time and the leadership, when a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time.
    pub time: Timestamp,
    /// Whether this process leads and is not stopping.
    pub may_act: bool,
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An ordinary pass: the Secret becomes what the object wants.
    Certificate,
    /// What is in memory alone is saved, by a process that stops. Nothing is begun, and the Secret is looked at live.
    SaveOnly,
}

/// A change of what is in memory, made before the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The turn has ended: others may ask the issuer.
    EndTurn,
    /// The object needs no turn any more.
    LeaveQueue,
    /// The object takes a place in the queue for a later pass.
    QueueAgain {
        /// As in [`Step::TakeTurn`].
        calls: u32,
        /// As in [`Step::TakeTurn`].
        expiry: Timestamp,
    },
    /// A certificate was minted for the database user.
    CountMinted {
        /// The database user.
        username: String,
        /// The certificate.
        serial_number: SerialNumber,
    },
    /// What is known of the database user holds no longer: an answer was lost.
    ForgetUser {
        /// The database user.
        username: String,
    },
    /// What is known of the database user that a claim names holds no longer: the claim counts as lost.
    ForgetClaimedUser {
        /// The key in the claim. `None`: the claim names no user, as those of release 0.1.0 do. Then nothing that this process knows is of
        /// the time before the claim.
        key: Option<String>,
    },
}

/// The next step, and what is done in memory before.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// In this order.
    pub changes: Vec<Change>,
    /// The step.
    pub step: Step,
}

impl From<Step> for Next {
    fn from(step: Step) -> Self {
        Self { changes: Vec::new(), step }
    }
}

impl From<PassError> for Next {
    fn from(error: PassError) -> Self {
        Step::End(End::Failed(error)).into()
    }
}

/// A pass over one object, between two of its steps.
#[derive(Clone, Debug)]
pub struct Pass {
    purpose: Purpose,
    /// The object as the pass began. Each further look starts from it.
    begun_with: DatabaseUserCertificate,
    /// The object. After a claim, its newer version.
    object: DatabaseUserCertificate,
    observed: Observed,
    decision: Decision,
    looks: u32,
    has_looked: bool,
    has_turn: bool,
    state: State,
}

/// A certificate that is about to be issued.
#[derive(Clone, Debug)]
struct Wanted {
    desired: Box<Desired>,
    cause: Reason,
    claim: Option<String>,
}

/// Which step is under way.
#[derive(Clone, Debug)]
enum State {
    New,
    Observing,
    /// `is_fresh`: the list has just come.
    RecallingUser {
        username: String,
        is_fresh: bool,
    },
    TakingTurnToList {
        username: String,
    },
    Listing {
        username: String,
    },
    MakingKey(Wanted),
    Trying(Wanted),
    TakingTurnToMint(Wanted),
    CheckingUser(Wanted),
    Claiming(Wanted),
    Requesting(Wanted),
    ListingAtLimit(Wanted, IssueError),
    RecallingAtLimit(Wanted, IssueError),
    Withdrawing,
    TakingTurnToCount {
        username: String,
    },
    ListingToCount {
        username: String,
    },
    RecallingToCount,
    ReadingSecret {
        with_issuer: bool,
    },
    ReadingObject(Write),
    Writing(Write),
    Reporting {
        end: End,
        failures_end: bool,
    },
    Ended,
}

impl Pass {
    /// A pass over the object as a watch has shown it.
    #[must_use]
    pub fn new(object: DatabaseUserCertificate, purpose: Purpose) -> Self {
        Self {
            purpose,
            begun_with: object.clone(),
            object,
            observed: Observed::default(),
            decision: Decision::Await,
            looks: 0,
            has_looked: false,
            has_turn: false,
            state: State::New,
        }
    }

    /// A pass that has looked so many times already. The model check begins passes in their middle.
    #[must_use]
    pub fn after_looks(object: DatabaseUserCertificate, purpose: Purpose, looks: u32) -> Self {
        Self { looks, ..Self::new(object, purpose) }
    }

    /// The object, in the newest version that the pass knows.
    #[must_use]
    pub const fn object(&self) -> &DatabaseUserCertificate {
        &self.object
    }

    /// What was observed, with what the pass has learned since.
    #[must_use]
    pub const fn observed(&self) -> &Observed {
        &self.observed
    }

    /// What is to be remembered of the object; `None` until a look has succeeded, for before that the pass knows nothing of what was remembered.
    #[must_use]
    pub fn memory(&self) -> Option<&ObjectMemory> {
        self.has_looked.then_some(&self.observed.memory)
    }

    /// How often the pass has looked.
    #[must_use]
    pub const fn looks(&self) -> u32 {
        self.looks
    }

    /// What was decided last.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The next step, after what the last one found.
    pub fn next(&mut self, found: Found, now: Now) -> Next {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match (state, found) {
            (State::New, F::Begun) => self.observe(),
            (State::Observing, F::Observed(observed)) => match observed {
                Ok(observed) => self.looked(*observed, now),
                Err(error) => PassError::Request(error).into(),
            },
            (State::RecallingUser { username, is_fresh }, F::Recalled(user)) => self.recalled(username, is_fresh, user, now),
            (State::TakingTurnToList { username }, F::Turn(turn)) => self.turn_to_list(username, turn, now),
            (State::Listing { username }, F::Listed(listed)) => match listed {
                Ok(()) => self.recall_user(username, true),
                Err(error) => self.finish(Outcome::Failed(error), now),
            },
            (State::MakingKey(wanted), F::Turn(key)) => self.key_made(wanted, key == TurnFound::Given, now),
            (State::Trying(wanted), F::Tried(tried)) => self.tried(wanted, tried, now),
            (State::TakingTurnToMint(wanted), F::Turn(turn)) => self.turn_to_mint(wanted, turn, now),
            (State::CheckingUser(wanted), F::UserChecked(checked)) => self.user_checked(wanted, checked, now),
            (State::Claiming(wanted), F::Claimed(claimed)) => self.claimed(wanted, *claimed),
            (State::Claiming(_), F::NotClaimed(claim, error)) => self.not_claimed(claim, error),
            (State::Requesting(wanted), F::Issued(certificate)) => self.issued(wanted, *certificate, now),
            (State::Requesting(wanted), F::NotIssued(error)) => self.not_issued(wanted, error, now),
            (State::ListingAtLimit(wanted, error), F::Listed(listed)) => match listed {
                Ok(()) => {
                    let username = wanted.desired.username.clone();
                    self.go(State::RecallingAtLimit(wanted, error), Step::RecallUser { username })
                }
                Err(_) => self.failed_to_issue(&wanted, error, now),
            },
            (State::RecallingAtLimit(wanted, error), F::Recalled(user)) => self.listed_at_limit(&wanted, error, user, now),
            (State::TakingTurnToCount { username }, F::Turn(turn)) => self.turn_to_count(username, turn, now),
            // Whatever the list might have shown, the claim counts.
            (State::ListingToCount { .. }, F::Listed(Err(_))) => self.finish(Outcome::Nothing, now),
            (State::ListingToCount { username }, F::Listed(Ok(()))) => {
                self.go(State::RecallingToCount, Step::RecallUser { username })
            }
            (State::RecallingToCount, F::Recalled(user)) => self.recalled_to_count(user, now),
            (State::Withdrawing, F::Withdrawn) => PassError::NotLeading.into(),
            (State::ReadingSecret { with_issuer }, F::SecretRead(read)) => self.secret_read(with_issuer, read, now),
            (State::ReadingObject(write), F::ObjectRead(read)) => self.object_read(write, read, now),
            (State::Writing(write), F::Written(written)) => self.written(write, written, now),
            (State::Writing(Write::Repaired { .. }), F::NotRebuilt(error)) => self.finish(Outcome::Failed(error), now),
            (State::Reporting { end, failures_end }, F::Reported(reported)) => self.reported(end, failures_end, reported),
            _ => PassError::OutOfOrder.into(),
        }
    }

    fn go(&mut self, state: State, step: Step) -> Next {
        self.state = state;
        step.into()
    }

    fn observe(&mut self) -> Next {
        let look = if self.looks == 0 && self.purpose == Purpose::Certificate { Look::Known } else { Look::Live };
        self.looks += 1;
        self.object.clone_from(&self.begun_with);
        let had_turn = std::mem::take(&mut self.has_turn);
        let mut next = self.go(State::Observing, Step::Observe(look));
        next.changes.extend(had_turn.then_some(Change::EndTurn));
        next
    }

    fn looked(&mut self, observed: Observed, now: Now) -> Next {
        // The status is that of the object which the pass goes on with: a claim of this pass stands in it.
        let status = self.object.status.clone().unwrap_or_default();
        self.observed = Observed { status, ..observed };
        self.has_looked = true;
        let memory = &mut self.observed.memory;
        memory.owner_failure.take_if(|failure| !failure.holds(now.time));
        memory.repair_failure.take_if(|failure| !failure.holds(now.time));
        match self.purpose {
            Purpose::Certificate => {
                self.decision = decide(&self.object, &self.observed, now.time);
                self.act(now)
            }
            Purpose::SaveOnly => self.save_only(now),
        }
    }

    /// The first step for what was decided.
    fn act(&mut self, now: Now) -> Next {
        match self.decision.clone() {
            Decision::LookUpUser { username, .. } if self.observed.user.is_none() => self.recall_user(username, false),
            Decision::Issue { desired, cause } => self.issue(Wanted { desired, cause, claim: None }),
            Decision::Repair { renewal_time } => {
                self.go(State::ReadingSecret { with_issuer: renewal_time.is_some() }, Step::ReadSecret)
            }
            Decision::Adopt => self.confirm(Write::Adopted, now),
            Decision::ApplyDeletionPolicy => self.confirm(Write::DeletionPolicy, now),
            Decision::Save => self.confirm(Write::Unsaved, now),
            Decision::CountLostClaim | Decision::LookForLost => self.count(now),
            Decision::Await
            | Decision::Keep { .. }
            | Decision::LookUpUser { .. }
            | Decision::Queue { .. }
            | Decision::AwaitKey
            | Decision::Suspend
            | Decision::Wait { .. }
            | Decision::Block { .. } => self.finish(Outcome::Nothing, now),
        }
    }

    /// Something differs from what was observed: look again, live. After the last look the refusal is taken for final, because a
    /// webhook may answer 404 or 409 too.
    fn look_again(&mut self, answer: Option<Outcome>, now: Now) -> Next {
        match answer {
            _ if self.purpose == Purpose::SaveOnly => Step::End(End::AwaitChange).into(),
            _ if self.looks < LOOKS => self.observe(),
            Some(answer) => self.finish(answer, now),
            None => PassError::Superseded.into(),
        }
    }
}
