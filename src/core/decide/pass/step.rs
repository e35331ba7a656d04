//! The steps of a pass, and what each may find.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use kube_core::ObjectMeta;

use super::super::{Desired, IssueError, Observed, RecalledUser, SecretView};
use crate::{
    api::{DatabaseUserCertificateStatus, Reason},
    certificate::{CertificateFacts, PrivateKeySpec, SerialNumber},
};

/// What is done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Look at the issuer, the Secret and what is remembered. Found: [`Found::Observed`].
    Observe(Look),
    /// Look up in memory what is known of the database user. Found: [`Found::Recalled`].
    RecallUser {
        /// The database user.
        username: String,
    },
    /// Take a turn to ask the issuer, or a place in the queue of those who wait for one. Found: [`Found::Turn`].
    TakeTurn {
        /// How many metered calls the turn covers.
        calls: u32,
        /// Whoever expires first goes first.
        expiry: Timestamp,
    },
    /// Take the private key that was made, or have it made outside of the pass. Found: [`Found::Turn`], whether it is there.
    MakeKey {
        /// The key.
        private_key: PrivateKeySpec,
    },
    /// Ask the issuer which certificates the database user has. Found: [`Found::Listed`].
    ListCertificates {
        /// The database user.
        username: String,
    },
    /// Ask the API server whether it would take the Secret; nothing is written. Found: [`Found::Tried`].
    TryWrite,
    /// Ask the issuer whether it makes certificates for the database user. Found: [`Found::UserChecked`].
    CheckUser {
        /// The database user.
        username: String,
    },
    /// Write to the status that one certificate is about to be requested. Found: [`Found::Claimed`].
    WriteClaim {
        /// Why the certificate is needed.
        cause: Reason,
    },
    /// Take the claim back. Found: [`Found::Withdrawn`].
    WithdrawClaim,
    /// Have the certificate made. Right before the bytes that mint, the HTTP exchange asks once more whether this process may. Found:
    /// [`Found::Issued`] or [`Found::NotIssued`].
    RequestCertificate {
        /// The certificate.
        desired: Box<Desired>,
        /// Why it is needed.
        cause: Reason,
        /// The claim under which it is minted.
        claim: Option<String>,
    },
    /// Read the Secret, to repair it with the key that it holds. Found: [`Found::SecretRead`].
    ReadSecret,
    /// Read the object: whether it still wants what was decided, and still exists. Watches may lag. Found: [`Found::ObjectRead`].
    ReadObject,
    /// Write the Secret. Found: [`Found::Written`] or [`Found::NotRebuilt`].
    WriteSecret(Write),
    /// Write the status, and tell of what happened. Found: [`Found::Reported`].
    Report(Box<Report>),
    /// The pass has ended.
    End(End),
}

/// How the Secret is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// By what the watches and this process know. The Secret is read only if that does not suffice.
    Known,
    /// Read live: a write met something else than was known, or the process stops.
    Live,
}

/// What is written to the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// What a CA has just signed.
    Signed {
        /// Why it was needed.
        cause: Reason,
    },
    /// The certificate that is in memory alone.
    Unsaved,
    /// The pair that is in the Secret, with all that belongs to it.
    Repaired {
        /// Whether the issuer tells what belongs to it. Otherwise that stays as it is.
        with_issuer: bool,
    },
    /// Nothing but the ownership, of a Secret whose object is gone.
    Adopted,
    /// Nothing but the controller of the object's own Secret, and the annotation that says for whom it is retained.
    DeletionPolicy,
}

/// What the pass tells at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The status, if it is to be written.
    pub status: Option<Box<DatabaseUserCertificateStatus>>,
    /// Events for the case that the status is written: the warnings that it has come to hold.
    pub warnings: Vec<(Reason, String)>,
    /// Events in any case: what was done.
    pub events: Vec<(Reason, String)>,
    /// Why no certificate was issued, for the log and the counter.
    pub failure: Option<IssueError>,
    /// Whether the Secret has to be watched by its name.
    pub watch_by_name: WatchByName,
}

/// Whether the Secret has to be watched by its name. The watch of our label shows no other Secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchByName {
    /// No.
    #[default]
    No,
    /// Only if the watch of our label does not show it.
    UnlessShown,
    /// Yes: it is another's, or is being adopted.
    Yes,
}

/// How a pass ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Nothing has to be looked at before this much time has passed, or something changes.
    Sleep(Duration),
    /// Nothing has to be looked at before something changes.
    AwaitChange,
    /// The pass failed for another reason than an issuer's.
    Failed(PassError),
}

/// A pass that failed for another reason than an issuer's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// A request to the API server failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The object is not as it was seen. A watch event for the newer one is on its way.
    #[error("the object has changed since it was read")]
    Superseded,
    /// A write to the object met a conflict, or found no object. A watch event for what is there now is on its way, unless a webhook has
    /// answered so: then the writes after this one fail too.
    #[error("the object may have changed since it was read: {0}")]
    Outdated(RequestError),
    /// Another process may lead by now, or this one stops.
    #[error("this process does not lead any more, or is stopping")]
    NotLeading,
    /// A step was answered with something that it cannot find: a fault of this program.
    #[error("the pass cannot go on: a step found what it cannot find")]
    OutOfOrder,
}

/// A request to the API server that failed, as far as the order of steps depends on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RequestError {
    /// What was tried.
    pub operation: &'static str,
    /// How it failed.
    pub kind: RequestErrorKind,
    /// What the API server said, or why there was no answer.
    pub message: String,
}

/// How a request to the API server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// There was no answer: nobody can say what came of it.
    Unanswered,
    /// 409: something is not as it was seen, or exists already. A webhook may say so too.
    Conflict,
    /// 404: something is gone. A webhook may say so too.
    NotFound,
    /// 403, because the namespace is being deleted.
    NamespaceTerminating,
    /// Any other 4xx except 408 and 429: repeating the request at once is pointless.
    Refused,
    /// The API server failed or is busy.
    Failed,
}

impl RequestError {
    /// The reason in conditions of a write of the Secret that failed so.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.kind {
            RequestErrorKind::NamespaceTerminating => Reason::NamespaceTerminating,
            RequestErrorKind::Conflict | RequestErrorKind::NotFound | RequestErrorKind::Refused => Reason::SecretNotWritable,
            RequestErrorKind::Unanswered | RequestErrorKind::Failed => Reason::SecretWriteFailed,
        }
    }

    /// The error of a write to the object: a conflict means that a newer version is on its way, and an object that is gone needs nothing.
    #[must_use]
    pub fn of_object(self) -> PassError {
        match self.kind {
            RequestErrorKind::Conflict | RequestErrorKind::NotFound => PassError::Outdated(self),
            _ => PassError::Request(self),
        }
    }
}

/// Whether it is an object's turn to ask the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnFound {
    /// It is.
    Given,
    /// Others go first.
    Queued {
        /// Until when nobody is served, if the issuer asked for that.
        paused_until: Option<Timestamp>,
    },
}

/// What a step found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing yet: the pass begins.
    Begun,
    /// What is there, or why it could not be read. Its status is not looked at: the pass has that of the newest object that it knows.
    Observed(Result<Box<Observed>, RequestError>),
    /// What is known of the database user; `None` if Atlas has to be asked.
    Recalled(Option<Box<RecalledUser>>),
    /// Whether it is this object's turn, or its key is there.
    Turn(TurnFound),
    /// Whether the list came; it is remembered then.
    Listed(Result<(), IssueError>),
    /// Whether the API server would take the Secret.
    Tried(Result<(), RequestError>),
    /// Whether the issuer makes certificates for the database user.
    UserChecked(Result<(), IssueError>),
    /// The object with the claim.
    Claimed(Box<ClaimedObject>),
    /// The claim with this id was not written, or its write got no answer. Nothing is asked for under it.
    NotClaimed(String, RequestError),
    /// The claim was taken back, or could not be: then it stands.
    Withdrawn,
    /// The certificate was made. Its key is kept.
    Issued(Box<CertificateFacts>),
    /// The certificate was not made, or nobody knows whether it was.
    NotIssued(IssueError),
    /// The serial number in the Secret; `None` if it is not the object's or holds no usable pair.
    SecretRead(Result<Option<SerialNumber>, RequestError>),
    /// Whether the object is as it was when it was decided on.
    ObjectRead(Result<bool, RequestError>),
    /// The Secret as it was written.
    Written(Result<Box<SecretView>, RequestError>),
    /// The certificate does not verify with the chain that the CA has now.
    NotRebuilt(IssueError),
    /// Whether the status was written, if there was one to write.
    Reported(Result<(), RequestError>),
}

/// The object after its claim was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedObject {
    /// The claim's id.
    pub claim: String,
    /// The object's metadata.
    pub metadata: ObjectMeta,
    /// The object's status.
    pub status: DatabaseUserCertificateStatus,
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            // Why there was no answer says what was tried.
            RequestErrorKind::Unanswered => formatter.write_str(&self.message),
            _ => write!(formatter, "could not {}: {}", self.operation, self.message),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observe(Look::Known) => write!(formatter, "observe"),
            Self::Observe(Look::Live) => write!(formatter, "observe live"),
            Self::RecallUser { .. } => write!(formatter, "recall user"),
            Self::TakeTurn { calls, .. } => write!(formatter, "take turn for {calls}"),
            Self::MakeKey { private_key } => write!(formatter, "make key ({private_key})"),
            Self::ListCertificates { .. } => write!(formatter, "list certificates"),
            Self::TryWrite => write!(formatter, "try write"),
            Self::CheckUser { .. } => write!(formatter, "check user"),
            Self::WriteClaim { .. } => write!(formatter, "write claim"),
            Self::WithdrawClaim => write!(formatter, "withdraw claim"),
            Self::RequestCertificate { cause, .. } => write!(formatter, "request certificate ({cause})"),
            Self::ReadSecret => write!(formatter, "read Secret"),
            Self::ReadObject => write!(formatter, "read object"),
            Self::WriteSecret(write) => write!(formatter, "write {write}"),
            Self::Report(report) => write!(formatter, "{report}"),
            Self::End(end) => write!(formatter, "{end}"),
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Signed { .. } => "signed",
            Self::Unsaved => "unsaved",
            Self::Repaired { with_issuer: true } => "repaired",
            Self::Repaired { with_issuer: false } => "repaired without the issuer",
            Self::Adopted => "adopted",
            Self::DeletionPolicy => "deletion policy",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.status.is_some() { "report" } else { "report nothing new" })
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sleep(duration) => write!(formatter, "sleep {} s", duration.as_secs()),
            Self::AwaitChange => formatter.write_str("await a change"),
            Self::Failed(error) => write!(formatter, "fail: {error}"),
        }
    }
}
