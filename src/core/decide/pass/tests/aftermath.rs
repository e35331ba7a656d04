//! What a pass leaves behind besides its steps: the place in the queue, counters, waits, and what its report tells.

use rstest::rstest;

use super::{situations::*, world::refusal, *};
use crate::{
    api::RENEWAL_FAILED,
    decide::{IssuerState, SecretState},
    layout::LayoutRecord,
};

fn changes(moves: &[Move]) -> Vec<&Change> {
    moves.iter().flat_map(|moved| &moved.changes).collect()
}

#[rstest]
#[case::with_a_certificate(World::new(Atlas), None, true)]
#[case::with_nothing_to_do(World::settled(Atlas), None, true)]
#[case::with_a_refusal(World::new(Atlas), Some(("check user", Fault::Issuer(refusal(Reason::AtlasForbidden, Minted::No)))), true)]
#[case::not_while_others_go_first(World::new(Atlas), Some(("take turn for 2", Fault::NoTurn)), false)]
#[case::not_while_a_429_is_waited_for(rate_limited(), None, false)]
fn an_object_leaves_the_queue(#[case] mut world: World, #[case] fault: Option<(&str, Fault)>, #[case] leaves: bool) {
    let moves =
        world.run_with(|_, step| fault.as_ref().filter(|(name, _)| step.to_string() == *name).map(|(_, fault)| fault.clone()));
    assert_eq!(changes(&moves).contains(&&Change::LeaveQueue), leaves);
}

/// Atlas has answered 429.
fn rate_limited() -> World {
    let error = IssueError { retry: Retry::NotBefore(HALF_AN_HOUR), ..refusal(Reason::AtlasRateLimited, Minted::No) };
    World::new(Atlas).with(|world| world.meet("check user", &Fault::Issuer(error)))
}

#[test]
fn after_a_429_the_object_takes_a_new_place_for_one_call() {
    let mut world = World::settled(Atlas).after(TWO_MONTHS);
    let expiry = world.secret.certificate().unwrap().not_after;
    let limited = refusal(Reason::AtlasRateLimited, Minted::No);
    let moves = world.run_with(|_, step| matches!(step, Step::CheckUser { .. }).then(|| Fault::Issuer(limited.clone())));
    let last: Vec<&Change> = changes(&moves);
    assert_eq!(last, [&Change::EndTurn, &Change::LeaveQueue, &Change::QueueAgain { calls: 1, expiry }]);
}

#[test]
fn whoever_has_no_certificate_goes_first_and_the_oldest_object_before_the_others() {
    let turn = |world: &mut World| {
        let moves = world.run();
        moves.iter().find_map(|moved| match moved.step {
            Step::TakeTurn { expiry, .. } => Some(expiry),
            _ => None,
        })
    };
    let created = World::new(Atlas).now;
    assert_eq!(turn(&mut World::new(Atlas).after(HALF_AN_HOUR)), Some(created));
    assert!(turn(&mut World::settled(Atlas).after(TWO_MONTHS)) > Some(created + TWO_MONTHS));
}

#[test]
fn at_the_limit_the_first_expiry_of_the_user_s_certificates_is_waited_for() {
    let mut world = World::settled(Atlas).after(TWO_MONTHS);
    let first = world.secret.certificate().unwrap().not_after;
    let refused = Fault::Issuer(refusal(Reason::AtlasCertificateLimit, Minted::No));
    world.meet("request certificate (RenewalDue)", &refused);
    let failure = world.object.status.unwrap().failure.unwrap();
    assert_eq!(failure.next_attempt.0, first + SignedDuration::from_mins(1));
    assert_eq!(failure.message, format!("a fault; the only certificate expires at {first}"));
}

#[rstest]
#[case::a_pass_that_reports(World::settled(Ca), 0)]
#[case::a_certificate_that_still_waits_for_its_secret(unsaved(), 3)]
#[case::a_certificate_that_was_saved(unsaved().after(HALF_AN_HOUR), 0)]
fn failures_of_the_api_server_are_forgotten_after(#[case] mut world: World, #[case] left: u32) {
    world.memory.failures = 3;
    world.run();
    assert_eq!(world.memory.failures, left);
}

#[test]
fn a_report_that_fails_keeps_the_count_of_failures() {
    let mut world = World::settled(Ca).with(delete_secret);
    world.memory.failures = 3;
    world.run_with(|_, step| matches!(step, Step::Report(_)).then_some(Fault::Answer(RequestErrorKind::Failed)));
    assert_eq!(world.memory.failures, 3);
}

#[test]
fn each_failed_write_of_a_certificate_in_memory_doubles_the_wait() {
    let mut world = unsaved();
    let mut waits = Vec::new();
    for _ in 0..11 {
        let failure = world.memory.unsaved.as_ref().unwrap().failure.as_ref().unwrap();
        waits.push(failure.until.duration_since(world.now).as_secs());
        world.now = failure.until;
        world.meet("write unsaved", &Fault::Answer(RequestErrorKind::Failed));
    }
    assert_doubled_from(2, &waits);
    assert!(waits.iter().all(|wait| *wait <= 600), "a certificate in memory alone waits for ten minutes at most: {waits:?}");
}

/// Up to a tenth is added, so that objects do not come back together.
fn assert_doubled_from(first: i64, waits: &[i64]) {
    let mut expected = first;
    for wait in waits {
        assert!((expected..=expected + expected / 10).contains(wait), "{waits:?}");
        expected = (expected * 2).min(512);
    }
}

/// The API server waits for a webhook longer than this operator waits for the API server.
#[rstest]
#[case::signed(World::new(Ca), "write signed")]
#[case::tried(World::new(Atlas), "try write")]
#[case::repaired(World::settled(Ca).with(take_label_away), "write repaired")]
fn a_write_that_gets_no_answer_is_repeated_once_and_told_then(#[case] mut world: World, #[case] write: &str) {
    let unanswered = Fault::Answer(RequestErrorKind::Unanswered);
    assert_eq!(world.after_fault(write, &unanswered), "fail");
    let told = world.after_fault(write, &unanswered);
    assert!(told.contains("SecretWriteFailed") && told.contains("sleep 31 s"), "{told}");
    world.now += HALF_AN_HOUR;
    let told = world.after_fault(write, &unanswered);
    assert!(told.contains("SecretWriteFailed"), "the next one is told at once: {told}");
    assert_eq!(world.object.status.unwrap().failure.unwrap().count, 2);
}

#[test]
fn a_repair_that_is_refused_while_there_is_no_issuer_waits_longer_each_time() {
    let mut world = World::settled(Ca).with(spoil_certificate_of_secret).with(|world| world.issuer = IssuerState::Missing);
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.meet("write repaired without the issuer", &Fault::Answer(RequestErrorKind::Refused));
        let failure = world.object.status.clone().unwrap().failure.unwrap();
        assert_eq!(failure.reason, "SecretNotWritable");
        waits.push(failure.next_attempt.0.duration_since(world.now).as_secs());
        assert!(!steps(&world.run(), &world).contains(&"read Secret".to_owned()), "the wait holds");
        world.now = failure.next_attempt.0;
    }
    assert_doubled_from(30, &waits);
}

/// A process that was paused may still save the answer that counts as lost.
#[test]
fn a_repair_that_is_refused_does_not_shorten_the_wait_for_a_lost_answer() {
    let mut world = World::settled(Atlas).after(TWO_MONTHS);
    let lost = IssueError { minted: Minted::Possibly, ..refusal(Reason::AtlasAnswerLost, Minted::Possibly) };
    world.meet("request certificate (RenewalDue)", &Fault::Issuer(lost));
    let failure = world.object.status.clone().unwrap().failure;
    spoil_certificate_of_secret(&mut world);
    let mut waits = Vec::new();
    for _ in 0..3 {
        world.meet("write repaired without the issuer", &Fault::Answer(RequestErrorKind::Refused));
        assert_eq!(world.object.status.clone().unwrap().failure, failure);
        let refused = world.memory.repair_failure.clone().unwrap();
        waits.push(refused.until.duration_since(world.now).as_secs());
        assert!(!steps(&world.run(), &world).contains(&"read Secret".to_owned()), "the wait holds");
        world.now = refused.until;
    }
    assert_doubled_from(2, &waits);
    world.run();
    assert_eq!((world.memory.repair_failure, world.memory.failures), (None, 0));
}

/// Another leader has counted the claim, and its own certificate is in the Secret.
#[test]
fn an_outrun_certificate_stays_in_memory_while_the_secret_is_put_right() {
    let mut world = unsaved().with(put_newer_certificate).with(take_label_away);
    world.object.status.as_mut().unwrap().issuance = None;
    let moves = world.run();
    assert_eq!(
        steps(&moves, &world).join(" > "),
        "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s (certificate in memory)"
    );
}

/// Between two refusals stands the claim in the condition, or a place in the queue.
#[test]
fn a_refusal_that_is_met_again_is_told_once() {
    let mut world = World::new(Atlas);
    let refused = Fault::Issuer(refusal(Reason::AtlasForbidden, Minted::No));
    let told = |world: &mut World| {
        let moves = world.run_with(|_, step| matches!(step, Step::RequestCertificate { .. }).then(|| refused.clone()));
        report(&moves).warnings.iter().map(|(reason, _)| *reason).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world), [Reason::AtlasForbidden]);
    for _ in 0..2 {
        world.now += SignedDuration::from_hours(2);
        world.meet("take turn for 2", &Fault::NoTurn);
        assert_eq!(told(&mut world), []);
    }
    change_spec(&mut world);
    assert_eq!(told(&mut world), [Reason::AtlasForbidden], "it is the answer to another spec");
}

/// Another object of the project has met a 429 with a long `Retry-After`.
#[rstest]
#[case::for_a_day(SignedDuration::from_hours(24), true)]
#[case::for_half_a_minute(SignedDuration::from_secs(30), false)]
#[case::no_longer(SignedDuration::from_secs(-1), false)]
fn while_the_project_is_paused_an_object_in_the_queue_says_until_when(#[case] pause: SignedDuration, #[case] is_told: bool) {
    let mut world = World::settled(Atlas).after(TWO_MONTHS);
    let until = world.now + pause;
    let moves = world.run_with(|_, step| matches!(step, Step::TakeTurn { .. }).then_some(Fault::Paused(until)));
    let status = report(&moves).status.clone().unwrap();
    let issuing = condition(&status.conditions, ISSUING).unwrap();
    let warnings: Vec<Reason> = report(&moves).warnings.iter().map(|(reason, _)| *reason).collect();
    if is_told {
        assert_eq!(warnings, [Reason::AtlasRateLimited]);
        assert!(issuing.message.contains(&until.to_string()), "{}", issuing.message);
        assert_eq!(condition(&status.conditions, RENEWAL_FAILED).unwrap().status, "True");
    } else {
        assert_eq!((warnings, issuing.reason.as_str()), (vec![], "AtlasQueued"));
    }
}

#[rstest]
#[case::in_order(World::settled(Ca), WatchByName::No)]
#[case::without_its_label(World::settled(Ca).with(take_label_away), WatchByName::UnlessShown)]
#[case::of_another(World::new(Ca).with(|world| world.secret = SecretState::NotOurs("belongs to a Pod".into())), WatchByName::Yes)]
#[case::of_an_object_that_is_gone(World::new(Ca).with(World::find_abandoned_secret), WatchByName::Yes)]
fn a_secret_that_the_watch_of_our_label_does_not_show_is_watched_by_name(#[case] mut world: World, #[case] watch: WatchByName) {
    let refused = |_, step: &Step| matches!(step, Step::WriteSecret(_)).then_some(Fault::Answer(RequestErrorKind::Refused));
    assert_eq!(report(&world.run_with(refused)).watch_by_name, watch);
}

#[rstest]
#[case::issued(
    World::new(Atlas),
    "Issued: issued certificate 01 for CN=orders, valid until 2027-04-15T08:00:00Z; cause: NoCertificate"
)]
#[case::repaired(World::settled(Ca).with(take_label_away), "SecretRepaired: the Secret of certificate 01 is complete again")]
#[case::asked_for_more(
    World::settled(Ca).with(ask_for_labels),
    "SecretUpdated: the Secret of certificate 01 has what the spec asks for now"
)]
#[case::with_another_password(
    World::settled(Ca).with(change_password),
    "SecretUpdated: the Secret of certificate 01 has what the spec asks for now"
)]
#[case::without_the_former_pair(
    World::settled(Ca).with(have_former_pair_expire),
    "SecretUpdated: the Secret of certificate 01 has what the spec asks for now"
)]
#[case::without_a_compromised_pair(
    World::settled(Ca).with(compromise_former_pair),
    "SecretUpdated: the Secret of certificate 01 has what the spec asks for now"
)]
#[case::whose_record_is_taken_away(
    World::settled(Ca).with(ask_for_labels).with(|world| _ = world.run()).with(take_layout_away),
    "SecretRepaired: the Secret of certificate 01 is complete again"
)]
#[case::asked_for_more_and_another_policy(
    World::settled(Ca).with(retain).with(ask_for_labels).with(|world| _ = world.run()),
    "SecretUpdated: the Secret of certificate 01 has what the spec asks for now"
)]
#[case::whose_record_cannot_be_read(
    World::settled(Ca).with(|world| world.edit_secret(|view| view.layout = LayoutRecord::from_annotation(Some("{")))),
    "SecretRepaired: the Secret of certificate 01 is complete again"
)]
#[case::with_another_policy(
    World::settled(Ca).with(retain),
    "DeletionPolicyApplied: the Secret of certificate 01 follows spec.deletionPolicy"
)]
#[case::with_a_controller_that_somebody_took_away(
    World::settled(Ca).with(take_controller_away),
    "DeletionPolicyApplied: the Secret of certificate 01 follows spec.deletionPolicy"
)]
#[case::adopted(World::new(Ca).with(asks_to_adopt), "SecretAdopted: the Secret with certificate A0 was taken over as it is")]
fn what_was_written_is_told_in_an_event(#[case] mut world: World, #[case] expected: &str) {
    world.memory.repairs.clear();
    let reported = world.object.status.as_ref().and_then(|status| status.observed_generation);
    let is_new_spec = reported != world.object.metadata.generation;
    let moves = world.run();
    let is_put_right = match expected.split(':').next() {
        Some("SecretRepaired") => true,
        Some("SecretAdopted" | "DeletionPolicyApplied") => !is_new_spec,
        _ => false,
    };
    assert_eq!(world.memory.repairs.len(), usize::from(is_put_right), "what the spec asks for is not braked");
    let events: Vec<String> = report(&moves).events.iter().map(|(reason, text)| format!("{reason}: {text}")).collect();
    assert_eq!(events, [expected]);
}

/// Another program writes an old copy of the Secret, with the record of that time.
#[test]
fn a_secret_that_is_set_back_again_and_again_is_put_right_five_times_in_ten_minutes() {
    let mut world = World::settled(Ca).with(ask_for_labels).with(|world| _ = world.run());
    let old = LayoutRecord { digest: "old".into(), ..LayoutRecord::default() };
    let mut written = 0;
    for _ in 0..8 {
        world.edit_secret(|view| view.layout = old.clone());
        written += usize::from(steps(&world.run(), &world).contains(&"write repaired".to_owned()));
    }
    assert_eq!(written, 5);
}

#[test]
fn a_controller_that_is_taken_away_again_and_again_is_put_back_five_times_in_ten_minutes() {
    let mut world = World::settled(Ca);
    let mut written = 0;
    for _ in 0..8 {
        take_controller_away(&mut world);
        written += usize::from(steps(&world.run(), &world).contains(&"write deletion policy".to_owned()));
    }
    assert_eq!(written, 5);
}

#[test]
fn a_policy_may_be_changed_as_often_as_its_author_likes() {
    let mut world = World::settled(Ca);
    for change in [retain, release].into_iter().cycle().take(12) {
        change(&mut world);
        let rows = steps(&world.run(), &world);
        assert!(rows.contains(&"write deletion policy".to_owned()), "{rows:?}");
    }
}

#[test]
fn a_compromised_certificate_is_renewed_once() {
    for issuer in [Atlas, Ca] {
        let mut world = World::settled(issuer).with(compromise);
        world.run();
        assert_eq!(world.secret.certificate().unwrap().serial_number.as_str(), "02");
        assert_eq!(steps(&world.run(), &world).join(" > "), "observe > report nothing new > sleep 3600 s");
    }
}

/// Somebody puts the compromised certificate back again and again, such as a tool that restores Secrets.
#[test]
fn a_compromised_certificate_that_is_put_back_is_replaced_within_the_limits() {
    let mut world = World::settled(Ca).with(compromise);
    let compromised = world.secret.certificate().cloned().unwrap();
    let mut issued = 0;
    for _ in 0..12 {
        world.edit_secret(|view| view.certificate = Ok(compromised.clone()));
        let rows = steps(&world.run(), &world);
        issued += usize::from(rows.contains(&"write signed".to_owned()));
    }
    assert!((1..=5).contains(&issued), "{issued}");
}

/// Whatever the issuer does, it is not asked in a loop, and the compromised pair stays until there is another.
#[rstest]
#[case::atlas(Atlas, Reason::AtlasAnswerUnusable, Some(3))]
#[case::a_ca(Ca, Reason::SigningFailed, None)]
fn an_issuer_that_returns_the_compromised_certificate_is_asked_less_and_less_often(
    #[case] issuer: world::IssuerType,
    #[case] reason: Reason,
    #[case] most: Option<usize>,
) {
    let mut world = World::settled(issuer).with(compromise);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let moves = world.run_with(|_, step| matches!(step, Step::RequestCertificate { .. }).then_some(Fault::SameCertificate));
        let asked = moves.iter().any(|moved| matches!(moved.step, Step::RequestCertificate { .. }));
        assert!(!moves.iter().any(|moved| matches!(moved.step, Step::WriteSecret(_))));
        assert_eq!(world.secret.certificate().unwrap().serial_number.as_str(), "01");
        assert_eq!((world.memory.unsaved.as_ref(), world.kept_key()), (None, false), "it is in the Secret already");
        if !asked {
            break;
        }
        let again = steps(&world.run(), &world);
        assert!(!again.iter().any(|row| row.starts_with("request")), "{again:?}");
        let failure = world.object.status.as_ref().unwrap().failure.clone().unwrap();
        assert_eq!(failure.reason, reason.as_str());
        waits.push(failure.next_attempt.0.duration_since(world.now));
        world.now = failure.next_attempt.0;
    }
    assert!(waits.is_sorted() && waits[0] >= SignedDuration::from_secs(30), "{waits:?}");
    assert_eq!(waits.len(), most.unwrap_or(6));
    if most.is_some() {
        let said = condition(&world.object.status.as_ref().unwrap().conditions, ISSUING).unwrap().message.clone();
        assert!(said.contains("returned certificate 01") && said.contains("usercert.dev/compromised"), "{said}");
    }
}
