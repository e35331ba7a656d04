//! When a failed issue is tried again.

use jiff::{SignedDuration, Timestamp};

use super::{Minted, Retry, renewal::share};
use crate::api::{CertificateFailure, Reason, truncated_to_second};

const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(30);
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(1);

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

/// Whether the wait holds even if the spec or the issuer changes. (Not for another user:
/// [`Inputs::is_same_user`](super::Inputs::is_same_user).)
#[must_use]
pub(super) fn waits_in_any_case(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(Reason::AtlasRateLimited | Reason::AtlasAnswerLost | Reason::AtlasAnswerUnusable | Reason::AtlasCertificateLimit)
    )
}
