//! The metrics of [`Liveness`]: how many loops stand still, and what happened to the clocks.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::Liveness;

/// Makes the series at each scrape.
#[derive(Clone)]
pub struct LivenessSeries(pub Liveness);

impl fmt::Debug for LivenessSeries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LivenessSeries")
    }
}

impl Collector for LivenessSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stalled = i64::try_from(self.0.look().stalled).unwrap_or(i64::MAX);
        let help = "Loops of this process that stand still; /livez?verbose names them";
        encoder.encode_descriptor("usercert_loops_stalled", help, None, MetricType::Gauge)?.encode_gauge(&stalled)?;
        for (name, help, count) in [
            (
                "usercert_clock_jumps",
                "How often the wall clock was corrected, or the machine slept, by more than ten seconds",
                self.0.clock_jumps(),
            ),
            (
                "usercert_process_pauses",
                "How often this process was paused, or got no processor, for more than ten seconds",
                self.0.pauses(),
            ),
        ] {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use crate::Metrics;

    #[test]
    fn each_series_is_there_from_the_start() {
        let mut metrics = Metrics::default();
        metrics.collect(Box::new(LivenessSeries(Liveness::default())));
        let text = metrics.encode().unwrap();
        for line in ["usercert_loops_stalled 0", "usercert_clock_jumps_total 0", "usercert_process_pauses_total 0"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
