//! Whose turn it is to ask Atlas: one queue for each limit, which is that of a project or of credentials that Atlas has not accepted yet
//! ([`LimitKey`]).
//!
//! A turn says only when a certificate is requested, not whether.
//!
//! # Guarantees
//!
//! - The certificate that expires soonest goes first.
//! - Whoever must wait does so outside of a pass and is woken when its turn comes. So a project whose limit is used up, or whose
//!   answers take long, holds up no other project.
//! - At most 4 turns of one project, and at most as many in all as there are workers, are given or under way at once.
//! - A turn ends when its [`Turn`] is dropped. A turn that is given and not taken for a minute goes to the next.
//!
//! # Assumptions
//!
//! - What the rate limit allows is known from the answers of Atlas (`issuer::atlas::Limits`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    api::ObjectKey,
    issuer::atlas::{Account, AtlasClient, LimitKey},
    triggers::{Triggers, Waiting},
};

/// How many passes of one project ask Atlas at once: enough to use its limit, too few to take all workers.
const AT_ONCE: u32 = 4;

/// How soon a queue looks again when all workers are taken.
const WHEN_BUSY: Duration = Duration::from_millis(20);

/// How long a turn that was given may stay untaken. Then it goes to the next.
const TURN_LASTS: Duration = Duration::from_mins(1);

/// The longest time until a queue looks again.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// The order in which certificates wait: the one that expires soonest first.
type Rank = (Timestamp, ObjectKey);

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Rank, Waiter>,
    expiries: HashMap<ObjectKey, Timestamp>,
    /// Turns that were given and not taken yet, with their cost.
    given: HashMap<ObjectKey, (u32, Instant)>,
    /// The number of passes under way that have a turn.
    under_way: u32,
    /// The number of calls that may still be made by turns that are given or under way.
    promised: u32,
    is_served: bool,
    changed: Arc<Notify>,
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
    /// The most turns at once, over all projects. There are no more than workers, because workers take those who were woken in
    /// any order.
    workers: u32,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    by_key: HashMap<LimitKey, Queue>,
    /// The number of turns that are given or under way in all queues.
    busy: u32,
}

/// A turn. It ends when this value is dropped.
pub struct Turn {
    shared: Arc<Shared>,
    key: LimitKey,
    cost: u32,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.shared.lock();
        queues.busy = queues.busy.saturating_sub(1);
        let Some(queue) = queues.by_key.get_mut(&self.key) else { return };
        queue.under_way = queue.under_way.saturating_sub(1);
        queue.promised = queue.promised.saturating_sub(self.cost);
        queue.changed.notify_one();
    }
}

impl Turns {
    /// Queues for the calls of this client. `workers` is how many passes run at once.
    #[must_use]
    pub fn new(atlas: AtlasClient, workers: u16) -> Self {
        Self(Arc::new(Shared { atlas, workers: u32::from(workers), queues: Mutex::default() }))
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
        queues.follow(account, key, who);
        let Queues { by_key, busy } = &mut *queues;
        let queue = by_key.entry(key.clone()).or_default();
        let turn = |cost| Turn { shared: Arc::clone(&self.0), key: key.clone(), cost };
        if let Some((given, _)) = queue.given.remove(who) {
            queue.under_way += 1;
            queue.promised = queue.promised.saturating_sub(given) + cost;
            return Some(turn(cost));
        }
        if queue.waiting.is_empty() && queue.wait(&self.0, *busy, key, cost).is_zero() {
            *busy += 1;
            queue.under_way += 1;
            queue.promised += cost;
            return Some(turn(cost));
        }
        queue.forget(who, busy);
        queue.expiries.insert(who.clone(), expiry);
        queue.waiting.insert((expiry, who.clone()), Waiter { cost, triggers: Arc::clone(triggers) });
        if !queue.is_served {
            queue.is_served = true;
            tokio::spawn(serve(Arc::downgrade(&self.0), key.clone(), Arc::clone(&queue.changed)));
        }
        None
    }

    /// Until when Atlas asked for nothing to be sent with this account, for people.
    #[must_use]
    pub fn paused_until(&self, account: &Account) -> Option<Timestamp> {
        let limits = self.0.atlas.limits();
        limits.paused_until(&limits.key(account), Instant::now())
    }

    /// Removes `who`, which needs no turn any more.
    pub fn forget(&self, who: &ObjectKey) {
        let mut queues = self.0.lock();
        let Queues { by_key, busy } = &mut *queues;
        for queue in by_key.values_mut() {
            queue.forget(who, busy);
        }
    }
}

impl Queues {
    /// Once Atlas has accepted the credentials of an account, all who waited for that wait in the queue of the project, in its order. After a
    /// refusal `who` leaves that queue. Whoever was given a turn in the former queue is awake and asks anew.
    fn follow(&mut self, account: &Account, key: &LimitKey, who: &ObjectKey) {
        let Self { by_key, busy } = self;
        let former = LimitKey::Unaccepted(account.clone());
        if *key != former
            && let Some(former) = by_key.remove(&former)
        {
            *busy = busy.saturating_sub(u32::try_from(former.given.len()).unwrap_or(u32::MAX));
            let queue = by_key.entry(key.clone()).or_default();
            queue.waiting.extend(former.waiting);
            queue.expiries.extend(former.expiries);
        }
        by_key.iter_mut().filter(|(other, _)| *other != key).for_each(|(_, queue)| queue.forget(who, busy));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn wait(&self, shared: &Shared, all_busy: u32, key: &LimitKey, cost: u32) -> Duration {
        if all_busy >= shared.workers {
            return WHEN_BUSY;
        }
        let busy = self.under_way + u32::try_from(self.given.len()).unwrap_or(u32::MAX);
        if busy >= AT_ONCE {
            return LONGEST_NAP;
        }
        shared.atlas.limits().wait(key, cost, self.promised, Instant::now())
    }

    fn forget(&mut self, who: &ObjectKey, all_busy: &mut u32) {
        if let Some(expiry) = self.expiries.remove(who) {
            self.waiting.remove(&(expiry, who.clone()));
        }
        if let Some((cost, _)) = self.given.remove(who) {
            *all_busy = all_busy.saturating_sub(1);
            self.promised = self.promised.saturating_sub(cost);
            self.changed.notify_one();
        }
    }

    /// Gives turns to those who come first. Returns how long the next one has to wait. `None` if nobody waits.
    fn give(&mut self, shared: &Shared, all_busy: &mut u32, key: &LimitKey) -> Option<Duration> {
        let lost: Vec<ObjectKey> =
            self.given.iter().filter(|(_, (_, since))| since.elapsed() > TURN_LASTS).map(|(who, _)| who.clone()).collect();
        for who in lost {
            self.forget(&who, all_busy);
        }
        while let Some(first) = self.waiting.first_entry() {
            let cost = first.get().cost;
            let wait = self.wait(shared, *all_busy, key, cost);
            if !wait.is_zero() {
                return Some(wait);
            }
            let Some(((_, who), waiter)) = self.waiting.pop_first() else { break };
            self.expiries.remove(&who);
            *all_busy += 1;
            self.promised += cost;
            self.given.insert(who.clone(), (cost, Instant::now()));
            waiter.triggers.wake(&Waiting::Certificate(who));
        }
        None
    }
}

/// Gives out the turns of a queue until nobody waits in it.
async fn serve(shared: Weak<Shared>, key: LimitKey, changed: Arc<Notify>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let nap = {
            let mut queues = shared.lock();
            let Queues { by_key, busy } = &mut *queues;
            let Some(queue) = by_key.get_mut(&key) else { return };
            let Some(wait) = queue.give(&shared, busy, &key) else {
                queue.is_served = false;
                return;
            };
            wait.clamp(Duration::from_millis(5), LONGEST_NAP)
        };
        drop(shared);
        // After the nap and after a change alike, the queue is looked at again.
        let _ = tokio::time::timeout(nap, changed.notified()).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn name(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    fn account() -> Account {
        Account { endpoint: "http://localhost".into(), project_id: "p".into(), credentials_uid: "uid-1".into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn turns_go_by_expiry_and_so_many_at_once() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let atlas = AtlasClient::new(Duration::from_secs(1), None).unwrap();
        let account = account();
        let key = atlas.limits().key(&account);
        let turns = Turns::new(atlas.clone(), 10);
        let (triggers, mut woken) = Triggers::new();
        let triggers = Arc::new(triggers);
        let ask = |who: &str, expiry| turns.ask(&account, &name(who), at(expiry), 2, &triggers);

        let first = ask("first", 9).unwrap();
        assert!(ask("second", 8).is_none(), "the first answer is awaited");
        atlas.limits().answered(&key, &reqwest::header::HeaderMap::new(), Instant::now());
        assert!(
            ask("third", 3).is_none() && ask("fourth", 7).is_none() && ask("fifth", 1).is_none() && ask("gone", 0).is_none()
        );
        turns.forget(&name("gone"));
        for expected in ["fifth", "third", "fourth"] {
            assert_eq!(woken.certificates.next().await.unwrap().name, expected);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(woken.certificates.next().now_or_never().is_none(), "four are at it: the second waits");
        let fifth = ask("fifth", 1).unwrap();
        drop(first);
        assert_eq!(woken.certificates.next().await.unwrap().name, "second");
        drop(fifth);
        assert!(ask("sixth", 5).is_some(), "nobody waits, and one has finished");
    }

    #[tokio::test]
    async fn who_waited_for_credentials_to_be_accepted_goes_on_in_the_queue_of_the_project() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let atlas = AtlasClient::new(Duration::from_secs(1), None).unwrap();
        let account = account();
        let turns = Turns::new(atlas.clone(), 10);
        let (triggers, mut woken) = Triggers::new();
        let triggers = Arc::new(triggers);
        let ask = |who: &str, expiry| turns.ask(&account, &name(who), at(expiry), 1, &triggers);

        let first = ask("first", 9).unwrap();
        for (who, expiry) in [("second", 8), ("third", 7), ("fourth", 6), ("fifth", 5), ("sixth", 4)] {
            assert!(ask(who, expiry).is_none(), "the first answer is awaited");
        }
        atlas.limits().met(&account, reqwest::StatusCode::OK, false);
        atlas.limits().answered(&atlas.limits().key(&account), &reqwest::header::HeaderMap::new(), Instant::now());
        let mut next = async || woken.certificates.next().await.unwrap().name.clone();
        assert_eq!([next().await, next().await, next().await], ["sixth", "fifth", "fourth"]);
        // The last to be woken is the first to ask. The others go on in the order of the project.
        assert!(ask("latest", 99).is_none(), "those who waited before go first");
        assert_eq!([next().await, next().await], ["third", "second"]);
        drop(first);
        let sixth = ask("sixth", 4).unwrap();
        assert!(turns.0.lock().by_key.keys().all(|key| matches!(key, LimitKey::Project { .. })));
        drop(sixth);
    }
}
