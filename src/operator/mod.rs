//! The process around the controllers: arguments, logs, health, metrics, the clock, the lead, and stopping.

mod arguments;
mod clock;
mod health;
mod leadership;
mod lease;
mod logging;
mod metrics;
mod process;

pub use arguments::{Arguments, Command, LogFormat, RunArguments};
pub use clock::{clock_jumps, periods, system_clock};
pub use health::{Readiness, serve};
pub use leadership::Leadership;
pub use lease::{Candidate, Election, LEASE_DURATION, LeaseError, Sight, Step};
pub use logging::without_bodies;
pub use metrics::Metrics;
pub use process::{OperatorError, execute};
