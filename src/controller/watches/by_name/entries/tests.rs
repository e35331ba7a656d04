//! Statements about what is known of objects by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

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
