//! Metric families under their full names. The library wants the suffixes of a name apart: its unit, `_total`, `_info`.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder},
    metrics::MetricType,
    registry::{Metric, Registry, Unit},
};

/// A gauge of each of several things. What has no value has no series.
pub(super) struct GaugeOf<T> {
    /// The full name.
    pub(super) name: &'static str,
    /// What it tells.
    pub(super) help: &'static str,
    /// Its value.
    pub(super) value: fn(&T) -> Option<i64>,
}

/// The stem of a full name, and its unit.
fn stem(name: &str) -> (&str, Option<Unit>) {
    let name = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")).unwrap_or(name);
    match (name.strip_suffix("_seconds"), name.strip_suffix("_bytes")) {
        (Some(stem), _) => (stem, Some(Unit::Seconds)),
        (_, Some(stem)) => (stem, Some(Unit::Bytes)),
        (None, None) => (name, None),
    }
}

/// Registers a metric under its full name.
pub(super) fn register(registry: &mut Registry, name: &'static str, help: &'static str, metric: impl Metric) {
    match stem(name) {
        (stem, Some(unit)) => registry.register_with_unit(stem, help, unit, metric),
        (stem, None) => registry.register(stem, help, metric),
    }
}

/// Begins a family under its full name, and has its series written.
pub(super) fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    series: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let (stem, unit) = stem(name);
    // The library ends the help of registered metrics so.
    series(encoder.encode_descriptor(stem, &format!("{help}."), unit.as_ref(), kind)?)
}

/// A gauge without labels.
pub(super) fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    family(encoder, name, help, MetricType::Gauge, |mut gauge| gauge.encode_gauge(&value))
}

/// One series of each gauge for each thing.
pub(super) fn gauges<'a, T, L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    gauges: &[GaugeOf<T>],
    things: &'a [T],
    labels: impl Fn(&'a T) -> L,
) -> fmt::Result {
    for GaugeOf { name, help, value } in gauges {
        family(encoder, name, help, MetricType::Gauge, |mut gauge| {
            for thing in things {
                if let Some(value) = value(thing) {
                    gauge.encode_family(&labels(thing))?.encode_gauge(&value)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
