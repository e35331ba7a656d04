//! Database user certificates for Kubernetes: X.509 client certificates from MongoDB Atlas or an in-cluster CA, kept in TLS
//! Secrets and renewed in time.
//!
//! The other folders of `src` are crates of their own, so that none can use what is above it; this crate is the process
//! (`operator`), and has them all:
//!
//! - [`api`], [`certificate`], [`decide`], [`layout`]: the pure part (`src/core`).
//! - [`issuer`]: who makes certificates.
//! - [`runtime`]: clock, leadership, metrics.
//! - [`controller`]: watches, and the passes over certificates.
//! - [`operator`]: the process.

pub mod operator;

pub use usercert_operator_controller as controller;
pub use usercert_operator_core::{api, certificate, connection, decide, layout};
pub use usercert_operator_issuer as issuer;
pub use usercert_operator_runtime as runtime;
