//! Which reasons belong together.

use super::Reason;
use crate::api::IssuerType;

impl Reason {
    /// Whether a certificate that was issued for this reason tells that the one before it is of no use any more.
    #[must_use]
    pub const fn is_against_former_certificate(self) -> bool {
        matches!(
            self,
            Self::ChainBroken
                | Self::SubjectChanged
                | Self::IssuerChanged
                | Self::Compromised
                | Self::Expired
                | Self::NotYetValid
        )
    }

    /// Whether a certificate with this reason was not due and was made all the same. These count for the brake of forced renewals.
    #[must_use]
    pub const fn is_forced(self) -> bool {
        matches!(self, Self::RenewalRequested | Self::Compromised)
    }

    /// Whether this is about the credentials of the issuer or their organisation. Then Atlas answers every certificate of
    /// the issuer with it.
    #[must_use]
    pub const fn is_about_credentials(self) -> bool {
        matches!(
            self,
            Self::AtlasUnauthorized
                | Self::AtlasClientSecretRefused
                | Self::AtlasAccessListDenied
                | Self::AtlasForbidden
                | Self::AtlasAccountSuspended
        )
    }

    /// Whether a certificate of such an issuer may be issued for this reason. Metrics count these from zero on.
    #[must_use]
    pub const fn is_cause_of_issue(self, issuer: IssuerType) -> bool {
        match self {
            Self::NoCertificate
            | Self::PairUnusable
            | Self::SubjectChanged
            | Self::IssuerChanged
            | Self::RenewalDue
            | Self::RenewalRequested
            | Self::Compromised
            | Self::Expired => true,
            Self::ChainBroken | Self::PrivateKeyChanged => matches!(issuer, IssuerType::Ca),
            _ => false,
        }
    }

    /// Whether an attempt to issue a certificate of such an issuer may fail for this reason. Metrics count these from zero on.
    #[must_use]
    pub const fn may_fail_issue(self, issuer: IssuerType) -> bool {
        match self {
            Self::InvalidSpec
            | Self::SigningFailed
            | Self::SecretNotWritable
            | Self::SecretWriteFailed
            | Self::NamespaceTerminating => true,
            Self::CaNotInDate | Self::IssuerNotAllowed | Self::ChainBroken => matches!(issuer, IssuerType::Ca),
            Self::AtlasUnauthorized
            | Self::AtlasClientSecretRefused
            | Self::AtlasAccessListDenied
            | Self::AtlasForbidden
            | Self::AtlasAccountSuspended
            | Self::AtlasUserNotFound
            | Self::AtlasProjectNotFound
            | Self::AtlasUserNotManaged
            | Self::AtlasCertificateLimit
            | Self::AtlasSelfManagedX509
            | Self::AtlasRequestRefused
            | Self::AtlasConflict
            | Self::AtlasRateLimited
            | Self::AtlasUnavailable
            | Self::AtlasAnswerUnusable
            | Self::AtlasAnswerLost => matches!(issuer, IssuerType::Atlas),
            _ => false,
        }
    }
}
