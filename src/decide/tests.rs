//! Statements about decisions, without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{
    api::{
        CertificateFailure, DatabaseUserCertificate, DatabaseUserCertificateSpec, DatabaseUserCertificateStatus, ISSUING,
        Issuance, IssuedCertificate, IssuerReference, PrivateKey, PrivateKeyAlgorithm, READY, Reason, UnaccountedCertificates,
        condition, names::RENEW_REQUESTED_ANNOTATION,
    },
    certificate::{CertificateFacts, KeyAlgorithm, PrivateKeySpec, Subject},
    issuer::{IssueError, Minted, Retry},
};

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object() -> DatabaseUserCertificate {
    DatabaseUserCertificate {
        metadata: ObjectMeta {
            name: Some("orders".into()),
            namespace: Some("shop".into()),
            uid: Some("uid-1".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: DatabaseUserCertificateSpec {
            username: Some("orders".into()),
            issuer_ref: Some(IssuerReference { kind: crate::api::IssuerKind::CertificateIssuer, name: "issuer".into() }),
            user_ref: None,
            secret_name: None,
            months_until_expiration: None,
            duration: None,
            renew_before: None,
            renew_before_percentage: None,
            subject: None,
            private_key: None,
        },
        status: None,
    }
}

fn issuer(issuer_type: IssuerType) -> IssuerFacts {
    IssuerFacts {
        username: None,
        defaults: IssuerDefaults { issuer_type, months_until_expiration: 3, duration: None, max_duration: None },
        allow: Allow::of_namespaced_issuer(None),
        identity: "ca/1".into(),
        version: "1".into(),
        not_after: (issuer_type == IssuerType::Ca).then(|| at(4000 * DAY)),
        ca_digest: None,
    }
}

fn certificate() -> CertificateFacts {
    CertificateFacts {
        serial_number: "0A".into(),
        subject: Subject::for_user("orders").unwrap(),
        issuer: "CN=CA".into(),
        not_before: at(0),
        not_after: at(90 * DAY),
        private_key: PrivateKeySpec { algorithm: KeyAlgorithm::Ecdsa, size: 256 },
    }
}

fn view() -> SecretView {
    SecretView {
        changed_by: None,
        spoilt: None,
        adopted_beside: None,
        uid: "secret-uid".into(),
        resource_version: "7".into(),
        certificate: Ok(certificate()),
        wrong_type: None,
        complete: true,
        issuer: Some("ca/1".into()),
        issuance: None,
        issue_reason: Some("NoCertificate".into()),
        renew_request: None,
        ca_digest: None,
    }
}

fn observed() -> Observed {
    Observed {
        account: None,
        recent_repairs: Vec::new(),
        save_refused: None,
        issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Ca))),
        secret: SecretState::Ours(Box::new(view())),
        status: DatabaseUserCertificateStatus::default(),
        unsaved: None,
        namespace: "shop".into(),
        namespace_labels: BTreeMap::new(),
    }
}

fn with_view(change: impl FnOnce(&mut SecretView)) -> Observed {
    let mut view = view();
    change(&mut view);
    Observed { secret: SecretState::Ours(Box::new(view)), ..observed() }
}

fn with_issuer(change: impl FnOnce(&mut IssuerFacts)) -> Observed {
    let mut facts = issuer(IssuerType::Ca);
    change(&mut facts);
    Observed { issuer: IssuerState::Usable(Box::new(facts)), ..observed() }
}

fn cause(decision: &Decision) -> Option<Reason> {
    match decision {
        Decision::Issue { cause, .. } => Some(*cause),
        _ => None,
    }
}

fn reason(decision: &Decision) -> Option<Reason> {
    match decision {
        Decision::Refuse { reason, .. } | Decision::Wait { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[test]
fn a_good_certificate_is_kept_until_its_renewal_time() {
    let decision = decide(&object(), &observed(), at(DAY));
    let Decision::Keep { renewal_time, .. } = decision else { panic!("{decision:?}") };
    assert!(renewal_time < at(55 * DAY) && renewal_time > at(51 * DAY), "35 days ahead, up to 3.5 earlier: {renewal_time}");
    assert_eq!(cause(&decide(&object(), &observed(), renewal_time)), Some(Reason::RenewalDue));
}

#[rstest]
#[case::absent(Observed { secret: SecretState::Absent, ..observed() }, Reason::NoCertificate)]
#[case::unusable(with_view(|view| view.certificate = Err("empty".into())), Reason::PairUnusable)]
#[case::other_issuer(with_view(|view| view.issuer = Some("atlas/1".into())), Reason::IssuerChanged)]
#[case::other_key(with_view(|view| view.certificate = Ok(CertificateFacts {
    private_key: PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: 2048 }, ..certificate() })), Reason::PrivateKeyChanged)]
#[case::other_user(with_view(|view| view.certificate = Ok(CertificateFacts {
    subject: Subject::for_user("other").unwrap(), ..certificate() })), Reason::SubjectChanged)]
#[case::expired(with_view(|view| view.certificate = Ok(CertificateFacts { not_after: at(DAY), ..certificate() })), Reason::Expired)]
fn what_does_not_serve_is_issued_anew(#[case] observed: Observed, #[case] expected: Reason) {
    assert_eq!(cause(&decide(&object(), &observed, at(DAY))), Some(expected));
}

#[rstest]
#[case::foreign(Observed { secret: SecretState::NotOurs("belongs to nobody".into()), ..observed() }, Reason::SecretNotOwned)]
#[case::no_issuer(Observed { issuer: IssuerState::Missing, secret: SecretState::Absent, ..observed() }, Reason::IssuerNotFound)]
#[case::bad_issuer(Observed { issuer: IssuerState::Refused(Reason::CaInvalid, "x".into()), ..observed() }, Reason::CaInvalid)]
#[case::not_allowed(with_issuer(|issuer| issuer.allow = Allow::of_cluster_issuer(None).unwrap()), Reason::IssuerNotAllowed)]
#[case::ca_ends_first(Observed { secret: SecretState::Ours(Box::new(SecretView {
    certificate: Ok(CertificateFacts { not_before: at(-89 * DAY), not_after: at(2 * DAY), ..certificate() }), ..view() })),
    ..with_issuer(|issuer| issuer.not_after = Some(at(2 * DAY))) }, Reason::CaExpiresFirst)]
fn what_a_person_must_change_is_refused(#[case] observed: Observed, #[case] expected: Reason) {
    assert_eq!(reason(&decide(&object(), &observed, at(DAY))), Some(expected));
}

#[test]
fn a_foreign_secret_is_refused_even_when_a_certificate_waits_in_memory() {
    let observed = Observed { secret: SecretState::NotOurs("x".into()), unsaved: Some(certificate()), ..observed() };
    assert_eq!(reason(&decide(&object(), &observed, at(DAY))), Some(Reason::SecretNotOwned));
}

#[test]
fn a_certificate_in_memory_is_saved_before_anything_else_is_issued() {
    let observed =
        Observed { secret: SecretState::Absent, unsaved: Some(certificate()), issuer: IssuerState::Missing, ..observed() };
    assert_eq!(decide(&object(), &observed, at(DAY)), Decision::Save);
}

#[test]
fn nothing_is_decided_before_the_issuer_was_looked_at() {
    let observed = Observed { issuer: IssuerState::Unknown, secret: SecretState::Absent, ..observed() };
    assert_eq!(decide(&object(), &observed, at(DAY)), Decision::Await);
}

#[rstest]
#[case::labels(with_view(|view| view.complete = false))]
#[case::ca_certificate(with_issuer(|issuer| issuer.ca_digest = Some("new".into())))]
fn what_surrounds_a_good_pair_is_repaired_without_a_new_certificate(#[case] observed: Observed) {
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Repair { .. }));
}

#[rstest]
#[case::no_issuer(Observed { issuer: IssuerState::Missing, ..observed() })]
#[case::an_unusable_issuer(Observed { issuer: IssuerState::Refused(Reason::CaInvalid, String::new()), ..observed() })]
fn what_was_spoilt_is_repaired_from_what_is_left_though_no_certificate_can_be_had(#[case] mut observed: Observed) {
    let mut view = view();
    (view.complete, view.spoilt, view.issuer) = (false, Some("there is no private key".into()), None);
    observed.secret = SecretState::Ours(Box::new(view.clone()));
    assert_eq!(decide(&object(), &observed, at(DAY)), Decision::Repair { renewal_time: None });
    let (reason, _) = ready_certificate(&object(), &observed, at(DAY)).unwrap_err();
    assert_eq!(reason, Reason::PairUnusable, "until then pods that read it fail");

    observed.recent_repairs = vec![at(DAY); 5];
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Wait { reason: Reason::SecretContested, .. }));
    view.spoilt = None;
    observed.secret = SecretState::Ours(Box::new(view));
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Refuse { .. }), "nothing tells the issuer's annotation");
}

#[test]
fn what_was_spoilt_is_repaired_before_a_renewal_that_has_to_wait() {
    let mut observed = with_view(|view| (view.complete, view.spoilt) = (false, Some("there is no private key".into())));
    let failure = |reason: Reason| CertificateFailure {
        count: 1,
        reason: reason.as_str().into(),
        message: String::new(),
        last_time: Time(at(0)),
        next_attempt: Time(at(200 * DAY)),
        inputs: String::new(),
    };
    observed.status.failure = Some(failure(Reason::AtlasAnswerLost));
    let due = at(80 * DAY);
    assert_eq!(decide(&object(), &observed, due), Decision::Repair { renewal_time: None });
    observed.status.failure = Some(failure(Reason::SecretNotWritable));
    observed.issuer = IssuerState::Missing;
    assert!(matches!(decide(&object(), &observed, due), Decision::Wait { reason: Reason::SecretNotWritable, .. }));
}

#[test]
fn a_removed_issuer_annotation_costs_no_certificate() {
    let observed = with_view(|view| {
        view.issuer = None;
        view.complete = false;
    });
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Repair { .. }));
}

#[test]
fn a_renewal_request_is_handled_once_per_value_even_if_the_status_is_lost() {
    let mut asked = object();
    asked.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "1".to_owned())].into());
    assert_eq!(cause(&decide(&asked, &observed(), at(DAY))), Some(Reason::RenewalRequested));
    let in_secret = with_view(|view| view.renew_request = Some("1".into()));
    assert!(matches!(decide(&asked, &in_secret, at(DAY)), Decision::Keep { .. }));
    let mut in_status = observed();
    in_status.status.renew_request_handled = Some("1".into());
    assert!(matches!(decide(&asked, &in_status, at(DAY)), Decision::Keep { .. }));
    asked.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "2".to_owned())].into());
    assert_eq!(cause(&decide(&asked, &in_secret, at(DAY))), Some(Reason::RenewalRequested));
}

#[test]
fn a_claim_without_its_certificate_is_accounted_for_and_one_with_it_is_not() {
    let claim = Issuance { id: "c1".into(), reason: "NoCertificate".into(), attempt: 1, since: Time(at(0)) };
    let mut lost = Observed { secret: SecretState::Absent, ..observed() };
    lost.status.issuance = Some(claim.clone());
    assert_eq!(decide(&object(), &lost, at(DAY)), Decision::Account);
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

fn unaccounted(status: &crate::api::DatabaseUserCertificateStatus) -> i64 {
    status.unaccounted_certificates.as_ref().map_or(0, |found| found.count)
}

fn failed(minted: Minted, failure_reason: Reason) -> Observed {
    let mut observed = Observed { secret: SecretState::Absent, ..observed() };
    let Decision::Issue { desired, .. } = decide(&object(), &observed, at(0)) else { panic!() };
    let error = IssueError { reason: failure_reason, message: "no".into(), retry: Retry::Slowly, minted };
    record_failure(&mut observed.status, &desired, &issuer(IssuerType::Ca), &error, at(0));
    observed
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
    observed.status.issuance = Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 3, since: Time(at(0)) });
    record_lost_claim(&mut observed.status, "uid", at(0));
    let Decision::Issue { desired, .. } = decide(&object(), &observed, at(DAY)) else { panic!() };
    let error =
        IssueError { reason: Reason::AtlasUnavailable, message: "no".into(), retry: Retry::Backoff, minted: Minted::No };
    record_failure(&mut observed.status, &desired, &issuer(IssuerType::Ca), &error, at(DAY));
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
fn a_status_that_was_wiped_is_rebuilt_and_then_stays() {
    let decision = decide(&object(), &observed(), at(DAY));
    let status = next_status(&object(), &observed(), &decision, at(DAY));
    assert_eq!(status.serial_number.as_deref(), Some("0A"));
    let again = Observed { status: status.clone(), ..observed() };
    assert_eq!(next_status(&object(), &again, &decide(&object(), &again, at(2 * DAY)), at(2 * DAY)), status);
}

#[rstest]
#[case::atlas_with_duration(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec| spec.duration = Some("2h".into()), "duration")]
#[case::atlas_with_subject(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec| spec.subject = Some("CN=a".into()), "subject")]
#[case::ca_with_months(IssuerType::Ca, |spec: &mut DatabaseUserCertificateSpec| spec.months_until_expiration = Some(3), "monthsUntilExpiration")]
#[case::atlas_with_key(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec|
    spec.private_key = Some(PrivateKey { algorithm: PrivateKeyAlgorithm::Rsa, size: None }), "privateKey")]
#[case::late_renewal(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec| spec.renew_before = Some("2016h".into()), "renewBefore")]
#[case::no_duration(IssuerType::Ca, |spec: &mut DatabaseUserCertificateSpec| spec.duration = Some("soon".into()), "duration")]
#[case::no_subject(IssuerType::Ca, |spec: &mut DatabaseUserCertificateSpec| spec.subject = Some("orders".into()), "subject")]
fn a_spec_that_the_issuer_cannot_honour_names_the_field(
    #[case] issuer_type: IssuerType,
    #[case] change: impl FnOnce(&mut DatabaseUserCertificateSpec),
    #[case] field: &str,
) {
    let mut object = object();
    change(&mut object.spec);
    let observed =
        Observed { issuer: IssuerState::Usable(Box::new(issuer(issuer_type))), secret: SecretState::Absent, ..observed() };
    let Decision::Refuse { reason, message } = decide(&object, &observed, at(0)) else { panic!() };
    assert_eq!(reason, Reason::InvalidSpec);
    assert!(message.contains(field), "{message}");
}

proptest! {
    #[test]
    fn the_renewal_time_is_inside_the_validity_and_the_same_each_time(
        lifetime in 3600_i64..800 * DAY, percentage in 1_u8..=90, fixed in 300_i64..900 * DAY, choice in 0..3, uid in ".{0,40}"
    ) {
        let certificate = CertificateFacts { not_after: at(lifetime), ..certificate() };
        let wanted = match choice {
            0 => RenewBefore::Default,
            1 => RenewBefore::Percentage(percentage),
            _ => RenewBefore::Time(SignedDuration::from_secs(fixed)),
        };
        let time = renewal_time(&certificate, wanted, &uid);
        prop_assert!(time >= at(lifetime / 10 - 1) && time < certificate.not_after);
        prop_assert_eq!(time, renewal_time(&certificate, wanted, &uid));
    }

    #[test]
    fn every_input_has_a_decision_and_reporting_it_settles(
        now in -200 * DAY..400 * DAY, absent: bool, broken: bool, complete: bool, atlas: bool, other_issuer: bool,
        claim in proptest::option::of("[a-c]"), answered in proptest::option::of("[a-c]"),
    ) {
        let mut observed = with_view(|view| {
            view.complete = complete;
            view.issuance = answered;
            if other_issuer { view.issuer = Some("ca/2".into()); }
            if broken { view.certificate = Err("garbled".into()); }
        });
        if absent { observed.secret = SecretState::Absent; }
        if atlas { observed.issuer = IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))); }
        observed.status.issuance = claim.map(|id| Issuance { id, reason: "NoCertificate".into(), attempt: 1, since: Time(at(0)) });
        let decision = decide(&object(), &observed, at(now));
        let status = next_status(&object(), &observed, &decision, at(now));
        observed.status = status.clone();
        let again = decide(&object(), &observed, at(now));
        prop_assert_eq!(next_status(&object(), &observed, &again, at(now)), status, "a second report changes nothing");
    }
}

#[test]
fn a_certificate_from_atlas_is_made_only_when_the_account_of_its_user_is_known_and_within_budget() {
    let facts = issuer(IssuerType::Atlas);
    let absent = Observed { issuer: IssuerState::Usable(Box::new(facts)), secret: SecretState::Absent, ..observed() };
    let now = at(0);
    assert_eq!(decide(&object(), &absent, now), Decision::Examine { cause: Reason::NoCertificate });
    let with =
        |made: usize| Observed { account: Some(UserAccount { made: vec![at(-60); made], objects: 1 }), ..absent.clone() };
    assert!(matches!(decide(&object(), &with(4), now), Decision::Issue { .. }));
    assert_eq!(reason(&decide(&object(), &with(5), now)), Some(Reason::AtlasMintBudget));
    let mut forced = object();
    forced.metadata.annotations = Some([("usercert.dev/renew-requested-at".to_owned(), "now".to_owned())].into());
    assert!(matches!(decide(&forced, &with(5), now), Decision::Issue { .. }), "a person asked for it");
}

#[test]
fn a_secret_that_is_put_right_again_and_again_is_left_alone_for_a_while_and_the_other_is_named() {
    let mut contested = with_view(|view| {
        view.complete = false;
        view.changed_by = Some("the field manager \"argocd\" (Update)".into());
    });
    let now = at(0);
    contested.recent_repairs = vec![at(-50); 4];
    assert!(matches!(decide(&object(), &contested, now), Decision::Repair { .. }));
    contested.recent_repairs = vec![at(-50); 5];
    let Decision::Wait { until, reason, message } = decide(&object(), &contested, now) else { panic!() };
    assert_eq!((until, reason), (at(550), Reason::SecretContested));
    assert!(message.contains("argocd"), "{message}");
    assert!(ready_certificate(&object(), &contested, now).is_ok(), "its pair works");
    assert!(matches!(decide(&object(), &contested, at(550)), Decision::Repair { .. }));
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
fn a_certificate_that_the_secret_refuses_is_tried_again_when_its_time_has_come() {
    let mut observed = Observed { secret: SecretState::Absent, unsaved: Some(certificate()), ..observed() };
    observed.save_refused = Some((at(60), "quota".into()));
    let first = decide(&object(), &observed, at(0));
    assert_eq!(reason(&first), Some(Reason::SecretNotWritable));
    assert_eq!(first, decide(&object(), &observed, at(30)), "the same status, which is written once");
    assert_eq!(decide(&object(), &observed, at(60)), Decision::Save);
}

#[test]
fn a_working_certificate_is_not_given_up_for_one_in_memory_that_the_spec_wants_no_longer() {
    let mut other = certificate();
    other.subject = Subject::for_user("another").unwrap();
    let mut observed = Observed { unsaved: Some(other), ..observed() };
    observed.status.issuance = Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 1, since: Time(at(0)) });
    assert_eq!(decide(&object(), &observed, at(0)), Decision::Account);
    observed.secret = SecretState::Absent;
    assert_eq!(decide(&object(), &observed, at(0)), Decision::Save, "better than nothing");
}

#[test]
fn a_leader_that_was_paused_does_not_replace_its_successor_s_certificate_by_its_older_one() {
    let newer = CertificateFacts { serial_number: "0B".into(), not_before: at(DAY), not_after: at(60 * DAY), ..certificate() };
    let mut observed = with_view(|view| view.certificate = Ok(newer.clone()));
    observed.unsaved = Some(certificate());
    assert!(
        matches!(decide(&object(), &observed, at(2 * DAY)), Decision::Keep { .. }),
        "whichever ends first: it was made later"
    );
    assert_eq!(decide(&object(), &observed, at(60 * DAY)), Decision::Save, "better than one that has expired");
    let mut renewed = with_view(|_| ());
    renewed.unsaved = Some(newer);
    assert_eq!(decide(&object(), &renewed, at(2 * DAY)), Decision::Save);
    renewed.unsaved = Some(certificate());
    assert_eq!(decide(&object(), &renewed, at(2 * DAY)), Decision::Save, "the answer to its write was lost");
}

#[test]
fn of_two_certificates_of_one_second_the_secret_s_stays_unless_another_is_asked_for() {
    let in_memory = CertificateFacts { serial_number: "0B".into(), ..certificate() };
    let observed = Observed { unsaved: Some(in_memory), ..observed() };
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Keep { .. }));
    let mut renewed = object();
    renewed.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "now".to_owned())].into());
    assert_eq!(decide(&renewed, &observed, at(DAY)), Decision::Save);
    let without_issuer = Observed { issuer: IssuerState::Missing, ..observed };
    assert_eq!(decide(&object(), &without_issuer, at(DAY)), Decision::Save);
}

#[test]
fn a_refused_repair_waits_and_a_refused_renewal_holds_up_no_repair() {
    let mut damaged = with_view(|view| view.complete = false);
    damaged.status.failure = failed(Minted::No, Reason::SecretNotWritable).status.failure;
    assert_eq!(reason(&decide(&object(), &damaged, at(1))), Some(Reason::SecretNotWritable));
    damaged.status.failure = failed(Minted::No, Reason::AtlasForbidden).status.failure;
    assert!(matches!(decide(&object(), &damaged, at(1)), Decision::Repair { .. }));
}

#[test]
fn after_three_answers_that_cannot_be_used_no_more_is_asked_for_until_something_changes() {
    let mut observed = failed(Minted::Possibly, Reason::AtlasAnswerUnusable);
    let later = at(90 * DAY / 2);
    assert!(matches!(decide(&object(), &observed, later), Decision::Issue { .. }), "once may be chance");
    observed.status.failure.as_mut().unwrap().count = 3;
    assert!(matches!(decide(&object(), &observed, later), Decision::Refuse { reason: Reason::AtlasAnswerUnusable, .. }));
    let mut changed = object();
    changed.metadata.generation = Some(99);
    assert!(matches!(decide(&changed, &observed, later), Decision::Issue { .. }));
}

#[rstest]
#[case("2160h", Some(2160 * 3600))]
#[case("1h30m5s", Some(5405))]
#[case("90m", Some(5400))]
#[case("000000000001h", Some(3600))]
#[case("999999999999999h16s", Some(3_599_999_999_999_996_416))]
#[case("59s", None)]
#[case("0s", None)]
#[case("", None)]
#[case("h", None)]
#[case("5", None)]
#[case("5d", None)]
#[case("1m1h", None)]
#[case("1h1h", None)]
#[case("1.5h", None)]
#[case("-1h", None)]
#[case("5h-3s", None)]
#[case("99999999999999999999h", None)]
#[case("9223372036854775807h", None)]
fn a_duration_is_what_the_schema_admits_and_nothing_else_has_an_effect(#[case] text: &str, #[case] seconds: Option<i64>) {
    let parsed = parse_duration("spec.duration", text);
    assert_eq!(parsed.as_ref().ok().map(SignedDuration::as_secs), seconds);
    assert!(parsed.is_ok() || parsed.unwrap_err().0.starts_with("spec.duration"));
}

#[test]
fn counters_that_somebody_filled_to_the_brim_stay_there() {
    let full = CertificateFailure {
        count: i64::MAX,
        reason: Reason::AtlasAnswerLost.as_str().to_owned(),
        message: String::new(),
        last_time: Time(at(0)),
        next_attempt: Time(at(0)),
        inputs: String::new(),
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
    let claim = claimed(&object(), &status, "1", Reason::RenewalDue, at(0));
    assert_eq!(claim.issuance.map(|claim| claim.attempt), Some(i64::MAX));
    record_failure(&mut status, &desired, &issuer, &error, at(0));
    assert_eq!(status.failure.map(|failure| failure.count), Some(i64::MAX));
    assert_eq!(status.unaccounted_certificates.map(|found| (found.count, found.presumed)), Some((i64::MAX, i64::MAX)));
}
