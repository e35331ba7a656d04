//! What need not be asked for: the pods of workloads that tell by themselves, and all but those that have a place.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// `a` is on its way, the others wait for their turn.
fn on_its_way(rollout: Value) -> Rolling {
    let mut rolling = Rolling::new(rollout, ["a", "b", "c"].map(deployment));
    rolling.step();
    rolling
}

fn one_at_a_time() -> Rolling {
    on_its_way(json!({ "auto": true }))
}

fn awaited(rolling: &Rolling) -> Option<Vec<String>> {
    rolling.plan().awaited.map(|awaited| awaited.references().map(|workload| workload.name.clone()).collect())
}

#[test]
fn while_all_places_are_taken_the_next_step_depends_on_those_who_have_them() {
    let mut rolling = one_at_a_time();
    assert_eq!(awaited(&rolling), Some(vec!["a".to_owned()]));
    let before = rolling.plan().awaited.unwrap();
    let is_as_before = |rolling: &Rolling| before.are_as_before(&rolling.found.workloads, &rolling.certificate, rolling.now);
    rolling.pass(MINUTE);
    assert!(is_as_before(&rolling));
    rolling.workload("b").resource_version.push('+');
    assert!(is_as_before(&rolling), "whatever others do");
    rolling.becomes_ready("a");
    assert!(!is_as_before(&rolling));
}

#[rstest]
#[case::takes_too_long(|rolling: &mut Rolling| rolling.pass(MINUTE * 10))]
#[case::says_that_it_failed(|rolling: &mut Rolling| rolling.workload("a").readiness = Readiness::Failed("no quota".to_owned()))]
#[case::is_taken_back(|rolling: &mut Rolling| rolling.workload("a").serial_numbers = SerialNumbers::default())]
#[case::is_deleted(|rolling: &mut Rolling| rolling.workload("a").is_being_deleted = true)]
#[case::is_gone(|rolling: &mut Rolling| rolling.found.workloads.retain(|workload| workload.reference.name != "a"))]
#[case::is_paused(|rolling: &mut Rolling| rolling.workload("a").updates = Updates::Paused)]
fn all_are_looked_at_if_one_that_is_awaited(#[case] change: fn(&mut Rolling)) {
    let mut rolling = one_at_a_time();
    let awaited = rolling.plan().awaited.unwrap();
    change(&mut rolling);
    assert!(!awaited.are_as_before(&rolling.found.workloads, &rolling.certificate, rolling.now));
}

#[test]
fn all_are_looked_at_while_a_place_is_free() {
    let mut rolling = Rolling::new(json!({ "auto": true, "maxConcurrent": 2 }), ["a", "b", "c"].map(deployment));
    assert_eq!(rolling.step(), ["a", "b"]);
    assert_eq!(awaited(&rolling).map(|names| names.len()), Some(2));
    rolling.becomes_ready("a");
    assert_eq!(awaited(&rolling), None);
}

#[test]
fn the_last_one_is_awaited_alone_and_so_is_one_that_is_stuck() {
    let mut rolling = one_at_a_time();
    rolling.pass(MINUTE * 10);
    assert_eq!(rolling.look().reason, crate::api::Reason::RolloutStopped);
    assert_eq!(awaited(&rolling), Some(vec!["a".to_owned()]));
    let mut rolling = on_its_way(json!({ "auto": true, "maxConcurrent": 8 }));
    rolling.becomes_ready("a");
    rolling.becomes_ready("b");
    rolling.look();
    assert_eq!(awaited(&rolling), Some(vec!["c".to_owned()]));
}

#[test]
fn one_whose_pods_have_to_be_known_is_not_glanced_at() {
    let mut rolling = one_at_a_time();
    rolling.workload("a").updates = Updates::Partition(1);
    assert_eq!(awaited(&rolling), None);
    let mut rolling = one_at_a_time();
    rolling.workload("a").serial_numbers = SerialNumbers::default();
    assert_eq!(awaited(&rolling), None);
}

#[rstest]
#[case::behind(deployment("web"), false, true)]
#[case::behind_and_begun(deployment("web"), true, true)]
#[case::moved(with_serial_numbers(deployment("web"), "orders=B"), false, false)]
#[case::on_its_way(unready(with_serial_numbers(deployment("web"), "orders=B")), true, false)]
#[case::scaled_up_after_it_was_moved(unready(with_serial_numbers(deployment("web"), "orders=B")), false, true)]
#[case::on_delete(with_serial_numbers(Workload { updates: Updates::OnDelete, ..deployment("web") }, "orders=B"), true, true)]
fn pods_are_asked_for_where_they_tell(#[case] workload: Workload, #[case] is_begun: bool, #[case] expected: bool) {
    assert_eq!(workload.needs_pods(&certificate(json!({ "auto": true })), is_begun), expected);
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let time = || prop::option::of((-300..300_i64).prop_map(|seconds| NOW + SignedDuration::from_secs(seconds)));
    let labels = prop::sample::select(vec!["web", "other"]);
    (time(), time(), any::<bool>(), labels).prop_map(|(started, ran_since, is_over, app)| Pod {
        labels: [("app".to_owned(), app.to_owned())].into(),
        started,
        ran_since,
        is_over,
    })
}

proptest! {
    #[test]
    fn the_pods_that_are_kept_say_as_much_as_all(
        pods in prop::collection::vec(any_pod(), 0..12),
        page_size in 1..12_usize,
        time in (-300..300_i64).prop_map(|seconds| NOW + SignedDuration::from_secs(seconds)),
        now in (-300..300_i64).prop_map(|seconds| NOW + SignedDuration::from_secs(seconds)),
    ) {
        let selector = serde_json::from_value(json!({ "matchLabels": { "app": "web" } })).unwrap();
        let mut read = Workload { selector: Some(selector), pods: None, ..deployment("web") };
        read.take_pods(&[]);
        for page in pods.chunks(page_size) {
            read.take_pods(page);
        }
        let own = pods.into_iter().filter(|pod| pod.labels["app"] == "web").collect();
        let all = Workload { pods: Some(own), ..read.clone() };
        prop_assert!(read.pods.as_ref().is_some_and(|kept| kept.len() <= 3));
        prop_assert_eq!(read.started_from(time, now), all.started_from(time, now));
        prop_assert_eq!(read.ran_from(time), all.ran_from(time));
    }
}
