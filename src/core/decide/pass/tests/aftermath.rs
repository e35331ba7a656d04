//! What a pass leaves behind besides its steps: the place in the queue, counters, waits, and what its report tells.

use rstest::rstest;

use super::{situations::*, world::refusal, *};
use crate::{
    api::RENEWAL_FAILED,
    decide::{Holdings, IssuerState, SecretState, UserRecord},
    layout::LayoutRecord,
};

fn changes(moves: &[Move]) -> Vec<&Change> {
    moves.iter().flat_map(|moved| &moved.changes).collect()
}

fn report(moves: &[Move]) -> &Report {
    moves
        .iter()
        .find_map(|moved| match &moved.step {
            Step::Report(report) => Some(report.as_ref()),
            _ => None,
        })
        .expect("a report")
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
    assert_eq!(failure.message, format!("a fault; the first of 1 certificates expires at {first}"));
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

/// The process ends between the request and the write of the Secret, and this one begins.
fn killed_before_it_saved(process: &'static str) -> World {
    let mut world = World::new(Atlas);
    world.meet("write unsaved", &Fault::Answer(RequestErrorKind::Failed));
    world.restarted().with(|world| world.process = process)
}

/// The same, before the request reached Atlas.
fn killed_before_it_asked() -> World {
    claimed().with(|world| world.process = "pod-1_b")
}

#[rstest]
#[case::in_the_same_pod("pod-1_b", None, 0)]
#[case::in_another_pod("pod-2_a", None, 60)]
#[case::in_another_pod_after_it_gave_up_the_lease("pod-2_a", Some("pod-1_a"), 0)]
#[case::in_another_pod_after_a_third_gave_up_the_lease("pod-2_a", Some("pod-3_a"), 60)]
fn a_certificate_that_atlas_lists_and_nobody_holds_is_lost_whatever_the_clocks_say(
    #[case] process: &'static str,
    #[case] released_by: Option<&'static str>,
    #[case] wait: i64,
) {
    let mut world = killed_before_it_saved(process).with(|world| world.released_by = released_by);
    let began = world.now;
    world.run();
    let status = world.object.status.clone().unwrap();
    let found = status.unaccounted_certificates.unwrap();
    assert_eq!((found.count, found.presumed, found.certificates.len()), (1, 0, 1), "it is known by its serial number");
    let failure = status.failure.unwrap();
    let waited = failure.next_attempt.0.duration_since(began).as_secs();
    assert!((wait..=wait + wait / 10).contains(&waited), "{waited} s: {}", failure.message);
    let mut later = world.after(SignedDuration::from_secs(wait + wait / 10 + 1));
    assert!(later.run().iter().any(|moved| matches!(moved.step, Step::RequestCertificate { .. })));
    assert!(later.secret.certificate().is_some());
}

#[test]
fn a_claim_of_which_the_list_shows_nothing_is_presumed_lost_and_waited_for_as_long_as_before() {
    let mut world = killed_before_it_asked();
    world.run();
    let status = world.object.status.clone().unwrap();
    assert_eq!(status.unaccounted_certificates.map(|found| found.presumed), Some(1));
    assert!(status.failure.unwrap().next_attempt.0.duration_since(world.now).as_secs() >= 300);
    assert!(world.users.is_empty(), "the request may still be on its way: the list is asked for again");
}

/// Passes until a certificate is asked for; the seconds until then, and when Atlas was asked for its list.
fn until_asked_for(world: &mut World, mut change: impl FnMut(&mut World, i64)) -> (i64, Vec<i64>) {
    let (began, mut questions) = (world.now, Vec::new());
    for _ in 0..20 {
        let seconds = world.now.duration_since(began).as_secs();
        change(world, seconds);
        let moves = world.run();
        let asks = |wanted: fn(&Step) -> bool| moves.iter().any(|moved| wanted(&moved.step));
        if asks(|step| matches!(step, Step::ListCertificates { .. })) {
            questions.push(seconds);
        }
        if asks(|step| matches!(step, Step::RequestCertificate { .. })) {
            return (seconds, questions);
        }
        let Some(Step::End(End::Sleep(sleep))) = moves.last().map(|moved| moved.step.clone()) else { panic!("{moves:?}") };
        // The watch shows what was reported.
        if report(&moves).status.is_none() {
            world.now += SignedDuration::try_from(sleep).unwrap();
        }
    }
    panic!("no certificate is asked for");
}

#[rstest]
#[case::in_the_same_pod("pod-1_b", 17)]
#[case::in_another_pod("pod-2_a", 82)]
fn a_list_that_lags_is_asked_for_again(#[case] process: &'static str, #[case] most: i64) {
    let mut world = killed_before_it_saved(process).with(|world| world.list_lacks = 1);
    let (seconds, _) = until_asked_for(&mut world, |world, seconds| world.list_lacks = usize::from(seconds < 10));
    assert!(seconds <= most, "{seconds} s");
    let status = world.object.status.clone().unwrap();
    let found = status.unaccounted_certificates.unwrap();
    assert_eq!((found.count, found.presumed, found.certificates.len()), (1, 0, 1), "it is counted once, by its serial number");
    assert!(world.secret.certificate().is_some() && status.failure.is_none());
}

#[test]
fn while_the_list_shows_nothing_it_is_asked_for_less_and_less_often_and_the_wait_is_no_longer_than_before() {
    let mut world = killed_before_it_asked();
    let mut presumed = Vec::new();
    let (seconds, questions) = until_asked_for(&mut world, |world, _| {
        let status = world.object.status.as_ref().unwrap();
        presumed.extend(status.unaccounted_certificates.as_ref().map(|found| found.presumed));
    });
    assert!((300..=332).contains(&seconds), "{seconds} s");
    assert_eq!(questions, [0, 16, 48, 112, 240, seconds], "the last one is of the mint itself");
    assert!(presumed.iter().all(|presumed| *presumed == 1), "an empty list does not take back the loss: {presumed:?}");
}

/// The request of a process that was paused takes effect late, and is saved.
#[test]
fn what_is_saved_after_all_ends_the_questions() {
    let mut world = killed_before_it_asked();
    world.run();
    let mut world = world.with(put_newer_certificate).after(SignedDuration::from_secs(16));
    let rows = steps(&world.run(), &world).join(" > ");
    assert!(!rows.contains("list certificates") && rows.contains("Ready"), "{rows}");
}

#[rstest]
#[case::that_fails("list certificates", Fault::Issuer(refusal(Reason::AtlasUnavailable, Minted::No)))]
#[case::for_which_others_go_first("take turn for 1", Fault::NoTurn)]
fn a_question_that_is_not_answered_changes_no_wait(#[case] step: &str, #[case] fault: Fault) {
    let mut world = killed_before_it_asked();
    world.run();
    let before = world.object.status.clone().unwrap();
    let mut world = world.after(SignedDuration::from_secs(16));
    world.meet(step, &fault);
    let status = world.object.status.clone().unwrap();
    let next = |status: &DatabaseUserCertificateStatus| status.failure.as_ref().unwrap().next_attempt.clone();
    assert_eq!((next(&status), status.unaccounted_certificates.clone()), (next(&before), before.unaccounted_certificates));
    assert_eq!(condition(&status.conditions, ISSUING).unwrap().reason, "AtlasAnswerLost");
}

/// Two objects name the user, and both lost a claim. Atlas lists one certificate: nobody knows whose.
#[test]
fn one_listed_certificate_tells_nothing_of_two_lost_claims() {
    let mut world = killed_before_it_asked();
    world.run();
    let status = world.object.status.clone().unwrap();
    let record = UserRecord::new(world.now, Some(Vec::new()));
    let claims = |statuses: &[Option<&DatabaseUserCertificateStatus>]| {
        record.recalled(String::new(), statuses, Holdings::default()).certificates.claims
    };
    assert_eq!(claims(&[Some(&status), claimed().object.status.as_ref()]), 2);
    let over = UserRecord::new(world.now + HALF_AN_HOUR, Some(Vec::new()));
    assert_eq!(over.recalled(String::new(), &[Some(&status)], Holdings::default()).certificates.claims, 0);
}

#[test]
fn a_list_that_cannot_be_had_loses_no_claim() {
    let mut world = killed_before_it_saved("pod-1_b");
    world.meet("list certificates", &Fault::Issuer(refusal(Reason::AtlasUnavailable, Minted::No)));
    let status = world.object.status.unwrap();
    assert_eq!(status.unaccounted_certificates.map(|found| found.presumed), Some(1));
    assert_eq!(status.failure.map(|failure| failure.reason), Some("AtlasAnswerLost".to_owned()));
}

#[test]
fn a_second_loss_in_a_row_waits_even_in_the_same_pod() {
    let mut world = killed_before_it_saved("pod-1_b");
    world.run();
    world.meet("write unsaved", &Fault::Answer(RequestErrorKind::Failed));
    let mut world = world.restarted().with(|world| world.process = "pod-1_c");
    world.run();
    let failure = world.object.status.unwrap().failure.unwrap();
    assert_eq!(failure.count, 2);
    assert!(
        failure.next_attempt.0.duration_since(world.now).as_secs() >= 60,
        "a process that dies at each answer burns no budget"
    );
}

/// The watch is down, so the next passes do not see the claim that stands.
#[rstest]
#[case::refused(Fault::Answer(RequestErrorKind::Conflict))]
#[case::without_an_answer(Fault::Answer(RequestErrorKind::Unanswered))]
fn a_claim_that_is_seen_late_is_no_loss_whatever_became_of_the_next_ones(#[case] next: Fault) {
    let mut world = World::new(Atlas);
    let before = world.object.clone();
    world.meet("write claim", &Fault::AnswerLost);
    let with_claim = std::mem::replace(&mut world.object, before);
    for _ in 0..3 {
        world.meet("write claim", &next);
    }
    world.object = with_claim;
    world.run();
    let status = world.object.status.clone().unwrap();
    assert_eq!((status.issuance, status.failure, status.unaccounted_certificates), (None, None, None));
}

#[test]
fn a_claim_whose_write_got_no_answer_is_taken_back_and_is_no_loss() {
    let mut world = World::new(Atlas);
    world.meet("write claim", &Fault::AnswerLost);
    assert!(world.object.status.as_ref().unwrap().issuance.is_some(), "it stands");
    world.run();
    let status = world.object.status.clone().unwrap();
    assert_eq!((status.issuance, status.failure, status.unaccounted_certificates), (None, None, None));
    world.run();
    assert!(world.secret.certificate().is_some());
}
