//! Whether every set of controllers has what it needs to begin.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::Check;

/// Whether every set of controllers has its caches filled, and which watches have not listed yet.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<State>);

#[derive(Debug)]
struct State {
    awaited: AtomicUsize,
    watches: Mutex<BTreeMap<String, Watch>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Watch {
    /// Its first list has not come. The text is about the last attempt, if that failed.
    Awaited(Option<String>),
    Listed,
}

impl Readiness {
    /// Not ready until [`Readiness::set_ready`] was called this many times.
    #[must_use]
    pub fn awaiting(scopes: usize) -> Self {
        Self(Arc::new(State { awaited: AtomicUsize::new(scopes), watches: Mutex::default() }))
    }

    /// One more set of controllers is ready.
    pub fn set_ready(&self) {
        // A failed update means that nothing is awaited any more.
        let _ = self.0.awaited.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |awaited| awaited.checked_sub(1));
    }

    /// Whether all are.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.awaited.load(Ordering::SeqCst) == 0
    }

    /// A watch whose first list is waited for.
    pub fn expect(&self, watch: &str) {
        self.watches().insert(watch.to_owned(), Watch::Awaited(None));
    }

    /// The first list of a watch has come.
    pub fn listed(&self, watch: &str) {
        self.watches().insert(watch.to_owned(), Watch::Listed);
    }

    /// A list or a watch failed. It is of interest while the first list is waited for.
    pub fn failed(&self, watch: &str, why: &str) {
        if let Some(Watch::Awaited(last)) = self.watches().get_mut(watch) {
            *last = Some(why.to_owned());
        }
    }

    /// A line for each watch, and one for what is left to do once all have listed.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let of_watches = self
            .watches()
            .iter()
            .map(|(name, watch)| match watch {
                Watch::Listed => Check::passed(name, ""),
                Watch::Awaited(None) => Check::failed(name, "its first list has not come"),
                Watch::Awaited(Some(why)) => Check::failed(name, format!("its first list has not come: {why}")),
            })
            .collect::<Vec<_>>();
        let controllers = if self.is_ready() { Check::passed("caches", "") } else { Check::failed("caches", "not filled yet") };
        of_watches.into_iter().chain([controllers]).collect()
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<String, Watch>> {
        self.0.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_watch_says_what_it_waits_for() {
        let readiness = Readiness::awaiting(1);
        readiness.expect("watch/secrets");
        readiness.expect("watch/certificates");
        readiness.listed("watch/certificates");
        readiness.failed("watch/secrets", "the API server answers 403");
        let failing = "[+]watch/certificates ok\n[-]watch/secrets failed: its first list has not come: the API server answers 403\n\
                       [-]caches failed: not filled yet\n";
        assert_eq!(Check::lines(&readiness.checks()), failing);
        readiness.listed("watch/secrets");
        readiness.failed("watch/secrets", "the connection was cut");
        readiness.set_ready();
        assert_eq!(Check::lines(&readiness.checks()), "[+]watch/certificates ok\n[+]watch/secrets ok\n[+]caches ok\n");
    }
}
