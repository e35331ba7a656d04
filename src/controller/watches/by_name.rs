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
//! - A missing permission and a kind that is not served are shown as such. After any other error the watch goes on, and what was
//!   seen last stands. If nothing was seen yet, the third such error in a row is shown, so that whoever waits does not wait in silence.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use tokio::{sync::Semaphore, task::AbortHandle};
use tracing::warn;

use super::relists::Relists;
use crate::{
    FromMetadata, Received, Scope,
    api::NamespacedName,
    kubernetes::{KubernetesError, chain, request},
    triggers::{Triggers, Waiting},
};

/// So many errors in a row are shown where nothing was seen yet. The watch repeats its list after 0.8 s first, and after more each time.
const SHOWN_ERRORS: u32 = 3;

/// How many objects are read at once because their namespace was listed before somebody waited for them.
const READS_AT_ONCE: usize = 4;

/// The first wait before such a read is repeated. It doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is known of one object.
#[derive(Clone)]
pub(crate) enum Presence<K> {
    /// Nothing yet. Whoever waits is woken when something is.
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

/// What one watch shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    namespace: String,
    /// The only object that it shows. `None`: all of the namespace.
    name: Option<String>,
}

struct Entry<K> {
    waiting: HashSet<Waiting>,
    presence: Presence<K>,
}

/// A watch, and what is known by it.
struct PlaceWatch<K> {
    names: HashMap<String, Entry<K>>,
    /// Whether a list has begun. Objects that somebody waits for since are read one by one.
    has_begun: bool,
    /// How many errors there were in a row.
    failures: u32,
    task: AbortHandle,
}

struct Entries<K> {
    by_place: HashMap<Place, PlaceWatch<K>>,
    by_waiting: HashMap<Waiting, NamespacedName>,
    /// Whether all objects of the namespace may be watched.
    is_served: Box<dyn Fn(&str) -> bool + Send>,
}

/// The API for the objects of one namespace.
type ApiOf<K> = fn(&Client, &str) -> Api<Received<K>>;

/// What is kept of an object.
type Reduce<K> = fn(&mut K);

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
        let reads = Arc::new(Semaphore::new(READS_AT_ONCE));
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
            let entry = watch.names.entry(name.name.clone()).or_insert_with(|| {
                if has_begun {
                    self.read(name.clone());
                }
                Entry { waiting: HashSet::new(), presence: Presence::Unknown }
            });
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
    fn read(&self, name: NamespacedName) {
        let api = (self.api)(&self.client, &name.namespace);
        let (entries, triggers, reduce) = (Arc::clone(&self.entries), Arc::clone(&self.triggers), self.reduce);
        let reads = Arc::clone(&self.reads);
        tokio::spawn(async move {
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
                        if failures == SHOWN_ERRORS {
                            for who in lock(&entries).learn(&name, Presence::Denied(error.explanation())) {
                                triggers.wake(&who);
                            }
                        }
                        denied(&error)
                    }
                };
                if let Some(presence) = presence {
                    for who in lock(&entries).learn(&name, presence) {
                        triggers.wake(&who);
                    }
                    return;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        });
    }
}

impl<K> Drop for NameWatches<K> {
    fn drop(&mut self) {
        for watch in lock(&self.entries).by_place.values() {
            watch.task.abort();
        }
    }
}

/// A list that is coming in.
struct List<K> {
    /// The names that were waited for when it began.
    wanted: Vec<String>,
    found: HashMap<String, Presence<K>>,
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self { wanted: Vec::new(), found: HashMap::new() }
    }
}

impl<K: Resource + Clone> Entries<K> {
    fn place_of(&self, name: &NamespacedName) -> Place {
        let name_alone = (!(self.is_served)(&name.namespace)).then(|| name.name.clone());
        Place { namespace: name.namespace.clone(), name: name_alone }
    }

    fn entry(&self, name: &NamespacedName) -> Option<&Entry<K>> {
        self.by_place.get(&self.place_of(name))?.names.get(&name.name)
    }

    fn presence(&self, name: &NamespacedName) -> Presence<K> {
        self.entry(name).map_or(Presence::Unknown, |entry| entry.presence.clone())
    }

    fn is_unknown(&self, name: &NamespacedName) -> bool {
        self.entry(name).is_some_and(|entry| matches!(entry.presence, Presence::Unknown | Presence::Denied(_)))
    }

    fn remove(&mut self, who: &Waiting) -> Option<NamespacedName> {
        let name = self.by_waiting.remove(who)?;
        let place = self.place_of(&name);
        let watch = self.by_place.get_mut(&place)?;
        let entry = watch.names.get_mut(&name.name)?;
        entry.waiting.remove(who);
        if !entry.waiting.is_empty() {
            return None;
        }
        watch.names.remove(&name.name);
        if watch.names.is_empty() {
            watch.task.abort();
            self.by_place.remove(&place);
        }
        Some(name)
    }

    /// Notes what a watch shows. Returns who must be woken.
    fn apply(
        &mut self,
        place: &Place,
        list: &mut List<K>,
        event: watcher::Result<watcher::Event<Received<K>>>,
        reduce: Reduce<K>,
    ) -> Vec<Waiting> {
        let Some(watch) = self.by_place.get_mut(place) else { return Vec::new() };
        match &event {
            Err(_) => watch.failures = watch.failures.saturating_add(1),
            // Each list begins with it, also one that fails then.
            Ok(watcher::Event::Init) => {}
            Ok(_) => watch.failures = 0,
        }
        match event {
            Ok(watcher::Event::Init) => {
                watch.has_begun = true;
                *list = List { wanted: watch.names.keys().cloned().collect(), found: HashMap::new() };
                Vec::new()
            }
            Ok(watcher::Event::InitApply(found)) => {
                let name = found.name_any();
                if watch.names.contains_key(&name) {
                    list.found.insert(name, present(found, reduce));
                }
                Vec::new()
            }
            Ok(watcher::Event::InitDone) => {
                let List { wanted, mut found } = std::mem::take(list);
                let presences = wanted.into_iter().map(|name| {
                    let presence = found.remove(&name).unwrap_or(Presence::Absent);
                    (name, presence)
                });
                presences.flat_map(|(name, presence)| watch.update(&name, presence)).collect()
            }
            Ok(watcher::Event::Apply(found)) => {
                let name = found.name_any();
                if watch.names.contains_key(&name) { watch.update(&name, present(found, reduce)) } else { Vec::new() }
            }
            Ok(watcher::Event::Delete(gone)) => watch.update(&gone.name_any(), Presence::Absent),
            Err(error) => {
                let failures = watch.failures;
                warn!(
                    namespace = place.namespace,
                    failures,
                    error = chain(&error),
                    "a watch of objects by name failed and goes on"
                );
                watch.failed(&error)
            }
        }
    }

    /// Notes what a read has found, if the watch has shown nothing meanwhile. Returns who must be woken.
    fn learn(&mut self, name: &NamespacedName, presence: Presence<K>) -> Vec<Waiting> {
        if !self.is_unknown(name) {
            return Vec::new();
        }
        let place = self.place_of(name);
        self.by_place.get_mut(&place).map(|watch| watch.update(&name.name, presence)).unwrap_or_default()
    }
}

impl<K: Resource + Clone> PlaceWatch<K> {
    /// Shows an error that does not pass of all names, and another one, when it comes again and again, of those of which nothing is known.
    fn failed(&mut self, error: &watcher::Error) -> Vec<Waiting> {
        let refusal = refusal(error);
        let is_shown = |entry: &Entry<K>| {
            refusal.is_some() || self.failures >= SHOWN_ERRORS && matches!(entry.presence, Presence::Unknown)
        };
        let names = self.names.iter().filter(|(_, entry)| is_shown(entry)).map(|(name, _)| name.clone());
        let names: Vec<String> = names.collect();
        let shown = refusal.unwrap_or_else(|| Presence::Denied(chain(error)));
        names.iter().flat_map(|name| self.update(name, shown.clone())).collect()
    }

    fn update(&mut self, name: &str, presence: Presence<K>) -> Vec<Waiting> {
        let Some(entry) = self.names.get_mut(name) else { return Vec::new() };
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

fn present<K>(mut found: Received<K>, reduce: Reduce<K>) -> Presence<K> {
    reduce(&mut found);
    Presence::Present(Arc::new(found))
}

/// What a read that was refused shows. `None` for other errors, which pass.
fn denied<K>(error: &KubernetesError) -> Option<Presence<K>> {
    error.is_denied().then(|| Presence::Denied(error.explanation()))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::PartialObjectMeta;
    use serde_json::json;
    use watcher::Event;

    use super::*;
    use crate::api::ObjectKey;

    type Metadata = PartialObjectMeta<Secret>;

    fn secret(name: &str, version: &str) -> Received<Metadata> {
        let metadata = json!({ "name": name, "namespace": "shop", "uid": name, "resourceVersion": version });
        serde_json::from_str(&json!({ "metadata": metadata }).to_string()).unwrap()
    }

    fn who(name: &str) -> Waiting {
        Waiting::Certificate(ObjectKey::new("shop", name))
    }

    /// One namespace with a watch that shows nothing by itself.
    struct Namespace {
        entries: Entries<Metadata>,
        list: List<Metadata>,
    }

    impl Namespace {
        fn new() -> Self {
            let entries =
                Entries { by_place: HashMap::new(), by_waiting: HashMap::new(), is_served: Box::new(|name| name == "shop") };
            Self { entries, list: List::default() }
        }

        fn wait_for(&mut self, name: &str) {
            let (who, name) = (who(name), NamespacedName::new("shop", name));
            let place = self.entries.place_of(&name);
            self.entries.by_waiting.insert(who.clone(), name.clone());
            let task = tokio::spawn(async {}).abort_handle();
            let watch = self.entries.by_place.entry(place);
            let watch = watch.or_insert_with(|| PlaceWatch { names: HashMap::new(), has_begun: false, failures: 0, task });
            let entry = Entry { waiting: HashSet::from([who]), presence: Presence::Unknown };
            watch.names.insert(name.name, entry);
        }

        fn show(&mut self, event: Event<Received<Metadata>>) -> Vec<Waiting> {
            let place = Place { namespace: "shop".to_owned(), name: None };
            self.entries.apply(&place, &mut self.list, Ok(event), |_| {})
        }

        fn read(&mut self, name: &str, found: Option<Received<Metadata>>) -> Vec<Waiting> {
            let presence = found.map_or(Presence::Absent, |found| present(found, |_| {}));
            self.entries.learn(&NamespacedName::new("shop", name), presence)
        }

        fn version(&self, name: &str) -> Option<String> {
            match self.entries.presence(&NamespacedName::new("shop", name)) {
                Presence::Unknown => None,
                Presence::Present(found) => found.resource_version(),
                _ => Some("absent".to_owned()),
            }
        }
    }

    #[tokio::test]
    async fn a_list_tells_of_those_who_were_waited_for_when_it_began_and_nothing_else_is_kept() {
        let mut shop = Namespace::new();
        shop.wait_for("a");
        shop.wait_for("b");
        assert!(shop.show(Event::Init).is_empty());
        shop.show(Event::InitApply(secret("a", "5")));
        shop.show(Event::InitApply(secret("of-another", "6")));
        // The list may have passed it already.
        shop.wait_for("late");
        let woken: HashSet<Waiting> = shop.show(Event::InitDone).into_iter().collect();
        assert_eq!(woken, HashSet::from([who("a"), who("b")]));
        assert_eq!(shop.version("a").as_deref(), Some("5"));
        assert_eq!(shop.version("b").as_deref(), Some("absent"));
        assert_eq!(shop.version("late"), None, "it is read");
        assert_eq!(shop.read("late", Some(secret("late", "7"))), [who("late")]);
        assert_eq!(shop.version("late").as_deref(), Some("7"));
        assert!(shop.show(Event::Apply(secret("of-another", "8"))).is_empty());
        assert_eq!(shop.entries.by_place.values().next().unwrap().names.len(), 3);
    }

    #[tokio::test]
    async fn a_read_that_comes_after_an_event_does_not_count() {
        let mut shop = Namespace::new();
        shop.show(Event::Init);
        shop.wait_for("a");
        shop.show(Event::Init);
        shop.show(Event::InitDone);
        shop.wait_for("b");
        assert_eq!(shop.show(Event::Apply(secret("b", "9"))), [who("b")]);
        assert!(shop.show(Event::Apply(secret("b", "9"))).is_empty(), "nothing has changed");
        assert!(shop.read("b", None).is_empty());
        assert_eq!(shop.version("b").as_deref(), Some("9"));
        assert_eq!(shop.show(Event::Delete(secret("b", "9"))), [who("b")]);
    }

    #[tokio::test]
    async fn the_watch_ends_with_the_last_name() {
        let mut shop = Namespace::new();
        shop.wait_for("a");
        shop.wait_for("b");
        assert_eq!(shop.entries.by_place.len(), 1, "one for all names of the namespace");
        assert_eq!(shop.entries.remove(&who("a")), Some(NamespacedName::new("shop", "a")));
        assert_eq!(shop.entries.by_place.len(), 1);
        shop.entries.remove(&who("b"));
        assert!(shop.entries.by_place.is_empty() && shop.entries.by_waiting.is_empty());
        let elsewhere = shop.entries.place_of(&NamespacedName::new("lending", "key"));
        assert_eq!(elsewhere.name.as_deref(), Some("key"), "another namespace may have granted this name alone");
    }
}
