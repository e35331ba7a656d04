//! How a pass ended, in one word for metrics.

use super::{End, PassError};
use crate::decide::Decision;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassOutcome {
    /// The certificate is as the spec asks, or the object is suspended.
    Done,
    /// Something is under way that ends by itself: a turn, a key, an issuer that is not loaded yet.
    Pending,
    /// An attempt failed or is held back, and there is a time for the next one.
    Waiting,
    /// Nothing is done until something is changed.
    Blocked,
    /// The object was changed meanwhile: the pass is repeated.
    Superseded,
    /// The process does not lead any more, or is stopping.
    NotLeading,
    /// Requests to the API server failed, or the pass took too long: it is repeated.
    Failed,
}

impl PassOutcome {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Pending, Self::Waiting, Self::Blocked, Self::Superseded, Self::NotLeading, Self::Failed];

    /// The label of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Superseded => "superseded",
            Self::NotLeading => "not_leading",
            Self::Failed => "failed",
        }
    }

    /// Of a pass with this end and this last decision.
    #[must_use]
    pub const fn of(end: &End, decision: &Decision) -> Self {
        match (end, decision) {
            (End::Failed(PassError::Superseded | PassError::Outdated(_)), _) => Self::Superseded,
            (End::Failed(PassError::NotLeading), _) => Self::NotLeading,
            (End::Failed(PassError::Request(_) | PassError::OutOfOrder), _) => Self::Failed,
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
                | Decision::CountLostClaim,
            ) => Self::Pending,
            (End::Sleep(_) | End::AwaitChange, Decision::Wait { .. }) => Self::Waiting,
            (End::Sleep(_) | End::AwaitChange, Decision::Block { .. }) => Self::Blocked,
        }
    }
}
