//! Whose turn it is to ask Atlas: one queue for each limit, which is that of a project or of credentials that Atlas has not accepted yet
//! ([`LimitKey`]).
//!
//! A turn says only when a certificate is requested, not whether. Each request to Atlas is sent in a turn.
//!
//! # Guarantees
//!
//! - In a project the certificate that expires soonest goes first, of those whose namespace may have another turn.
//! - Whoever must wait does so outside of a pass and is woken when its turn comes. So a project whose limit is used up, or whose
//!   answers take long, holds up no other project.
//! - At most 4 turns of one project, and at most half as many in all as there are workers, are given or under way at once. So the other half
//!   is left for passes that do not ask Atlas, however long Atlas takes.
//! - No namespace holds more than half of the turns, and less while others hold some ([`Shares`]). Between projects that namespace goes first
//!   that has waited longest for a turn, so that nobody waits for ever.
//! - A turn ends when its [`Turn`] is dropped. A turn that is given and not taken for a minute goes to the next.
//! - A queue that nobody uses is dropped.
//!
//! # Assumptions
//!
//! - What the rate limit allows is known from the answers of Atlas (`issuer::atlas::Limits`).

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::shares::Shares;
use crate::{
    api::ObjectKey,
    issuer::atlas::{Account, AtlasClient, LimitKey},
    runtime::{Heartbeat, Liveness},
    triggers::{Triggers, Waiting},
};

/// How many passes of one project ask Atlas at once: enough to use its limit.
const AT_ONCE: u32 = 4;

/// How long a turn that was given may stay untaken. Then it goes to the next.
const TURN_LASTS: Duration = Duration::from_mins(1);

/// The longest time until the queues are looked at again.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// The shortest time until then.
const SHORTEST_NAP: Duration = Duration::from_millis(5);

/// The queues may stay unseen for so long while somebody waits.
const STANDSTILL: Duration = Duration::from_mins(1);

/// The order in which certificates wait: the one that expires soonest first.
type Rank = (Timestamp, ObjectKey);

#[derive(Default)]
struct Queue {
    /// Those who wait, by their namespace.
    waiting: HashMap<String, BTreeMap<Rank, Waiter>>,
    expiries: HashMap<ObjectKey, Timestamp>,
    /// Turns that were given and not taken yet, with their cost.
    given: HashMap<ObjectKey, (u32, Instant)>,
    /// The number of passes under way that have a turn.
    under_way: u32,
    /// The number of calls that may still be made by turns that are given or under way.
    promised: u32,
}

struct Waiter {
    cost: u32,
    triggers: Arc<Triggers>,
}

/// All queues.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    atlas: AtlasClient,
    liveness: Liveness,
    queues: Mutex<Queues>,
    changed: Notify,
}

struct Queues {
    by_key: HashMap<LimitKey, Queue>,
    /// In which queue an object waits or has a turn that it has not taken.
    places: HashMap<ObjectKey, LimitKey>,
    shares: Shares,
    /// Whether a task gives turns to those who wait.
    are_served: bool,
}

/// A turn. It ends when this value is dropped.
pub struct Turn {
    shared: Arc<Shared>,
    key: LimitKey,
    namespace: String,
    cost: u32,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.shared.lock();
        queues.shares.give_back(&self.namespace);
        if let Some(queue) = queues.by_key.get_mut(&self.key) {
            queue.under_way = queue.under_way.saturating_sub(1);
            queue.promised = queue.promised.saturating_sub(self.cost);
        }
        queues.drop_if_unused(&self.key);
        self.shared.changed.notify_one();
    }
}

impl Turns {
    /// Queues for the calls of this client. `workers` is how many passes run at once.
    #[must_use]
    pub fn new(atlas: AtlasClient, workers: u16, liveness: Liveness) -> Self {
        let shares = Shares::new(u32::from(workers / 2).max(1));
        let queues = Queues { by_key: HashMap::new(), places: HashMap::new(), shares, are_served: false };
        Self(Arc::new(Shared { atlas, liveness, queues: Mutex::new(queues), changed: Notify::new() }))
    }

    /// A turn for `who` to make `cost` calls to this account, if it is its turn. Otherwise `None`, and `who` is woken when it is.
    #[must_use]
    pub fn ask(
        &self,
        account: &Account,
        who: &ObjectKey,
        expiry: Timestamp,
        cost: u32,
        triggers: &Arc<Triggers>,
    ) -> Option<Turn> {
        let key = &self.0.atlas.limits().key(account);
        let mut queues = self.0.lock();
        queues.follow(account, key);
        if queues.places.get(who).is_some_and(|place| place != key) {
            queues.forget(who);
        }
        let is_given = queues.by_key.get(key).is_some_and(|queue| queue.given.contains_key(who));
        if !is_given {
            queues.wait(key, who, expiry, Waiter { cost, triggers: Arc::clone(triggers) });
            queues.hand_out(&self.0.atlas, Some(who));
        }
        let turn = queues.take(key, who, cost).then(|| Turn {
            shared: Arc::clone(&self.0),
            key: key.clone(),
            namespace: who.namespace.clone(),
            cost,
        });
        if turn.is_none() && !std::mem::replace(&mut queues.are_served, true) {
            let heartbeat = self.0.liveness.expect("turns", STANDSTILL);
            tokio::spawn(serve(Arc::downgrade(&self.0), heartbeat));
        }
        turn
    }

    /// Until when Atlas asked for nothing to be sent with this account, for people.
    #[must_use]
    pub fn paused_until(&self, account: &Account) -> Option<Timestamp> {
        let limits = self.0.atlas.limits();
        limits.paused_until(&limits.key(account), Instant::now())
    }

    /// How many of those wait that are woken by these triggers.
    #[must_use]
    pub fn waiting_of(&self, triggers: &Arc<Triggers>) -> usize {
        let queues = self.0.lock();
        let waiting = queues.by_key.values().flat_map(|queue| queue.waiting.values().flat_map(BTreeMap::values));
        waiting.filter(|waiter| Arc::ptr_eq(&waiter.triggers, triggers)).count()
    }

    /// Removes `who`, which needs no turn any more.
    pub fn forget(&self, who: &ObjectKey) {
        self.0.lock().forget(who);
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_unused(&self) -> bool {
        self.expiries.is_empty() && self.given.is_empty() && self.under_way == 0
    }

    fn is_full(&self) -> bool {
        self.under_way + u32::try_from(self.given.len()).unwrap_or(u32::MAX) >= AT_ONCE
    }

    /// Who comes first, of those whose namespace may have another turn; and the cost.
    fn first(&self, shares: &Shares) -> Option<(&Rank, u32)> {
        let of_namespaces = self.waiting.iter().filter(|(namespace, _)| shares.have_room_for(namespace));
        let firsts = of_namespaces.filter_map(|(_, waiting)| waiting.first_key_value());
        firsts.min_by_key(|(rank, _)| *rank).map(|(rank, waiter)| (rank, waiter.cost))
    }

    fn leave(&mut self, who: &ObjectKey) -> Option<Waiter> {
        let expiry = self.expiries.remove(who)?;
        let of_namespace = self.waiting.get_mut(&who.namespace)?;
        let waiter = of_namespace.remove(&(expiry, who.clone()));
        if of_namespace.is_empty() {
            self.waiting.remove(&who.namespace);
        }
        waiter
    }
}

impl Queues {
    /// Puts `who` into the queue, or to another place in it.
    fn wait(&mut self, key: &LimitKey, who: &ObjectKey, expiry: Timestamp, waiter: Waiter) {
        self.places.insert(who.clone(), key.clone());
        let queue = self.by_key.entry(key.clone()).or_default();
        queue.leave(who);
        queue.expiries.insert(who.clone(), expiry);
        queue.waiting.entry(who.namespace.clone()).or_default().insert((expiry, who.clone()), waiter);
    }

    /// Takes `who` out of those who wait, for the turn that is its own now.
    fn give(&mut self, key: &LimitKey, who: &ObjectKey) -> Option<Arc<Triggers>> {
        let queue = self.by_key.get_mut(key)?;
        let Waiter { cost, triggers } = queue.leave(who)?;
        queue.promised += cost;
        queue.given.insert(who.clone(), (cost, Instant::now()));
        self.shares.take(&who.namespace);
        Some(triggers)
    }

    /// Whether `who` has a turn, which it takes now.
    fn take(&mut self, key: &LimitKey, who: &ObjectKey, cost: u32) -> bool {
        let Some(queue) = self.by_key.get_mut(key) else { return false };
        let Some((given, _)) = queue.given.remove(who) else { return false };
        queue.under_way += 1;
        queue.promised = queue.promised.saturating_sub(given) + cost;
        self.places.remove(who);
        true
    }

    /// Once Atlas has accepted the credentials of an account, all who waited for that wait in the queue of the project, in its order. Whoever
    /// was given a turn in the former queue is awake and asks anew.
    fn follow(&mut self, account: &Account, key: &LimitKey) {
        let former = LimitKey::Unaccepted(account.clone());
        if *key == former {
            return;
        }
        let Some(former) = self.by_key.remove(&former) else { return };
        for who in former.given.keys() {
            self.places.remove(who);
            self.shares.give_back(&who.namespace);
        }
        for ((expiry, who), waiter) in former.waiting.into_values().flatten() {
            self.wait(key, &who, expiry, waiter);
        }
    }

    fn forget(&mut self, who: &ObjectKey) {
        let Some(key) = self.places.remove(who) else { return };
        if let Some(queue) = self.by_key.get_mut(&key) {
            queue.leave(who);
            if let Some((cost, _)) = queue.given.remove(who) {
                queue.promised = queue.promised.saturating_sub(cost);
                self.shares.give_back(&who.namespace);
            }
        }
        self.drop_if_unused(&key);
    }

    fn drop_if_unused(&mut self, key: &LimitKey) {
        if self.by_key.get(key).is_some_and(Queue::is_unused) {
            self.by_key.remove(key);
        }
    }

    /// Takes turns back that nobody has taken.
    fn expire(&mut self) {
        let of_queues = self.by_key.values().flat_map(|queue| &queue.given);
        let lost: Vec<ObjectKey> =
            of_queues.filter(|(_, (_, since))| since.elapsed() > TURN_LASTS).map(|(who, _)| who.clone()).collect();
        for who in lost {
            self.forget(&who);
        }
    }

    /// Gives turns to those who come next: of several projects, first to the namespace that holds the fewest and has waited longest for one
    /// ([`Shares::order_of`]). Returns how long to wait before the next look; `None` if nobody waits. `awake` is not woken.
    fn hand_out(&mut self, atlas: &AtlasClient, awake: Option<&ObjectKey>) -> Option<Duration> {
        self.expire();
        loop {
            let mut nap = None;
            let mut next: Option<((u32, u64), &Rank, &LimitKey)> = None;
            for (key, queue) in self.by_key.iter().filter(|(_, queue)| !queue.expiries.is_empty()) {
                let first = queue.first(&self.shares).filter(|_| !queue.is_full());
                let wait = match first {
                    Some((_, cost)) => atlas.limits().wait(key, cost, queue.promised, Instant::now()),
                    None => LONGEST_NAP,
                };
                nap = Some(nap.unwrap_or(LONGEST_NAP).min(wait));
                let Some((rank, _)) = first.filter(|_| wait.is_zero()) else { continue };
                let candidate = (self.shares.order_of(&rank.1.namespace), rank, key);
                if next.is_none_or(|next| (candidate.0, candidate.1) < (next.0, next.1)) {
                    next = Some(candidate);
                }
            }
            let Some((who, key)) = next.map(|(_, (_, who), key)| (who.clone(), key.clone())) else { return nap };
            if let Some(triggers) = self.give(&key, &who).filter(|_| awake != Some(&who)) {
                triggers.wake(&Waiting::Certificate(who));
            }
        }
    }
}

/// Gives out turns until nobody waits.
async fn serve(shared: Weak<Shared>, heartbeat: Heartbeat) {
    loop {
        heartbeat.beat();
        let Some(shared) = shared.upgrade() else { return };
        let nap = {
            let mut queues = shared.lock();
            let Some(nap) = queues.hand_out(&shared.atlas, None) else {
                queues.are_served = false;
                return;
            };
            nap.clamp(SHORTEST_NAP, LONGEST_NAP)
        };
        // After the nap and after a change alike, the queues are looked at again.
        let _ = tokio::time::timeout(nap, shared.changed.notified()).await;
    }
}
