//! Whether one request that mints may be sent.

use std::time::Duration;

use crate::MintPermit;

/// Whether a request that mints may be sent, and how long it may take.
pub(super) struct RequestPermit {
    pub(super) permit: MintPermit,
    /// The time limit of the request.
    pub(super) limit: Duration,
}

impl RequestPermit {
    /// Whether it may be sent now.
    pub(super) fn is_given(&self) -> bool {
        self.permit.is_given(self.limit)
    }

    /// Whether it may not be sent because it might not end in time.
    pub(super) fn is_too_late(&self) -> bool {
        self.permit.is_too_late(self.limit)
    }
}
