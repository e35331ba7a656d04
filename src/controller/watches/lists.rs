//! Whether the caches of the watches are filled, and when they were listed anew.
//!
//! Until the first list of a watch has come, its cache would show an object that is there as absent. After an interruption of a
//! watch, only the next list shows which objects went meanwhile, by their absence.
//!
//! `Store::wait_until_ready` of kube is not used. It remembers the waker of one waiter only (a oneshot channel inside): if
//! several passes wait at once, all but the last would sleep for ever, and so would kube's own controller.

use std::sync::{Arc, Once};

use futures::{Stream, stream};
use tokio::sync::watch;

use crate::runtime::Readiness;

/// How many caches are not filled yet, and how many lists have come.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    unfilled: usize,
    lists: u64,
}

/// The state of all caches of one set of controllers.
#[derive(Clone, Debug)]
pub struct Lists {
    state: Arc<watch::Sender<State>>,
    /// What tells people which lists are waited for.
    readiness: Readiness,
}

/// Reports that the list of one cache has come.
#[derive(Debug)]
pub struct Filling {
    lists: Lists,
    name: String,
    once: Once,
}

impl Lists {
    /// No caches to wait for yet.
    pub fn new(readiness: Readiness) -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())), readiness }
    }

    /// Adds one more cache to wait for: that of the watch with this name.
    pub fn expect(&self, name: &str) -> Filling {
        self.state.send_modify(|state| state.unfilled += 1);
        self.readiness.expect(name);
        Filling { lists: self.clone(), name: name.to_owned(), once: Once::new() }
    }

    /// Waits until all caches are filled.
    pub async fn filled(&self) {
        // It cannot fail: the sender is held here, so the channel stays open.
        let _ = self.state.subscribe().wait_for(|state| state.unfilled == 0).await;
    }

    /// Whether all caches are filled.
    pub fn are_filled(&self) -> bool {
        self.state.borrow().unfilled == 0
    }

    /// Yields after lists have come. Several lists that come together yield once.
    pub fn come(&self) -> impl Stream<Item = ()> + Send + 'static + use<> {
        let receiver = self.state.subscribe();
        let seen = receiver.borrow().lists;
        stream::unfold((receiver, seen), |(mut receiver, seen)| async move {
            let lists = receiver.wait_for(|state| state.lists != seen).await.ok()?.lists;
            Some(((), (receiver, lists)))
        })
    }
}

impl Filling {
    /// Notes that a list is in the cache. The first list fills it.
    pub fn done(&self) {
        self.once.call_once(|| {
            self.lists.readiness.listed(&self.name);
            self.lists.state.send_modify(|state| state.unfilled = state.unfilled.saturating_sub(1));
        });
        self.lists.state.send_modify(|state| state.lists += 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_woken_when_the_last_cache_is_filled() {
        let lists = Lists::new(Readiness::awaiting(1));
        let (first, second) = (lists.expect("watch/first"), lists.expect("watch/second"));
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let lists = lists.clone();
                tokio::spawn(async move { lists.filled().await })
            })
            .collect();
        first.done();
        first.done();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(waiting.iter().all(|task| !task.is_finished()), "a list that comes again fills nothing else");
        second.done();
        for task in waiting {
            tokio::time::timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
        }
        lists.filled().await;
    }

    #[tokio::test]
    async fn each_list_is_told_of() {
        use futures::{FutureExt, StreamExt};
        let lists = Lists::new(Readiness::awaiting(1));
        let filling = lists.expect("watch/only");
        let mut lists = Box::pin(lists.come());
        assert!(lists.next().now_or_never().is_none());
        for _ in 0..2 {
            filling.done();
            assert_eq!(lists.next().await, Some(()));
            assert!(lists.next().now_or_never().is_none());
        }
    }
}
