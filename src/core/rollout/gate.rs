//! Whether a workload may be begun now.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Input, Windows,
    state::{State, Tracked},
};
use crate::{
    api::{RolloutStatus, truncated_to_second},
    decide::{InvalidSpec, parse_duration},
};

/// How long a workload may take to become ready if `readyTimeout` is not given.
pub(super) const DEFAULT_READY_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// The longest default of `ignoreWindowsBefore`: a week.
const LONGEST_IGNORE_WINDOWS_BEFORE: SignedDuration = SignedDuration::from_hours(168);

/// What the spec asks for, read.
pub(super) struct Wanted {
    pub(super) ready_timeout: SignedDuration,
    windows: Windows,
}

impl Wanted {
    /// Reads the spec. What is known only with it, such as when windows no longer hold, is set in the status.
    pub(super) fn read(input: &Input<'_>, status: &mut RolloutStatus) -> Result<Self, InvalidSpec> {
        let rollout = &input.certificate.rollout;
        let ready_timeout = rollout.ready_timeout.as_deref().map(|text| parse_duration("spec.rollout.readyTimeout", text));
        let ignore = rollout.ignore_windows_before.as_deref();
        let ignore = ignore.map(|text| parse_duration("spec.rollout.ignoreWindowsBefore", text)).transpose()?;
        let windows = rollout.windows.as_deref().unwrap_or_default();
        let old = status.old_not_after.as_ref().map(|time| time.0).filter(|_| !windows.is_empty());
        status.regardless_of_windows_after = old.map(|old| Time(regardless_after(old, ignore, input.certificate.written)));
        Ok(Self {
            ready_timeout: ready_timeout.transpose()?.unwrap_or(DEFAULT_READY_TIMEOUT),
            windows: Windows::parse(windows)?,
        })
    }
}

/// From when on windows do not hold.
fn regardless_after(old_not_after: Timestamp, ignore: Option<SignedDuration>, written: Timestamp) -> Timestamp {
    let third = (old_not_after.duration_since(written) / 3).clamp(SignedDuration::ZERO, LONGEST_IGNORE_WINDOWS_BEFORE);
    truncated_to_second(old_not_after.saturating_sub(ignore.unwrap_or(third)).unwrap_or(old_not_after))
}

/// Why no workload is begun, or that one may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// One may be.
    Open,
    /// The object is suspended.
    Suspended,
    /// New pods may not have the certificate yet.
    Lag(Timestamp),
    /// The certificate does not work.
    NotReady,
    /// Others know the key of the certificate.
    Compromised,
    /// The Secret lacks something.
    SecretIncomplete,
    /// A workload is stuck.
    Stopped,
    /// No window is open before this time.
    Window(Option<Timestamp>),
}

impl Gate {
    pub(super) fn new(input: &Input<'_>, wanted: &Wanted, status: &RolloutStatus, tracked: &[Tracked<'_>]) -> Self {
        let Input { certificate, now, .. } = *input;
        let usable_from = certificate.usable_from(now);
        if tracked.iter().any(|tracked| matches!(tracked.state, State::Stuck(_))) {
            return Self::Stopped;
        }
        if certificate.is_suspended {
            return Self::Suspended;
        }
        if !certificate.is_ready {
            return Self::NotReady;
        }
        if certificate.is_compromised {
            return Self::Compromised;
        }
        if !certificate.is_complete {
            return Self::SecretIncomplete;
        }
        if now < usable_from {
            return Self::Lag(usable_from);
        }
        let is_late = status.regardless_of_windows_after.as_ref().is_some_and(|time| now >= time.0);
        if status.urgent || is_late || wanted.windows.is_open(now) {
            return Self::Open;
        }
        Self::Window(wanted.windows.next_opening(now))
    }
}
