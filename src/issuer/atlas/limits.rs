//! How often Atlas may be asked: one token bucket for each pair of endpoint and project.
//!
//! Atlas counts with token buckets per project. It tells their size in `RateLimit-Limit` and what is left in
//! `RateLimit-Remaining`. These headers are not a part of its contract and may be missing.
//!
//! | What happens | What follows |
//! | --- | --- |
//! | no answer yet | one call goes ahead; the others wait for its answer |
//! | an answer with the headers | they are believed; if more is left than expected, the bucket fills faster than was believed |
//! | an answer without the headers | what earlier headers told stays; if there were none, nothing is limited |
//! | a 429 | nothing is sent for as long as `Retry-After` says (else 30 seconds); the bucket fills more slowly |

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::header::HeaderMap;

/// The first guess of the time in which a whole bucket fills. Answers correct it.
const GUESSED_FILL: Duration = Duration::from_mins(1);

/// The longest time in which one token is believed to come back.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The wait after a 429 without `Retry-After`.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// The endpoint and project that a limit is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey {
    /// The API's base URL.
    pub endpoint: String,
    /// The project.
    pub project_id: String,
}

/// After a 429 a limit outlives its last issuer until its wait is over, because an issuer that is changed is loaded anew: so many at most.
const MOST_UNHELD: usize = 1_000;

/// All limits, as far as they are known. One is kept as long as somebody holds it ([`Limits::hold`]).
#[derive(Clone, Debug, Default)]
pub struct Limits(Arc<Mutex<HashMap<LimitKey, Held>>>);

#[derive(Debug, Default)]
struct Held {
    holders: usize,
    bucket: Bucket,
}

/// Keeps what is known of a limit until this is dropped. Each issuer has one.
#[derive(Debug)]
pub struct HeldLimit {
    limits: Limits,
    key: LimitKey,
}

impl Drop for HeldLimit {
    fn drop(&mut self) {
        let mut limits = self.limits.lock();
        let Some(held) = limits.get_mut(&self.key) else { return };
        held.holders = held.holders.saturating_sub(1);
        let (holders, is_blocked) = (held.holders, held.bucket.is_blocked(Instant::now()));
        let unheld = || limits.values().filter(|held| held.holders == 0).count();
        if holders == 0 && !(is_blocked && unheld() <= MOST_UNHELD) {
            limits.remove(&self.key);
        }
    }
}

impl Limits {
    fn lock(&self) -> MutexGuard<'_, HashMap<LimitKey, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is and will be known of a limit.
    #[must_use]
    pub fn hold(&self, key: LimitKey) -> HeldLimit {
        let (mut limits, now) = (self.lock(), Instant::now());
        limits.retain(|_, held| held.holders > 0 || held.bucket.is_blocked(now));
        limits.entry(key.clone()).or_default().holders += 1;
        drop(limits);
        HeldLimit { limits: self.clone(), key }
    }

    /// How long to wait before `cost` more calls, when turns for `promised` other calls have been given out.
    #[must_use]
    pub fn wait(&self, key: &LimitKey, cost: u32, promised: u32, now: Instant) -> Duration {
        let limits = self.lock();
        let wait = |bucket: &Bucket| bucket.wait(cost, promised, now);
        limits.get(key).map_or_else(|| wait(&Bucket::default()), |held| wait(&held.bucket))
    }

    /// Learns from an answer.
    pub fn answered(&self, key: &LimitKey, headers: &HeaderMap, now: Instant) {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
        if let Some(held) = self.lock().get_mut(key) {
            held.bucket.answered(number("RateLimit-Limit"), number("RateLimit-Remaining"), now);
        }
    }

    /// Learns from a 429 and the wait that it asks for.
    pub fn refused(&self, key: &LimitKey, retry_after: Option<Duration>, now: Instant) {
        if let Some(held) = self.lock().get_mut(key) {
            held.bucket.refused(retry_after, now);
        }
    }
}

/// What is believed about one bucket.
#[derive(Debug, Default)]
struct Bucket {
    /// Whether there was an answer yet.
    known: bool,
    /// The last level that an answer told. `None` until an answer has told one.
    level: Option<Level>,
    blocked_until: Option<Instant>,
}

#[derive(Debug)]
struct Level {
    size: u32,
    left: f64,
    at: Instant,
    /// The time in which one token is believed to come back.
    pause: Duration,
}

impl Level {
    fn left_at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at);
        (self.left + elapsed.as_secs_f64() / self.pause.as_secs_f64()).min(f64::from(self.size))
    }
}

impl Bucket {
    fn is_blocked(&self, now: Instant) -> bool {
        self.blocked_until.is_some_and(|until| until > now)
    }

    fn wait(&self, cost: u32, promised: u32, now: Instant) -> Duration {
        let blocked = self.blocked_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if !self.known && promised > 0 {
            // One call is under way, and its answer will say how many may follow.
            return blocked.max(Duration::from_secs(1));
        }
        let Some(level) = &self.level else { return blocked };
        // A bucket that is smaller than the cost can only fill up to its size, so the wait ends there.
        let wanted = f64::from(cost.min(level.size.max(1)).saturating_add(promised));
        let missing = (wanted - level.left_at(now)).max(0.0);
        blocked.max(level.pause.mul_f64(missing.min(f64::from(level.size.max(1)))))
    }

    fn answered(&mut self, size: Option<u32>, left: Option<u32>, now: Instant) {
        self.known = true;
        let (Some(size), Some(left)) = (size, left) else { return };
        let left = f64::from(left.min(size));
        let guessed = GUESSED_FILL / size.max(1);
        let pause = match &self.level {
            // The bucket fills faster than was believed.
            Some(level) if level.size == size && left > level.left_at(now) + 1.0 => {
                level.pause.mul_f64(0.9).max(Duration::from_millis(1))
            }
            Some(level) if level.size == size => level.pause,
            _ => guessed,
        };
        self.level = Some(Level { size, left, at: now, pause });
    }

    fn refused(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.known = true;
        self.blocked_until = Some(now + retry_after.unwrap_or(PAUSE_AFTER_REFUSAL));
        if let Some(level) = &mut self.level {
            level.left = 0.0;
            level.at = now;
            // The bucket fills more slowly than was believed.
            level.pause = level.pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_limit_is_kept_until_the_last_issuer_goes() {
        let (limits, now) = (Limits::default(), Instant::now());
        let key = LimitKey { endpoint: "https://cloud.mongodb.com".to_owned(), project_id: "p".to_owned() };
        limits.refused(&key, Some(SECOND), now);
        assert!(limits.wait(&key, 1, 0, now).is_zero() && limits.lock().is_empty(), "nobody needs it");
        let (first, second) = (limits.hold(key.clone()), limits.hold(key.clone()));
        limits.refused(&key, Some(SECOND), now);
        drop(first);
        assert_eq!(limits.wait(&key, 1, 0, now), SECOND);
        drop(second);
        assert_eq!(limits.wait(&key, 1, 0, now), SECOND, "nothing shortens the wait");
        std::thread::sleep(SECOND);
        let other = LimitKey { project_id: "q".to_owned(), ..key.clone() };
        drop(limits.hold(other));
        assert!(limits.lock().is_empty());
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
        bucket.refused(Some(SECOND * 7), now);
        assert_eq!(bucket.wait(1, 0, now + SECOND * 2), SECOND * 5);
        assert_eq!(bucket.wait(1, 0, now + SECOND * 7), Duration::ZERO);
        bucket.refused(None, now);
        assert_eq!(bucket.wait(1, 0, now), PAUSE_AFTER_REFUSAL);
    }

    #[test]
    fn an_empty_bucket_is_waited_for_and_its_pace_is_learnt() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        bucket.answered(Some(60), Some(0), now);
        assert_eq!(bucket.wait(1, 0, now), SECOND);
        assert_eq!(bucket.wait(1, 0, now + SECOND), Duration::ZERO);
        bucket.refused(None, now);
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
}
