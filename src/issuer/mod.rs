//! Issuers: what makes certificates. Each has a folder: [`atlas`] asks the Atlas Administration API, [`ca`] signs in the cluster.
//!
//! # Guarantees
//!
//! - A certificate that is handed out was verified: the key fits, it is for the wanted subject and for client authentication, and
//!   it has not expired.
//! - A request that mints (whose certificate cannot be taken back) is sent only while the [`MintPermit`] is given.
//! - No error message holds a secret.
//!
//! # Errors
//!
//! - Each [`IssueError`] says whether a certificate may have been made all the same, and when to try again.

pub mod atlas;
pub mod ca;

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use self::{atlas::AtlasIssuer, ca::CaIssuer};
use crate::{
    api::Reason,
    certificate::{CertificatePair, PrivateKeySpec, Subject},
};

/// What a certificate shall be like. Each issuer uses the fields that it can honour.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// The database user's name as the database knows it.
    pub username: String,
    /// The subject that the certificate must have.
    pub subject: Subject,
    /// Atlas: validity in calendar months, 1 to 24.
    pub months_until_expiration: u8,
    /// CA: validity, counted from `now`.
    pub duration: SignedDuration,
    /// CA: the key to generate. Atlas always makes RSA-4096.
    pub private_key: PrivateKeySpec,
    /// The time of the request.
    pub now: Timestamp,
}

/// Whether a certificate may still be requested. Only the process that leads may request what cannot be taken back.
#[derive(Clone)]
pub struct MintPermit(Arc<dyn Fn() -> bool + Send + Sync>);

impl MintPermit {
    /// A permit that is given while `may_mint` returns true.
    #[must_use]
    pub fn new(may_mint: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may_mint))
    }

    /// Whether the permit is given now.
    #[must_use]
    pub fn is_given(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for MintPermit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("MintPermit").field(&self.is_given()).finish()
    }
}

/// A verified answer of an issuer.
pub struct Issued {
    /// The certificate (leaf, then intermediates, never the root) and its key.
    pub pair: CertificatePair,
    /// PEM of the CA that signed the certificate. `None` if the issuer does not know it.
    pub ca_certificate: Option<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issued").field("pair", &self.pair).finish_non_exhaustive()
    }
}

/// Whether a failed request may have made a certificate all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minted {
    /// Certainly not.
    No,
    /// Yes or perhaps: the certificate must be accounted for.
    Possibly,
}

/// When a failed request is worth repeating. For most reasons a change of what the request depends on ends the wait early
/// (`decide::backoff`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this long: the other side asked for it.
    NotBefore(SignedDuration),
    /// At this time: until then it cannot succeed.
    At(Timestamp),
    /// After a delay that doubles with each failure: the fault passes by itself.
    Backoff,
    /// About hourly: a person has to change something, perhaps where the operator cannot see it.
    Slowly,
}

/// A refusal or failure of an issuer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct IssueError {
    /// The reason in conditions, Events and metrics.
    pub reason: Reason,
    /// What happened and what to change; never holds a secret.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
    /// Whether a certificate may have been made.
    pub minted: Minted,
}

/// An issuer with its credentials, ready to issue.
#[derive(Clone, Debug)]
pub enum Issuer {
    /// MongoDB Atlas.
    Atlas(Arc<AtlasIssuer>),
    /// A CA in the cluster.
    Ca(Arc<CaIssuer>),
}

impl Issuer {
    /// Has one certificate made and verifies it. A request that cannot be taken back is sent only while there is a permit.
    ///
    /// # Errors
    /// [`IssueError`] says why not, when to try again, and whether a certificate may have been made all the same.
    pub async fn issue(&self, request: IssueRequest, permit: &MintPermit) -> Result<Issued, IssueError> {
        match self {
            Self::Atlas(atlas) => atlas.issue(&request, permit).await,
            Self::Ca(ca) => {
                let ca = Arc::clone(ca);
                // Generating an RSA key may take seconds of computing, which must not hold up other work.
                tokio::task::spawn_blocking(move || ca.issue(&request)).await.unwrap_or_else(|error| {
                    Err(IssueError {
                        reason: Reason::SigningFailed,
                        message: format!("the signing task stopped: {error}"),
                        retry: Retry::Backoff,
                        minted: Minted::No,
                    })
                })
            }
        }
    }
}
