//! Watches that begin anew with a list every hour.
//!
//! # Guarantees
//!
//! - An event that was missed for any reason is made up for within an hour.
//! - Each failure of a watch is counted, whatever the answer was. The watch goes on by itself, less and less often.

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;

use crate::runtime::{Clock, Metrics, periods};
use crate::{FromMetadata, Received};

/// How often all watches begin anew.
const PERIOD: SignedDuration = SignedDuration::from_hours(1);

/// How many objects a list asks for at once. They are in memory as text then, each with up to 1.5 MB.
const PAGE_SIZE: u32 = 50;

/// The signal to all watches to begin anew.
#[derive(Clone)]
pub(crate) struct Relists {
    signal: Arc<watch::Sender<u64>>,
    metrics: Arc<Metrics>,
}

impl Relists {
    /// No watches yet. Their failures are counted here.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { signal: Arc::default(), metrics }
    }

    /// Gives the signal every hour of this clock, for ever.
    pub(crate) async fn run(&self, clock: Clock) {
        periods(clock, PERIOD).for_each(async |()| self.signal.send_modify(|count| *count += 1)).await;
    }

    /// A watch that begins anew at the signal, and by itself after errors.
    pub(crate) fn watch<K>(
        &self,
        api: Api<Received<K>>,
        config: watcher::Config,
    ) -> impl Stream<Item = watcher::Result<watcher::Event<Received<K>>>> + Send + use<K>
    where
        K: FromMetadata + Clone + Send + 'static,
    {
        let config = config.page_size(PAGE_SIZE);
        let begin = move || watcher(api.clone(), config.clone()).default_backoff().boxed();
        let metrics = Arc::clone(&self.metrics);
        let events = stream::unfold((begin(), self.signal.subscribe(), begin), |(mut events, mut told, begin)| async move {
            loop {
                tokio::select! {
                    event = events.next() => return event.map(|event| (event, (events, told, begin))),
                    Ok(()) = told.changed() => events = begin(),
                }
            }
        });
        events.inspect_err(move |_| metrics.watch_failed())
    }
}
