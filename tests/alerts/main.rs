//! The alerts, their runbooks, the dashboard and the configuration of kube-state-metrics: whether they fit together, and whether each alert
//! fires and resolves when what it is about breaks and is mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../rollout/kubelet.rs"]
#[allow(dead_code, reason = "the rollouts of one replica need more")]
mod kubelet;

mod chart;
mod dashboard;
mod kube_state_metrics;
mod live;
mod prometheus;
mod promtool;
mod runbooks;
