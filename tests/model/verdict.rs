//! What the operator decides, and what it would report: the only place where its own functions are asked.
//!
//! They are pure, so each question is put to them once, however many states ask it.

use std::{cell::RefCell, collections::HashMap};

use usercert_operator::{
    api::Reason,
    decide::{self, Decision, Desired, decide},
};

use crate::{
    account::RecalledList,
    translation::{FACTS, UID, abstract_status, at, issue_error, real_object, real_observed, time},
    world::{Failed, Object, Secret, Status, Time, Unsaved},
};

/// What is known when a decision is to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Picture {
    pub now: Time,
    pub ledger: Vec<Time>,
    pub object: Object,
    pub status: Status,
    pub secret: Option<Secret>,
    pub unsaved: Option<Unsaved>,
    pub made: Option<Vec<Time>>,
}

/// What the status has to tell besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Nothing,
    Failed(Failed),
    /// A claim is taken for lost.
    LostClaim,
    /// A claim is dropped without a word, which is a mutation.
    DroppedClaim,
}

/// A decision, as far as it matters what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    Keep,
    Issue(Reason),
    Examine(Reason),
    Save,
    Account,
    Other,
}

/// A decision, the status that follows, and when to look again.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub decided: Decided,
    pub status: Status,
    pub next: Option<Time>,
}

thread_local! {
    static VERDICTS: RefCell<HashMap<(Picture, Event), Verdict>> = RefCell::default();
}

/// Asks the operator.
pub fn verdict(picture: Picture, event: Event) -> Verdict {
    VERDICTS.with_borrow_mut(|verdicts| {
        verdicts.entry((picture, event)).or_insert_with_key(|(picture, event)| ask(picture, *event)).clone()
    })
}

fn ask(picture: &Picture, event: Event) -> Verdict {
    let (now, ledger) = (at(picture.now), &picture.ledger);
    let object = real_object(&picture.object, ledger);
    let mut observed =
        real_observed(&picture.status, picture.secret.as_ref(), picture.unsaved.as_ref(), picture.made.as_ref(), ledger);
    match event {
        Event::Nothing => {}
        Event::Failed(failed) => {
            let desired = Desired::new(&object, &FACTS).unwrap();
            decide::record_failure(&mut observed.status, &desired, &FACTS, None, &issue_error(failed), now);
        }
        Event::LostClaim => decide::record_lost_claim(&mut observed.status, UID, now),
        Event::DroppedClaim => observed.status.issuance = None,
    }
    let decision = decide(&object, &observed, now);
    Verdict {
        decided: decided(&decision),
        status: abstract_status(&decide::next_status(&object, &observed, &decision, now)),
        next: decide::next_look(&observed, &decision, now).map(time),
    }
}

const fn decided(decision: &Decision) -> Decided {
    match decision {
        Decision::Keep { .. } => Decided::Keep,
        Decision::Issue { cause, .. } => Decided::Issue(*cause),
        Decision::Examine { cause } => Decided::Examine(*cause),
        Decision::Save => Decided::Save,
        Decision::Account => Decided::Account,
        Decision::Await
        | Decision::Repair { .. }
        | Decision::Adopt
        | Decision::Queue
        | Decision::Wait { .. }
        | Decision::Refuse { .. } => Decided::Other,
    }
}

/// The status that claims a certificate.
pub fn claimed(picture: &Picture, claim: u8, cause: Reason) -> Status {
    let object = real_object(&picture.object, &picture.ledger);
    let observed = real_observed(&picture.status, None, None, None, &picture.ledger);
    abstract_status(&decide::claimed(&object, &observed.status, &claim.to_string(), cause, at(picture.now)))
}

/// The status with what Atlas lists and nobody holds.
pub fn with_list(status: &Status, list: &RecalledList, ledger: &[Time]) -> Status {
    let mut observed = real_observed(status, None, None, None, ledger);
    decide::record_list(&mut observed.status, &list.listed, &list.accounted, list.asked_at);
    abstract_status(&observed.status)
}
