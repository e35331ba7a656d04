//! What is known of single objects by name: Secrets that issuers refer to, Secrets of others that have the name of ours, and objects of
//! the Atlas Kubernetes Operator.
//!
//! These objects carry no label of ours, so the label-selected watch does not show them. Watching all objects of their kind would
//! cost transfer for each, and the cluster need not even serve the kind. So the namespaces are watched in which somebody waits for an object:
//! each by one watch, however many names are waited for, because every watch takes a connection.
//!
//! # Guarantees
//!
//! - Whoever waits for an object is woken whenever what is known of it changes.
//! - Somebody who waits for another object no longer waits for the one before. A watch ends when nobody waits for an object of its
//!   namespace.
//! - Of objects that nobody waits for nothing is kept. Only the metadata of Secrets is transferred.
//! - In a namespace that is not the operator's to serve, which may have granted no more than one name, each name has a watch of its own.
//!
//! # Errors
//!
//! - A missing permission and a kind that is not served are shown as such, until a list or a read is answered: both are repeated within a
//!   minute. Where something was seen before, that stands until the third refusal in a row. After any other error the watch goes on, and what was seen last stands. If nothing was seen yet, the third such error in a row is shown, so that whoever waits does not wait in silence.

mod entries;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use kube::{Api, Client, runtime::watcher};
use tokio::{sync::Semaphore, task::AbortHandle};

pub(crate) use self::entries::Presence;
use self::entries::{Entries, Entry, List, Place, PlaceWatch, ReadTask, Reduce, SHOWN_ERRORS, present};
use super::relists::Relists;
use crate::{
    FromMetadata, Received, Scope,
    api::NamespacedName,
    kubernetes::request,
    triggers::{Triggers, Waiting},
};

/// How many objects are read at once because their namespace was listed before somebody waited for them.
const READS_AT_ONCE: usize = 4;

/// The first wait before such a read is repeated. It doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The API for the objects of one namespace.
type ApiOf<K> = fn(&Client, &str) -> Api<Received<K>>;

/// What is known of objects of one kind by name.
pub(crate) struct NameWatches<K> {
    client: Client,
    api: ApiOf<K>,
    reduce: Reduce<K>,
    relists: Relists,
    triggers: Arc<Triggers>,
    reads: Arc<Semaphore>,
    entries: Arc<Mutex<Entries<K>>>,
}

impl<K> NameWatches<K>
where
    K: FromMetadata + Clone + Send + Sync + 'static,
{
    /// No watches yet. `reduce` drops what is not used of an object.
    #[must_use]
    pub fn new(
        client: Client,
        scope: &Scope,
        api: ApiOf<K>,
        reduce: Reduce<K>,
        relists: Relists,
        triggers: Arc<Triggers>,
    ) -> Self {
        let is_served: Box<dyn Fn(&str) -> bool + Send> = match scope.clone() {
            Scope::Cluster { .. } => Box::new(|_| true),
            Scope::Namespace(served) => Box::new(move |namespace| namespace == served),
        };
        let entries = Entries { by_place: HashMap::new(), by_waiting: HashMap::new(), is_served };
        let (reads, relists) = (Arc::new(Semaphore::new(READS_AT_ONCE)), relists.seen_in_conditions());
        Self { client, api, reduce, relists, triggers, reads, entries: Arc::new(Mutex::new(entries)) }
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
            let place = entries.place_of(name);
            let watch = entries.by_place.entry(place.clone()).or_insert_with(|| PlaceWatch {
                names: HashMap::new(),
                has_begun: false,
                failures: 0,
                task: self.spawn(place),
            });
            let has_begun = watch.has_begun;
            let entry =
                watch.names.entry(name.name.clone()).or_insert_with(|| Entry::new(has_begun.then(|| self.read(name.clone()))));
            entry.waiting.insert(who.clone());
        }
        entries.presence(name)
    }

    /// Stops waking `who`.
    pub fn forget(&self, who: &Waiting) {
        self.lock().remove(who);
    }

    /// Stops waking `who`. Returns the object, if nobody waits for it any more.
    #[must_use]
    pub fn release(&self, who: &Waiting) -> Option<NamespacedName> {
        self.lock().remove(who)
    }

    /// Wakes everyone who waits for this object. It is called when another watch, which may be behind this one, has shown a
    /// change of it.
    pub fn wake_waiting(&self, name: &NamespacedName) {
        for who in &self.waiting(name) {
            self.triggers.wake(who);
        }
    }

    /// For which object of this kind somebody waits.
    #[must_use]
    pub fn awaited_by(&self, who: &Waiting) -> Option<NamespacedName> {
        self.lock().by_waiting.get(who).cloned()
    }

    /// Who waits for this object.
    #[must_use]
    pub fn waiting(&self, name: &NamespacedName) -> HashSet<Waiting> {
        self.lock().entry(name).map(|entry| entry.waiting.clone()).unwrap_or_default()
    }

    /// What is known of an object that somebody waits for.
    #[must_use]
    pub fn presence(&self, name: &NamespacedName) -> Presence<K> {
        self.lock().presence(name)
    }

    fn spawn(&self, place: Place) -> AbortHandle {
        let api = (self.api)(&self.client, &place.namespace);
        let config = watcher::Config::default();
        let config = match &place.name {
            Some(name) => config.fields(&format!("metadata.name={name}")),
            None => config,
        };
        let (entries, triggers, reduce) = (Arc::clone(&self.entries), Arc::clone(&self.triggers), self.reduce);
        let mut events = self.relists.watch("watch/by-name", api, config).boxed();
        tokio::spawn(async move {
            let mut list = List::default();
            while let Some(event) = events.next().await {
                for who in lock(&entries).apply(&place, &mut list, event, reduce) {
                    triggers.wake(&who);
                }
            }
        })
        .abort_handle()
    }

    /// Reads an object whose namespace was listed before somebody waited for it. What the watch has shown meanwhile is newer, or is followed
    /// by what is newer: then the answer does not count.
    fn read(&self, name: NamespacedName) -> ReadTask {
        let api = (self.api)(&self.client, &name.namespace);
        let (entries, triggers, reduce) = (Arc::clone(&self.entries), Arc::clone(&self.triggers), self.reduce);
        let reads = Arc::clone(&self.reads);
        let task = tokio::spawn(async move {
            let (mut wait, mut failures) = (FIRST_WAIT, 0_u32);
            while lock(&entries).is_unknown(&name) {
                let found = {
                    let Ok(_permit) = reads.acquire().await else { return };
                    request("look for an object", api.get_opt(&name.name)).await
                };
                let presence = match found {
                    Ok(Some(found)) => Some(present(found, reduce)),
                    Ok(None) => Some(Presence::Absent),
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        let is_shown = error.is_denied() || failures >= SHOWN_ERRORS;
                        is_shown.then(|| Presence::Denied(error.explanation()))
                    }
                };
                if let Some(presence) = presence {
                    for who in lock(&entries).learn(&name, presence) {
                        triggers.wake(&who);
                    }
                }
                // What was refused is asked for again: the watch, which may be in order, tells only of changes.
                if !lock(&entries).is_unknown(&name) {
                    return;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        });
        ReadTask(task.abort_handle())
    }
}

impl<K> Drop for NameWatches<K> {
    fn drop(&mut self) {
        for watch in lock(&self.entries).by_place.values() {
            watch.task.abort();
        }
    }
}

fn lock<K>(entries: &Mutex<Entries<K>>) -> MutexGuard<'_, Entries<K>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}
