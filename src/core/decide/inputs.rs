//! What an attempt to issue depends on.

use std::fmt;

use aws_lc_rs::digest;

use super::{Desired, IssuerFacts};
use crate::api::CertificateFailure;

/// Digests of what an attempt depends on. While they stay the same, trying again early is pointless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Of the database user at its issuer.
    user: String,
    /// Of the spec, the issuer's spec and credentials, the renewal request, and which certificates are compromised.
    rest: String,
}

impl Inputs {
    /// What an attempt depends on now.
    #[must_use]
    pub fn new(desired: &Desired, issuer: &IssuerFacts) -> Self {
        let user = format!("{}\n{}", issuer.identity, desired.username);
        let request = desired.renew_request.as_deref().unwrap_or_default();
        let compromised = desired.compromised.serial_numbers().map(|serial_number| format!("\n{serial_number}"));
        let compromised: String = compromised.collect();
        Self {
            user: short_digest(&user),
            rest: short_digest(&format!("{}\n{}\n{request}{compromised}", desired.generation, issuer.version)),
        }
    }

    /// What the failed attempt depended on. `None` for a lost claim, of which that is not known.
    #[must_use]
    pub fn of(failure: &CertificateFailure) -> Option<Self> {
        let (user, rest) = failure.inputs.split_once('-')?;
        Some(Self { user: user.to_owned(), rest: rest.to_owned() })
    }

    /// Whether both are of the same database user.
    #[must_use]
    pub fn is_same_user(&self, other: &Self) -> bool {
        self.user == other.user
    }
}

impl fmt::Display for Inputs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.user, self.rest)
    }
}

fn short_digest(text: &str) -> String {
    hex::encode(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..8])
}
