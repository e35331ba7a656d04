//! Suspended objects, and the deletion policy: in which order a pass sees to them, and what faults leave.

use rstest::rstest;

use super::{situations::*, world::IssuerType, *};
use crate::api::DeletionPolicy;

fn row(world: &mut World) -> String {
    let moves = world.run();
    steps(&moves, world).join(" > ")
}

#[rstest]
#[case::before_the_first_certificate(
    World::new(Atlas),
    "observe > report [not Ready for NoCertificate, Suspended] > sleep 3600 s"
)]
#[case::before_the_first_of_a_ca(World::new(Ca), "observe > report [not Ready for NoCertificate, Suspended] > sleep 3600 s")]
#[case::in_order(World::settled(Atlas), "observe > report [Ready, Suspended] > sleep 3600 s")]
#[case::due_for_renewal(World::settled(Atlas).after(TWO_MONTHS), "observe > report [Ready, Suspended] > sleep 3600 s")]
#[case::renewal_asked_for(World::settled(Ca).with(ask_for_renewal), "observe > report [Ready, Suspended] > sleep 3600 s")]
#[case::spoilt(
    World::settled(Ca).with(spoil_certificate_of_secret),
    "observe > report [not Ready for PairUnusable, Suspended] > sleep 3600 s"
)]
#[case::secret_deleted(
    World::settled(Ca).with(delete_secret),
    "observe > report [not Ready for NoCertificate, Suspended] > sleep 3600 s"
)]
#[case::certificate_in_memory(
    unsaved().after(HALF_AN_HOUR),
    "observe > read object > write unsaved > report [Ready, Suspended] > sleep 3600 s"
)]
#[case::certificate_in_memory_and_a_wait(
    unsaved(),
    "observe > report [not Ready, SecretNotWritable] > sleep 3 s (claim in status, certificate in memory)"
)]
#[case::claim_without_its_certificate(
    claimed(),
    "observe > (forget claimed user) > report [not Ready for NoCertificate, Suspended] > sleep 309 s"
)]
#[case::another_policy(
    World::settled(Ca).with(retain),
    "observe > read object > write deletion policy > report [Ready, Suspended] > sleep 3600 s"
)]
#[case::retained_secret(
    World::new(Ca).with(World::find_retained_secret),
    "observe > read object > write adopted > report [Ready, Suspended] > sleep 3600 s"
)]
fn a_suspended_object_begins_nothing_and_finishes_what_was_begun(#[case] world: World, #[case] expected: &str) {
    let mut world = world.with(suspend);
    assert_eq!(row(&mut world), expected);
    assert!(!expected.ends_with("sleep 3600 s") || row(&mut world) == "observe > report nothing new > sleep 3600 s");
}

#[rstest]
#[case::in_order(World::settled(Ca), "observe > report [Ready, Issued] > sleep 3600 s")]
#[case::due_for_renewal(
    World::settled(Ca).after(TWO_MONTHS),
    "observe > request certificate (RenewalDue) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::renewal_asked_for(
    World::settled(Ca).with(ask_for_renewal),
    "observe > request certificate (RenewalRequested) > read object > write signed > report [Ready, Issued] > sleep 3600 s"
)]
#[case::spoilt(
    World::settled(Ca).with(spoil_certificate_of_secret),
    "observe > read Secret > read object > write repaired > report [Ready, Issued] > sleep 3600 s"
)]
fn when_a_suspension_ends_all_that_is_due_is_done_at_once(#[case] world: World, #[case] expected: &str) {
    let mut world = world.with(suspend).with(|world| drop(world.run())).with(resume);
    assert_eq!(row(&mut world), expected);
}

/// The answer is on its way while somebody suspends the object.
#[test]
fn what_was_minted_for_an_object_that_was_suspended_meanwhile_is_saved() {
    let mut world = World::new(Atlas);
    let moves = world.run_with(|_, step| matches!(step, Step::ReadObject).then_some(Fault::ObjectChanged));
    let left = steps(&moves, &world).join(" > ");
    assert!(left.ends_with("read object > end: the object has changed (claim in status, certificate in memory)"), "{left}");
    let mut world = world.with(suspend);
    assert_eq!(row(&mut world), "observe > read object > write unsaved > report [Ready, Suspended] > sleep 3600 s");
}

#[test]
fn nothing_is_minted_for_an_object_that_is_suspended_before_the_claim() {
    let mut world = World::new(Atlas);
    let rows = world.after_fault("write claim", &Fault::ObjectChanged);
    assert_eq!(rows, "end: the object has changed");
    assert_eq!(row(&mut world.with(suspend)), "observe > report [not Ready for NoCertificate, Suspended] > sleep 3600 s");
}

#[rstest]
#[case::in_order(World::settled(Ca), "report [Ready, Issued] > sleep 3600 s")]
#[case::due_for_renewal(World::settled(Ca).after(TWO_MONTHS), "report [Ready, RenewalDue] > sleep 30 s")]
#[case::without_issuer(
    World::settled(Ca).with(|world| world.issuer = crate::decide::IssuerState::Missing),
    "report [Ready, IssuerNotFound] > sleep 3600 s"
)]
fn a_policy_is_written_without_reading_the_secret_and_without_a_certificate(#[case] world: World, #[case] reported: &str) {
    let mut world = world.with(retain);
    let before = world.secret.certificate().cloned();
    assert_eq!(row(&mut world), format!("observe > read object > write deletion policy > {reported}"));
    assert_eq!(world.secret.certificate(), before.as_ref());
    assert_eq!(world.secret.ours().unwrap().deletion_policy, Some(DeletionPolicy::Retain));
}

#[rstest]
#[case::signed(World::new(Ca), "write signed")]
#[case::minted(unsaved().after(HALF_AN_HOUR), "write unsaved")]
fn a_new_secret_follows_the_policy_at_once(#[case] world: World, #[case] write: &str) {
    let mut world = world.with(retain);
    assert!(row(&mut world).contains(write));
    assert_eq!(world.secret.ours().unwrap().deletion_policy, Some(DeletionPolicy::Retain));
}

/// A certificate was minted for a Secret that is there, and could not be written. The policy was changed meanwhile.
#[test]
fn a_certificate_in_memory_is_written_first_and_the_policy_soon_after() {
    let refused = Fault::Answer(RequestErrorKind::Refused);
    let mut world = World::settled(Atlas).after(TWO_MONTHS).with(|world| world.meet("write unsaved", &refused));
    world = world.with(retain).after(HALF_AN_HOUR);
    assert_eq!(row(&mut world), "observe > read object > write unsaved > report [Ready, DeletionPolicyApplied] > sleep 30 s");
    assert_eq!(world.secret.ours().unwrap().deletion_policy, Some(DeletionPolicy::Delete));
    assert!(row(&mut world).starts_with("observe > read object > write deletion policy > report"));
}

/// As `OwnerReferencesPermissionEnforcement` and admission policies refuse it. The same for an issuer that signs and one that mints.
#[rstest]
#[case::signed(Ca, "write signed")]
#[case::minted(Atlas, "write unsaved")]
fn where_owners_may_not_be_changed_certificates_are_renewed_all_the_same(#[case] issuer: IssuerType, #[case] write: &str) {
    let mut world = World::settled(issuer).with(retain);
    world.may_change_owners = false;
    assert!(row(&mut world).contains("write deletion policy > report [Ready, SecretNotWritable]"));
    let before = world.secret.certificate().cloned();
    let mut world = world.after(TWO_MONTHS);
    let rows = [row(&mut world), row(&mut world)].join(" > ");
    assert!(rows.contains(&format!("{write} > report [Ready, ")), "{rows}");
    assert_ne!(world.secret.certificate(), before.as_ref());
    assert_eq!((world.memory.unsaved, world.secret.ours().unwrap().deletion_policy), (None, Some(DeletionPolicy::Delete)));
}

#[rstest]
#[case::deletion_policy(World::settled(Atlas).with(retain), "write deletion policy", "report [Ready, SecretNotWritable] > sleep 3 s")]
#[case::adoption(
    World::new(Atlas).with(World::find_retained_secret),
    "write adopted",
    "report [not Ready, SecretNotWritable] > sleep 3 s"
)]
fn a_refused_change_of_the_controller_is_told_and_tried_less_and_less_often(
    #[case] mut world: World,
    #[case] write: &str,
    #[case] reported: &str,
) {
    let refused = Fault::Answer(RequestErrorKind::Refused);
    assert_eq!(world.after_fault(write, &refused), reported);
    assert_eq!(row(&mut world), "observe > report nothing new > sleep 3 s", "its wait is not over");
    world.now += SignedDuration::from_secs(2);
    assert!(world.after_fault(write, &refused).ends_with("sleep 5 s"), "the waits grow");
    world.now += SignedDuration::from_secs(4);
    assert!(row(&mut world).contains(&format!("{write} > report [Ready, ")));
    assert_eq!(world.memory.owner_failure, None);
    row(&mut world);
    assert_eq!(world.memory.failures, 0);
}

/// A claim is evidence of a certificate that may have been made.
#[rstest]
#[case::deletion_policy(World::settled(Atlas).with(retain), "write deletion policy")]
#[case::adoption(World::settled(Atlas).with(World::find_retained_secret), "write adopted")]
fn a_refused_change_of_the_controller_leaves_a_claim_and_a_wait_as_they_are(#[case] mut world: World, #[case] write: &str) {
    world.object.status = claimed().object.status;
    world.object.status.as_mut().unwrap().issuance.as_mut().unwrap().id = "of another certificate".to_owned();
    world.meet(write, &Fault::Answer(RequestErrorKind::Refused));
    let status = world.object.status.as_ref().unwrap();
    assert!(status.issuance.is_some() && status.unaccounted_certificates.is_none(), "{status:?}");
    world.after_all_waits();
    let status = world.object.status.as_ref().unwrap();
    assert_eq!(status.unaccounted_certificates.as_ref().map(|found| found.count), Some(1));
}

impl World {
    /// Passes without faults until nothing is left of what an earlier one could not do.
    fn after_all_waits(&mut self) {
        for _ in 0..5 {
            self.now += HALF_AN_HOUR;
            self.run();
        }
    }
}

/// The key of the certificate is known to this process alone.
#[test]
fn a_process_that_stops_keeps_its_certificate_while_a_retained_secret_cannot_be_taken_up() {
    let mut world = unsaved().with(World::find_retained_secret);
    world.leads = true;
    world.meet("write adopted", &Fault::Answer(RequestErrorKind::Refused));
    let mut world = world.with(stopping);
    let rows = row(&mut world);
    assert!(rows.contains("certificate in memory"), "{rows}");
}
