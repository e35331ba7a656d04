//! Private keys that take long to make: RSA keys take up to seconds of computing each.
//!
//! # Guarantees
//!
//! - They are made outside of passes, by at most half as many threads as there are processors, so that no other work waits for them.
//! - Namespaces take turns, whatever number of keys each of them wants. In a namespace whoever came first goes first.
//! - Whoever waits is woken when the key is there. A key that is not taken for a minute is dropped, and so is that of an object that needs none
//!   any more.
//! - The process ends without waiting for keys: the threads are not those of the runtime, which waits for its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    api::ObjectKey,
    certificate::{KeyError, PrivateKey, PrivateKeySpec},
    triggers::{Triggers, Waiting},
};

/// How long a key waits to be taken.
const KEY_LASTS: Duration = Duration::from_mins(1);

/// How many keys wait to be taken at most. Until one of them is, no other is made.
const MOST_UNTAKEN: usize = 16;

/// The keys of all objects.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    orders: Mutex<Orders>,
    /// An order has come, or a key was taken.
    changed: Condvar,
}

impl Default for Keys {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Shared { orders: Mutex::new(Orders::new((processors / 2).max(1))), changed: Condvar::new() }))
    }
}

struct Order {
    who: ObjectKey,
    spec: PrivateKeySpec,
    triggers: Arc<Triggers>,
}

struct Made {
    spec: PrivateKeySpec,
    key: Result<PrivateKey, KeyError>,
    since: Instant,
}

struct Orders {
    /// The orders of each namespace, the one that came first at the front.
    waiting: HashMap<String, VecDeque<Order>>,
    /// The namespaces with orders, the one whose turn it is at the front.
    turns: VecDeque<String>,
    making: HashMap<ObjectKey, PrivateKeySpec>,
    made: HashMap<ObjectKey, Made>,
    threads: usize,
    most_threads: usize,
}

impl Keys {
    /// The key for `who`, if it is there. Otherwise it is made, and `who` is woken then.
    #[must_use]
    pub fn take(
        &self,
        who: &ObjectKey,
        spec: PrivateKeySpec,
        triggers: &Arc<Triggers>,
    ) -> Option<Result<PrivateKey, KeyError>> {
        let mut orders = self.lock();
        self.0.changed.notify_all();
        if let Some(made) = orders.made.remove(who).filter(|made| made.spec == spec) {
            return Some(made.key);
        }
        orders.add(Order { who: who.clone(), spec, triggers: Arc::clone(triggers) });
        if orders.threads < orders.most_threads && !orders.turns.is_empty() {
            let keys = self.clone();
            if thread::Builder::new().name("private-keys".to_owned()).spawn(move || keys.make()).is_ok() {
                orders.threads += 1;
            } else if orders.threads == 0 {
                orders.remove(who);
                drop(orders);
                return Some(PrivateKey::generate(spec));
            }
        }
        None
    }

    /// `who` needs no key any more.
    pub fn forget(&self, who: &ObjectKey) {
        let mut orders = self.lock();
        orders.made.remove(who);
        orders.remove(who);
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes keys until nobody waits for one, and all that were made are taken or dropped.
    fn make(&self) {
        while let Some(Order { who, spec, triggers }) = self.await_order() {
            let key = PrivateKey::generate(spec);
            let mut orders = self.lock();
            // It may have been forgotten meanwhile, or may want another one.
            if orders.making.get(&who) == Some(&spec) {
                orders.making.remove(&who);
                orders.made.insert(who.clone(), Made { spec, key, since: Instant::now() });
                triggers.wake(&Waiting::Certificate(who));
            }
        }
    }

    /// Whose key is made next. `None` if this thread has no more to do.
    fn await_order(&self) -> Option<Order> {
        let mut orders = self.lock();
        loop {
            orders.made.retain(|_, made| made.since.elapsed() < KEY_LASTS);
            let next = if orders.made.len() < MOST_UNTAKEN { orders.next() } else { None };
            if next.is_some() {
                return next;
            }
            // One thread alone stays for the keys that nobody takes.
            if orders.turns.is_empty() && (orders.made.is_empty() || orders.threads > 1) {
                orders.threads -= 1;
                return None;
            }
            orders = self.0.changed.wait_timeout(orders, KEY_LASTS).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Orders {
    fn new(most_threads: usize) -> Self {
        let (waiting, turns, making, made) = (HashMap::new(), VecDeque::new(), HashMap::new(), HashMap::new());
        Self { waiting, turns, making, made, threads: 0, most_threads }
    }

    /// Adds an order, unless it is there or its key is being made. Another one for the same object goes.
    fn add(&mut self, order: Order) {
        let is_same = |other: &Order| other.who == order.who && other.spec == order.spec;
        let waits = self.waiting.get(&order.who.namespace).is_some_and(|waiting| waiting.iter().any(is_same));
        if waits || self.making.get(&order.who) == Some(&order.spec) {
            return;
        }
        self.remove(&order.who);
        let waiting = self.waiting.entry(order.who.namespace.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(order.who.namespace.clone());
        }
        waiting.push_back(order);
    }

    fn remove(&mut self, who: &ObjectKey) {
        self.making.remove(who);
        let Some(waiting) = self.waiting.get_mut(&who.namespace) else { return };
        waiting.retain(|order| order.who != *who);
        if waiting.is_empty() {
            self.waiting.remove(&who.namespace);
            self.turns.retain(|namespace| *namespace != who.namespace);
        }
    }

    /// Takes out whose turn it is.
    fn next(&mut self) -> Option<Order> {
        let namespace = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let order = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.making.insert(order.who.clone(), order.spec);
        Some(order)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::certificate::KeyAlgorithm;

    const SHORT: PrivateKeySpec = PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: 2048 };
    const LONG: PrivateKeySpec = PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: 4096 };

    #[test]
    fn namespaces_take_turns_and_nothing_is_left_of_those_who_go() {
        let mut orders = Orders::new(1);
        let triggers = Arc::new(Triggers::new().0);
        let order = |namespace: &str, name: &str, spec| Order {
            who: ObjectKey::new(namespace, name),
            spec,
            triggers: Arc::clone(&triggers),
        };
        for number in 0..300 {
            orders.add(order("greedy", &number.to_string(), LONG));
        }
        orders.add(order("greedy", "0", LONG));
        orders.add(order("greedy", "1", SHORT));
        orders.add(order("neighbour", "a", SHORT));
        let next: Vec<_> = (0..3).map(|_| orders.next().unwrap().who.name.clone()).collect();
        assert_eq!(next, ["0", "a", "2"], "the one that has changed has gone to the end");
        orders.add(order("greedy", "0", LONG));
        assert_eq!(orders.waiting["greedy"].len(), 298, "a key that is being made is not made twice");
        for number in 0..300 {
            orders.remove(&ObjectKey::new("greedy", number.to_string()));
        }
        orders.remove(&ObjectKey::new("neighbour", "a"));
        assert!(orders.waiting.is_empty() && orders.turns.is_empty() && orders.making.is_empty());
    }

    #[test]
    fn a_process_that_ends_does_not_wait_for_keys() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let keys = Keys::default();
        runtime.block_on(async {
            let triggers = Arc::new(Triggers::new().0);
            for number in 0..300 {
                let _ = keys.take(&ObjectKey::new("greedy", number.to_string()), LONG, &triggers);
            }
        });
        drop(runtime);
        assert!(keys.lock().waiting["greedy"].len() > 200, "the runtime has ended with most of the keys not made");
        for number in 0..300 {
            keys.forget(&ObjectKey::new("greedy", number.to_string()));
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_and_takes_the_key_once() {
        let (triggers, mut woken) = Triggers::new();
        let (keys, triggers, who) = (Keys::default(), Arc::new(triggers), ObjectKey::new("shop", "orders"));
        assert!(keys.take(&who, SHORT, &triggers).is_none());
        assert_eq!(woken.certificates.next().await.unwrap().name, "orders");
        let key = keys.take(&who, SHORT, &triggers).unwrap().unwrap();
        assert_eq!(key.spec().unwrap(), SHORT);
        assert!(keys.take(&who, SHORT, &triggers).is_none(), "it is given out once");
        keys.forget(&who);
        assert!(keys.lock().waiting.is_empty() && keys.lock().making.is_empty());
    }
}
