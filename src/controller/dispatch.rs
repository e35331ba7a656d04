//! Whether the queue of a controller moves.
//!
//! A controller that has nothing to do ends no pass. So every ten seconds its queue is asked for an object that cannot exist: the controller
//! finds it in no cache and says so, which costs no request. Each pass that ends is a sign of life too.
//!
//! # Assumptions
//!
//! - Passes end within [`LIMIT`]. Where as many as may run at once take that long, the queue moves when the first of them ends.

use std::time::Duration;

use futures::{Stream, stream};
use kube::{Resource, api::DynamicObject, runtime::reflector::ObjectRef};
use tokio::time::sleep;

use super::watches::lists::Lists;
use crate::runtime::{Heartbeat, Liveness};

/// A queue may stand still for so long: longer than a pass may take, with what follows it.
pub(crate) const LIMIT: Duration = Duration::from_mins(20);

const PERIOD: Duration = Duration::from_secs(10);

/// No object can have this name: it has spaces.
const NOBODY: &str = "a sign of life";

/// The queue of one controller.
pub(crate) struct Dispatch {
    heartbeat: Heartbeat,
    lists: Lists,
}

impl Dispatch {
    pub(crate) fn new(name: String, liveness: &Liveness, lists: Lists) -> Self {
        Self { heartbeat: liveness.expect(name, LIMIT), lists }
    }

    /// What the queue is asked for.
    pub(crate) fn requests<K>() -> impl Stream<Item = ObjectRef<K>> + Send
    where
        K: Resource<DynamicType = ()> + 'static,
    {
        stream::unfold((), |()| async {
            sleep(PERIOD).await;
            Some((ObjectRef::new(NOBODY), ()))
        })
    }

    /// The controller has ended a pass, or has not found an object. Before all caches are filled no pass ends, and for that health has its own
    /// sentence.
    pub(crate) fn moved(&self) {
        if self.lists.are_filled() {
            self.heartbeat.beat();
        }
    }

    /// Whether the object that was not found is the one that cannot exist.
    pub(crate) fn is_sign_of_life(gone: &ObjectRef<DynamicObject>) -> bool {
        gone.name == NOBODY
    }
}
