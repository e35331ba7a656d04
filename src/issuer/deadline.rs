//! Until when a pass may ask an issuer.

use std::time::{Duration, Instant};

/// The end of the time for all requests of a pass to an issuer. A request that mints is not begun when it could not end before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much time from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(duration).unwrap_or(now))
    }

    /// The earlier of this one and the time from now.
    #[must_use]
    pub fn at_most(self, duration: Duration) -> Self {
        self.min(Self::after(duration))
    }

    fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// Whether something that takes so long can end in time if it begins now.
    #[must_use]
    pub fn leaves(self, duration: Duration) -> bool {
        self.0.saturating_duration_since(Instant::now()) >= duration
    }

    /// What the future comes to; `None` if it has not ended in time. It must be one that may be cut off anywhere.
    pub(crate) async fn limit<T>(self, future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0.into(), future).await.ok()
    }
}
