//! A limit of events in a time window: certificates of an object, repairs of a Secret, certificates of a user. When it is
//! reached, the next one waits.

use jiff::{SignedDuration, Timestamp};

use crate::api::truncated_to_second;

/// At most `allowed` events within `window`.
pub(super) struct Brake {
    pub(super) allowed: usize,
    pub(super) window: SignedDuration,
}

impl Brake {
    /// How many of these times are within the window, and when one more fits. `None` if one fits now.
    pub(super) fn hold(&self, times: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Option<(usize, Timestamp)> {
        let window_start = now.saturating_sub(self.window).unwrap_or(Timestamp::MIN);
        // Times in the far future come from a clock that was set back since.
        let window_end = now.saturating_add(self.window).unwrap_or(Timestamp::MAX);
        let mut recent: Vec<Timestamp> = times.into_iter().filter(|time| *time > window_start && *time <= window_end).collect();
        recent.sort_unstable();
        // One more fits when fewer than `allowed` are left in the window.
        let leaving = recent.get(recent.len().checked_sub(self.allowed)?)?;
        Some((recent.len(), truncated_to_second(leaving.saturating_add(self.window).unwrap_or(now))))
    }
}
