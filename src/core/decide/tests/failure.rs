//! Failures, claims, and how long is waited.

use super::*;

#[test]
fn a_claim_without_its_certificate_is_accounted_for_and_one_with_it_is_not() {
    let claim =
        Issuance { id: "c1".into(), reason: "NoCertificate".into(), attempt: 1, since: Time(at(0)), user: None, process: None };
    let mut lost = Observed { secret: SecretState::Absent, ..observed() };
    lost.status.issuance = Some(claim.clone());
    assert_eq!(decide(&object(), &lost, at(DAY)), Decision::CountLostClaim);
    record_lost_claim(&mut lost.status, "uid-1", at(DAY));
    assert_eq!(unaccounted(&lost.status), 1);
    assert_eq!(reason(&decide(&object(), &lost, at(DAY))), Some(Reason::AtlasAnswerLost));
    assert_eq!(cause(&decide(&object(), &lost, at(DAY + 3600))), Some(Reason::NoCertificate));

    let mut answered = with_view(|view| view.issuance = Some("c1".into()));
    answered.status.issuance = Some(claim);
    let decision = decide(&object(), &answered, at(DAY));
    assert!(matches!(decision, Decision::Keep { .. }));
    assert_eq!(next_status(&object(), &answered, &decision, at(DAY)).issuance, None);
}

#[test]
fn a_failure_waits_until_something_changes_or_its_time_has_come() {
    let observed = failed(Minted::No, Reason::AtlasUnauthorized);
    assert_eq!(reason(&decide(&object(), &observed, at(60))), Some(Reason::AtlasUnauthorized));
    assert_eq!(cause(&decide(&object(), &observed, at(2 * 3600))), Some(Reason::NoCertificate));
    let mut edited = object();
    edited.metadata.generation = Some(2);
    assert_eq!(cause(&decide(&edited, &observed, at(60))), Some(Reason::NoCertificate), "the spec changed");
    let mut rotated = observed.clone();
    rotated.issuer = IssuerState::Usable(Box::new(IssuerFacts { version: "2".into(), ..issuer(IssuerType::Ca) }));
    assert_eq!(cause(&decide(&object(), &rotated, at(60))), Some(Reason::NoCertificate), "the credentials changed");
}

#[test]
fn after_a_lost_answer_no_change_shortens_the_wait() {
    let observed = failed(Minted::Possibly, Reason::AtlasAnswerLost);
    let mut edited = object();
    edited.metadata.generation = Some(2);
    assert_eq!(reason(&decide(&edited, &observed, at(60))), Some(Reason::AtlasAnswerLost));
    assert_eq!(unaccounted(&observed.status), 1);
}

#[test]
fn a_question_that_fails_after_a_lost_claim_begins_no_new_series() {
    let mut observed = failed(Minted::No, Reason::AtlasUnavailable);
    observed.status.issuance =
        Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 3, since: Time(at(0)), user: None, process: None });
    record_lost_claim(&mut observed.status, "uid", at(0));
    let Decision::Issue { desired, .. } = decide(&object(), &observed, at(DAY)) else { panic!() };
    let error =
        IssueError { reason: Reason::AtlasUnavailable, message: "no".into(), retry: Retry::Backoff, minted: Minted::No };
    record_failure(
        &mut observed.status,
        Some(&Inputs::new(&desired, &issuer(IssuerType::Ca))),
        &desired.uid,
        None,
        &error,
        at(DAY),
    );
    assert_eq!(observed.status.failure.unwrap().count, 4);
}

#[test]
fn the_wait_for_a_lost_answer_outlasts_a_good_secret_that_is_deleted_before_its_end() {
    let mut observed =
        Observed { secret: SecretState::Ours(Box::new(view())), ..failed(Minted::Possibly, Reason::AtlasAnswerLost) };
    let until = observed.status.failure.clone().unwrap().next_attempt.0;
    let keep = decide(&object(), &observed, at(60));
    assert!(matches!(keep, Decision::Keep { .. }));
    assert_eq!(next_look(&observed, &keep, at(60)), Some(until));
    observed.status = next_status(&object(), &observed, &keep, at(60));
    let deleted = Observed { secret: SecretState::Absent, ..observed.clone() };
    assert_eq!(reason(&decide(&object(), &deleted, at(90))), Some(Reason::AtlasAnswerLost));
    assert_eq!(next_status(&object(), &observed, &keep, until).failure, None);
    observed.status.failure = failed(Minted::No, Reason::AtlasUnavailable).status.failure;
    assert_eq!(next_status(&object(), &observed, &keep, at(60)).failure, None, "nothing is on its way");
}

#[test]
fn too_many_issues_in_an_hour_are_braked_and_the_brake_is_released() {
    let mut observed = Observed { secret: SecretState::Absent, ..observed() };
    observed.status.history = (1..=5)
        .map(|n| IssuedCertificate {
            serial_number: n.to_string(),
            reason: "NoCertificate".into(),
            issuer: None,
            recorded_at: Time(at(n * 60)),
            not_after: Time(at(90 * DAY)),
        })
        .collect();
    assert_eq!(reason(&decide(&object(), &observed, at(600))), Some(Reason::TooManyIssues));
    assert_eq!(cause(&decide(&object(), &observed, at(3600 + 61))), Some(Reason::NoCertificate));
}

#[test]
fn ready_stays_true_while_a_renewal_fails_and_ends_with_the_certificate() {
    let mut observed = failed(Minted::No, Reason::AtlasUnauthorized);
    observed.status.failure.as_mut().unwrap().next_attempt = Time(at(1000 * DAY));
    observed.secret = SecretState::Ours(Box::new(view()));
    let ready = |now| {
        let decision = decide(&object(), &observed, now);
        let status = next_status(&object(), &observed, &decision, now);
        let ready = condition(&status.conditions, READY).unwrap().clone();
        (ready.status, ready.reason, condition(&status.conditions, ISSUING).unwrap().reason.clone())
    };
    let unauthorized = || "AtlasUnauthorized".to_owned();
    assert_eq!(ready(at(80 * DAY)), ("True".into(), "Issued".into(), unauthorized()));
    assert_eq!(ready(at(90 * DAY)), ("False".into(), unauthorized(), unauthorized()));
}

#[test]
fn a_certificate_from_atlas_is_made_only_when_the_account_of_its_user_is_known_and_within_budget() {
    let facts = issuer(IssuerType::Atlas);
    let absent = Observed { issuer: IssuerState::Usable(Box::new(facts)), secret: SecretState::Absent, ..observed() };
    let now = at(0);
    assert_eq!(
        decide(&object(), &absent, now),
        Decision::LookUpUser { username: "orders".into(), cause: Reason::NoCertificate }
    );
    let with = |made: usize| Observed {
        user: Some(UserCertificates { made: vec![at(-60); made], objects: 1, ..UserCertificates::default() }),
        ..absent.clone()
    };
    assert!(matches!(decide(&object(), &with(4), now), Decision::Issue { .. }));
    assert_eq!(reason(&decide(&object(), &with(5), now)), Some(Reason::AtlasMintBudget));
    let mut forced = object();
    forced.metadata.annotations = Some([("usercert.dev/renew-requested-at".to_owned(), "now".to_owned())].into());
    assert!(matches!(decide(&forced, &with(5), now), Decision::Issue { .. }), "a person asked for it");
}

#[test]
fn a_request_releases_the_brake_once() {
    let mut braked = Observed { secret: SecretState::Absent, ..observed() };
    braked.status.history = vec![
        IssuedCertificate {
            serial_number: "1".into(),
            reason: "NoCertificate".into(),
            issuer: None,
            recorded_at: Time(at(-60)),
            not_after: Time(at(90 * DAY)),
        };
        5
    ];
    let mut asked = object();
    asked.metadata.annotations = Some([("usercert.dev/renew-requested-at".to_owned(), "now".to_owned())].into());
    assert_eq!(reason(&decide(&object(), &braked, at(0))), Some(Reason::TooManyIssues));
    assert!(matches!(decide(&asked, &braked, at(0)), Decision::Issue { .. }));
    braked.status.renew_request_handled = Some("now".into());
    assert_eq!(reason(&decide(&asked, &braked, at(0))), Some(Reason::TooManyIssues));
}

#[test]
fn a_wait_that_atlas_set_for_one_user_does_not_hold_for_another() {
    let mut observed = failed(Minted::No, Reason::AtlasCertificateLimit);
    let inputs = observed.status.failure.as_ref().unwrap().inputs.clone();
    let mut changed = object();
    changed.metadata.generation = Some(99);
    assert_eq!(reason(&decide(&changed, &observed, at(1))), Some(Reason::AtlasCertificateLimit), "{inputs}");
    changed.spec.username = Some("another".into());
    assert!(matches!(decide(&changed, &observed, at(1)), Decision::Issue { .. }));
    observed.status.failure.as_mut().unwrap().inputs = String::new();
    assert_eq!(reason(&decide(&changed, &observed, at(1))), Some(Reason::AtlasCertificateLimit), "an unknown user's");
}

#[test]
fn after_three_answers_that_cannot_be_used_no_more_is_asked_for_until_something_changes() {
    let mut observed = failed(Minted::Possibly, Reason::AtlasAnswerUnusable);
    let later = at(90 * DAY / 2);
    assert!(matches!(decide(&object(), &observed, later), Decision::Issue { .. }), "once may be chance");
    observed.status.failure.as_mut().unwrap().count_of_reason = Some(3);
    assert!(matches!(decide(&object(), &observed, later), Decision::Block { reason: Reason::AtlasAnswerUnusable, .. }));
    let mut changed = object();
    changed.metadata.generation = Some(99);
    assert!(matches!(decide(&changed, &observed, later), Decision::Issue { .. }));
}

/// Whatever failed before was no answer that cannot be used.
#[test]
fn failures_for_other_reasons_do_not_count_as_answers_that_cannot_be_used() {
    let mut observed = failed(Minted::No, Reason::AtlasUnavailable);
    let (object, issuer) = (object(), issuer(IssuerType::Ca));
    let inputs = Inputs::new(&Desired::new(&object, &issuer).unwrap(), &issuer);
    let mut fail = |reason, minted| {
        let error = IssueError { reason, message: "no".into(), retry: Retry::Backoff, minted };
        record_failure(&mut observed.status, Some(&inputs), "uid-1", None, &error, at(0));
        let failure = observed.status.failure.as_ref().unwrap();
        (failure.count, failure.count_of_reason, super::reason(&decide(&object, &observed, at(90 * DAY / 2))))
    };
    assert_eq!(fail(Reason::AtlasUnavailable, Minted::No), (2, Some(2), None));
    assert_eq!(fail(Reason::AtlasAnswerUnusable, Minted::Possibly), (3, Some(1), None));
    assert_eq!(fail(Reason::AtlasAnswerUnusable, Minted::Possibly), (4, Some(2), None));
    assert_eq!(fail(Reason::AtlasAnswerUnusable, Minted::Possibly), (5, Some(3), Some(Reason::AtlasAnswerUnusable)));
}

#[test]
fn a_wait_that_the_issuer_asked_for_is_shortened_by_no_change_of_the_spec() {
    let mut observed = failed(Minted::No, Reason::AtlasUnavailable);
    let mut edited = object();
    edited.metadata.generation = Some(2);
    assert_eq!(cause(&decide(&edited, &observed, at(10))), Some(Reason::NoCertificate), "nobody asked for that wait");
    let (of_it, issuer) = (object(), issuer(IssuerType::Ca));
    let inputs = Inputs::new(&Desired::new(&of_it, &issuer).unwrap(), &issuer);
    let retry = Retry::NotBefore(SignedDuration::from_hours(1));
    let error = IssueError { reason: Reason::AtlasUnavailable, message: "no".into(), retry, minted: Minted::No };
    record_failure(&mut observed.status, Some(&inputs), "uid-1", None, &error, at(0));
    assert_eq!(reason(&decide(&edited, &observed, at(3599))), Some(Reason::AtlasUnavailable));
    edited.spec.username = Some("another".into());
    assert!(matches!(decide(&edited, &observed, at(10)), Decision::Issue { .. }), "of another user nothing was said");
}

#[test]
fn counters_that_somebody_filled_to_the_brim_stay_there() {
    let full = CertificateFailure {
        count: i64::MAX,
        count_of_reason: None,
        asked_by_issuer: false,
        reason: Reason::AtlasAnswerLost.as_str().to_owned(),
        message: String::new(),
        last_time: Time(at(0)),
        next_attempt: Time(at(0)),
        inputs: String::new(),
        cause: None,
        unlisted: None,
    };
    let mut status = DatabaseUserCertificateStatus {
        failure: Some(full),
        unaccounted_certificates: Some(UnaccountedCertificates { count: i64::MAX, presumed: i64::MAX, ..Default::default() }),
        ..DatabaseUserCertificateStatus::default()
    };
    let issuer = issuer(IssuerType::Atlas);
    let desired = Desired::new(&object(), &issuer).unwrap();
    let error =
        IssueError { reason: Reason::AtlasAnswerLost, message: String::new(), retry: Retry::Backoff, minted: Minted::Possibly };
    let claim = claimed(&object(), &status, NewClaim { id: "1", cause: Reason::RenewalDue, user: None, process: None }, at(0));
    assert_eq!(claim.issuance.map(|claim| claim.attempt), Some(i64::MAX));
    record_failure(&mut status, Some(&Inputs::new(&desired, &issuer)), &desired.uid, None, &error, at(0));
    assert_eq!(status.failure.map(|failure| failure.count), Some(i64::MAX));
    assert_eq!(status.unaccounted_certificates.map(|found| (found.count, found.presumed)), Some((i64::MAX, i64::MAX)));
}

#[test]
fn a_clock_that_was_set_back_makes_no_wait_longer() {
    let mut observed = failed(Minted::Possibly, Reason::AtlasAnswerLost);
    assert_eq!(reason(&decide(&object(), &observed, at(-60))), Some(Reason::AtlasAnswerLost), "another machine's clock");
    assert_eq!(cause(&decide(&object(), &observed, at(-DAY))), Some(Reason::NoCertificate));
    observed.memory = in_memory(certificate());
    let failure = SaveFailure { until: at(512), reason: Reason::SecretNotWritable, message: "quota".into() };
    observed.memory.unsaved.as_mut().unwrap().failure = Some(failure);
    assert_eq!(reason(&decide(&object(), &observed, at(0))), Some(Reason::SecretNotWritable));
    assert_eq!(decide(&object(), &observed, at(-DAY)), Decision::Save);
}
