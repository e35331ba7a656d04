//! Log lines.
//!
//! # Guarantees
//!
//! - No log line holds the body of an answer of the API server, which may be a Secret, whatever `RUST_LOG` selects.
//! - While the process runs, the level of this program's own lines alone can be changed. Those of HTTP and TLS libraries, which may tell more
//!   than whoever changes it should see, stay as `RUST_LOG` has them.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{Level, Subscriber, warn};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::{FilterExt, ParseError, filter_fn},
    layer::{Filter, Layer, SubscriberExt},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use super::{LogFormat, otlp::Export};
use crate::controller::chain;

/// The target under which kube's client logs the whole body of an answer that it cannot read, which may be half a Secret. Its
/// errors say what went wrong too.
const TELLS_BODIES: &str = "kube_client::client";

/// Where kube makes a span of its own around each pass. Ours says more.
const OTHER_SPAN: &str = "kube_runtime::controller";

/// All targets of this program begin like this.
const OURS: &str = "usercert_operator";

/// Lets through the lines that `wanted` selects, except those that may show a Secret.
pub fn without_bodies<S: Subscriber + for<'a> LookupSpan<'a>>(wanted: impl Filter<S>) -> impl Filter<S> {
    wanted.and(filter_fn(|line| line.target() != TELLS_BODIES && !(line.is_span() && line.target() == OTHER_SPAN)))
}

/// The level of this program's lines, which can be changed while it runs.
#[derive(Clone)]
pub(super) struct LogLevel(Arc<Inner>);

struct Inner {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What `RUST_LOG` says.
    standard: String,
    level: Mutex<Option<Level>>,
}

impl LogLevel {
    /// The level, or what `RUST_LOG` says if none was set.
    pub(super) fn label(&self) -> String {
        let level = *self.0.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.map_or_else(|| format!("{} (RUST_LOG)", self.0.standard), |level| level.to_string().to_lowercase())
    }

    /// Sets the level; `None`: as `RUST_LOG` has it.
    pub(super) fn set(&self, level: Option<Level>) -> Result<(), reload::Error> {
        let was = self.label();
        self.0.filter.reload(EnvFilter::new(with_level(&self.0.standard, level)))?;
        *self.0.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        warn!(was, is = self.label(), "the log level was changed");
        Ok(())
    }
}

/// The directives with this level for our own lines. Those that name a part of this program go: the longer target would win.
fn with_level(standard: &str, level: Option<Level>) -> String {
    let Some(level) = level else { return standard.to_owned() };
    let others = standard.split(',').filter(|directive| !directive.trim().starts_with(OURS));
    others.chain([format!("{OURS}={level}").as_str()]).collect::<Vec<_>>().join(",")
}

/// What to log, as `RUST_LOG` has it; `info` if it says nothing, or cannot be read, which is told too.
fn standard(wanted: Option<String>) -> (String, Option<ParseError>) {
    let wanted = wanted.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "info".to_owned());
    match EnvFilter::try_new(&wanted) {
        Ok(_) => (wanted, None),
        Err(error) => ("info".to_owned(), Some(error)),
    }
}

/// Starts writing log lines to the standard error. `RUST_LOG` selects which (default: `info`). Spans are exported if that is asked for.
pub(super) fn start_logging(format: LogFormat) -> (LogLevel, Export) {
    let (standard, unreadable) = standard(std::env::var(EnvFilter::DEFAULT_ENV).ok());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&standard));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_filter(without_bodies(filter)).boxed(),
        LogFormat::Json => lines.json().with_filter(without_bodies(filter)).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otlp")]
    let export = {
        let (spans, export) = super::otlp::layer(OURS);
        registry.with(spans).init();
        export
    };
    #[cfg(not(feature = "otlp"))]
    let export = {
        registry.init();
        Export
    };
    if let Some(error) = unreadable {
        warn!(error = chain(&error), "could not read RUST_LOG, so info is logged: correct it");
    }
    export.tell();
    (LogLevel(Arc::new(Inner { filter: handle, standard, level: Mutex::default() })), export)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::io::Write;

    use tracing::{debug, info};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_of_our_lines_alone_is_changed() {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(without_bodies(filter)));
        let _while_tested = tracing::subscriber::set_default(subscriber);
        let level = LogLevel(Arc::new(Inner { filter: handle, standard: "info".to_owned(), level: Mutex::default() }));
        let written = || {
            debug!(target: "usercert_operator_controller::pass", "ours at debug");
            info!(target: "usercert_operator::operator", "ours at info");
            debug!(target: "hyper", "theirs at debug");
            info!(target: "kube_client::client", "a body");
            let text = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
            ["ours at debug", "ours at info", "theirs at debug", "a body"].map(|line| text.contains(line))
        };
        assert_eq!((level.label().as_str(), written()), ("info (RUST_LOG)", [false, true, false, false]));
        level.set(Some(Level::TRACE)).unwrap();
        assert_eq!((level.label().as_str(), written()), ("trace", [true, true, false, false]));
        level.set(Some(Level::ERROR)).unwrap();
        assert_eq!((level.label().as_str(), written()), ("error", [false, false, false, false]));
        level.set(None).unwrap();
        assert_eq!((level.label().as_str(), written()), ("info (RUST_LOG)", [false, true, false, false]));
    }

    #[test]
    fn the_level_that_was_set_wins_over_what_rust_log_says_of_parts_of_this_program() {
        for (standard, expected) in [
            ("info", "info,usercert_operator=DEBUG"),
            ("usercert_operator=info,warn", "warn,usercert_operator=DEBUG"),
            (
                "info, usercert_operator_controller::pass=warn,usercert_operator[pass]=error,hyper=off",
                "info,hyper=off,usercert_operator=DEBUG",
            ),
        ] {
            assert_eq!(with_level(standard, Some(Level::DEBUG)), expected);
            assert_eq!(with_level(standard, None), standard);
        }
    }

    #[test]
    fn a_rust_log_that_cannot_be_read_is_told() {
        let told = |wanted: Option<&str>| {
            let (standard, unreadable) = standard(wanted.map(ToOwned::to_owned));
            (standard, unreadable.is_some())
        };
        assert_eq!([None, Some(" ")].map(told), [("info".to_owned(), false), ("info".to_owned(), false)]);
        assert_eq!(told(Some("warn,hyper=debug")), ("warn,hyper=debug".to_owned(), false));
        assert_eq!(told(Some("info,hyper=loud")), ("info".to_owned(), true));
    }
}
