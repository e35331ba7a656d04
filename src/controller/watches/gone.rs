//! Which objects went while a watch was interrupted: those that the next list does not have.

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};

use crate::api::ObjectKey;

/// The names that were in the cache when a list began.
pub(crate) struct Gone<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    before: Vec<ObjectRef<K>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Gone<K> {
    /// Nothing is listed yet.
    pub fn new(store: Store<K>) -> Self {
        Self { store, before: Vec::new() }
    }

    /// Takes the next event of the watch, which the cache has taken before. At the end of a list it returns what was in the cache before the list
    /// and is not any more.
    pub fn after(&mut self, event: &watcher::Event<K>) -> Vec<ObjectKey> {
        match event {
            watcher::Event::Init => {
                self.before = self.store.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect();
                Vec::new()
            }
            watcher::Event::InitDone => {
                let before = std::mem::take(&mut self.before).into_iter();
                let gone = before.filter(|name| self.store.get(name).is_none());
                gone.map(|name| ObjectKey::new(name.namespace.unwrap_or_default(), name.name)).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use kube::runtime::{reflector, watcher::Event};

    use super::*;

    fn object(name: &str) -> ConfigMap {
        let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("shop".into()), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    #[test]
    fn what_a_list_does_not_have_any_more_is_gone() {
        let (store, mut writer) = reflector::store();
        let mut gone = Gone::new(store);
        let mut see = |event: Event<ConfigMap>| {
            writer.apply_watcher_event(&event);
            gone.after(&event)
        };
        for event in [Event::Init, Event::InitApply(object("a")), Event::InitApply(object("b")), Event::InitDone] {
            assert_eq!(see(event), [], "the first list");
        }
        assert_eq!(see(Event::Apply(object("c"))), []);
        assert_eq!(see(Event::Delete(object("c"))), [], "the watch shows it");
        for event in [Event::Init, Event::Init, Event::InitApply(object("b")), Event::InitApply(object("d"))] {
            assert_eq!(see(event), []);
        }
        assert_eq!(see(Event::InitDone), [ObjectKey::new("shop", "a")]);
        for event in [Event::Init, Event::InitApply(object("b")), Event::InitApply(object("d"))] {
            assert_eq!(see(event), []);
        }
        assert_eq!(see(Event::InitDone), []);
    }
}
