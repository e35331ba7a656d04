//! Statements about the order of steps, without a cluster.
//!
//! A row is what a pass does, one step after the other. Between the steps stands in brackets what is done in memory. A report
//! says whether the object is Ready, and the reason of its condition Issuing. The end says when the object is looked at again,
//! and what is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod aftermath;
mod faults;
mod lifecycle;
mod lost;
mod order;
mod properties;
mod situations;
mod unknown_user;
mod world;

use jiff::SignedDuration;

use self::world::{Fault, Move, World};
use super::*;
use crate::{
    api::{DatabaseUserCertificateStatus, ISSUING, READY, condition},
    certificate::{CertificateFacts, SerialNumber},
    decide::{Minted, Order, RecalledUser, Retry, SecretView, UnsavedCertificate},
};

fn report(moves: &[Move]) -> &Report {
    moves
        .iter()
        .find_map(|moved| match &moved.step {
            Step::Report(report) => Some(report.as_ref()),
            _ => None,
        })
        .expect("a report")
}

impl World {
    /// A pass of which one step, which is given by its name, meets a fault. Returns the steps after it.
    fn after_fault(&mut self, name: &str, fault: &Fault) -> String {
        let mut met = None;
        let moves = self.run_with(|number, step| {
            if met.is_some() || step.to_string() != name {
                return None;
            }
            met = Some(number);
            Some(fault.clone())
        });
        let met = met.unwrap_or_else(|| panic!("there is no step {name:?}"));
        steps(&moves[met + 1..], self).join(" > ")
    }

    /// The same, for what it leaves behind.
    fn meet(&mut self, name: &str, fault: &Fault) {
        self.after_fault(name, fault);
    }
}

/// The steps of a pass, as text.
fn steps(moves: &[Move], world: &World) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for Move { changes, step, .. } in moves {
        texts.extend(changes.iter().filter_map(change_text));
        texts.push(match step {
            Step::End(end) => format!("{}{}", end_text(end), left_behind(world)),
            step => text(step),
        });
    }
    texts
}

fn text(step: &Step) -> String {
    match step {
        Step::Report(report) => report_text(report),
        step => step.to_string(),
    }
}

fn change_text(change: &Change) -> Option<String> {
    let text = match change {
        Change::CountMinted { .. } => "(count minted)",
        Change::ForgetUser { .. } => "(forget user)",
        Change::ForgetClaimedUser { .. } => "(forget claimed user)",
        Change::QueueAgain { .. } => "(queue again)",
        // Each pass that took a turn ends it, and each pass that needs none leaves the queue.
        Change::EndTurn | Change::LeaveQueue => return None,
    };
    Some(text.to_owned())
}

fn report_text(report: &Report) -> String {
    let Some(status) = &report.status else { return "report nothing new".to_owned() };
    let (ready, issuing) = (condition(&status.conditions, READY).unwrap(), condition(&status.conditions, ISSUING).unwrap());
    match ready.status.as_str() {
        "True" => format!("report [Ready, {}]", issuing.reason),
        _ if ready.reason == issuing.reason => format!("report [not Ready, {}]", issuing.reason),
        _ => format!("report [not Ready for {}, {}]", ready.reason, issuing.reason),
    }
}

fn end_text(end: &End) -> String {
    match end {
        End::Failed(PassError::Request(_)) => "fail".to_owned(),
        End::Failed(PassError::Superseded | PassError::Outdated(_)) => "end: the object has changed".to_owned(),
        End::Failed(PassError::NotLeading) => "end: not leading".to_owned(),
        end => end.to_string(),
    }
}

fn left_behind(world: &World) -> String {
    let claim = world.object.status.as_ref().is_some_and(|status| status.issuance.is_some());
    let left = [
        (claim, "claim in status"),
        (world.memory.unsaved.is_some(), "certificate in memory"),
        (world.memory.failed_request.is_some(), "failed request in memory"),
    ];
    let left: Vec<&str> = left.into_iter().filter(|(is_left, _)| *is_left).map(|(_, what)| what).collect();
    if left.is_empty() { String::new() } else { format!(" ({})", left.join(", ")) }
}
