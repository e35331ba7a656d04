//! Events: published on transitions; one that cannot be published is logged and otherwise of no consequence.

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::PostParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use super::kubernetes::{KubernetesError, chain, request};
use crate::api::{Reason, Severity, names::CONTROLLER, printable};

/// The API server refuses longer notes (events.k8s.io/v1, `note`).
const NOTE_BYTES: usize = 1024;

/// kube's Recorder names an Event after its object, with a dot and the nanoseconds since 1970 in hexadecimal (16 digits until 2554). A name
/// has 253 characters at most (RFC 1123 subdomain), so for a longer object's name than this the API server refuses it.
const RECORDED_NAME_BYTES: usize = 253 - 17;

/// Publishes Events.
pub struct Events {
    recorder: Recorder,
    client: Client,
    reporter: Reporter,
}

impl Events {
    /// Publishes in the name of this process.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let instance = std::env::var("POD_NAME").ok();
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance };
        Self { recorder: Recorder::new(client.clone(), reporter.clone()), client, reporter }
    }

    /// Publishes one Event about an object.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, reason: Reason, message: &str) {
        let event = Event {
            type_: match reason.severity() {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: reason.as_str().to_owned(),
            note: Some(truncated(&printable(message, NOTE_BYTES)).to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = Box::pin(self.send(event, object.object_ref(&()))).await {
            warn!(reason = reason.as_str(), error = chain(&error), "an Event is lost");
        }
    }

    async fn send(&self, event: Event, regarding: ObjectReference) -> Result<(), KubernetesError> {
        let operation = "publish an Event";
        if regarding.name.as_ref().is_none_or(|name| name.len() <= RECORDED_NAME_BYTES) {
            return request(operation, self.recorder.publish(&event, &regarding)).await;
        }
        let api = Api::namespaced(self.client.clone(), regarding.namespace.as_deref().unwrap_or("default"));
        let event = with_generated_name(event, regarding, &self.reporter);
        request(operation, api.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// The Event as the Recorder makes it, but for the name, which the API server shortens and completes. Repetitions are Events of their own.
fn with_generated_name(event: Event, regarding: ObjectReference, reporter: &Reporter) -> v1::Event {
    v1::Event {
        metadata: ObjectMeta {
            namespace: Some(regarding.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            generate_name: regarding.name.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(match event.type_ {
            EventType::Normal => "Normal".to_owned(),
            EventType::Warning => "Warning".to_owned(),
        }),
        reason: Some(event.reason),
        note: event.note,
        action: Some(event.action),
        event_time: Some(MicroTime(Timestamp::now())),
        regarding: Some(regarding),
        reporting_instance: Some(reporter.instance.clone().unwrap_or_else(|| reporter.controller.clone())),
        reporting_controller: Some(reporter.controller.clone()),
        ..v1::Event::default()
    }
}

fn truncated(message: &str) -> &str {
    let mut end = message.len().min(NOTE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
