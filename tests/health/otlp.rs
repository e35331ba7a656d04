//! The spans of passes, as a collector on loopback gets them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
};
use prost::Message;
use serde_json::json;

use super::{CLUSTER, Program, Shop, eventually};

/// The attributes of a span, or of what sent it.
type Attributes = BTreeMap<String, String>;

/// A collector: the name and attributes of each span that it got, and those of the program that sent it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Attributes, Attributes)>>>);

impl Collector {
    async fn start() -> (Self, String) {
        let (collector, listener) = (Self::default(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let takes = collector.clone();
        let router = Router::new().route("/v1/traces", post(move |body: Bytes| async move { takes.take(&body) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    fn take(&self, body: &[u8]) {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        for of_program in request.resource_spans {
            let resource = attributes(&of_program.resource.unwrap_or_default().attributes);
            for span in of_program.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.lock().unwrap().push((span.name, attributes(&span.attributes), resource.clone()));
            }
        }
    }
}

fn attributes(all: &[KeyValue]) -> Attributes {
    let text = |attribute: &KeyValue| match attribute.value.clone()?.value? {
        Attribute::StringValue(text) => Some((attribute.key.clone(), text)),
        _ => None,
    };
    all.iter().filter_map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_each_pass_and_the_last_ones_at_a_stop() {
    let shop = Shop::open(&CLUSTER, "otlp").await;
    let (collector, url) = Collector::start().await;
    // So long that nothing is sent before the end.
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let mut program = Program::start_in(&shop, &shop.cluster.operator_kubeconfig().await, &[], &settings);
    eventually("it is ready", || async { (program.get("readyz").await?.0 == 200).then_some(()) }).await;
    shop.ca_issuer(3650).await;
    let name = shop.name("good");
    shop.certificate(&name, "ca", json!({})).await;
    shop.until_ready(&name).await;
    assert!(collector.0.lock().unwrap().is_empty());
    program.signal("TERM");
    assert!(program.child.wait().unwrap().success());
    let spans = collector.0.lock().unwrap().clone();
    let object = format!("{}/{name}", shop.namespace);
    let wanted = [("kind", "DatabaseUserCertificate"), ("object", &object), ("decision", "issue"), ("reason", "NoCertificate")];
    let is_it = |(span, attributes, _): &&(String, Attributes, Attributes)| {
        span == "pass" && wanted.iter().all(|(key, value)| attributes.get(*key).is_some_and(|found| found == value))
    };
    let (_, _, program) = spans.iter().find(is_it).unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(program.get("service.name").map(String::as_str), Some("usercert-operator"));
    assert!(spans.iter().all(|(name, ..)| name == "pass"), "one span for a pass, and nothing of the libraries: {spans:?}");
}
