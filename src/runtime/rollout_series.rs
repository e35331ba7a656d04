//! The metrics of rollouts: a few series for each object that has one, and none for others.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::MetricType,
};

use super::object_labels::ObjectLabels;
use crate::{api::ObjectKey, rollout::Figures};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SerialNumberLabels {
    serial_number: String,
}

/// A metric, and where its value comes from. Objects without a value have no series.
struct Figure {
    name: &'static str,
    help: &'static str,
    value: fn(&Figures) -> Option<i64>,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "usercert_rollout_workloads",
        help: "Workloads of the rollout that are to be on the certificate in the Secret.",
        value: |figures| Some(figures.workloads),
    },
    Figure {
        name: "usercert_rollout_workloads_moved",
        help: "Workloads of the rollout that are on the certificate in the Secret.",
        value: |figures| Some(figures.moved),
    },
    Figure {
        name: "usercert_rollout_deadline_timestamp_seconds",
        help: "When the old certificate expires that workloads may still use, in seconds since 1970; only while the rollout is not complete.",
        value: |figures| figures.old_not_after.map(jiff::Timestamp::as_second),
    },
    Figure {
        name: "usercert_rollout_regardless_of_windows_timestamp_seconds",
        help: "From when on windows do not hold, in seconds since 1970; only while the rollout is not complete.",
        value: |figures| figures.regardless_of_windows_after.map(jiff::Timestamp::as_second),
    },
];

/// The figures of all rollouts. They are turned into series at each scrape, so no series is left of what has changed.
#[derive(Debug, Default)]
pub(super) struct RolloutSeries(Mutex<BTreeMap<ObjectKey, Figures>>);

impl RolloutSeries {
    /// Sets the figures of an object, or removes its series.
    pub(super) fn set(&self, object: &ObjectKey, figures: Option<Figures>) {
        let mut rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match figures {
            Some(figures) => rollouts.insert(object.clone(), figures),
            None => rollouts.remove(object),
        };
    }
}

impl Collector for RolloutSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rollouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rollouts.is_empty() {
            return Ok(());
        }
        for Figure { name, help, value } in FIGURES {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (object, figures) in rollouts.iter() {
                if let Some(value) = value(figures) {
                    gauge.encode_family(&ObjectLabels::of(object))?.encode_gauge(&value)?;
                }
            }
        }
        // The encoder adds `_info`.
        let help = "1, with the serial number of the certificate that the rollout moves workloads to.";
        let mut info = encoder.encode_descriptor("usercert_rollout", help, None, MetricType::Info)?;
        for (object, figures) in rollouts.iter() {
            let serial_number = SerialNumberLabels { serial_number: figures.serial_number.clone() };
            info.encode_family(&ObjectLabels::of(object))?.encode_info(&serial_number)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use crate::Metrics;

    fn series(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode().unwrap();
        text.lines().filter(|line| line.starts_with("usercert_rollout")).map(ToOwned::to_owned).collect()
    }

    fn orders() -> ObjectKey {
        ObjectKey::new("shop", "orders")
    }

    #[test]
    fn each_rollout_has_series_that_say_how_many_on_which_certificate_by_when() {
        let metrics = Metrics::default();
        assert_eq!(series(&metrics), Vec::<String>::new());
        let figures = Figures {
            serial_number: "4AF3".to_owned(),
            workloads: 4,
            moved: 3,
            old_not_after: Some(jiff::Timestamp::constant(1_800_000_000, 0)),
            regardless_of_windows_after: None,
        };
        metrics.rollout(&orders(), Some(figures.clone()));
        let of = |name: &str, value: &str| format!("usercert_rollout_{name}{{namespace=\"shop\",name=\"orders\"}} {value}");
        let info =
            |serial: &str| format!("usercert_rollout_info{{serial_number=\"{serial}\",namespace=\"shop\",name=\"orders\"}} 1");
        let expected =
            [of("workloads", "4"), of("workloads_moved", "3"), of("deadline_timestamp_seconds", "1800000000"), info("4AF3")];
        assert_eq!(series(&metrics), expected);
        let next = Figures { serial_number: "77".to_owned(), moved: 4, old_not_after: None, ..figures };
        metrics.rollout(&orders(), Some(next));
        assert_eq!(
            series(&metrics),
            [of("workloads", "4"), of("workloads_moved", "4"), info("77")],
            "nothing is left of the old"
        );
        metrics.forget(&orders());
        assert_eq!(series(&metrics), Vec::<String>::new());
    }
}
