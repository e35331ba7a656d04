//! Random worlds in which several certificates share workloads: looks in any order and in between each other, lost answers, an operator
//! that is killed at any point, certificates that come, go, and do not work for a while.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["ledger", "orders", "payments"];
const WORKLOADS: [&str; 4] = ["a", "b", "c", "d"];

/// Where a look at the workloads ends early, or what comes in between.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    BeforeStatus,
    BeforeMoves,
    /// A whole look of another certificate comes between the status and the moves.
    Interleaved(usize),
    /// The first move is carried out, its answer is lost, and the look ends.
    AnswerLost,
    BeforeSecondStatus,
}

#[derive(Clone, Debug)]
enum Event {
    Look(usize, Option<Fault>),
    Time(i64),
    Renew(usize),
    /// The certificate works, or does not.
    Ready(usize, bool),
    /// Its Secret holds all that the spec asks for, or does not.
    Complete(usize, bool),
    /// The object is deleted, or made anew.
    Exists(usize, bool),
    WorkloadReady(usize),
    Break(usize, bool),
    Restart(usize),
    /// The object is suspended, or is not.
    Suspend(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let certificate = || 0..NAMES.len();
    let workload = || 0..WORKLOADS.len();
    let fault = prop_oneof![
        Just(Fault::BeforeStatus),
        Just(Fault::BeforeMoves),
        certificate().prop_map(Fault::Interleaved),
        Just(Fault::AnswerLost),
        Just(Fault::BeforeSecondStatus),
    ];
    prop_oneof![
        10 => certificate().prop_map(|certificate| Event::Look(certificate, None)),
        6 => (certificate(), fault).prop_map(|(certificate, fault)| Event::Look(certificate, Some(fault))),
        4 => (1..900_i64).prop_map(Event::Time),
        3 => certificate().prop_map(Event::Renew),
        1 => (certificate(), any::<bool>()).prop_map(|(certificate, is)| Event::Ready(certificate, is)),
        1 => (certificate(), any::<bool>()).prop_map(|(certificate, is)| Event::Complete(certificate, is)),
        1 => (certificate(), any::<bool>()).prop_map(|(certificate, is)| Event::Exists(certificate, is)),
        8 => workload().prop_map(Event::WorkloadReady),
        1 => (workload(), any::<bool>()).prop_map(|(workload, is)| Event::Break(workload, is)),
        1 => workload().prop_map(Event::Restart),
        1 => (certificate(), any::<bool>()).prop_map(|(certificate, is)| Event::Suspend(certificate, is)),
    ]
}

struct One {
    certificate: RolledCertificate,
    status: Option<RolloutStatus>,
    exists: bool,
}

#[derive(Clone, Default)]
struct Hidden {
    is_broken: bool,
    /// It was changed by the operator and was not ready since.
    is_underway: bool,
    /// The certificates that worked when it was changed last.
    changed_for: Option<BTreeMap<String, String>>,
}

struct World {
    ones: Vec<One>,
    workloads: Vec<Workload>,
    hidden: Vec<Hidden>,
    issued: u32,
    now: Timestamp,
}

impl World {
    /// `uses` has a bit for each certificate that a workload uses.
    fn new(uses: &[usize], max_concurrent: &[usize]) -> Self {
        let workload = |(name, uses): (&&str, &usize)| {
            let secrets = NAMES.iter().enumerate().filter(|(position, _)| uses & (1 << position) != 0);
            let volumes: Vec<Value> =
                secrets.map(|(_, name)| json!({ "name": name, "secret": { "secretName": name } })).collect();
            Workload { pod_spec: json!({ "volumes": volumes }), ..deployment(name) }
        };
        let one = |(name, max_concurrent): (&&str, &usize)| One {
            certificate: RolledCertificate {
                name: (*name).to_owned(),
                secret_name: (*name).to_owned(),
                serial_number: "0".to_owned(),
                known: vec!["0".to_owned()],
                ..certificate(json!({ "auto": true, "maxConcurrent": max_concurrent }))
            },
            status: None,
            exists: true,
        };
        Self {
            ones: NAMES.iter().zip(max_concurrent).map(one).collect(),
            workloads: WORKLOADS.iter().zip(uses).map(workload).collect(),
            hidden: vec![Hidden::default(); WORKLOADS.len()],
            issued: 0,
            now: NOW,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Look(certificate, fault) => self.look(certificate, fault),
            Event::Time(seconds) => self.now += SignedDuration::from_secs(seconds),
            Event::Renew(certificate) => self.renew(certificate),
            Event::Ready(certificate, is) => self.ones[certificate].certificate.is_ready = is,
            Event::Complete(certificate, is) => self.complete(certificate, is),
            Event::Exists(certificate, is) => self.exist(certificate, is),
            Event::WorkloadReady(workload) => self.become_ready(workload),
            Event::Break(workload, is) => self.hidden[workload].is_broken = is,
            Event::Restart(workload) => {
                self.workloads[workload].resource_version.push('+');
                self.workloads[workload].readiness = Readiness::InProgress("0 of 1 pods are new".to_owned());
            }
            Event::Suspend(certificate, is) => self.ones[certificate].certificate.is_suspended = is,
        }
    }

    fn found(&self, certificate: usize) -> Found {
        let certificate = &self.ones[certificate].certificate;
        let workloads = self.workloads.iter().filter(|workload| certificate.covers(workload)).cloned().collect();
        Found { workloads, ..Found::default() }
    }

    fn plan(&self, certificate: usize, found: &Found) -> Plan {
        let existing = || self.ones.iter().filter(|one| one.exists);
        let with_begun = |one: &One| RolledCertificate {
            begun: one.status.as_ref().map(|status| status.begun.clone()).unwrap_or_default(),
            ..one.certificate.clone()
        };
        let one = &self.ones[certificate];
        let others = existing().filter(|other| other.certificate.name != one.certificate.name).map(with_begun);
        plan(&Input {
            certificate: &one.certificate,
            others: &others.collect::<Vec<_>>(),
            objects: &existing().map(|one| one.certificate.name.clone()).collect(),
            generation: Some(1),
            resume: None,
            status: one.status.as_ref(),
            found,
            now: self.now,
        })
    }

    /// What the controller does at one look.
    fn look(&mut self, certificate: usize, fault: Option<Fault>) {
        if !self.ones[certificate].exists {
            return;
        }
        let mut found = self.found(certificate);
        let plan = self.plan(certificate, &found);
        if fault == Some(Fault::BeforeStatus) {
            return;
        }
        let before = self.ones[certificate].status.replace(plan.status.clone());
        self.assert_there_are_places(certificate, before.as_ref(), &plan.moves);
        if let Some(Fault::Interleaved(other)) = fault
            && other != certificate
        {
            self.look(other, None);
        }
        if fault == Some(Fault::BeforeMoves) {
            return;
        }
        for next in &plan.moves {
            let Some(changed) = self.change(certificate, next) else { return };
            if fault == Some(Fault::AnswerLost) {
                return;
            }
            let seen = found.workloads.iter_mut().find(|seen| seen.reference == next.workload).unwrap();
            *seen = changed;
        }
        if !plan.moves.is_empty() && fault != Some(Fault::BeforeSecondStatus) {
            self.ones[certificate].status = Some(self.plan(certificate, &found).status);
        }
    }

    /// The API server carries out a move, unless the workload has changed.
    fn change(&mut self, certificate: usize, next: &Move) -> Option<Workload> {
        let index = self.workloads.iter().position(|workload| workload.reference == next.workload).unwrap();
        if self.workloads[index].resource_version != next.resource_version {
            return None;
        }
        let (before, wanted) = (self.workloads[index].serial_numbers.clone(), next.serial_numbers());
        if before != wanted {
            self.assert_no_entry_is_lost(&before, &wanted);
            self.assert_is_changed_once(certificate, index, &next.serial_numbers);
            let workload = &mut self.workloads[index];
            workload.serial_numbers = wanted;
            workload.resource_version.push('+');
            workload.readiness = Readiness::InProgress("0 of 1 pods are new".to_owned());
            self.hidden[index].is_underway = true;
        }
        Some(self.workloads[index].clone())
    }

    fn assert_no_entry_is_lost(&self, before: &SerialNumbers, after: &SerialNumbers) {
        let number = |serial_numbers: &SerialNumbers, name: &str| {
            serial_numbers.get(name).map(|serial_number| serial_number.parse::<u32>().unwrap())
        };
        for one in self.ones.iter().filter(|one| one.exists) {
            let name = &one.certificate.name;
            assert!(number(after, name) >= number(before, name), "{name} is taken out of {before}, which becomes {after}");
        }
    }

    fn assert_is_changed_once(&mut self, certificate: usize, index: usize, serial_numbers: &str) {
        let workload = &self.workloads[index];
        let is_by = &self.ones[certificate].certificate.name;
        let working = self.ones.iter().filter(|one| one.exists && one.certificate.is_ready && one.certificate.is_complete);
        // Whether the entry of a former object of this name is older or newer, nobody knows any more: others leave it as it is.
        let is_known = |one: &&One| {
            let entry = workload.serial_numbers.get(&one.certificate.name);
            one.certificate.name == *is_by || entry.is_none_or(|entry| one.certificate.known.iter().any(|known| known == entry))
        };
        let working = working.filter(|one| one.certificate.covers(workload)).filter(is_known);
        let working: BTreeMap<String, String> =
            working.map(|one| (one.certificate.name.clone(), one.certificate.serial_number.clone())).collect();
        let before = self.hidden[index].changed_for.replace(working.clone());
        assert_ne!(before, Some(working), "{} is changed twice, now to {serial_numbers}", workload.reference);
    }

    /// Whoever begins a workload sees no more on their way than its `maxConcurrent`, whoever has begun them.
    fn assert_there_are_places(&self, certificate: usize, before: Option<&RolloutStatus>, moves: &[Move]) {
        let had_place = |workload: &Workload| {
            before.is_some_and(|before| before.begun.iter().any(|begun| begun.workload == workload.reference))
        };
        let certificate = &self.ones[certificate].certificate;
        let with_hidden = || self.workloads.iter().zip(&self.hidden).filter(|(workload, _)| certificate.covers(workload));
        let is_begun = |workload: &Workload| moves.iter().any(|next| next.workload == workload.reference);
        let begins = with_hidden().any(|(workload, _)| !had_place(workload) && is_begun(workload));
        let count = with_hidden().filter(|(workload, hidden)| hidden.is_underway || is_begun(workload)).count();
        let name = &certificate.name;
        assert!(!begins || count <= certificate.rollout.max_concurrent(), "{name} has {count} on their way with {moves:#?}");
    }

    fn renew(&mut self, certificate: usize) {
        self.issued += 1;
        let certificate = &mut self.ones[certificate].certificate;
        certificate.serial_number = self.issued.to_string();
        certificate.known.insert(0, certificate.serial_number.clone());
        certificate.written = self.now;
    }

    fn complete(&mut self, certificate: usize, is: bool) {
        self.ones[certificate].certificate.is_complete = is;
    }

    fn exist(&mut self, certificate: usize, is: bool) {
        if is && !self.ones[certificate].exists {
            self.ones[certificate].status = None;
            self.ones[certificate].certificate.known.clear();
            self.renew(certificate);
        }
        if !is {
            // Nobody waits any more for what it had begun alone.
            for (workload, hidden) in self.workloads.iter().zip(&mut self.hidden) {
                hidden.is_underway &= !self.ones[certificate].certificate.covers(workload);
            }
        }
        self.ones[certificate].exists = is;
    }

    fn become_ready(&mut self, index: usize) {
        let workload = &mut self.workloads[index];
        if self.hidden[index].is_broken || workload.readiness == Readiness::Ready {
            return;
        }
        workload.readiness = Readiness::Ready;
        workload.resource_version.push('+');
        workload.pods = Some(vec![pod(Some(self.now))]);
        self.hidden[index].is_underway = false;
    }

    /// Nobody interferes any more, and everything works: all rollouts come to their end.
    fn come_to_the_end(&mut self) {
        for one in &mut self.ones {
            (one.certificate.is_ready, one.certificate.is_complete) = (true, true);
            one.certificate.is_suspended = false;
        }
        for hidden in &mut self.hidden {
            hidden.is_broken = false;
        }
        for _ in 0..200 {
            let existing: Vec<usize> = (0..self.ones.len()).filter(|one| self.ones[*one].exists).collect();
            for certificate in &existing {
                self.look(*certificate, None);
            }
            let plans: Vec<Plan> = existing.iter().map(|one| self.plan(*one, &self.found(*one))).collect();
            if plans.iter().all(|plan| plan.status.complete) {
                return;
            }
            let looks = plans.iter().filter_map(|plan| match plan.look {
                Look::At(at) => Some(at),
                Look::Never => None,
            });
            let next = looks.min().unwrap();
            assert!(next > self.now, "it looks again at once");
            self.now = next;
            (0..self.workloads.len()).for_each(|index| self.become_ready(index));
        }
        let messages: Vec<String> = (0..self.ones.len()).map(|one| self.plan(one, &self.found(one)).message).collect();
        panic!("they come to no end: {messages:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn certificates_that_share_workloads_restart_none_twice_and_all_come_to_an_end(
        events in prop::collection::vec(event(), 0..80),
        uses in prop::collection::vec(1..8_usize, WORKLOADS.len()),
        max_concurrent in prop::collection::vec(1..3_usize, NAMES.len()),
    ) {
        let mut world = World::new(&uses, &max_concurrent);
        for event in &events {
            world.happen(event);
        }
        world.come_to_the_end();
    }
}
