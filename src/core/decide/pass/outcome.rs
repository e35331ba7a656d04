//! How a pass ended, in one word for metrics.

use super::{End, PassError};
use crate::decide::Decision;

macro_rules! outcomes {
    ($( $(#[doc = $doc:literal])+ $name:ident = $label:literal; )+) => {
        /// How a pass ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PassOutcome { $( $(#[doc = $doc])+ $name, )+ }

        impl PassOutcome {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// The label of metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $label, )+ }
            }
        }
    };
}

outcomes! {
    /// The certificate is as the spec asks, or the object is suspended.
    Done = "done";
    /// Something is under way that ends by itself: a turn, a key, an issuer that is not loaded yet.
    Pending = "pending";
    /// An attempt failed or is held back, and there is a time for the next one.
    Waiting = "waiting";
    /// Nothing is done until something is changed.
    Blocked = "blocked";
    /// The object was changed meanwhile: the pass is repeated.
    Superseded = "superseded";
    /// The process does not lead any more, or is stopping.
    NotLeading = "not_leading";
    /// Requests to the API server failed, or the pass took too long: it is repeated.
    Failed = "failed";
}

impl PassOutcome {
    /// Of a pass that failed so.
    #[must_use]
    pub const fn of_error(error: &PassError) -> Self {
        match error {
            PassError::Superseded | PassError::Outdated(_) => Self::Superseded,
            PassError::NotLeading => Self::NotLeading,
            PassError::Request(_) | PassError::OutOfOrder => Self::Failed,
        }
    }

    /// Of a pass with this end and this last decision.
    #[must_use]
    pub const fn of(end: &End, decision: &Decision) -> Self {
        match (end, decision) {
            (End::Failed(error), _) => Self::of_error(error),
            (
                End::Sleep(_) | End::AwaitChange,
                Decision::Keep { .. }
                | Decision::Repair { .. }
                | Decision::Adopt
                | Decision::ApplyDeletionPolicy
                | Decision::Suspend,
            ) => Self::Done,
            (
                End::Sleep(_) | End::AwaitChange,
                Decision::Await
                | Decision::LookUpUser { .. }
                | Decision::Queue { .. }
                | Decision::AwaitKey
                | Decision::Issue { .. }
                | Decision::Save
                | Decision::CountLostClaim
                | Decision::LookForLost,
            ) => Self::Pending,
            (End::Sleep(_) | End::AwaitChange, Decision::Wait { .. }) => Self::Waiting,
            (End::Sleep(_) | End::AwaitChange, Decision::Block { .. }) => Self::Blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use rstest::rstest;

    use super::*;
    use crate::api::Reason;

    fn blocked() -> Decision {
        Decision::Block { reason: Reason::InvalidSpec, message: String::new() }
    }

    #[rstest]
    #[case::suspended(End::Sleep(Duration::ZERO), Decision::Suspend, PassOutcome::Done)]
    #[case::in_the_queue(End::Sleep(Duration::ZERO), Decision::Queue { paused_until: None }, PassOutcome::Pending)]
    #[case::issuer_not_looked_at(End::AwaitChange, Decision::Await, PassOutcome::Pending)]
    #[case::refused(End::Sleep(Duration::ZERO), blocked(), PassOutcome::Blocked)]
    #[case::newer_object(End::Failed(PassError::Superseded), Decision::Await, PassOutcome::Superseded)]
    #[case::lead_lost(End::Failed(PassError::NotLeading), Decision::Suspend, PassOutcome::NotLeading)]
    #[case::out_of_order(End::Failed(PassError::OutOfOrder), blocked(), PassOutcome::Failed)]
    fn a_pass_that_failed_counts_as_such_whatever_it_had_decided(
        #[case] end: End,
        #[case] decision: Decision,
        #[case] expected: PassOutcome,
    ) {
        assert_eq!(PassOutcome::of(&end, &decision), expected);
    }

    #[test]
    fn each_outcome_has_a_label_of_its_own() {
        let labels: BTreeSet<_> = PassOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!(labels.len(), PassOutcome::ALL.len());
    }
}
