//! A certificate whose key is known to others: it is renewed at once, and stays until then.

use super::*;
use crate::api::{RENEWAL_FAILED, names::COMPROMISED_ANNOTATION};

fn naming(serial_numbers: &str) -> DatabaseUserCertificate {
    let mut object = object();
    object.metadata.annotations = Some([(COMPROMISED_ANNOTATION.to_owned(), serial_numbers.to_owned())].into());
    object
}

fn issued(serial_number: &str, minute: i64) -> IssuedCertificate {
    IssuedCertificate {
        serial_number: serial_number.to_owned(),
        reason: "NoCertificate".to_owned(),
        issuer: None,
        recorded_at: Time(at(DAY + 60 * minute)),
        not_after: Time(at(90 * DAY)),
    }
}

/// Status, reason and message of each of these conditions.
fn told(object: &DatabaseUserCertificate, observed: &Observed) -> [(String, String, String); 2] {
    let decision = decide(object, observed, at(DAY));
    let status = next_status(object, observed, &decision, at(DAY));
    [READY, ISSUING].map(|type_| {
        let found = condition(&status.conditions, type_).unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    })
}

#[rstest]
#[case::as_the_status_has_it("0A", true)]
#[case::among_others("0B, a", true)]
#[case::another("0B", false)]
#[case::none("", false)]
fn what_is_compromised_is_issued_anew_and_nothing_else(#[case] named: &str, #[case] is_issued: bool) {
    let decision = decide(&naming(named), &observed(), at(DAY));
    assert_eq!(cause(&decision), is_issued.then_some(Reason::Compromised), "{decision:?}");
    let renewed = with_view(|view| view.certificate = Ok(CertificateFacts { serial_number: "0C".into(), ..certificate() }));
    assert!(matches!(decide(&naming(named), &renewed, at(DAY)), Decision::Keep { .. }), "once");
}

#[test]
fn causes_that_say_more_come_first() {
    let other_key = with_view(|view| {
        let private_key = PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: 2048 };
        view.certificate = Ok(CertificateFacts { private_key, ..certificate() });
    });
    assert_eq!(cause(&decide(&naming("0A"), &other_key, at(DAY))), Some(Reason::Compromised));
    let other_issuer = with_view(|view| view.issuer = Some("ca/2".into()));
    assert_eq!(cause(&decide(&naming("0A"), &other_issuer, at(DAY))), Some(Reason::IssuerChanged));
}

#[test]
fn the_compromised_certificate_stays_ready_and_that_it_is_compromised_is_said() {
    let [ready, issuing] = told(&naming("0A"), &observed());
    assert_eq!((ready.0.as_str(), ready.1.as_str()), ("True", "Compromised"));
    assert!(
        ready.2.contains("certificate 0A for CN=orders is valid until") && ready.2.contains("known to others"),
        "{ready:?}"
    );
    assert_eq!((issuing.0.as_str(), issuing.1.as_str()), ("True", "Compromised"));
}

#[test]
fn a_renewal_that_cannot_be_had_is_a_failed_one() {
    let observed = Observed { issuer: IssuerState::Missing, ..observed() };
    let decision = decide(&naming("0A"), &observed, at(DAY));
    let status = next_status(&naming("0A"), &observed, &decision, at(DAY));
    let reasons = [READY, ISSUING, RENEWAL_FAILED].map(|type_| condition(&status.conditions, type_).unwrap().reason.clone());
    assert_eq!(reasons, ["Compromised", "IssuerNotFound", "IssuerNotFound"]);
}

#[test]
fn a_suspended_object_keeps_a_compromised_certificate_and_says_so() {
    let mut object = naming("0A");
    object.spec.suspend = true;
    assert_eq!(decide(&object, &observed(), at(DAY)), Decision::Suspend);
    let [ready, issuing] = told(&object, &observed());
    assert_eq!((ready.1.as_str(), issuing.1.as_str()), ("Compromised", "Suspended"));
    assert!(issuing.2.ends_with("certificate 0A is compromised, and is renewed when spec.suspend is false"), "{}", issuing.2);
}

#[test]
fn what_is_no_serial_number_is_told_and_takes_nothing_from_the_others() {
    let [ready, issuing] = told(&naming("all of them"), &observed());
    assert_eq!((ready.1.as_str(), issuing.1.as_str()), ("Issued", "InvalidAnnotation"));
    assert!(issuing.2.contains(r#"and "all of them" is none"#), "{}", issuing.2);
    assert_eq!(cause(&decide(&naming("all of them,0A"), &observed(), at(DAY))), Some(Reason::Compromised));
    let suspended = {
        let mut object = naming("all of them,0A");
        object.spec.suspend = true;
        told(&object, &observed())
    };
    assert_eq!(suspended[1].1, "Suspended");
    assert!(
        suspended[1].2.contains("all of them") && suspended[1].2.contains("is renewed when spec.suspend is false"),
        "{}",
        suspended[1].2
    );
}

#[test]
fn a_serial_number_that_nobody_knows_is_told() {
    let mut observed = observed();
    observed.status.history = vec![issued("0A", 0), issued("09", 0)];
    let [_, issuing] = told(&naming("09,0F"), &observed);
    assert_eq!(issuing.1, "Issued");
    assert!(issuing.2.ends_with("names 0F, which is none of the certificates in status.history"), "{}", issuing.2);
    let [_, issuing] = told(&naming("09"), &observed);
    assert!(!issuing.2.contains("compromised"), "{}", issuing.2);
}

#[test]
fn limits_do_not_hold_a_first_renewal_up_and_do_hold_up_one_that_somebody_undoes() {
    let mut observed = observed();
    observed.status.history = ["0A", "09", "08", "07", "06"].iter().map(|serial_number| issued(serial_number, 0)).collect();
    assert_eq!(cause(&decide(&naming("0A"), &observed, at(DAY + 1))), Some(Reason::Compromised));
    observed.status.history[3].reason = "Compromised".to_owned();
    assert_eq!(reason(&decide(&naming("0A"), &observed, at(DAY + 1))), Some(Reason::TooManyIssues), "it was put back");
    observed.status.history.truncate(4);
    assert_eq!(cause(&decide(&naming("0A"), &observed, at(DAY + 1))), Some(Reason::Compromised), "within the limits");
}

#[test]
fn a_wait_after_a_failure_ends_when_a_certificate_turns_out_to_be_compromised() {
    let mut observed = observed();
    observed.status.failure = failed(Minted::No, Reason::SigningFailed).status.failure;
    let due = certificate().not_after - SignedDuration::from_hours(24);
    let failure = observed.status.failure.as_mut().unwrap();
    (failure.last_time, failure.next_attempt) = (Time(due), Time(due + SignedDuration::from_hours(1)));
    assert_eq!(reason(&decide(&object(), &observed, due)), Some(Reason::SigningFailed));
    assert_eq!(cause(&decide(&naming("0A"), &observed, due)), Some(Reason::Compromised));
}

/// The Secret of a certificate that was renewed: the one before stands beside it, and in the keystore.
fn renewed(change: impl FnOnce(&mut SecretView)) -> Observed {
    let mut observed = with_view(|view| {
        (view.previous_not_after, view.previous_serial_number) = (Some(at(90 * DAY)), Some("09".into()));
        change(view);
    });
    observed.status.history = vec![issued("0A", 1), issued("09", 0)];
    observed
}

#[rstest]
#[case::of_the_former_pair("09", true)]
#[case::of_neither("08", false)]
fn a_former_pair_that_is_compromised_goes_without_a_new_certificate(#[case] named: &str, #[case] goes: bool) {
    let in_keystore = |view: &mut SecretView| {
        (view.previous_not_after, view.previous_serial_number) = (None, None);
        view.keystore = KeystoreView { serial_number: Some("09".into()), fault: Some("x".into()), ..KeystoreView::default() };
    };
    for observed in [renewed(|_| ()), renewed(in_keystore)] {
        assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Keep { .. }));
        let decision = decide(&naming(named), &observed, at(DAY));
        assert_eq!(matches!(decision, Decision::Repair { renewal_time: Some(_) }), goes, "{decision:?}");
        let mut suspended = naming(named);
        suspended.spec.suspend = true;
        assert_eq!(decide(&suspended, &observed, at(DAY)), Decision::Suspend);
        let [_, (_, _, message)] = told(&suspended, &observed);
        let said =
            format!("the former certificate {named} is compromised, and stays in the Secret until spec.suspend is false");
        assert_eq!(message.contains(&said), goes, "{message}");
    }
}

#[test]
fn the_object_wakes_when_the_pair_in_its_keystore_expires() {
    let mut observed = renewed(|view| {
        (view.previous_not_after, view.previous_serial_number) = (None, None);
        view.keystore.serial_number = Some("09".into());
    });
    observed.status.history[1].not_after = Time(at(2 * DAY));
    let decision = decide(&object(), &observed, at(DAY));
    assert_eq!(next_look(&observed, &decision, at(DAY)), Some(at(2 * DAY)));
    assert!(matches!(decide(&object(), &observed, at(2 * DAY)), Decision::Repair { .. }));
}
