//! What a rollout does in each situation.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod awaited;
mod places;
mod properties;
mod rest;
mod shared;
mod situations;
mod strangers;
mod told;
mod waves;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::api::{RolloutStatus, WorkloadReference};

/// Thursday, an hour after noon.
const NOW: Timestamp = Timestamp::constant(1_795_698_000, 0);

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The certificate `orders` with serial number `B`, an hour old; the one before it expires in 30 days.
fn certificate(rollout: Value) -> RolledCertificate {
    RolledCertificate {
        name: "orders".to_owned(),
        secret_name: "orders".to_owned(),
        rollout: serde_json::from_value(rollout).unwrap(),
        serial_number: "B".to_owned(),
        written: NOW - HOUR,
        cause: Some(crate::api::Reason::RenewalDue),
        previous_not_after: Some(NOW + HOUR * 720),
        first_not_after: None,
        compromised_not_after: None,
        is_compromised: false,
        is_ready: true,
        is_complete: true,
        is_suspended: false,
        is_first: false,
        known: vec!["B".to_owned(), "A".to_owned()],
        begun: Vec::new(),
    }
}

fn reference(name: &str) -> WorkloadReference {
    WorkloadReference { api_version: "apps/v1".to_owned(), kind: "Deployment".to_owned(), name: name.to_owned() }
}

/// A Deployment that mounts the Secret, is ready, and has a pod that started two hours ago.
fn deployment(name: &str) -> Workload {
    Workload {
        reference: reference(name),
        uid: format!("uid-of-{name}"),
        resource_version: "1".to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        is_being_deleted: false,
        serial_numbers: SerialNumbers::default(),
        pod_spec: json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] }),
        named_to_reloader: Vec::new(),
        selector: None,
        pod_count: 1,
        updated_pods: 0,
        readiness: Readiness::Ready,
        observes_changes: true,
        controller: None,
        updates: Updates::Rolling,
        pods: Some(vec![pod(Some(NOW - HOUR * 2))]),
    }
}

fn pod(started: Option<Timestamp>) -> Pod {
    Pod { labels: [].into(), started, ran_since: started, is_over: false }
}

fn unready(workload: Workload) -> Workload {
    Workload { readiness: Readiness::InProgress("0 of 1 pods are available".to_owned()), ..workload }
}

fn with_serial_numbers(workload: Workload, text: &str) -> Workload {
    Workload { serial_numbers: SerialNumbers::parse(text), ..workload }
}

/// A rollout that is looked at again and again.
struct Rolling {
    certificate: RolledCertificate,
    others: Vec<RolledCertificate>,
    found: Found,
    status: Option<RolloutStatus>,
    resume: Option<&'static str>,
    generation: i64,
    now: Timestamp,
}

impl Rolling {
    fn new(rollout: Value, workloads: impl IntoIterator<Item = Workload>) -> Self {
        let found = Found { workloads: workloads.into_iter().collect(), ..Found::default() };
        Self {
            certificate: certificate(rollout),
            others: Vec::new(),
            found,
            status: None,
            resume: None,
            generation: 1,
            now: NOW,
        }
    }

    fn auto(workloads: impl IntoIterator<Item = Workload>) -> Self {
        Self::new(json!({ "auto": true }), workloads)
    }

    fn plan(&self) -> Plan {
        let objects: BTreeSet<String> = ["orders", "payments"].map(ToOwned::to_owned).into();
        plan(&Input {
            certificate: &self.certificate,
            others: &self.others,
            objects: &objects,
            generation: Some(self.generation),
            resume: self.resume,
            status: self.status.as_ref(),
            found: &self.found,
            now: self.now,
        })
    }

    /// Plans and writes the status, but moves nothing.
    fn look(&mut self) -> Plan {
        let plan = self.plan();
        self.status = Some(plan.status.clone());
        plan
    }

    /// Plans, writes the status, and carries the moves out: the names of the workloads that were moved.
    fn step(&mut self) -> Vec<String> {
        let plan = self.look();
        for next in &plan.moves {
            let workload = self.workload(&next.workload.name);
            workload.serial_numbers = SerialNumbers::parse(&next.serial_numbers);
            *workload = unready(workload.clone());
        }
        self.look();
        plan.moves.iter().map(|next| next.workload.name.clone()).collect()
    }

    fn workload(&mut self, name: &str) -> &mut Workload {
        self.found.workloads.iter_mut().find(|workload| workload.reference.name == name).unwrap()
    }

    /// Its new pods are ready.
    fn becomes_ready(&mut self, name: &str) {
        let now = self.now;
        let workload = self.workload(name);
        workload.readiness = Readiness::Ready;
        workload.pods = Some(vec![pod(Some(now))]);
    }

    /// Its pods are those that it had before.
    fn becomes_old(&mut self, name: &str) {
        let before = deployment(name);
        let workload = self.workload(name);
        (workload.readiness, workload.pods) = (before.readiness, before.pods);
    }

    fn pass(&mut self, time: SignedDuration) {
        self.now += time;
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.moves.iter().map(|next| next.workload.name.as_str()).collect()
}
