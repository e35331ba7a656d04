//! draft
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod account;
mod model;
mod properties;
mod replica;
mod translation;
mod world;

use std::time::Instant;

use model::Operator;
use stateright::{Checker, Model};
use world::Budget;

#[test]
fn trial() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let bound = Budget {
        faults: number("F", 1),
        requests: number("R", 0),
        deletions: number("D", 0),
        renewals: number("N", 0),
        expiries: number("E", 0),
    };
    let began = Instant::now();
    let operator = Operator { bound, may_list: number("L", 0) > 0, mutation: None };
    let checker = operator.checker().threads(2).spawn_bfs().join();
    println!(
        "{bound:?}: {} unique states, {} generated, depth {}, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    for (name, path) in checker.discoveries() {
        let property = checker.model().property(name);
        if property.expectation.discovery_is_failure() {
        for (state, action) in path.into_vec() {
            println!("{action:?}"); if !(property.condition)(checker.model(), &state) { println!("{name} {state:#?}"); break; }
        } } else {println!("== {name}");}
    }
}
