//! Several workloads, one after the other: places, time limits, windows, other controllers, other certificates.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::*;
use crate::api::Reason;

fn three() -> [Workload; 3] {
    ["a", "b", "c"].map(deployment)
}

/// From 22:00 to 04:00 UTC; it is 13:00.
fn at_night() -> Value {
    json!({ "auto": true, "windows": [{ "from": "22:00", "to": "04:00" }] })
}

#[test]
fn workloads_are_moved_one_after_the_other() {
    let mut rolling = Rolling::auto(three());
    for name in ["a", "b", "c"] {
        assert_eq!(rolling.step(), [name]);
        assert_eq!(rolling.step(), Vec::<String>::new(), "it is waited for");
        rolling.pass(MINUTE);
        rolling.becomes_ready(name);
    }
    let plan = rolling.look();
    assert!(plan.status.complete);
    assert_eq!((plan.status.progress.as_str(), plan.look), ("3/3", Look::Never));
    assert_eq!(plan.message, "3 of 3 workloads on certificate B");
    assert_eq!(plan.status.begun, []);
}

#[test]
fn a_set_number_is_moved_at_once() {
    let mut rolling = Rolling::new(json!({ "auto": true, "maxConcurrent": 2 }), three());
    assert_eq!(rolling.step(), ["a", "b"]);
    rolling.becomes_ready("b");
    assert_eq!(rolling.step(), ["c"]);
    assert_eq!(rolling.step(), Vec::<String>::new());
}

#[test]
fn those_that_keep_their_places_are_moved_a_set_number_at_once_too() {
    let mut rolling = Rolling::new(json!({ "auto": true, "maxConcurrent": 2 }), three());
    assert_eq!(rolling.step(), ["a", "b"]);
    rolling.certificate.rollout.max_concurrent = Some(1);
    rolling.certificate.serial_number = "C".to_owned();
    assert_eq!(rolling.step(), ["a"]);
    assert_eq!(rolling.step(), Vec::<String>::new(), "b waits, and keeps its place");
    for (name, next) in [("a", "b"), ("b", "c")] {
        rolling.becomes_ready(name);
        assert_eq!(rolling.step(), [next]);
    }
}

#[test]
fn one_that_is_not_ready_is_moved_last() {
    let [a, b, c] = three();
    let mut rolling = Rolling::auto([unready(a), b, c]);
    for name in ["b", "c"] {
        assert_eq!(rolling.step(), [name]);
        rolling.becomes_ready(name);
    }
    assert_eq!(rolling.step(), ["a"], "a restart may help it");
}

#[rstest]
#[case::takes_too_long(None, MINUTE * 10)]
#[case::says_that_it_failed(Some(Readiness::Failed("it exceeded its progress deadline".to_owned())), MINUTE)]
fn one_that_does_not_become_ready_stops_the_others_until_it_is(
    #[case] readiness: Option<Readiness>,
    #[case] after: SignedDuration,
) {
    let mut rolling = Rolling::auto(three());
    assert_eq!(rolling.step(), ["a"]);
    rolling.pass(after);
    if let Some(readiness) = readiness {
        rolling.workload("a").readiness = readiness;
    }
    let plan = rolling.look();
    assert_eq!((plan.reason, names(&plan)), (Reason::RolloutStopped, vec![]));
    assert!(plan.message.contains("not ready: Deployment a"), "{}", plan.message);
    rolling.becomes_ready("a");
    assert_eq!(rolling.step(), ["b"]);
}

#[test]
fn a_stopped_rollout_goes_on_once_for_each_request() {
    let mut rolling = Rolling::auto(three());
    rolling.resume = Some("from last month");
    assert_eq!(rolling.step(), ["a"]);
    rolling.pass(MINUTE * 10);
    assert_eq!(rolling.look().reason, Reason::RolloutStopped, "the request is older than the rollout");
    rolling.resume = Some("today");
    assert_eq!(rolling.step(), ["b"]);
    rolling.pass(MINUTE * 10);
    let plan = rolling.look();
    assert_eq!(plan.reason, Reason::RolloutStopped, "b is stuck too");
    assert!(plan.message.contains("passed over, and not ready yet: Deployment a"), "{}", plan.message);
    rolling.resume = Some("today again");
    assert_eq!(rolling.step(), ["c"]);
    rolling.becomes_ready("c");
    assert_eq!(rolling.look().reason, Reason::RolloutStopped, "two are still not ready");
    rolling.becomes_ready("a");
    rolling.becomes_ready("b");
    assert!(rolling.look().status.complete);
}

#[test]
fn one_that_another_takes_back_is_left_alone_after_three_times() {
    let mut rolling = Rolling::auto(three());
    for _ in 0..3 {
        assert_eq!(rolling.step(), ["a"]);
        rolling.workload("a").serial_numbers = SerialNumbers::default();
    }
    assert_eq!(rolling.step(), ["b"], "the others go on");
    for name in ["b", "c"] {
        rolling.becomes_ready(name);
        rolling.step();
    }
    rolling.becomes_ready("c");
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.progress.as_str()), (Reason::RolloutContested, "2/3"));
    assert!(plan.message.contains("taking the change back from Deployment a"), "{}", plan.message);
    rolling.certificate.serial_number = "C".to_owned();
    rolling.workload("a").readiness = Readiness::Ready;
    assert!(rolling.step().contains(&"a".to_owned()), "the next certificate is tried again");
}

#[test]
fn an_answer_that_is_lost_counts_as_no_interference() {
    let mut rolling = Rolling::auto(three());
    for _ in 0..5 {
        assert_eq!(names(&rolling.look()), ["a"], "the status was written, and the change was not made");
    }
    assert_eq!(rolling.status.as_ref().unwrap().begun[0].taken_back, 0);
}

#[test]
fn outside_windows_nothing_is_begun_and_what_was_begun_is_waited_for() {
    let mut rolling = Rolling::new(at_night(), three());
    let plan = rolling.look();
    let next: Timestamp = NOW + HOUR * 9;
    assert_eq!((names(&plan), plan.reason), (vec![], Reason::RolloutWaitingForWindow));
    assert_eq!(plan.status.next_window, Some(Time(next)));
    // The old certificate lasts 30 days more: a week before that windows do not hold.
    assert_eq!(plan.status.regardless_of_windows_after, Some(Time(NOW + HOUR * (720 - 168))));
    assert!(
        plan.message.contains("the next window opens at") && plan.message.contains("windows do not hold"),
        "{}",
        plan.message
    );
    rolling.now = next;
    assert_eq!(rolling.step(), ["a"]);
    rolling.now = next + HOUR * 6;
    rolling.becomes_ready("a");
    let plan = rolling.look();
    assert_eq!((names(&plan), plan.reason, plan.status.progress.as_str()), (vec![], Reason::RolloutWaitingForWindow, "1/3"));
    assert_eq!(plan.status.begun, []);
}

#[rstest]
#[case::a_week_at_most(None, 720, 168)]
#[case::a_third_of_what_is_left(None, 23, 8)]
#[case::as_the_spec_says(Some("48h"), 720, 48)]
fn in_good_time_before_the_old_certificate_expires_windows_do_not_hold(
    #[case] ignore: Option<&str>,
    #[case] left: i32,
    #[case] before: i32,
) {
    let mut rollout = at_night();
    if let Some(ignore) = ignore {
        rollout["ignoreWindowsBefore"] = json!(ignore);
    }
    let mut rolling = Rolling::new(rollout, three());
    // 13:00 on another day.
    rolling.certificate.previous_not_after = Some(NOW + HOUR * left);
    let regardless = rolling.look().status.regardless_of_windows_after.unwrap().0;
    assert_eq!(regardless, NOW + HOUR * (left - before));
    rolling.now = regardless;
    assert_eq!(rolling.step(), ["a"]);
}

#[test]
fn a_window_is_not_waited_for_beyond_that_time() {
    let mut rolling = Rolling::new(at_night(), three());
    rolling.certificate.previous_not_after = Some(NOW + MINUTE * 30);
    rolling.certificate.written = NOW - MINUTE;
    let plan = rolling.look();
    let regardless = plan.status.regardless_of_windows_after.unwrap().0;
    assert!(regardless > NOW && plan.look == Look::At(regardless), "{:?}", plan.look);
}

#[rstest]
#[case::ca_replaced(Reason::IssuerChanged, true)]
#[case::chain_broken(Reason::ChainBroken, true)]
#[case::spoilt(Reason::PairUnusable, true)]
#[case::other_subject(Reason::SubjectChanged, true)]
#[case::expired(Reason::Expired, true)]
#[case::compromised(Reason::Compromised, true)]
#[case::renewed(Reason::RenewalDue, false)]
#[case::requested(Reason::RenewalRequested, false)]
#[case::secret_deleted(Reason::NoCertificate, false)]
fn windows_do_not_hold_where_the_old_certificate_is_useless(#[case] cause: Reason, #[case] is_urgent: bool) {
    let mut rolling = Rolling::new(at_night(), three());
    rolling.certificate.cause = Some(cause);
    let plan = rolling.look();
    assert_eq!((plan.status.urgent, names(&plan).len()), (is_urgent, usize::from(is_urgent)));
}

#[test]
fn an_urgent_rollout_that_a_renewal_overtakes_stays_urgent_and_the_earlier_expiry_counts() {
    let mut rolling = Rolling::new(at_night(), three());
    rolling.certificate.cause = Some(Reason::IssuerChanged);
    assert_eq!(rolling.step(), ["a"]);
    rolling.certificate.serial_number = "C".to_owned();
    rolling.certificate.cause = Some(Reason::RenewalDue);
    rolling.certificate.previous_not_after = Some(NOW + HOUR * 2000);
    let plan = rolling.look();
    assert!(plan.status.urgent);
    assert_eq!(plan.status.old_not_after, Some(Time(NOW + HOUR * 720)), "pods may still have that one");
    assert_eq!(names(&plan), ["a"], "it keeps its place");
}

#[test]
fn windows_end_for_a_rollout_from_a_certificate_that_turns_out_to_be_compromised() {
    let mut rolling = Rolling::new(at_night(), three());
    assert_eq!(rolling.look().reason, Reason::RolloutWaitingForWindow);
    rolling.certificate.compromised_not_after = rolling.certificate.previous_not_after;
    assert_eq!(rolling.step(), ["a"]);
    let plan = rolling.look();
    assert!(plan.status.urgent && plan.message.contains("is compromised"), "{}", plan.message);
}

#[test]
fn windows_hold_once_no_workload_has_the_compromised_certificate() {
    let mut rolling = Rolling::new(at_night(), [deployment("a")]);
    rolling.certificate.cause = Some(Reason::Compromised);
    assert_eq!(rolling.step(), ["a"]);
    rolling.becomes_ready("a");
    assert!(rolling.look().status.complete);
    rolling.certificate.compromised_not_after = rolling.certificate.previous_not_after;
    assert!(rolling.look().status.complete);
    // The next renewal, from a certificate that nobody else knows.
    rolling.pass(HOUR);
    rolling.becomes_old("a");
    rolling.certificate.serial_number = "C".to_owned();
    rolling.certificate.cause = Some(Reason::RenewalDue);
    rolling.certificate.written = rolling.now - MINUTE * 5;
    rolling.certificate.previous_not_after = Some(NOW + HOUR * 2000);
    let plan = rolling.look();
    assert_eq!((plan.status.urgent, plan.reason), (false, Reason::RolloutWaitingForWindow));
}

#[test]
fn a_renewal_that_overtakes_a_rollout_from_a_compromised_certificate_is_urgent() {
    let mut rolling = Rolling::new(at_night(), three());
    assert_eq!(rolling.look().reason, Reason::RolloutWaitingForWindow);
    rolling.certificate.compromised_not_after = rolling.certificate.previous_not_after;
    rolling.certificate.serial_number = "C".to_owned();
    rolling.certificate.previous_not_after = Some(NOW + HOUR * 2000);
    assert_eq!(rolling.step(), ["a"], "no workload was moved away from it");
}

pub(super) fn payments(serial_number: &str) -> RolledCertificate {
    RolledCertificate {
        name: "payments".to_owned(),
        secret_name: "payments".to_owned(),
        serial_number: serial_number.to_owned(),
        known: vec![serial_number.to_owned(), "70".to_owned()],
        ..certificate(json!({ "workloads": [{ "kind": "Deployment", "name": "a" }] }))
    }
}

#[rstest]
#[case::both_are_new("orders=A,payments=70", "orders=B,payments=77")]
#[case::the_other_is_current("orders=A,payments=77", "orders=B,payments=77")]
#[case::the_other_is_newer_than_is_known("orders=A,payments=78", "orders=B,payments=78")]
#[case::no_entries("", "orders=B,payments=77")]
#[case::an_object_is_gone("gone=1,orders=A,payments=70", "orders=B,payments=77")]
fn secrets_that_change_together_cost_one_restart(#[case] before: &str, #[case] after: &str) {
    let mut rolling = Rolling::auto([with_serial_numbers(deployment("a"), before)]);
    rolling.others = vec![payments("77")];
    assert_eq!(rolling.look().moves[0].serial_numbers, after);
}

#[test]
fn a_workload_waits_for_the_newest_of_its_secrets_and_others_do_not() {
    let mut rolling = Rolling::auto([deployment("a"), deployment("b")]);
    rolling.others = vec![RolledCertificate { written: NOW - SignedDuration::from_secs(5), ..payments("77") }];
    let plan = rolling.look();
    assert_eq!(plan.moves.len(), 1);
    assert_eq!((names(&plan), plan.moves[0].serial_numbers.as_str()), (vec!["b"], "orders=B"));
    rolling.found.workloads.pop();
    let plan = rolling.look();
    assert_eq!((names(&plan), plan.look), (vec![], Look::At(NOW + SignedDuration::from_secs(5))));
    rolling.pass(KUBELET_LAG);
    assert_eq!(rolling.look().moves[0].serial_numbers, "orders=B,payments=77");
}

#[test]
fn one_that_the_other_certificate_moves_is_waited_for_by_both() {
    let mut rolling = Rolling::auto([unready(with_serial_numbers(deployment("a"), "orders=B,payments=77")), deployment("b")]);
    assert_eq!(names(&rolling.look()), Vec::<&str>::new());
    rolling.pass(MINUTE * 10);
    assert_eq!(rolling.look().reason, Reason::RolloutStopped);
    rolling.becomes_ready("a");
    assert_eq!(rolling.step(), ["b"]);
}

#[test]
fn a_clock_that_is_set_back_lets_a_workload_take_its_whole_time() {
    let mut rolling = Rolling::auto(three());
    assert_eq!(rolling.step(), ["a"]);
    rolling.now -= MINUTE * 30;
    assert_eq!(rolling.look().reason, Reason::RolloutInProgress);
    rolling.pass(MINUTE * 9);
    assert_eq!(rolling.look().reason, Reason::RolloutInProgress);
    rolling.pass(MINUTE);
    assert_eq!(rolling.look().reason, Reason::RolloutStopped);
}

#[test]
fn a_workload_that_is_deleted_gives_up_its_place() {
    let mut rolling = Rolling::auto(three());
    assert_eq!(rolling.step(), ["a"]);
    rolling.found.workloads.remove(0);
    assert_eq!(rolling.step(), ["b"]);
}

#[test]
fn while_the_object_is_suspended_what_was_begun_is_finished_and_nobody_else_is_begun() {
    let mut rolling = Rolling::auto([deployment("a"), deployment("b")]);
    assert_eq!(rolling.step(), ["a"]);
    rolling.certificate.is_suspended = true;
    assert_eq!(rolling.look().reason, Reason::RolloutInProgress, "the first is on its way");
    rolling.becomes_ready("a");
    assert!(rolling.step().is_empty());
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.progress.as_str()), (Reason::Suspended, "1/2"));
    assert!(plan.message.contains("spec.suspend"), "{}", plan.message);
    rolling.certificate.is_suspended = false;
    assert_eq!(rolling.step(), ["b"]);
}

#[test]
fn while_the_object_is_suspended_one_that_is_stuck_is_not_taken_for_moved() {
    let mut rolling = Rolling::auto([deployment("a")]);
    assert_eq!(rolling.step(), ["a"]);
    rolling.certificate.is_suspended = true;
    rolling.pass(MINUTE * 10);
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.complete), (Reason::RolloutStopped, false), "{}", plan.message);
    assert!(matches!(plan.look, Look::At(_)), "somebody looks whether it is ready");
    assert!(plan.message.contains("Deployment a (") && plan.message.contains("spec.suspend"), "{}", plan.message);
    rolling.becomes_ready("a");
    assert_eq!(rolling.look().reason, Reason::RolloutComplete);
}

#[test]
fn while_the_secret_lacks_a_keystore_nobody_is_moved_and_pods_that_started_meanwhile_are_not_taken_for_moved() {
    let mut rolling = Rolling::auto([deployment("a")]);
    rolling.certificate.is_complete = false;
    assert!(rolling.step().is_empty());
    assert!(rolling.look().message.contains("the Secret lacks something"));
    rolling.becomes_ready("a");
    assert_eq!(rolling.look().status.moved, 1, "by the time of its pods alone");
    rolling.pass(HOUR);
    rolling.certificate.is_complete = true;
    assert_eq!(rolling.look().status.moved, 0, "its pod started without the keystore");
    assert!(rolling.step().is_empty(), "new pods may not have it yet");
    rolling.pass(KUBELET_LAG);
    assert_eq!(rolling.step(), ["a"]);
}

#[test]
fn a_workload_whose_change_is_refused_holds_nobody_up_and_is_named() {
    let mut rolling = Rolling::auto([deployment("a"), deployment("b")]);
    assert_eq!(rolling.step(), ["a"]);
    rolling.workload("a").serial_numbers = SerialNumbers::default();
    rolling.becomes_old("a");
    rolling.status.as_mut().unwrap().begun.iter_mut().for_each(|begun| begun.changed = false);
    rolling.found.refused = vec![(reference("a"), "a webhook says no".to_owned())];
    assert_eq!(rolling.step(), ["b"]);
    rolling.becomes_ready("b");
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.progress.as_str()), (Reason::RolloutForbidden, "1/2"));
    assert!(plan.message.contains("Deployment a (a webhook says no)"), "{}", plan.message);
    assert!(matches!(plan.look, Look::At(_)), "it is tried again");
    rolling.found.refused.clear();
    assert_eq!(rolling.step(), ["a"]);
}

#[test]
fn the_first_look_heeds_the_oldest_certificate_that_pods_may_have() {
    let windows =
        json!({ "auto": true, "windows": [{ "days": ["Mon"], "from": "02:00", "to": "03:00" }], "ignoreWindowsBefore": "1h" });
    let mut rolling = Rolling::new(windows, [deployment("a")]);
    rolling.certificate.first_not_after = Some(NOW + HOUR * 480);
    let plan = rolling.look();
    assert_eq!(plan.status.regardless_of_windows_after.unwrap().0, NOW + HOUR * 479);
}

#[test]
fn a_long_request_to_go_on_is_kept_as_its_digest_and_is_handled_once() {
    let long: &'static str = Box::leak("x".repeat(100_000).into_boxed_str());
    let mut rolling = Rolling::auto(three());
    rolling.step();
    rolling.pass(HOUR);
    assert_eq!(rolling.look().reason, Reason::RolloutStopped);
    rolling.resume = Some(long);
    assert_eq!(rolling.step(), ["b"], "it goes on without the one that is stuck");
    let kept = rolling.status.as_ref().unwrap().resume_request_handled.clone().unwrap();
    assert!(kept.chars().count() <= 64, "{} characters", kept.chars().count());
    rolling.pass(HOUR);
    assert_eq!(rolling.look().reason, Reason::RolloutStopped, "the same request does not count again");
}
