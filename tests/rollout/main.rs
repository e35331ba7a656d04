//! Rollouts against a real API server with the real controllers of Deployments, `StatefulSets` and `DaemonSets`.
//!
//! There is no node: [`kubelet::Kubelet`] does what a kubelet tells the API server. Each test has a namespace, an operator and a clock
//! of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

mod decisions;
mod interruptions;
mod kstatus;
mod kubelet;
mod others;
mod refusals;
mod reloader;
mod rest;
mod scale;
mod schema;
mod stage;
mod told;
mod waves;
