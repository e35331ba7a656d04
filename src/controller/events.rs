//! Events: published on transitions; one that cannot be published is logged and otherwise of no consequence.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use super::kubernetes::{chain, request};
use crate::api::{Reason, Severity, names::CONTROLLER, printable};

/// The API server refuses longer notes (events.k8s.io/v1, `note`).
const NOTE_BYTES: usize = 1024;

/// The longest name of an object that an Event can be named after: 253 bytes are a name (RFC 1123), and kube adds a dot and the nanoseconds
/// in 16 hexadecimal digits.
const NAME_BYTES: usize = 253 - 17;

/// Publishes Events.
pub struct Events {
    client: Client,
    reporter: Reporter,
    /// For what is no Warning; it counts what it publishes about one object for one reason within six minutes in one Event.
    recorder: Recorder,
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
        let recorder = match reason.severity() {
            Severity::Normal => self.recorder.clone(),
            // Each has an Event of its own. Counted together they would show the first note alone, and so hide what was tried after it.
            Severity::Warning => Recorder::new(self.client.clone(), self.reporter.clone()),
        };
        let regarding = regarding(object.object_ref(&()));
        if let Err(error) = request("publish an Event", Box::pin(recorder.publish(&event, &regarding))).await {
            warn!(reason = reason.as_str(), error = chain(&error), "an Event is lost");
        }
    }
}

/// The object as an Event names it: one with a long name by the beginning of that, and by its UID.
fn regarding(object: ObjectReference) -> ObjectReference {
    let name = object.name.map(|name| match name.get(..NAME_BYTES) {
        Some(beginning) => beginning.trim_end_matches(['.', '-']).to_owned(),
        None => name,
    });
    ObjectReference { name, ..object }
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
    fn an_object_with_a_name_of_any_length_can_have_events() {
        let named = |name: &str| regarding(ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() }).name;
        assert_eq!(named("orders").as_deref(), Some("orders"));
        assert_eq!(named(&"a".repeat(236)), Some("a".repeat(236)));
        assert_eq!(named(&"a".repeat(253)), Some("a".repeat(236)));
        assert_eq!(named(&format!("{}.-{}", "a".repeat(234), "b".repeat(10))), Some("a".repeat(234)));
    }
}
