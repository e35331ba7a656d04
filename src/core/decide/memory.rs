//! What this process remembers of one object between two passes. Losing it costs reads and waits, never a certificate that is in its Secret.

use jiff::Timestamp;

use super::IssueError;
use crate::{api::Reason, certificate::CertificateFacts};

/// More repairs than any rule looks at.
const REPAIRS: usize = 8;

/// What is remembered of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectMemory {
    /// A certificate that was made and is in no Secret yet. Its key is kept elsewhere.
    pub unsaved: Option<UnsavedCertificate>,
    /// How the request under a claim failed, until the status says so.
    pub failed_request: Option<FailedRequest>,
    /// How many passes in a row failed for reasons of the API server.
    pub failures: u32,
    /// When the Secret was put right without a new certificate, the last ones.
    pub repairs: Vec<Timestamp>,
}

/// A certificate that is in memory alone.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsavedCertificate {
    /// The certificate.
    pub certificate: CertificateFacts,
    /// The claim under which it was made.
    pub claim: Option<String>,
    /// Why it was needed.
    pub cause: Reason,
    /// The last write that came to nothing.
    pub failure: Option<SaveFailure>,
}

/// A write of a certificate that is in memory alone, which came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveFailure {
    /// When it is tried again.
    pub until: Timestamp,
    /// Why it came to nothing.
    pub reason: Reason,
    /// What the API server said.
    pub message: String,
}

/// A request for a certificate that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedRequest {
    /// The claim under which the certificate was asked for.
    pub claim: String,
    /// How the request failed.
    pub error: IssueError,
}

impl ObjectMemory {
    /// Remembers that the Secret was put right; of earlier times some.
    pub fn repaired(&mut self, now: Timestamp) {
        self.repairs.push(now);
        let surplus = self.repairs.len().saturating_sub(REPAIRS);
        self.repairs.drain(..surplus);
    }

    /// Counts a pass that failed for reasons of the API server.
    pub fn count_failure(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }
}

/// A version of the Secret: UID and resourceVersion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretVersion<'a> {
    /// The UID.
    pub uid: &'a str,
    /// The resourceVersion.
    pub resource_version: &'a str,
}

/// The Secret that this process read or wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedSecret<'a> {
    /// Its version.
    pub version: SecretVersion<'a>,
    /// Whether it is a write of our own for this object which the watch has not shown yet, and which is not long ago.
    pub is_awaited: bool,
}

/// From where the Secret is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// From the memory of this process.
    Memory,
    /// From the status, which holds what was verified in this version.
    Status,
    /// From nowhere: it must be read.
    Read,
    /// There is none.
    Absent,
}

/// From where the Secret is known without a request to the API server.
///
/// | the watch shows | this process remembers | the status | source |
/// | --- | --- | --- | --- |
/// | nothing | a write of its own, not shown yet | any | memory |
/// | nothing | nothing of the kind | names a certificate | read: the Secret may have lost its label |
/// | nothing | nothing of the kind | names none | absent |
/// | a version | this version | any | memory |
/// | a version | a newer write of its own, same UID, not shown yet | any | memory |
/// | a version | another | verified this version | status |
/// | a version | another | verified another | read |
#[must_use]
pub fn secret_source(
    shown: Option<SecretVersion<'_>>,
    remembered: Option<RememberedSecret<'_>>,
    verified: Option<SecretVersion<'_>>,
    has_certificate: bool,
) -> SecretSource {
    let awaited = remembered.filter(|secret| secret.is_awaited);
    let Some(shown) = shown else {
        return match awaited {
            Some(_) => SecretSource::Memory,
            None if has_certificate => SecretSource::Read,
            None => SecretSource::Absent,
        };
    };
    let is_newer = |secret: RememberedSecret<'_>| {
        secret.version.uid == shown.uid && is_older(shown.resource_version, secret.version.resource_version)
    };
    if remembered.is_some_and(|secret| secret.version == shown) || awaited.is_some_and(is_newer) {
        return SecretSource::Memory;
    }
    if verified == Some(shown) { SecretSource::Status } else { SecretSource::Read }
}

/// Whether one version of a resource is older than another. Versions are numbers that grow (Kubernetes API concepts, "Resource
/// versions"). Where they are no numbers, the answer is no, which costs a read.
#[must_use]
pub fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}
