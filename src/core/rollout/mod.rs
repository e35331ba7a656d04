//! Getting the pods of workloads onto the certificate in the Secret.
//!
//! Most drivers read a certificate once, when they start, so a renewed certificate is of use only to pods that start after it.
//! [`plan`] is a pure function of what is wanted, which workloads were seen, the certificates, the status, and the time. It is
//! total, and it needs no memory: what must outlive a restart is in the status and in the workloads themselves.
//!
//! A workload is moved by one annotation of its pod template ([`SerialNumbers`]). Applying it a second time changes nothing, so an
//! answer that is lost restarts nobody twice.

mod awaited;
mod certificate;
mod condition;
mod figures;
mod found;
mod gate;
mod outside;
mod plan;
mod readiness;
mod repetition;
mod serial_numbers;
mod state;
mod summary;
#[cfg(test)]
mod tests;
mod uses;
mod windows;
mod workload;

pub use awaited::Awaited;
pub use certificate::{KUBELET_LAG, RolledCertificate};
pub use condition::{is_at_rest, next_status, not_enabled, refused, without_rollout};
pub use figures::Figures;
pub use found::{Found, Input};
pub use outside::{Outside, is_alive};
pub use plan::{Look, Move, Plan, plan};
pub use readiness::{Readiness, readiness};
pub use repetition::{AFTER_REFUSAL, Repetition, Unchanged};
pub use serial_numbers::SerialNumbers;
pub use state::holds_place;
pub use uses::Uses;
pub use windows::Windows;
pub use workload::{Pod, Updates, Workload};
