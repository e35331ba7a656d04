//! Model checking: the operator's own decisions in a small world, in every order in which its steps can happen.
//!
//! The world has one object, its Secret, Atlas's ledger, two replicas and a clock. One action is one step of a pass, one event of a watch,
//! or something that befalls the operator: a crash, a lost answer, a refused write, a leader that is paused while another takes over, or that
//! goes on while another does, a list of Atlas that lags behind, an issuer that is changed to another account of Atlas, a `userRef` that leads
//! to another user or to none that is known, a watch that lags, the clock, a user who asks for a renewal or says that a certificate is
//! compromised, somebody who deletes the Secret. Every state is looked at that can be reached within a bound, which says how often each of
//! these may happen. The order of the steps, every decision and every status are the operator's own: this world answers the steps that
//! `decide::pass` names. What is written down here is the world: what a request meets, and how watches, memory and time go on.
//!
//! What is left out: other objects and their turns, CA issuers, changes of the spec, foreign, spoilt and repaired Secrets, writes of the
//! status that change only a message or a transition time. The lease is given by its outcome: whoever takes over does so after the one
//! before has ceased to lead by its own clock, which `operator::lease` and `runtime::leadership` test. A request that was permitted takes
//! effect, and is listed, within the five minutes for which a successor waits, or never. A process that has lost the lead
//! and goes on has saved what it made within a minute. One that is paused does so at any time, and may cost a certificate.
//!
//! `MODEL=full` (`make model`) widens the bound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod action;
mod cycles;
mod memory;
mod model;
mod mutation;
mod pass;
mod properties;
mod replay;
mod replica;
mod translation;
mod world;

use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use model::Operator;
use mutation::Mutation;
use rstest::rstest;
use stateright::{Checker, HasDiscoveries, Model};
use world::Budget;

const NONE: Budget =
    Budget { faults: 0, requests: 0, deletions: 0, renewals: 0, expiries: 0, compromises: 0, moves: 0, unknowns: 0 };

/// The bound of `make test`: seconds without optimisation.
const SMALL: &[Operator] = &[
    operator(Budget { faults: 2, ..NONE }, false),
    operator(Budget { faults: 1, renewals: 1, ..NONE }, false),
    operator(Budget { faults: 1, deletions: 1, ..NONE }, false),
    operator(Budget { faults: 1, requests: 1, ..NONE }, true),
    operator(Budget { faults: 1, moves: 1, ..NONE }, true),
    operator(Budget { faults: 1, moves: 1, unknowns: 1, ..NONE }, false),
    operator(Budget { faults: 1, compromises: 1, ..NONE }, false),
    // More renewals than may be forced within an hour.
    operator(Budget { requests: 6, ..NONE }, true),
];

/// The bound of `make model`.
const FULL: &[Operator] = &[
    operator(Budget { faults: 3, ..NONE }, true),
    operator(Budget { faults: 2, renewals: 1, ..NONE }, false),
    operator(Budget { faults: 2, deletions: 1, ..NONE }, true),
    operator(Budget { faults: 2, requests: 1, ..NONE }, true),
    operator(Budget { faults: 2, compromises: 1, ..NONE }, true),
    operator(Budget { faults: 2, moves: 1, ..NONE }, true),
    operator(Budget { faults: 1, requests: 1, moves: 1, ..NONE }, true),
    operator(Budget { faults: 1, moves: 1, unknowns: 2, ..NONE }, true),
    operator(Budget { faults: 1, renewals: 1, expiries: 1, ..NONE }, false),
    operator(Budget { faults: 1, requests: 1, deletions: 1, renewals: 1, ..NONE }, false),
    operator(Budget { requests: 7, ..NONE }, true),
];

const fn operator(bound: Budget, may_list: bool) -> Operator {
    Operator { bound, may_list, mutation: None }
}

fn is_full() -> bool {
    std::env::var("MODEL").is_ok_and(|size| size == "full")
}

fn worlds() -> &'static [Operator] {
    if is_full() { FULL } else { SMALL }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Told although the test succeeds.
fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Every path ends, so that what holds in every state without an action is what every path comes to, whatever the scheduler does.
#[test]
fn every_state_is_safe_every_path_ends_and_every_end_is_ready() {
    let (next, reached) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(&operator) = worlds().get(next.fetch_add(1, Ordering::SeqCst)) {
                    reached.lock().unwrap().extend(searched(operator));
                }
            });
        }
    });
    let reached = reached.into_inner().unwrap();
    let never: Vec<&str> = properties::sometimes().filter(|name| !reached.contains(name)).collect();
    assert!(never.is_empty(), "the model never comes to this, and so proves nothing about it: {never:?}");
}

/// What is reached somewhere. A violation is told with the shortest way to it.
fn searched(operator: Operator) -> BTreeSet<&'static str> {
    let began = Instant::now();
    let found = cycles::search(operator);
    tell(&told(operator, found.states, found.depth, began.elapsed()));
    if let Some(property) = found.violated {
        let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let path = operator.checker().finish_when(until).spawn_bfs().join().discovery(property).unwrap();
        panic!("{}", replay::explanation(operator, property, path));
    }
    if let Some(cycle) = found.cycle {
        panic!("{}", replay::command(operator, &cycle));
    }
    found.reached
}

fn told(operator: Operator, states: usize, depth: usize, took: Duration) -> String {
    format!("model: {operator}: {states} states, depth {depth}, {:.1} s", took.as_secs_f64())
}

/// A model that could not fail would prove nothing.
#[rstest]
#[case::no_claim(Mutation::NoClaim, properties::CLAIMED)]
#[case::no_precondition(Mutation::NoPrecondition, properties::NEVER_OVERWRITTEN)]
#[case::no_permit(Mutation::NoPermit, properties::BOUNDED)]
#[case::retried_request(Mutation::RetriedRequest, properties::ONCE)]
#[case::forgotten_claim(Mutation::ForgottenClaim, properties::ACCOUNTED)]
#[case::no_retry(Mutation::NoRetry, properties::SETTLED)]
#[case::forgotten_renewals(Mutation::ForgottenRenewals, properties::BRAKED)]
#[case::taken_for_restarted(Mutation::TakenForRestarted, properties::BOUNDED)]
#[case::trusted_silence(Mutation::TrustedSilence, properties::BOUNDED)]
#[case::shared_lists(Mutation::SharedLists, properties::OWN_LIST)]
#[case::any_account(Mutation::AnyAccount, properties::BOUNDED)]
fn a_broken_rule_is_found(#[case] mutation: Mutation, #[case] property: &'static str) {
    let bound = match mutation {
        Mutation::ForgottenRenewals => Budget { requests: 6, ..NONE },
        Mutation::AnyAccount => Budget { faults: 1, moves: 1, ..NONE },
        Mutation::SharedLists => Budget { requests: 1, moves: 1, ..NONE },
        _ => Budget { faults: 1, ..NONE },
    };
    let needs_list = matches!(
        mutation,
        Mutation::TakenForRestarted | Mutation::TrustedSilence | Mutation::SharedLists | Mutation::AnyAccount
    );
    let operator = Operator { bound, may_list: needs_list, mutation: Some(mutation) };
    let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = operator.checker().finish_when(until).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{mutation:?} goes unnoticed: {property}"));
    let explanation = replay::explanation(operator, property, path);
    assert!(explanation.contains("MODEL_REPLAY"), "{explanation}");
}

#[test]
fn a_loop_is_found() {
    let operator = Operator { bound: NONE, may_list: false, mutation: Some(Mutation::NoRest) };
    assert!(cycles::search(operator).cycle.is_some());
}

#[test]
fn replay_of_a_path() {
    if let Ok(text) = std::env::var(replay::VARIABLE) {
        replay::run(&text);
    }
}
