//! What decisions need to know of an issuer.

use jiff::{SignedDuration, Timestamp};

use super::Allow;
use crate::{
    api::{DatabaseUserCertificate, IssuerIdentity, Reason},
    certificate::NameConstraints,
};

/// How an issuer is asked for a certificate.
///
/// A third way, to request a certificate now and to fetch it minutes later, when somebody has approved it, would be one more variant here:
/// see "Adding an issuer" in docs/architecture.md.
#[derive(Clone, Debug, PartialEq)]
pub enum IssuingMethod {
    /// This process signs, at once, and again whenever a certificate is needed: a CA. A certificate that is not used costs
    /// nothing.
    Sign(CaFacts),
    /// A service makes the certificate and its key, and returns both once: Atlas. A claim is written before the request, and none
    /// is sent twice under it.
    Mint {
        /// Validity in calendar months where the object does not say, 1..=24.
        months_until_expiration: u8,
    },
}

/// The defaults of a CA, and digests and dates of what it puts into Secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct CaFacts {
    /// Validity.
    pub duration: Option<SignedDuration>,
    /// The longest validity.
    pub max_duration: Option<SignedDuration>,
    /// When the first certificate of the CA's chain expires.
    pub not_after: Timestamp,
    /// SHA-256 of the `ca.crt` that belongs into Secrets.
    pub ca_digest: String,
    /// SHA-256 of all that is handed on with a certificate: the intermediates and `ca.crt`.
    pub chain_digest: String,
    /// For which subjects databases accept its certificates.
    pub name_constraints: NameConstraints,
}

/// An issuer that can be used, as far as decisions need to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerFacts {
    /// How it is asked.
    pub method: IssuingMethod,
    /// Who may use it.
    pub allow: Allow,
    /// The database user that an `AtlasDatabaseUser` names, for objects with a `userRef`.
    pub username: Option<String>,
    /// `atlas/<project id>` or `ca/<digest of the CA's name and key>`: certificates of another identity do not fit.
    pub identity: IssuerIdentity,
    /// Changes with anything that could turn a failure into a success: the spec, the credentials, the CA.
    pub version: String,
}

impl IssuerFacts {
    /// The CA, if the issuer is one.
    #[must_use]
    pub const fn ca(&self) -> Option<&CaFacts> {
        match &self.method {
            IssuingMethod::Sign(ca) => Some(ca),
            IssuingMethod::Mint { .. } => None,
        }
    }
}

/// The issuer that `issuerRef` names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum IssuerState {
    /// It has not been looked at yet; a watch event follows.
    #[default]
    Unknown,
    /// It does not exist.
    Missing,
    /// It exists and cannot be used: why, and what to change.
    Unusable(Reason, String),
    /// It can be used.
    Usable(Box<IssuerFacts>),
}

impl IssuerState {
    /// The issuer, if it can be used.
    #[must_use]
    pub const fn usable(&self) -> Option<&IssuerFacts> {
        match self {
            Self::Usable(facts) => Some(facts),
            Self::Unknown | Self::Missing | Self::Unusable(..) => None,
        }
    }
}

/// What to do about an issuer that is not there.
pub(super) fn missing_issuer(object: &DatabaseUserCertificate) -> String {
    let Some(issuer) = &object.spec.issuer_ref else { return "give spec.issuerRef or spec.userRef".to_owned() };
    format!("create the {} {}, or correct spec.issuerRef", issuer.kind.as_str(), issuer.name)
}
