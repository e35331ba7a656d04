//! What the conditions tell of what goes wrong, and what they do not.

use super::*;
use crate::api::{RENEWAL_FAILED, STALLED};

/// The condition's reason if it is there, which it is only while it is True.
fn held<'a>(status: &'a DatabaseUserCertificateStatus, type_: &str) -> Option<&'a str> {
    let condition = condition(&status.conditions, type_)?;
    assert_eq!(condition.status, "True", "{type_} is absent when it does not hold");
    Some(&condition.reason)
}

fn status_at(observed: &Observed, now: Timestamp) -> DatabaseUserCertificateStatus {
    next_status(&object(), observed, &decide(&object(), observed, now), now)
}

#[rstest]
#[case::wrong_credentials(Reason::AtlasUnauthorized, true)]
#[case::refused_write(Reason::SecretNotWritable, true)]
#[case::failed_write(Reason::SecretWriteFailed, false)]
#[case::unavailable(Reason::AtlasUnavailable, false)]
#[case::user_not_there_yet(Reason::AtlasUserNotFound, false)]
fn an_object_without_a_certificate_is_stalled_while_a_person_is_needed(#[case] why: Reason, #[case] needs_person: bool) {
    let mut observed = failed(Minted::No, why);
    let status = status_at(&observed, at(60));
    assert_eq!(held(&status, STALLED), needs_person.then_some(why.as_str()));
    assert_eq!(held(&status, RENEWAL_FAILED), None, "there is nothing to renew");

    observed.status = status;
    observed.secret = SecretState::Ours(Box::new(view()));
    let ready = status_at(&observed, at(120));
    assert_eq!(held(&ready, STALLED), None, "a success takes it away");
}

#[test]
fn a_failing_renewal_is_told_while_the_certificate_works() {
    let due = at(85 * DAY);
    let mut observed = observed();
    let Decision::Issue { desired, .. } = decide(&object(), &observed, due) else { panic!() };
    let error =
        IssueError { reason: Reason::AtlasUnauthorized, message: "no".into(), retry: Retry::Slowly, minted: Minted::No };
    record_failure(
        &mut observed.status,
        Some(&Inputs::new(&desired, &issuer(IssuerType::Ca))),
        &desired.uid,
        None,
        &error,
        due,
    );
    observed.status = status_at(&observed, due);
    assert_eq!(held(&observed.status, RENEWAL_FAILED), Some("AtlasUnauthorized"));
    assert_eq!(held(&observed.status, STALLED), None, "it is Ready");

    let again = at(86 * DAY);
    observed.status = status_at(&observed, again);
    assert_eq!(held(&observed.status, RENEWAL_FAILED), Some("AtlasUnauthorized"), "the next attempt is no success yet");

    let expired = status_at(&observed, at(90 * DAY));
    assert_eq!(held(&expired, RENEWAL_FAILED), None, "nothing works any more");

    let renewed = CertificateFacts { not_before: again, not_after: at(180 * DAY), ..certificate() };
    observed.secret = SecretState::Ours(Box::new(SecretView { certificate: Ok(renewed), ..view() }));
    assert_eq!(held(&status_at(&observed, again), RENEWAL_FAILED), None);
}

#[test]
fn a_certificate_that_nothing_could_renew_says_so() {
    let refused = IssuerState::Unusable(Reason::CaInvalid, "garbage".into());
    for (issuer, why) in [(IssuerState::Missing, "IssuerNotFound"), (refused, "CaInvalid")] {
        let observed = Observed { issuer, ..observed() };
        assert_eq!(held(&status_at(&observed, at(DAY)), RENEWAL_FAILED), Some(why));
    }
}

#[test]
fn a_secret_that_cannot_be_put_right_is_no_matter_of_renewal() {
    let mut contested = with_view(|view| view.complete = false);
    contested.memory.repairs = vec![at(DAY); 5];
    let status = status_at(&contested, at(DAY + 1));
    assert_eq!(condition(&status.conditions, ISSUING).map(|issuing| issuing.reason.as_str()), Some("SecretContested"));
    assert_eq!(held(&status, RENEWAL_FAILED), None);
}

#[rstest]
#[case::room("1944h", None)]
#[case::longer_than_nine_tenths("1945h", Some("is cut to nine tenths"))]
#[case::longer_than_the_lifetime("2160h", Some("a third of that is taken"))]
fn a_renew_before_that_cannot_be_kept_is_said(#[case] renew_before: &str, #[case] words: Option<&str>) {
    let mut object = object();
    object.spec.renew_before = Some(renew_before.to_owned());
    object.spec.duration = Some("2400h".to_owned());
    let decision = decide(&object, &observed(), at(60));
    let status = next_status(&object, &observed(), &decision, at(60));
    let message = &condition(&status.conditions, ISSUING).unwrap().message;
    assert!(message.starts_with("nothing to do before "), "{message}");
    assert_eq!(message.contains("spec.renewBefore"), words.is_some(), "{message}");
    assert!(words.is_none_or(|words| message.contains(words)), "{message}");
}

#[rstest]
fn durations_that_the_schema_refuses_are_refused_though_jiff_reads_them(
    #[values("2 hours", "1h 30m", "1.5h", "PT2H", "2h ago", "+2h")] text: &str,
) {
    assert!(text.parse::<SignedDuration>().is_ok(), "jiff's parser may be taken by now");
    assert!(parse_duration("spec.duration", text).is_err());
}
