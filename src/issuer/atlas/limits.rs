//! How often Atlas may be asked: one token bucket for each pair of endpoint and project.
//!
//! The bucket is shared by all credentials that Atlas has accepted for the project. Anybody may name a project, so credentials that
//! Atlas has not accepted yet have a bucket of their own: what is answered to them says nothing about the project.
//!
//! | Answer to a request with credentials | What follows for the credentials |
//! | --- | --- |
//! | 2xx | they are accepted |
//! | 401 or 403 to the request that mints | they are not, until the next 2xx |
//! | any other | nothing: a role may be missing for that question alone |
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

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{StatusCode, header::HeaderMap};

use super::Account;

use crate::api::truncated_to_second;

/// The first guess of the time in which a whole bucket fills. Answers correct it.
const GUESSED_FILL: Duration = Duration::from_mins(1);

/// The longest time in which one token is believed to come back.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The wait after a 429 without `Retry-After`.
pub(super) const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// What a limit is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKey {
    /// A project, for all whose credentials Atlas has accepted.
    Project {
        /// The API's base URL.
        endpoint: String,
        /// The project.
        project_id: String,
    },
    /// Credentials that Atlas has not accepted yet.
    Unaccepted(Account),
}

/// After a 429 a limit outlives its last issuer until its wait is over, because an issuer that is changed is loaded anew: so many at most.
const MOST_UNHELD: usize = 1_000;

/// All limits, as far as they are known. What is known of one is kept as long as somebody holds it ([`Limits::hold`]).
#[derive(Clone, Debug, Default)]
pub struct Limits(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    buckets: HashMap<LimitKey, Bucket>,
    /// Whose credentials Atlas has accepted.
    accepted: HashSet<Account>,
    /// How many hold each limit: an account holds its own, and that of its project.
    holders: HashMap<LimitKey, usize>,
}

impl Account {
    fn project(&self) -> LimitKey {
        LimitKey::Project { endpoint: self.endpoint.clone(), project_id: self.project_id.clone() }
    }
}

impl Known {
    /// The bucket of a limit that somebody holds.
    fn bucket(&mut self, key: &LimitKey) -> Option<&mut Bucket> {
        if !self.holders.contains_key(key) {
            return None;
        }
        Some(self.buckets.entry(key.clone()).or_default())
    }

    fn key(&self, account: &Account) -> LimitKey {
        if self.accepted.contains(account) { account.project() } else { LimitKey::Unaccepted(account.clone()) }
    }

    /// Those who waited for the first answer in the queue of these credentials go on in that of the project.
    fn accept(&mut self, account: &Account) {
        let key = LimitKey::Unaccepted(account.clone());
        if self.holders.contains_key(&key)
            && self.accepted.insert(account.clone())
            && let Some(bucket) = self.bucket(&key)
        {
            bucket.known = true;
        }
    }

    fn release(&mut self, account: &Account, now: Instant) {
        for key in [LimitKey::Unaccepted(account.clone()), account.project()] {
            if let Entry::Occupied(mut held) = self.holders.entry(key) {
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
        }
        self.drop_unheld(now);
    }

    /// Drops what nobody holds and nobody has to wait for.
    fn drop_unheld(&mut self, now: Instant) {
        let (holders, mut unheld) = (&self.holders, 0);
        self.buckets.retain(|key, bucket| {
            let is_held = holders.contains_key(key);
            unheld += usize::from(!is_held && bucket.is_blocked(now));
            is_held || bucket.is_blocked(now) && unheld <= MOST_UNHELD
        });
        let (buckets, mut unheld) = (&self.buckets, 0);
        self.accepted.retain(|account| {
            let is_held = holders.contains_key(&LimitKey::Unaccepted(account.clone()));
            unheld += usize::from(!is_held);
            is_held || buckets.contains_key(&account.project()) && unheld <= MOST_UNHELD
        });
    }
}

/// Keeps what is known of the limits of an account until this is dropped. Each issuer has one.
#[derive(Debug)]
pub struct HeldLimit {
    limits: Limits,
    account: Account,
}

impl Drop for HeldLimit {
    fn drop(&mut self) {
        self.limits.lock().release(&self.account, Instant::now());
    }
}

impl Limits {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is and will be known of the limits that calls of this account count against.
    #[must_use]
    pub fn hold(&self, account: Account) -> HeldLimit {
        let mut known = self.lock();
        for key in [LimitKey::Unaccepted(account.clone()), account.project()] {
            *known.holders.entry(key).or_default() += 1;
        }
        drop(known);
        HeldLimit { limits: self.clone(), account }
    }

    /// The limit that calls of this account count against.
    #[must_use]
    pub fn key(&self, account: &Account) -> LimitKey {
        self.lock().key(account)
    }

    /// Learns whether Atlas accepts the credentials from an answer to a request with them. `mints`: it was one for a certificate.
    pub fn met(&self, account: &Account, status: StatusCode, mints: bool) {
        match status {
            status if status.is_success() => self.lock().accept(account),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if mints => {
                self.lock().accepted.remove(account);
            }
            _ => {}
        }
    }

    /// How long to wait before `cost` more calls, when turns for `promised` other calls have been given out.
    #[must_use]
    pub fn wait(&self, key: &LimitKey, cost: u32, promised: u32, now: Instant) -> Duration {
        let known = self.lock();
        let wait = |bucket: &Bucket| bucket.wait(cost, promised, now);
        known.buckets.get(key).map_or_else(|| wait(&Bucket::default()), wait)
    }

    /// What is left of the limits of projects, where Atlas has told it. What is answered to credentials that it has not accepted says nothing
    /// of a project.
    #[must_use]
    pub fn remaining(&self) -> Vec<Remaining> {
        self.lock().remaining()
    }

    /// Learns from an answer.
    pub fn answered(&self, key: &LimitKey, headers: &HeaderMap, now: Instant) {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
        if let Some(bucket) = self.lock().bucket(key) {
            bucket.answered(number("RateLimit-Limit"), number("RateLimit-Remaining"), now);
        }
    }

    /// Learns from a 429 and the wait that it asks for. `at` is the same moment by the wall clock.
    pub fn refused(&self, key: &LimitKey, retry_after: Option<Duration>, now: Instant, at: Timestamp) {
        if let Some(bucket) = self.lock().bucket(key) {
            bucket.refused(retry_after, now, at);
        }
    }

    /// Until when nothing is sent after a 429, for people. It stays the same however often it is asked for.
    #[must_use]
    pub fn paused_until(&self, key: &LimitKey, now: Instant) -> Option<Timestamp> {
        let known = self.lock();
        known.buckets.get(key)?.pause.filter(|pause| pause.until > now).map(|pause| pause.wall)
    }
}

/// What is left of the limit of a project, as Atlas told it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The API's base URL.
    pub endpoint: String,
    /// The project.
    pub project_id: String,
    /// How many requests are left; 0 after a 429.
    pub requests: u32,
}

impl Known {
    fn remaining(&self) -> Vec<Remaining> {
        let of_project = |(key, bucket): (&LimitKey, &Bucket)| match key {
            LimitKey::Project { endpoint, project_id } => Some(Remaining {
                endpoint: endpoint.clone(),
                project_id: project_id.clone(),
                requests: bucket.level.as_ref()?.told,
            }),
            LimitKey::Unaccepted(_) => None,
        };
        self.buckets.iter().filter_map(of_project).collect()
    }
}

/// What is believed about one bucket.
#[derive(Debug, Default)]
struct Bucket {
    /// Whether there was an answer yet.
    known: bool,
    /// The last level that an answer told. `None` until an answer has told one.
    level: Option<Level>,
    pause: Option<Pause>,
}

/// After a 429: until when nothing is sent, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    wall: Timestamp,
}

#[derive(Debug)]
struct Level {
    size: u32,
    /// What the last answer told; 0 if it was a 429.
    told: u32,
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
        self.pause.is_some_and(|pause| pause.until > now)
    }

    fn wait(&self, cost: u32, promised: u32, now: Instant) -> Duration {
        let blocked = self.pause.map_or(Duration::ZERO, |pause| pause.until.saturating_duration_since(now));
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
        let told = left.min(size);
        let left = f64::from(told);
        let guessed = GUESSED_FILL / size.max(1);
        let pause = match &self.level {
            // The bucket fills faster than was believed.
            Some(level) if level.size == size && left > level.left_at(now) + 1.0 => {
                level.pause.mul_f64(0.9).max(Duration::from_millis(1))
            }
            Some(level) if level.size == size => level.pause,
            _ => guessed,
        };
        self.level = Some(Level { size, told, left, at: now, pause });
    }

    fn refused(&mut self, retry_after: Option<Duration>, now: Instant, at: Timestamp) {
        self.known = true;
        let wait = retry_after.unwrap_or(PAUSE_AFTER_REFUSAL);
        let pause = Pause { until: now + wait, wall: truncated_to_second(at.saturating_add(wait).unwrap_or(at)) };
        // A call that was under way when the pause began may be refused with a shorter wait.
        if self.pause.is_none_or(|present| present.until < pause.until) {
            self.pause = Some(pause);
        }
        if let Some(level) = &mut self.level {
            (level.told, level.left) = (0, 0.0);
            level.at = now;
            // The bucket fills more slowly than was believed.
            level.pause = level.pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    }
}
