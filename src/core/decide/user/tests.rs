//! Statements about the certificates of a database user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

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
    count_lost(&mut status, None);
    count_lost(&mut status, None);
    assert_eq!(status.unaccounted_certificates.as_ref().map(|found| (found.count, found.presumed)), Some((2, 2)));
    let accounted = BTreeSet::from(["0A".into()]);
    record_list(&mut status, &[listed("0A", 9), listed("0B", 5), listed("0C", 7), listed("0D", -1)], &accounted, at(1));
    let found = status.unaccounted_certificates.clone().unwrap();
    assert_eq!((found.count, found.presumed, found.latest_expiry.unwrap().0), (2, 0, at(7)));
    assert_eq!(found.certificates.iter().map(|one| one.serial_number.as_str()).collect::<Vec<_>>(), ["0C", "0B"]);
    count_lost(&mut status, None);
    drop_expired(&mut status, at(6));
    assert_eq!(status.unaccounted_certificates.as_ref().unwrap().count, 2, "one listed and one presumed");
    drop_expired(&mut status, at(7));
    assert_eq!(status.unaccounted_certificates.as_ref().unwrap().count, 1, "the presumed one");
    record_list(&mut status, &[listed("0A", 9)], &accounted, at(8));
    assert_eq!(status.unaccounted_certificates, None);
}

#[test]
fn a_list_that_may_lag_takes_nothing_from_what_is_counted() {
    let lost_at = |hours| {
        let mut status = issued(&[("0A", hours)]);
        count_lost(&mut status, None);
        status
    };
    let minutes = |minutes: i64| at(1) + SignedDuration::from_mins(minutes);
    let counted = |status: &DatabaseUserCertificateStatus| {
        let found = status.unaccounted_certificates.as_ref()?;
        let named = found.certificates.iter().map(|one| one.serial_number.clone()).collect::<Vec<_>>();
        Some((found.count, found.presumed, named.join(" ")))
    };
    let held = BTreeSet::from(["0A".into()]);
    let mut status = lost_at(1);
    let mut list = |listed: &[ListedCertificate], held: &BTreeSet<SerialNumber>, asked_at| {
        record_list(&mut status, listed, held, asked_at);
        counted(&status)
    };
    assert_eq!(list(&[listed("0A", 9)], &held, minutes(4)), Some((1, 1, String::new())));
    assert_eq!(
        list(&[listed("0B", 9)], &held, minutes(4)),
        Some((1, 0, "0B".to_owned())),
        "it takes the place of the presumed one"
    );
    assert_eq!(list(&[], &held, minutes(8)), Some((1, 0, "0B".to_owned())), "an earlier list had it");
    assert_eq!(list(&[], &BTreeSet::from(["0B".into()]), minutes(9)), None, "a Secret of ours holds it");

    let mut status = lost_at(1);
    record_list(&mut status, &[listed("0A", 9)], &held, minutes(5));
    assert_eq!(counted(&status), None, "by then it would be listed");
}

#[test]
fn a_list_that_may_lag_leaves_what_is_counted_and_not_named() {
    let serial_numbers = |numbers: std::ops::Range<usize>| numbers.map(|number| format!("{number:02X}"));
    let mut status = DatabaseUserCertificateStatus::default();
    let many: Vec<_> = serial_numbers(1..31).map(|serial_number| listed(&serial_number, 9)).collect();
    let mut list = |listed: &[ListedCertificate], held: &[&str], minutes| {
        let asked_at = at(1) + SignedDuration::from_mins(minutes);
        record_list(&mut status, listed, &held.iter().map(|held| (*held).into()).collect(), asked_at);
        status.unaccounted_certificates.as_ref().map(|found| (found.count, found.certificates.len()))
    };
    assert_eq!(list(&many, &[], 0), Some((30, NAMED)));
    assert_eq!(list(&[], &[], 4), Some((30, NAMED)), "ten of them are not named");
    assert_eq!(list(&many, &["01"], 8), Some((29, NAMED)), "a Secret of ours holds one of those that are named");
    assert_eq!(list(&[], &[], 13), None, "by then all would be listed");
}

/// Whoever may write the status may write any number.
#[test]
fn a_number_in_a_status_costs_no_more_memory_than_a_budget_needs() {
    for presumed in [i64::MAX, i64::MIN, -1] {
        let mut status = lost(1, 0);
        let counted = UnaccountedCertificates { count: presumed, presumed, ..UnaccountedCertificates::default() };
        status.unaccounted_certificates = Some(counted);
        let recalled = UserRecord::new(at(1), None).recalled(String::new(), &[Some(&status)], Holdings::default());
        let made = recalled.certificates.made.len();
        assert!(made <= MOST_PRESUMED && (made > 0) == (presumed > 0), "{presumed}: {made}");
    }
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
    (0..count).for_each(|_| count_lost(&mut status, None));
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
