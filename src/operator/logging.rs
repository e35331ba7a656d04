//! Log lines.
//!
//! # Guarantees
//!
//! - No log line holds the body of an answer of the API server, which may be a Secret, whatever `RUST_LOG` selects.

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

/// The target under which kube's client logs the whole body of an answer that it cannot read, which may be half a Secret. Its
/// errors say what went wrong too.
const TELLS_BODIES: &str = "kube_client::client";

/// Lets through the lines that `wanted` selects, except those that may show a Secret.
pub fn without_bodies<S: Subscriber + for<'a> LookupSpan<'a>>(wanted: EnvFilter) -> impl Filter<S> {
    wanted.and(filter_fn(|line| line.target() != TELLS_BODIES))
}

/// Starts writing log lines to the standard error. `RUST_LOG` selects which (default: `info`).
pub(super) fn start_logging(format: LogFormat) {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Text => registry.with(lines.with_filter(without_bodies(wanted))).init(),
        LogFormat::Json => registry.with(lines.json().with_filter(without_bodies(wanted))).init(),
    }
}
