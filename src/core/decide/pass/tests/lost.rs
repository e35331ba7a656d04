//! What becomes of a claim whose certificate is not in the Secret: it may be lost, or was never asked for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::{situations::*, world::refusal, *};
use crate::{
    api::{UnaccountedCertificate, UnaccountedCertificates},
    decide::{Holdings, UserRecord},
};

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

/// Another leader counts the claim of a process that is cut off. Then that process saves what it has.
#[rstest]
#[case::by_its_claim_before_atlas_lists_it(1)]
#[case::by_its_serial_number(0)]
fn what_is_saved_after_all_ends_the_questions_and_is_not_counted_any_more(#[case] list_lacks: usize) {
    let mut cut_off = World::new(Atlas);
    cut_off.meet("write unsaved", &Fault::Answer(RequestErrorKind::Failed));
    let mut leader = cut_off.clone().restarted().with(|world| (world.process, world.list_lacks) = ("pod-2_a", list_lacks));
    leader.run();
    let counted = |world: &World| {
        let status = world.object.status.clone().unwrap();
        status.unaccounted_certificates.map(|found| (found.count, found.presumed, found.certificates.len()))
    };
    let expected = if list_lacks == 1 { (1, 1, 0) } else { (1, 0, 1) };
    assert_eq!(counted(&leader), Some(expected));

    cut_off.object = leader.object.clone();
    stopping(&mut cut_off);
    cut_off.run();
    leader.secret = cut_off.secret.clone();
    leader.now += SignedDuration::from_secs(16);
    let rows = steps(&leader.run(), &leader).join(" > ");
    assert!(!rows.contains("list certificates") && rows.contains("Ready"), "{rows}");
    assert_eq!(counted(&leader), None);
    assert_eq!(leader.object.status.clone().unwrap().failure.and_then(|failure| failure.unlisted), None);
    let mut later = leader.after(HALF_AN_HOUR);
    later.run();
    assert_eq!((counted(&later), later.secret.certificate().unwrap().serial_number.as_str()), (None, "01"));
}

/// The list named it while another object's certificate of the same user was in the memory of a process that was cut off.
#[test]
fn a_counted_certificate_that_came_into_the_secret_of_another_object_is_not_counted_any_more() {
    let mut world = World::settled(Atlas);
    let named = |serial: &str| UnaccountedCertificate { serial_number: serial.into(), not_after: Time(world.now + TWO_MONTHS) };
    let certificates = vec![named("0E"), named("0F")];
    let counted = UnaccountedCertificates { count: 2, certificates, ..UnaccountedCertificates::default() };
    world.object.status.as_mut().unwrap().unaccounted_certificates = Some(counted);
    world.held_elsewhere = vec!["0E"];
    world.run();
    let left = world.object.status.unwrap().unaccounted_certificates.unwrap();
    assert_eq!((left.count, left.certificates[0].serial_number.as_str()), (1, "0F"));
}

/// A process that was cut off saves what it has, and before a pass has looked, a newer one takes its place.
#[test]
fn a_certificate_that_was_in_the_secret_for_a_moment_is_accounted_for() {
    let mut other = World::new(Atlas);
    other.run();
    let mut world = unsaved().after(HALF_AN_HOUR);
    world.object.status.as_mut().unwrap().unaccounted_certificates = Some(UnaccountedCertificates {
        count: 1,
        certificates: vec![UnaccountedCertificate { serial_number: "0F".into(), not_after: Time(world.now + TWO_MONTHS) }],
        ..UnaccountedCertificates::default()
    });
    world.secret = other.secret;
    world.edit_secret(|view| {
        let certificate = view.certificate.as_mut().unwrap();
        (certificate.serial_number, view.issuance) = ("0F".into(), None);
        certificate.not_before -= HALF_AN_HOUR;
    });
    world.run();
    let status = world.object.status.unwrap();
    let history: Vec<&str> = status.history.iter().map(|issued| issued.serial_number.as_str()).collect();
    assert_eq!((history, status.unaccounted_certificates), (vec!["01", "0F"], None));
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
