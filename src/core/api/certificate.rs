//! `DatabaseUserCertificate`: one certificate for one database user, kept in one Secret.

use kube_core::ResourceExt;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Connection, DatabaseUserCertificateStatus, Rollout,
    formats::{SecretFormat, SecretTemplate, key_of, keys_are_unique},
    forms::{NAME_PATTERN, duration_rule, is_duration},
};

/// Which certificate is wanted, and in which Secret.
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
    // For whoever looks for Provisioned Services (servicebinding.io).
    label("servicebinding.io/provisioned-service", "true"),
    validation = Rule::new("(has(self.spec.secretName) ? self.spec.secretName : self.metadata.name) == \
         (has(oldSelf.spec.secretName) ? oldSelf.spec.secretName : oldSelf.metadata.name)").message("secretName cannot be changed, for pods would go on using the old Secret, which nobody renews: make a new DatabaseUserCertificate, move the pods, then delete this one"),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Secret","type":"string","jsonPath":".status.secretName"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.notAfter"}"#,
    printcolumn = r#"{"name":"Renews","type":"string","jsonPath":".status.renewalTime"}"#,
    printcolumn = r#"{"name":"Rollout","type":"string","jsonPath":".status.rollout.progress"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Rollout until","type":"string","priority":1,"jsonPath":".status.rollout.oldNotAfter"}"#,
    printcolumn = r#"{"name":"Issuer","type":"string","priority":1,"jsonPath":".spec.issuerRef.name"}"#,
    printcolumn = r#"{"name":"Serial","type":"string","priority":1,"jsonPath":".status.serialNumber"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Issuing\")].reason"}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","priority":1,"jsonPath":".spec.suspend"}"#,
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
#[x_kube(validation = Rule::new("!has(self.userRef) || !has(self.connection) || self.connection.type == 'mongodb' && (!has(self.connection.serverCAFile) || self.connection.serverCAFile != 'ca.crt')").message("userRef is for Atlas: connection.type must be mongodb, and serverCAFile must not be ca.crt, which certificates from Atlas come without"))]
pub struct DatabaseUserCertificateSpec {
    /// The name of the database user, as the database knows it. A CA issuer signs the subject `CN=<username>`, with two
    /// exceptions: if `subject` is given, it signs that one; if the name begins with `CN=`, the name is the whole subject.
    /// A CA issuer refuses a name that reads as a distinguished name of several attributes but begins with another
    /// attribute, such as `C=US,CN=orders`: write it in `subject`. It signs a common name of more than 64 characters (RFC
    /// 5280) with a warning, because other programs may refuse it.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^\P{Cc}+$"))]
    #[x_kube(validation = Rule::new("!(self in ['.', '..'])").message("username must not be '.' or '..', which a URL path cannot hold"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The issuer of the certificate. It may be changed: the Secret keeps the present certificate until the new issuer has
    /// issued one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerReference>,
    /// Instead of `username` and `issuerRef`: an `AtlasDatabaseUser` of the Atlas Kubernetes Operator in the same
    /// namespace. It names the user, the project and the credentials. No certificate is issued while it is not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_ref: Option<ObjectName>,
    /// The name of the Secret that holds the certificate. Default: the name of this object. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = NAME_PATTERN))]
    pub secret_name: Option<String>,
    /// For Atlas issuers: validity in calendar months. Default: that of the issuer. A change takes effect with the next
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 24))]
    pub months_until_expiration: Option<u8>,
    /// For CA issuers: validity, such as `2160h`. Default: that of the issuer. A change takes effect with the next
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("duration", "1h"))]
    pub duration: Option<String>,
    /// How long before its expiry the certificate is renewed, such as `840h`. Default: one third of its lifetime. For
    /// lifetimes of three months and more the default is at least 35 days, because mongod and Atlas warn when fewer than 30
    /// days are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("renewBefore", "5m"))]
    pub renew_before: Option<String>,
    /// Like `renewBefore`, as a percentage of the lifetime of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 90))]
    pub renew_before_percentage: Option<u8>,
    /// For CA issuers: the exact subject as an RFC 4514 string, such as `CN=orders,OU=apps,O=Acme`. It is also the name of
    /// the `$external` user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 2048), regex(pattern = r"^\P{Cc}+$"))]
    pub subject: Option<String>,
    /// For CA issuers: the key to generate. Default: ECDSA 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKey>,
    /// Further entries of the Secret, for programs that read other formats or names. What is taken out of this list is taken
    /// out of the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(keys_are_unique!()).message("two formats have the same key: give one of them another key"))]
    #[x_kube(validation = Rule::new("self.filter(f, f.type == 'PKCS12').size() <= 1").message("formats may have one PKCS12 at most"))]
    pub formats: Vec<SecretFormat>,
    /// Labels and annotations for the Secret. What is taken out of this template is taken out of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_template: Option<SecretTemplate>,
    /// Whether a renewal keeps the former certificate and key in the entries `previous-tls.crt`, `previous-tls.key` and
    /// `previous-tls-combined.pem`, until they expire. They are not kept if they are of no use any more, because the issuer or
    /// the subject has changed or the pair is damaged. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_previous: bool,
    /// Where the database is. If it is given, the Secret also has `uri` and the entries of servicebinding.io, and
    /// `status.binding` names the Secret. A change takes effect at once and needs no new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Whether the operator leaves the certificate as it is. While this is `true`, no certificate is requested and a damaged
    /// Secret is not repaired. A certificate that was requested before is still written to the Secret. `Ready` goes on telling
    /// whether the certificate in the Secret works, and it expires as any other. Everything that is due is done as soon as this
    /// is `false` again.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of the Secret when this object is deleted. It may be changed at any time, without a new certificate. A change
    /// counts once the operator has written it to the owner references of the Secret: the Event `DeletionPolicyApplied` tells.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Moves the pods of workloads to each new certificate: most drivers read a certificate once, when they start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// What becomes of a Secret when its `DatabaseUserCertificate` is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// The Secret is deleted with the object: the object is its controller.
    #[default]
    Delete,
    /// The Secret stays: it has no controller. An object of the same name with the same Secret takes it up again, without a new
    /// certificate and without being asked for, if the Secret holds only what the operator writes.
    Retain,
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
    /// Size in bits. Default: 256 for ECDSA, 2048 for RSA.
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

impl DatabaseUserCertificate {
    /// The name of the Secret: `spec.secretName`, by default the object's own name.
    #[must_use]
    pub fn secret_name(&self) -> String {
        self.spec.secret_name.clone().unwrap_or_else(|| self.name_any())
    }
}
