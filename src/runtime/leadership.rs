//! Whether this process may act: it leads, and is not stopping.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// How long a leader tries to renew its lease before it stops, counted from the beginning of the last request that renewed it.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// What the election has told; shared by the election, the controllers, health and metrics.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<watch::Sender<State>>);

#[derive(Debug)]
struct State {
    role: Role,
    holder: Option<String>,
    /// The process stops, or has lost the lead: nothing new is begun.
    has_ended: bool,
}

#[derive(Debug)]
enum Role {
    /// There is no election.
    Alone,
    /// Another may lead.
    StandingBy,
    /// The lease was renewed by a request that began at these times.
    Leading { renewed: Instant, at: Timestamp },
}

impl Leadership {
    /// Without an election: always leading.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Role::Alone)
    }

    /// Not leading until the election is won.
    #[must_use]
    pub fn standing_by() -> Self {
        Self::new(Role::StandingBy)
    }

    fn new(role: Role) -> Self {
        Self(Arc::new(watch::Sender::new(State { role, holder: None, has_ended: false })))
    }

    /// The lease is ours since the request that began at these times.
    pub fn renewed(&self, identity: &str, renewed: Instant, at: Timestamp) {
        self.0.send_modify(|state| {
            state.role = Role::Leading { renewed, at };
            state.holder = Some(identity.to_owned());
        });
    }

    /// Another process leads.
    pub fn is_with(&self, holder: &str) {
        self.0.send_modify(|state| {
            state.role = Role::StandingBy;
            state.holder = Some(holder.to_owned());
        });
    }

    /// The lease was given up or lost; who leads is not known.
    pub fn ended(&self) {
        self.0.send_modify(|state| {
            state.role = Role::StandingBy;
            state.holder = None;
            state.has_ended = true;
        });
    }

    /// The process stops: nothing new is begun.
    pub fn stop(&self) {
        self.0.send_modify(|state| state.has_ended = true);
    }

    /// Waits until the process stops or has lost the lead.
    pub async fn end(&self) {
        // The sender is held here, so that the channel cannot close.
        let _ = self.0.subscribe().wait_for(|state| state.has_ended).await;
    }

    /// Whether certificates may be made and Secrets written. Both clocks are asked: the monotonic one stands still while a machine is
    /// suspended, the wall clock may be set back.
    #[must_use]
    pub fn may_act(&self) -> bool {
        !self.0.borrow().has_ended && self.leads()
    }

    /// Whether the lease is ours and was renewed in time.
    #[must_use]
    pub fn leads(&self) -> bool {
        match self.0.borrow().role {
            Role::Alone => true,
            Role::StandingBy => false,
            Role::Leading { renewed, at } => is_in_time(renewed, at, Instant::now(), Timestamp::now()),
        }
    }

    /// Who leads, if there is an election and it is known.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.0.borrow().holder.clone()
    }
}

fn is_in_time(renewed: Instant, at: Timestamp, now: Instant, wall: Timestamp) -> bool {
    let deadline = SignedDuration::try_from(RENEW_DEADLINE).unwrap_or_default();
    now.saturating_duration_since(renewed) < RENEW_DEADLINE && wall.duration_since(at) < deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_renewed_in_time_leads_by_both_clocks() {
        let (renewed, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let in_time = |monotonic: u64, wall: i64| {
            is_in_time(renewed, at, renewed + Duration::from_secs(monotonic), at + SignedDuration::from_secs(wall))
        };
        assert!(in_time(9, 9));
        assert!(!in_time(10, 10));
        assert!(!in_time(1, 3600), "the machine was suspended");
        assert!(in_time(9, -3600), "the wall clock was set back");
        assert!(!in_time(10, -3600));
    }

    #[test]
    fn nothing_is_begun_while_standing_by_or_stopping() {
        let leadership = Leadership::standing_by();
        assert!(!leadership.may_act());
        leadership.renewed("a", Instant::now(), Timestamp::now());
        assert!(leadership.may_act());
        leadership.stop();
        assert!(leadership.leads() && !leadership.may_act());
        leadership.is_with("b");
        assert!(!leadership.leads());
        assert_eq!(leadership.holder().as_deref(), Some("b"));
        assert!(Leadership::alone().may_act());
    }
}
