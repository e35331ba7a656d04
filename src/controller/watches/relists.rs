//! Watches that begin anew with a list every hour.
//!
//! # Guarantees
//!
//! - An event that was missed for any reason is made up for within an hour.
//! - A permission that a watch lacked, or a kind, is noticed within a minute after it is there again.
//! - Each failure of a watch is counted, but for what a condition tells of single objects ([`Seen`]). The watch goes on by itself, less and less
//!   often.
//! - A watch shows that somebody takes its events, though none may come for hours.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher, watcher::DefaultBackoff},
};
use tokio::{sync::watch, time::sleep};

use crate::runtime::{CLOCK_LIMIT, Clock, Heartbeat, Liveness, Metrics, Readiness, periods};
use crate::{FromMetadata, Received};

/// How often all watches begin anew.
const PERIOD: SignedDuration = SignedDuration::from_hours(1);

/// How many objects a list asks for at once. They are in memory as text then, each with up to 1.5 MB.
const PAGE_SIZE: u32 = 50;

/// How often a watch shows that it moves.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// A watch may stand still for so long. Whoever takes its events does nothing that waits.
const WATCH_LIMIT: Duration = Duration::from_mins(2);

/// Who sees the failures of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Whoever looks at the metrics alone.
    InMetrics,
    /// Whoever waits for an object by its name sees in a condition that its kind is not served, or that it may not be read. Tenants name such
    /// objects, so a counter of these would let a tenant have an alert fire.
    InConditions,
}

impl Seen {
    /// Whether metrics count this failure.
    fn counts(self, error: &watcher::Error) -> bool {
        self == Self::InMetrics || list_refused(error).is_none()
    }
}

/// The answer to a list that was refused: a permission or the kind is missing.
pub(crate) fn list_refused(error: &watcher::Error) -> Option<&kube::core::Status> {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return None };
    matches!(status.code, 403 | 404).then_some(&**status)
}

/// The signal to all watches to begin anew.
#[derive(Clone)]
pub(crate) struct Relists {
    signal: Arc<watch::Sender<u64>>,
    seen: Seen,
    metrics: Arc<Metrics>,
    liveness: Liveness,
    readiness: Readiness,
}

impl Relists {
    /// No watches yet. Their failures are counted in `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>, liveness: Liveness, readiness: Readiness) -> Self {
        Self { signal: Arc::default(), seen: Seen::InMetrics, metrics, liveness, readiness }
    }

    /// For watches of single objects, for which somebody waits with a condition.
    pub(crate) fn seen_in_conditions(self) -> Self {
        Self { seen: Seen::InConditions, ..self }
    }

    /// Gives the signal every hour of this clock, for ever. The loop has this name.
    pub(crate) async fn run(&self, name: String, clock: Clock) {
        let heartbeat = self.liveness.expect(name, CLOCK_LIMIT);
        periods(clock, PERIOD, heartbeat).for_each(async |()| self.signal.send_modify(|count| *count += 1)).await;
    }

    /// A watch that begins anew at the signal, and by itself after errors. `name` is for health, such as `watch/secrets`.
    pub(crate) fn watch<K>(
        &self,
        name: &str,
        api: Api<Received<K>>,
        config: watcher::Config,
    ) -> impl Stream<Item = watcher::Result<watcher::Event<Received<K>>>> + Send + use<K>
    where
        K: FromMetadata + Clone + Send + 'static,
    {
        let config = config.page_size(PAGE_SIZE);
        let begin = move || watcher(api.clone(), config.clone()).default_backoff().boxed();
        let (seen, metrics, readiness) = (self.seen, Arc::clone(&self.metrics), self.readiness.clone());
        let (heartbeat, name) = (self.liveness.expect(name, WATCH_LIMIT), name.to_owned());
        begun_anew(begin, self.signal.subscribe(), heartbeat).inspect_err(move |error| {
            if seen.counts(error) {
                metrics.watch_failed();
            }
            readiness.failed(&name, &in_few_words(error));
        })
    }
}

/// The events of a watch that begins anew at the signal. It also does so after a watch was refused whose list was answered: kube would repeat
/// the watch alone, and what happened meanwhile to rights or kinds would not be seen.
fn begun_anew<K, S>(
    begin: impl Fn() -> S + Send,
    signal: watch::Receiver<u64>,
    heartbeat: Heartbeat,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Send,
    S: Stream<Item = watcher::Result<watcher::Event<K>>> + Send + Unpin,
{
    let state = (begin(), signal, begin, DefaultBackoff::default(), None, heartbeat);
    stream::unfold(state, |(mut events, mut signal, begin, mut waits, mut wait, heartbeat)| async move {
        heartbeat.beat();
        if let Some(wait) = wait.take() {
            tokio::select! {
                () = sleep(wait) => {}
                Ok(()) = signal.changed() => {}
            }
            events = begin();
        }
        loop {
            heartbeat.beat();
            tokio::select! {
                event = events.next() => {
                    let event = event?;
                    if event.as_ref().is_err_and(is_refused_watch) {
                        wait = waits.next();
                    }
                    return Some((event, (events, signal, begin, waits, wait, heartbeat)));
                }
                Ok(()) = signal.changed() => events = begin(),
                () = sleep(SIGN_OF_LIFE) => {}
            }
        }
    })
}

/// Whether a permission or the kind was missing for a watch, and not for the list before it; or whether that list is too old.
fn is_refused_watch(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 410))
}

/// How a watch failed, without names of accounts and objects: whoever reaches the Pod may read it.
fn in_few_words(error: &watcher::Error) -> String {
    let answer = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    };
    answer.map_or_else(
        || "the API server gives no answer, or none that can be read".to_owned(),
        |code| format!("the API server answers {code}"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use serde_json::json;
    use watcher::{Error, Event};

    use super::*;

    fn answer(code: u16) -> kube::Error {
        let status = json!({ "status": "Failure", "code": code, "message": "no", "reason": "" });
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    fn refused(code: u16) -> Error {
        Error::WatchStartFailed(answer(code))
    }

    #[test]
    fn what_a_condition_tells_is_not_counted_too() {
        let by_name = |error: Error| Seen::InConditions.counts(&error);
        assert!(!by_name(Error::InitialListFailed(answer(404))), "the kind is not served");
        assert!(!by_name(Error::InitialListFailed(answer(403))), "a right is missing");
        assert!(by_name(Error::InitialListFailed(answer(429))) && by_name(Error::InitialListFailed(answer(500))));
        assert!(by_name(refused(403)), "the list was answered, so no condition tells it");
        assert!([403, 404, 500].iter().all(|code| Seen::InMetrics.counts(&Error::InitialListFailed(answer(*code)))));
    }

    /// How often the watch begins within a minute, if each list is answered and each watch is answered so. kube's watch waits by itself.
    async fn begun_in_a_minute(code: u16) -> usize {
        let count = AtomicUsize::new(0);
        let begin = || {
            count.fetch_add(1, Ordering::Relaxed);
            let list = [Ok(Event::Init), Ok(Event::InitDone), Err(refused(code))];
            stream::iter(list).chain(stream::pending::<watcher::Result<Event<()>>>()).boxed()
        };
        let (_signal, told) = watch::channel(0);
        let events = begun_anew(begin, told, Liveness::default().expect("watch/tried", WATCH_LIMIT)).for_each(async |_| {});
        tokio::time::timeout(Duration::from_mins(1), events).await.unwrap_err();
        count.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_watch_that_was_refused_comes_a_list_less_and_less_often() {
        for code in [403, 404] {
            let begun = begun_in_a_minute(code).await;
            assert!((4..=10).contains(&begun), "{code}: {begun}");
        }
        assert_eq!(begun_in_a_minute(500).await, 1, "this passes, and kube repeats the watch");
    }
}
