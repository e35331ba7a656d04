//! The process around the controllers: arguments, logs, health, metrics, the clock, the lead, and stopping.

mod arguments;
mod health;
mod lease;
mod logging;
mod process;

pub use arguments::{Arguments, Command, LogFormat, RunArguments};
pub use health::serve;
pub use lease::{Candidate, Election, LEASE_DURATION, LeaseError, LeaseSeen, Step, process_name};
pub use logging::without_bodies;
pub use process::{OperatorError, execute};
