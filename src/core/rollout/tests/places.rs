//! Places of workloads that several certificates share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::{waves::payments, *};
use crate::api::BegunWorkload;

#[test]
fn a_secret_that_lacks_something_is_not_said_to_have_reached_a_workload() {
    let mut rolling = Rolling::auto([with_serial_numbers(deployment("a"), "orders=A,payments=76")]);
    rolling.others = vec![RolledCertificate { is_complete: false, ..payments("77") }];
    assert_eq!(rolling.look().moves[0].serial_numbers, "orders=B,payments=76", "it is moved again when the Secret is complete");
}

/// `payments` has `a` on its way, which both use, and `b` waits for its turn.
fn begun_by_payments() -> Rolling {
    let mut rolling = Rolling::auto([unready(with_serial_numbers(deployment("a"), "payments=77")), deployment("b")]);
    let begun = BegunWorkload {
        workload: reference("a"),
        since: Time(NOW - MINUTE * 5),
        changed: true,
        taken_back: 0,
        passed_over: false,
    };
    rolling.others = vec![RolledCertificate { begun: vec![begun], ..payments("77") }];
    rolling
}

#[test]
fn a_workload_that_another_certificate_has_on_its_way_takes_a_place_and_may_be_moved_along() {
    let mut rolling = begun_by_payments();
    let plan = rolling.look();
    assert_eq!(names(&plan), ["a"]);
    rolling.certificate.rollout.max_concurrent = Some(2);
    rolling.status = None;
    assert_eq!(names(&rolling.look()), ["a", "b"]);
}

#[test]
fn a_place_is_kept_for_another_certificate_until_the_workload_is_ready() {
    let mut rolling = begun_by_payments();
    // All its pods are new: for this certificate it counts as moved.
    rolling.workload("a").pods = Some(vec![pod(Some(NOW))]);
    let plan = rolling.look();
    assert_eq!((names(&plan), plan.status.moved), (vec![], 1));
    assert!(plan.message.contains("on their way for another certificate: Deployment a (payments)"), "{}", plan.message);
    rolling.becomes_ready("a");
    assert_eq!(rolling.step(), ["b"]);
}

#[rstest]
#[case::passed_over(|begun: &mut BegunWorkload| begun.passed_over = true)]
#[case::left_alone(|begun: &mut BegunWorkload| begun.taken_back = 3)]
fn one_that_another_certificate_does_not_wait_for_takes_no_place(#[case] change: fn(&mut BegunWorkload)) {
    let mut rolling = begun_by_payments();
    rolling.workload("a").pods = Some(vec![pod(Some(NOW))]);
    change(&mut rolling.others[0].begun[0]);
    assert_eq!(rolling.step(), ["b"]);
}

#[test]
fn one_that_another_certificate_is_about_to_change_takes_a_place_for_as_long_as_a_look_lasts() {
    let mut rolling = begun_by_payments();
    *rolling.workload("a") = Workload { pods: Some(vec![pod(Some(NOW))]), ..deployment("a") };
    rolling.others[0].begun[0].since = Time(NOW);
    assert_eq!(names(&rolling.look()), Vec::<&str>::new());
    rolling.pass(MINUTE * 2);
    assert_eq!(rolling.step(), ["b"]);
}
