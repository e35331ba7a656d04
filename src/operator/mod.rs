//! The process around the controllers: arguments, logs, health, metrics, the clock, and stopping.

mod arguments;
mod clock;
mod health;
mod metrics;
mod process;

pub use arguments::{Arguments, Command, LogFormat, RunArguments};
pub use clock::{clock_jumps, system_clock};
pub use health::{Readiness, serve};
pub use metrics::Metrics;
pub use process::{OperatorError, execute};
