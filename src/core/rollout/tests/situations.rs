//! One workload in one situation: whether it is moved, whether it counts, and what is said.

use rstest::rstest;

use super::*;
use crate::api::Reason;

const NEW: &[SignedDuration] = &[SignedDuration::from_mins(-58)];

fn pods(workload: Workload, started: &[SignedDuration]) -> Workload {
    let pods = started.iter().map(|from_now| pod(Some(NOW + *from_now))).collect();
    Workload { pods: Some(pods), ..workload }
}

fn updated(updates: Updates) -> Workload {
    Workload { updates, ..deployment("web") }
}

fn moved(workload: Workload) -> Workload {
    with_serial_numbers(workload, "orders=B")
}

/// What becomes of a workload at the first look.
#[derive(Debug, PartialEq)]
enum Becomes {
    Begun,
    Moved,
    LeftToOthers,
    WaitedFor,
    Nothing,
}

#[rstest]
#[case::old_pods(deployment("web"), Becomes::Begun)]
#[case::moved_for_the_old_certificate(with_serial_numbers(deployment("web"), "orders=A"), Becomes::Begun)]
#[case::moved(moved(deployment("web")), Becomes::Moved)]
#[case::moved_and_not_ready(moved(unready(deployment("web"))), Becomes::WaitedFor)]
#[case::restarted_by_another(pods(deployment("web"), NEW), Becomes::Moved)]
#[case::restarted_by_another_and_not_ready(unready(pods(deployment("web"), NEW)), Becomes::Moved)]
#[case::restarted_by_another_in_part(pods(deployment("web"), &[HOUR * -2, MINUTE * -5]), Becomes::Begun)]
#[case::started_before_the_kubelet_could_have_it(pods(deployment("web"), &[MINUTE * -60 + KUBELET_LAG - SignedDuration::from_secs(1)]), Becomes::Begun)]
#[case::started_when_the_kubelet_could_have_it(pods(deployment("web"), &[MINUTE * -60 + KUBELET_LAG]), Becomes::Moved)]
#[case::pod_that_has_not_started(Workload { pods: Some(vec![pod(None)]), ..deployment("web") }, Becomes::Moved)]
#[case::old_pod_is_over(Workload { pods: Some(vec![Pod { is_over: true, ..pod(Some(NOW - HOUR * 2)) }, pod(Some(NOW))]), ..deployment("web") }, Becomes::Moved)]
#[case::pods_are_not_known(Workload { pods: None, ..deployment("web") }, Becomes::Begun)]
#[case::zero_replicas(Workload { pods: Some(Vec::new()), pod_count: 0, ..deployment("web") }, Becomes::Moved)]
#[case::pods_that_its_selector_does_not_find(Workload { pods: Some(Vec::new()), ..deployment("web") }, Becomes::Begun)]
#[case::scaled_up_by_hpa_after_it_was_moved(moved(unready(pods(deployment("web"), &[MINUTE * -50, MINUTE * -1]))), Becomes::Moved)]
#[case::not_ready_before(unready(deployment("web")), Becomes::Begun)]
#[case::paused(updated(Updates::Paused), Becomes::Begun)]
#[case::paused_and_annotated(moved(updated(Updates::Paused)), Becomes::LeftToOthers)]
#[case::paused_and_unready(moved(unready(updated(Updates::Paused))), Becomes::LeftToOthers)]
#[case::paused_with_new_pods(moved(pods(updated(Updates::Paused), NEW)), Becomes::Moved)]
#[case::on_delete(updated(Updates::OnDelete), Becomes::Begun)]
#[case::on_delete_and_annotated(moved(updated(Updates::OnDelete)), Becomes::LeftToOthers)]
#[case::on_delete_and_all_deleted(moved(pods(updated(Updates::OnDelete), NEW)), Becomes::Moved)]
#[case::partition(updated(Updates::Partition(2)), Becomes::Begun)]
#[case::partition_on_its_way(moved(unready(updated(Updates::Partition(2)))), Becomes::WaitedFor)]
#[case::partition_reached(moved(pods(updated(Updates::Partition(1)), &[HOUR * -2, MINUTE * -5])), Becomes::LeftToOthers)]
#[case::partition_and_all_new(moved(pods(updated(Updates::Partition(1)), NEW)), Becomes::Moved)]
#[case::being_deleted(Workload { is_being_deleted: true, ..deployment("web") }, Becomes::Nothing)]
fn each_situation_is_decided(#[case] workload: Workload, #[case] expected: Becomes) {
    let mut rolling = Rolling::auto([workload]);
    let plan = rolling.look();
    let found = match (plan.moves.len(), plan.status.moved, plan.status.left_to_others.len(), plan.status.workloads) {
        (1, 0, 0, 1) => Becomes::Begun,
        (0, 1, 0, 1) => Becomes::Moved,
        (0, 0, 1, 1) => Becomes::LeftToOthers,
        (0, 0, 0, 1) => Becomes::WaitedFor,
        (0, 0, 0, 0) => Becomes::Nothing,
        other => panic!("{other:?}"),
    };
    assert_eq!(found, expected, "{}", plan.message);
    let reason = match expected {
        Becomes::Begun | Becomes::WaitedFor => Reason::RolloutInProgress,
        Becomes::Moved | Becomes::Nothing => Reason::RolloutComplete,
        Becomes::LeftToOthers => Reason::RolloutLeftToOthers,
    };
    // A move is told once it was made.
    assert_eq!(plan.reason, reason, "{}", plan.message);
    assert_eq!(plan.look == Look::Never, plan.status.complete);
}

#[rstest]
#[case::paused(Updates::Paused, "is paused")]
#[case::on_delete(Updates::OnDelete, "is updated OnDelete")]
fn a_workload_whose_pods_are_left_to_others_holds_nobody_up(#[case] updates: Updates, #[case] said: &str) {
    let mut rolling = Rolling::auto([Workload { updates, ..deployment("a") }, deployment("b")]);
    assert_eq!(rolling.step(), ["a", "b"], "it takes no place");
    rolling.becomes_ready("b");
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.progress.as_str()), (Reason::RolloutLeftToOthers, "1/2"));
    assert!(plan.message.contains(&format!("Deployment a {said}")), "{}", plan.message);
    rolling.becomes_ready("a");
    assert_eq!(rolling.look().reason, Reason::RolloutComplete);
}

#[test]
fn the_lag_of_the_kubelet_is_waited_for() {
    let mut rolling = Rolling::auto([deployment("web")]);
    rolling.certificate.written = NOW - SignedDuration::from_secs(10);
    let plan = rolling.look();
    assert_eq!((names(&plan), plan.look), (vec![], Look::At(NOW + KUBELET_LAG - SignedDuration::from_secs(10))));
    rolling.pass(KUBELET_LAG - SignedDuration::from_secs(10));
    assert_eq!(rolling.step(), ["web"]);
}

#[test]
fn a_time_of_the_write_far_ahead_holds_nothing_up() {
    let mut rolling = Rolling::auto([deployment("web")]);
    rolling.certificate.written = NOW + HOUR * 48;
    assert_eq!(rolling.step(), ["web"], "the clock was set back");
}

#[test]
fn a_workload_that_does_not_exist_is_named_and_holds_nobody_up() {
    let mut rolling = Rolling::new(
        json!({ "workloads": [{ "kind": "Deployment", "name": "web" }, { "kind": "Deployment", "name": "gone" }] }),
        [deployment("web")],
    );
    rolling.found.missing = vec![reference("gone")];
    assert_eq!(rolling.step(), ["web"]);
    rolling.becomes_ready("web");
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.progress.as_str()), (Reason::WorkloadNotFound, "1/2"));
    assert!(plan.message.contains("not there: Deployment gone"), "{}", plan.message);
}

#[test]
fn a_workload_without_a_pod_template_is_there_and_is_named_apart() {
    let mut rolling = Rolling::auto([]);
    rolling.found.without_template = vec![reference("web")];
    let plan = rolling.look();
    assert_eq!((plan.reason, plan.status.progress.as_str()), (Reason::WorkloadNotFound, "0/1"));
    assert!(
        plan.message.contains("no pod template at spec.template, so they cannot be moved: Deployment web"),
        "{}",
        plan.message
    );
    assert!(!plan.message.contains("not there"), "{}", plan.message);
}

#[rstest]
#[case::named(json!({ "workloads": [{ "kind": "Deployment", "name": "web" }] }), true)]
#[case::of_another_kind(json!({ "workloads": [{ "kind": "StatefulSet", "name": "web" }] }), false)]
#[case::selected(json!({ "selector": { "matchLabels": { "app": "web" } } }), true)]
#[case::selected_by_expression(json!({ "selector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web"] }] } }), true)]
#[case::not_selected(json!({ "selector": { "matchLabels": { "app": "db" } } }), false)]
#[case::selector_that_cannot_be_read(json!({ "selector": { "matchExpressions": [{ "key": "app", "operator": "Near" }] } }), false)]
#[case::auto(json!({ "auto": true }), true)]
fn a_workload_follows_by_name_by_label_or_by_use(#[case] rollout: Value, #[case] expected: bool) {
    assert_eq!(certificate(rollout).covers(&deployment("web")), expected);
}

#[test]
fn auto_passes_by_what_does_not_use_the_secret() {
    let other = json!({ "volumes": [{ "name": "v", "secret": { "secretName": "payments" } }] });
    assert!(!certificate(json!({ "auto": true })).covers(&Workload { pod_spec: other, ..deployment("web") }));
}

#[rstest]
#[case::on_the_workload("a, orders", "", true)]
#[case::on_its_pods("", "orders", true)]
#[case::another_secret("orders-db", "payments", false)]
#[case::no_secret("", "", false)]
fn auto_finds_what_names_the_secret_to_reloader(#[case] on_workload: &str, #[case] on_pods: &str, #[case] expected: bool) {
    let annotated = |names: &str| json!({ "name": "web", "annotations": { "secret.reloader.stakater.com/reload": names } });
    let template = json!({ "metadata": annotated(on_pods), "spec": {} });
    let object = json!({ "metadata": annotated(on_workload), "spec": { "template": template } });
    let workload = Workload::read("apps/v1", "Deployment", &object).unwrap();
    assert_eq!(certificate(json!({ "auto": true })).covers(&workload), expected);
    assert!(!certificate(json!({ "selector": { "matchLabels": { "app": "web" } } })).covers(&workload));
}

#[rstest]
#[case(json!({ "auto": true, "readyTimeout": "10 minutes" }), "readyTimeout")]
#[case(json!({ "auto": true, "ignoreWindowsBefore": "soon" }), "ignoreWindowsBefore")]
#[case(json!({ "auto": true, "windows": [{ "from": "22:00", "to": "04:00", "timeZone": "Mars/Olympus" }] }), "Mars/Olympus")]
fn what_cannot_be_read_moves_nothing_and_is_named(#[case] rollout: Value, #[case] named: &str) {
    let plan = Rolling::new(rollout, [deployment("web")]).look();
    assert_eq!((plan.reason, plan.moves.len(), plan.look), (Reason::InvalidSpec, 0, Look::At(NOW + HOUR * 720)));
    assert!(plan.message.contains(named), "{}", plan.message);
}

#[rstest]
#[case::waits_for_the_secret(None, false, "1/1")]
#[case::started_with_the_first_certificate(Some(NOW - HOUR + MINUTE / 6), false, "1/1")]
#[case::ran_before_it(Some(NOW - HOUR - MINUTE), false, "0/1")]
#[case::may_have_started_without_it(Some(NOW - HOUR + MINUTE / 6), true, "0/1")]
fn who_waited_for_the_first_certificate_is_not_restarted(
    #[case] ran_since: Option<Timestamp>,
    #[case] optional: bool,
    #[case] progress: &str,
) {
    let pod_spec = json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders", "optional": optional } }] });
    let pods = Some(vec![Pod { ran_since, ..pod(Some(NOW - HOUR * 2)) }]);
    let mut rolling = Rolling::auto([Workload { pod_spec, pods, ..deployment("web") }]);
    rolling.certificate.is_first = true;
    assert_eq!(rolling.look().status.progress, progress);
    rolling.certificate.is_first = false;
    assert_eq!(rolling.look().status.progress, "0/1", "it may have another");
}

#[test]
fn the_first_run_of_a_container_is_found_where_it_is_told() {
    let old = (NOW - HOUR).to_string();
    let pod = |phase: &str, statuses: Value| {
        Pod::read(&json!({ "status": { "phase": phase, "startTime": old, "containerStatuses": statuses } })).ran_since
    };
    let run = json!({ "startedAt": NOW.to_string() });
    let waiting = json!({ "state": { "waiting": { "reason": "ContainerCreating" } }, "restartCount": 0 });
    assert_eq!(pod("Pending", json!([waiting])), None);
    assert_eq!(pod("Pending", Value::Null), None);
    assert_eq!(pod("Running", Value::Null), Some(NOW - HOUR), "nothing is told");
    assert_eq!(pod("Running", json!([waiting, { "state": { "running": run }, "restartCount": 0 }])), Some(NOW));
    let again = json!({ "state": { "running": run }, "lastState": { "terminated": { "startedAt": old } }, "restartCount": 1 });
    assert_eq!(pod("Running", json!([again])), Some(NOW - HOUR));
    assert_eq!(
        pod("Running", json!([{ "state": { "running": run }, "restartCount": 2 }])),
        Some(NOW - HOUR),
        "the first is forgotten"
    );
}

#[test]
fn nobody_is_moved_to_a_certificate_that_does_not_work() {
    let mut rolling = Rolling::auto([deployment("web")]);
    rolling.certificate.is_ready = false;
    let plan = rolling.look();
    assert_eq!((plan.reason, names(&plan)), (Reason::RolloutInProgress, vec![]));
    assert!(plan.message.contains("not Ready"), "{}", plan.message);
    rolling.certificate.is_ready = true;
    assert_eq!(rolling.step(), ["web"]);
}

#[test]
fn one_that_does_not_say_which_change_it_has_seen_is_ready_when_its_pods_are_new() {
    let further = Workload { observes_changes: false, ..deployment("a") };
    let mut rolling = Rolling::auto([further, deployment("b")]);
    let plan = rolling.look();
    assert_eq!(names(&plan), ["a"]);
    rolling.workload("a").serial_numbers = plan.moves[0].serial_numbers();
    let plan = rolling.look();
    assert_eq!((names(&plan), plan.status.moved, &plan.awaited), (vec![], 0, &None), "its counts are those from before");
    rolling.pass(MINUTE * 10);
    let plan = rolling.look();
    assert_eq!(plan.reason, Reason::RolloutStopped);
    assert!(plan.message.contains("Deployment a (pods from before its change are still there)"), "{}", plan.message);
    rolling.becomes_ready("a");
    assert_eq!(rolling.step(), ["b"]);
    assert!(rolling.workload("a").needs_pods(&certificate(json!({ "auto": true })), true), "its pods alone tell");
}

#[test]
fn one_that_says_neither_which_change_it_has_seen_nor_which_pods_it_has_is_believed() {
    let mut rolling = Rolling::auto([Workload { observes_changes: false, pods: None, ..deployment("a") }]);
    assert_eq!(rolling.step(), ["a"]);
    rolling.workload("a").readiness = Readiness::Ready;
    assert_eq!(rolling.look().reason, Reason::RolloutComplete);
}

#[rstest]
#[case::of_a_further_kind("example.com/v1", "Worker", true)]
#[case::in_another_version("example.com/v1beta1", "Worker", true)]
#[case::of_another_group("example.org/v1", "Worker", false)]
#[case::of_another_kind("example.com/v1", "Job", false)]
fn a_workload_that_another_has_made_is_known(#[case] api_version: &str, #[case] kind: &str, #[case] expected: bool) {
    let object = |api_version: &str, kind: &str, owners: Value| {
        let object = json!({ "metadata": { "name": "sync", "ownerReferences": owners }, "spec": { "template": {} } });
        Workload::read(api_version, kind, &object).unwrap()
    };
    let owner =
        |is_controller: bool| json!([{ "apiVersion": api_version, "kind": kind, "name": "sync", "controller": is_controller }]);
    let worker = object("example.com/v1", "Worker", json!([]));
    assert_eq!(object("apps/v1", "StatefulSet", owner(true)).is_made_by_one_of(std::slice::from_ref(&worker)), expected);
    assert!(!object("apps/v1", "StatefulSet", owner(false)).is_made_by_one_of(&[worker]));
}

#[test]
fn nobody_is_moved_to_a_certificate_that_is_compromised() {
    let mut rolling = Rolling::auto([deployment("web")]);
    rolling.certificate.is_compromised = true;
    let plan = rolling.look();
    assert_eq!((plan.reason, names(&plan)), (Reason::RolloutInProgress, vec![]));
    assert!(plan.message.contains("because it is compromised"), "{}", plan.message);
    rolling.certificate.is_compromised = false;
    assert_eq!(rolling.step(), ["web"]);
}

#[test]
fn the_move_for_another_certificate_has_no_entry_of_a_compromised_one() {
    let mut rolling = Rolling::new(json!({ "workloads": [{ "kind": "Deployment", "name": "web" }] }), [deployment("web")]);
    let payments = RolledCertificate {
        name: "payments".to_owned(),
        serial_number: "77".to_owned(),
        is_compromised: true,
        ..rolling.certificate.clone()
    };
    rolling.others = vec![payments];
    assert_eq!(rolling.look().moves[0].serial_numbers, "orders=B");
    rolling.others[0].is_compromised = false;
    rolling.status = None;
    assert_eq!(rolling.look().moves[0].serial_numbers, "orders=B,payments=77");
}

#[test]
fn a_missing_right_is_told_once_however_often_it_is_tried_again() {
    let mut object = crate::api::DatabaseUserCertificate::new("orders", crate::api::DatabaseUserCertificateSpec::default());
    let mut rolling = Rolling::auto([deployment("web")]);
    let mut told = Vec::new();
    for _ in 0..3 {
        let (status, events) = next_status(&object, &rolling.look(), NOW);
        object.status = Some(status);
        told.extend(events);
        let (status, events) = refused(&object, Reason::RolloutForbidden, "the operator may not patch deployments.apps", NOW);
        object.status = Some(status);
        told.extend(events);
    }
    assert_eq!(told, [(Reason::RolloutForbidden, "the operator may not patch deployments.apps".to_owned())]);
    rolling.step();
    let (status, _) = next_status(&object, &rolling.look(), NOW);
    assert_eq!(crate::api::condition(&status.conditions, crate::api::ROLLED_OUT).unwrap().reason, "RolloutInProgress");
}

#[test]
fn a_kind_that_is_not_served_is_named_and_holds_no_other_workload_up() {
    let mut rolling = Rolling::auto([deployment("web")]);
    let kind = "Rollout is not served as rollouts of argoproj.io/v1alpha1";
    rolling.found.not_served = vec![kind.to_owned()];
    assert!(rolling.plan().message.contains(kind));
    assert_eq!(rolling.step(), ["web"]);
    rolling.becomes_ready("web");
    let plan = rolling.look();
    assert!(plan.message.contains(kind) && plan.message.contains("rollout.kinds"), "{}", plan.message);
    assert_eq!((plan.reason, plan.look), (Reason::WorkloadKindNotServed, Look::At(NOW + MINUTE * 10)), "it is tried again");
    rolling.found.not_served.clear();
    assert_eq!(rolling.look().reason, Reason::RolloutComplete);
}
