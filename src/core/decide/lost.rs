//! Claims whose certificate never reached its Secret: whether it was made, who may still save it, and when the next one is asked for.
//!
//! | Atlas lists the certificate | The process that claimed | The next one is asked for |
//! | --- | --- | --- |
//! | yes | is known to have ended | at once |
//! | yes | may live | after a minute: by then it would have saved the certificate |
//! | not yet | either | after five minutes: by then the request has had its effect. Meanwhile Atlas is asked again, after 15 seconds first, and the lines above hold from when it lists the certificate |
//!
//! A list may lag behind the request, so its silence proves nothing. After a second loss in a row the wait is that of a lost answer in any
//! case, so that a process which dies of each answer does not use up the budget.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Minted, Retry,
    backoff::{awaits_lost_answer, next_attempt},
};
use crate::{
    api::{CertificateFailure, DatabaseUserCertificateStatus, Issuance, Reason, UnlistedClaim, truncated_to_second},
    certificate::SerialNumber,
};

/// A process that has lost the lead, and reaches the API server, has saved what it made by then: it tries every two seconds, and a request
/// may take twenty (`controller::pass::drain`, `controller::kubernetes`).
const SAVED_BY_THEN: SignedDuration = SignedDuration::from_mins(1);

/// How many claims the status remembers of those whose certificates are presumed: as many as the schema admits.
const PRESUMED_CLAIMS: usize = 20;

/// When Atlas is asked again for the first time. Each further wait is twice as long as the one before it.
const FIRST_QUESTION: SignedDuration = SignedDuration::from_secs(15);

/// Counts a certificate that may have been made and that no Secret holds. `claim`: the claim under which a process that is cut off or paused may
/// save it yet; none if the answer was lost.
pub(super) fn count_lost(status: &mut DatabaseUserCertificateStatus, claim: Option<&str>) {
    let unaccounted = status.unaccounted_certificates.get_or_insert_default();
    unaccounted.presumed = unaccounted.presumed.saturating_add(1);
    unaccounted.count = unaccounted.count.saturating_add(1);
    unaccounted.presumed_claims.extend(claim.map(ToOwned::to_owned));
    keep_newest(&mut unaccounted.presumed_claims, PRESUMED_CLAIMS);
}

/// Drops the oldest of these claims, so that no more than so many are left.
pub(super) fn keep_newest(claims: &mut Vec<String>, most: usize) {
    let surplus = claims.len().saturating_sub(most);
    claims.drain(..surplus);
}

/// Takes the certificate in the Secret out of the count. It was counted as lost, and saved after all by the process that had it.
///
/// Either its serial number is counted, if Atlas has listed it meanwhile, or its claim. The questions to Atlas about the claim end too.
pub(super) fn uncount_saved(status: &mut DatabaseUserCertificateStatus, serial_number: &SerialNumber, claim: Option<&str>) {
    if let Some(failure) = &mut status.failure {
        failure.unlisted.take_if(|unlisted| Some(unlisted.claim.id.as_str()) == claim);
    }
    let Some(unaccounted) = &mut status.unaccounted_certificates else { return };
    let before = (unaccounted.certificates.len(), unaccounted.presumed_claims.len());
    unaccounted.certificates.retain(|listed| listed.serial_number != serial_number.as_str());
    unaccounted.presumed_claims.retain(|presumed| Some(presumed.as_str()) != claim);
    if unaccounted.certificates.len() < before.0 {
        unaccounted.latest_expiry = unaccounted.certificates.iter().map(|listed| listed.not_after.clone()).max();
    } else if unaccounted.presumed_claims.len() < before.1 && unaccounted.presumed > 0 {
        unaccounted.presumed -= 1;
    } else {
        return;
    }
    unaccounted.count = unaccounted.count.saturating_sub(1);
    if unaccounted.count <= 0 {
        status.unaccounted_certificates = None;
    }
}

/// Records a claim whose certificate never reached the Secret, and which Atlas does not list, as far as it is known.
pub fn record_lost_claim(status: &mut DatabaseUserCertificateStatus, uid: &str, now: Timestamp) {
    let Some(claim) = status.issuance.take() else { return };
    let message = format!(
        "a certificate was asked for at {} and is not in the Secret: Atlas may have made it, and its key counts as lost",
        claim.since.0
    );
    count_lost(status, Some(&claim.id));
    let losses = losses_before(status) + 1;
    let failure = failure(&claim, message, (Retry::Backoff, Minted::Possibly), losses, uid, now);
    let can_be_told = losses == 1 && claim.user.as_ref().is_some_and(|user| user.listed.is_some());
    let next_question = Time(truncated_to_second(now.saturating_add(FIRST_QUESTION).unwrap_or(Timestamp::MAX)));
    let unlisted = can_be_told.then_some(UnlistedClaim { claim, next_question });
    status.failure = Some(CertificateFailure { unlisted, ..failure });
}

/// Records that Atlas lists the certificate of a claim, of one that stands or of one that was counted as lost before, and that nobody holds it:
/// its key is lost. The list, which has it, is recorded already. `has_ended`: whether a process is known to have ended.
pub fn record_known_loss(
    status: &mut DatabaseUserCertificateStatus,
    uid: &str,
    has_ended: impl FnOnce(&str) -> bool,
    now: Timestamp,
) {
    let unlisted = || status.failure.as_ref().and_then(|failure| failure.unlisted.as_ref());
    let earlier = unlisted().map(|unlisted| unlisted.claim.clone()).filter(|_| status.issuance.is_none());
    // It was counted before, and has its wait.
    let latest = earlier.as_ref().and(status.failure.as_ref()).map(|failure| failure.next_attempt.0);
    // Of an earlier claim Atlas is asked only if it was the first in a row that was lost.
    let losses = if earlier.is_some() { 1 } else { losses_before(status) + 1 };
    let Some(claim) = status.issuance.take().or(earlier) else { return };
    let wait = match losses {
        1 if claim.process.as_deref().is_some_and(has_ended) => (Retry::At(now), Minted::No),
        1 => (Retry::NotBefore(SAVED_BY_THEN), Minted::No),
        _ => (Retry::Backoff, Minted::Possibly),
    };
    let message = format!(
        "a certificate was asked for at {} and is not in the Secret: Atlas lists it, and its key counts as lost",
        claim.since.0
    );
    let mut failure = failure(&claim, message, wait, losses, uid, now);
    failure.next_attempt.0 = latest.map_or(failure.next_attempt.0, |latest| latest.min(failure.next_attempt.0));
    status.failure = Some(failure);
}

/// How many answers in a row were lost before. Failures of another kind cost no certificate, and do not count.
fn losses_before(status: &DatabaseUserCertificateStatus) -> i64 {
    status.failure.as_ref().map_or(0, |failure| failure.in_a_row(Reason::AtlasAnswerLost))
}

fn failure(
    claim: &Issuance,
    message: String,
    (retry, minted): (Retry, Minted),
    losses: i64,
    uid: &str,
    now: Timestamp,
) -> CertificateFailure {
    CertificateFailure {
        count: claim.attempt.max(1),
        count_of_reason: Some(losses),
        reason: Reason::AtlasAnswerLost.as_str().to_owned(),
        message,
        last_time: Time(truncated_to_second(now)),
        next_attempt: Time(next_attempt(retry, minted, losses, uid, now)),
        asked_by_issuer: false,
        inputs: String::new(),
        cause: Some(claim.reason.clone()),
        unlisted: None,
    }
}

/// The claim of which Atlas has to say what became of it: one that stands, or one that was counted as lost before Atlas listed its
/// certificate.
pub(super) fn claim_in_question(status: &DatabaseUserCertificateStatus) -> Option<&Issuance> {
    let unlisted = || Some(&status.failure.as_ref()?.unlisted.as_ref()?.claim);
    status.issuance.as_ref().or_else(unlisted)
}

/// When Atlas is asked again whether it lists the certificate of a claim that was counted as lost.
pub(super) fn next_question(status: &DatabaseUserCertificateStatus) -> Option<Timestamp> {
    Some(status.failure.as_ref()?.unlisted.as_ref()?.next_question.0)
}

/// Whether it is time for that.
pub(super) fn looks_for_lost(status: &DatabaseUserCertificateStatus, now: Timestamp) -> bool {
    is_unlisted(status, now) && next_question(status).is_some_and(|next| next <= now)
}

/// Whether Atlas may yet list the certificate of a claim that was counted as lost.
pub(super) fn is_unlisted(status: &DatabaseUserCertificateStatus, now: Timestamp) -> bool {
    let is_waited_for = |failure: &CertificateFailure| failure.unlisted.is_some() && awaits_lost_answer(failure, now);
    status.failure.as_ref().is_some_and(is_waited_for)
}

/// Records that Atlas was asked again and does not list the certificate. It is asked no more once the wait is over.
pub(super) fn record_still_unlisted(status: &mut DatabaseUserCertificateStatus, now: Timestamp) {
    let Some(failure) = &mut status.failure else { return };
    let waited = now.duration_since(failure.last_time.0).max(SignedDuration::ZERO);
    let next = now.saturating_add(waited + FIRST_QUESTION).unwrap_or(Timestamp::MAX).min(failure.next_attempt.0);
    if let Some(unlisted) = &mut failure.unlisted {
        unlisted.next_question = Time(truncated_to_second(next));
    }
}

/// Whether the process of this name is known to have ended, so that it neither asks for anything nor saves anything any more. Either proves it:
///
/// - It gave up the Lease at its end, after all its requests, and wrote its name there.
/// - It ran in the Pod of this process: a container is started again only when its process has ended. Names are that of the Pod and something
///   random; a process that does not know its Pod has a name without `_`.
#[must_use]
pub fn ended(former: &str, own: Option<&str>, released_by: Option<&str>) -> bool {
    let pod = |name: &str| name.rsplit_once('_').map(|(pod, _)| pod.to_owned()).filter(|pod| !pod.is_empty());
    let Some(own) = own.filter(|own| *own != former) else { return false };
    released_by == Some(former) || pod(own).is_some() && pod(own) == pod(former)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::{
        api::{ClaimedUser, ListedBefore},
        decide::{ListedCertificate, record_list},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn claimed() -> DatabaseUserCertificateStatus {
        let listed = Some(ListedBefore { serial_numbers: Vec::new(), others_until: None });
        let issuance = Issuance {
            id: "1".into(),
            reason: "NoCertificate".into(),
            attempt: 1,
            since: Time(at(0)),
            user: Some(ClaimedUser { key: "user".into(), listed }),
            process: Some("pod-1_a".into()),
        };
        DatabaseUserCertificateStatus { issuance: Some(issuance), ..DatabaseUserCertificateStatus::default() }
    }

    #[test]
    fn a_claim_that_is_known_to_be_lost_is_removed_by_the_merge_patch_of_the_status() {
        let mut status = claimed();
        record_lost_claim(&mut status, "uid", at(0));
        assert!(looks_for_lost(&status, at(15)) && !looks_for_lost(&status, at(14)));
        record_known_loss(&mut status, "uid", |_| true, at(16));
        let failure = serde_json::to_value(&status).unwrap()["failure"].clone();
        assert_eq!(failure.get("unlisted"), Some(&Value::Null), "what is left out stays");
        assert_eq!(status.failure.unwrap().next_attempt.0, at(16));
    }

    #[test]
    fn what_is_counted_by_its_claim_is_not_counted_once_it_is_saved() {
        let mut status = claimed();
        record_lost_claim(&mut status, "uid", at(0));
        uncount_saved(&mut status, &"0A".into(), Some("2"));
        assert_eq!(counted(&status), Some((1, 1)), "another certificate says nothing");
        uncount_saved(&mut status, &"0A".into(), Some("1"));
        assert_eq!(counted(&status), None);
        assert!(!looks_for_lost(&status, at(60)), "Atlas is asked no more");
        assert!(status.failure.is_some(), "the wait stays");
    }

    #[test]
    fn what_is_counted_by_its_serial_number_is_not_counted_once_it_is_saved() {
        let listed =
            |serial: &str, seconds| ListedCertificate { serial_number: serial.into(), made_at: at(0), not_after: at(seconds) };
        let mut status = claimed();
        record_lost_claim(&mut status, "uid", at(0));
        count_lost(&mut status, None);
        record_list(&mut status, &[listed("0A", 900), listed("0B", 800)], &BTreeSet::new(), at(16));
        record_known_loss(&mut status, "uid", |_| false, at(16));
        count_lost(&mut status, Some("3"));
        assert_eq!(counted(&status), Some((3, 1)));
        uncount_saved(&mut status, &"0A".into(), Some("1"));
        assert_eq!(counted(&status), Some((2, 1)), "once, though its claim was counted too");
        let latest = status.unaccounted_certificates.as_ref().and_then(|found| found.latest_expiry.clone());
        assert_eq!(latest, Some(Time(at(800))));
        uncount_saved(&mut status, &"0A".into(), Some("1"));
        assert_eq!(counted(&status), Some((2, 1)));
        uncount_saved(&mut status, &"0C".into(), Some("3"));
        assert_eq!(counted(&status), Some((1, 0)));
    }

    /// The list has one of another cluster. What is presumed after that is another certificate.
    #[test]
    fn a_claim_whose_place_a_listed_certificate_took_takes_nothing_from_the_others() {
        let mut status = claimed();
        record_lost_claim(&mut status, "uid", at(0));
        let foreign = ListedCertificate { serial_number: "0F".into(), made_at: at(0), not_after: at(900) };
        record_list(&mut status, &[foreign], &BTreeSet::new(), at(16));
        assert_eq!(counted(&status), Some((1, 0)));
        count_lost(&mut status, None);
        uncount_saved(&mut status, &"0A".into(), Some("1"));
        assert_eq!(counted(&status), Some((2, 1)));
    }

    #[test]
    fn the_status_remembers_the_newest_twenty_claims() {
        let mut status = claimed();
        (0..25).for_each(|claim| count_lost(&mut status, Some(&claim.to_string())));
        let found = status.unaccounted_certificates.unwrap();
        assert_eq!((found.count, found.presumed_claims.len()), (25, 20));
        assert_eq!(found.presumed_claims.last().map(String::as_str), Some("24"));
    }

    /// How many are counted, and how many of them are presumed.
    fn counted(status: &DatabaseUserCertificateStatus) -> Option<(i64, i64)> {
        status.unaccounted_certificates.as_ref().map(|found| (found.count, found.presumed))
    }

    fn after(reason: Reason, count: i64, count_of_reason: i64) -> DatabaseUserCertificateStatus {
        let failure = CertificateFailure {
            count,
            count_of_reason: Some(count_of_reason),
            reason: reason.as_str().to_owned(),
            message: "before".into(),
            last_time: Time(at(-60)),
            next_attempt: Time(at(-1)),
            asked_by_issuer: false,
            inputs: String::new(),
            cause: None,
            unlisted: None,
        };
        let mut status = claimed();
        status.issuance.iter_mut().for_each(|claim| claim.attempt = count + 1);
        DatabaseUserCertificateStatus { failure: Some(failure), ..status }
    }

    #[test]
    fn failures_of_another_kind_before_it_make_the_wait_after_a_loss_no_longer() {
        let wait = |status: &DatabaseUserCertificateStatus| {
            status.failure.as_ref().unwrap().next_attempt.0.duration_since(at(0)).as_secs()
        };
        let outage = || after(Reason::AtlasUnavailable, 7, 7);
        let mut lost = outage();
        record_lost_claim(&mut lost, "uid", at(0));
        assert!((300..=330).contains(&wait(&lost)) && next_question(&lost) == Some(at(15)), "{lost:?}");
        let mut known = outage();
        record_known_loss(&mut known, "uid", |_| true, at(0));
        assert_eq!(wait(&known), 0);
        let mut second = after(Reason::AtlasAnswerLost, 1, 1);
        record_known_loss(&mut second, "uid", |_| true, at(0));
        assert!((600..=660).contains(&wait(&second)), "{second:?}");
        assert_eq!(second.failure.unwrap().count_of_reason, Some(2));
    }

    #[test]
    fn what_is_listed_late_makes_no_wait_longer() {
        let mut status = claimed();
        record_lost_claim(&mut status, "uid", at(0));
        let before = status.failure.clone().unwrap().next_attempt.0;
        record_known_loss(&mut status, "uid", |_| false, at(290));
        assert_eq!(status.failure.unwrap().next_attempt.0, before);
    }
}
