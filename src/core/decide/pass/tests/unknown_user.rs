//! A certificate in memory while the user of a `userRef` is not known: nobody knows which of two users is wanted.

use rstest::rstest;

use super::{
    situations::*,
    world::{OTHER_USER, USER},
    *,
};
use crate::{
    api::RENEWAL_FAILED,
    certificate::Subject,
    decide::{IssuerState, SecretState},
};

fn subject_in(secret: &SecretState) -> Option<&Subject> {
    secret.certificate().map(|certificate| &certificate.subject)
}

fn subject_of(user: &str) -> Subject {
    Subject::for_user(user).unwrap()
}

/// What is in memory alone is there, with its key, and nothing counts it as lost.
fn assert_both_stay(world: &World) {
    let unsaved = world.memory.unsaved.as_ref().map(|unsaved| &unsaved.certificate.subject);
    assert_eq!((unsaved, world.kept_key()), (Some(&subject_of(OTHER_USER)), true));
    assert_eq!(subject_in(&world.secret), Some(&subject_of(USER)), "the one in the Secret stays");
    let status = world.object.status.as_ref().unwrap();
    assert!(status.issuance.is_some() && status.unaccounted_certificates.is_none(), "{status:?}");
}

fn not_ready() -> IssuerState {
    IssuerState::Unusable(Reason::AtlasObjectNotReady, "the AtlasDatabaseUser orders is not Ready yet".into())
}

#[rstest]
#[case::not_looked_at(IssuerState::Unknown)]
#[case::missing(IssuerState::Missing)]
#[case::not_ready(not_ready())]
fn while_the_user_is_not_known_both_certificates_stay(#[case] issuer: IssuerState) {
    let mut world = unsaved_of_other_user().with(|world| world.issuer = issuer);
    for _ in 0..3 {
        let moves = world.run();
        let writes = moves.iter().any(|moved| matches!(moved.step, Step::WriteSecret(_)));
        assert!(!writes, "{:?}", steps(&moves, &world));
        assert_both_stay(&world);
        world.now += HALF_AN_HOUR;
    }

    let mut wanted = world.clone().with(refer_to_other_user);
    wanted.run();
    assert_eq!(subject_in(&wanted.secret), Some(&subject_of(OTHER_USER)), "the other one is wanted, and was not made twice");
    assert_eq!(wanted.secret.certificate().unwrap().serial_number.as_str(), "02");
    let status = wanted.object.status.unwrap();
    assert_eq!((status.issuance, status.unaccounted_certificates), (None, None));

    let mut unwanted = world.with(refer_to_user);
    unwanted.run();
    assert_eq!(subject_in(&unwanted.secret), Some(&subject_of(USER)));
    let status = unwanted.object.status.unwrap();
    assert_eq!((unwanted.memory.unsaved, status.unaccounted_certificates.map(|found| found.count)), (None, Some(1)));
}

#[test]
fn why_a_certificate_waits_for_the_user_is_told() {
    let mut world = unsaved_of_other_user().with(|world| world.issuer = not_ready());
    world.run();
    let conditions = world.object.status.unwrap().conditions;
    let issuing = condition(&conditions, ISSUING).unwrap();
    assert_eq!(issuing.reason, "AtlasObjectNotReady");
    assert_eq!(
        issuing.message,
        "the AtlasDatabaseUser orders is not Ready yet; until it is known which user is wanted, certificate 02 for CN=billing is kept in memory, and the one in the Secret stays"
    );
    assert_eq!(condition(&conditions, READY).unwrap().status, "True");
    assert_eq!(condition(&conditions, RENEWAL_FAILED).unwrap().status, "True");
}

#[test]
fn a_damaged_secret_is_put_right_meanwhile() {
    let mut world = unsaved_of_other_user().with(spoil_certificate_of_secret).with(|world| world.issuer = not_ready());
    let rows = steps(&world.run(), &world).join(" > ");
    assert_eq!(
        rows,
        "observe > read Secret > read object > write repaired without the issuer > report [Ready, AtlasObjectNotReady] > sleep 3600 s (claim in status, certificate in memory)"
    );
    assert_both_stay(&world);
}

#[rstest]
#[case::without_a_secret(delete_secret)]
#[case::beside_a_pair_that_is_lost(spoil_all_of_secret)]
#[case::beside_one_that_has_expired(|world: &mut World| world.now += TWO_MONTHS + HALF_AN_HOUR + TWO_MONTHS)]
fn where_the_secret_has_no_certificate_of_use_the_one_in_memory_is_written(#[case] change: fn(&mut World)) {
    let mut world = unsaved_of_other_user().with(change).with(|world| world.issuer = not_ready());
    world.run();
    assert_eq!(subject_in(&world.secret), Some(&subject_of(OTHER_USER)));
}

/// It cannot wait, and was asked for the one in memory last.
#[rstest]
#[case::not_looked_at(IssuerState::Unknown)]
#[case::missing(IssuerState::Missing)]
#[case::not_ready(not_ready())]
fn a_process_that_stops_saves_what_was_asked_for_last(#[case] issuer: IssuerState) {
    let mut world = unsaved_of_other_user().with(|world| world.issuer = issuer).with(stopping);
    world.meet("write unsaved", &Fault::Answer(RequestErrorKind::Failed));
    assert_both_stay(&world);
    world.run();
    assert_eq!(subject_in(&world.secret), Some(&subject_of(OTHER_USER)));
    assert_eq!((world.memory.unsaved.as_ref(), world.kept_key()), (None, false));
}

/// It was cut off, and the one that leads has made a certificate since, for the user that was named again.
#[test]
fn a_process_that_stops_overwrites_nothing_that_was_asked_for_later() {
    let mut world = unsaved_of_other_user();
    world.object.status.as_mut().unwrap().issuance = None;
    let (later, memory, kept) = (world.now + HALF_AN_HOUR, world.memory.clone(), world.kept_key());
    world.edit_secret(|view| {
        let certificate = view.certificate.as_mut().unwrap();
        (certificate.serial_number, certificate.not_before) = ("03".into(), later);
    });
    world.now = later + HALF_AN_HOUR;
    let mut cut_off = world.with(|world| world.issuer = not_ready());
    cut_off.run();
    assert_eq!((&cut_off.memory.unsaved, cut_off.kept_key()), (&memory.unsaved, kept), "as long as it goes on, both stay");
    let mut stops = cut_off.with(stopping);
    stops.run();
    assert_eq!(stops.secret.certificate().unwrap().serial_number.as_str(), "03");
    assert_eq!(stops.memory.unsaved, None);
}

/// The spec names a third user by now, and another leader has saved a certificate for the former one since.
#[rstest]
#[case::newer(HALF_AN_HOUR, "03")]
#[case::older(-HALF_AN_HOUR, "02")]
fn of_two_certificates_for_a_user_that_is_not_wanted_any_more_the_newer_stays(
    #[case] later: SignedDuration,
    #[case] expected: &str,
) {
    let mut world = unsaved_of_other_user().with(stopping);
    world.object.status.as_mut().unwrap().issuance = None;
    let not_before = world.memory.unsaved.as_ref().unwrap().certificate.not_before + later;
    world.edit_secret(|view| {
        let certificate = view.certificate.as_mut().unwrap();
        (certificate.serial_number, certificate.subject) = ("03".into(), subject_of(OTHER_USER));
        certificate.not_before = not_before;
    });
    let mut world = world.after(HALF_AN_HOUR).with(refer_to_user);
    world.run();
    assert_eq!(world.secret.certificate().unwrap().serial_number.as_str(), expected);
}
