//! The process around the controllers: arguments, logs, health, metrics, the clock, the lead, and stopping.

mod arguments;
mod check;
mod connections;
mod debug;
mod exposition;
mod health;
mod lease;
mod logging;
mod otlp;
mod places;
mod process;
mod review;
mod secure_metrics;

pub use arguments::{Arguments, CertificateMetrics, Command, DebugAddress, LogFormat, RunArguments};
pub use check::{CheckArguments, CheckError, check};
pub use health::{Health, serve};
pub use lease::{Candidate, ELECTION_LIMIT, Election, LEASE_DURATION, LeaseError, LeaseSeen, Step, process_name};
pub use logging::without_bodies;
pub use process::{OperatorError, execute};
pub use secure_metrics::SecureMetricsError;
