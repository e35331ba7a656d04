//! Telling metrics of each request.

use std::{fmt, future::Future, time::Instant};

use reqwest::Response;

use super::errors::Unanswered;
use crate::atlas_request::{AtlasObserver, AtlasOperation, AtlasOutcome};

/// Whom the client tells of its requests, if anybody.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<AtlasObserver>);

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl From<AtlasObserver> for Observer {
    fn from(observer: AtlasObserver) -> Self {
        Self(Some(observer))
    }
}

/// A request under way. It is told when this is dropped, for a request that nobody waits for any more has ended too.
struct UnderWay<'a> {
    observer: &'a Observer,
    operation: AtlasOperation,
    since: Instant,
    outcome: Option<AtlasOutcome>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let (Some(tell), Some(outcome)) = (&self.observer.0, self.outcome) {
            tell(self.operation, outcome, self.since.elapsed());
        }
    }
}

impl Observer {
    /// Waits for a request, and tells what came of it. If it is given up first, because the time for all of it is over, it has timed out.
    pub(super) async fn tell<T>(
        &self,
        operation: AtlasOperation,
        request: impl Future<Output = T>,
        outcome: impl FnOnce(&T) -> Option<AtlasOutcome>,
    ) -> T {
        let mut under_way =
            UnderWay { observer: self, operation, since: Instant::now(), outcome: Some(AtlasOutcome::TimedOut) };
        let answer = request.await;
        under_way.outcome = outcome(&answer);
        answer
    }
}

/// What metrics tell of a request with this answer.
pub(super) fn outcome(response: &Result<Response, Unanswered>) -> Option<AtlasOutcome> {
    match response {
        Ok(response) => Some(AtlasOutcome::Answered(response.status().as_u16())),
        Err(unanswered) => unanswered.outcome(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, PoisonError},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn a_request_is_told_once_with_its_outcome_and_one_that_is_given_up_has_timed_out() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        let tell: AtlasObserver = Arc::new(move |operation, outcome, _| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((operation, outcome));
        });
        let observer = Observer::from(tell);
        let operation = AtlasOperation::GetUser;
        observer.tell(operation, async { 404 }, |status| Some(AtlasOutcome::Answered(*status))).await;
        observer.tell(operation, async {}, |()| None).await;
        let never = observer.tell(operation, std::future::pending::<()>(), |()| None);
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        let expected = [(operation, AtlasOutcome::Answered(404)), (operation, AtlasOutcome::TimedOut)];
        assert_eq!(*told.lock().unwrap_or_else(PoisonError::into_inner), expected);
    }
}
