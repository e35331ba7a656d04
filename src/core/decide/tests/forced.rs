//! Forced renewals: five an hour.

use super::*;
use crate::api::names::COMPROMISED_ANNOTATION;

/// An object whose renewal is asked for.
fn asked() -> DatabaseUserCertificate {
    let mut asked = object();
    asked.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "now".to_owned())].into());
    asked
}

/// So many renewals were forced a minute ago.
fn forced(count: usize, observed: Observed) -> Observed {
    let status = DatabaseUserCertificateStatus { forced_renewals: vec![Time(at(-60)); count], ..observed.status };
    Observed { status, ..observed }
}

fn issued_within_the_hour(count: usize) -> Vec<IssuedCertificate> {
    let issued = IssuedCertificate {
        serial_number: "1".into(),
        reason: "NoCertificate".into(),
        issuer: None,
        recorded_at: Time(at(-60)),
        not_after: Time(at(90 * DAY)),
    };
    vec![issued; count]
}

fn until(decision: &Decision) -> Option<Timestamp> {
    match decision {
        Decision::Wait { until, .. } => Some(*until),
        _ => None,
    }
}

fn message(decision: &Decision) -> &str {
    match decision {
        Decision::Wait { message, .. } | Decision::Block { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sixth_forced_renewal_within_an_hour_waits_until_the_first_is_an_hour_old() {
    assert_eq!(cause(&decide(&asked(), &forced(4, observed()), at(0))), Some(Reason::RenewalRequested));
    let braked = forced(5, observed());
    let decision = decide(&asked(), &braked, at(0));
    assert_eq!((reason(&decision), until(&decision)), (Some(Reason::TooManyForcedRenewals), Some(at(3540))));
    assert_eq!(Reason::TooManyForcedRenewals.severity(), crate::api::Severity::Warning, "an Event tells");
    assert_eq!(next_look(&braked, &decision, at(0)), Some(at(3540)));
    assert_eq!(cause(&decide(&asked(), &braked, at(3540))), Some(Reason::RenewalRequested), "it was not forgotten");
    assert!(matches!(decide(&object(), &braked, at(0)), Decision::Keep { .. }), "nobody asks");
}

#[test]
fn a_forced_renewal_that_waits_is_looked_at_when_the_certificate_is_due() {
    let short = |certificate: &mut CertificateFacts| (certificate.not_before, certificate.not_after) = (at(-1800), at(1800));
    let braked = forced(5, with_view(|view| view.certificate.iter_mut().for_each(short)));
    let decision = decide(&asked(), &braked, at(0));
    assert_eq!(reason(&decision), Some(Reason::TooManyForcedRenewals));
    let due = until(&decision).unwrap();
    assert!(due < at(1800), "before it expires: {due}");
    assert_eq!(next_look(&braked, &decision, at(0)), Some(due));
    assert_eq!(cause(&decide(&asked(), &braked, due)), Some(Reason::RenewalDue));
}

#[test]
fn a_forced_renewal_that_waits_holds_up_no_repair_of_the_chain() {
    let changed = forced(5, super::secret::with_chains("new", Some("old"), Some("old")));
    let unforced = decide(&object(), &changed, at(0));
    assert!(matches!(unforced, Decision::Repair { renewal_time: Some(_) }), "{unforced:?}");
    assert_eq!(decide(&asked(), &changed, at(0)), unforced);
}

#[test]
fn what_is_needed_in_any_case_does_not_wait_for_the_brake_of_forced_renewals() {
    let due = |change: fn(&mut CertificateFacts)| forced(5, with_view(|view| view.certificate.iter_mut().for_each(change)));
    let renewal_due = due(|certificate| (certificate.not_before, certificate.not_after) = (at(-80 * DAY), at(DAY)));
    assert_eq!(cause(&decide(&asked(), &renewal_due, at(0))), Some(Reason::RenewalDue));
    let expired = due(|certificate| certificate.not_after = at(-1));
    assert_eq!(cause(&decide(&asked(), &expired, at(0))), Some(Reason::Expired));
    let absent = forced(5, Observed { secret: SecretState::Absent, ..observed() });
    assert_eq!(cause(&decide(&asked(), &absent, at(0))), Some(Reason::NoCertificate));
}

#[test]
fn to_delete_the_secret_beside_each_request_passes_no_brake() {
    let mut absent = Observed { secret: SecretState::Absent, ..observed() };
    absent.status.history = issued_within_the_hour(5);
    assert_eq!(cause(&decide(&asked(), &absent, at(0))), Some(Reason::RenewalRequested), "it counts as forced");
    assert_eq!(reason(&decide(&asked(), &forced(5, absent), at(0))), Some(Reason::TooManyIssues));

    let facts = IssuerState::Usable(Box::new(issuer(IssuerType::Atlas)));
    let user = UserCertificates { made: vec![at(-60); 5], objects: 1, ..UserCertificates::default() };
    let burnt = Observed { issuer: facts, secret: SecretState::Absent, user: Some(user), ..observed() };
    assert_eq!(cause(&decide(&asked(), &burnt, at(0))), Some(Reason::RenewalRequested), "it counts as forced");
    assert_eq!(reason(&decide(&asked(), &forced(5, burnt), at(0))), Some(Reason::AtlasMintBudget));
}

#[test]
fn a_forced_renewal_is_counted_once_when_its_certificate_is_recorded() {
    let keep = |observed: &Observed| next_status(&object(), observed, &decide(&object(), observed, at(0)), at(0));
    let mut observed = with_view(|view| view.issue_reason = Some("RenewalRequested".into()));
    let counted = keep(&observed);
    assert_eq!(counted.forced_renewals, [Time(at(0))]);
    observed.status = counted;
    assert_eq!(keep(&observed).forced_renewals.len(), 1, "the same certificate");
    assert_eq!(keep(&super::observed()).forced_renewals, [], "nobody asked for this one");
    let full = forced(5, with_view(|view| view.issue_reason = Some("RenewalRequested".into())));
    let full = keep(&full).forced_renewals;
    assert_eq!((full.len(), &full[0]), (5, &Time(at(0))), "the status keeps the last five");
}

#[test]
fn a_certificate_that_turns_out_to_be_compromised_passes_the_same_brake() {
    let mut object = object();
    let mut observed = observed();
    let serial_number = observed.secret.certificate().unwrap().serial_number.clone();
    object.metadata.annotations = Some([(COMPROMISED_ANNOTATION.to_owned(), serial_number.to_string())].into());
    observed.status.history = issued_within_the_hour(5);
    assert_eq!(cause(&decide(&object, &observed, at(0))), Some(Reason::Compromised), "the limit of issues does not hold it");
    assert_eq!(reason(&decide(&object, &forced(5, observed), at(0))), Some(Reason::TooManyIssues));
}

#[test]
fn messages_offer_the_annotation_only_from_when_it_helps() {
    let mut absent = Observed { secret: SecretState::Absent, ..observed() };
    absent.status.history = issued_within_the_hour(5);
    let user = UserCertificates { made: vec![at(-60); 5], objects: 1, ..UserCertificates::default() };
    let facts = IssuerState::Usable(Box::new(issuer(IssuerType::Atlas)));
    let burnt = Observed { issuer: facts, secret: SecretState::Absent, user: Some(user), ..observed() };
    let heeded_again = at(3540).to_string();
    for observed in [absent, burnt] {
        let free = decide(&object(), &observed, at(0));
        assert!(message(&free).contains("renew-requested-at has one made all the same, up to 5 times an hour"), "{free:?}");
        let braked = decide(&object(), &forced(5, observed), at(0));
        assert_eq!(reason(&braked), reason(&free));
        assert!(message(&braked).contains(&format!("all the same from {heeded_again} on")), "{braked:?}");
    }
}

#[test]
fn whoever_asks_is_told_when_one_more_is_carried_out() {
    let mut status = DatabaseUserCertificateStatus::default();
    assert_eq!(next_forced_renewal(&status, at(100)), None);
    status.forced_renewals = (1..=5).map(|second| Time(at(second))).collect();
    assert_eq!(next_forced_renewal(&status, at(100)), Some(at(3601)));
    assert_eq!(next_forced_renewal(&status, at(3601)), None);
}

#[rstest]
#[case::free(0)]
#[case::braked(5)]
fn after_unusable_answers_a_new_value_of_the_annotation_helps_from_the_time_that_is_told(#[case] forced_before: usize) {
    let mut unusable = forced(forced_before, failed(Minted::Possibly, Reason::AtlasAnswerUnusable));
    let failure = unusable.status.failure.as_mut().unwrap();
    (failure.count, failure.count_of_reason) = (3, Some(3));
    let from = failure.next_attempt.0;
    let blocked = decide(&object(), &unusable, at(0));
    assert!(message(&blocked).contains(&format!("has one more asked for, not before {from}")), "{blocked:?}");
    assert!(matches!(decide(&object(), &unusable, from), Decision::Block { .. }), "time alone does not help");
    assert_eq!(until(&decide(&asked(), &unusable, at(0))), Some(from), "nor does the annotation alone");
    assert_eq!(cause(&decide(&asked(), &unusable, from)), Some(Reason::NoCertificate));
}
