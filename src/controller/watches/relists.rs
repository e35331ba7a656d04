//! Watches that begin anew with a list every hour.
//!
//! # Guarantees
//!
//! - An event that was missed for any reason is made up for within an hour.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use jiff::SignedDuration;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;

use crate::runtime::{Clock, periods};
use crate::{FromMetadata, Received};

/// How often all watches begin anew.
const PERIOD: SignedDuration = SignedDuration::from_hours(1);

/// How many objects a list asks for at once. They are in memory as text then, each with up to 1.5 MB.
const PAGE_SIZE: u32 = 50;

/// The signal to all watches to begin anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relists(Arc<watch::Sender<u64>>);

impl Relists {
    /// Gives the signal every hour of this clock, for ever.
    pub(crate) async fn run(&self, clock: Clock) {
        periods(clock, PERIOD).for_each(async |()| self.0.send_modify(|count| *count += 1)).await;
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
        stream::unfold((begin(), self.0.subscribe(), begin), |(mut events, mut told, begin)| async move {
            loop {
                tokio::select! {
                    event = events.next() => return event.map(|event| (event, (events, told, begin))),
                    Ok(()) = told.changed() => events = begin(),
                }
            }
        })
    }
}
