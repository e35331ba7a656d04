//! Log lines, and what is never in them.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterExt, filter_fn},
    layer::{Filter, Layer, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::LogFormat;

/// kube's client logs the whole body of an answer that it cannot read, be it half a Secret. What went wrong is in its errors too.
const TELLS_BODIES: &str = "kube_client::client";

/// What is asked for, but for what may show a Secret.
pub fn without_bodies<S: Subscriber + for<'a> LookupSpan<'a>>(wanted: EnvFilter) -> impl Filter<S> {
    wanted.and(filter_fn(|line| line.target() != TELLS_BODIES))
}

/// Starts writing to the standard error what `RUST_LOG` selects (by default `info`).
pub(super) fn start_logging(format: LogFormat) {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Text => registry.with(lines.with_filter(without_bodies(wanted))).init(),
        LogFormat::Json => registry.with(lines.json().with_filter(without_bodies(wanted))).init(),
    }
}
