//! What is known of objects by name, and who waits for them: what follows from each event of a watch and from each read.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kube::{Resource, ResourceExt, runtime::watcher};
use tokio::task::AbortHandle;
use tracing::warn;

use super::super::relists::list_refused;
use crate::{Received, api::NamespacedName, kubernetes::chain, triggers::Waiting};

/// So many errors in a row are shown, though what was seen before may stand. The watch repeats its list after 0.8 s first, and after more each time.
pub(super) const SHOWN_ERRORS: u32 = 3;

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
pub(super) struct Place {
    pub(super) namespace: String,
    /// The only object that it shows. `None`: all of the namespace.
    pub(super) name: Option<String>,
}

pub(super) struct Entry<K> {
    pub(super) waiting: HashSet<Waiting>,
    pub(super) presence: Presence<K>,
    /// Whether it was there when the list began that is coming in. If not, the list may have passed its object already, and it is read.
    pub(super) is_listed: bool,
    /// It ends with the entry: without that, each change of what is waited for would leave one behind.
    pub(super) _read: Option<ReadTask>,
}

/// The task that reads an object which a list may have passed. It ends when this is dropped.
pub(super) struct ReadTask(pub(super) AbortHandle);

impl Drop for ReadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K> Entry<K> {
    /// One that nobody waits for yet.
    pub(super) fn new(read: Option<ReadTask>) -> Self {
        Self { waiting: HashSet::new(), presence: Presence::Unknown, is_listed: false, _read: read }
    }
}

/// A watch, and what is known by it.
pub(super) struct PlaceWatch<K> {
    pub(super) names: HashMap<String, Entry<K>>,
    /// Whether a list has begun. Objects that somebody waits for since are read one by one.
    pub(super) has_begun: bool,
    /// How many errors there were in a row.
    pub(super) failures: u32,
    pub(super) task: AbortHandle,
}

pub(super) struct Entries<K> {
    pub(super) by_place: HashMap<Place, PlaceWatch<K>>,
    pub(super) by_waiting: HashMap<Waiting, NamespacedName>,
    /// Whether all objects of the namespace may be watched.
    pub(super) is_served: Box<dyn Fn(&str) -> bool + Send>,
}

/// What is kept of an object.
pub(super) type Reduce<K> = fn(&mut K);

/// What a list has shown that is coming in.
pub(super) type List<K> = HashMap<String, Presence<K>>;

impl<K: Resource + Clone> Entries<K> {
    pub(super) fn place_of(&self, name: &NamespacedName) -> Place {
        let name_alone = (!(self.is_served)(&name.namespace)).then(|| name.name.clone());
        Place { namespace: name.namespace.clone(), name: name_alone }
    }

    pub(super) fn entry(&self, name: &NamespacedName) -> Option<&Entry<K>> {
        self.by_place.get(&self.place_of(name))?.names.get(&name.name)
    }

    pub(super) fn presence(&self, name: &NamespacedName) -> Presence<K> {
        self.entry(name).map_or(Presence::Unknown, |entry| entry.presence.clone())
    }

    pub(super) fn is_unknown(&self, name: &NamespacedName) -> bool {
        self.entry(name).is_some_and(|entry| matches!(entry.presence, Presence::Unknown | Presence::Denied(_)))
    }

    pub(super) fn remove(&mut self, who: &Waiting) -> Option<NamespacedName> {
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
    pub(super) fn apply(
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
                watch.names.values_mut().for_each(|entry| entry.is_listed = true);
                list.clear();
                Vec::new()
            }
            Ok(watcher::Event::InitApply(found)) => {
                let name = found.name_any();
                if watch.names.contains_key(&name) {
                    list.insert(name, present(found, reduce));
                }
                Vec::new()
            }
            Ok(watcher::Event::InitDone) => {
                let mut found = std::mem::take(list);
                let listed = watch.names.iter().filter(|(_, entry)| entry.is_listed).map(|(name, _)| name.clone());
                let listed: Vec<String> = listed.collect();
                let presences = listed.into_iter().map(|name| {
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
    pub(super) fn learn(&mut self, name: &NamespacedName, presence: Presence<K>) -> Vec<Waiting> {
        if !self.is_unknown(name) {
            return Vec::new();
        }
        let place = self.place_of(name);
        self.by_place.get_mut(&place).map(|watch| watch.update(&name.name, presence)).unwrap_or_default()
    }
}

impl<K: Resource + Clone> PlaceWatch<K> {
    /// Shows an error that does not pass: at once where nothing is known yet, and elsewhere when it comes again and again, because an authorizer
    /// may err for a moment. Another error is shown when it comes again and again, where nothing is known.
    fn failed(&mut self, error: &watcher::Error) -> Vec<Waiting> {
        let refusal = refusal(error);
        let lasts = self.failures >= SHOWN_ERRORS;
        let is_shown = |entry: &Entry<K>| match entry.presence {
            Presence::Unknown => lasts || refusal.is_some(),
            _ => lasts && refusal.is_some(),
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

pub(super) fn present<K>(mut found: Received<K>, reduce: Reduce<K>) -> Presence<K> {
    reduce(&mut found);
    Presence::Present(Arc::new(found))
}

/// What an error of a list shows: a missing permission, and a kind that is not served. `None` for other errors, which pass: what was seen
/// last stands. So it does where a list was answered and the watch after it was refused, because a list follows soon ([`Relists`]).
///
/// [`Relists`]: super::super::relists::Relists
fn refusal<K>(error: &watcher::Error) -> Option<Presence<K>> {
    let status = list_refused(error)?;
    Some(if status.code == 403 { Presence::Denied(status.message.clone()) } else { Presence::NotServed })
}
