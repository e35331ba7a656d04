//! The spans of passes, sent to a collector by OTLP (http/protobuf).
//!
//! It is part of a program that was built with the feature `otlp`, and switched on by the standard variables of OpenTelemetry:
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (such as `http://collector.tracing:4318`), with
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_BSP_SCHEDULE_DELAY`.
//!
//! # Guarantees
//!
//! - A collector that does not answer holds up no pass: spans wait in a bounded queue, are sent on a thread of their own, and are dropped when
//!   the queue is full.
//! - What is exported is what is logged at `info`, with the span around it.

/// The endpoint that a variable of OpenTelemetry names.
fn endpoint() -> Option<String> {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

#[cfg(feature = "otlp")]
pub(super) use with_feature::{Export, layer};

#[cfg(feature = "otlp")]
mod with_feature {
    use opentelemetry::{KeyValue, trace::TracerProvider as _};
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
    use tracing::{Subscriber, level_filters::LevelFilter, warn};
    use tracing_subscriber::{filter::Targets, layer::Layer, registry::LookupSpan};

    use super::endpoint;

    /// What is left to send when the process ends.
    pub(in crate::operator) struct Export(Option<Result<SdkTracerProvider, String>>);

    /// A layer that exports the spans of targets that begin like this, if an endpoint is named.
    pub(in crate::operator) fn layer<S>(ours: &str) -> (Option<impl Layer<S> + Send + Sync>, Export)
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let provider = endpoint().map(|_| provider());
        let tracer =
            provider.as_ref().and_then(|provider| provider.as_ref().ok()).map(|provider| provider.tracer("usercert-operator"));
        let layer = tracer.map(|tracer| {
            let ours = Targets::new().with_target(ours, LevelFilter::INFO);
            tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours)
        });
        (layer, Export(provider))
    }

    fn provider() -> Result<SdkTracerProvider, String> {
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("usercert-operator");
        }
        Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
    }

    impl Export {
        /// Says why spans are not exported, once there is a log.
        pub(in crate::operator) fn tell(&self) {
            if let Some(Err(error)) = &self.0 {
                warn!(error, "spans are not exported: correct the variables OTEL_EXPORTER_OTLP_...");
            }
        }

        /// Sends what is left. It takes a few seconds at most.
        pub(in crate::operator) fn end(self) {
            if let Some(Ok(provider)) = self.0
                && let Err(error) = provider.shutdown()
            {
                warn!(%error, "the last spans were not exported");
            }
        }
    }
}

/// Nothing is exported: this program was built without the feature.
#[cfg(not(feature = "otlp"))]
pub(super) struct Export;

#[cfg(not(feature = "otlp"))]
impl Export {
    /// Says so where somebody wants it.
    #[allow(clippy::unused_self, reason = "with the feature there is something to look at")]
    pub(super) fn tell(&self) {
        if endpoint().is_some() {
            tracing::warn!("spans are not exported: this program was built without the feature otlp");
        }
    }

    #[allow(clippy::unused_self, reason = "with the feature there is something to send")]
    pub(super) fn end(self) {}
}
