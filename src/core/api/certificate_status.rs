//! The status of a `DatabaseUserCertificate`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reason, RolloutStatus};

/// What the operator did and found. The Secret is the truth about the certificate: a status that is lost is rebuilt from it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseUserCertificateStatus {
    /// The generation of the spec that the conditions are about.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// The Secret that holds the certificate.
    #[serde(default)]
    pub secret_name: Option<String>,
    /// Serial number, upper-case hexadecimal as `openssl x509 -serial` prints it.
    #[serde(default)]
    pub serial_number: Option<String>,
    /// The subject of the certificate as an RFC 4514 string, with each byte outside ASCII as `\XX`. It is the name of the
    /// `$external` user in a self-hosted database. mongod and `openssl x509 -nameopt RFC2253` write it the same way.
    #[serde(default)]
    pub subject: Option<String>,
    /// Start of the certificate's validity.
    #[serde(default)]
    pub not_before: Option<Time>,
    /// End of the certificate's validity.
    #[serde(default)]
    pub not_after: Option<Time>,
    /// When the certificate will be renewed.
    #[serde(default)]
    pub renewal_time: Option<Time>,
    /// `Ready` is True while the Secret holds a working certificate. `Issuing` is True while a certificate is being issued;
    /// its reason says why, or why not. Two more types are present only while they are True. `Stalled`: the object is not
    /// Ready, and only a change by a person helps. `RenewalFailed`: the object is Ready, but no new certificate can be
    /// issued. `RolledOut` is there with `spec.rollout` alone: it is True while all workloads have the certificate.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The claim of a certificate that is being requested from Atlas. It is written before the request and removed with its
    /// outcome.
    #[serde(default)]
    pub issuance: Option<Issuance>,
    /// The last failure to issue. A success removes it.
    #[serde(default)]
    pub failure: Option<CertificateFailure>,
    /// The last five certificates, newest first.
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub history: Vec<IssuedCertificate>,
    /// Certificates of the database user that Atlas made, or may have made, and that no Secret of this operator holds or has held.
    /// They cannot be revoked.
    #[serde(default)]
    pub unaccounted_certificates: Option<UnaccountedCertificates>,
    /// The last value of the annotation `usercert.dev/renew-requested-at` that was handled.
    #[serde(default)]
    pub renew_request_handled: Option<String>,
    /// When the last five renewals were carried out that were forced, the newest first. An object has five in an hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub forced_renewals: Vec<Time>,
    /// The version of the Secret whose content was verified last. While the Secret has this version, it is not read again.
    #[serde(default)]
    pub verified: Option<VerifiedSecret>,
    /// The Secret that tells workloads how to reach the database: with it this object is a Provisioned Service
    /// (servicebinding.io). Present while `spec.connection` is given and the Secret holds its entries.
    #[serde(default)]
    pub binding: Option<SecretBinding>,
    /// With `deletionPolicy: Retain`: the UID of the Secret that holds the certificate. Labels and annotations of a Secret without
    /// a controller can be forged. So the operator takes another Secret for its own only if the content is what it could have
    /// written.
    #[serde(default)]
    pub retained_secret_uid: Option<String>,
    /// How far the workloads of `spec.rollout` are.
    #[serde(default)]
    pub rollout: Option<RolloutStatus>,
}

/// A Secret in the namespace of the object.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct SecretBinding {
    /// The name of the Secret.
    pub name: String,
}

/// A claim: the intent to request one certificate from Atlas, stored before the request is sent.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Issuance {
    /// A random id. The Secret that holds the certificate has it too, in the annotation `usercert.dev/issuance-id`.
    pub id: String,
    /// Why the certificate is requested.
    pub reason: String,
    /// The number of this attempt since the last success, counted from 1.
    pub attempt: i64,
    /// When the claim was written.
    pub since: Time,
    /// For which database user, as far as it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ClaimedUser>,
    /// The process that wrote the claim: its name in the Lease, which begins with the name of its Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub process: Option<String>,
}

/// The database user that a certificate was requested for.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedUser {
    /// Digest of the endpoint, the project, the credentials Secret and the user name. What is known of this user no longer holds
    /// once the claim counts as lost.
    #[schemars(length(max = 64))]
    pub key: String,
    /// What Atlas listed before the request; absent where the credentials may not read the list. If a later list shows one certificate
    /// more that nobody holds, it is the one that was requested, and its key is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<ListedBefore>,
}

/// The certificates that Atlas listed for a database user at one time: the newest by their serial numbers, and all others by their age.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ListedBefore {
    /// The serial numbers of the newest 20.
    #[schemars(length(max = 20))]
    pub serial_numbers: Vec<String>,
    /// When Atlas made the last of the others, by its own clock; absent if there were no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_until: Option<Time>,
}

/// A failure to issue and when the next attempt is due.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFailure {
    /// The number of failures in a row.
    pub count: i64,
    /// How many of them, counted from the last one back, had its reason.
    #[serde(default)]
    pub count_of_reason: Option<i64>,
    /// The reason of the last failure.
    pub reason: String,
    /// What happened and what to change.
    pub message: String,
    /// When it happened.
    pub last_time: Time,
    /// No attempt is made before this time. For most reasons a change of what the attempt depends on ends the wait early
    /// (see `inputs`).
    pub next_attempt: Time,
    /// Whether the issuer asked for this wait (`Retry-After`). Then only another database user ends it early.
    #[serde(default)]
    pub asked_by_issuer: bool,
    /// Digest of what the attempt depended on: the spec, the issuer, its credentials and the renewal request. It is empty
    /// after a request whose certificate did not come into the Secret.
    pub inputs: String,
    /// Why a certificate was needed.
    #[serde(default)]
    pub cause: Option<String>,
    /// A claim that was counted as lost before Atlas listed a certificate of it. Until `nextAttempt` Atlas is asked again: the wait ends early
    /// if it lists one then.
    // Without one it is written as null: a merge patch removes nothing else.
    #[serde(default)]
    pub unlisted: Option<UnlistedClaim>,
}

impl CertificateFailure {
    /// How many failures in a row were for this reason, this one the last of them. 0 if this one was for another.
    #[must_use]
    pub fn in_a_row(&self, reason: Reason) -> i64 {
        // Release 0.1.0 wrote no count of the reason.
        if self.reason == reason.as_str() { self.count_of_reason.unwrap_or(self.count) } else { 0 }
    }
}

/// A claim that was counted as lost, and of which Atlas has listed no certificate yet.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UnlistedClaim {
    /// The claim.
    pub claim: Issuance,
    /// When Atlas is asked for its list again.
    pub next_question: Time,
}

/// Certificates of a database user whose private keys no Secret of this operator holds or has held: the keys are lost, or
/// somebody else has them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UnaccountedCertificates {
    /// The number of these certificates, presumed ones included.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// How many of them are presumed. Since Atlas was last asked for its list, this many answers were lost, and each may have
    /// held a certificate.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub presumed: i64,
    /// The claims of presumed certificates that may be saved yet, by a process that was cut off or paused. A certificate that comes into
    /// the Secret with such a claim is not counted any more. At most 20, the newest last.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub presumed_claims: Vec<String>,
    /// When the last of the listed certificates expires.
    #[serde(default)]
    pub latest_expiry: Option<Time>,
    /// The certificates that Atlas lists, the latest expiry first. At most 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub certificates: Vec<UnaccountedCertificate>,
    /// When Atlas was last asked for its list.
    #[serde(default)]
    pub listed_at: Option<Time>,
}

/// A certificate that Atlas lists.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UnaccountedCertificate {
    /// Serial number, upper-case hexadecimal.
    pub serial_number: String,
    /// End of its validity.
    pub not_after: Time,
}

/// One certificate that was written to the Secret.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IssuedCertificate {
    /// Serial number, upper-case hexadecimal.
    pub serial_number: String,
    /// Why it was issued.
    pub reason: String,
    /// Who issued it: `atlas/` and the id of the project, or `ca/` and a digest of the name and key of the CA. It is used
    /// if the Secret loses its annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When the operator recorded it.
    pub recorded_at: Time,
    /// End of its validity.
    pub not_after: Time,
}

/// Which version of the Secret was verified, and those facts about it that no other field of the status holds.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedSecret {
    /// The Secret's UID.
    pub uid: String,
    /// The Secret's resourceVersion.
    pub resource_version: String,
    /// The certificate's issuer as an RFC 4514 string.
    pub issuer: String,
    /// Algorithm and size of the certificate's key.
    pub private_key: String,
    /// For CA issuers: digest of the chain of the issuer for which the Secret was found in order. When the issuer has a
    /// chain with another digest, that chain is written to the Secret.
    #[serde(default)]
    pub chain: Option<String>,
    /// For CA issuers: when the first of the certificates above this one expires. From then on databases refuse this one.
    #[serde(default)]
    pub chain_not_after: Option<Time>,
    /// The UID and resourceVersion of the Secret with the password with which the keystore was verified, if one is named.
    #[serde(default)]
    pub keystore_password: Option<String>,
    /// The Secret's type, where it is not `kubernetes.io/tls`.
    #[serde(default)]
    pub wrong_type: Option<String>,
}
