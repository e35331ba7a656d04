//! What may be decided about one object.

use jiff::Timestamp;

use super::Desired;
use crate::api::Reason;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The issuer has not been looked at yet: nothing is done, and no status is written. A watch event follows.
    Await,
    /// The certificate is good.
    Keep {
        /// When it is renewed.
        renewal_time: Timestamp,
        /// The Secret's type, where it is not `kubernetes.io/tls`.
        wrong_type: Option<String>,
    },
    /// The certificate is good, and something else in the Secret is not.
    Repair {
        /// When it is renewed; `None` if the spec is invalid or the issuer unusable.
        renewal_time: Option<Timestamp>,
    },
    /// A certificate is needed from an issuer that mints. First it is looked up what was made for the database user.
    LookUpUser {
        /// The database user.
        username: String,
        /// Why the certificate is needed.
        cause: Reason,
    },
    /// A certificate is needed, and other certificates of the Atlas project go first. The queue wakes the object when its turn comes.
    Queue {
        /// Until when nobody is served, where Atlas asked for a pause of more than a minute.
        paused_until: Option<Timestamp>,
    },
    /// A certificate is needed, and its private key is being made. The object is woken when it is there.
    AwaitKey,
    /// A certificate is issued.
    Issue {
        /// The certificate.
        desired: Box<Desired>,
        /// Why it is needed.
        cause: Reason,
    },
    /// The Secret of an object that is gone is taken over as it is. The same pass issues nothing.
    Adopt,
    /// The Secret gets or loses its controller, as `deletionPolicy` asks. Its content is neither read nor written.
    ApplyDeletionPolicy,
    /// `spec.suspend` is true: nothing is begun.
    Suspend,
    /// A certificate was issued and is in memory alone: it is written to the Secret.
    Save,
    /// The status holds a claim, and the Secret does not hold its certificate. The process that claimed may have minted before it
    /// stopped: the certificate is counted as lost, and there is a wait.
    CountLostClaim,
    /// A claim was counted as lost before Atlas listed a certificate of it, and the wait is not over: Atlas is asked again.
    LookForLost,
    /// Nothing is done before a time.
    Wait {
        /// The next attempt.
        until: Timestamp,
        /// Why.
        reason: Reason,
        /// What happened and what to change.
        message: String,
    },
    /// Nothing is done until something changes.
    Block {
        /// Why.
        reason: Reason,
        /// What to change.
        message: String,
    },
}

impl Decision {
    pub(super) fn block(reason: Reason, message: impl Into<String>) -> Self {
        Self::Block { reason, message: message.into() }
    }

    /// A few words for the log: what is decided.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Await => "await",
            Self::Keep { .. } => "keep",
            Self::Repair { .. } => "repair",
            Self::LookUpUser { .. } => "look up the user",
            Self::Queue { .. } => "queue",
            Self::AwaitKey => "await key",
            Self::Issue { .. } => "issue",
            Self::Adopt => "adopt",
            Self::ApplyDeletionPolicy => "apply the deletion policy",
            Self::Suspend => "suspend",
            Self::Save => "save",
            Self::CountLostClaim => "count a lost claim",
            Self::LookForLost => "look for a lost certificate",
            Self::Wait { .. } => "wait",
            Self::Block { .. } => "block",
        }
    }

    /// Why it is decided, where that is not always the same.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Wait { reason, .. } | Self::Block { reason, .. } => Some(*reason),
            _ => self.cause(),
        }
    }

    /// Why a certificate is needed, if the decision is about getting one.
    #[must_use]
    pub const fn cause(&self) -> Option<Reason> {
        match self {
            Self::Issue { cause, .. } | Self::LookUpUser { cause, .. } => Some(*cause),
            _ => None,
        }
    }
}
