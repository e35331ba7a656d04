//! What this process remembers of one object between two passes. Losing it costs reads, waits, and any certificate not yet in its
//! Secret.

use jiff::{SignedDuration, Timestamp};

use super::IssueError;
use crate::{api::Reason, certificate::CertificateFacts};

/// How many repairs are remembered: more than any rule needs.
const REPAIRS: usize = 8;

/// How many claims without an answer are remembered. Only one of them can stand, and the watch shows it before long.
const UNSENT_CLAIMS: usize = 8;

/// The longest wait before the Secret is written again; a longer one means that the clock was set back.
const LONGEST_SAVE_WAIT: SignedDuration = SignedDuration::from_mins(10);

/// What is remembered of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectMemory {
    /// A certificate that was made and is in no Secret yet. Its key is kept elsewhere.
    pub unsaved: Option<UnsavedCertificate>,
    /// How the request under a claim failed, until the status says so.
    pub failed_request: Option<FailedRequest>,
    /// Claims whose writes got no answer, so that one of them may stand; the last 8. Nothing was asked for under them.
    pub unsent_claims: Vec<String>,
    /// How many writes in a row failed, of those that no status counts: of a certificate in memory, of the Secret's controller, and any that
    /// got no answer.
    pub failures: u32,
    /// The times of the last repairs, changes of the Secret's controller included that no change of the spec asked for.
    pub repairs: Vec<Timestamp>,
    /// The digest of what the spec asked for when the content of the Secret was last written.
    pub written_layout: Option<String>,
    /// How the last attempt to change the Secret's controller failed. It is not in the status, where it could take the place of a
    /// failure that a request for a certificate has to wait for.
    pub owner_failure: Option<SaveFailure>,
    /// How the last repair of the Secret failed, if the status has a failure that another wait depends on.
    pub repair_failure: Option<SaveFailure>,
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
    /// How the last attempt to write it failed.
    pub failure: Option<SaveFailure>,
}

/// A failed attempt to write a certificate that is in memory alone, the Secret's controller, or a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveFailure {
    /// When it is tried again.
    pub until: Timestamp,
    /// Why it failed.
    pub reason: Reason,
    /// What the API server said.
    pub message: String,
}

impl SaveFailure {
    /// Whether its wait is not over.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until && self.until.duration_since(now) <= LONGEST_SAVE_WAIT
    }
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
    /// Remembers a repair; only the last 8 are kept.
    pub fn repaired(&mut self, now: Timestamp) {
        self.repairs.push(now);
        let surplus = self.repairs.len().saturating_sub(REPAIRS);
        self.repairs.drain(..surplus);
    }

    /// Remembers a claim whose write may have succeeded, and under which nothing is asked for.
    pub fn unsent(&mut self, claim: String) {
        self.unsent_claims.push(claim);
        let surplus = self.unsent_claims.len().saturating_sub(UNSENT_CLAIMS);
        self.unsent_claims.drain(..surplus);
    }

    /// Whether nothing was asked for under this claim.
    #[must_use]
    pub fn is_unsent(&self, claim: &str) -> bool {
        self.unsent_claims.iter().any(|unsent| unsent == claim)
    }

    /// Whether this process knows what became of the request under a claim: how it failed, or that it was never sent.
    #[must_use]
    pub fn knows_of(&self, claim: &str) -> bool {
        self.failed_request.as_ref().is_some_and(|failed| failed.claim == claim) || self.is_unsent(claim)
    }

    /// Counts a write that failed. Returns the number of those in a row.
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
    /// Whether we wrote it for this object a short time ago and the watch has not shown it yet.
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
/// | nothing | no such write | names a certificate | read: the Secret may have lost its label |
/// | nothing | no such write | names none | absent |
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
/// versions"). If either is no number: false, which costs a read.
#[must_use]
pub fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    const fn version<'a>(uid: &'a str, resource_version: &'a str) -> SecretVersion<'a> {
        SecretVersion { uid, resource_version }
    }

    const fn remembered<'a>(uid: &'a str, resource_version: &'a str) -> RememberedSecret<'a> {
        RememberedSecret { version: version(uid, resource_version), is_awaited: false }
    }

    /// A write of our own, which the watch has not shown yet.
    const fn awaited<'a>(uid: &'a str, resource_version: &'a str) -> RememberedSecret<'a> {
        RememberedSecret { version: version(uid, resource_version), is_awaited: true }
    }

    #[test]
    fn the_secret_is_read_only_where_neither_this_process_nor_the_status_knows_it() {
        use SecretSource::{Absent, Memory, Read, Status};
        let (shown, newer) = (version("a", "7"), version("a", "8"));
        // What the watch shows, what this process remembers, what the status verified, whether the status names a certificate.
        let rows = [
            (None, Some(awaited("a", "7")), None, false, Memory),
            (None, Some(awaited("a", "7")), Some(shown), true, Memory),
            (None, None, None, true, Read),
            (None, Some(remembered("a", "7")), Some(shown), true, Read),
            (None, None, None, false, Absent),
            (None, Some(remembered("a", "7")), None, false, Absent),
            (Some(shown), Some(remembered("a", "7")), None, true, Memory),
            (Some(shown), Some(awaited("a", "7")), Some(shown), true, Memory),
            (Some(shown), Some(awaited("a", "10")), Some(shown), true, Memory),
            (Some(shown), Some(remembered("a", "6")), Some(shown), true, Status),
            (Some(shown), Some(awaited("b", "8")), Some(shown), true, Status),
            (Some(shown), None, Some(shown), true, Status),
            (Some(shown), None, Some(newer), true, Read),
            (Some(shown), None, Some(version("b", "7")), true, Read),
            (Some(shown), None, None, false, Read),
            (Some(shown), Some(remembered("a", "8")), None, true, Read),
            (Some(shown), Some(awaited("a", "6")), None, true, Read),
            (Some(shown), Some(awaited("b", "8")), None, true, Read),
            (Some(version("a", "x")), Some(awaited("a", "y")), None, true, Read),
        ];
        for (shown, remembered, verified, has_certificate, source) in rows {
            let found = secret_source(shown, remembered, verified, has_certificate);
            assert_eq!(found, source, "{shown:?}, {remembered:?}, {verified:?}, {has_certificate}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers_and_by_nothing_else() {
        assert!(is_older("9", "10"));
        assert!(!is_older("10", "9") && !is_older("9", "9"));
        assert!(!is_older("a", "b") && !is_older("9", "b") && !is_older("", "1"));
    }

    #[test]
    fn the_last_eight_repairs_are_remembered() {
        let mut memory = ObjectMemory::default();
        let times: Vec<Timestamp> = (0..10).map(|second| Timestamp::from_second(second).unwrap()).collect();
        for time in &times {
            memory.repaired(*time);
        }
        assert_eq!(memory.repairs, times[2..]);
    }

    #[test]
    fn failures_are_counted_from_one_and_stop_at_the_largest_number() {
        let mut memory = ObjectMemory::default();
        assert_eq!((memory.count_failure(), memory.count_failure()), (1, 2));
        memory.failures = u32::MAX;
        assert_eq!(memory.count_failure(), u32::MAX);
    }
}
