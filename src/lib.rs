//! Database user certificates for Kubernetes: X.509 client certificates from MongoDB Atlas or an in-cluster CA, kept in TLS
//! Secrets and renewed in time.
//!
//! - [`api`]: the custom resources, conditions and reasons.
//! - [`decide`]: the pure core, (desired, observed, now) → decision.
//! - [`certificate`]: X.509 and PEM.
//! - [`issuer`]: who makes certificates.
//! - [`controller`]: observe → decide → act → report.
//! - [`runtime`]: clock, leadership, metrics.
//! - [`operator`]: the process.

pub mod api;
pub mod certificate;
pub mod controller;
pub mod decide;
pub mod issuer;
pub mod operator;
pub mod runtime;
