//! What is known of objects by name, and who waits for them: what follows from each event of a watch and from each read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kube::{Resource, ResourceExt, runtime::watcher};
use tokio::task::AbortHandle;
use tracing::warn;

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
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return None };
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
            watch.names.entry(name.name).or_insert_with(|| Entry::new(None)).waiting.insert(who);
        }

        fn fail(&mut self, error: watcher::Error) -> Vec<Waiting> {
            let place = Place { namespace: "shop".to_owned(), name: None };
            self.entries.apply(&place, &mut self.list, Err(error), |_| {})
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

    /// The list may have shown it while nobody waited for it.
    #[tokio::test]
    async fn what_somebody_waits_for_anew_while_a_list_comes_in_is_read_and_the_list_does_not_count() {
        let mut shop = Namespace::new();
        shop.wait_for("a");
        shop.wait_for("b");
        shop.show(Event::Init);
        shop.entries.remove(&who("a"));
        shop.show(Event::InitApply(secret("a", "5")));
        shop.wait_for("a");
        assert_eq!(shop.read("a", Some(secret("a", "5"))), [who("a")]);
        assert_eq!(shop.show(Event::InitDone), [who("b")]);
        assert_eq!(shop.version("a").as_deref(), Some("5"));
        shop.show(Event::Init);
        assert_eq!(shop.show(Event::InitDone), [who("a")], "the next list counts");
    }

    fn refused(code: u16) -> kube::Error {
        let status = json!({ "status": "Failure", "code": code, "message": "no", "reason": "" });
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[tokio::test]
    async fn a_watch_that_is_refused_after_its_list_hides_nothing_that_the_list_has_shown() {
        for code in [401, 403, 404, 500] {
            let mut shop = Namespace::new();
            shop.wait_for("a");
            shop.show(Event::Init);
            shop.show(Event::InitApply(secret("a", "5")));
            shop.show(Event::InitDone);
            for _ in 0..5 {
                assert!(shop.fail(watcher::Error::WatchStartFailed(refused(code))).is_empty(), "{code}");
            }
            assert_eq!(shop.version("a").as_deref(), Some("5"), "{code}");
        }
    }

    #[tokio::test]
    async fn a_list_that_is_refused_is_shown_until_one_is_answered() {
        let mut shop = Namespace::new();
        shop.wait_for("a");
        shop.show(Event::Init);
        assert_eq!(shop.fail(watcher::Error::InitialListFailed(refused(403))), [who("a")]);
        assert_eq!(shop.version("a").as_deref(), Some("absent"), "denied");
        shop.show(Event::Init);
        shop.show(Event::InitApply(secret("a", "5")));
        assert_eq!(shop.show(Event::InitDone), [who("a")]);
        assert_eq!(shop.version("a").as_deref(), Some("5"));
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
