//! Each check is told, and the one that settles the matter is the one that the decision comes from.

use super::*;
use crate::api::{ClaimedUser, ListedBefore};

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
fn the_words_of_the_limits_tell_their_numbers() {
    assert_eq!((FORCED_IN_AN_HOUR, ISSUES_IN_AN_HOUR), (5, 5));
    for check in [Check::FewForced, Check::FewIssued] {
        assert!(check.statement().starts_with("Fewer than five"), "{}", check.statement());
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
#[case::useless_answers(useless_answers(), Reason::NoCertificate, Check::AnswersUseful)]
#[case::lost_a_minute_ago(lost(-10, 0), Reason::NoCertificate, Check::NothingLookedFor)]
#[case::lost_and_asked_about(lost(-10, 200), Reason::NoCertificate, Check::FailureOver)]
#[case::ca_ends_first(ca_ends_first(), Reason::RenewalDue, Check::LastsLonger)]
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

fn useless_answers() -> Observed {
    let mut observed = failed(Minted::Possibly, Reason::AtlasAnswerUnusable);
    if let Some(failure) = &mut observed.status.failure {
        (failure.count, failure.count_of_reason) = (3, Some(3));
    }
    observed
}

/// A claim was counted as lost at the one time, and Atlas is asked about it again at the other.
fn lost(counted: i64, asked: i64) -> Observed {
    let mut observed = atlas();
    let listed = Some(ListedBefore { serial_numbers: Vec::new(), others_until: None });
    let user = Some(ClaimedUser { key: "user".into(), listed });
    observed.status.issuance = Some(Issuance { user, ..claim() });
    record_lost_claim(&mut observed.status, "uid", at(counted));
    for unlisted in observed.status.failure.iter_mut().filter_map(|failure| failure.unlisted.as_mut()) {
        unlisted.next_question = Time(at(asked));
    }
    observed
}

fn ca_ends_first() -> Observed {
    let mut observed = with_issuer(|issuer| ca_of(issuer).not_after = at(101));
    let short = CertificateFacts { not_after: at(101), ..certificate() };
    observed.secret = SecretState::Ours(Box::new(SecretView { certificate: Ok(short), ..view() }));
    observed
}

/// The two causes at once: a person asks for a renewal, and the renewal time has come.
#[test]
fn a_requested_renewal_that_has_to_wait_hides_no_renewal_that_is_due() {
    let asked = edited(|object| {
        object.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "1".to_owned())].into());
    });
    let told = |observed: &Observed| {
        let explanation = explain(&asked, observed, at(89 * DAY));
        let of = |wanted: Check| explanation.checks.iter().find(|(check, _)| *check == wanted).map(|(_, verdict)| *verdict);
        (of(Check::NotRequested), of(Check::NotDue))
    };
    let now = Some(Verdict::Needs(Reason::RenewalRequested));
    assert_eq!(told(&observed()), (now, Some(Verdict::NotReached)), "whether it is due was not looked at");
    let forced = with_status(|status| status.forced_renewals = (1..=5).map(|second| Time(at(89 * DAY - second))).collect());
    assert_eq!(told(&forced), (Some(Verdict::Passed), Some(Verdict::Needs(Reason::RenewalDue))));
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
