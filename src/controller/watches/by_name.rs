//! Watches of single objects by name: Secrets that issuers refer to, Secrets of others that have the name of ours, and objects of
//! the Atlas Kubernetes Operator.
//!
//! These objects carry no label of ours, so the label-selected watch does not show them. Watching all objects of their kind would
//! cost memory for each, and the cluster need not even serve the kind.
//!
//! # Guarantees
//!
//! - Whoever waits for an object is woken whenever what is known of it changes.
//! - Somebody who waits for another object no longer waits for the one before. A watch ends when nobody waits for its object.
//! - Only the metadata of Secrets is transferred.
//!
//! # Errors
//!
//! - A missing permission and a kind that is not served are shown as such. After any other error the watch goes on, and what was
//!   seen last stands. If nothing was seen yet, the third such error in a row is shown, so that whoever waits does not wait in silence.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use kube::{Api, Client, Resource, runtime::watcher};
use tokio::task::AbortHandle;
use tracing::warn;

use super::relists::Relists;
use crate::{
    FromMetadata, Received,
    api::NamespacedName,
    kubernetes::chain,
    triggers::{Triggers, Waiting},
};

/// So many errors in a row are shown where nothing was seen yet. The watch repeats its list after 0.8 s first, and after more each time.
const SHOWN_ERRORS: u32 = 3;

/// What a watch of one object has shown.
#[derive(Clone)]
pub(crate) enum Presence<K> {
    /// Nothing yet. Whoever waits is woken when it has shown something.
    Unknown,
    /// There is no such object.
    Absent,
    /// The cluster does not serve its kind.
    NotServed,
    /// It exists.
    Present(Arc<Received<K>>),
    /// The API server does not show it.
    Denied(String),
}

struct Entry<K> {
    waiting: HashSet<Waiting>,
    presence: Presence<K>,
    task: AbortHandle,
}

struct Entries<K> {
    by_name: HashMap<NamespacedName, Entry<K>>,
    by_waiting: HashMap<Waiting, NamespacedName>,
}

/// The API for the objects of one namespace.
type ApiOf<K> = fn(&Client, &str) -> Api<Received<K>>;

/// The watches by name of one kind.
pub(crate) struct NameWatches<K> {
    client: Client,
    api: ApiOf<K>,
    relists: Relists,
    triggers: Arc<Triggers>,
    entries: Arc<Mutex<Entries<K>>>,
}

impl<K> NameWatches<K>
where
    K: FromMetadata + Clone + Send + Sync + 'static,
{
    /// No watches yet.
    #[must_use]
    pub fn new(client: Client, api: ApiOf<K>, relists: Relists, triggers: Arc<Triggers>) -> Self {
        let entries = Entries { by_name: HashMap::new(), by_waiting: HashMap::new() };
        Self { client, api, relists, triggers, entries: Arc::new(Mutex::new(entries)) }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K>> {
        lock(&self.entries)
    }

    /// Wakes `who` from now on whenever this object changes, and no longer for any other object of this kind. Returns what is
    /// known of it.
    pub fn watch(&self, who: &Waiting, name: &NamespacedName) -> Presence<K> {
        let mut entries = self.lock();
        if entries.by_waiting.get(who) != Some(name) {
            entries.remove(who);
            entries.by_waiting.insert(who.clone(), name.clone());
            entries
                .by_name
                .entry(name.clone())
                .or_insert_with(|| Entry {
                    waiting: HashSet::new(),
                    presence: Presence::Unknown,
                    task: self.spawn(name.clone()),
                })
                .waiting
                .insert(who.clone());
        }
        entries.presence(name)
    }

    /// Stops waking `who`.
    pub fn forget(&self, who: &Waiting) {
        self.lock().remove(who);
    }

    /// Wakes everyone who waits for this object. It is called when another watch, which may be behind this one, has shown a
    /// change of it.
    pub fn wake_waiting(&self, name: &NamespacedName) {
        for who in &self.waiting(name) {
            self.triggers.wake(who);
        }
    }

    /// Who waits for this object.
    #[must_use]
    pub fn waiting(&self, name: &NamespacedName) -> HashSet<Waiting> {
        self.lock().by_name.get(name).map(|entry| entry.waiting.clone()).unwrap_or_default()
    }

    /// What is known of an object that somebody waits for.
    #[must_use]
    pub fn presence(&self, name: &NamespacedName) -> Presence<K> {
        self.lock().presence(name)
    }

    fn spawn(&self, name: NamespacedName) -> AbortHandle {
        let api = (self.api)(&self.client, &name.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", name.name));
        let (entries, triggers) = (Arc::clone(&self.entries), Arc::clone(&self.triggers));
        let mut events = self.relists.watch(api, config).boxed();
        tokio::spawn(async move {
            let (mut listed, mut failures) = (None, 0_u32);
            while let Some(event) = events.next().await {
                match &event {
                    Err(_) => failures = failures.saturating_add(1),
                    // Each list begins with it, also one that fails then.
                    Ok(watcher::Event::Init) => {}
                    Ok(_) => failures = 0,
                }
                let presence = match event {
                    Ok(watcher::Event::Init) => {
                        listed = None;
                        continue;
                    }
                    Ok(watcher::Event::InitApply(found)) => {
                        listed = Some(found);
                        continue;
                    }
                    Ok(watcher::Event::InitDone) => listed.take().map_or(Presence::Absent, present),
                    Ok(watcher::Event::Apply(found)) => present(found),
                    Ok(watcher::Event::Delete(_)) => Presence::Absent,
                    Err(error) => {
                        warn!(%name, failures, error = chain(&error), "the watch of a single object failed and goes on");
                        let is_unknown = || matches!(lock(&entries).presence(&name), Presence::Unknown);
                        match refusal(&error) {
                            Some(refusal) => refusal,
                            None if failures >= SHOWN_ERRORS && is_unknown() => Presence::Denied(chain(&error)),
                            None => continue,
                        }
                    }
                };
                for who in lock(&entries).update(&name, presence) {
                    triggers.wake(&who);
                }
            }
        })
        .abort_handle()
    }
}

impl<K> Drop for NameWatches<K> {
    fn drop(&mut self) {
        for entry in lock(&self.entries).by_name.values() {
            entry.task.abort();
        }
    }
}

impl<K: Resource + Clone> Entries<K> {
    fn presence(&self, name: &NamespacedName) -> Presence<K> {
        self.by_name.get(name).map_or(Presence::Unknown, |entry| entry.presence.clone())
    }

    fn remove(&mut self, who: &Waiting) {
        let Some(name) = self.by_waiting.remove(who) else { return };
        let Some(entry) = self.by_name.get_mut(&name) else { return };
        entry.waiting.remove(who);
        if entry.waiting.is_empty() {
            entry.task.abort();
            self.by_name.remove(&name);
        }
    }

    /// Notes what was seen. Returns who must be woken.
    fn update(&mut self, name: &NamespacedName, presence: Presence<K>) -> Vec<Waiting> {
        let Some(entry) = self.by_name.get_mut(name) else { return Vec::new() };
        let changed = !entry.presence.is_same(&presence);
        entry.presence = presence;
        if changed { entry.waiting.iter().cloned().collect() } else { Vec::new() }
    }
}

impl<K: Resource> Presence<K> {
    /// The object. `None` if nothing is known of it yet.
    ///
    /// # Errors
    /// Why it is not there, as the end of a sentence about it. For an object that does not exist, `absent`.
    pub fn known(self, absent: &str) -> Result<Option<Arc<Received<K>>>, String> {
        match self {
            Self::Unknown => Ok(None),
            Self::Absent => Err(absent.to_owned()),
            Self::NotServed => {
                Err("cannot exist, for this cluster does not serve its kind: install the Atlas Kubernetes Operator".to_owned())
            }
            Self::Denied(message) => Err(format!("cannot be read: {message}")),
            Self::Present(object) => Ok(Some(object)),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unknown, Self::Unknown)
            | (Self::Absent, Self::Absent)
            | (Self::NotServed, Self::NotServed)
            | (Self::Denied(_), Self::Denied(_)) => true,
            (Self::Present(one), Self::Present(two)) => {
                one.meta().uid == two.meta().uid && one.meta().resource_version == two.meta().resource_version
            }
            _ => false,
        }
    }
}

fn lock<K>(entries: &Mutex<Entries<K>>) -> MutexGuard<'_, Entries<K>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

fn present<K>(found: Received<K>) -> Presence<K> {
    Presence::Present(Arc::new(found))
}

/// What an error of a watch shows. A missing permission stays missing, and a kind that is not served stays so. `None` for other
/// errors, which pass: what was seen last stands.
fn refusal<K>(error: &watcher::Error) -> Option<Presence<K>> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return None;
    };
    match status.code {
        403 => Some(Presence::Denied(status.message.clone())),
        404 => Some(Presence::NotServed),
        _ => None,
    }
}
