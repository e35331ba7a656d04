//! The wall clock, and jumps of it.
//!
//! Timers run on the monotonic clock, which stands still while a machine is suspended and does not notice a corrected date. So
//! both clocks are compared every few seconds, and a jump has everything looked at again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

const INTERVAL: Duration = Duration::from_secs(5);

/// Less than this is drift or a slow machine, not a jump.
const JUMP: SignedDuration = SignedDuration::from_secs(10);

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// Yields whenever the wall clock has moved otherwise than the monotonic clock.
pub fn clock_jumps(clock: Clock) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold((clock, None), |(clock, last)| async move {
        let mut last = last.unwrap_or_else(|| (clock(), Instant::now()));
        loop {
            tokio::time::sleep(INTERVAL).await;
            let next = (clock(), Instant::now());
            let jumped = is_jump(next.0.duration_since(last.0), next.1.duration_since(last.1));
            last = next;
            if jumped {
                tracing::warn!("the wall clock has jumped: everything is looked at again");
                return Some(((), (clock, Some(last))));
            }
        }
    })
}

/// Yields whenever this much has passed by the wall clock, or it was set back by as much.
pub fn periods(clock: Clock, period: SignedDuration) -> impl Stream<Item = ()> + Send + 'static {
    let last = clock();
    stream::unfold((clock, last), move |(clock, last)| async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = clock();
            if now.duration_since(last).abs() >= period {
                return Some(((), (clock, now)));
            }
        }
    })
}

fn is_jump(wall: SignedDuration, monotonic: Duration) -> bool {
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
