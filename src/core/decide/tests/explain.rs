//! Each check is told, and the one that settles the matter is the one that the decision comes from.

use super::*;

fn settled_by(object: &DatabaseUserCertificate, observed: &Observed) -> (Option<Reason>, Option<Check>) {
    let explanation = explain(object, observed, at(DAY));
    (explanation.needs(), explanation.settled_by())
}

fn edited(change: impl FnOnce(&mut DatabaseUserCertificate)) -> DatabaseUserCertificate {
    let mut object = object();
    change(&mut object);
    object
}

fn atlas() -> Observed {
    Observed { issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))), secret: SecretState::Absent, ..observed() }
}

fn with_status(change: impl FnOnce(&mut DatabaseUserCertificateStatus)) -> Observed {
    let mut observed = observed();
    change(&mut observed.status);
    observed
}

#[test]
fn a_certificate_that_is_kept_has_passed_every_check_about_it_and_none_about_a_new_one() {
    let explanation = explain(&object(), &observed(), at(DAY));
    assert!(matches!(explanation.decision, Decision::Keep { .. }));
    assert_eq!((explanation.needs(), explanation.settled_by()), (None, None));
    for (check, verdict) in explanation.checks {
        let expected = if check.is_about_hold() { Verdict::NotReached } else { Verdict::Passed };
        assert_eq!(verdict, expected, "{check:?}");
    }
}

#[test]
fn what_is_issued_now_has_passed_every_check_about_a_new_one() {
    let absent = Observed { secret: SecretState::Absent, ..observed() };
    let explanation = explain(&object(), &absent, at(DAY));
    assert!(matches!(explanation.decision, Decision::Issue { .. }));
    assert_eq!((explanation.needs(), explanation.settled_by()), (Some(Reason::NoCertificate), None));
    let of = |wanted: Check| explanation.checks.iter().find(|(check, _)| *check == wanted).map(|(_, verdict)| *verdict);
    assert_eq!(of(Check::PairUsable), Some(Verdict::NotReached), "there is none to look at");
    assert_eq!(of(Check::FailureOver), Some(Verdict::Passed));
    assert_eq!(of(Check::UserServed), Some(Verdict::Passed));
}

#[rstest]
#[case::being_deleted(edited(|object| object.metadata.deletion_timestamp = Some(Time(at(0)))), observed(), Check::ObjectStays)]
#[case::another_s_secret(object(), Observed { secret: SecretState::NotOurs("is another's".into()), ..observed() }, Check::SecretIsOurs)]
#[case::unsaved(object(), Observed { memory: in_memory(certificate()), secret: SecretState::Absent, ..observed() }, Check::NothingUnsaved)]
#[case::unreadable(object(), Observed { unreadable: Some("the spec cannot be read".into()), ..observed() }, Check::ObjectReadable)]
#[case::policy(edited(|object| object.spec.deletion_policy = DeletionPolicy::Retain), observed(), Check::DeletionPolicyApplied)]
#[case::claim(object(), with_status(|status| status.issuance = Some(claim())), Check::NoOpenClaim)]
#[case::secret_going(object(), with_view(|view| view.held_by = Some("a".into())), Check::SecretStays)]
#[case::issuer_unseen(object(), Observed { issuer: IssuerState::Unknown, ..observed() }, Check::IssuerSeen)]
#[case::suspended(edited(|object| object.spec.suspend = true), observed(), Check::NotSuspended)]
#[case::no_issuer(object(), Observed { issuer: IssuerState::Missing, ..observed() }, Check::IssuerUsable)]
#[case::not_allowed(object(), with_issuer(|issuer| issuer.allow = Allow::of_cluster_issuer(None).unwrap()), Check::NamespaceAllowed)]
#[case::bad_spec(edited(|object| object.spec.months_until_expiration = Some(3)), observed(), Check::SpecFits)]
#[case::incomplete(object(), with_view(|view| view.complete = false), Check::SecretComplete)]
fn the_check_that_settles_it_is_named(
    #[case] object: DatabaseUserCertificate,
    #[case] observed: Observed,
    #[case] expected: Check,
) {
    assert_eq!(settled_by(&object, &observed), (None, Some(expected)));
}

#[rstest]
#[case::failure(failed(Minted::No, Reason::SigningFailed), Reason::NoCertificate, Check::FailureOver)]
#[case::too_many(too_many(), Reason::NoCertificate, Check::FewIssued)]
#[case::forced_too_often(forced_too_often(), Reason::RenewalRequested, Check::FewForced)]
#[case::atlas_is_asked(atlas(), Reason::NoCertificate, Check::UserServed)]
fn a_needed_certificate_is_told_with_what_holds_it(#[case] observed: Observed, #[case] needs: Reason, #[case] expected: Check) {
    let asked = edited(|object| {
        let annotation = (RENEW_REQUESTED_ANNOTATION.to_owned(), "1".to_owned());
        object.metadata.annotations = (needs == Reason::RenewalRequested).then(|| [annotation].into());
    });
    let explanation = explain(&asked, &observed, at(100));
    assert_eq!((explanation.needs(), explanation.settled_by()), (Some(needs), Some(expected)), "{explanation:?}");
}

fn claim() -> Issuance {
    Issuance { id: "1".into(), reason: "RenewalDue".into(), attempt: 1, since: Time(at(0)), user: None, process: None }
}

fn too_many() -> Observed {
    let issued = |number: i64| IssuedCertificate {
        serial_number: number.to_string(),
        reason: "NoCertificate".into(),
        issuer: None,
        recorded_at: Time(at(number)),
        not_after: Time(at(90 * DAY)),
    };
    Observed { secret: SecretState::Absent, ..with_status(|status| status.history = (1..=5).map(issued).collect()) }
}

fn forced_too_often() -> Observed {
    with_status(|status| status.forced_renewals = (1..=5).map(|second| Time(at(second))).collect())
}

#[test]
fn every_check_has_a_statement_and_stands_once() {
    let statements: BTreeSet<&str> = Check::ALL.iter().map(|check| check.statement()).collect();
    assert_eq!(statements.len(), Check::ALL.len());
    assert!(Check::ALL.is_sorted());
}
