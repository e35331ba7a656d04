//! Metrics in the OpenMetrics format. docs/metrics.md has a row for each.
//!
//! # Guarantees
//!
//! - Labels are reasons, issuer types, operations, outcomes and objects, so the number of series is bounded: by a constant, and by the number
//!   of objects. With [`CertificateSeries::Totals`] it does not grow with the number of certificates, whatever issuers they name.
//! - Each series of a counter begins at zero with the process, so that the first increase can be seen.
//! - What is told of objects is read when it is asked for ([`Inventory`]). So nothing is kept of them, and no series is left of an object
//!   that is gone.
//! - Only the process that leads tells of objects, so two replicas never tell the same.

mod certificates;
mod family;
mod inventory;
mod liveness;
mod objects;
mod process;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

pub use self::inventory::{Inventory, RateLimit};
use self::{family::register, inventory::Inventories, liveness::LivenessSeries, objects::ObjectSeries, process::ProcessSeries};
use super::{Leadership, Liveness, Readiness};
use crate::{
    api::{IssuerKind, IssuerType, Reason, Severity},
    atlas_request::{AtlasOperation, AtlasOutcome},
    decide::pass::PassOutcome,
};

/// The commit that the program was built from, if the build was told. An archive of the sources has no commit to ask for.
const REVISION: &str = match option_env!("USERCERT_OPERATOR_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => "unknown",
};

/// The upper bounds for passes in seconds: from a millisecond to more than the longest pass, each half as much again as the one before.
const PASS_BUCKETS: (f64, f64, u16) = (0.001, 1.5, 35);

/// The upper bounds for requests to Atlas in seconds: from 10 ms to more than the longest request with its challenge.
const REQUEST_BUCKETS: (f64, f64, u16) = (0.01, 1.5, 25);

/// What is told of certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateSeries {
    /// Series for each certificate.
    #[default]
    Each,
    /// Totals for each issuer.
    Totals,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssuerLabels {
    issuer_type: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Whose passes are counted, by the kind of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerName {
    /// Passes over certificates, each with its rollout.
    Certificates,
    /// Passes over issuers of one kind.
    Issuers(IssuerKind),
}

impl ControllerName {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::Certificates, Self::Issuers(IssuerKind::CertificateIssuer), Self::Issuers(IssuerKind::ClusterCertificateIssuer)];

    /// The label of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "DatabaseUserCertificate",
            Self::Issuers(kind) => kind.as_str(),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PassLabels {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    code: String,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    objects: Arc<ObjectSeries>,
    issued: Family<IssuerLabels, Counter>,
    failed: Family<IssuerLabels, Counter>,
    warned: Family<ReasonLabels, Counter>,
    passes: Family<PassLabels, Counter>,
    pass_durations: Histogram,
    requests: Family<RequestLabels, Counter>,
    request_durations: Family<OperationLabels, Histogram, fn() -> Histogram>,
    watches_failed: Counter,
}

impl Default for Metrics {
    /// Of a process that always leads and waits for no lists.
    fn default() -> Self {
        Self::new(Leadership::alone(None), Liveness::default(), Readiness::awaiting(0), CertificateSeries::default())
    }
}

impl Metrics {
    /// Of a process with this part in the election, these loops and these lists to wait for.
    #[must_use]
    pub fn new(leadership: Leadership, liveness: Liveness, readiness: Readiness, certificates: CertificateSeries) -> Self {
        let new_histogram: fn() -> Histogram = || histogram(REQUEST_BUCKETS);
        let metrics = Self {
            registry: Registry::default(),
            objects: Arc::new(ObjectSeries { leadership, readiness, certificates, inventories: Inventories::default() }),
            issued: Family::default(),
            failed: Family::default(),
            warned: Family::default(),
            passes: Family::default(),
            pass_durations: histogram(PASS_BUCKETS),
            requests: Family::default(),
            request_durations: Family::new_with_constructor(new_histogram),
            watches_failed: Counter::default(),
        };
        metrics.begin_at_zero();
        metrics.registered(liveness)
    }

    /// Makes each series of counters that can come up.
    fn begin_at_zero(&self) {
        for issuer in IssuerType::ALL {
            let labels = |reason: &Reason| IssuerLabels { issuer_type: issuer.as_str(), reason: reason.as_str() };
            for cause in Reason::ALL.iter().filter(|reason| reason.is_cause_of_issue(issuer)) {
                drop(self.issued.get_or_create(&labels(cause)));
            }
            for reason in Reason::ALL.iter().filter(|reason| reason.may_fail_issue(issuer)) {
                drop(self.failed.get_or_create(&labels(reason)));
            }
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.severity() == Severity::Warning) {
            drop(self.warned.get_or_create(&ReasonLabels { reason: reason.as_str() }));
        }
        for controller in ControllerName::ALL {
            for outcome in PassOutcome::ALL {
                drop(self.passes.get_or_create(&PassLabels { controller: controller.as_str(), outcome: outcome.as_str() }));
            }
        }
        for operation in AtlasOperation::ALL {
            drop(self.request_durations.get_or_create(&OperationLabels { operation: operation.as_str() }));
            for outcome in AtlasOutcome::all() {
                drop(self.requests.get_or_create(&request_labels(operation, outcome)));
            }
        }
    }

    fn registered(mut self, liveness: Liveness) -> Self {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("revision", REVISION)]);
        register(registry, "usercert_build_info", "1, with the version and the revision of this program", build);
        let help = "Certificates that were issued, by the cause";
        register(registry, "usercert_certificates_issued_total", help, self.issued.clone());
        let help = "Attempts to issue a certificate that failed";
        register(registry, "usercert_issue_failures_total", help, self.failed.clone());
        register(registry, "usercert_warnings_total", "Warnings that conditions and Events told", self.warned.clone());
        let help = "Passes over objects, by how they ended";
        register(registry, "usercert_reconciles_total", help, self.passes.clone());
        let help = "How long passes over certificates took, each with its rollout";
        register(registry, "usercert_reconcile_duration_seconds", help, self.pass_durations.clone());
        let help = "Requests to Atlas, by the status of the answer or what took its place; those of HTTP digest with their challenge count once";
        register(registry, "usercert_atlas_requests_total", help, self.requests.clone());
        let help = "How long Atlas took to answer; with HTTP digest both answers";
        register(registry, "usercert_atlas_request_duration_seconds", help, self.request_durations.clone());
        let help = "Lists and watches that the API server refused, or that failed, but for single objects whose absence a condition tells";
        register(registry, "usercert_watch_failures_total", help, self.watches_failed.clone());
        registry.register_collector(Box::new(Arc::clone(&self.objects)));
        registry.register_collector(Box::new(LivenessSeries(liveness)));
        registry.register_collector(Box::new(ProcessSeries::default()));
        self
    }

    /// Tells of the objects of this inventory too, for as long as it is there.
    pub fn tell_of(&self, inventory: Weak<dyn Inventory>) {
        self.objects.inventories.add(inventory);
    }

    /// Counts a certificate that was issued.
    pub fn issued(&self, issuer: IssuerType, cause: Reason) {
        self.issued.get_or_create(&IssuerLabels { issuer_type: issuer.as_str(), reason: cause.as_str() }).inc();
    }

    /// Counts an attempt that failed.
    pub fn failed(&self, issuer: IssuerType, reason: Reason) {
        self.failed.get_or_create(&IssuerLabels { issuer_type: issuer.as_str(), reason: reason.as_str() }).inc();
    }

    /// Counts a warning that a condition or an Event tells.
    pub fn warned(&self, reason: Reason) {
        self.warned.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Counts a list or a watch that failed.
    pub fn watch_failed(&self) {
        self.watches_failed.inc();
    }

    /// Counts a pass by how it ended.
    pub fn reconciled(&self, controller: ControllerName, outcome: PassOutcome) {
        self.passes.get_or_create(&PassLabels { controller: controller.as_str(), outcome: outcome.as_str() }).inc();
    }

    /// Notes how long a pass over a certificate took.
    pub fn pass_took(&self, duration: Duration) {
        self.pass_durations.observe(duration.as_secs_f64());
    }

    /// Notes what came of a request to Atlas, and how long it took.
    pub fn asked_atlas(&self, operation: AtlasOperation, outcome: AtlasOutcome, duration: Duration) {
        self.requests.get_or_create(&request_labels(operation, outcome)).inc();
        let labels = OperationLabels { operation: operation.as_str() };
        self.request_durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// Never in practice: formatting into a string is fallible only by its type.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn histogram((first, factor, count): (f64, f64, u16)) -> Histogram {
    Histogram::new(exponential_buckets(first, factor, count))
}

fn request_labels(operation: AtlasOperation, outcome: AtlasOutcome) -> RequestLabels {
    RequestLabels { operation: operation.as_str(), code: outcome.label().into_owned() }
}
