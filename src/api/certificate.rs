//! `DatabaseUserCertificate`: one certificate for one database user, kept in one Secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A DNS subdomain (RFC 1123), the form of object names.
pub(super) const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Hours, minutes and seconds, each at most once and in this order, as an expression of CEL.
macro_rules! is_duration {
    ($text:literal) => {
        concat!($text, ".matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$')")
    };
}

/// The rule for a field that is a duration of this length or more, and what it says. It is a rule and no bare pattern, for the API server
/// answers one of those with the pattern.
macro_rules! duration_rule {
    ($field:literal, $least:literal) => {
        kube::core::Rule::new(concat!(
            $crate::api::certificate::is_duration!("self"),
            " && duration(self) >= duration('",
            $least,
            "')"
        ))
        .message(concat!(
            $field,
            " must be ",
            $least,
            " or more, in h, m and s as in 2160h or 1h30m; for days use hours: 30 days is 720h"
        ))
    };
}

pub(super) use {duration_rule, is_duration};

/// Which certificate is wanted, and where.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[kube(
    group = "usercert.dev",
    version = "v1alpha1",
    kind = "DatabaseUserCertificate",
    plural = "databaseusercertificates",
    shortname = "duc",
    category = "usercert",
    namespaced,
    status = "DatabaseUserCertificateStatus",
    doc = "An X.509 client certificate for one database user, kept in a TLS Secret and renewed in time.",
    derive = "PartialEq",
    validation = Rule::new("(has(self.spec.secretName) ? self.spec.secretName : self.metadata.name) == \
         (has(oldSelf.spec.secretName) ? oldSelf.spec.secretName : oldSelf.metadata.name)").message("secretName cannot be changed, for pods would go on using the old Secret, which nobody renews: make a new DatabaseUserCertificate, move the pods, then delete this one"),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Secret","type":"string","jsonPath":".status.secretName"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.notAfter"}"#,
    printcolumn = r#"{"name":"Renews","type":"string","jsonPath":".status.renewalTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Issuer","type":"string","priority":1,"jsonPath":".spec.issuerRef.name"}"#,
    printcolumn = r#"{"name":"Serial","type":"string","priority":1,"jsonPath":".status.serialNumber"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Issuing\")].reason"}"#,
    selectable = ".spec.issuerRef.name",
    selectable = ".spec.secretName",
    selectable = ".spec.username"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.userRef) ? !has(self.username) && !has(self.issuerRef) : has(self.username) && has(self.issuerRef)").message("give username and issuerRef, or userRef alone"))]
#[x_kube(validation = Rule::new("!has(self.userRef) || !(has(self.duration) || has(self.subject) || has(self.privateKey))").message("duration, subject and privateKey are for CA issuers, userRef is for Atlas"))]
#[x_kube(validation = Rule::new("!has(self.renewBefore) || !has(self.renewBeforePercentage)").message("renewBefore and renewBeforePercentage exclude each other"))]
#[x_kube(validation = Rule::new("!has(self.monthsUntilExpiration) || !(has(self.duration) || has(self.subject) || has(self.privateKey))").message("monthsUntilExpiration is for Atlas issuers; duration, subject and privateKey are for CA issuers"))]
#[x_kube(validation = Rule::new(concat!("!has(self.renewBefore) || !has(self.duration) || !", is_duration!("self.renewBefore"), " || !", is_duration!("self.duration"), " || duration(self.renewBefore) < duration(self.duration)")).message("renewBefore must be shorter than duration"))]
#[x_kube(validation = Rule::new(concat!("!has(self.renewBefore) || !has(self.monthsUntilExpiration) || !", is_duration!("self.renewBefore"), " || duration(self.renewBefore).getHours() < self.monthsUntilExpiration * 672")).message("renewBefore must be shorter than monthsUntilExpiration months of 28 days"))]
pub struct DatabaseUserCertificateSpec {
    /// The database user, as the database knows it. A CA issuer signs `CN=<username>` unless `subject` is given or the name
    /// itself begins with `CN=`, which makes it the whole subject. A name that reads as a distinguished name of several attributes and
    /// begins with another one, such as `C=US,CN=orders`, is refused with a CA issuer: write it in `subject`. A common name of more
    /// than 64 characters (RFC 5280) is signed with a warning, for other programs may refuse it.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^\P{Cc}+$"))]
    #[x_kube(validation = Rule::new("!(self in ['.', '..'])").message("username must not be '.' or '..', which a URL path cannot hold"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Who issues the certificate. It may be changed: the present certificate stays in the Secret until the new issuer has made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerReference>,
    /// In place of `username` and `issuerRef`: an `AtlasDatabaseUser` of the Atlas Kubernetes Operator in the same namespace, which
    /// names the user, the project and the credentials. It is waited for until it is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_ref: Option<ObjectName>,
    /// The Secret that is created for the certificate; default: the name of this object. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = NAME_PATTERN))]
    pub secret_name: Option<String>,
    /// Atlas: validity in calendar months; default: the issuer's. A change takes effect with the next certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 24))]
    pub months_until_expiration: Option<u8>,
    /// CA: validity, such as `2160h`; default: the issuer's. A change takes effect with the next certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("duration", "1h"))]
    pub duration: Option<String>,
    /// How long before expiry to renew, such as `840h`. Default: one third of the certificate's lifetime, and for
    /// certificates of three months and more never under 35 days, because mongod and Atlas warn under 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("renewBefore", "5m"))]
    pub renew_before: Option<String>,
    /// Like renewBefore, as a percentage of the certificate's lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 90))]
    pub renew_before_percentage: Option<u8>,
    /// CA: the exact subject as an RFC 4514 string, such as `CN=orders,OU=apps,O=Acme`; also the name of the `$external` user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 2048), regex(pattern = r"^\P{Cc}+$"))]
    pub subject: Option<String>,
    /// CA: the key to generate; default: ECDSA 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKey>,
}

/// An object of another operator by name.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct ObjectName {
    /// The object's name.
    #[schemars(length(max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// An issuer by kind and name.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerReference {
    /// `CertificateIssuer` (in the same namespace) or `ClusterCertificateIssuer`.
    #[serde(default)]
    pub kind: IssuerKind,
    /// The issuer's name.
    #[schemars(length(max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// The kinds of issuers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IssuerKind {
    /// An issuer in the same namespace.
    #[default]
    CertificateIssuer,
    /// An issuer of the whole cluster.
    ClusterCertificateIssuer,
}

impl IssuerKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CertificateIssuer => "CertificateIssuer",
            Self::ClusterCertificateIssuer => "ClusterCertificateIssuer",
        }
    }
}

/// The private key to generate.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.size) || (self.algorithm == 'RSA' && self.size in [2048, 3072, 4096]) || (self.algorithm == 'ECDSA' && self.size in [256, 384])").message("size must be 2048, 3072 or 4096 for RSA, 256 or 384 for ECDSA, and absent for Ed25519"))]
pub struct PrivateKey {
    /// `ECDSA`, `RSA` or `Ed25519`.
    #[serde(default)]
    pub algorithm: PrivateKeyAlgorithm,
    /// Size in bits; default: 256 for ECDSA, 2048 for RSA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>")]
    pub size: Option<u16>,
}

/// The algorithms of private keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum PrivateKeyAlgorithm {
    /// Elliptic curve, NIST P-256 or P-384.
    #[default]
    #[serde(rename = "ECDSA")]
    Ecdsa,
    /// RSA.
    #[serde(rename = "RSA")]
    Rsa,
    /// Edwards curve 25519.
    Ed25519,
}

/// What the operator did and found. The Secret, not this, is the truth about the certificate: a lost status is rebuilt from it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseUserCertificateStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// The Secret that holds the certificate.
    #[serde(default)]
    pub secret_name: Option<String>,
    /// Serial number, upper-case hexadecimal as `openssl x509 -serial` prints it.
    #[serde(default)]
    pub serial_number: Option<String>,
    /// The certificate's subject as an RFC 4514 string, bytes outside ASCII as `\XX`: the name of the `$external` user in a
    /// self-hosted database, as mongod and `openssl x509 -nameopt RFC2253` write it.
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
    /// `Ready`: the Secret holds a working certificate. `Issuing`: one is being made, or why not. Present only while they are True:
    /// `Stalled`: not Ready, and nothing but a change by a person helps; `RenewalFailed`: Ready, but no new certificate can be had.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The claim under which a certificate is being made at Atlas right now.
    #[serde(default)]
    pub issuance: Option<Issuance>,
    /// The last failure to issue, until a success.
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
    /// The Secret as it was when its content was last verified; while it stays so, it is not read again.
    #[serde(default)]
    pub verified: Option<VerifiedSecret>,
}

/// A persisted intent to have one certificate made.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Issuance {
    /// Random id, also written to the Secret that the certificate ends in.
    pub id: String,
    /// Why the certificate is made.
    pub reason: String,
    /// The how-manieth attempt since the last success, from 1.
    pub attempt: i64,
    /// When the claim was made.
    pub since: Time,
}

/// A failure to issue and when the next attempt is due.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFailure {
    /// Failures in a row.
    pub count: i64,
    /// The last one's reason.
    pub reason: String,
    /// What happened and what to change.
    pub message: String,
    /// When it happened.
    pub last_time: Time,
    /// Not tried again before this, unless what it depends on changes.
    pub next_attempt: Time,
    /// Digest of what the attempt depended on (spec, issuer, credentials, renewal request).
    pub inputs: String,
    /// Why a certificate was needed.
    #[serde(default)]
    pub cause: Option<String>,
}

/// Certificates of a database user whose keys are lost, or elsewhere.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UnaccountedCertificates {
    /// How many there are, presumed ones included.
    pub count: i64,
    /// How many of them are presumed, because an answer was lost since Atlas was last asked for its list.
    #[serde(default)]
    pub presumed: i64,
    /// When the last of the listed ones expires.
    #[serde(default)]
    pub latest_expiry: Option<Time>,
    /// Those that Atlas lists, the last to expire first; no more than 20.
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
    /// Who issued it, for a Secret that lost its annotations: `atlas/` and the project's id, or `ca/` and a digest of the CA's name and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When the operator recorded it.
    pub recorded_at: Time,
    /// End of its validity.
    pub not_after: Time,
}

/// Which version of the Secret was verified, and the facts about it that the other fields do not hold.
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
    /// CA: digest of the issuer's chain with which the Secret was found to be in order. Another one is written to the Secret.
    #[serde(default)]
    pub chain: Option<String>,
    /// CA: when the first of the certificates above this one expires. Databases refuse it from then on.
    #[serde(default)]
    pub chain_not_after: Option<Time>,
}

impl DatabaseUserCertificate {
    /// The name of the Secret: `spec.secretName`, by default the object's own name.
    #[must_use]
    pub fn secret_name(&self) -> String {
        self.spec.secret_name.clone().unwrap_or_else(|| self.name_any())
    }
}
