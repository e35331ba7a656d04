//! A database user's account: the certificates that were made for it, and those of them that nobody holds.
//!
//! Atlas can neither revoke nor return what it made, and limits how many a user may have. So what was made is counted, by Atlas's
//! own list where it can be had, and no more is made in a day than the objects that name the user can need.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Decision, brake::Brake};
use crate::{
    api::{
        DatabaseUserCertificateStatus, Reason, UnaccountedCertificate, UnaccountedCertificates,
        names::RENEW_REQUESTED_ANNOTATION, truncated_to_second,
    },
    issuer::atlas::ListedCertificate,
};

/// So many certificates of a user in a day are borne besides one for each object that names it: lost answers, deleted Secrets.
const SPARE_MINTS: usize = 4;
const BUDGET_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// So many are named in the status; all are counted.
const NAMED: usize = 20;

/// What is known of the certificates of one database user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAccount {
    /// When each certificate was made that is known of, or may have been.
    pub made: Vec<Timestamp>,
    /// How many objects name the user.
    pub objects: usize,
}

/// The wait until one more certificate is within the user's budget; `None` if it is.
pub(super) fn over_budget(account: &UserAccount, username: &str, now: Timestamp) -> Option<Decision> {
    let objects = account.objects.max(1);
    let brake = Brake { allowed: objects + SPARE_MINTS, window: BUDGET_WINDOW };
    let (recent, until) = brake.hold(account.made.iter().copied(), now)?;
    Some(Decision::Wait {
        until,
        reason: Reason::AtlasMintBudget,
        message: format!(
            "{recent} certificates were made for the database user {username:?} within a day, and {objects} object(s) here name it: find out what else asks for them (another cluster or program, lost answers, a Secret that keeps being deleted); the annotation {RENEW_REQUESTED_ANNOTATION} has one made all the same"
        ),
    })
}

/// Counts a certificate that may have been made and whose key is lost.
pub(super) fn count_lost(status: &mut DatabaseUserCertificateStatus) {
    let unaccounted = status.unaccounted_certificates.get_or_insert_default();
    unaccounted.presumed = unaccounted.presumed.saturating_add(1);
    unaccounted.count = unaccounted.count.saturating_add(1);
}

/// Replaces what was presumed by what Atlas lists and no Secret of ours holds or has held.
pub fn record_list(
    status: &mut DatabaseUserCertificateStatus,
    listed: &[ListedCertificate],
    accounted: &BTreeSet<String>,
    now: Timestamp,
) {
    let mut unaccounted: Vec<&ListedCertificate> =
        listed.iter().filter(|listed| listed.not_after > now && !accounted.contains(&listed.serial_number)).collect();
    unaccounted.sort_by_key(|listed| std::cmp::Reverse(listed.not_after));
    status.unaccounted_certificates = unaccounted.first().map(|latest| UnaccountedCertificates {
        count: i64::try_from(unaccounted.len()).unwrap_or(i64::MAX),
        presumed: 0,
        latest_expiry: Some(Time(latest.not_after)),
        certificates: unaccounted
            .iter()
            .take(NAMED)
            .map(|listed| UnaccountedCertificate {
                serial_number: listed.serial_number.clone(),
                not_after: Time(listed.not_after),
            })
            .collect(),
        listed_at: Some(Time(truncated_to_second(now))),
    });
}

/// Drops those that have expired since they were listed.
pub(super) fn drop_expired(status: &mut DatabaseUserCertificateStatus, now: Timestamp) {
    let Some(unaccounted) = &mut status.unaccounted_certificates else { return };
    if unaccounted.latest_expiry.as_ref().is_some_and(|latest| latest.0 <= now) {
        unaccounted.count = unaccounted.presumed;
        unaccounted.latest_expiry = None;
        unaccounted.certificates.clear();
    }
    let named = unaccounted.certificates.len();
    unaccounted.certificates.retain(|certificate| certificate.not_after.0 > now);
    let expired = i64::try_from(named - unaccounted.certificates.len()).unwrap_or_default();
    unaccounted.count = unaccounted.count.saturating_sub(expired);
    if unaccounted.count <= 0 {
        status.unaccounted_certificates = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn listed(serial: &str, hours: i64) -> ListedCertificate {
        ListedCertificate { serial_number: serial.to_owned(), made_at: at(0), not_after: at(hours) }
    }

    #[test]
    fn a_user_s_budget_is_one_for_each_object_and_four_to_spare_a_day() {
        let mut account = UserAccount { made: (0..4).map(at).collect(), objects: 1 };
        assert_eq!(over_budget(&account, "orders", at(5)), None);
        account.made.push(at(4));
        let Some(Decision::Wait { until, reason, .. }) = over_budget(&account, "orders", at(5)) else { panic!() };
        assert_eq!((until, reason), (at(24), Reason::AtlasMintBudget));
        assert_eq!(over_budget(&account, "orders", at(24)), None, "the first has left the window");
        account.objects = 2;
        assert_eq!(over_budget(&account, "orders", at(5)), None);
        account.made.extend([at(4), at(5)]);
        let Some(Decision::Wait { until, .. }) = over_budget(&account, "orders", at(5)) else { panic!() };
        assert_eq!(until, at(25), "two of seven must leave");
    }

    #[test]
    fn what_was_presumed_is_replaced_by_what_is_listed() {
        let mut status = DatabaseUserCertificateStatus::default();
        count_lost(&mut status);
        count_lost(&mut status);
        assert_eq!(status.unaccounted_certificates.as_ref().map(|found| (found.count, found.presumed)), Some((2, 2)));
        let accounted = BTreeSet::from(["0A".to_owned()]);
        record_list(&mut status, &[listed("0A", 9), listed("0B", 5), listed("0C", 7), listed("0D", -1)], &accounted, at(1));
        let found = status.unaccounted_certificates.clone().unwrap();
        assert_eq!((found.count, found.presumed, found.latest_expiry.unwrap().0), (2, 0, at(7)));
        assert_eq!(found.certificates.iter().map(|one| one.serial_number.as_str()).collect::<Vec<_>>(), ["0C", "0B"]);
        count_lost(&mut status);
        drop_expired(&mut status, at(6));
        assert_eq!(status.unaccounted_certificates.as_ref().unwrap().count, 2, "one listed and one presumed");
        drop_expired(&mut status, at(7));
        assert_eq!(status.unaccounted_certificates.as_ref().unwrap().count, 1, "the presumed one");
        record_list(&mut status, &[listed("0A", 9)], &accounted, at(8));
        assert_eq!(status.unaccounted_certificates, None);
    }
}
