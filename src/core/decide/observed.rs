//! What was found: the issuer, the Secret, the status, and what this process remembers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{IssuerFacts, IssuerState, ObjectMemory, UserCertificates};
use crate::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, DeletionPolicy, IssuerIdentity, Reason},
    certificate::{CertificateFacts, SerialNumber},
    compromised::Compromised,
    layout::{self, LayoutRecord, has_useless_keystore},
};

/// A Secret of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretView {
    /// The Secret's UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// The certificate, or why the content is unusable.
    pub certificate: Result<CertificateFacts, String>,
    /// Why `tls.crt` and `tls.key` cannot be used, while the certificate and its key are still in `tls-combined.pem`.
    pub spoilt: Option<String>,
    /// The Secret's type, where it is not the one that we give.
    pub wrong_type: Option<String>,
    /// Whether all derived entries, labels and annotations are as we write them, for the spec that `layout` is of.
    pub complete: bool,
    /// The annotation that says what is there because the spec asked for it.
    pub layout: LayoutRecord,
    /// The annotation that says when the certificate before this one expires, if that one is kept.
    pub previous_not_after: Option<Timestamp>,
    /// The annotation with the serial number of the certificate before this one, if that one is kept.
    pub previous_serial_number: Option<SerialNumber>,
    /// The keystore's password, as it was when the Secret was last read or written.
    pub keystore: KeystoreView,
    /// The annotation that says who issued the certificate.
    pub issuer: Option<IssuerIdentity>,
    /// The annotation that says which claim the certificate answers.
    pub issuance: Option<String>,
    /// The annotation that says why it was issued.
    pub issue_reason: Option<String>,
    /// The annotation that says which renewal request it answered.
    pub renew_request: Option<String>,
    /// The annotation with the digest of `ca.crt`.
    pub ca_digest: Option<String>,
    /// CA: what stands above the certificate. Empty for certificates of Atlas.
    pub chain: ChainView,
    /// The last field manager other than this operator; known only if the Secret was just read.
    pub changed_by: Option<String>,
    /// When this operator wrote to the Secret last, by the clock of the API server, if its metadata tell.
    pub written: Option<Timestamp>,
    /// The deletion policy that its controller and its annotation carry out; `None` if they contradict each other.
    pub deletion_policy: Option<DeletionPolicy>,
    /// Its owner references besides a controller's.
    pub owners: Vec<OwnerReference>,
    /// The finalizers that hold the Secret, if it is being deleted.
    pub held_by: Option<String>,
}

/// What stands above a certificate in its Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainView {
    /// SHA-256 of what stands after the certificate in `tls.crt`, and in `ca.crt`; known when it was just read or written.
    pub digest: Option<String>,
    /// Why `tls.crt` does not lead to `ca.crt`.
    pub fault: Option<String>,
    /// When the first of the certificates above expires; databases refuse the certificate from then on.
    pub not_after: Option<Timestamp>,
}

/// What is known of the password of the keystore, and of a keystore that could not be written. Empty if the spec asks for no keystore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeystoreView {
    /// The UID and resourceVersion of the Secret that holds the password, if one is named and was found.
    pub password: Option<String>,
    /// The annotation with the serial number of the certificate in the keystore.
    pub serial_number: Option<SerialNumber>,
    /// Why the keystore could not be written: what to change.
    pub fault: Option<String>,
    /// Whether the password could not be read, for a cause that passes by itself.
    pub is_passing: bool,
}

/// A Secret that carries a mark of this operator and that nobody controls any more: a backup brought it back, or `deletionPolicy:
/// Retain` has kept it.
#[derive(Clone, Debug, PartialEq)]
pub struct AbandonedSecret {
    /// The Secret's UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its owner references besides a controller's.
    pub owners: Vec<OwnerReference>,
    /// Whose it was, as a sentence about it.
    pub whose: String,
    /// Whether it was retained for this object. Then it is adopted without the annotation that asks for it.
    pub is_retained: bool,
    /// Why it must not be adopted, as the end of a sentence.
    pub fault: Option<String>,
}

/// The Secret that the spec names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SecretState {
    /// None is known. One without our label is noticed only when ours is created.
    #[default]
    Absent,
    /// One that this object does not control; the text names its owner.
    NotOurs(String),
    /// One that holds an issuer's credentials or CA; the text names the issuer. It is never adopted, and nobody is told to delete
    /// it.
    NeededByIssuer(String),
    /// One of ours whose object is gone. It may be adopted.
    Abandoned(Box<AbandonedSecret>),
    /// Ours.
    Ours(Box<SecretView>),
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The name of this process, which no other process has.
    pub process: Option<String>,
    /// The process that gave up the Lease last, at its end.
    pub released_by: Option<String>,
    /// The issuer.
    pub issuer: IssuerState,
    /// The Secret.
    pub secret: SecretState,
    /// The status as it was read.
    pub status: DatabaseUserCertificateStatus,
    /// What of the object cannot be read, as a sentence. The status may then hold what is not known here, such as a claim.
    pub unreadable: Option<String>,
    /// Whether the spec or the metadata are among what cannot be read. Then nobody knows what the object asks for.
    pub is_spec_unreadable: bool,
    /// What this process remembers of the object.
    pub memory: ObjectMemory,
    /// The certificates of the database user. Looked up only when a certificate is to be minted; `None` before.
    pub user: Option<UserCertificates>,
    /// Which of the serial numbers that the status counts as unaccounted a Secret of ours holds, that of another object included.
    pub held: BTreeSet<SerialNumber>,
    /// The object's namespace and that namespace's labels, for the issuer's `allow`.
    pub namespace: String,
    /// The labels of the namespace; none while they are not known.
    pub namespace_labels: BTreeMap<String, String>,
}

impl SecretView {
    /// Whether the Secret holds all that the object asks for, and nothing that it no longer asks for.
    #[must_use]
    pub fn is_settled(&self, object: &DatabaseUserCertificate, status: &DatabaseUserCertificateStatus, now: Timestamp) -> bool {
        self.complete && self.layout.digest == layout::digest(&object.spec) && !self.has_useless_pair(object, status, now)
    }

    /// Whether the Secret holds a former pair that is of no use any more, in its own entries or in the keystore.
    #[must_use]
    pub fn has_useless_pair(
        &self,
        object: &DatabaseUserCertificate,
        status: &DatabaseUserCertificateStatus,
        now: Timestamp,
    ) -> bool {
        let has_expired = self.previous_not_after.is_some_and(|not_after| not_after <= now);
        let previous = self.previous_serial_number.as_ref();
        has_expired
            || previous.is_some_and(|previous| Compromised::of(object).has(previous.as_str()))
            || self.has_useless_keystore(object, status, now)
    }

    /// Whether the keystore holds a former pair that is of no use any more.
    #[must_use]
    pub fn has_useless_keystore(
        &self,
        object: &DatabaseUserCertificate,
        status: &DatabaseUserCertificateStatus,
        now: Timestamp,
    ) -> bool {
        let cause = self.issue_reason.as_deref().and_then(Reason::from_name);
        self.certificate.as_ref().is_ok_and(|present| {
            has_useless_keystore(object, self.keystore.serial_number.as_ref(), &present.serial_number, cause, status, now)
        })
    }

    /// Whether the Secret has the issuer's present chain. One from an earlier release may be arranged differently: it stays if it
    /// verifies, and later chains are compared with the one it was found good for.
    #[must_use]
    pub fn has_current_chain(&self, issuer: &IssuerFacts, status: &DatabaseUserCertificateStatus) -> bool {
        let ca = issuer.ca();
        if self.ca_digest.as_ref() != ca.map(|ca| &ca.ca_digest) || self.chain.fault.is_some() {
            return false;
        }
        let found_good_for = status.verified.as_ref().and_then(|verified| verified.chain.as_ref());
        let wanted = ca.map(|ca| &ca.chain_digest);
        self.chain.digest.as_ref() == wanted
            || found_good_for.map_or(self.chain.digest.is_some(), |digest| Some(digest) == wanted)
    }
}

impl SecretState {
    /// The Secret, if it is ours.
    #[must_use]
    pub fn ours(&self) -> Option<&SecretView> {
        match self {
            Self::Ours(view) => Some(view),
            Self::Absent | Self::NotOurs(_) | Self::NeededByIssuer(_) | Self::Abandoned(_) => None,
        }
    }

    /// The certificate in it, if it is ours and usable.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateFacts> {
        self.ours().and_then(|view| view.certificate.as_ref().ok())
    }
}
