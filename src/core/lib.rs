//! What is decided, and why. Nothing here reads a clock, sends a request or writes a log.
//!
//! - [`api`]: the custom resources, conditions and reasons.
//! - [`atlas_request`], [`figures`]: what metrics tell, of requests to Atlas and of objects.
//! - [`certificate`]: X.509 and PEM.
//! - [`connection`]: what tells clients how to reach the database.
//! - [`decide`]: the rules, and the order of the steps of a pass.
//! - [`layout`]: what a Secret holds.
//! - [`rollout`]: which workload is moved next to a new certificate.
//! - [`text`]: the wording of what is told.

pub mod api;
pub mod atlas_request;
pub mod certificate;
pub mod compromised;
pub mod connection;
pub mod decide;
pub mod figures;
pub mod layout;
pub mod rollout;
pub mod text;

// The derive macros for custom resources name the crate `kube`. That one would bring a client along, so this crate stands in for it.
extern crate self as kube;
#[doc(hidden)]
pub use kube_core as core;
#[doc(hidden)]
pub use kube_derive::{CustomResource, KubeSchema};
