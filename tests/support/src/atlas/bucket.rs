//! Token buckets for the calls about certificates, one for each project.

use jiff::Timestamp;

/// So many calls at once, and so many more in a minute.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// What a full bucket holds.
    pub capacity: u32,
    /// What comes back in a minute.
    pub refill_per_minute: u32,
}

pub(super) struct Bucket {
    limit: RateLimit,
    left: f64,
    at: Timestamp,
    opens: Timestamp,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit, opens: Timestamp, now: Timestamp) -> Self {
        Self { limit, left: f64::from(limit.capacity), at: now, opens }
    }

    /// Takes one out; how many are left, or how many seconds to wait.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(u32, u32), u64> {
        if now < self.opens {
            return Err(self.opens.duration_since(now).as_secs().unsigned_abs() + 1);
        }
        let per_second = f64::from(self.limit.refill_per_minute) / 60.0;
        let elapsed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.left = (self.left + elapsed * per_second).min(f64::from(self.limit.capacity));
        self.at = now;
        if self.left < 1.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds, and positive")]
            return Err(((1.0 - self.left) / per_second).ceil() as u64);
        }
        self.left -= 1.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no more than the capacity")]
        Ok((self.limit.capacity, self.left as u32))
    }
}
