//! Kubernetes Events, published on transitions.
//!
//! # Errors
//!
//! - An Event that cannot be published is logged. Whoever tells the same again later is told whether it was.

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

/// The longest note in bytes: the API server refuses longer ones (events.k8s.io/v1, `note`).
const NOTE_BYTES: usize = 1024;

/// The longest name of an object, in bytes, that kube's Recorder can name an Event after. A name has at most 253 bytes (RFC
/// 1123), and the Recorder adds a dot and the nanoseconds in 16 hexadecimal digits.
const NAME_BYTES: usize = 253 - 17;

/// Publishes Events.
pub struct Events {
    client: Client,
    reporter: Reporter,
}

impl Events {
    /// A publisher that reports in the name of this process.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let instance = std::env::var("POD_NAME").ok();
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance };
        Self { client, reporter }
    }

    /// Publishes one Event about an object. Returns whether it was published.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, reason: Reason, message: &str) -> bool {
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
        let sent = Box::pin(self.send(event, object.object_ref(&()))).await;
        if let Err(error) = &sent {
            warn!(reason = reason.as_str(), error = chain(error), "an Event is lost");
        }
        sent.is_ok()
    }

    async fn send(&self, event: Event, regarding: ObjectReference) -> Result<(), KubernetesError> {
        let operation = "publish an Event";
        if regarding.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES) {
            let api = Api::namespaced(self.client.clone(), regarding.namespace.as_deref().unwrap_or("default"));
            let event = with_generated_name(event, regarding, &self.reporter);
            return request(operation, api.create(&PostParams::default(), &event)).await.map(drop);
        }
        // Each occurrence is an Event of its own. If occurrences were counted in one Event, it would show only the first note and
        // hide the later ones.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        request(operation, recorder.publish(&event, &regarding)).await
    }
}

/// The Event as the Recorder makes it, except for its name: the API server shortens the name of the object and completes it. The
/// Event still refers to the object by its whole name, because `kubectl describe` looks for that. Repetitions are Events of their
/// own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_about_an_object_with_a_long_name_keeps_that() {
        let name = "a".repeat(253);
        let regarding =
            ObjectReference { name: Some(name.clone()), namespace: Some("shop".to_owned()), ..ObjectReference::default() };
        let event = Event {
            type_: EventType::Warning,
            reason: "InvalidSpec".to_owned(),
            note: None,
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: None };
        let event = with_generated_name(event, regarding, &reporter);
        assert_eq!((event.metadata.name, event.metadata.generate_name.as_ref()), (None, Some(&name)));
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(event.regarding.and_then(|regarding| regarding.name), Some(name));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
