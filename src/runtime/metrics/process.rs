//! The metrics of the process that all client libraries of Prometheus have, under the names that these give them
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>). They are read from `/proc/self` (proc(5)). Where that
//! is missing, there are none of these series.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::family::{family, gauge};

/// `USER_HZ`: in how many ticks a second the kernel tells processor time. It is 100 on all architectures for which there are nodes.
const TICKS_PER_SECOND: f64 = 100.0;

/// Tells what the process takes.
#[derive(Debug)]
pub(super) struct ProcessSeries {
    started: f64,
}

impl Default for ProcessSeries {
    /// Of a process that has just started.
    fn default() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for ProcessSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        family(encoder, "process_start_time_seconds", "When the process started", MetricType::Gauge, |mut gauge| {
            gauge.encode_gauge(&self.started)
        })?;
        if let Some(seconds) = read("stat").as_deref().and_then(processor_seconds) {
            let help = "Processor time that the process has taken, its own and that of the kernel for it";
            family(encoder, "process_cpu_seconds_total", help, MetricType::Counter, |mut counter| {
                counter.encode_counter::<NoLabelSet, _, f64>(&seconds, None)
            })?;
        }
        let status = read("status").unwrap_or_default();
        let in_status = |field: &str| number_after(&status, field);
        let kibibytes = |field| in_status(field).map(|kibibytes| kibibytes.saturating_mul(1024));
        let open = fs::read_dir("/proc/self/fd").ok().and_then(|files| i64::try_from(files.count()).ok());
        let most_open = read("limits").as_deref().and_then(|limits| number_after(limits, "Max open files"));
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory that the process has in use", kibibytes("VmRSS:")),
            ("process_virtual_memory_bytes", "Address space of the process", kibibytes("VmSize:")),
            ("process_threads", "Threads of the process", in_status("Threads:")),
            ("process_open_fds", "Open file descriptors", open),
            ("process_max_fds", "The most file descriptors that may be open; none if there is no limit", most_open),
        ] {
            if let Some(value) = value {
                gauge(encoder, name, help, value)?;
            }
        }
        Ok(())
    }
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// The number at the beginning of what follows this name of a line.
fn number_after(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field, of which the 12th and 13th follow the name of the program. The name may have blanks and brackets in it.
fn processor_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_are_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1000 5000 60 18446744073709551615";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds("7 (a"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n";
        assert_eq!(number_after(limits, "Max open files"), Some(1024));
        assert_eq!(number_after("Max open files unlimited unlimited files", "Max open files"), None);
        assert_eq!(number_after("VmRSS:\t    2048 kB", "VmRSS:"), Some(2048));
    }
}
