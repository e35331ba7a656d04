//! Issuers: what makes certificates. Each has a folder: [`atlas`] asks the Atlas Administration API, [`ca`] signs in the cluster.
//!
//! # Guarantees
//!
//! - A certificate that is handed out was verified: the key fits, it is for the wanted subject and for client authentication, and
//!   it has not expired.
//! - A request that mints (whose certificate cannot be taken back) is sent only while the [`MintPermit`] is given, and only if it ends
//!   before the deadline of the pass.
//! - All requests for the answer to one question, such as the pages of a list, share one time limit.
//! - No error message holds a secret.
//!
//! # Errors
//!
//! - Each [`IssueError`] says whether a certificate may have been made all the same, and when to try again.

pub mod atlas;
pub mod ca;
mod deadline;

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use usercert_operator_core::{api, atlas_request, certificate, decide};

use self::{
    atlas::{Account, AtlasIssuer, MintRequest},
    ca::{CaIssuer, SignRequest},
};
use crate::{
    api::{IssuerType, Reason},
    certificate::{CertificatePair, KeyError, PrivateKey},
    decide::{Desired, ListedCertificate, Order},
};

pub use deadline::Deadline;
pub use usercert_operator_core::decide::{IssueError, Minted, Retry};

/// Whether a certificate may still be requested. Only the process that leads may request what cannot be taken back, and only while there is
/// time for it: nobody would be there for an answer that comes after the pass.
#[derive(Clone)]
pub struct MintPermit {
    may_mint: Arc<dyn Fn() -> bool + Send + Sync>,
    deadline: Deadline,
}

impl MintPermit {
    /// A permit that is given while `may_mint` returns true, for requests that end before the deadline.
    #[must_use]
    pub fn new(may_mint: impl Fn() -> bool + Send + Sync + 'static, deadline: Deadline) -> Self {
        Self { may_mint: Arc::new(may_mint), deadline }
    }

    /// Whether the permit is given now, for a request that takes so long at most.
    #[must_use]
    pub fn is_given(&self, duration: Duration) -> bool {
        !self.is_too_late(duration) && (self.may_mint)()
    }

    /// Whether a request that takes so long may end too late.
    #[must_use]
    pub fn is_too_late(&self, duration: Duration) -> bool {
        !self.deadline.leaves(duration)
    }
}

impl fmt::Debug for MintPermit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MintPermit").field("deadline", &self.deadline).finish_non_exhaustive()
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

/// An issuer with its credentials, ready to issue.
#[derive(Clone, Debug)]
pub enum Issuer {
    /// MongoDB Atlas.
    Atlas(Arc<AtlasIssuer>),
    /// A CA in the cluster.
    Ca(Arc<CaIssuer>),
}

impl Issuer {
    /// What kind of issuer it is, for metrics.
    #[must_use]
    pub const fn issuer_type(&self) -> IssuerType {
        match self {
            Self::Atlas(_) => IssuerType::Atlas,
            Self::Ca(_) => IssuerType::Ca,
        }
    }

    /// What a person should know of it although it can be used.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        match self {
            Self::Atlas(_) => &[],
            Self::Ca(ca) => ca.remarks(),
        }
    }

    /// Who asks whom, where certificates are asked for.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        match self {
            Self::Atlas(atlas) => Some(atlas.account()),
            Self::Ca(_) => None,
        }
    }

    /// The certificates of the database user that have not expired; `None` if the credentials lack the role for this question, or nobody lists
    /// certificates.
    ///
    /// # Errors
    /// The issuer does not answer, or not with a list. Nothing was minted.
    pub async fn list(
        &self,
        username: &str,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Vec<ListedCertificate>>, IssueError> {
        match self {
            Self::Atlas(atlas) => atlas.list(username, now, deadline).await,
            Self::Ca(_) => Ok(None),
        }
    }

    /// Whether certificates can be made for the database user.
    ///
    /// # Errors
    /// They cannot, or the issuer does not answer. Nothing was minted.
    pub async fn check_user(&self, username: &str, now: Timestamp, deadline: Deadline) -> Result<(), IssueError> {
        match self {
            Self::Atlas(atlas) => atlas.check_user(username, now, deadline).await,
            Self::Ca(_) => Ok(()),
        }
    }

    /// The pair with what the issuer hands on with its certificates now.
    ///
    /// # Errors
    /// [`Reason::ChainBroken`]: the certificate does not verify with that.
    pub fn rebuilt(&self, pair: &CertificatePair) -> Result<Issued, IssueError> {
        match self {
            Self::Atlas(_) => Ok(Issued { pair: pair.clone(), ca_certificate: None }),
            Self::Ca(ca) => Ok(Issued { pair: ca.rebuilt(pair)?, ca_certificate: Some(ca.ca_certificate_pem()) }),
        }
    }

    /// Has one certificate made, and verifies it. What cannot be taken back is sent only while there is a permit. A CA signs for the key that
    /// was made before, or else makes one.
    ///
    /// # Errors
    /// [`IssueError`] says why not, when to try again, and whether a certificate may have been made all the same.
    pub async fn issue(
        &self,
        desired: &Desired,
        now: Timestamp,
        permit: &MintPermit,
        key: Option<Result<PrivateKey, KeyError>>,
    ) -> Result<Issued, IssueError> {
        let Desired { username, subject, order, .. } = desired.clone();
        match (self, order) {
            (Self::Atlas(atlas), Order::Mint { months_until_expiration }) => {
                let request = MintRequest { username, subject, months_until_expiration, now };
                atlas.issue(&request, permit).await
            }
            (Self::Ca(ca), Order::Sign { duration, private_key }) => {
                let (ca, request) = (Arc::clone(ca), SignRequest { subject, duration, private_key, now });
                // Signing is computing, which must not hold up other work.
                let made = |spec| key.unwrap_or_else(|| PrivateKey::generate(spec));
                let signed = tokio::task::spawn_blocking(move || ca.issue_with(&request, made)).await;
                signed.unwrap_or_else(|error| Err(failure(format!("the signing task stopped: {error}"))))
            }
            (Self::Atlas(_), Order::Sign { .. }) | (Self::Ca(_), Order::Mint { .. }) => {
                Err(failure("the issuer was replaced by one of another kind".to_owned()))
            }
        }
    }
}

const fn failure(message: String) -> IssueError {
    IssueError { reason: Reason::SigningFailed, message, retry: Retry::Backoff, minted: Minted::No }
}
