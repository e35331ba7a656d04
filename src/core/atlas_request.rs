//! The requests to the Atlas Administration API and their outcomes, as metrics name them.

use std::{borrow::Cow, sync::Arc, time::Duration};

/// What Atlas is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtlasOperation {
    /// For a token of a service account.
    GetToken,
    /// For a database user.
    GetUser,
    /// For one page of the list of a user's certificates.
    ListCertificates,
    /// For a new certificate.
    CreateCertificate,
}

impl AtlasOperation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GetToken, Self::GetUser, Self::ListCertificates, Self::CreateCertificate];

    /// The label of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetToken => "get_token",
            Self::GetUser => "get_user",
            Self::ListCertificates => "list_certificates",
            Self::CreateCertificate => "create_certificate",
        }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtlasOutcome {
    /// An answer with this status. An answer of which the body gets lost counts too.
    Answered(u16),
    /// No answer in time.
    TimedOut,
    /// No connection.
    NotConnected,
    /// The connection ended before the answer.
    Lost,
}

/// The statuses that have a label of their own: those that Atlas or a gateway before it is known to send. Whoever may name an endpoint would
/// otherwise choose how many series there are.
const STATUSES: [u16; 17] = [200, 201, 301, 302, 400, 401, 402, 403, 404, 405, 408, 409, 429, 500, 502, 503, 504];

impl AtlasOutcome {
    /// The label of metrics: the status, or what took the place of an answer.
    #[must_use]
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Self::Answered(status) if STATUSES.contains(&status) => status.to_string().into(),
            Self::Answered(500..=599) => "5xx".into(),
            Self::Answered(_) => "other".into(),
            Self::TimedOut => "timeout".into(),
            Self::NotConnected => "connection".into(),
            Self::Lost => "lost".into(),
        }
    }

    /// One outcome for each label.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [Self::Answered(0), Self::Answered(599), Self::TimedOut, Self::NotConnected, Self::Lost];
        STATUSES.into_iter().map(Self::Answered).chain(others)
    }
}

/// Is told of each request that was sent: what for, what came of it, and how long it took.
pub type AtlasObserver = Arc<dyn Fn(AtlasOperation, AtlasOutcome, Duration) + Send + Sync>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_endpoint_cannot_choose_how_many_labels_there_are() {
        let known: BTreeSet<_> = AtlasOutcome::all().map(AtlasOutcome::label).collect();
        assert!((0..=u16::MAX).all(|status| known.contains(&AtlasOutcome::Answered(status).label())));
        assert_eq!(known.len(), AtlasOutcome::all().count(), "each label once");
    }

    /// The alert of an outage counts `5..`. Gateways send 507, 511, and 520 to 530.
    #[test]
    fn every_status_of_an_outage_has_a_label_that_begins_with_5() {
        for status in 0..=u16::MAX {
            let begins = AtlasOutcome::Answered(status).label().starts_with('5');
            assert_eq!(begins, (500..600).contains(&status), "{status}");
        }
    }
}
