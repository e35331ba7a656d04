//! The Secret: ours or not, spoilt, contested, and what is in memory for it.

use super::*;

#[test]
fn a_foreign_secret_is_refused_even_when_a_certificate_waits_in_memory() {
    let observed = Observed { secret: SecretState::NotOurs("x".into()), memory: in_memory(certificate()), ..observed() };
    assert_eq!(reason(&decide(&object(), &observed, at(DAY))), Some(Reason::SecretNotOwned));
}

fn abandoned(fault: Option<&str>) -> Observed {
    let found = AbandonedSecret {
        uid: "secret-uid".into(),
        resource_version: "7".into(),
        owners: Vec::new(),
        whose: "belongs to nobody any more".into(),
        is_retained: false,
        fault: fault.map(ToOwned::to_owned),
    };
    Observed { secret: SecretState::Abandoned(Box::new(found)), ..observed() }
}

#[test]
fn an_abandoned_secret_is_adopted_when_that_is_asked_for_and_its_content_may_be() {
    let mut asks = object();
    asks.metadata.annotations = Some([("usercert.dev/adopt-secret".into(), "true".into())].into());
    assert_eq!(decide(&asks, &abandoned(None), at(DAY)), Decision::Adopt);
    for (object, observed) in [(object(), abandoned(None)), (asks.clone(), abandoned(Some("its type is wrong")))] {
        assert_eq!(reason(&decide(&object, &observed, at(DAY))), Some(Reason::SecretNotOwned));
    }
    let needed = Observed { secret: SecretState::NeededByIssuer("the CertificateIssuer ca".into()), ..observed() };
    assert_eq!(reason(&decide(&asks, &needed, at(DAY))), Some(Reason::SecretNotOwned));
}

#[test]
fn adoption_is_advised_only_where_it_would_work_and_deletion_never_of_what_an_issuer_needs() {
    let message = |observed: &Observed| ready_certificate(&object(), observed, at(DAY)).unwrap_err().1;
    assert!(message(&abandoned(None)).contains("usercert.dev/adopt-secret=true"));
    assert!(!message(&abandoned(Some("its type is wrong"))).contains("usercert.dev/adopt-secret"));
    let foreign = Observed { secret: SecretState::NotOurs("was not made by this operator".into()), ..observed() };
    assert!(!message(&foreign).contains("adopt"));
    let needed = Observed { secret: SecretState::NeededByIssuer("the CertificateIssuer ca".into()), ..observed() };
    assert!(!message(&needed).contains("delete") && !message(&needed).contains("adopt"));
}

#[test]
fn a_certificate_in_memory_is_saved_before_anything_else_is_issued() {
    let observed =
        Observed { secret: SecretState::Absent, memory: in_memory(certificate()), issuer: IssuerState::Missing, ..observed() };
    assert_eq!(decide(&object(), &observed, at(DAY)), Decision::Save);
}

#[rstest]
#[case::labels(with_view(|view| view.complete = false))]
#[case::ca_certificate(with_issuer(|issuer| ca_of(issuer).ca_digest = "new".into()))]
fn what_surrounds_a_good_pair_is_repaired_without_a_new_certificate(#[case] observed: Observed) {
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Repair { .. }));
}

#[rstest]
#[case::no_issuer(Observed { issuer: IssuerState::Missing, ..observed() })]
#[case::an_unusable_issuer(Observed { issuer: IssuerState::Unusable(Reason::CaInvalid, String::new()), ..observed() })]
fn what_was_spoilt_is_repaired_from_what_is_left_though_no_certificate_can_be_had(#[case] mut observed: Observed) {
    let mut view = view();
    (view.complete, view.spoilt, view.issuer) = (false, Some("there is no private key".into()), None);
    observed.secret = SecretState::Ours(Box::new(view.clone()));
    assert_eq!(decide(&object(), &observed, at(DAY)), Decision::Repair { renewal_time: None });
    let (reason, _) = ready_certificate(&object(), &observed, at(DAY)).unwrap_err();
    assert_eq!(reason, Reason::PairUnusable, "until then pods that read it fail");

    observed.memory.repairs = vec![at(DAY); 5];
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Wait { reason: Reason::SecretContested, .. }));
    view.spoilt = None;
    observed.secret = SecretState::Ours(Box::new(view));
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Block { .. }), "nothing tells the issuer's annotation");
}

#[test]
fn what_was_spoilt_is_repaired_before_a_renewal_that_has_to_wait() {
    let mut observed = with_view(|view| (view.complete, view.spoilt) = (false, Some("there is no private key".into())));
    let failure = |reason: Reason| CertificateFailure {
        count: 1,
        count_of_reason: None,
        asked_by_issuer: false,
        reason: reason.as_str().into(),
        message: String::new(),
        last_time: Time(at(0)),
        next_attempt: Time(at(200 * DAY)),
        inputs: String::new(),
        cause: None,
        unlisted: None,
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
fn a_secret_that_is_put_right_again_and_again_is_left_alone_for_a_while_and_the_other_is_named() {
    let mut contested = with_view(|view| {
        view.complete = false;
        view.changed_by = Some("the field manager \"argocd\" (Update)".into());
    });
    let now = at(0);
    contested.memory.repairs = vec![at(-50); 4];
    assert!(matches!(decide(&object(), &contested, now), Decision::Repair { .. }));
    contested.memory.repairs = vec![at(-50); 5];
    let Decision::Wait { until, reason, message } = decide(&object(), &contested, now) else { panic!() };
    assert_eq!((until, reason), (at(550), Reason::SecretContested));
    assert!(message.contains("argocd"), "{message}");
    assert!(ready_certificate(&object(), &contested, now).is_ok(), "its pair works");
    assert!(matches!(decide(&object(), &contested, at(550)), Decision::Repair { .. }));
}

#[test]
fn a_certificate_that_the_secret_refuses_is_tried_again_when_its_time_has_come() {
    let mut observed = Observed { secret: SecretState::Absent, memory: in_memory(certificate()), ..observed() };
    let failure = SaveFailure { until: at(60), reason: Reason::SecretNotWritable, message: "quota".into() };
    observed.memory.unsaved.as_mut().unwrap().failure = Some(failure);
    let first = decide(&object(), &observed, at(0));
    assert_eq!(reason(&first), Some(Reason::SecretNotWritable));
    assert_eq!(first, decide(&object(), &observed, at(30)), "the same status, which is written once");
    assert_eq!(decide(&object(), &observed, at(60)), Decision::Save);
}

#[test]
fn a_working_certificate_is_not_given_up_for_one_in_memory_that_the_spec_wants_no_longer() {
    let mut other = certificate();
    other.subject = Subject::for_user("another").unwrap();
    let mut observed = Observed { memory: in_memory(other), ..observed() };
    observed.status.issuance =
        Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 1, since: Time(at(0)), user: None, process: None });
    assert_eq!(decide(&object(), &observed, at(0)), Decision::CountLostClaim);
    observed.secret = SecretState::Absent;
    assert_eq!(decide(&object(), &observed, at(0)), Decision::Save, "better than nothing");
}

#[test]
fn a_leader_that_was_paused_does_not_replace_its_successor_s_certificate_by_its_older_one() {
    let newer = CertificateFacts { serial_number: "0B".into(), not_before: at(DAY), not_after: at(60 * DAY), ..certificate() };
    let mut observed = with_view(|view| view.certificate = Ok(newer.clone()));
    observed.memory = in_memory(certificate());
    assert!(
        matches!(decide(&object(), &observed, at(2 * DAY)), Decision::Keep { .. }),
        "whichever ends first: it was made later"
    );
    assert_eq!(decide(&object(), &observed, at(60 * DAY)), Decision::Save, "better than one that has expired");
    let mut renewed = with_view(|_| ());
    renewed.memory = in_memory(newer);
    assert_eq!(decide(&object(), &renewed, at(2 * DAY)), Decision::Save);
    renewed.memory = in_memory(certificate());
    assert_eq!(decide(&object(), &renewed, at(2 * DAY)), Decision::Save, "the answer to its write was lost");
}

#[test]
fn of_two_certificates_of_one_second_the_secret_s_stays_unless_another_is_asked_for() {
    let other = CertificateFacts { serial_number: "0B".into(), ..certificate() };
    let observed = Observed { memory: in_memory(other), ..observed() };
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
fn while_the_claim_stands_an_issuer_whose_clock_was_set_back_costs_no_key() {
    let mut observed = Observed { memory: in_memory(CertificateFacts { not_before: at(-DAY), ..certificate() }), ..observed() };
    observed.status.issuance =
        Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 1, since: Time(at(0)), user: None, process: None });
    observed.memory.unsaved.as_mut().unwrap().claim = Some("1".into());
    observed.status.serial_number = Some("0A".into());
    assert_eq!(decide(&object(), &observed, at(0)), Decision::Save);
    observed.status.serial_number = Some("09".into());
    assert_eq!(decide(&object(), &observed, at(0)), Decision::CountLostClaim, "the status is of before another took over");
    observed.status.serial_number = Some("0A".into());
    observed.memory.unsaved.as_mut().unwrap().claim = Some("0".into());
    assert_eq!(decide(&object(), &observed, at(0)), Decision::CountLostClaim, "another has taken over");
}

pub(super) fn with_chains(of_issuer: &str, in_secret: Option<&str>, found_good_for: Option<&str>) -> Observed {
    let mut observed = with_issuer(|issuer| ca_of(issuer).chain_digest = of_issuer.into());
    let mut view = view();
    view.chain.digest = in_secret.map(Into::into);
    observed.secret = SecretState::Ours(Box::new(view));
    observed.status.verified = found_good_for.map(|chain| VerifiedSecret {
        keystore_password: None,
        wrong_type: None,
        uid: "secret-uid".into(),
        resource_version: "7".into(),
        issuer: "CN=CA".into(),
        private_key: "ECDSA 256".into(),
        chain: Some(chain.into()),
        chain_not_after: None,
    });
    observed
}

#[rstest]
#[case::as_written(with_chains("new", Some("new"), None), true)]
#[case::remembered(with_chains("new", None, Some("new")), true)]
#[case::changed_since(with_chains("new", None, Some("old")), false)]
#[case::changed_and_read(with_chains("new", Some("old"), Some("old")), false)]
#[case::of_another_release(with_chains("new", Some("other"), None), true)]
#[case::of_another_release_and_remembered(with_chains("new", Some("other"), Some("new")), true)]
fn a_chain_is_rebuilt_when_the_issuer_s_has_changed(#[case] observed: Observed, #[case] is_kept: bool) {
    let decision = decide(&object(), &observed, at(DAY));
    assert_eq!(matches!(decision, Decision::Keep { .. }), is_kept, "{decision:?}");
    assert!(is_kept || matches!(decision, Decision::Repair { renewal_time: Some(_) }), "{decision:?}");
    let status = next_status(&object(), &observed, &decision, at(DAY));
    let before = observed.status.verified.clone().and_then(|verified| verified.chain);
    assert_eq!(status.verified.unwrap().chain, if is_kept { Some("new".to_owned()) } else { before });
}

#[test]
fn a_secret_that_does_not_verify_by_itself_is_not_ready_and_is_rebuilt() {
    let mut observed = with_chains("new", Some("new"), Some("new"));
    let SecretState::Ours(view) = &mut observed.secret else { panic!() };
    view.chain.fault = Some("tls.crt does not lead to ca.crt".into());
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Repair { renewal_time: Some(_) }));
    let (reason, message) = ready_certificate(&object(), &observed, at(DAY)).unwrap_err();
    assert_eq!(
        (reason, message.as_str()),
        (Reason::ChainBroken, "the Secret does not verify: tls.crt does not lead to ca.crt")
    );
    observed.status.failure = failed(Minted::No, Reason::ChainBroken).status.failure;
    assert_eq!(super::reason(&decide(&object(), &observed, at(1))), Some(Reason::ChainBroken), "what cannot be rebuilt waits");
    assert_eq!(cause(&decide(&object(), &observed, at(DAY))), Some(Reason::ChainBroken), "and is issued anew");
    let with_new_issuer =
        |issuer: &mut IssuerFacts| (ca_of(issuer).chain_digest, issuer.version) = ("newer".into(), "2".into());
    let changed = Observed { issuer: with_issuer(with_new_issuer).issuer, ..observed.clone() };
    assert!(matches!(decide(&object(), &changed, at(DAY)), Decision::Repair { .. }), "another chain may do");
    observed.issuer = IssuerState::Missing;
    assert!(matches!(decide(&object(), &observed, at(DAY)), Decision::Block { .. }), "only the issuer has the rest");
}

#[test]
fn a_failure_to_issue_what_cannot_be_rebuilt_is_waited_for() {
    let mut observed = with_chains("new", Some("new"), Some("new"));
    let SecretState::Ours(view) = &mut observed.secret else { panic!() };
    view.chain.fault = Some("tls.crt does not lead to ca.crt".into());
    observed.status.failure = failed(Minted::No, Reason::ChainBroken).status.failure;
    let (desired, because) = match decide(&object(), &observed, at(DAY)) {
        Decision::Issue { desired, cause } => (desired, cause),
        other => panic!("{other:?}"),
    };
    let error = IssueError { reason: Reason::SigningFailed, message: "no".into(), retry: Retry::Backoff, minted: Minted::No };
    record_failure(
        &mut observed.status,
        Some(&Inputs::new(&desired, &issuer(IssuerType::Ca))),
        &desired.uid,
        Some(because),
        &error,
        at(DAY),
    );
    assert_eq!(super::reason(&decide(&object(), &observed, at(DAY + 1))), Some(Reason::SigningFailed));
    assert_eq!(observed.status.failure.as_ref().unwrap().count, 2, "the waits grow");
    assert_eq!(cause(&decide(&object(), &observed, at(2 * DAY))), Some(Reason::ChainBroken), "and it is tried again");
}

#[test]
fn a_certificate_whose_ca_ends_first_is_ready_until_then() {
    let mut observed = with_chains("new", Some("new"), Some("new"));
    let SecretState::Ours(view) = &mut observed.secret else { panic!() };
    view.chain.not_after = Some(at(10 * DAY));
    let status = |now| {
        let decision = decide(&object(), &observed, now);
        (next_status(&object(), &observed, &decision, now), next_look(&observed, &decision, now))
    };
    let (before, next) = status(at(DAY));
    assert_eq!(next, Some(at(10 * DAY)));
    let ready = condition(&before.conditions, READY).unwrap();
    assert_eq!(ready.status, "True");
    assert!(ready.message.contains("and the CA above it until 1970-01-11T00:00:00Z"), "{}", ready.message);
    assert_eq!(before.verified.unwrap().chain_not_after, Some(Time(at(10 * DAY))));
    let (after, _) = status(at(10 * DAY));
    let ready = condition(&after.conditions, READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ChainBroken"), "{}", ready.message);
}

#[test]
fn a_repair_that_waits_is_looked_at_when_the_certificate_is_due() {
    let mut observed = observed();
    observed.status.renewal_time = Some(Time(at(100)));
    let waits = Decision::Wait { until: at(1000), reason: Reason::SecretNotWritable, message: String::new() };
    assert_eq!(next_look(&observed, &waits, at(0)), Some(at(100)));
    assert_eq!(next_look(&observed, &waits, at(100)), Some(at(1000)));
}
