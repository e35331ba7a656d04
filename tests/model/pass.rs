//! A pass in flight: what its steps found since its last look. The operator's own `Pass::next` names the next step, anew for each question.
//!
//! It is pure, so each question is put to it once, however many states ask it.

use std::{cell::RefCell, collections::HashMap};

use usercert_operator::{
    api::Reason,
    decide::{
        self, Decision, NewClaim, RecalledList, RecalledUser, UserCertificates, next_look,
        pass::{self, Change, ClaimedObject, End, Next, Now, PassError, Purpose, RequestError, RequestErrorKind},
    },
};

use crate::{
    translation::{
        NO_CLAIM, PROCESSES, USER_KEYS, abstract_status, account_of, at, certificate, issue_error, listed, real_before,
        real_object, real_observed, real_view, serial, serial_number, time,
    },
    world::{Account, Claimant, Content, Failed, Object, ObjectMemory, Secret, Serial, Status, Time, Wake},
};

/// The longest sleep, and that of what is due, in seconds.
const LONGEST_SLEEP: Time = 3600;
const SOON: Time = 30;

/// What a step found, and what it is asked with then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    pub found: Found,
    pub now: Time,
    pub leads: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Found {
    Observed {
        secret: Option<Secret>,
        memory: ObjectMemory,
    },
    NotObserved(Problem),
    Recalled(Option<Recalled>),
    Turn,
    Listed,
    Tried(Result<(), Problem>),
    UserChecked,
    Claimed(Object),
    /// The claim with this id was not written, as far as is known.
    NotClaimed(u8, Problem),
    Withdrawn,
    Issued(Serial),
    NotIssued(Failed),
    ObjectRead,
    Written(Result<Secret, Problem>),
}

/// How a request to the API server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Problem {
    Unanswered,
    Conflict,
    NotFound,
    Refused,
}

/// What is known of the database user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Recalled {
    /// Who sees it so.
    pub account: Account,
    pub made: Vec<Time>,
    /// What a claim remembers of the list.
    pub before: Option<Vec<Serial>>,
    /// How many claims stand.
    pub claims: u8,
    pub list: Option<List>,
}

/// Atlas's list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct List {
    pub serials: Vec<Serial>,
    pub asked_at: Time,
    pub accounted: Vec<Serial>,
}

/// Whom the issuer asks, who wrote the claim in question, and whether the user is not known.
pub type Knows = (Account, Claimant, bool);

/// A pass since its last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Log {
    /// The object as the pass began.
    pub object: Object,
    /// What was known when the pass looked.
    pub knows: Knows,
    /// Whether the process stops, and does nothing but save.
    pub saves_only: bool,
    /// How many looks there were before.
    pub looks: u8,
    pub found: Vec<Entry>,
}

/// A pass in flight, and its next step, which follows from the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pass {
    pub log: Log,
    pub step: Step,
}

/// A step. Between any two of them all else may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// At once, in the memory of the process or of what does not change in this world.
    Observe {
        live: bool,
    },
    Recall,
    TakeTurn,
    CheckUser,
    ReadObject,
    /// Atlas is asked for its list.
    List,
    /// The Secret is proven writable.
    TryWrite,
    /// The claim is written to the status.
    Claim(Reason),
    /// The claim is taken back, for nothing was asked for.
    Withdraw,
    /// The leadership is asked right before the request.
    Permit,
    /// The request that mints.
    Post,
    /// The Secret is written.
    Write,
    /// The status is written. The rest is what follows if it is.
    Report {
        status: Option<Box<Status>>,
        rest: Rest,
        failures: u8,
    },
    /// The pass has ended.
    End(Ended),
}

/// When the object is looked at again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rest {
    pub wake: Option<Wake>,
    /// Within half a minute.
    pub soon: bool,
}

/// How a pass ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ended {
    Rest(Rest),
    /// A watch, or another leader, sees to the rest.
    Early,
    /// It failed and is repeated.
    Failed,
}

/// What follows from what was found last.
#[derive(Clone, Debug)]
pub struct Followed {
    pub step: Step,
    /// What is to be remembered of the object; what the Secret is to hold is added by whoever keeps it.
    pub memory: Option<decide::ObjectMemory>,
    pub made: Option<Serial>,
    /// The accounts of which what is known of the user is forgotten.
    pub forgets: Vec<Account>,
}

/// A claim with this id, for this cause, at this time, in this pass.
type ClaimQuestion = (Vec<Time>, Log, u8, Reason, Time);

thread_local! {
    static FOLLOWED: RefCell<HashMap<(Vec<Time>, Log), Followed>> = RefCell::default();
    static CLAIMS: RefCell<HashMap<ClaimQuestion, Status>> = RefCell::default();
}

/// Asks the operator what follows.
pub fn followed(log: &Log, ledger: &[Time]) -> Followed {
    FOLLOWED.with_borrow_mut(|known| {
        let key = (ledger.to_vec(), log.clone());
        known.entry(key).or_insert_with(|| follow(log, ledger)).clone()
    })
}

/// The status that the operator would claim a certificate with.
pub fn claimed(log: &Log, ledger: &[Time], id: u8, cause: Reason, now: Time) -> Status {
    CLAIMS.with_borrow_mut(|known| {
        let key = (ledger.to_vec(), log.clone(), id, cause, now);
        let ask = || {
            let (pass, _) = fold(log, ledger);
            let new = NewClaim { id: &id.to_string(), cause, user: pass.observed().user.as_ref(), process: Some(PROCESSES[0]) };
            abstract_status(&decide::claimed(pass.object(), &pass.observed().status, new, at(now)))
        };
        known.entry(key).or_insert_with(ask).clone()
    })
}

/// The pass after all that was found, and what it names then.
fn fold(log: &Log, ledger: &[Time]) -> (pass::Pass, Next) {
    let purpose = if log.saves_only { Purpose::SaveOnly } else { Purpose::Certificate };
    let mut pass = pass::Pass::after_looks(real_object(&log.object, ledger), purpose, u32::from(log.looks));
    let mut next = pass.next(pass::Found::Begun, Now { time: at(0), may_act: true });
    for entry in &log.found {
        next = pass.next(real_found(&entry.found, log.knows, ledger), Now { time: at(entry.now), may_act: entry.leads });
    }
    (pass, next)
}

fn follow(log: &Log, ledger: &[Time]) -> Followed {
    let (pass, Next { changes, step }) = fold(log, ledger);
    let now = log.found.last().map_or(0, |entry| entry.now);
    Followed {
        memory: pass.memory().cloned(),
        made: changes.iter().find_map(|change| match change {
            Change::CountMinted { serial_number, .. } => Some(serial(serial_number.as_str())),
            _ => None,
        }),
        forgets: changes
            .iter()
            .filter_map(|change| match change {
                Change::ForgetUser { .. } => Some(log.knows.0),
                Change::ForgetClaimedUser { key } => key.as_deref().map(account_of),
                _ => None,
            })
            .collect(),
        step: abstract_step(step, pass, now),
    }
}

fn abstract_step(step: pass::Step, mut pass: pass::Pass, now: Time) -> Step {
    match step {
        pass::Step::Observe(look) => Step::Observe { live: look == pass::Look::Live },
        pass::Step::RecallUser { .. } => Step::Recall,
        pass::Step::TakeTurn { .. } | pass::Step::MakeKey { .. } => Step::TakeTurn,
        pass::Step::ListCertificates { .. } => Step::List,
        pass::Step::TryWrite => Step::TryWrite,
        pass::Step::CheckUser { .. } => Step::CheckUser,
        pass::Step::WriteClaim { cause } => Step::Claim(cause),
        pass::Step::WithdrawClaim => Step::Withdraw,
        pass::Step::RequestCertificate { .. } => Step::Permit,
        pass::Step::ReadObject => Step::ReadObject,
        pass::Step::WriteSecret(pass::Write::Unsaved) => Step::Write,
        pass::Step::ReadSecret | pass::Step::WriteSecret(_) => unreachable!("{step}: nothing is signed, spoilt or abandoned"),
        pass::Step::Report(report) => {
            assert_report_fails_without_effect(&pass, now);
            let status = report.status.map(|status| Box::new(abstract_status(&status)));
            let end = pass.next(pass::Found::Reported(Ok(())), Now { time: at(now), may_act: true }).step;
            let memory = pass.memory().unwrap();
            let (failures, ends) = (u8::try_from(memory.failures).unwrap(), memory.failed_request.is_none());
            assert!(ends, "the status tells how the request failed");
            Step::Report { status, rest: rest(&end, &pass, now), failures }
        }
        pass::Step::End(end) => Step::End(ended(&end)),
    }
}

/// A report that fails ends the pass, and nothing is forgotten.
fn assert_report_fails_without_effect(pass: &pass::Pass, now: Time) {
    for problem in [Problem::Unanswered, Problem::Conflict, Problem::NotFound, Problem::Refused] {
        let mut failed = pass.clone();
        let next = failed.next(pass::Found::Reported(Err(request_error(problem))), Now { time: at(now), may_act: true });
        assert_eq!(failed.memory(), pass.memory());
        let pass::Step::End(end) = next.step else { panic!("{}", next.step) };
        assert_eq!(ended(&end), not_reported(problem));
    }
}

/// The object sleeps until its next look and a second longer, an hour at most; what is due is looked at within half a minute.
fn rest(end: &pass::Step, pass: &pass::Pass, now: Time) -> Rest {
    let pass::Step::End(End::Sleep(sleep)) = end else { panic!("{end}") };
    let sleep = Time::try_from(sleep.as_secs()).unwrap();
    let next = next_look(pass.observed(), pass.decision(), at(now)).map(time);
    let until = next.map_or(LONGEST_SLEEP, |next| (next - now + 1).min(LONGEST_SLEEP));
    assert!(sleep == until || sleep == SOON && sleep < until, "{sleep} s, and the next look is due in {until} s");
    // While the user is not known nothing is tried again: the object is looked at when the certificate expires.
    let retries = !matches!(pass.decision(), Decision::Keep { .. } | Decision::Block { .. });
    Rest { wake: next.map(if retries { Wake::Retry } else { Wake::Renewal }), soon: sleep < until }
}

fn ended(end: &End) -> Ended {
    match end {
        End::Failed(PassError::Request(_)) => Ended::Failed,
        End::Failed(PassError::OutOfOrder) => panic!("{end}"),
        End::Failed(PassError::Superseded | PassError::Outdated(_) | PassError::NotLeading) | End::AwaitChange => Ended::Early,
        End::Sleep(_) => unreachable!("a pass that sleeps has reported"),
    }
}

/// How a report ends that was not written.
pub fn not_reported(problem: Problem) -> Ended {
    ended(&End::Failed(request_error(problem).of_object()))
}

fn request_error(problem: Problem) -> RequestError {
    let kind = match problem {
        Problem::Unanswered => RequestErrorKind::Unanswered,
        Problem::Conflict => RequestErrorKind::Conflict,
        Problem::NotFound => RequestErrorKind::NotFound,
        Problem::Refused => RequestErrorKind::Refused,
    };
    RequestError { operation: "write", kind, message: String::new() }
}

fn real_found(found: &Found, knows: Knows, ledger: &[Time]) -> pass::Found {
    use pass::Found as Real;
    match found {
        Found::Observed { secret, memory } => {
            Real::Observed(Ok(Box::new(real_observed(secret.as_ref(), memory, knows, ledger))))
        }
        Found::NotObserved(problem) => Real::Observed(Err(request_error(*problem))),
        Found::Recalled(user) => Real::Recalled(user.as_ref().map(|user| Box::new(real_user(user, ledger)))),
        Found::Turn => Real::Turn(pass::TurnFound::Given),
        Found::Listed => Real::Listed(Ok(())),
        Found::Tried(tried) => Real::Tried(tried.map_err(request_error)),
        Found::UserChecked => Real::UserChecked(Ok(())),
        Found::Claimed(object) => Real::Claimed(Box::new(real_claim(object, ledger))),
        Found::NotClaimed(id, problem) => Real::NotClaimed(id.to_string(), request_error(*problem)),
        Found::Withdrawn => Real::Withdrawn,
        Found::Issued(serial) => Real::Issued(Box::new(certificate(ledger, *serial))),
        Found::NotIssued(failed) => Real::NotIssued(issue_error(*failed)),
        Found::ObjectRead => Real::ObjectRead(Ok(true)),
        Found::Written(written) => Real::Written(
            written.as_ref().map(|secret| Box::new(real_view(secret, ledger))).map_err(|problem| request_error(*problem)),
        ),
    }
}

fn real_user(user: &Recalled, ledger: &[Time]) -> RecalledUser {
    let list = |list: &List| RecalledList {
        listed: listed(ledger, &list.serials),
        asked_at: at(list.asked_at),
        accounted: list.accounted.iter().map(|serial| serial_number(*serial).into()).collect(),
    };
    RecalledUser {
        certificates: UserCertificates {
            key: USER_KEYS[usize::from(user.account)].to_owned(),
            listed: user.before.as_ref().map(|before| real_before(before)),
            claims: usize::from(user.claims),
            made: user.made.iter().map(|time| at(*time)).collect(),
            objects: 1,
        },
        list: user.list.as_ref().map(list),
    }
}

fn real_claim(object: &Object, ledger: &[Time]) -> ClaimedObject {
    let real = real_object(object, ledger);
    ClaimedObject {
        claim: object.status.claim.as_ref().map_or(NO_CLAIM, |claim| claim.id).to_string(),
        metadata: real.metadata,
        status: real.status.unwrap(),
    }
}

impl Log {
    /// The claim that the pass has written.
    pub fn claim(&self) -> Option<u8> {
        let claimed = self.found.iter().find_map(|entry| match &entry.found {
            Found::Claimed(object) => Some(object),
            _ => None,
        });
        claimed?.status.claim.as_ref().map(|claim| claim.id)
    }

    /// The object, in the newest version that the pass knows.
    pub fn newest(&self) -> &Object {
        let claimed = self.found.iter().find_map(|entry| match &entry.found {
            Found::Claimed(object) => Some(object),
            _ => None,
        });
        claimed.unwrap_or(&self.object)
    }

    /// The Secret that the pass has seen.
    pub fn secret(&self) -> Option<&Secret> {
        self.found.iter().find_map(|entry| match &entry.found {
            Found::Observed { secret, .. } => secret.as_ref(),
            _ => None,
        })
    }

    /// What follows a step that succeeded does not depend on the time and the leadership. To leave them out makes states equal.
    pub fn forget_time_of_last(&mut self) {
        let Some(first) = self.found.first().map(|entry| entry.now) else { return };
        let Some(last) = self.found.last_mut() else { return };
        let is_timeless = matches!(
            last.found,
            Found::Turn
                | Found::Listed
                | Found::Tried(Ok(()))
                | Found::UserChecked
                | Found::Claimed(_)
                | Found::Issued(_)
                | Found::ObjectRead
        );
        if is_timeless {
            (last.now, last.leads) = (first, true);
        }
    }
}

/// What the Secret is to hold of what was minted in this pass.
pub fn content(log: &Log, serial: Serial) -> Content {
    let forced = log.newest().status.claim.as_ref().is_some_and(|claim| claim.forced);
    Content { serial, claim: log.claim(), renewal: log.object.renewal, forced }
}
