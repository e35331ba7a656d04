//! An object of which not all can be read: what is there is kept, and nothing is made for it.

use super::*;

fn unreadable(observed: Observed) -> Observed {
    Observed { unreadable: Some("the status cannot be read (status.notAfter: x)".into()), ..observed }
}

#[rstest]
#[case::no_secret(Observed { secret: SecretState::Absent, ..observed() })]
#[case::renewal_due(with_view(|view| view.certificate.as_mut().unwrap().not_after = at(DAY + 1)))]
#[case::a_pair_that_is_lost(with_view(|view| view.certificate = Err("x".into())))]
#[case::at_atlas(Observed { secret: SecretState::Absent, issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))), ..observed() })]
#[case::an_issuer_not_looked_at_yet(Observed { secret: SecretState::Absent, issuer: IssuerState::Unknown, ..observed() })]
#[case::nothing_to_do(observed())]
fn nothing_is_issued_for_what_may_hold_a_claim(#[case] observed: Observed) {
    let decision = decide(&object(), &unreadable(observed), at(DAY));
    let Decision::Block { reason: Reason::ObjectUnreadable, message } = decision else { panic!("{decision:?}") };
    assert!(message.contains("status.notAfter") && message.contains("correct"), "{message}");
}

#[test]
fn a_claim_that_can_be_read_is_not_accounted_for_beside_what_cannot() {
    let mut observed = unreadable(Observed { secret: SecretState::Absent, ..observed() });
    observed.status.issuance =
        Some(Issuance { id: "1".into(), reason: "x".into(), attempt: 1, since: Time(at(0)), user: None, process: None });
    assert_eq!(reason(&decide(&object(), &observed, at(DAY))), Some(Reason::ObjectUnreadable));
}

#[test]
fn what_was_made_is_saved_and_what_was_damaged_repaired_all_the_same() {
    let unsaved = unreadable(Observed { secret: SecretState::Absent, memory: in_memory(certificate()), ..observed() });
    assert_eq!(decide(&object(), &unsaved, at(DAY)), Decision::Save);
    let damaged = unreadable(with_view(|view| view.complete = false));
    assert_eq!(decide(&object(), &damaged, at(DAY)), Decision::Repair { renewal_time: None });
    let foreign = unreadable(Observed { secret: SecretState::NotOurs("x".into()), ..observed() });
    assert_eq!(reason(&decide(&object(), &foreign, at(DAY))), Some(Reason::SecretNotOwned));
}

/// The spec that is seen has nothing but defaults.
fn without_spec(observed: Observed) -> (DatabaseUserCertificate, Observed) {
    let object = DatabaseUserCertificate { spec: DatabaseUserCertificateSpec::default(), ..object() };
    let unreadable = Some("the object cannot be read (spec.formats: x)".into());
    let issuer = IssuerState::Missing;
    (object, Observed { unreadable, is_spec_unreadable: true, issuer, ..observed })
}

#[rstest]
#[case::written_for_more(with_view(|view| view.layout.digest = "formats".into()))]
#[case::incomplete_for_the_defaults(with_view(|view| view.complete = false))]
#[case::spoilt(with_view(|view| (view.complete, view.spoilt) = (false, Some("there is no private key".into()))))]
#[case::with_a_former_pair(with_view(|view| view.previous_not_after = Some(at(1))))]
fn nothing_is_taken_out_of_a_secret_for_a_spec_that_cannot_be_read(#[case] observed: Observed) {
    let mut outrun = in_memory(certificate());
    outrun.unsaved.as_mut().unwrap().certificate.not_before = at(-DAY);
    for memory in [ObjectMemory::default(), outrun] {
        let (object, observed) = without_spec(Observed { memory, ..observed.clone() });
        let decision = decide(&object, &observed, at(DAY));
        assert!(decision == Decision::Save || reason(&decision) == Some(Reason::ObjectUnreadable), "{decision:?}");
    }
}

/// The Secret has the certificate of a former user, and the spec that named another cannot be read any more.
#[test]
fn a_certificate_in_memory_is_not_given_up_for_another_subject_that_nobody_may_want() {
    let of_other = CertificateFacts { subject: Subject::for_user("other").unwrap(), not_before: at(1), ..certificate() };
    let (object, observed) = without_spec(Observed { memory: in_memory(of_other), ..observed() });
    assert_eq!(decide(&object, &observed, at(DAY)), Decision::Save);
}
