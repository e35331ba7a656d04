//! What is told of a rollout: the latest time in the condition, Events, names in the status, and figures for metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::*;
use crate::api::{
    DatabaseUserCertificate, DatabaseUserCertificateSpec, DatabaseUserCertificateStatus, IssuedCertificate, Reason,
};

const OLD_EXPIRES: Timestamp = Timestamp::constant(1_795_698_000 + 720 * 3600, 0);

fn at_night() -> Value {
    json!({ "auto": true, "windows": [{ "from": "22:00", "to": "04:00" }] })
}

/// An object whose rollout is looked at again and again, and all Events of it.
struct Told {
    object: DatabaseUserCertificate,
    rolling: Rolling,
    events: Vec<(Reason, String)>,
}

impl Told {
    fn new(rolling: Rolling) -> Self {
        let object = DatabaseUserCertificate::new("orders", DatabaseUserCertificateSpec::default());
        Self { object, rolling, events: Vec::new() }
    }

    /// Looks, writes the status, and returns the Events that this look has added.
    fn look(&mut self) -> Vec<Reason> {
        let plan = self.rolling.look();
        let (status, events) = next_status(&self.object, &plan, self.rolling.now);
        self.write(status, events)
    }

    fn write(&mut self, status: DatabaseUserCertificateStatus, events: Vec<(Reason, String)>) -> Vec<Reason> {
        self.object.status = Some(status);
        self.events.extend(events.iter().cloned());
        events.into_iter().map(|(reason, _)| reason).collect()
    }

    fn last(&self) -> &str {
        self.events.last().map(|(_, message)| message.as_str()).unwrap_or_default()
    }
}

#[rstest]
#[case::without_windows(json!({ "auto": true }), Reason::RenewalDue, &["the old certificate expires at 2026-12-26T13:00:00Z"])]
#[case::with_windows(at_night(), Reason::RenewalDue, &["windows do not hold from 2026-12-19T13:00:00Z on", "the old certificate expires at 2026-12-26T13:00:00Z"])]
#[case::urgent(json!({ "auto": true }), Reason::IssuerChanged, &["the old certificate may be refused already", "the old certificate expires at 2026-12-26T13:00:00Z"])]
#[case::urgent_with_windows(at_night(), Reason::IssuerChanged, &["the old certificate may be refused already or is compromised, so windows do not hold", "the old certificate expires at 2026-12-26T13:00:00Z"])]
fn while_workloads_are_behind_the_condition_says_until_when(
    #[case] rollout: Value,
    #[case] cause: Reason,
    #[case] said: &[&str],
) {
    let mut rolling = Rolling::new(rollout, [deployment("a")]);
    rolling.certificate.cause = Some(cause);
    let message = rolling.look().message;
    for said in said {
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(message.matches("expires at").count(), 1, "{message}");
    rolling.step();
    rolling.becomes_ready("a");
    assert_eq!(rolling.look().message, "1 of 1 workloads on certificate B");
}

#[test]
fn until_when_workloads_have_to_be_moved_stands_in_the_status_while_some_are_behind() {
    let until = |rolling: &Rolling| rolling.status.as_ref().and_then(|status| status.old_not_after.as_ref().map(|old| old.0));
    let mut rolling = Rolling::auto([deployment("a")]);
    rolling.step();
    assert_eq!(until(&rolling), Some(OLD_EXPIRES));
    rolling.becomes_ready("a");
    assert!(rolling.look().status.complete);
    assert_eq!(until(&rolling), None);
    rolling.found.workloads.push(deployment("added"));
    rolling.generation = 2;
    assert_eq!(rolling.step(), ["added"], "another spec covers it");
    assert_eq!(until(&rolling), Some(OLD_EXPIRES));
}

#[test]
fn that_the_old_certificate_has_expired_is_told_once_with_names_and_in_the_condition() {
    let mut told = Told::new(Rolling::auto(["a", "b", "c"].map(deployment)));
    told.rolling.step();
    told.rolling.becomes_ready("a");
    assert_eq!(told.look(), []);
    told.rolling.now = OLD_EXPIRES - SignedDuration::from_secs(1);
    assert_eq!(told.rolling.plan().look, Look::At(OLD_EXPIRES), "it is looked at in that moment");
    assert!(!told.look().contains(&Reason::OldCertificateExpired));
    told.rolling.now = OLD_EXPIRES;
    assert!(told.look().contains(&Reason::OldCertificateExpired));
    let said = "the old certificate expired at 2026-12-26T13:00:00Z; 2 workloads may still use it: Deployment b, Deployment c";
    assert!(told.events.contains(&(Reason::OldCertificateExpired, said.to_owned())), "{:?}", told.events);
    assert!(told.rolling.plan().message.contains(said), "{}", told.rolling.plan().message);
    assert!(!told.rolling.plan().message.contains("expires at"));
    for name in ["b", "c"] {
        told.rolling.pass(MINUTE);
        assert!(!told.look().contains(&Reason::OldCertificateExpired), "it was told");
        told.rolling.step();
        told.rolling.becomes_ready(name);
    }
    told.look();
    assert!(!told.rolling.plan().message.contains("expired"), "nobody can have it");
    assert!(!told.rolling.status.as_ref().unwrap().old_certificate_expired);
}

#[test]
fn what_has_the_new_certificate_is_not_told_of_the_expiry_of_the_old_one() {
    let mut told = Told::new(Rolling::new(json!({ "workloads": [{ "kind": "Deployment", "name": "gone" }] }), []));
    told.rolling.found.missing = vec![reference("gone")];
    told.rolling.now = OLD_EXPIRES;
    assert_eq!(told.look(), [Reason::WorkloadNotFound], "one that does not exist uses nothing");
}

#[test]
fn a_spec_that_cannot_be_read_hides_neither_who_is_behind_nor_that_the_old_certificate_has_expired() {
    let rollout = json!({ "auto": true, "windows": [{ "from": "22:00", "to": "04:00", "timeZone": "Mars/Olympus" }] });
    let moved = with_serial_numbers(deployment("b"), "orders=B");
    let mut told = Told::new(Rolling::new(rollout, [deployment("a"), moved]));
    assert_eq!(told.look(), [Reason::InvalidSpec]);
    let status = told.rolling.status.clone().unwrap();
    assert_eq!((status.progress.as_str(), status.complete), ("1/2", false));
    assert_eq!(told.rolling.plan().look, Look::At(OLD_EXPIRES), "it is looked at in that moment");
    told.rolling.now = OLD_EXPIRES;
    assert_eq!(told.look(), [Reason::OldCertificateExpired]);
    assert_eq!(told.rolling.plan().look, Look::Never);
    let message = told.rolling.plan().message;
    assert!(message.contains("Mars/Olympus") && message.contains("1 workload may still use it: Deployment a"), "{message}");
}

#[test]
fn an_operator_that_may_not_look_at_workloads_says_that_the_old_certificate_has_expired() {
    let mut told = Told::new(Rolling::auto(["a", "b"].map(deployment)));
    told.object.spec.rollout = Some(told.rolling.certificate.rollout.clone());
    told.look();
    told.object.status.as_mut().unwrap().serial_number = Some("B".to_owned());
    told.object.status.as_mut().unwrap().history = vec![issued("B", 9000), issued("A", 720)];
    let mut refuse = |now: Timestamp| {
        let (status, events) = refused(&told.object, Reason::RolloutForbidden, "the operator may not list pods", now);
        told.object.status = Some(status);
        let message =
            crate::api::condition(&told.object.status.as_ref().unwrap().conditions, "RolledOut").unwrap().message.clone();
        (message, events.into_iter().map(|(reason, _)| reason).collect::<Vec<_>>())
    };
    assert_eq!(refuse(NOW), ("the operator may not list pods".to_owned(), vec![Reason::RolloutForbidden]));
    let said =
        "the operator may not list pods; the old certificate expired at 2026-12-26T13:00:00Z; 2 workloads may still use it";
    assert_eq!(refuse(OLD_EXPIRES), (said.to_owned(), vec![Reason::OldCertificateExpired]));
    assert_eq!(refuse(OLD_EXPIRES + MINUTE), (said.to_owned(), vec![]));
}

#[test]
fn what_only_a_restart_updates_is_named_and_warned_of_once() {
    let env = json!({ "containers": [{ "envFrom": [{ "secretRef": { "name": "orders" } }] }] });
    let moved = with_serial_numbers(Workload { pod_spec: env, ..deployment("web") }, "orders=B");
    let mut told = Told::new(Rolling::auto([moved, deployment("files")]));
    told.rolling.found.outside = Some(Outside {
        not_movable: vec!["Job migrate".to_owned(), "Pod shell".to_owned()],
        not_covered: vec!["DaemonSet agent (subPath)".to_owned()],
    });
    assert_eq!(told.look(), [Reason::PodsNotMovable, Reason::UpdatedByRestartAlone, Reason::WorkloadsNotCovered]);
    let status = told.rolling.status.clone().unwrap();
    assert_eq!(status.updated_by_restart_alone, ["Deployment web (env)"]);
    assert_eq!(status.not_covered, ["DaemonSet agent (subPath)"]);
    let message = told.rolling.plan().message;
    for said in [
        "these use the Secret and cannot be moved: Job migrate, Pod shell",
        "only a restart updates these, and the rollout restarts them: Deployment web (env)",
        "only a restart updates these, and spec.rollout does not cover them: DaemonSet agent (subPath)",
    ] {
        assert!(message.contains(said), "{message}");
        assert!(told.events.iter().any(|(_, event)| event == said), "{:?}", told.events);
    }
    told.rolling.found.outside = None;
    assert_eq!(told.look(), [], "it was not looked for again");
    assert_eq!(told.rolling.status.as_ref().unwrap().not_covered.len(), 1);
    told.rolling.certificate.serial_number = "C".to_owned();
    told.rolling.found.outside = Some(Outside {
        not_movable: vec!["Pod shell".to_owned()],
        not_covered: vec!["DaemonSet agent (subPath)".to_owned(), "Deployment other (env)".to_owned()],
    });
    assert_eq!(told.look(), [Reason::WorkloadsNotCovered], "one name is new");
    assert!(told.last().contains("Deployment other (env)"), "{}", told.last());
}

#[test]
fn at_most_twenty_are_named() {
    let env = json!({ "containers": [{ "envFrom": [{ "secretRef": { "name": "orders" } }] }] });
    let workloads = (0..30).map(|index| Workload { pod_spec: env.clone(), ..deployment(&format!("w{index:02}")) });
    let mut rolling = Rolling::auto(workloads);
    let many: Vec<String> = (0..30).map(|index| format!("Deployment other-{index:02} (env)")).collect();
    rolling.found.outside = Some(Outside { not_movable: Vec::new(), not_covered: many });
    let status = rolling.look().status;
    assert_eq!((status.updated_by_restart_alone.len(), status.not_covered.len()), (20, 20));
}

/// A certificate that expires in so many hours.
fn issued(serial_number: &str, hours: i32) -> IssuedCertificate {
    IssuedCertificate {
        serial_number: serial_number.to_owned(),
        issuer: None,
        recorded_at: Time(NOW - HOUR),
        not_after: Time(NOW + HOUR * hours),
        reason: "RenewalDue".to_owned(),
    }
}

fn rolled(rollout: Option<RolloutStatus>) -> DatabaseUserCertificate {
    let spec = DatabaseUserCertificateSpec {
        rollout: Some(serde_json::from_value(json!({ "auto": true })).unwrap()),
        ..DatabaseUserCertificateSpec::default()
    };
    let status = DatabaseUserCertificateStatus {
        serial_number: Some("B".to_owned()),
        history: vec![issued("B", 9000), issued("A", 720)],
        rollout,
        ..DatabaseUserCertificateStatus::default()
    };
    DatabaseUserCertificate { status: Some(status), ..DatabaseUserCertificate::new("orders", spec) }
}

fn figures(object: &DatabaseUserCertificate) -> Option<Figures> {
    Figures::of(object, &RolledCertificate::of(object)?)
}

#[test]
fn the_figures_of_a_rollout_are_those_of_its_status() {
    let under_way = RolloutStatus {
        serial_number: "B".to_owned(),
        workloads: 4,
        moved: 3,
        old_not_after: Some(Time(OLD_EXPIRES)),
        regardless_of_windows_after: Some(Time(OLD_EXPIRES - HOUR)),
        ..RolloutStatus::default()
    };
    let expected = Figures {
        serial_number: "B".to_owned(),
        workloads: 4,
        moved: 3,
        is_complete: false,
        old_not_after: Some(OLD_EXPIRES),
        regardless_of_windows_after: Some(OLD_EXPIRES - HOUR),
    };
    assert_eq!(figures(&rolled(Some(under_way.clone()))), Some(expected.clone()));
    let complete = RolloutStatus { moved: 4, complete: true, ..under_way };
    let expected = Figures { moved: 4, is_complete: true, old_not_after: None, regardless_of_windows_after: None, ..expected };
    assert_eq!(figures(&rolled(Some(complete))), Some(expected), "nobody can have the old one");
    assert_eq!(figures(&rolled(None)), None, "nobody has looked at the workloads");
}

#[test]
fn workloads_that_nobody_has_looked_at_since_the_renewal_count_as_behind() {
    let last = RolloutStatus {
        serial_number: "A".to_owned(),
        workloads: 4,
        moved: 4,
        complete: true,
        old_not_after: Some(Time(NOW - HOUR * 24)),
        ..RolloutStatus::default()
    };
    let expected = Figures {
        serial_number: "B".to_owned(),
        workloads: 4,
        moved: 0,
        is_complete: false,
        old_not_after: Some(OLD_EXPIRES),
        regardless_of_windows_after: None,
    };
    assert_eq!(figures(&rolled(Some(last.clone()))), Some(expected.clone()));
    let overtaken = RolloutStatus { complete: false, old_not_after: Some(Time(NOW + HOUR)), ..last };
    let expected = Figures { old_not_after: Some(NOW + HOUR), ..expected };
    assert_eq!(figures(&rolled(Some(overtaken))), Some(expected), "pods may have the one before");
}

#[test]
fn pods_are_behind_until_their_workload_is_moved_or_has_replaced_them() {
    let mut rolling =
        Rolling::auto([("web", 3), ("worker", 2)].map(|(name, pods)| Workload { pod_count: pods, ..deployment(name) }));
    assert_eq!(rolling.plan().pods_behind, 5);
    assert_eq!(rolling.step(), ["web"]);
    assert_eq!(rolling.plan().pods_behind, 5, "its pods are the old ones still");
    rolling.workload("web").updated_pods = 2;
    assert_eq!(rolling.plan().pods_behind, 3, "two of three were replaced, and the other workload waits");
    rolling.becomes_ready("web");
    assert_eq!(rolling.plan().pods_behind, 2);
    assert_eq!(rolling.step(), ["worker"]);
    rolling.becomes_ready("worker");
    assert_eq!(rolling.plan().pods_behind, 0);
}

#[test]
fn the_pods_that_a_status_counts_are_new_only_if_it_is_of_the_present_template() {
    let read = |observed: i64| {
        let object = json!({
            "metadata": { "name": "web", "generation": 2 }, "spec": { "template": {} },
            "status": { "observedGeneration": observed, "replicas": 3, "updatedReplicas": 3 },
        });
        Workload::read("apps/v1", "Deployment", &object).unwrap().updated_pods
    };
    assert_eq!((read(1), read(2)), (0, 3));
}
