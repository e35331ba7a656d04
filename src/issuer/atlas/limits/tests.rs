//! Statements about how often Atlas may be asked.

use reqwest::header::{HeaderName, HeaderValue};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

impl Limits {
    fn is_empty(&self) -> bool {
        let known = self.lock();
        known.buckets.is_empty() && known.accepted.is_empty() && known.holders.is_empty()
    }
}

#[test]
fn a_limit_is_kept_until_the_last_issuer_goes() {
    let (limits, now, ours) = (Limits::default(), Instant::now(), account("ours"));
    let refuse = || limits.refused(&limits.key(&ours), Some(MINUTE), now, Timestamp::UNIX_EPOCH);
    let wait = || limits.wait(&limits.key(&ours), 1, 0, now);
    refuse();
    assert!(wait().is_zero() && limits.is_empty(), "nobody needs it");
    for is_accepted in [false, true] {
        let (first, second) = (limits.hold(ours.clone()), limits.hold(ours.clone()));
        if is_accepted {
            limits.met(&ours, StatusCode::OK, false);
        }
        refuse();
        drop(first);
        assert_eq!(wait(), MINUTE);
        drop(second);
        assert_eq!(wait(), MINUTE, "nothing shortens the wait");
    }
    limits.lock().drop_unheld(now + MINUTE);
    assert!(limits.is_empty());
}

#[test]
fn what_is_left_is_told_of_a_project_once_its_credentials_are_accepted_and_is_nothing_after_a_429() {
    let (limits, now, ours) = (Limits::default(), Instant::now(), account("ours"));
    let _held = limits.hold(ours.clone());
    let left = || limits.remaining().first().map(|left| left.requests);
    let answered = |remaining: &'static str| {
        let headers = [("ratelimit-limit", "1200"), ("ratelimit-remaining", remaining)];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        limits.answered(&limits.key(&ours), &headers.into_iter().collect(), now);
    };
    answered("1199");
    assert_eq!(left(), None, "anybody may name the project");
    limits.met(&ours, StatusCode::OK, false);
    assert_eq!(left(), None, "nothing was told of it");
    answered("1198");
    assert_eq!(left(), Some(1198));
    limits.refused(&limits.key(&ours), None, now, Timestamp::UNIX_EPOCH);
    assert_eq!(left(), Some(0));
}

#[test]
fn accounts_that_come_and_go_while_the_project_is_paused_are_not_all_kept() {
    let (limits, now, ours) = (Limits::default(), Instant::now(), account("ours"));
    let _held = limits.hold(ours.clone());
    limits.met(&ours, StatusCode::OK, false);
    limits.refused(&limits.key(&ours), Some(MINUTE), now, Timestamp::UNIX_EPOCH);
    for number in 0..2 * MOST_UNHELD {
        let other = account(&format!("other-{number}"));
        let held = limits.hold(other.clone());
        limits.met(&other, StatusCode::OK, false);
        drop(held);
    }
    assert!(limits.lock().accepted.len() <= MOST_UNHELD + 1);
    assert!(matches!(limits.key(&ours), LimitKey::Project { .. }), "one that is used stays");
}

#[test]
fn one_goes_first_and_its_answer_says_how_many_may_follow() {
    let (mut bucket, now) = (Bucket::default(), Instant::now());
    assert_eq!(bucket.wait(2, 0, now), Duration::ZERO);
    assert!(bucket.wait(2, 2, now) > Duration::ZERO);
    bucket.answered(Some(60), Some(5), now);
    assert_eq!(bucket.wait(2, 3, now), Duration::ZERO);
    assert_eq!(bucket.wait(2, 4, now), SECOND);
}

#[test]
fn without_the_headers_only_a_429_makes_wait() {
    let (mut bucket, now) = (Bucket::default(), Instant::now());
    bucket.answered(None, None, now);
    assert_eq!(bucket.wait(2, 100, now), Duration::ZERO);
    bucket.refused(Some(SECOND * 7), now, Timestamp::UNIX_EPOCH);
    assert_eq!(bucket.wait(1, 0, now + SECOND * 2), SECOND * 5);
    assert_eq!(bucket.wait(1, 0, now + SECOND * 7), Duration::ZERO);
    bucket.refused(None, now, Timestamp::UNIX_EPOCH);
    assert_eq!(bucket.wait(1, 0, now), PAUSE_AFTER_REFUSAL);
    bucket.refused(Some(SECOND * 86_400), now, Timestamp::UNIX_EPOCH);
    bucket.refused(None, now + SECOND, Timestamp::UNIX_EPOCH);
    bucket.refused(Some(SECOND), now + SECOND, Timestamp::UNIX_EPOCH);
    assert_eq!(bucket.wait(1, 0, now), SECOND * 86_400, "a call that was under way does not shorten the pause");
}

#[test]
fn the_end_of_a_pause_is_told_while_it_lasts_and_stays_the_same() {
    let (limits, now) = (Limits::default(), Instant::now());
    let _held = limits.hold(account("ours"));
    let key = account("ours").project();
    assert_eq!(limits.paused_until(&key, now), None);
    let at = "2026-11-24T00:00:00.7Z".parse().unwrap_or_default();
    limits.refused(&key, Some(SECOND * 7), now, at);
    let until = "2026-11-24T00:00:07Z".parse().ok();
    assert_eq!([0, 3, 6].map(|second| limits.paused_until(&key, now + SECOND * second)), [until; 3]);
    assert_eq!(limits.paused_until(&key, now + SECOND * 7), None);
}

#[test]
fn an_empty_bucket_is_waited_for_and_its_pace_is_learnt() {
    let (mut bucket, now) = (Bucket::default(), Instant::now());
    bucket.answered(Some(60), Some(0), now);
    assert_eq!(bucket.wait(1, 0, now), SECOND);
    assert_eq!(bucket.wait(1, 0, now + SECOND), Duration::ZERO);
    bucket.refused(None, now, Timestamp::UNIX_EPOCH);
    let later = now + PAUSE_AFTER_REFUSAL;
    bucket.answered(Some(60), Some(0), later);
    assert_eq!(bucket.wait(1, 0, later), SECOND.mul_f64(1.5), "it fills more slowly");
    bucket.answered(Some(60), Some(30), later + SECOND);
    bucket.answered(Some(60), Some(0), later + SECOND);
    assert_eq!(bucket.wait(1, 0, later + SECOND), SECOND.mul_f64(1.35), "it fills faster");
}

#[test]
fn numbers_that_make_no_sense_stop_nothing_for_ever() {
    let (mut bucket, now) = (Bucket::default(), Instant::now());
    bucket.answered(Some(0), Some(9), now);
    assert!(bucket.wait(3, 0, now) <= LONGEST_PAUSE);
    bucket.answered(Some(1), Some(u32::MAX), now);
    assert!(bucket.wait(3, 0, now) <= LONGEST_PAUSE);
}

fn account(credentials_uid: &str) -> Account {
    Account {
        endpoint: "https://cloud.mongodb.com/".to_owned(),
        project_id: "p".to_owned(),
        credentials_uid: credentials_uid.to_owned(),
    }
}

#[test]
fn credentials_that_atlas_has_not_accepted_have_a_limit_of_their_own() {
    let (limits, now) = (Limits::default(), Instant::now());
    let (ours, theirs) = (account("ours"), account("theirs"));
    let _held = [limits.hold(ours.clone()), limits.hold(theirs.clone())];
    for account in [&ours, &theirs] {
        assert_eq!(limits.key(account), LimitKey::Unaccepted(account.clone()));
    }
    limits.met(&theirs, StatusCode::TOO_MANY_REQUESTS, true);
    limits.refused(&limits.key(&theirs), Some(SECOND * 86400), now, Timestamp::now());
    assert_eq!(limits.wait(&limits.key(&ours), 1, 0, now), Duration::ZERO);
    limits.met(&ours, StatusCode::OK, false);
    assert_eq!(limits.wait(&limits.key(&ours), 1, 0, now), Duration::ZERO);
    assert!(limits.wait(&limits.key(&theirs), 1, 0, now) > Duration::ZERO);
    limits.met(&theirs, StatusCode::CREATED, true);
    assert_eq!(limits.key(&theirs), limits.key(&ours), "accepted, they share the limit of the project");
}

#[test]
fn a_missing_role_for_a_question_is_no_refusal_of_the_credentials() {
    let (limits, ours) = (Limits::default(), account("ours"));
    let _held = limits.hold(ours.clone());
    limits.met(&ours, StatusCode::CREATED, true);
    limits.met(&ours, StatusCode::UNAUTHORIZED, false);
    limits.met(&ours, StatusCode::NOT_FOUND, true);
    assert!(matches!(limits.key(&ours), LimitKey::Project { .. }));
    limits.met(&ours, StatusCode::UNAUTHORIZED, true);
    assert_eq!(limits.key(&ours), LimitKey::Unaccepted(ours.clone()));
}

#[test]
fn those_who_waited_for_the_first_answer_go_on_once_the_credentials_are_accepted() {
    let (limits, now, ours) = (Limits::default(), Instant::now(), account("ours"));
    let _held = limits.hold(ours.clone());
    let key = limits.key(&ours);
    assert!(limits.wait(&key, 2, 2, now) > Duration::ZERO);
    limits.met(&ours, StatusCode::OK, false);
    assert_eq!(limits.wait(&key, 2, 2, now), Duration::ZERO);
}
