//! Random worlds: workloads that become ready or do not, controllers that take changes back, persons who restart, answers that are lost,
//! an operator that is killed at any point, clocks that move.

use proptest::prelude::*;

use super::*;
use crate::api::Reason;

/// Where a look at the workloads ends early.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Killed, or refused, before the status was written.
    BeforeStatus,
    /// Killed between the status and the moves.
    BeforeMoves,
    /// The first move is carried out, its answer is lost, and the look ends.
    AnswerLost,
    /// Somebody changed the first workload meanwhile: the API server answers with a conflict.
    Conflict,
    /// Killed before the status was written a second time.
    BeforeSecondStatus,
}

#[derive(Clone, Debug)]
enum Event {
    Look(Option<Fault>),
    /// The clock moves, by seconds.
    Time(i64),
    /// A new certificate is in the Secret.
    Renew(Reason),
    /// The new pods of a workload are ready, unless it is broken.
    Ready(usize),
    Break(usize),
    Mend(usize),
    /// Another controller takes the change back.
    TakeBack(usize),
    /// A person restarts it.
    Restart(usize),
    /// A person asks to go on.
    Resume,
    /// Somebody says that the certificate before is compromised.
    Compromise,
    /// Somebody suspends the object, or lets it go on.
    Suspend,
}

fn event() -> impl Strategy<Value = Event> {
    let fault = prop::sample::select(vec![
        Fault::BeforeStatus,
        Fault::BeforeMoves,
        Fault::AnswerLost,
        Fault::Conflict,
        Fault::BeforeSecondStatus,
    ]);
    let workload = 0..4_usize;
    let cause = prop::sample::select(vec![Reason::RenewalDue, Reason::RenewalDue, Reason::IssuerChanged]);
    prop_oneof![
        6 => Just(Event::Look(None)),
        4 => fault.prop_map(|fault| Event::Look(Some(fault))),
        4 => (1..900_i64).prop_map(Event::Time),
        1 => (3600..200_000_i64).prop_map(Event::Time),
        1 => (-7200..0_i64).prop_map(Event::Time),
        1 => cause.prop_map(Event::Renew),
        6 => workload.clone().prop_map(Event::Ready),
        1 => workload.clone().prop_map(Event::Break),
        1 => workload.clone().prop_map(Event::Mend),
        1 => workload.clone().prop_map(Event::TakeBack),
        1 => workload.prop_map(Event::Restart),
        1 => Just(Event::Resume),
        1 => Just(Event::Compromise),
        1 => Just(Event::Suspend),
    ]
}

/// What the world knows of a workload besides what the operator sees.
#[derive(Clone, Debug, Default)]
struct Hidden {
    is_broken: bool,
    /// Changes of its template by the operator for the present certificate, and how often they were taken back.
    changed: u32,
    taken_back: u32,
    /// It was changed by the operator and was not ready since.
    is_underway: bool,
    /// Somebody else restarted it, and it was not ready since: to change it makes no further workload unready.
    is_restarted: bool,
}

struct World {
    rolling: Rolling,
    hidden: Vec<Hidden>,
    serial_number: u32,
    requests: u32,
    max_concurrent: usize,
    has_windows: bool,
    /// What the last look that was carried through found to depend on a few, for which certificate and request to go on.
    awaited: Option<(Awaited, RolledCertificate, u32)>,
}

impl World {
    fn new(max_concurrent: usize, has_windows: bool) -> Self {
        let mut rollout = json!({ "auto": true, "maxConcurrent": max_concurrent });
        if has_windows {
            rollout["windows"] = json!([{ "from": "22:00", "to": "04:00" }]);
        }
        let workloads = ["a", "b", "c", "d"].map(deployment);
        let hidden = vec![Hidden::default(); workloads.len()];
        let rolling = Rolling::new(rollout, workloads);
        Self { rolling, hidden, serial_number: 0, requests: 0, max_concurrent, has_windows, awaited: None }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Look(fault) => self.look(*fault),
            Event::Time(seconds) => self.rolling.now += SignedDuration::from_secs(*seconds),
            Event::Renew(cause) => self.renew(*cause),
            Event::Ready(index) => self.become_ready(*index),
            Event::Break(index) => self.hidden[*index].is_broken = true,
            Event::Mend(index) => self.hidden[*index].is_broken = false,
            Event::TakeBack(index) => self.take_back(*index),
            Event::Restart(index) => self.restart(*index),
            Event::Resume => self.resume(),
            Event::Compromise => self.compromise(),
            Event::Suspend => self.rolling.certificate.is_suspended ^= true,
        }
    }

    fn compromise(&mut self) {
        let certificate = &mut self.rolling.certificate;
        certificate.compromised_not_after = certificate.previous_not_after;
        // One that is complete is not looked at again.
        let is_complete = self.rolling.status.as_ref().is_some_and(|status| status.complete);
        let plan = self.rolling.plan();
        assert!(
            is_complete || plan.status.complete || plan.status.urgent,
            "windows hold for workloads with a compromised certificate"
        );
    }

    /// What the controller does at one look.
    fn look(&mut self, fault: Option<Fault>) {
        let plan = self.rolling.plan();
        self.assert_glance_is_enough(&plan);
        assert!(
            !plan.status.complete || self.hidden.iter().all(|hidden| !hidden.is_underway),
            "nobody looks again at one that is not ready"
        );
        if fault == Some(Fault::BeforeStatus) {
            return;
        }
        self.rolling.status = Some(plan.status.clone());
        self.assert_places();
        if fault == Some(Fault::BeforeMoves) {
            return;
        }
        for (position, next) in plan.moves.iter().enumerate() {
            if fault == Some(Fault::Conflict) && position == 0 {
                self.rolling.workload(&next.workload.name).resource_version.push('+');
            }
            if !self.change(next) {
                return;
            }
            if fault == Some(Fault::AnswerLost) && position == 0 {
                break;
            }
        }
        self.assert_places();
        if plan.moves.is_empty() || matches!(fault, Some(Fault::AnswerLost | Fault::BeforeSecondStatus)) {
            return;
        }
        self.awaited = self.rolling.look().awaited.map(|awaited| (awaited, self.rolling.certificate.clone(), self.requests));
    }

    /// While those who have a place are as they were, a look at all moves nobody.
    fn assert_glance_is_enough(&mut self, plan: &Plan) {
        let Some((awaited, certificate, requests)) = self.awaited.take() else { return };
        let Rolling { found, now, .. } = &self.rolling;
        let is_same = certificate == self.rolling.certificate && requests == self.requests;
        if is_same && awaited.are_as_before(&found.workloads, &certificate, *now) {
            assert_eq!(plan.moves, [], "a glance would have missed it: {}", plan.message);
            self.awaited = Some((awaited, certificate, requests));
        }
    }

    /// The API server carries out a move, unless the workload has changed.
    fn change(&mut self, next: &Move) -> bool {
        self.assert_may_be_changed();
        let serial_number = self.rolling.certificate.serial_number.clone();
        let index = self.rolling.found.workloads.iter().position(|workload| workload.reference == next.workload).unwrap();
        let workload = &mut self.rolling.found.workloads[index];
        if workload.resource_version != next.resource_version {
            return false;
        }
        let wanted = SerialNumbers::parse(&next.serial_numbers);
        assert_eq!(wanted.get("orders"), Some(serial_number.as_str()));
        if workload.serial_numbers != wanted {
            workload.serial_numbers = wanted;
            workload.resource_version.push('+');
            workload.readiness = Readiness::InProgress("0 of 1 pods are new".to_owned());
            let hidden = &mut self.hidden[index];
            hidden.changed += 1;
            hidden.is_underway |= !hidden.is_restarted;
            assert!(hidden.changed <= 1 + hidden.taken_back, "{} is restarted twice for {serial_number}", next.workload);
        }
        true
    }

    fn assert_may_be_changed(&self) {
        let Rolling { certificate, status, now, .. } = &self.rolling;
        assert!(!certificate.is_suspended, "the object is suspended");
        assert!(*now >= certificate.usable_from(*now), "new pods may not have it yet");
        let status = status.as_ref().unwrap();
        let is_late = status.regardless_of_windows_after.as_ref().is_some_and(|time| *now >= time.0);
        let hour = now.as_second().rem_euclid(86_400) / 3600;
        let is_night = !(4..22).contains(&hour);
        assert!(!self.has_windows || is_night || is_late || status.urgent, "outside of the windows");
    }

    /// As many as the spec allows are under way. One that a person passed over, or that another takes back, is not counted any more.
    fn assert_places(&mut self) {
        let begun = &self.rolling.status.as_ref().unwrap().begun;
        for (workload, hidden) in self.rolling.found.workloads.iter().zip(&mut self.hidden) {
            let kept = begun.iter().find(|begun| begun.workload == workload.reference);
            hidden.is_underway &= kept.is_none_or(|kept| !kept.passed_over && kept.taken_back < 3);
        }
        let underway = self.hidden.iter().filter(|hidden| hidden.is_underway).count();
        assert!(underway <= self.max_concurrent, "{underway} at once: {begun:#?}");
    }

    fn renew(&mut self, cause: Reason) {
        self.serial_number += 1;
        let (now, certificate) = (self.rolling.now, &mut self.rolling.certificate);
        certificate.serial_number = format!("{:02X}", self.serial_number);
        certificate.known.insert(0, certificate.serial_number.clone());
        certificate.written = now;
        certificate.cause = Some(cause);
        certificate.previous_not_after = Some(now + HOUR * 240);
        for hidden in &mut self.hidden {
            (hidden.changed, hidden.taken_back) = (0, 0);
        }
    }

    fn become_ready(&mut self, index: usize) {
        let now = self.rolling.now;
        let workload = &mut self.rolling.found.workloads[index];
        if self.hidden[index].is_broken || workload.readiness == Readiness::Ready {
            return;
        }
        workload.readiness = Readiness::Ready;
        workload.pods = Some(vec![pod(Some(now))]);
        (self.hidden[index].is_underway, self.hidden[index].is_restarted) = (false, false);
    }

    fn take_back(&mut self, index: usize) {
        let serial_number = self.rolling.certificate.serial_number.clone();
        // What others do to one without a place is noticed at the next look at all.
        self.awaited = None;
        let workload = &mut self.rolling.found.workloads[index];
        if workload.serial_numbers.get("orders") != Some(serial_number.as_str()) {
            return;
        }
        workload.serial_numbers = SerialNumbers::default();
        workload.resource_version.push('+');
        workload.readiness = Readiness::InProgress("0 of 1 pods are new".to_owned());
        self.hidden[index].taken_back += 1;
        // What it becomes now is the work of the other one.
        self.hidden[index].is_underway = false;
    }

    fn restart(&mut self, index: usize) {
        self.hidden[index].is_restarted = true;
        let workload = &mut self.rolling.found.workloads[index];
        workload.resource_version.push('+');
        workload.readiness = Readiness::InProgress("0 of 1 pods are new".to_owned());
    }

    fn resume(&mut self) {
        self.requests += 1;
        self.rolling.resume = Some(["1", "2", "3", "4", "5", "6", "7", "8", "9"][self.requests as usize % 9]);
    }

    /// Nobody interferes any more, and everything becomes ready: the rollout comes to its end.
    fn come_to_the_end(&mut self) {
        for hidden in &mut self.hidden {
            hidden.is_broken = false;
        }
        self.rolling.certificate.is_suspended = false;
        // While no window is open, it looks every hour.
        for _ in 0..1000 {
            self.look(None);
            let plan = self.rolling.plan();
            if plan.status.complete {
                return;
            }
            let Look::At(next) = plan.look else { panic!("it is not complete, and nobody looks again: {}", plan.message) };
            assert!(next > self.rolling.now, "it looks again at once: {}", plan.message);
            self.rolling.now = next;
            (0..self.hidden.len()).for_each(|index| self.become_ready(index));
        }
        let left_alone = self.rolling.status.as_ref().unwrap().begun.iter().any(|begun| begun.taken_back >= 3);
        assert!(left_alone, "it comes to no end: {}", self.rolling.plan().message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_restarted_twice_and_every_rollout_ends(
        events in prop::collection::vec(event(), 0..60),
        max_concurrent in 1..3_usize,
        has_windows in any::<bool>(),
    ) {
        let mut world = World::new(max_concurrent, has_windows);
        for event in &events {
            world.happen(event);
        }
        world.come_to_the_end();
    }

    #[test]
    fn where_all_become_ready_the_deadline_is_kept(hours_left in 10..720_i32, started_ago in 0..3_i32) {
        let mut world = World::new(1, true);
        // For most deadlines no window opens before them: today is Thursday.
        let windows = json!([{ "days": ["Wed"], "from": "22:00", "to": "22:30" }]);
        world.rolling.certificate.rollout.windows = serde_json::from_value(windows).unwrap();
        world.rolling.certificate.previous_not_after = Some(NOW + HOUR * hours_left);
        world.rolling.certificate.written = NOW - HOUR * started_ago;
        world.come_to_the_end();
        prop_assert!(world.rolling.now > NOW);
        prop_assert!(world.rolling.now < NOW + HOUR * hours_left);
        prop_assert!(world.rolling.plan().status.complete);
    }
}
