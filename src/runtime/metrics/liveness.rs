//! The metrics of [`Liveness`]: how many loops stand still, and what happened to the clocks.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::family::{family, gauge};
use crate::Liveness;

/// Makes the series at each scrape.
pub(super) struct LivenessSeries(pub(super) Liveness);

impl fmt::Debug for LivenessSeries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LivenessSeries")
    }
}

impl Collector for LivenessSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let stalled = i64::try_from(self.0.stalled()).unwrap_or(i64::MAX);
        let help = "Loops of this process that stand still; /livez?verbose names them";
        gauge(encoder, "usercert_loops_stalled", help, stalled)?;
        for (name, help, count) in [
            (
                "usercert_clock_jumps_total",
                "How often the wall clock was corrected, or the machine slept, by more than ten seconds",
                self.0.clock_jumps(),
            ),
            (
                "usercert_process_pauses_total",
                "How often this process was paused, or got no processor, for more than ten seconds",
                self.0.pauses(),
            ),
        ] {
            family(encoder, name, help, MetricType::Counter, |mut counter| {
                counter.encode_counter::<NoLabelSet, _, u64>(&count, None)
            })?;
        }
        Ok(())
    }
}
