//! The watches of metadata: our Secrets, by their label, and namespaces. Both fill a cache, and wake whoever a change concerns.

use std::{pin::pin, sync::Arc, time::Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tracing::warn;

use super::{by_name::NameWatches, lists::Filling};
use crate::{
    NamespaceMetadata, Received, SecretMetadata,
    adoption::retained_for,
    api::{DatabaseUserCertificate, NamespacedName, ObjectKey, SecretLocation},
    kubernetes::chain,
    memory::Memory,
    triggers::{Triggers, Waiting},
};

/// The events of a watch of metadata. A watch that fails goes on by itself, and the log tells.
pub fn metadata_events<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    what: &'static str,
) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: Send + 'static,
{
    events.filter_map(move |event| {
        let event = event.inspect_err(|error| warn!(error = chain(error), "the watch of {what} failed and goes on"));
        futures::future::ready(event.ok())
    })
}

/// Keeps the metadata of our Secrets in the cache, and wakes whoever a change concerns.
pub async fn watch_secrets(
    events: impl Stream<Item = watcher::Event<SecretMetadata>> + Send,
    mut writer: Writer<SecretMetadata>,
    memory: Arc<Memory>,
    triggers: Arc<Triggers>,
    secret_watches: Arc<NameWatches<PartialObjectMeta<Secret>>>,
    filling: Filling,
) {
    let store = writer.as_reader();
    let mut events = pin!(events);
    let mut list_began = Instant::now();
    while let Some(event) = events.next().await {
        if let watcher::Event::Apply(secret) = &event
            && let Some(before) = store.get(&ObjectRef::from_obj(secret))
        {
            // A Secret that has lost its owner concerns whoever owned it before.
            wake_owner(&triggers, &before);
        }
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Init => list_began = Instant::now(),
            watcher::Event::InitDone => {
                memory.saw_everything_since(list_began, |secret| {
                    store.get(&ObjectRef::new(&secret.name).within(&secret.namespace)).is_some()
                });
                filling.done();
            }
            watcher::Event::Apply(secret) | watcher::Event::InitApply(secret) => {
                memory.saw(&location_of(secret), &secret.resource_version().unwrap_or_default());
                wake_owner(&triggers, secret);
            }
            watcher::Event::Delete(secret) => {
                memory.saw_deleted(&location_of(secret), &secret.uid().unwrap_or_default());
                wake_owner(&triggers, secret);
                secret_watches.wake_waiting(&location_of(secret));
            }
        }
    }
}

fn location_of(secret: &SecretMetadata) -> SecretLocation {
    SecretLocation::from(NamespacedName::of(secret))
}

/// Wakes the object that controls the Secret, or for which it is retained.
fn wake_owner(triggers: &Triggers, secret: &SecretMetadata) {
    let owners = secret.owner_references().iter().filter(|owner| owner.controller == Some(true));
    let of_kind = owners.filter(|owner| owner.kind == DatabaseUserCertificate::kind(&()));
    for owner in of_kind.map(|owner| owner.name.as_str()).chain(retained_for(&secret.metadata)) {
        triggers.wake(&Waiting::Certificate(ObjectKey::new(secret.namespace().unwrap_or_default(), owner)));
    }
}

/// Keeps the labels of namespaces in the cache, for `allow.namespaces.selector`. Wakes the certificates of a namespace whose
/// labels change.
pub async fn watch_namespaces(
    events: impl Stream<Item = watcher::Event<NamespaceMetadata>> + Send,
    mut writer: Writer<NamespaceMetadata>,
    certificates: Store<Received<DatabaseUserCertificate>>,
    triggers: Arc<Triggers>,
    filling: Filling,
) {
    let store = writer.as_reader();
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let relabelled = match &event {
            // A namespace that is new here may have come after its first certificate.
            watcher::Event::Apply(namespace) => store
                .get(&ObjectRef::from_obj(namespace))
                .is_none_or(|old| old.labels() != namespace.labels())
                .then(|| namespace.name_any()),
            _ => None,
        };
        writer.apply_watcher_event(&event);
        if matches!(event, watcher::Event::InitDone) {
            filling.done();
        }
        let Some(namespace) = relabelled else { continue };
        for certificate in certificates.state_filter(|certificate| certificate.namespace().as_ref() == Some(&namespace)) {
            triggers.wake(&Waiting::Certificate(ObjectKey::of(&certificate)));
        }
    }
}
