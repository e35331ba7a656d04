//! Watches that begin anew with a list every hour.
//!
//! # Guarantees
//!
//! - An event that was missed for any reason is made up for within an hour.
//! - Each failure of a watch is counted, whatever the answer was. The watch goes on by itself, less and less often.
//! - A watch shows that somebody takes its events, though none may come for hours.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, time::sleep};

use crate::runtime::{CLOCK_LIMIT, Clock, Liveness, Metrics, Readiness, periods};
use crate::{FromMetadata, Received};

/// How often all watches begin anew.
const PERIOD: SignedDuration = SignedDuration::from_hours(1);

/// How many objects a list asks for at once. They are in memory as text then, each with up to 1.5 MB.
const PAGE_SIZE: u32 = 50;

/// How often a watch shows that it moves.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// A watch may stand still for so long. Whoever takes its events does nothing that waits.
const WATCH_LIMIT: Duration = Duration::from_mins(2);

/// The signal to all watches to begin anew.
#[derive(Clone)]
pub(crate) struct Relists {
    signal: Arc<watch::Sender<u64>>,
    metrics: Arc<Metrics>,
    liveness: Liveness,
    readiness: Readiness,
}

impl Relists {
    /// No watches yet. Their failures are counted in `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>, liveness: Liveness, readiness: Readiness) -> Self {
        Self { signal: Arc::default(), metrics, liveness, readiness }
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
        let (metrics, readiness, name) = (Arc::clone(&self.metrics), self.readiness.clone(), name.to_owned());
        let heartbeat = self.liveness.expect(&name, WATCH_LIMIT);
        let watch = (begin(), self.signal.subscribe(), begin, heartbeat);
        let events = stream::unfold(watch, |(mut events, mut told, begin, heartbeat)| async move {
            loop {
                heartbeat.beat();
                tokio::select! {
                    event = events.next() => return event.map(|event| (event, (events, told, begin, heartbeat))),
                    Ok(()) = told.changed() => events = begin(),
                    () = sleep(SIGN_OF_LIFE) => {}
                }
            }
        });
        events.inspect_err(move |error| {
            metrics.watch_failed();
            readiness.failed(&name, &in_few_words(error));
        })
    }
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
