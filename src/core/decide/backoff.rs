//! When what has failed is tried again: an issue, a write of the Secret, a pass.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Minted, Retry, renewal::share};
use crate::api::{CertificateFailure, Reason, truncated_to_second};

const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(30);
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(1);

const FIRST_WRITE: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_WRITE: SignedDuration = SignedDuration::from_secs(512);

const FIRST_REPETITION: SignedDuration = SignedDuration::from_secs(1);
const LONGEST_REPETITION: SignedDuration = SignedDuration::from_secs(256);

/// The difference between the clocks of two replicas that is allowed for.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(5);

/// After a request that may have minted: a new one may cost another certificate.
const FIRST_DELAY_AFTER_MINT: SignedDuration = SignedDuration::from_mins(5);
const LONGEST_DELAY_AFTER_MINT: SignedDuration = SignedDuration::from_hours(6);

/// The next attempt after the `count`-th failure in a row, counted from `now`. Up to a tenth of the wait (of an hour at most) is
/// added by the UID, except to [`Retry::At`].
#[must_use]
pub fn next_attempt(retry: Retry, minted: Minted, count: i64, uid: &str, now: Timestamp) -> Timestamp {
    let backoff = match minted {
        Minted::No => doubled(FIRST_DELAY, LONGEST_DELAY, count),
        Minted::Possibly => doubled(FIRST_DELAY_AFTER_MINT, LONGEST_DELAY_AFTER_MINT, count),
    };
    let delay = match (retry, minted) {
        (Retry::At(time), _) => return truncated_to_second(time.max(now)),
        (Retry::NotBefore(delay), Minted::No) => delay,
        (Retry::NotBefore(delay), Minted::Possibly) => delay.max(backoff),
        (Retry::Slowly, Minted::No) => LONGEST_DELAY,
        (Retry::Slowly, Minted::Possibly) => LONGEST_DELAY.max(backoff),
        (Retry::Backoff, _) => backoff,
    };
    let spread = SignedDuration::from_secs_f64(delay.min(LONGEST_DELAY).as_secs_f64() / 10.0 * share(uid));
    truncated_to_second(now.saturating_add(delay + spread).unwrap_or(Timestamp::MAX))
}

/// When a write of a certificate that is in memory alone, or of the Secret's controller, is tried again after the `count`-th failure in a row:
/// after 2 seconds, doubled up to 512, and up to a tenth more by the UID. It stays below ten minutes, because such a certificate dies with the
/// process.
pub(super) fn next_write(count: u32, uid: &str, now: Timestamp) -> Timestamp {
    let delay = doubled(FIRST_WRITE, LONGEST_WRITE, i64::from(count));
    let spread = SignedDuration::from_secs_f64(delay.as_secs_f64() / 10.0 * share(uid));
    truncated_to_second(now.saturating_add(delay + spread).unwrap_or(now))
}

/// How long after the `count`-th failed pass in a row the pass is repeated: after 1 second, doubled up to 256, and up to twice as late by the
/// UID. So objects that failed together, because the API server was over its limits, do not come back together.
#[must_use]
pub fn pass_repeated_after(count: u32, uid: &str) -> Duration {
    let delay = doubled(FIRST_REPETITION, LONGEST_REPETITION, i64::from(count));
    Duration::from_secs_f64(delay.as_secs_f64() * (1.0 + share(uid)))
}

/// The wait after the `count`-th failure in a row.
pub(crate) fn doubled(first: SignedDuration, longest: SignedDuration, count: i64) -> SignedDuration {
    let doublings = u32::try_from(count.saturating_sub(1)).unwrap_or(0).min(20);
    first.checked_mul(1 << doublings).unwrap_or(longest).min(longest)
}

/// Whether the wait is not over. If the failure lies in the future by more than clocks differ, the clock was set back, and the
/// wait does not count.
#[must_use]
pub(super) fn is_waited_for(failure: &CertificateFailure, now: Timestamp) -> bool {
    let latest = now.saturating_add(CLOCK_DIFFERENCE).unwrap_or(Timestamp::MAX);
    now < failure.next_attempt.0 && failure.last_time.0 <= latest
}

/// Whether an answer counted as lost may still reach a paused process. The wait outlives a good Secret, which may be deleted
/// before it is over.
pub(super) fn awaits_lost_answer(failure: &CertificateFailure, now: Timestamp) -> bool {
    failure.reason == Reason::AtlasAnswerLost.as_str() && is_waited_for(failure, now)
}

/// Whether the wait holds even if the spec or the issuer changes. (Not for another user:
/// [`Inputs::is_same_user`](super::Inputs::is_same_user).)
#[must_use]
pub(super) fn waits_in_any_case(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(Reason::AtlasRateLimited | Reason::AtlasAnswerLost | Reason::AtlasAnswerUnusable | Reason::AtlasCertificateLimit)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_fails_is_repeated_less_and_less_often_and_objects_do_not_come_back_together() {
        for (count, least) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 256), (u32::MAX, 256)] {
            let waits: Vec<Duration> = (0..100).map(|uid| pass_repeated_after(count, &uid.to_string())).collect();
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(2 * least));
            assert!(waits.iter().all(|wait| (least..most).contains(wait)), "{count}: {waits:?}");
            let early = waits.iter().filter(|wait| **wait < (least + most) / 2).count();
            assert!((20..80).contains(&early), "{early} of 100 in the first half");
        }
    }
}
