//! The order of a pass over one object: a pure function of what the last step found names the next step.
//!
//! [`Pass::next`] alone decides what comes next. The operator performs the steps (`controller::pass`), and the model check answers them from
//! an abstract world (`tests/model`).
//!
//! | Decision | Steps, while each one finds what it hopes for |
//! | --- | --- |
//! | any | observe |
//! | look up the user | recall user; where nothing is known: take turn, list certificates, recall user; then decide again |
//! | issue, by minting | try write, take turn unless it has one, check user, write claim, request certificate, read object, write unsaved |
//! | issue, by signing | request certificate, read object, write signed |
//! | save | read object, write unsaved |
//! | repair | read Secret, read object, write repaired |
//! | adopt | read object, write adopted |
//! | any | report, end |
//!
//! # Guarantees
//!
//! - Nothing is minted without a claim in the status of the newest version of the object, nor before the API server would take the Secret, nor
//!   twice under one claim.
//! - Each write of the Secret but that of an unsaved certificate follows a look at the leadership and at the newest version of the object.
//! - A certificate that was minted is forgotten only when its Secret was written, or when the Secret holds a better one.
//! - [`Pass::next`] is total: it panics at nothing, and answers what cannot be found with [`PassError::OutOfOrder`].
//!
//! # Assumptions
//!
//! - Whoever performs a step keeps the key of a certificate that was made before it asks for the next step.
//! - There is one pass over an object at a time.

mod finish;
mod step;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use kube_core::ResourceExt;

pub use self::step::{
    ClaimedObject, End, Found, Look, PassError, Report, RequestError, RequestErrorKind, Step, WatchByName, Write,
};
use self::{finish::Outcome, step::Found as F};
use super::{
    Decision, Desired, FailedRequest, IssueError, Minted, ObjectMemory, Observed, Order, RecalledUser, Retry, SecretView,
    UnsavedCertificate, decide, record_list,
};
use crate::{
    api::{DatabaseUserCertificate, Reason},
    certificate::{CertificateFacts, SerialNumber},
};

/// How often a pass looks, live after the first time, before it takes an answer of the API server for what it says, or leaves the rest to
/// the next pass.
const LOOKS: u32 = 3;

/// Calls that count against the limit of a project: the list, and the request for the certificate.
const CALLS_WITH_LIST: u32 = 2;
const CALLS: u32 = 1;

/// After an expiry that was waited for, Atlas may take a while to notice it.
const AFTER_EXPIRY: SignedDuration = SignedDuration::from_mins(1);

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
    /// The certificate is as the object wants it.
    Certificate,
    /// What is in memory alone is saved, by a process that stops. Nothing is begun, and the Secret is looked at live.
    SaveOnly,
}

/// What is done at once, in memory, before the step.
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
    },
    /// What is known of the database user holds no longer: an answer was lost.
    ForgetUser {
        /// The database user.
        username: String,
    },
    /// What is known of any user holds no longer: a request was lost, and nobody knows for which user.
    ForgetAllUsers,
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
    /// The object; its claim replaces it by its newer version.
    object: DatabaseUserCertificate,
    observed: Observed,
    decision: Decision,
    looks: u32,
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
    Trying(Wanted),
    TakingTurnToMint(Wanted),
    CheckingUser(Wanted),
    Claiming(Wanted),
    Requesting(Wanted),
    ListingAtLimit(Wanted, IssueError),
    RecallingAtLimit(Wanted, IssueError),
    Withdrawing,
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
            has_turn: false,
            state: State::New,
        }
    }

    /// The same after so many looks, each of which met something else than it had seen. The model check keeps a pass in flight as what it found
    /// since its last look.
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

    /// What is to be remembered of the object; `None` before the first look.
    #[must_use]
    pub const fn memory(&self) -> Option<&ObjectMemory> {
        match self.state {
            State::New | State::Observing => None,
            _ => Some(&self.observed.memory),
        }
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
            (State::TakingTurnToList { username }, F::Turn(is_given)) => self.turn_to_list(username, is_given, now),
            (State::Listing { username }, F::Listed(listed)) => match listed {
                Ok(()) => self.recall_user(username, true),
                Err(error) => self.finish(Outcome::Failed(error), now),
            },
            (State::Trying(wanted), F::Tried(tried)) => self.tried(wanted, tried, now),
            (State::TakingTurnToMint(wanted), F::Turn(is_given)) => self.turn_to_mint(wanted, is_given, now),
            (State::CheckingUser(wanted), F::UserChecked(checked)) => self.user_checked(wanted, checked, now),
            (State::Claiming(wanted), F::Claimed(claimed)) => self.claimed(wanted, claimed),
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
            (State::Withdrawing, F::Withdrawn) => PassError::NotLeading.into(),
            (State::ReadingSecret { with_issuer }, F::SecretRead(read)) => self.secret_read(with_issuer, read, now),
            (State::ReadingObject(write), F::ObjectRead(read)) => self.object_read(write, read, now),
            (State::Writing(write), F::Written(written)) => self.written(write, written, now),
            (State::Writing(_), F::NotRebuilt(error)) => self.finish(Outcome::Failed(error), now),
            (State::Reporting { end, failures_end }, F::Reported(reported)) => self.reported(end, failures_end, reported),
            (_, found) => PassError::OutOfOrder(found.name()).into(),
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
        self.observed = observed;
        match self.purpose {
            Purpose::Certificate => {
                self.decision = decide(&self.object, &self.observed, now.time);
                self.act(now)
            }
            Purpose::SaveOnly => self.save_only(now),
        }
    }

    /// A process that stops does nothing but save. The Secret may hold a better certificate by now: then the one in memory is given up. The
    /// leader counts it by its claim, or has done so.
    fn save_only(&mut self, now: Now) -> Next {
        if let Some(unsaved) = &mut self.observed.memory.unsaved {
            unsaved.failure = None;
        }
        self.decision = decide(&self.object, &self.observed, now.time);
        match &self.decision {
            // A Secret that is adopted now takes the certificate with the next look.
            Decision::Save | Decision::Adopt => self.act(now),
            Decision::Block { reason: Reason::SecretNotOwned, .. } => Step::End(End::AwaitChange).into(),
            _ => {
                self.observed.memory.unsaved = None;
                Step::End(End::AwaitChange).into()
            }
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
            Decision::Save => self.confirm(Write::Unsaved, now),
            Decision::Await
            | Decision::Keep { .. }
            | Decision::LookUpUser { .. }
            | Decision::Queue
            | Decision::CountLostClaim
            | Decision::Wait { .. }
            | Decision::Block { .. } => self.finish(Outcome::Nothing, now),
        }
    }

    /// Something was met that is not as it was observed: the pass looks again, live. If the API server answers so again and again, though
    /// nothing is other than it was just read, that is taken for its answer, for a webhook may answer 404 and 409 too.
    fn look_again(&mut self, answer: Option<Outcome>, now: Now) -> Next {
        match answer {
            _ if self.purpose == Purpose::SaveOnly => Step::End(End::AwaitChange).into(),
            _ if self.looks < LOOKS => self.observe(),
            Some(answer) => self.finish(answer, now),
            None => PassError::Superseded.into(),
        }
    }

    fn recall_user(&mut self, username: String, is_fresh: bool) -> Next {
        self.go(State::RecallingUser { username: username.clone(), is_fresh }, Step::RecallUser { username })
    }

    fn recalled(&mut self, username: String, is_fresh: bool, user: Option<Box<RecalledUser>>, now: Now) -> Next {
        match user {
            Some(user) => self.learn(*user),
            None if is_fresh => {}
            None => {
                let step = Step::TakeTurn { calls: CALLS_WITH_LIST, expiry: self.expiry() };
                return self.go(State::TakingTurnToList { username }, step);
            }
        }
        self.decision = decide(&self.object, &self.observed, now.time);
        match self.decision {
            Decision::LookUpUser { .. } => self.finish(Outcome::Nothing, now),
            _ => self.act(now),
        }
    }

    /// Records what nobody holds. The pass that asked for the list may have come to nothing before it could report.
    fn learn(&mut self, user: RecalledUser) {
        if let Some(list) = user.list {
            record_list(&mut self.observed.status, &list.listed, &list.accounted, list.asked_at);
        }
        self.observed.user = Some(user.certificates);
    }

    fn turn_to_list(&mut self, username: String, is_given: bool, now: Now) -> Next {
        if !is_given {
            return self.finish(Outcome::Queued, now);
        }
        self.has_turn = true;
        self.go(State::Listing { username: username.clone() }, Step::ListCertificates { username })
    }

    /// Without a usable certificate an object counts as expiring when it was created: before all that are in service, the oldest first.
    fn expiry(&self) -> Timestamp {
        let created = || self.object.creation_timestamp().map_or(Timestamp::MIN, |created| created.0);
        self.observed.secret.certificate().map_or_else(created, |certificate| certificate.not_after)
    }

    fn issue(&mut self, wanted: Wanted) -> Next {
        match wanted.desired.order {
            Order::Sign { .. } => self.request(wanted),
            // What is minted cannot be taken back. So it is proven first that the Secret can be written and that the user is one that
            // certificates are made for; then the claim is written.
            Order::Mint { .. } => self.go(State::Trying(wanted), Step::TryWrite),
        }
    }

    fn tried(&mut self, wanted: Wanted, tried: Result<(), RequestError>, now: Now) -> Next {
        match tried {
            Err(error) => self.write_failed(error, now),
            Ok(()) if self.has_turn => self.check_user(wanted),
            Ok(()) => {
                let step = Step::TakeTurn { calls: CALLS, expiry: self.expiry() };
                self.go(State::TakingTurnToMint(wanted), step)
            }
        }
    }

    fn turn_to_mint(&mut self, wanted: Wanted, is_given: bool, now: Now) -> Next {
        if !is_given {
            return self.finish(Outcome::Queued, now);
        }
        self.has_turn = true;
        self.check_user(wanted)
    }

    fn check_user(&mut self, wanted: Wanted) -> Next {
        let username = wanted.desired.username.clone();
        self.go(State::CheckingUser(wanted), Step::CheckUser { username })
    }

    fn user_checked(&mut self, wanted: Wanted, checked: Result<(), IssueError>, now: Now) -> Next {
        match checked {
            Err(error) => self.finish(Outcome::Failed(error), now),
            Ok(()) if !now.may_act => PassError::NotLeading.into(),
            Ok(()) => {
                let cause = wanted.cause;
                self.go(State::Claiming(wanted), Step::WriteClaim { cause })
            }
        }
    }

    fn claimed(&mut self, wanted: Wanted, claimed: Result<Box<ClaimedObject>, RequestError>) -> Next {
        let ClaimedObject { claim, metadata, status } = match claimed {
            Ok(claimed) => *claimed,
            Err(error) => return error.of_object().into(),
        };
        self.object.metadata = metadata;
        self.object.status = Some(status.clone());
        self.observed.status = status;
        self.request(Wanted { claim: Some(claim), ..wanted })
    }

    fn request(&mut self, wanted: Wanted) -> Next {
        let step = Step::RequestCertificate { desired: wanted.desired.clone(), cause: wanted.cause };
        self.go(State::Requesting(wanted), step)
    }

    fn issued(&mut self, wanted: Wanted, certificate: CertificateFacts, now: Now) -> Next {
        let Wanted { desired, cause, claim } = wanted;
        if matches!(desired.order, Order::Sign { .. }) {
            return self.confirm(Write::Signed { cause }, now);
        }
        self.observed.memory.unsaved = Some(UnsavedCertificate { certificate, claim, cause, failure: None });
        let mut next = self.confirm(Write::Unsaved, now);
        next.changes.push(Change::CountMinted { username: desired.username });
        next
    }

    /// A request that failed. Under a claim it is remembered how, until the status says so: the report may meet a newer object.
    fn not_issued(&mut self, wanted: Wanted, error: IssueError, now: Now) -> Next {
        if error.minted == Minted::No && !now.may_act {
            // Nothing was asked for under the claim: it need not be taken for lost, unless the leader has done so already.
            return match wanted.claim {
                Some(_) => self.go(State::Withdrawing, Step::WithdrawClaim),
                None => PassError::NotLeading.into(),
            };
        }
        let username = wanted.desired.username.clone();
        let lost = (error.minted == Minted::Possibly).then(|| Change::ForgetUser { username: username.clone() });
        let mut next = if error.reason == Reason::AtlasCertificateLimit {
            self.go(State::ListingAtLimit(wanted, error), Step::ListCertificates { username })
        } else {
            self.failed_to_issue(&wanted, error, now)
        };
        next.changes.splice(0..0, lost);
        next
    }

    /// Atlas makes no more certificates for the user until one expires: that is waited for.
    fn listed_at_limit(&mut self, wanted: &Wanted, mut error: IssueError, user: Option<Box<RecalledUser>>, now: Now) -> Next {
        if let Some(user) = user {
            let listed = user.list.as_ref().map(|list| list.listed.as_slice()).unwrap_or_default();
            let expiries = listed.iter().map(|listed| listed.not_after).filter(|not_after| *not_after > now.time);
            if let Some(first) = expiries.min() {
                let count = listed.len();
                error.message = format!("{}; the first of {count} certificates expires at {first}", error.message);
                error.retry = Retry::At(first.saturating_add(AFTER_EXPIRY).unwrap_or(first));
            }
            self.learn(*user);
        }
        self.failed_to_issue(wanted, error, now)
    }

    fn failed_to_issue(&mut self, wanted: &Wanted, error: IssueError, now: Now) -> Next {
        if let Some(claim) = wanted.claim.clone() {
            self.observed.memory.failed_request = Some(FailedRequest { claim, error: error.clone() });
        }
        self.finish(Outcome::Failed(error), now)
    }

    fn secret_read(&mut self, with_issuer: bool, read: Result<Option<SerialNumber>, RequestError>, now: Now) -> Next {
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
    fn confirm(&mut self, write: Write, now: Now) -> Next {
        if write != Write::Unsaved && !now.may_act {
            return PassError::NotLeading.into();
        }
        self.go(State::ReadingObject(write), Step::ReadObject)
    }

    fn object_read(&mut self, write: Write, read: Result<bool, RequestError>, now: Now) -> Next {
        match read {
            Ok(true) => self.go(State::Writing(write), Step::WriteSecret(write)),
            // The newer spec may not want the certificate any more that is about to be replaced. The next pass decides.
            Ok(false) => PassError::Superseded.into(),
            Err(error) if write == Write::Unsaved => self.finish(Outcome::not_saved(&error), now),
            Err(error) => PassError::Request(error).into(),
        }
    }

    fn written(&mut self, write: Write, written: Result<Box<SecretView>, RequestError>, now: Now) -> Next {
        let view = match (written, write) {
            (Ok(view), _) => view,
            (Err(error), Write::Unsaved) if error.kind == RequestErrorKind::Conflict => {
                return self.look_again(Some(Outcome::not_saved(&error)), now);
            }
            (Err(error), Write::Unsaved) => return self.finish(Outcome::not_saved(&error), now),
            (Err(error), _) => return self.write_failed(error, now),
        };
        let reason = match write {
            Write::Signed { cause } => cause,
            Write::Unsaved => self.observed.memory.unsaved.take().map_or(Reason::Issued, |unsaved| unsaved.cause),
            Write::Repaired { .. } => Reason::SecretRepaired,
            Write::Adopted => Reason::SecretAdopted,
        };
        self.finish(Outcome::Written(view, reason), now)
    }

    /// A write of the Secret failed, and nothing that it held is worth keeping. Without an answer nobody can say what came of it: then the
    /// pass fails and is repeated.
    fn write_failed(&mut self, error: RequestError, now: Now) -> Next {
        let failed = Outcome::Failed(IssueError {
            reason: error.reason(),
            message: error.message.clone(),
            retry: Retry::Backoff,
            minted: Minted::No,
        });
        match error.kind {
            RequestErrorKind::Unanswered => PassError::Request(error).into(),
            RequestErrorKind::Conflict | RequestErrorKind::NotFound => self.look_again(Some(failed), now),
            _ => self.finish(failed, now),
        }
    }

    fn reported(&mut self, end: End, failures_end: bool, reported: Result<(), RequestError>) -> Next {
        if let Err(error) = reported {
            return error.of_object().into();
        }
        // An API server that fails at everything fails at the report too, and is asked less and less often.
        if failures_end {
            self.observed.memory.failures = 0;
        }
        self.observed.memory.failed_request = None;
        Step::End(end).into()
    }
}

impl Found {
    const fn name(&self) -> &'static str {
        match self {
            Self::Begun => "the beginning",
            Self::Observed(_) => "a look",
            Self::Recalled(_) => "a database user",
            Self::Turn(_) => "a turn",
            Self::Listed(_) => "a list",
            Self::Tried(_) => "a write that was tried",
            Self::UserChecked(_) => "a user that was checked",
            Self::Claimed(_) => "a claim",
            Self::Withdrawn => "a claim that was withdrawn",
            Self::Issued(_) | Self::NotIssued(_) => "the end of a request",
            Self::SecretRead(_) => "a Secret",
            Self::ObjectRead(_) => "an object",
            Self::Written(_) | Self::NotRebuilt(_) => "the end of a write",
            Self::Reported(_) => "a report",
        }
    }
}
