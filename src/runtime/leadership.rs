//! Whether this process may act: it leads, and it is not stopping.
//!
//! # Guarantees
//!
//! - [`Leadership::may_act`] is true only if the lease was renewed less than 10 seconds ago by both clocks ([`RENEW_DEADLINE`]).
//!   Without an election it is always true, until the process stops. One clock is not enough: the monotonic clock stands still
//!   while a machine is suspended, and the wall clock may be set back.
//! - A lease that is renewed late makes it true again: the election renews only a lease that nobody else has had meanwhile.
//! - Once the process stops or has lost the lead to another, it is never true again.
//!
//! # Assumptions
//!
//! - Another process takes over no earlier than 15 seconds after the last renewal (`lease::LEASE_DURATION`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// For how long a renewal counts, from the beginning of its request.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// What the election has found out. The election, the controllers, health and metrics share it.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<watch::Sender<State>>);

#[derive(Debug)]
struct State {
    role: Role,
    holder: Option<String>,
    /// The name of this process, which no other process has; `None` while it has not led.
    process: Option<String>,
    /// The process that gave up the lease last, at its end.
    released_by: Option<String>,
    /// The process stops, or has lost the lead: nothing new is begun.
    has_ended: bool,
}

#[derive(Debug)]
enum Role {
    /// There is no election.
    Alone,
    /// Another process may lead.
    StandingBy,
    /// The lease is ours. The request that renewed it last began at these times.
    Leading { renewed: Instant, at: Timestamp },
}

impl Leadership {
    /// Without an election: always leading. `process` is a name that no other process has, where there is one.
    #[must_use]
    pub fn alone(process: Option<String>) -> Self {
        let leadership = Self::new(Role::Alone);
        leadership.0.send_modify(|state| state.process = process);
        leadership
    }

    /// Not leading until the election is won, which tells so through the second value.
    #[must_use]
    pub fn standing_by() -> (Self, LeadershipTeller) {
        let leadership = Self::new(Role::StandingBy);
        let teller = LeadershipTeller(leadership.clone());
        (leadership, teller)
    }

    fn new(role: Role) -> Self {
        let (holder, process, released_by) = (None, None, None);
        Self(Arc::new(watch::Sender::new(State { role, holder, process, released_by, has_ended: false })))
    }

    /// Notes that the process stops: nothing new is begun.
    pub fn stop(&self) {
        self.0.send_modify(|state| state.has_ended = true);
    }

    /// Waits until the process stops or has lost the lead.
    pub async fn end(&self) {
        // It cannot fail: the sender is held here, so the channel stays open.
        let _ = self.0.subscribe().wait_for(|state| state.has_ended).await;
    }

    /// Whether certificates may be made and Secrets written. A certificate that was made is saved even if this is false, because
    /// only this process has its key.
    #[must_use]
    pub fn may_act(&self) -> bool {
        !self.0.borrow().has_ended && self.leads()
    }

    /// Whether the lease is ours and was renewed in time, by both clocks. Always true without an election.
    #[must_use]
    pub fn leads(&self) -> bool {
        match self.0.borrow().role {
            Role::Alone => true,
            Role::StandingBy => false,
            Role::Leading { renewed, at } => is_in_time(renewed, at, Instant::now(), Timestamp::now()),
        }
    }

    /// The name of this process, which no other process has. `None` if it has none, or has not led.
    #[must_use]
    pub fn process(&self) -> Option<String> {
        self.0.borrow().process.clone()
    }

    /// The process that gave up the lease last, after all its requests. It has ended.
    #[must_use]
    pub fn released_by(&self) -> Option<String> {
        self.0.borrow().released_by.clone()
    }

    /// The identity of the process that leads. `None` without an election, or if it is not known.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.0.borrow().holder.clone()
    }
}

/// What tells the [`Leadership`] who leads. The election alone has it.
#[derive(Debug)]
pub struct LeadershipTeller(Leadership);

impl LeadershipTeller {
    /// Notes that the lease is ours, by a request that began at these times.
    pub fn renewed(&self, identity: &str, renewed: Instant, at: Timestamp) {
        self.0.0.send_modify(|state| {
            state.role = Role::Leading { renewed, at };
            state.holder = Some(identity.to_owned());
            state.process.clone_from(&state.holder);
        });
    }

    /// Notes which process gave up the lease last.
    pub fn was_released_by(&self, process: Option<&str>) {
        self.0.0.send_modify(|state| state.released_by = process.map(ToOwned::to_owned));
    }

    /// Notes that another process leads.
    pub fn is_with(&self, holder: &str) {
        self.0.0.send_modify(|state| {
            state.role = Role::StandingBy;
            state.holder = Some(holder.to_owned());
        });
    }

    /// Notes that it is not known who leads.
    pub fn is_unknown(&self) {
        self.0.0.send_modify(|state| state.holder = None);
    }

    /// Whether the lease is ours and was renewed in time.
    #[must_use]
    pub fn is_in_time(&self) -> bool {
        self.0.leads()
    }

    /// Notes that the lease was released or lost. Who leads now is not known.
    pub fn ended(&self) {
        self.0.0.send_modify(|state| {
            state.role = Role::StandingBy;
            state.holder = None;
            state.has_ended = true;
        });
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
        let (leadership, teller) = Leadership::standing_by();
        assert!(!leadership.may_act());
        teller.renewed("a", Instant::now(), Timestamp::now());
        assert!(leadership.may_act());
        leadership.stop();
        assert!(leadership.leads() && !leadership.may_act());
        teller.is_with("b");
        assert!(!leadership.leads());
        assert_eq!(leadership.holder().as_deref(), Some("b"));
        assert!(Leadership::alone(None).may_act());
    }
}
