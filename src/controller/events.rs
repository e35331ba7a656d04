//! Events: published on transitions; one that cannot be published is logged and otherwise of no consequence.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use super::kubernetes::{chain, request};
use crate::api::{Reason, Severity, names::CONTROLLER, printable};

/// The API server refuses longer notes (events.k8s.io/v1, `note`).
const NOTE_BYTES: usize = 1024;

/// Publishes Events.
pub struct Events(Recorder);

impl Events {
    /// Publishes in the name of this process.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let instance = std::env::var("POD_NAME").ok();
        Self(Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance }))
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
        if let Err(error) = request("publish an Event", self.0.publish(&event, &object.object_ref(&()))).await {
            warn!(reason = reason.as_str(), error = chain(&error), "an Event is lost");
        }
    }
}

fn truncated(message: &str) -> &str {
    let mut end = message.len().min(NOTE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
