//! Places among the passes that run at once, shared out between namespaces.
//!
//! # Guarantees
//!
//! - No namespace holds more than half of the places, and less while others hold some ([`Shares`]). So passes that take long, because a webhook or
//!   an endpoint of the namespace does, leave places to all others.
//! - Whoever gets no place is woken when there is one for its namespace: the namespace that has waited longest first, and in it whoever came
//!   first.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::shares::Shares;
use crate::{
    api::ObjectKey,
    triggers::{Triggers, Waiting},
};

/// The places for the passes of one controller.
#[derive(Clone)]
pub(crate) struct Places(Arc<Mutex<Taken>>);

struct Taken {
    shares: Shares,
    waiting: HashMap<String, VecDeque<ObjectKey>>,
    all_waiting: HashSet<ObjectKey>,
}

/// A place. It is given back when this value is dropped.
pub(crate) struct Place {
    places: Places,
    namespace: String,
    triggers: Arc<Triggers>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.shares.give_back(&self.namespace);
        let next = taken.next();
        drop(taken);
        if let Some(next) = next {
            self.triggers.wake(&Waiting::Certificate(next));
        }
    }
}

impl Places {
    /// So many places, all free.
    pub fn new(all: u16) -> Self {
        let taken = Taken { shares: Shares::new(u32::from(all)), waiting: HashMap::new(), all_waiting: HashSet::new() };
        Self(Arc::new(Mutex::new(taken)))
    }

    /// A place for a pass over this object. Without one, `who` is woken when there is one.
    pub fn take(&self, who: &ObjectKey, triggers: &Arc<Triggers>) -> Option<Place> {
        let mut taken = self.lock();
        if !taken.shares.have_room_for(&who.namespace) {
            if taken.all_waiting.insert(who.clone()) {
                taken.waiting.entry(who.namespace.clone()).or_default().push_back(who.clone());
            }
            return None;
        }
        taken.forget(who);
        taken.shares.take(&who.namespace);
        Some(Place { places: self.clone(), namespace: who.namespace.clone(), triggers: Arc::clone(triggers) })
    }

    /// `who` is gone. If it was woken for a place, the next one is.
    pub fn forget(&self, who: &ObjectKey, triggers: &Triggers) {
        let mut taken = self.lock();
        taken.forget(who);
        let next = taken.next();
        drop(taken);
        if let Some(next) = next {
            triggers.wake(&Waiting::Certificate(next));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn forget(&mut self, who: &ObjectKey) {
        if !self.all_waiting.remove(who) {
            return;
        }
        if let Some(waiting) = self.waiting.get_mut(&who.namespace) {
            waiting.retain(|other| other != who);
            if waiting.is_empty() {
                self.waiting.remove(&who.namespace);
            }
        }
    }

    /// Who is woken for a place that is free.
    fn next(&mut self) -> Option<ObjectKey> {
        let with_room = self.waiting.keys().filter(|namespace| self.shares.have_room_for(namespace));
        let namespace = with_room.min_by_key(|namespace| self.shares.order_of(namespace))?.clone();
        let next = self.waiting.get_mut(&namespace)?.pop_front();
        if self.waiting.get(&namespace).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&namespace);
        }
        if let Some(next) = &next {
            self.all_waiting.remove(next);
        }
        next
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn key(namespace: &str, number: usize) -> ObjectKey {
        ObjectKey::new(namespace, number.to_string())
    }

    #[tokio::test]
    async fn a_namespace_whose_passes_take_long_leaves_places_and_whoever_waits_is_woken_once() {
        let (triggers, mut woken) = Triggers::new();
        let (places, triggers) = (Places::new(8), Arc::new(triggers));
        let mut greedy: Vec<Place> = (0..300).filter_map(|number| places.take(&key("greedy", number), &triggers)).collect();
        assert_eq!(greedy.len(), 4);
        let neighbour = places.take(&key("neighbour", 0), &triggers).unwrap();
        assert!(places.take(&key("greedy", 7), &triggers).is_none(), "it waits already");
        assert!(woken.certificates.next().now_or_never().is_none());
        drop(neighbour);
        assert!(woken.certificates.next().now_or_never().is_none(), "as many are free as the greedy one holds");
        drop(greedy.pop());
        assert_eq!(woken.certificates.next().await.unwrap().name, "4");
        greedy.extend(places.take(&key("greedy", 4), &triggers));
        for number in 5..300 {
            drop(greedy.pop());
            assert_eq!(woken.certificates.next().await.unwrap().name, number.to_string());
            greedy.extend(places.take(&key("greedy", number), &triggers));
        }
        drop(greedy);
        let taken = places.lock();
        assert!(taken.waiting.is_empty() && taken.all_waiting.is_empty() && taken.shares.held_by("greedy") == 0);
    }

    #[tokio::test]
    async fn whoever_is_gone_is_not_woken_and_the_next_one_is() {
        let (triggers, mut woken) = Triggers::new();
        let (places, triggers) = (Places::new(2), Arc::new(triggers));
        let place = places.take(&key("shop", 0), &triggers).unwrap();
        for number in [1, 2, 3] {
            assert!(places.take(&key("shop", number), &triggers).is_none());
        }
        places.forget(&key("shop", 1), &triggers);
        assert!(woken.certificates.next().now_or_never().is_none(), "there is no place");
        drop(place);
        assert_eq!(woken.certificates.next().await.unwrap().name, "2");
        places.forget(&key("shop", 2), &triggers);
        assert_eq!(woken.certificates.next().await.unwrap().name, "3", "the place that the second was woken for is free");
        assert!(places.lock().waiting.is_empty());
    }
}
