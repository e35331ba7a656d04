//! `spec.rollout` and `status.rollout`: getting the pods of workloads onto the certificate in the Secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{NAME_PATTERN, duration_rule};

/// How many workloads are moved at once if `maxConcurrent` is not given.
const DEFAULT_MAX_CONCURRENT: u8 = 1;

/// Which workloads are moved to each new certificate, and when.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.workloads), has(self.selector), has(self.auto)].filter(given, given).size() == 1").message("give exactly one of workloads, selector and auto"))]
pub struct Rollout {
    /// These workloads, in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub workloads: Option<Vec<WorkloadReference>>,
    /// The workloads of the namespace with these labels, whether their pod templates name the Secret or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)").message("selector must name a label; for every workload that uses the Secret write auto: true"))]
    #[schemars(transform = super::forms::bound_selector)]
    pub selector: Option<LabelSelector>,
    /// `true`: every workload of the namespace whose pod template uses the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("auto must be true or absent"))]
    pub auto: Option<bool>,
    /// How many workloads are moved at once. Each is waited for until it is ready. A workload that another certificate is moving counts
    /// too, if it also uses this certificate. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 100))]
    pub max_concurrent: Option<u8>,
    /// How long a workload may take to become ready, such as `10m`. After this time no further workload is moved. Default:
    /// `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("readyTimeout", "30s"))]
    pub ready_timeout: Option<String>,
    /// When workloads may be moved. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub windows: Option<Vec<RolloutWindow>>,
    /// How long before the expiry of the old certificate `windows` no longer hold, such as `168h`. Default: one third of the
    /// time from the new certificate to that expiry, and at most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("ignoreWindowsBefore", "1m"))]
    pub ignore_windows_before: Option<String>,
}

/// A workload of the namespace: an object with a pod template.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// Group and version. Default: `apps/v1`.
    #[serde(default = "apps_v1")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-a-z0-9./]+$"))]
    pub api_version: String,
    /// `Deployment`, `StatefulSet`, `DaemonSet`, or a kind that the operator was given with `--rollout-kind`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[-A-Za-z0-9]+$"))]
    pub kind: String,
    /// The workload's name.
    #[schemars(length(max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

fn apps_v1() -> String {
    "apps/v1".to_owned()
}

/// A time of the week at which workloads may be moved.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to").message("from and to must differ; for whole days write from 00:00 to 24:00"))]
pub struct RolloutWindow {
    /// The days on which the window starts. Default: each day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7))]
    pub days: Option<Vec<Day>>,
    /// When it starts, such as `22:00`.
    #[schemars(length(max = 5))]
    #[x_kube(validation = Rule::new("self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')").message("from must be a time of the day such as 22:00"))]
    pub from: String,
    /// When it ends, such as `04:00`. If this is earlier than `from`, it ends on the next day. `24:00` is the end of the day.
    #[schemars(length(max = 5))]
    #[x_kube(validation = Rule::new("self.matches('^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$')").message("to must be a time of the day such as 04:00, or 24:00"))]
    pub to: String,
    /// IANA name of the time zone, such as `Europe/Berlin`. Default: `UTC`. Where clocks are put forward, a skipped time
    /// moves as much later: 02:30 becomes 03:30. Where they are put back, a time that comes twice counts the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// How far the workloads are with the certificate in the Secret.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them may hold together")]
pub struct RolloutStatus {
    /// The certificate that the workloads are moved to.
    pub serial_number: String,
    /// The generation of the spec that this is about.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// How many workloads are to be on it.
    #[serde(default)]
    pub workloads: i64,
    /// How many of them are.
    #[serde(default)]
    pub moved: i64,
    /// Both numbers, such as `3/4`.
    #[serde(default)]
    pub progress: String,
    /// Whether nothing is left to do for this certificate.
    #[serde(default)]
    pub complete: bool,
    /// Whether the old certificate is of no use any more, so that windows do not hold: it may be refused already, or it is compromised.
    #[serde(default)]
    pub urgent: bool,
    /// Whether the Secret lacks something that the spec asks for, such as a keystore with this certificate: then no workload is
    /// moved.
    #[serde(default)]
    pub secret_incomplete: bool,
    /// When the Secret was seen complete again. Pods that started before may lack what it lacked.
    #[serde(default)]
    pub secret_complete_since: Option<Time>,
    /// When the certificate expires that pods may still have.
    #[serde(default)]
    pub old_not_after: Option<Time>,
    /// Whether that certificate has expired while workloads may still use it.
    #[serde(default)]
    pub old_certificate_expired: bool,
    /// From then on windows do not hold.
    #[serde(default)]
    pub regardless_of_windows_after: Option<Time>,
    /// When the next window opens, if a workload waits for it.
    #[serde(default)]
    pub next_window: Option<Time>,
    /// The workloads that were begun and are not moved yet.
    #[serde(default)]
    #[schemars(length(max = 200))]
    pub begun: Vec<BegunWorkload>,
    /// Workloads whose pods are left to others: `updateStrategy` `OnDelete`, `partition`, or `paused`. At most 20 are named.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub left_to_others: Vec<String>,
    /// Jobs, Pods, and `ReplicaSet`s of no Deployment that use the Secret, run with an older certificate, and cannot be moved. At
    /// most 20 are named.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub not_movable: Vec<String>,
    /// Workloads of the rollout that use the Secret by `env`, `envFrom` or `subPath`. Only a restart gives their pods a new
    /// certificate, and the rollout restarts them. At most 20 are named.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub updated_by_restart_alone: Vec<String>,
    /// Workloads that `spec.rollout` does not cover and that use the Secret by `env`, `envFrom` or `subPath`. Their pods keep
    /// an old certificate until somebody restarts them. At most 20 are named.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub not_covered: Vec<String>,
    /// The last value of the annotation `usercert.dev/resume-rollout` that was handled, or its SHA-256 if it has more than 64
    /// characters.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub resume_request_handled: Option<String>,
}

/// A workload that was begun: its slot is taken, it was or is to be changed, and it is not ready with the new certificate yet.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BegunWorkload {
    /// Which workload.
    #[serde(flatten)]
    pub workload: WorkloadReference,
    /// Since when it is waited for.
    pub since: Time,
    /// Whether its pod template was seen with the serial number.
    #[serde(default)]
    pub changed: bool,
    /// How often another took the serial number away again.
    #[serde(default)]
    pub taken_back: i64,
    /// Whether the rollout goes on without waiting for it, as a person asked.
    #[serde(default)]
    pub passed_over: bool,
}

impl Rollout {
    /// `maxConcurrent` with its default.
    #[must_use]
    pub fn max_concurrent(&self) -> usize {
        usize::from(self.max_concurrent.unwrap_or(DEFAULT_MAX_CONCURRENT).max(1))
    }
}

impl std::fmt::Display for WorkloadReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.kind, self.name)
    }
}
