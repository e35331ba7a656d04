//! What a pass does while nothing goes wrong.

use rstest::rstest;

use super::{situations::*, *};
use crate::{
    api::{PrivateKey, PrivateKeyAlgorithm},
    decide::{IssuerState, SecretState},
};

fn assert_steps(mut world: World, expected: &str) {
    let moves = world.run();
    assert_eq!(steps(&moves, &world).join(" > "), expected);
}

/// The scenarios of `tests/chaos`: what happens to an object whose certificate was issued a day ago. A deleted object has no pass.
#[rstest]
#[case::first_issue(
    World::new(Ca),
    "observe > request certificate (NoCertificate) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::renewal(
    World::settled(Ca).after(TWO_MONTHS),
    "observe > request certificate (RenewalDue) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::forced_renewal(
    World::settled(Ca).with(ask_for_renewal),
    "observe > request certificate (RenewalRequested) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::compromised(
    World::settled(Ca).with(compromise),
    "observe > request certificate (Compromised) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::former_pair_compromised(
    World::settled(Ca).with(compromise_former_pair),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
#[case::spec_change(
    World::settled(Ca).with(change_spec),
    "observe > request certificate (SubjectChanged) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::issuer_change(
    World::settled(Ca).with(change_issuer),
    "observe > request certificate (IssuerChanged) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::secret_deleted(
    World::settled(Ca).with(delete_secret),
    "observe > request certificate (NoCertificate) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::secret_corrupted_in_tls_crt_only(
    World::settled(Ca).with(spoil_certificate_of_secret),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
#[case::secret_corrupted_everywhere(
    World::settled(Ca).with(spoil_all_of_secret),
    "observe > request certificate (PairUnusable) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::label_taken_away(
    World::settled(Ca).with(take_label_away),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
#[case::nothing_to_do(World::settled(Ca), "observe > report nothing new > sleep 3600 s")]
#[case::ca_replaced(
    World::settled(Ca).with(change_issuer),
    "observe > request certificate (IssuerChanged) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::ca_renewed_with_its_key(
    World::settled(Ca).with(renew_ca),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
#[case::label_taken_away_while_there_is_no_issuer(
    World::settled(Ca).with(take_label_away).with(|world| world.issuer = IssuerState::Missing),
    "observe > read Secret > read object > write repaired without the issuer > report [Ready, IssuerNotFound] > sleep 3600 s"
)]
#[case::adopted_secret(
    World::new(Ca).with(asks_to_adopt),
    "observe > read object > write adopted > report [Ready, Issued] > sleep 3600 s"
)]
fn a_ca_signs_at_once_and_the_newest_object_is_read_before_the_secret_is_written(#[case] world: World, #[case] expected: &str) {
    assert_steps(world, expected);
}

#[rstest]
#[case::first_issue(
    World::new(Atlas),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (NoCertificate) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::renewal(
    World::settled(Atlas).after(TWO_MONTHS),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (RenewalDue) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::forced_renewal(
    World::settled(Atlas).with(ask_for_renewal),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (RenewalRequested) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::compromised(
    World::settled(Atlas).with(compromise),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (Compromised) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::spec_change(
    World::settled(Atlas).with(change_spec),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (SubjectChanged) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::issuer_change(
    World::settled(Atlas).with(change_issuer),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (IssuerChanged) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::secret_deleted(
    World::settled(Atlas).with(delete_secret),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (NoCertificate) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::secret_corrupted_in_tls_crt_only(
    World::settled(Atlas).with(spoil_certificate_of_secret),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
#[case::secret_corrupted_everywhere(
    World::settled(Atlas).with(spoil_all_of_secret),
    "observe > recall user > take turn for 2 > list certificates > recall user > try write > check user > write claim \
     > request certificate (PairUnusable) > (count minted) > read object > write unsaved > report [Ready, Issued] \
     > sleep 3600 s"
)]
#[case::label_taken_away(
    World::settled(Atlas).with(take_label_away),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
#[case::nothing_to_do(World::settled(Atlas), "observe > report nothing new > sleep 3600 s")]
#[case::known_user_within_the_hour(
    World::new(Atlas).with(|world| drop(world.run())).after(HALF_AN_HOUR).with(delete_secret),
    "observe > recall user > try write > take turn for 1 > check user > write claim > request certificate (NoCertificate) \
     > (count minted) > read object > write unsaved > report [Ready, Issued] > sleep 3600 s"
)]
#[case::adopted_secret(
    World::new(Atlas).with(asks_to_adopt),
    "observe > read object > write adopted > report [Ready, Issued] > sleep 3600 s"
)]
fn at_atlas_all_that_can_be_known_is_known_before_the_claim_and_the_claim_before_the_request(
    #[case] world: World,
    #[case] expected: &str,
) {
    assert_steps(world, expected);
}

#[rstest]
#[case::certificate_in_memory(
    unsaved().after(HALF_AN_HOUR),
    "observe > read object > write unsaved > report [Ready, Issued] > sleep 3600 s"
)]
#[case::certificate_in_memory_too_early(
    unsaved(),
    "observe > report nothing new > sleep 3 s (claim in status, certificate in memory)"
)]
#[case::certificate_in_memory_and_an_edited_object(
    unsaved().after(HALF_AN_HOUR).with(|world| world.edit(|_| ())),
    "observe > read object > write unsaved > report [Ready, Issued] > sleep 3600 s"
)]
#[case::claim_without_its_certificate(
    claimed(),
    "observe > take turn for 1 > list certificates > recall user > (forget claimed user) > report [not Ready, AtlasAnswerLost] \
     > sleep 16 s"
)]
#[case::claim_whose_request_is_known_to_have_failed(unreported(), "observe > report [not Ready, AtlasForbidden] > sleep 31 s")]
#[case::abandoned_secret_that_nobody_asked_to_adopt(
    World::new(Atlas).with(World::find_abandoned_secret),
    "observe > report [not Ready, SecretNotOwned] > sleep 3600 s"
)]
#[case::unknown_issuer(
    World::new(Atlas).with(|world| world.issuer = IssuerState::Unknown),
    "observe > report nothing new > await a change"
)]
#[case::missing_issuer(
    World::new(Atlas).with(|world| world.issuer = IssuerState::Missing),
    "observe > report [not Ready, IssuerNotFound] > sleep 3600 s"
)]
fn what_an_earlier_pass_left_is_seen_to_first(#[case] world: World, #[case] expected: &str) {
    assert_steps(world, expected);
}

#[rstest]
#[case::certificate_in_memory(
    unsaved().with(stopping),
    "observe live > read object > write unsaved > report [Ready, Issued] > sleep 3600 s"
)]
#[case::better_one_in_the_secret(
    unsaved().with(put_newer_certificate).with(stopping),
    "observe live > await a change (claim in status)"
)]
#[case::secret_of_another(
    unsaved().with(|world| world.secret = SecretState::NotOurs("belongs to a Pod".into())).with(stopping),
    "observe live > await a change (claim in status, certificate in memory)"
)]
#[case::nothing_in_memory(World::new(Atlas).with(stopping), "observe live > await a change")]
fn a_process_that_stops_only_saves(#[case] world: World, #[case] expected: &str) {
    assert_steps(world, expected);
}

#[test]
fn others_go_first_and_the_queue_wakes_the_object() {
    let mut world = World::new(Atlas);
    assert_eq!(world.after_fault("take turn for 2", &Fault::NoTurn), "report [not Ready, AtlasQueued] > sleep 3600 s");
    let mut world = World::new(Atlas).with(|world| drop(world.run())).after(HALF_AN_HOUR).with(delete_secret);
    assert_eq!(world.after_fault("take turn for 1", &Fault::NoTurn), "report [not Ready, AtlasQueued] > sleep 3600 s");
}

#[test]
fn a_key_that_takes_long_is_awaited_outside_of_the_pass() {
    let with_rsa_key = |world: &mut World| {
        world.object.spec.private_key = Some(PrivateKey { algorithm: PrivateKeyAlgorithm::Rsa, size: None });
    };
    let mut world = World::new(Ca).with(with_rsa_key);
    let steps = steps(&world.run(), &world);
    assert!(steps.iter().any(|step| step.starts_with("make key (RSA 2048)")), "{steps:?}");
    let mut world = World::new(Ca).with(with_rsa_key);
    let awaited = world.after_fault("make key (RSA 2048)", &Fault::NoTurn);
    assert_eq!(awaited, "report [not Ready, KeyBeingMade] > sleep 3600 s");
}

#[test]
fn a_look_that_fails_forgets_nothing() {
    let mut world = unsaved();
    let moves = world.run_with(|number, _| (number == 0).then_some(Fault::Answer(RequestErrorKind::Unanswered)));
    assert_eq!(steps(&moves, &world).join(" > "), "observe > fail (claim in status, certificate in memory)");
}

/// The claim tells a successor that a certificate may have been made.
#[test]
fn a_claim_stands_while_its_certificate_cannot_be_saved_because_the_secret_has_become_another_s() {
    let mut world = World::new(Atlas);
    let mut is_met = false;
    let moves = world.run_with(|_, step| {
        let meets = !is_met && step.to_string() == "write unsaved";
        is_met |= meets;
        meets.then_some(Fault::SecretTaken)
    });
    let rows = steps(&moves, &world).join(" > ");
    assert!(
        rows.ends_with("report [not Ready, SecretNotOwned] > sleep 3600 s (claim in status, certificate in memory)"),
        "{rows}"
    );
}
