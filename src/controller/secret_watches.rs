//! Watches of single Secrets by name: those that issuers refer to, and foreign ones that stand where ours should be.
//!
//! They carry no label of ours, so the label-selected watch does not show them; watching all Secrets of the cluster instead
//! would cost memory for each of them. Only metadata is transferred.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::task::AbortHandle;

use super::{
    memory::NamespacedName,
    triggers::{Triggers, Waiting},
};

/// What a watch of one Secret has shown.
#[derive(Clone, Debug)]
pub enum Sighting {
    /// Nothing yet; whoever waits is woken when it has.
    Unknown,
    /// There is no such Secret.
    Absent,
    /// It exists, with this metadata.
    Present(Arc<PartialObjectMeta<Secret>>),
    /// The API server refuses to show it.
    Refused(String),
}

struct Entry {
    waiting: HashSet<Waiting>,
    sighting: Sighting,
    task: AbortHandle,
}

#[derive(Default)]
struct Entries {
    by_secret: HashMap<NamespacedName, Entry>,
    by_waiting: HashMap<Waiting, NamespacedName>,
}

/// The watches.
pub struct SecretWatches {
    client: Client,
    triggers: Arc<Triggers>,
    entries: Arc<Mutex<Entries>>,
}

impl SecretWatches {
    /// None yet.
    #[must_use]
    pub fn new(client: Client, triggers: Arc<Triggers>) -> Self {
        Self { client, triggers, entries: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }

    /// Has `who` woken whenever this Secret changes, and no other one. Returns what is known of it.
    pub fn watch(&self, who: &Waiting, secret: &NamespacedName) -> Sighting {
        let mut entries = self.lock();
        if entries.by_waiting.get(who) != Some(secret) {
            entries.remove(who);
            entries.by_waiting.insert(who.clone(), secret.clone());
            entries
                .by_secret
                .entry(secret.clone())
                .or_insert_with(|| Entry {
                    waiting: HashSet::new(),
                    sighting: Sighting::Unknown,
                    task: self.spawn(secret.clone()),
                })
                .waiting
                .insert(who.clone());
        }
        entries.sighting(secret)
    }

    /// `who` waits no longer.
    pub fn forget(&self, who: &Waiting) {
        self.lock().remove(who);
    }

    /// Has everyone woken who waits for this Secret: another watch, which this one may be ahead of, has shown a change of it.
    pub fn wake_waiting(&self, secret: &NamespacedName) {
        let waiting = self.lock().by_secret.get(secret).map(|entry| entry.waiting.clone()).unwrap_or_default();
        for who in &waiting {
            self.triggers.wake(who);
        }
    }

    /// What is known of a Secret that somebody waits for.
    #[must_use]
    pub fn sighting(&self, secret: &NamespacedName) -> Sighting {
        self.lock().sighting(secret)
    }

    fn spawn(&self, secret: NamespacedName) -> AbortHandle {
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(self.client.clone(), &secret.0);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", secret.1));
        let (entries, triggers) = (Arc::clone(&self.entries), Arc::clone(&self.triggers));
        tokio::spawn(async move {
            let mut events = watcher(api, config).default_backoff().boxed();
            let mut listed = None;
            while let Some(event) = events.next().await {
                let sighting = match event {
                    Ok(watcher::Event::Init) => {
                        listed = None;
                        continue;
                    }
                    Ok(watcher::Event::InitApply(found)) => {
                        listed = Some(found);
                        continue;
                    }
                    Ok(watcher::Event::InitDone) => listed.take().map_or(Sighting::Absent, present),
                    Ok(watcher::Event::Apply(found)) => present(found),
                    Ok(watcher::Event::Delete(_)) => Sighting::Absent,
                    Err(error) => match refusal(&error) {
                        Some(message) => Sighting::Refused(message),
                        None => continue,
                    },
                };
                for who in lock(&entries).update(&secret, sighting) {
                    triggers.wake(&who);
                }
            }
        })
        .abort_handle()
    }
}

impl Drop for SecretWatches {
    fn drop(&mut self) {
        for entry in self.lock().by_secret.values() {
            entry.task.abort();
        }
    }
}

impl Entries {
    fn sighting(&self, secret: &NamespacedName) -> Sighting {
        self.by_secret.get(secret).map_or(Sighting::Unknown, |entry| entry.sighting.clone())
    }

    fn remove(&mut self, who: &Waiting) {
        let Some(secret) = self.by_waiting.remove(who) else { return };
        let Some(entry) = self.by_secret.get_mut(&secret) else { return };
        entry.waiting.remove(who);
        if entry.waiting.is_empty() {
            entry.task.abort();
            self.by_secret.remove(&secret);
        }
    }

    /// Notes what was seen; returns who is to be woken.
    fn update(&mut self, secret: &NamespacedName, sighting: Sighting) -> Vec<Waiting> {
        let Some(entry) = self.by_secret.get_mut(secret) else { return Vec::new() };
        let changed = !entry.sighting.is_same(&sighting);
        entry.sighting = sighting;
        if changed { entry.waiting.iter().cloned().collect() } else { Vec::new() }
    }
}

impl Sighting {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unknown, Self::Unknown) | (Self::Absent, Self::Absent) | (Self::Refused(_), Self::Refused(_)) => true,
            (Self::Present(one), Self::Present(two)) => {
                one.uid() == two.uid() && one.resource_version() == two.resource_version()
            }
            _ => false,
        }
    }
}

fn lock(entries: &Mutex<Entries>) -> MutexGuard<'_, Entries> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

fn present(mut found: PartialObjectMeta<Secret>) -> Sighting {
    found.managed_fields_mut().clear();
    Sighting::Present(Arc::new(found))
}

/// A permission that is missing stays missing; other errors of a watch pass, and the last sighting stands.
fn refusal(error: &watcher::Error) -> Option<String> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return None;
    };
    (status.code == 403).then(|| status.message.clone())
}
