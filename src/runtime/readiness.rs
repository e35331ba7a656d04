//! Whether every set of controllers has what it needs to begin.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Whether every set of controllers has its caches filled.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicUsize>);

impl Readiness {
    /// Not ready until [`Readiness::set_ready`] was called this many times.
    #[must_use]
    pub fn awaiting(scopes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(scopes)))
    }

    /// One more set of controllers is ready.
    pub fn set_ready(&self) {
        // A failed update means that nothing is awaited any more.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |awaited| awaited.checked_sub(1));
    }

    /// Whether all are.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}
