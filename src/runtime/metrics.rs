//! Metrics in the OpenMetrics format.
//!
//! Labels are reasons and issuer types, so the number of series is bounded. Only objects that a person should look at have series
//! of their own, and those with a rollout.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::{Leadership, object_labels::ObjectLabels, rollout_series::RolloutSeries};
use crate::{
    api::{ObjectKey, Reason, UnaccountedCertificates},
    rollout::Figures,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssuerLabels {
    issuer: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HolderLabels {
    holder: String,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    issued: Family<IssuerLabels, Counter>,
    failed: Family<IssuerLabels, Counter>,
    warned: Family<ReasonLabels, Counter>,
    unaccounted: Family<ObjectLabels, Gauge>,
    unaccounted_expiry: Family<ObjectLabels, Gauge>,
    suspended: Family<ObjectLabels, Gauge>,
    reconciled: Histogram,
    rollouts: Arc<RolloutSeries>,
    watches_failed: Counter,
    leading: Gauge,
    leader: Family<HolderLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            issued: Family::default(),
            failed: Family::default(),
            warned: Family::default(),
            unaccounted: Family::default(),
            unaccounted_expiry: Family::default(),
            suspended: Family::default(),
            reconciled: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
            rollouts: Arc::default(),
            watches_failed: Counter::default(),
            leading: Gauge::default(),
            leader: Family::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("usercert_certificates_issued", "Certificates issued, by issuer and cause", self.issued.clone());
        registry.register(
            "usercert_issue_failures",
            "Attempts to issue that failed, by issuer and reason",
            self.failed.clone(),
        );
        registry.register("usercert_warnings", "Transitions of a condition to a warning, by reason", self.warned.clone());
        registry.register(
            "usercert_unaccounted_certificates",
            "Certificates of an object's database user that no Secret of this operator holds or has held",
            self.unaccounted.clone(),
        );
        registry.register(
            "usercert_unaccounted_certificates_latest_expiry_timestamp_seconds",
            "When the last of them that Atlas lists expires, in seconds since 1970",
            self.unaccounted_expiry.clone(),
        );
        registry.register(
            "usercert_suspended",
            "1 for each object that is suspended: its certificate expires without being renewed",
            self.suspended.clone(),
        );
        registry.register("usercert_reconcile_seconds", "Duration of the passes over certificates", self.reconciled.clone());
        registry.register_collector(Box::new(Arc::clone(&self.rollouts)));
        registry.register(
            "usercert_watch_failures",
            "Lists and watches that the API server refused, or that failed",
            self.watches_failed.clone(),
        );
        registry.register("usercert_leading", "1 if this process leads, else 0", self.leading.clone());
        registry.register("usercert_leader", "1, with the identity of the process that leads", self.leader.clone());
        self
    }

    /// Notes who leads. Only the present leader has a series.
    pub fn leadership(&self, leadership: &Leadership) {
        self.leading.set(i64::from(leadership.leads()));
        self.leader.clear();
        if let Some(holder) = leadership.holder() {
            self.leader.get_or_create(&HolderLabels { holder }).set(1);
        }
    }

    /// Counts a certificate that was issued.
    pub fn issued(&self, issuer: &'static str, cause: Reason) {
        self.issued.get_or_create(&IssuerLabels { issuer, reason: cause.as_str() }).inc();
    }

    /// Counts an attempt that failed.
    pub fn failed(&self, issuer: &'static str, reason: Reason) {
        self.failed.get_or_create(&IssuerLabels { issuer, reason: reason.as_str() }).inc();
    }

    /// Counts a condition that has changed to a warning.
    pub fn warned(&self, reason: Reason) {
        self.warned.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Notes the certificates of the database user of an object that no Secret of this operator holds. `None` removes the series.
    pub fn unaccounted(&self, object: &ObjectKey, found: Option<&UnaccountedCertificates>) {
        let labels = ObjectLabels::of(object);
        let latest_expiry = found.and_then(|found| found.latest_expiry.as_ref());
        set(&self.unaccounted, &labels, found.map(|found| found.count));
        set(&self.unaccounted_expiry, &labels, latest_expiry.map(|latest| latest.0.as_second()));
    }

    /// Notes whether an object is suspended. Only suspended objects have a series: a suspension that is forgotten ends with an
    /// expired certificate.
    pub fn suspended(&self, object: &ObjectKey, is_suspended: bool) {
        let labels = ObjectLabels::of(object);
        set(&self.suspended, &labels, is_suspended.then_some(1));
    }

    /// Removes the series of an object that is gone.
    pub fn forget(&self, object: &ObjectKey) {
        self.unaccounted(object, None);
        self.suspended(object, false);
        self.rollout(object, None);
    }

    /// Notes how far the rollout of an object is. `None` removes its series.
    pub fn rollout(&self, object: &ObjectKey, figures: Option<Figures>) {
        self.rollouts.set(object, figures);
    }

    /// Counts a list or a watch that failed.
    pub fn watch_failed(&self) {
        self.watches_failed.inc();
    }

    /// Notes how long a pass took.
    pub fn reconciled(&self, duration: Duration) {
        self.reconciled.observe(duration.as_secs_f64());
    }

    /// Adds series that are made at each scrape.
    pub fn collect(&mut self, collector: Box<dyn prometheus_client::collector::Collector>) {
        self.registry.register_collector(collector);
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

/// Sets the series of an object, or removes it if there is nothing to tell.
fn set(family: &Family<ObjectLabels, Gauge>, labels: &ObjectLabels, value: Option<i64>) {
    match value {
        Some(value) => {
            family.get_or_create(labels).set(value);
        }
        None => {
            family.remove(labels);
        }
    }
}
