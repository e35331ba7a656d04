//! Names and identities, each with a type of its own, so that none can stand in for another.

use std::{fmt, ops::Deref};

use kube_core::{Resource, ResourceExt};

use super::{DatabaseUserCertificate, IssuerKind};

/// The namespace and the name of a namespaced object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl NamespacedName {
    /// From both.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Those of this object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Which `DatabaseUserCertificate`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(NamespacedName);

/// Where a Secret is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretLocation(NamespacedName);

impl ObjectKey {
    /// From namespace and name.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self(NamespacedName::new(namespace, name))
    }

    /// Those of this object.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate) -> Self {
        Self(NamespacedName::of(object))
    }
}

impl SecretLocation {
    /// From namespace and name.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self(NamespacedName::new(namespace, name))
    }

    /// The Secret of this object.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.secret_name())
    }
}

impl Deref for ObjectKey {
    type Target = NamespacedName;

    fn deref(&self) -> &NamespacedName {
        &self.0
    }
}

impl Deref for SecretLocation {
    type Target = NamespacedName;

    fn deref(&self) -> &NamespacedName {
        &self.0
    }
}

impl From<NamespacedName> for SecretLocation {
    fn from(name: NamespacedName) -> Self {
        Self(name)
    }
}

/// Who issues: `atlas/` and the project's id, or `ca/` and a digest of the CA's name and key. A certificate of another identity does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerIdentity(String);

/// The beginning of what an issuer that can be used says.
const ISSUED_BY: &str = "certificates are issued by ";

impl IssuerIdentity {
    /// Of an Atlas project. Ids of projects are unique, whichever endpoint or proxy leads to them.
    #[must_use]
    pub fn of_atlas_project(id: &str) -> Self {
        Self(format!("atlas/{id}"))
    }

    /// Of a CA with this digest of its name and key.
    #[must_use]
    pub fn of_ca(digest: &str) -> Self {
        Self(format!("ca/{digest}"))
    }

    /// What the condition `Ready` of an issuer says that can be used. [`IssuerIdentity::in_message`] reads it.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{ISSUED_BY}{self}")
    }

    /// The identity of an issuer, from the message of its condition `Ready`; `None` if the message is another one.
    #[must_use]
    pub fn in_message(message: &str) -> Option<Self> {
        let identity = message.strip_prefix(ISSUED_BY)?;
        let identity = identity.split(|character: char| !(character.is_ascii_alphanumeric() || character == '/')).next()?;
        (identity.starts_with("atlas/") || identity.starts_with("ca/")).then(|| Self(identity.to_owned()))
    }

    /// As it stands in the annotation of a Secret.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the issuer is a CA.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.starts_with("ca/")
    }
}

impl From<String> for IssuerIdentity {
    /// As an annotation or a status has it.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for IssuerIdentity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for IssuerIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The key of an issuer: its kind, its namespace (empty for a cluster issuer), its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerKey {
    /// The kind.
    pub kind: IssuerKind,
    /// The namespace; empty for a cluster issuer.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl IssuerKey {
    /// The issuer that an object names, unless it names an `AtlasDatabaseUser`.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate) -> Option<Self> {
        let reference = object.spec.issuer_ref.as_ref()?;
        let namespace = match reference.kind {
            IssuerKind::CertificateIssuer => object.namespace().unwrap_or_default(),
            IssuerKind::ClusterCertificateIssuer => String::new(),
        };
        Some(Self { kind: reference.kind, namespace, name: reference.name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_tells_its_identity_in_a_message_that_can_be_read_again() {
        for identity in
            [IssuerIdentity::of_ca("37c126eec37eb130"), IssuerIdentity::of_atlas_project("5efda6aea3f2ed2e7dd6ce05")]
        {
            assert_eq!(IssuerIdentity::in_message(&identity.message()), Some(identity.clone()));
            assert_eq!(IssuerIdentity::in_message(&format!("{}; more", identity.message())), Some(identity));
        }
        for other in ["", "the Secret does not exist", "certificates are issued by nobody"] {
            assert_eq!(IssuerIdentity::in_message(other), None, "{other}");
        }
    }
}
