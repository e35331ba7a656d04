//! The certificates that were made for a database user, and which of them are in no Secret.
//!
//! Atlas can neither revoke nor return what it made, and limits how many certificates a user may have. So the operator counts
//! them, by Atlas's list if it may read that, and asks for no more in a day than the objects that name the user can need.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Decision, brake::Brake, lost::is_unlisted};
use crate::{
    api::{
        DatabaseUserCertificateStatus, Issuance, ListedBefore, Reason, UnaccountedCertificate, UnaccountedCertificates,
        truncated_to_second,
    },
    certificate::SerialNumber,
};

/// A day allows one certificate for each object that names the user, and this many more: answers get lost, Secrets get deleted.
const SPARE_MINTS: usize = 4;
const BUDGET_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// How many the status names. Its count covers all.
const NAMED: usize = 20;

/// How many a claim names of those that Atlas listed before it, or that were made since: as many as the schema admits.
const REMEMBERED: usize = 20;

/// Atlas's list is believed for this long. It is asked for again no sooner, except after a lost answer.
const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

/// A certificate that Atlas lists. It has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCertificate {
    /// Serial number, upper-case hexadecimal as `openssl x509 -serial` prints it.
    pub serial_number: SerialNumber,
    /// When it was asked for.
    pub made_at: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

/// What rules need to know of the certificates of one database user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserCertificates {
    /// Whose they are: a digest of the endpoint, the project, the credentials and the user name.
    pub key: String,
    /// What Atlas listed, as a claim remembers it; `None` where the credentials may not read the list.
    pub listed: Option<ListedBefore>,
    /// How many of the objects have a claim that stands, or that was counted as lost and may still be listed.
    pub claims: usize,
    /// The time of each certificate that was or may have been made.
    pub made: Vec<Timestamp>,
    /// How many objects name the user. One that uses other credentials counts while its Secret holds a certificate that Atlas lists.
    pub objects: usize,
}

/// What this process remembers of a database user: Atlas's list, and what was made since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// When Atlas was asked for the list.
    pub asked_at: Timestamp,
    /// The list; `None` where the credentials may not read it.
    pub listed: Option<Vec<ListedCertificate>>,
    /// What this process had made since, and when.
    pub made_since: BTreeMap<SerialNumber, Timestamp>,
}

/// What the Secrets and objects of this operator tell of a user's certificates, whatever credentials they were made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The serial numbers in Atlas's list that a Secret of ours holds, or that the status of an object with other credentials remembers.
    pub accounted: BTreeSet<SerialNumber>,
    /// How many of them the Secrets of objects with other credentials hold.
    pub elsewhere: usize,
}

/// What a pass learns of a database user.
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledUser {
    /// For the rules.
    pub certificates: UserCertificates,
    /// Atlas's list, where the credentials may read it.
    pub list: Option<RecalledList>,
}

/// Atlas's list.
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledList {
    /// Its certificates.
    pub listed: Vec<ListedCertificate>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// The serial numbers in it that a Secret of ours holds or has held.
    pub accounted: BTreeSet<SerialNumber>,
}

impl UserRecord {
    /// A list that just came.
    #[must_use]
    pub const fn new(asked_at: Timestamp, listed: Option<Vec<ListedCertificate>>) -> Self {
        Self { asked_at, listed, made_since: BTreeMap::new() }
    }

    /// Whether the record may still be used. A record from the future means that the clock was set back.
    #[must_use]
    pub fn is_believed(&self, now: Timestamp) -> bool {
        now.duration_since(self.asked_at).abs() < BELIEVED
    }

    /// The serial numbers that Atlas lists.
    #[must_use]
    pub fn serial_numbers(&self) -> BTreeSet<&str> {
        self.listed.iter().flatten().map(|listed| listed.serial_number.as_str()).collect()
    }

    /// What is known of the user with this key, with the statuses of the objects that name it and what Secrets of ours hold.
    ///
    /// Each certificate counts once, by its serial number. Without a list, answers counted as lost are added.
    #[must_use]
    pub fn recalled(
        &self,
        key: String,
        objects: &[Option<&DatabaseUserCertificateStatus>],
        holdings: Holdings,
    ) -> RecalledUser {
        let statuses = || objects.iter().copied().flatten();
        let history = || statuses().flat_map(|status| &status.history);
        let mut made: BTreeMap<&str, Timestamp> =
            history().map(|issued| (issued.serial_number.as_str(), issued.recorded_at.0)).collect();
        made.extend(self.made_since.iter().map(|(serial_number, made_at)| (serial_number.as_str(), *made_at)));
        made.extend(self.listed.iter().flatten().map(|listed| (listed.serial_number.as_str(), listed.made_at)));
        let presumed: Vec<Timestamp> = if self.listed.is_none() { statuses().flat_map(presumed).collect() } else { Vec::new() };
        let certificates = UserCertificates {
            key,
            listed: self.listed.as_deref().map(|listed| listed_before(listed, &self.made_since)),
            claims: statuses().filter(|status| status.issuance.is_some() || is_unlisted(status, self.asked_at)).count(),
            made: made.into_values().chain(presumed).collect(),
            objects: objects.len() + holdings.elsewhere,
        };
        let list = self.listed.as_ref().map(|listed| {
            let serial_numbers = self.serial_numbers();
            let in_history = history().map(|issued| issued.serial_number.as_str());
            let in_history = in_history.filter(|serial_number| serial_numbers.contains(serial_number)).map(SerialNumber::from);
            RecalledList {
                accounted: holdings.accounted.into_iter().chain(in_history).collect(),
                listed: listed.clone(),
                asked_at: self.asked_at,
            }
        });
        RecalledUser { certificates, list }
    }
}

/// What a claim remembers of a list, and of what was made since: bounded, however long the list is.
fn listed_before(listed: &[ListedCertificate], made_since: &BTreeMap<SerialNumber, Timestamp>) -> ListedBefore {
    let mut made: BTreeMap<&SerialNumber, Timestamp> = made_since.iter().map(|(serial, made_at)| (serial, *made_at)).collect();
    made.extend(listed.iter().map(|listed| (&listed.serial_number, listed.made_at)));
    let mut newest: Vec<(Timestamp, &SerialNumber)> = made.into_iter().map(|(serial, made_at)| (made_at, serial)).collect();
    newest.sort_by(|one, other| other.cmp(one));
    let others = newest.split_off(newest.len().min(REMEMBERED));
    ListedBefore {
        serial_numbers: newest.into_iter().map(|(_, serial_number)| serial_number.clone().into()).collect(),
        others_until: others.first().map(|(made_at, _)| Time(*made_at)),
    }
}

impl RecalledUser {
    /// Whether the list shows that the request under this claim made a certificate whose key is lost: one that was not listed before the
    /// claim, and that no Secret of ours holds or has held. If several objects of the user have claims, each must have such a certificate.
    #[must_use]
    pub fn shows_loss(&self, claim: &Issuance) -> bool {
        let Some((user, list)) = claim.user.as_ref().zip(self.list.as_ref()) else { return false };
        let Some(before) = user.listed.as_ref().filter(|_| user.key == self.certificates.key) else { return false };
        let is_new = |listed: &&ListedCertificate| {
            before.others_until.as_ref().is_none_or(|until| listed.made_at > until.0)
                && !before.serial_numbers.iter().any(|serial_number| *serial_number == listed.serial_number.as_str())
        };
        let unheld = list.listed.iter().filter(|listed| !list.accounted.contains(&listed.serial_number));
        unheld.filter(is_new).count() >= self.certificates.claims.max(1)
    }
}

/// One time for each lost answer: that of the last failure.
fn presumed(status: &DatabaseUserCertificateStatus) -> impl Iterator<Item = Timestamp> + use<> {
    let count = status.unaccounted_certificates.as_ref().map_or(0, |found| found.presumed);
    let when = status.failure.as_ref().map(|failure| failure.last_time.0);
    when.into_iter().cycle().take(usize::try_from(count).unwrap_or_default())
}

/// The wait until one more certificate is within the user's budget; `None` if it is. `way_out` says what has one made all the same.
pub(super) fn over_budget(
    user: &UserCertificates,
    username: &str,
    way_out: impl FnOnce() -> String,
    now: Timestamp,
) -> Option<Decision> {
    let objects = user.objects.max(1);
    let brake = Brake { allowed: objects + SPARE_MINTS, window: BUDGET_WINDOW };
    let (recent, until) = brake.hold(user.made.iter().copied(), now)?;
    Some(Decision::Wait {
        until,
        reason: Reason::AtlasMintBudget,
        message: format!(
            "{recent} certificates were made for the database user {username:?} within a day, and {objects} object(s) here name it: find out what else asks for them (another cluster or program, lost answers, a Secret that keeps being deleted); {}",
            way_out()
        ),
    })
}

/// Replaces what was presumed by what Atlas lists and no Secret of ours holds or has held.
pub fn record_list(
    status: &mut DatabaseUserCertificateStatus,
    listed: &[ListedCertificate],
    accounted: &BTreeSet<SerialNumber>,
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
                serial_number: listed.serial_number.clone().into(),
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
    use rstest::rstest;

    use super::*;
    use crate::{
        api::{CertificateFailure, ClaimedUser, IssuedCertificate},
        decide::lost::count_lost,
    };

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn listed(serial: &str, hours: i64) -> ListedCertificate {
        ListedCertificate { serial_number: serial.into(), made_at: at(0), not_after: at(hours) }
    }

    #[test]
    fn a_user_s_budget_is_one_for_each_object_and_four_to_spare_a_day() {
        let mut user = UserCertificates { made: (0..4).map(at).collect(), objects: 1, ..UserCertificates::default() };
        assert_eq!(over_budget(&user, "orders", String::new, at(5)), None);
        user.made.push(at(4));
        let Some(Decision::Wait { until, reason, .. }) = over_budget(&user, "orders", String::new, at(5)) else { panic!() };
        assert_eq!((until, reason), (at(24), Reason::AtlasMintBudget));
        assert_eq!(over_budget(&user, "orders", String::new, at(24)), None, "the first has left the window");
        user.objects = 2;
        assert_eq!(over_budget(&user, "orders", String::new, at(5)), None);
        user.made.extend([at(4), at(5)]);
        let Some(Decision::Wait { until, .. }) = over_budget(&user, "orders", String::new, at(5)) else { panic!() };
        assert_eq!(until, at(25), "two of seven must leave");
    }

    #[test]
    fn what_was_presumed_is_replaced_by_what_is_listed() {
        let mut status = DatabaseUserCertificateStatus::default();
        count_lost(&mut status);
        count_lost(&mut status);
        assert_eq!(status.unaccounted_certificates.as_ref().map(|found| (found.count, found.presumed)), Some((2, 2)));
        let accounted = BTreeSet::from(["0A".into()]);
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

    fn made_at(hours: &[i64]) -> Vec<Timestamp> {
        hours.iter().copied().map(at).collect()
    }

    /// The status of an object to which these certificates were issued, at these hours.
    fn issued(history: &[(&str, i64)]) -> DatabaseUserCertificateStatus {
        let issued = |(serial_number, hours): &(&str, i64)| IssuedCertificate {
            serial_number: (*serial_number).to_owned(),
            reason: "RenewalDue".to_owned(),
            issuer: None,
            recorded_at: Time(at(*hours)),
            not_after: Time(at(1000)),
        };
        DatabaseUserCertificateStatus { history: history.iter().map(issued).collect(), ..Default::default() }
    }

    /// The status of an object that takes so many answers for lost, the last of them at this hour.
    fn lost(count: i64, hours: i64) -> DatabaseUserCertificateStatus {
        let failure = CertificateFailure {
            count,
            count_of_reason: None,
            asked_by_issuer: false,
            reason: "AtlasAnswerLost".to_owned(),
            message: String::new(),
            last_time: Time(at(hours)),
            next_attempt: Time(at(hours + 1)),
            inputs: String::new(),
            cause: None,
            unlisted: None,
        };
        let mut status = DatabaseUserCertificateStatus { failure: Some(failure), ..Default::default() };
        (0..count).for_each(|_| count_lost(&mut status));
        status
    }

    /// Atlas's list, with the hours at which the certificates were asked for.
    fn list(certificates: &[(&str, i64)]) -> Vec<ListedCertificate> {
        certificates.iter().map(|(serial, hours)| ListedCertificate { made_at: at(*hours), ..listed(serial, 1000) }).collect()
    }

    #[rstest]
    #[case::nothing(Some(list(&[])), &[], &[], &[])]
    #[case::in_the_list_alone(Some(list(&[("0A", 1)])), &[], &[], &[1])]
    #[case::in_the_list_and_in_a_status_by_the_time_of_the_list(Some(list(&[("0A", 1)])), &[], &[issued(&[("0A", 2)])], &[1])]
    #[case::in_a_status_alone(Some(list(&[])), &[], &[issued(&[("0A", 2)])], &[2])]
    #[case::in_two_statuses(Some(list(&[])), &[], &[issued(&[("0A", 2)]), issued(&[("0A", 2)])], &[2])]
    #[case::made_since_and_in_no_status_yet(Some(list(&[])), &[3], &[], &[3])]
    #[case::made_since_and_in_a_status(Some(list(&[])), &[3], &[issued(&[("F3", 3)])], &[3])]
    #[case::two_of_one_minute_of_which_one_is_in_a_status(Some(list(&[])), &[3], &[issued(&[("0A", 3)])], &[3, 3])]
    #[case::made_since_and_another_in_a_status(Some(list(&[])), &[3], &[issued(&[("0A", 1)])], &[1, 3])]
    #[case::two_made_since_of_which_one_is_in_a_status(Some(list(&[])), &[3, 4], &[issued(&[("F3", 3)])], &[3, 4])]
    #[case::lost_answers_are_in_the_list(Some(list(&[])), &[], &[lost(2, 5)], &[])]
    #[case::without_a_list_lost_answers_count(None, &[], &[lost(2, 5)], &[5, 5])]
    #[case::without_a_list_statuses_count(None, &[6], &[issued(&[("0A", 1)]), lost(1, 5)], &[1, 6, 5])]
    fn a_certificate_counts_once(
        #[case] listed: Option<Vec<ListedCertificate>>,
        #[case] made_since: &[i64],
        #[case] statuses: &[DatabaseUserCertificateStatus],
        #[case] made: &[i64],
    ) {
        let made_since = made_since.iter().map(|hours| (format!("F{hours}").into(), at(*hours))).collect();
        let record = UserRecord { made_since, ..UserRecord::new(at(0), listed) };
        let mut objects: Vec<Option<&DatabaseUserCertificateStatus>> = statuses.iter().map(Some).collect();
        objects.push(None);
        let recalled = record.recalled("key".into(), &objects, Holdings::default());
        let known = recalled.certificates;
        let expected = UserCertificates { made: made_at(made), objects: statuses.len() + 1, ..known.clone() };
        assert_eq!(known, expected, "an object without a status names the user too");
    }

    #[test]
    fn the_list_is_told_with_what_secrets_hold_and_have_held() {
        let record = UserRecord::new(at(0), Some(list(&[("0A", 1), ("0B", 2), ("0C", 3)])));
        let status = issued(&[("0A", 1), ("0F", 1)]);
        let holdings = Holdings { accounted: BTreeSet::from(["0C".into()]), elsewhere: 1 };
        let recalled = record.recalled("key".into(), &[Some(&status)], holdings.clone());
        assert_eq!(recalled.certificates.objects, 2, "one holds its certificate with other credentials");
        let found = recalled.list.unwrap();
        assert_eq!((found.listed.len(), found.asked_at), (3, at(0)));
        assert_eq!(found.accounted, BTreeSet::from(["0A".into(), "0C".into()]), "0F is not listed");
        assert_eq!(UserRecord::new(at(0), None).recalled("key".into(), &[Some(&status)], holdings).list, None);
    }

    /// A claim that was written when Atlas listed these.
    fn claimed_after(listed: Vec<ListedCertificate>) -> Issuance {
        let user = UserRecord::new(at(0), Some(listed)).recalled("key".into(), &[], Holdings::default()).certificates;
        Issuance {
            id: "1".into(),
            reason: "NoCertificate".into(),
            attempt: 1,
            since: Time(at(0)),
            user: Some(ClaimedUser { key: user.key, listed: user.listed }),
            process: None,
        }
    }

    fn many(count: i64) -> Vec<ListedCertificate> {
        (0..count).map(|number| ListedCertificate { made_at: at(number), ..listed(&format!("{number:02X}"), 1000) }).collect()
    }

    #[rstest]
    #[case::nothing_new(list(&[("0A", 1)]), list(&[("0A", 1)]), &[], 1, false)]
    #[case::one_more(list(&[("0A", 1)]), list(&[("0A", 1), ("0B", 2)]), &[], 1, true)]
    #[case::one_more_of_the_same_second(list(&[("0A", 1)]), list(&[("0A", 1), ("0B", 1)]), &[], 1, true)]
    #[case::one_more_that_a_secret_holds(list(&[("0A", 1)]), list(&[("0A", 1), ("0B", 2)]), &["0B"], 1, false)]
    #[case::the_first(list(&[]), list(&[("0A", 1)]), &[], 1, true)]
    #[case::one_for_two_claims(list(&[]), list(&[("0A", 1)]), &[], 2, false)]
    #[case::two_for_two_claims(list(&[]), list(&[("0A", 1), ("0B", 1)]), &[], 2, true)]
    #[case::a_former_one_lost_its_secret(list(&[("0A", 1), ("0B", 2)]), list(&[("0A", 1), ("0B", 2)]), &["0B"], 1, false)]
    #[case::long_lists(many(100), many(100), &[], 1, false)]
    #[case::one_more_than_a_long_list(many(100), many(101), &[], 1, true)]
    #[case::a_long_list_of_which_half_has_expired(many(100), many(100).split_off(50), &[], 1, false)]
    fn a_list_with_one_more_certificate_that_nobody_holds_shows_the_loss(
        #[case] before: Vec<ListedCertificate>,
        #[case] later: Vec<ListedCertificate>,
        #[case] held: &[&str],
        #[case] claims: usize,
        #[case] is_shown: bool,
    ) {
        let claim = claimed_after(before);
        let remembered = claim.user.as_ref().and_then(|user| user.listed.as_ref()).unwrap();
        assert!(remembered.serial_numbers.len() <= 20, "a claim is bounded");
        let status = DatabaseUserCertificateStatus { issuance: Some(claim.clone()), ..Default::default() };
        let holdings = Holdings { accounted: held.iter().map(|serial| (*serial).into()).collect(), elsewhere: 0 };
        let record = UserRecord::new(at(200), Some(later));
        let recalled = record.recalled("key".into(), &vec![Some(&status); claims], holdings.clone());
        assert_eq!(recalled.shows_loss(&claim), is_shown);
        assert!(!record.recalled("another".into(), &[Some(&status)], holdings).shows_loss(&claim), "of another account");
    }

    /// The list may be an hour old.
    #[test]
    fn what_was_made_between_the_list_and_the_claim_is_no_loss_of_the_claim() {
        let mut record = UserRecord::new(at(0), Some(list(&[("0A", 1)])));
        record.made_since.insert("0B".into(), at(2));
        let listed = record.recalled("key".into(), &[], Holdings::default()).certificates.listed;
        let mut claim = claimed_after(Vec::new());
        claim.user.iter_mut().for_each(|user| user.listed.clone_from(&listed));
        let shows = |later: &[(&str, i64)]| {
            let status = DatabaseUserCertificateStatus { issuance: Some(claim.clone()), ..Default::default() };
            let later = UserRecord::new(at(200), Some(list(later)));
            later.recalled("key".into(), &[Some(&status)], Holdings::default()).shows_loss(&claim)
        };
        assert!(!shows(&[("0A", 1), ("0B", 2)]), "the object that it was made for is gone, with its Secret");
        assert!(shows(&[("0A", 1), ("0B", 2), ("0C", 3)]));
    }

    /// The schema admits no more, and a claim that is refused stops all renewals.
    #[test]
    fn a_claim_after_a_long_list_and_what_was_made_since_is_bounded_and_has_the_newest() {
        let mut record = UserRecord::new(at(100), Some(many(100)));
        record.made_since = (101..=105).map(|hour| (format!("F{hour}").into(), at(hour))).collect();
        let listed = record.recalled("key".into(), &[], Holdings::default()).certificates.listed.unwrap();
        assert_eq!(listed.serial_numbers.len(), 20);
        assert_eq!(listed.serial_numbers[..6], ["F105", "F104", "F103", "F102", "F101", "63"]);
        assert_eq!(listed.others_until, Some(Time(at(84))), "the newest of those that are left out");
    }

    #[rstest]
    #[case::just_asked(0, true)]
    #[case::nearly_an_hour_ago(3599, true)]
    #[case::an_hour_ago(3600, false)]
    #[case::the_clock_was_set_back_a_little(-3599, true)]
    #[case::the_clock_was_set_back_an_hour(-3600, false)]
    fn a_list_is_believed_for_an_hour(#[case] seconds: i64, #[case] is_believed: bool) {
        let now = at(0) + SignedDuration::from_secs(seconds);
        assert_eq!(UserRecord::new(at(0), None).is_believed(now), is_believed);
    }
}
