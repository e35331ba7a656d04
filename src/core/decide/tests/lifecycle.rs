//! Suspended objects, and what becomes of a Secret when its object is deleted.

use super::*;
use crate::api::{RENEWAL_FAILED, STALLED};

#[test]
fn after_the_loss_of_the_status_a_certificate_is_as_old_as_its_secret() {
    let recorded_at = |observed: &Observed| {
        let decision = decide(&object(), observed, at(0));
        next_status(&object(), observed, &decision, at(0)).history[0].recorded_at.0
    };
    let written = |seconds: i64| with_view(|view| view.written = Some(at(seconds)));
    assert_eq!(recorded_at(&written(-DAY)), at(-DAY));
    assert_eq!(recorded_at(&observed()), at(0), "nobody knows");
    assert_eq!(recorded_at(&written(-60)), at(0), "it is new, and the clock of the API server may be behind");
    assert_eq!(recorded_at(&written(DAY)), at(0), "or ahead");
    let mut renewed = written(-DAY);
    renewed.status.history = next_status(&object(), &written(-DAY), &decide(&object(), &written(-DAY), at(0)), at(0)).history;
    renewed.status.history[0].serial_number = "0F0F".to_owned();
    assert_eq!(recorded_at(&renewed), at(0), "the status was not lost");
}

fn suspended() -> DatabaseUserCertificate {
    let mut object = object();
    object.spec.suspend = true;
    object
}

fn retaining() -> DatabaseUserCertificate {
    let mut object = object();
    object.spec.deletion_policy = DeletionPolicy::Retain;
    object
}

fn absent() -> Observed {
    Observed { secret: SecretState::Absent, ..observed() }
}

fn due() -> Observed {
    with_view(|view| view.certificate.as_mut().unwrap().not_after = at(31 * DAY))
}

fn spoilt() -> Observed {
    with_view(|view| (view.complete, view.spoilt) = (false, Some("there is no private key".into())))
}

fn emptied() -> Observed {
    with_view(|view| view.certificate = Err("there is no certificate".into()))
}

/// The rows of "Why a Secret is not written" that a suspension goes before.
#[rstest]
#[case::no_certificate(absent())]
#[case::at_atlas(Observed { issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))), ..absent() })]
#[case::due_for_renewal(due())]
#[case::expired(with_view(|view| view.certificate.as_mut().unwrap().not_after = at(1)))]
#[case::spoilt(spoilt())]
#[case::emptied(emptied())]
#[case::another_subject(with_view(|view| view.certificate.as_mut().unwrap().subject = Subject::for_user("other").unwrap()))]
#[case::another_chain(with_issuer(|issuer| ca_of(issuer).chain_digest = "new".into()))]
#[case::no_issuer(Observed { issuer: IssuerState::Missing, ..absent() })]
#[case::unusable_issuer(Observed { issuer: IssuerState::Unusable(Reason::CaInvalid, String::new()), ..spoilt() })]
#[case::in_order(observed())]
fn while_an_object_is_suspended_nothing_is_begun(#[case] observed: Observed) {
    assert_eq!(decide(&suspended(), &observed, at(30 * DAY)), Decision::Suspend);
    assert_ne!(decide(&object(), &observed, at(30 * DAY)), Decision::Suspend, "and all that is due is done when it ends");
}

#[test]
fn what_was_begun_before_a_suspension_is_finished() {
    let unsaved = Observed { memory: in_memory(certificate()), ..absent() };
    assert_eq!(decide(&suspended(), &unsaved, at(DAY)), Decision::Save);
    let mut claimed = absent();
    claimed.status.issuance =
        Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 1, since: Time(at(0)), user: None, process: None });
    assert_eq!(decide(&suspended(), &claimed, at(DAY)), Decision::CountLostClaim);
}

#[test]
fn of_a_suspended_object_the_ownership_of_the_secret_is_kept_in_order_all_the_same() {
    let mut object = retaining();
    object.spec.suspend = true;
    assert_eq!(decide(&object, &observed(), at(DAY)), Decision::ApplyDeletionPolicy);
    assert_eq!(decide(&object, &left_behind(), at(DAY)), Decision::Adopt);
}

#[test]
fn an_object_that_cannot_be_read_is_not_repaired_while_it_is_suspended() {
    let unreadable = Observed { unreadable: Some("the status cannot be read".into()), ..spoilt() };
    assert_eq!(reason(&decide(&suspended(), &unreadable, at(DAY))), Some(Reason::ObjectUnreadable));
    assert!(matches!(decide(&object(), &unreadable, at(DAY)), Decision::Repair { .. }));
}

/// Ready, and which of the conditions that are present only while they are True.
fn said(observed: &Observed, now: Timestamp) -> (String, bool, bool) {
    let decision = decide(&suspended(), observed, now);
    let status = next_status(&suspended(), observed, &decision, now);
    let ready = condition(&status.conditions, READY).unwrap();
    let issuing = condition(&status.conditions, ISSUING).unwrap();
    assert_eq!((issuing.status.as_str(), issuing.reason.as_str()), ("False", "Suspended"));
    assert_eq!(status.renewal_time, None, "it is not renewed");
    let is_there = |type_: &str| condition(&status.conditions, type_).is_some();
    (format!("{} {}", ready.status, ready.reason), is_there(STALLED), is_there(RENEWAL_FAILED))
}

#[rstest]
#[case::works(observed(), "True Issued", false)]
#[case::due(due(), "True Issued", false)]
#[case::expired(with_view(|view| view.certificate.as_mut().unwrap().not_after = at(1)), "False Expired", true)]
#[case::spoilt(spoilt(), "False PairUnusable", true)]
#[case::above_it_expired(with_view(|view| view.chain.not_after = Some(at(1))), "False ChainBroken", true)]
#[case::none(absent(), "False NoCertificate", true)]
fn ready_tells_the_truth_about_a_suspended_certificate_and_no_renewal_fails(
    #[case] mut observed: Observed,
    #[case] ready: &str,
    #[case] is_stalled: bool,
) {
    observed.status.renewal_time = Some(Time(at(20 * DAY)));
    assert_eq!(said(&observed, at(30 * DAY)), (ready.to_owned(), is_stalled, false));
}

#[test]
fn a_suspended_object_is_looked_at_again_when_its_certificate_expires() {
    let decision = decide(&suspended(), &due(), at(30 * DAY));
    assert_eq!(next_look(&due(), &decision, at(30 * DAY)), Some(at(31 * DAY)));
}

#[test]
fn a_renewal_that_was_asked_for_meanwhile_is_carried_out_afterwards() {
    let mut object = suspended();
    object.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "now".to_owned())].into());
    let decision = decide(&object, &observed(), at(DAY));
    assert_eq!(decision, Decision::Suspend);
    let status = next_status(&object, &observed(), &decision, at(DAY));
    assert_eq!(status.renew_request_handled, None);
    object.spec.suspend = false;
    assert_eq!(cause(&decide(&object, &Observed { status, ..observed() }, at(DAY))), Some(Reason::RenewalRequested));
}

fn left_behind() -> Observed {
    let found = AbandonedSecret {
        uid: "secret-uid".into(),
        resource_version: "7".into(),
        owners: Vec::new(),
        whose: "is retained for the DatabaseUserCertificate orders".into(),
        is_retained: true,
        fault: None,
    };
    Observed { secret: SecretState::Abandoned(Box::new(found)), ..observed() }
}

#[test]
fn a_retained_secret_is_taken_up_without_being_asked_for_if_its_content_may_be() {
    for object in [object(), retaining()] {
        assert_eq!(decide(&object, &left_behind(), at(DAY)), Decision::Adopt);
        let mut faulty = left_behind();
        let SecretState::Abandoned(found) = &mut faulty.secret else { panic!() };
        found.fault = Some("it has the key \"password\", which this operator does not write".into());
        assert_eq!(reason(&decide(&object, &faulty, at(DAY))), Some(Reason::SecretNotOwned));
    }
}

#[rstest]
#[case::retain(retaining(), Some(DeletionPolicy::Delete))]
#[case::delete(object(), Some(DeletionPolicy::Retain))]
#[case::neither_in_full(object(), None)]
fn a_policy_is_carried_out_before_all_that_may_take_long(
    #[case] object: DatabaseUserCertificate,
    #[case] applied: Option<DeletionPolicy>,
) {
    let with = |observed: Observed| {
        let SecretState::Ours(mut view) = observed.secret else { panic!() };
        view.deletion_policy = applied;
        Observed { secret: SecretState::Ours(view), ..observed }
    };
    let mut claimed = observed();
    claimed.status.issuance =
        Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 1, since: Time(at(0)), user: None, process: None });
    for observed in [observed(), due(), spoilt(), emptied(), claimed, Observed { issuer: IssuerState::Unknown, ..observed() }] {
        assert_eq!(decide(&object, &with(observed), at(30 * DAY)), Decision::ApplyDeletionPolicy);
    }
    let unsaved = Observed { memory: in_memory(certificate()), ..emptied() };
    assert_eq!(decide(&object, &with(unsaved), at(DAY)), Decision::Save, "the key is in memory alone");
}

#[test]
fn a_policy_that_cannot_be_carried_out_is_told_and_holds_nothing_up() {
    let failure = SaveFailure { until: at(30 * DAY + 60), reason: Reason::SecretNotWritable, message: "denied".into() };
    let held = |mut observed: Observed| {
        observed.memory.owner_failure = Some(failure.clone());
        observed
    };
    let now = at(30 * DAY);
    let decision = decide(&retaining(), &held(observed()), now);
    assert_eq!(reason(&decision), Some(Reason::SecretNotWritable));
    let status = next_status(&retaining(), &held(observed()), &decision, now);
    let issuing = condition(&status.conditions, ISSUING).unwrap();
    assert!(issuing.message.starts_with("the Secret's controller could not be changed: denied"), "{}", issuing.message);
    assert_eq!(condition(&status.conditions, READY).unwrap().status, "True");
    assert_eq!(condition(&status.conditions, RENEWAL_FAILED), None, "no renewal is due");
    assert_eq!(cause(&decide(&retaining(), &held(due()), now)), Some(Reason::RenewalDue));
    let mut suspended = retaining();
    suspended.spec.suspend = true;
    assert_eq!(reason(&decide(&suspended, &held(observed()), now)), Some(Reason::SecretNotWritable));
    assert_eq!(decide(&retaining(), &held(observed()), at(30 * DAY + 60)), Decision::ApplyDeletionPolicy);
    assert_eq!(reason(&decide(&retaining(), &held(left_behind()), now)), Some(Reason::SecretNotWritable));
}

#[test]
fn a_controller_that_something_puts_back_again_and_again_is_left_alone_for_a_while() {
    let mut contested = observed();
    contested.memory.repairs = vec![at(30 * DAY); 5];
    assert_eq!(reason(&decide(&retaining(), &contested, at(30 * DAY))), Some(Reason::SecretContested));
    contested.secret = left_behind().secret;
    assert_eq!(reason(&decide(&retaining(), &contested, at(30 * DAY))), Some(Reason::SecretContested));
}

#[test]
fn the_status_remembers_the_secret_that_is_retained_while_it_is_there() {
    let uid = |object: &DatabaseUserCertificate, secret: SecretState, before: Option<&str>| {
        let mut observed = Observed { secret, ..observed() };
        observed.status.retained_secret_uid = before.map(ToOwned::to_owned);
        next_status(object, &observed, &decide(object, &observed, at(DAY)), at(DAY)).retained_secret_uid
    };
    let known = Some("secret-uid".to_owned());
    assert_eq!(uid(&retaining(), observed().secret, None), known);
    assert_eq!(uid(&retaining(), emptied().secret, None), known, "whatever it holds");
    assert_eq!(uid(&retaining(), left_behind().secret, Some("secret-uid")), known, "though it lost a mark");
    assert_eq!(uid(&retaining(), left_behind().secret, None), None);
    for gone in [SecretState::Absent, SecretState::NotOurs("belongs to a Pod".into())] {
        assert_eq!(uid(&retaining(), gone, Some("secret-uid")), None);
    }
    assert_eq!(uid(&object(), observed().secret, Some("secret-uid")), None, "a controller needs no such evidence");
}

/// What stands there is not known for certain.
#[test]
fn the_policy_of_an_object_that_cannot_be_read_is_not_carried_out() {
    let unreadable = Observed { unreadable: Some("the object cannot be read".into()), ..observed() };
    assert_eq!(reason(&decide(&retaining(), &unreadable, at(DAY))), Some(Reason::ObjectUnreadable));
}

/// A finalizer of somebody holds it.
fn going() -> DatabaseUserCertificate {
    let mut object = object();
    object.metadata.deletion_timestamp = Some(Time(at(0)));
    object.metadata.finalizers = Some(vec!["test/wait".to_owned()]);
    object
}

fn held_secret() -> Observed {
    with_view(|view| view.held_by = Some("test/wait".to_owned()))
}

#[rstest]
#[case::with_nothing(Observed { secret: SecretState::Absent, ..observed() })]
#[case::in_order(observed())]
#[case::due(observed())]
#[case::with_a_certificate_in_memory(Observed { memory: in_memory(certificate()), secret: SecretState::Absent, ..observed() })]
#[case::damaged(with_view(|view| (view.complete, view.spoilt) = (false, Some("no certificate".to_owned()))))]
#[case::with_another_policy(with_view(|view| view.deletion_policy = Some(DeletionPolicy::Retain)))]
#[case::of_another(Observed { secret: SecretState::NotOurs("belongs to a Pod".to_owned()), ..observed() })]
fn for_an_object_that_is_being_deleted_nothing_is_done(#[case] observed: Observed) {
    for time in [at(60), at(80 * DAY)] {
        let decision = decide(&going(), &observed, time);
        let Decision::Block { reason: Reason::ObjectBeingDeleted, message } = decision else { panic!("{decision:?}") };
        assert!(message.contains("test/wait"), "{message}");
    }
}

/// What its deletion tells at its end depends on what the status says it had.
#[test]
fn the_status_of_an_object_that_is_being_deleted_tells_that_its_secret_went() {
    let mut observed = observed();
    observed.status = next_status(&object(), &observed, &decide(&object(), &observed, at(60)), at(60));
    assert_eq!(condition(&observed.status.conditions, READY).unwrap().status, "True");
    observed.secret = SecretState::Absent;
    let status = next_status(&going(), &observed, &decide(&going(), &observed, at(90)), at(90));
    let ready = condition(&status.conditions, READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NoCertificate"));
    assert_eq!(condition(&status.conditions, ISSUING).unwrap().reason, "ObjectBeingDeleted");
    assert_eq!((&status.serial_number, &status.verified), (&observed.status.serial_number, &observed.status.verified));
}

#[rstest]
#[case::in_order(held_secret(), object())]
#[case::with_a_certificate_in_memory(Observed { memory: in_memory(certificate()), ..held_secret() }, object())]
#[case::with_another_policy(held_secret(), DatabaseUserCertificate {
    spec: DatabaseUserCertificateSpec { deletion_policy: DeletionPolicy::Retain, ..object().spec }, ..object()
})]
#[case::damaged(with_view(|view| {
    (view.complete, view.spoilt, view.held_by) = (false, Some("no certificate".to_owned()), Some("test/wait".to_owned()));
}), object())]
fn nothing_is_written_into_a_secret_that_is_being_deleted(#[case] observed: Observed, #[case] object: DatabaseUserCertificate) {
    for time in [at(60), at(80 * DAY), at(100 * DAY)] {
        let decision = decide(&object, &observed, time);
        let Decision::Block { reason: Reason::SecretBeingDeleted, message } = decision else { panic!("{decision:?}") };
        assert!(message.contains("test/wait"), "{message}");
    }
    let gone = Observed { secret: SecretState::Absent, ..observed };
    assert!(matches!(decide(&object, &gone, at(60)), Decision::Issue { .. } | Decision::Save));
}

#[test]
fn a_claim_is_counted_while_its_secret_is_being_deleted() {
    let mut observed = held_secret();
    let claim =
        Issuance { id: "c1".into(), reason: "NoCertificate".into(), attempt: 1, since: Time(at(0)), user: None, process: None };
    observed.status.issuance = Some(claim);
    assert_eq!(decide(&object(), &observed, at(60)), Decision::CountLostClaim);
}
