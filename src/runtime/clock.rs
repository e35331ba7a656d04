//! The wall clock, and its jumps.
//!
//! Timers run on the monotonic clock. It stands still while the machine is suspended, and it does not notice that the date was
//! corrected. So both clocks are compared every five seconds, and after a jump everything is looked at again. [`Liveness`](super::Liveness)
//! tells people of it, once for the process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};

use super::Heartbeat;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A loop that looks at a clock may stand still for so long.
pub const CLOCK_LIMIT: Duration = Duration::from_mins(1);

const INTERVAL: Duration = Duration::from_secs(5);

/// The smallest difference between the clocks that counts as a jump. A smaller one is drift or a slow machine.
const JUMP: SignedDuration = SignedDuration::from_secs(10);

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// Yields whenever the wall clock and the monotonic clock have moved apart by more than 10 seconds. Each comparison is a sign of life.
pub fn clock_jumps(clock: Clock, heartbeat: Heartbeat) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold((clock, None, heartbeat), |(clock, last, heartbeat)| async move {
        let mut last = last.unwrap_or_else(|| (clock(), Instant::now()));
        loop {
            heartbeat.beat();
            tokio::time::sleep(INTERVAL).await;
            let next = (clock(), Instant::now());
            let jumped = is_jump(next.0.duration_since(last.0), next.1.duration_since(last.1));
            last = next;
            if jumped {
                tracing::debug!("the wall clock has jumped: everything is looked at again");
                return Some(((), (clock, Some(last), heartbeat)));
            }
        }
    })
}

/// Yields whenever `period` has passed by the wall clock, or the wall clock was set back by as much. Each look at it is a sign of life.
pub fn periods(clock: Clock, period: SignedDuration, heartbeat: Heartbeat) -> impl Stream<Item = ()> + Send + 'static {
    let last = clock();
    stream::unfold((clock, last, heartbeat), move |(clock, last, heartbeat)| async move {
        loop {
            heartbeat.beat();
            tokio::time::sleep(INTERVAL).await;
            let now = clock();
            if now.duration_since(last).abs() >= period {
                return Some(((), (clock, now, heartbeat)));
            }
        }
    })
}

pub(super) fn is_jump(wall: SignedDuration, monotonic: Duration) -> bool {
    let monotonic = SignedDuration::try_from(monotonic).unwrap_or(SignedDuration::MAX);
    (wall - monotonic).abs() > JUMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_in_either_direction_is_noticed_and_drift_is_not() {
        assert!(!is_jump(SignedDuration::from_secs(6), Duration::from_secs(5)));
        assert!(is_jump(SignedDuration::from_secs(3600), Duration::from_secs(5)));
        assert!(is_jump(SignedDuration::from_secs(-60), Duration::from_secs(5)));
    }
}
