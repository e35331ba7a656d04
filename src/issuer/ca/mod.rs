//! The in-cluster CA: signs with a certificate and key that are in a Secret.
//!
//! # Guarantees
//!
//! - A CA is loaded only if databases with OpenSSL accept what it signs: its chain is checked (`chain`), and a trial
//!   certificate is signed and verified.
//! - Each certificate is verified before it is handed out.
//! - A certificate expires no later than any certificate on the way from the CA to its root.
//! - A root is handed out only as `ca.crt`, never after a leaf.
//!
//! # Assumptions
//!
//! - The Secret holds all CA certificates that are needed: none is looked up elsewhere.
//! - Revocation is not checked.
//!
//! # Errors
//!
//! - [`CaError`] says what to change in the Secret. Signing never costs anything, so each [`IssueError`] has [`Minted::No`].

mod certificate;
mod chain;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::rand;
use der::Decode;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use self::{
    certificate::{Leaf, key_identifier},
    chain::{Chain, LONGEST_CHAIN},
};
use super::{IssueError, Issued, Minted, Retry};
use crate::{
    api::Reason,
    certificate::{
        Certificate, CertificatePair, KeyError, NameConstraints, NameConstraintsError, PairError, PrivateKey, PrivateKeySpec,
        Subject, check_leads_to, check_signature, key_id, pem_text, read_certificates, time_of,
    },
};

/// How far certificates are dated back, because the clock of a database may be behind ours by this much.
const BACKDATING: SignedDuration = SignedDuration::from_mins(5);

/// Why the content of a CA Secret cannot sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// A key of the Secret is missing or empty.
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    /// `tls.crt` cannot be used.
    #[error("tls.crt: {0}")]
    Certificate(#[source] PairError),
    /// `tls.key` cannot be used.
    #[error("tls.key: {0}")]
    Key(#[source] KeyError),
    /// The key belongs to another certificate.
    #[error("tls.key fits no certificate in tls.crt")]
    KeyMismatch,
    /// A certificate may not sign others (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
    #[error("{0} in tls.crt is not a CA: it needs basicConstraints CA:TRUE, and keyCertSign if it has a keyUsage")]
    NotCa(String),
    /// A certificate has the same name as subject and issuer, but is signed with another key, and nothing in it tells that its
    /// issuer is another CA.
    #[error(
        "{0} in tls.crt is issued to itself, but not signed with its own key, and databases take it for a root: have it issued with an authorityKeyIdentifier or under another name"
    )]
    TakenForRoot(String),
    /// A certificate may sign only for other uses. Databases with OpenSSL refuse what is signed below it (RFC 5280 section
    /// 4.2.1.12).
    #[error("{0} in tls.crt has an extendedKeyUsage without clientAuth: databases refuse the client certificates below it")]
    NotForClients(String),
    /// A certificate allows fewer CAs below it than there are (RFC 5280 section 4.2.1.9).
    #[error("{0} in tls.crt has a pathlen that allows fewer CAs below it than tls.crt holds")]
    PathLength(String),
    /// A certificate is not above the CA.
    #[error(
        "tls.crt holds {left}, and nothing leads there from the CA: add the certificate that issued {subject}, or remove {left}"
    )]
    Unconnected {
        /// The topmost certificate that was found.
        subject: String,
        /// The certificate to which nothing leads.
        left: String,
    },
    /// There are more certificates than a chain has.
    #[error("tls.crt holds more than {LONGEST_CHAIN} certificates: leave the CA and those above it")]
    LongChain,
    /// An entry is longer than any CA needs. All of them are in memory, each as often as issuers name it.
    #[error("{0} has more than {MOST_BYTES} bytes: leave the CA, those above it, and the key")]
    TooLong(&'static str),
    /// A key is of a kind that is not known here.
    #[error("{subject} in tls.crt has a key of the kind {kind}: use RSA, ECDSA (P-256, P-384, P-521) or Ed25519")]
    UnsupportedKey {
        /// Whose certificate.
        subject: String,
        /// The algorithm or the curve.
        kind: String,
    },
    /// An RSA key has a size that is not usable: the default security level of OpenSSL refuses shorter keys, and the verification
    /// here takes no longer ones.
    #[error("{subject} in tls.crt has an RSA key of {bits} bits: use one of 2048 to 8192")]
    RsaKeySize {
        /// Whose certificate.
        subject: String,
        /// The size of the modulus.
        bits: u32,
    },
    /// A certificate is signed with an algorithm that is not known here.
    #[error("{subject} in tls.crt is signed with {algorithm}: have it issued again with SHA-256, SHA-384 or SHA-512")]
    UnsupportedSignature {
        /// Whose certificate.
        subject: String,
        /// The signature algorithm.
        algorithm: String,
    },
    /// A certificate has a critical extension that OpenSSL does not know. Databases refuse what is signed below it.
    #[error("{subject} in tls.crt has the critical extension {extension}, which databases do not know: have it issued without")]
    UnknownExtension {
        /// Whose certificate.
        subject: String,
        /// The extension's object identifier, or its name.
        extension: String,
    },
    /// The name constraints cannot be honoured.
    #[error("tls.crt: {0}")]
    NameConstraints(#[from] NameConstraintsError),
    /// A certificate has expired.
    #[error("{subject} in tls.crt expired at {not_after}: renew the CA")]
    Expired {
        /// Whose certificate.
        subject: String,
        /// When.
        not_after: Timestamp,
    },
    /// A certificate is not valid yet.
    #[error("{subject} in tls.crt is not valid before {not_before}")]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// When it will be.
        not_before: Timestamp,
    },
    /// A trial signature does not verify.
    #[error("a trial certificate does not verify against tls.crt: {0}")]
    Trial(String),
}

impl CaError {
    /// When the certificate expired, if that is the fault.
    #[must_use]
    pub const fn expired_at(&self) -> Option<Timestamp> {
        match self {
            Self::Expired { not_after, .. } => Some(*not_after),
            _ => None,
        }
    }

    /// The reason in conditions, Events and metrics.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => Reason::CaNotInDate,
            _ => Reason::CaInvalid,
        }
    }
}

/// The most bytes of `tls.crt` and of `tls.key`: room for ten certificates with long keys.
const MOST_BYTES: usize = 32 * 1024;

/// What the CA is asked for.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// The subject that the certificate must have.
    pub subject: Subject,
    /// Validity counted from now. The CA shortens it to its own end.
    pub duration: SignedDuration,
    /// The key to generate.
    pub private_key: PrivateKeySpec,
    /// The time of the request.
    pub now: Timestamp,
}

/// A CA that can sign.
pub struct CaIssuer {
    key: PrivateKey,
    chain: Chain,
    certificate: Certificate,
    key_identifier: Vec<u8>,
    key_id: String,
    not_before: Timestamp,
    not_after: Timestamp,
    next_change: Option<Timestamp>,
    name_constraints: NameConstraints,
}

impl fmt::Debug for CaIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaIssuer").field("key_id", &self.key_id).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// An entry of the CA's Secret.
fn entry<'a>(name: &'static str, value: Option<&'a [u8]>) -> Result<&'a [u8], CaError> {
    match value {
        None | Some([]) => Err(CaError::Missing(name)),
        Some(value) if value.len() > MOST_BYTES => Err(CaError::TooLong(name)),
        Some(value) => Ok(value),
    }
}

impl CaIssuer {
    /// Loads a CA from `tls.crt` and `tls.key` of its Secret.
    ///
    /// # Errors
    /// [`CaError`] says what to change in the Secret.
    pub fn from_secret(certificates: Option<&[u8]>, key: Option<&[u8]>, now: Timestamp) -> Result<Self, CaError> {
        let (certificates, key) = (entry("tls.crt", certificates)?, entry("tls.key", key)?);
        let certificates = read_certificates(certificates).map_err(CaError::Certificate)?;
        let key = PrivateKey::from_pem(key).map_err(CaError::Key)?;
        let public_key = key.public_key_info().map_err(CaError::Key)?;
        let next_change = next_change(&certificates, now);
        let chain = Chain::new(certificates, &public_key, now)?;
        let parsed: Vec<Certificate> = chain.path.iter().map(|link| link.certificate.clone()).collect();
        let Some(certificate) = parsed.first() else { return Err(CaError::Certificate(PairError::NoCertificate)) };
        let ca = Self {
            key_identifier: key_identifier_of(certificate),
            key_id: key_id(certificate),
            not_before: parsed.iter().map(|ca| time_of(ca.tbs_certificate().validity().not_before)).max().unwrap_or(now),
            not_after: parsed.iter().map(|ca| time_of(ca.tbs_certificate().validity().not_after)).min().unwrap_or(now),
            next_change,
            name_constraints: NameConstraints::of_chain(&parsed)?,
            certificate: certificate.clone(),
            key,
            chain,
        };
        ca.try_out(now)?;
        Ok(ca)
    }

    /// The identity of the CA: a digest of its name and public key. A renewed certificate with the same key is the same CA.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// When the first certificate on the way from the CA to its root expires.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// When one of the certificates in the Secret next becomes valid or expires, because another way to a root may be the best
    /// one then. `None` if none ever does.
    #[must_use]
    pub const fn next_change(&self) -> Option<Timestamp> {
        self.next_change
    }

    /// The certificate for `ca.crt`: the topmost that is known, which databases trust.
    #[must_use]
    pub fn ca_certificate_pem(&self) -> String {
        self.chain.path.last().map(|top| pem_text("CERTIFICATE", &top.encoded)).unwrap_or_default()
    }

    /// The subjects for which databases accept what the CA signs.
    #[must_use]
    pub const fn name_constraints(&self) -> &NameConstraints {
        &self.name_constraints
    }

    /// Signs one certificate with a new key. Generating an RSA key may take seconds of computing.
    ///
    /// # Errors
    /// [`Reason::CaNotInDate`]; [`Reason::IssuerNotAllowed`] for a subject that the name constraints do not permit;
    /// [`Reason::SigningFailed`].
    pub fn issue(&self, request: &SignRequest) -> Result<Issued, IssueError> {
        self.issue_with(request, PrivateKey::generate)
    }

    /// Signs one certificate with a key that was made before.
    ///
    /// # Errors
    /// As [`CaIssuer::issue`].
    pub fn issue_with(
        &self,
        request: &SignRequest,
        key: impl FnOnce(PrivateKeySpec) -> Result<PrivateKey, KeyError>,
    ) -> Result<Issued, IssueError> {
        let now = request.now;
        if self.not_after <= now || self.not_before > now {
            return Err(refusal(
                Reason::CaNotInDate,
                format!("renew the CA: it is valid from {} to {}", self.not_before, self.not_after),
            ));
        }
        self.name_constraints
            .check(&request.subject)
            .map_err(|violation| refusal(Reason::IssuerNotAllowed, violation.to_string()))?;
        let pair = self.sign_and_verify(request, key).map_err(|message| refusal(Reason::SigningFailed, message))?;
        Ok(Issued { pair, ca_certificate: Some(self.ca_certificate_pem()) })
    }

    /// A certificate that this CA signed before, with the intermediate certificates that are handed out now.
    ///
    /// # Errors
    /// [`Reason::ChainBroken`]: the certificate does not lead to the root of this CA.
    pub fn rebuilt(&self, pair: &CertificatePair) -> Result<CertificatePair, IssueError> {
        let rebuilt = pair.with_chain(self.intermediates());
        match check_leads_to(rebuilt.certificates(), self.ca_certificate_pem().as_bytes()) {
            Ok(_) => Ok(rebuilt),
            Err(error) => Err(IssueError {
                reason: Reason::ChainBroken,
                message: format!(
                    "with what the issuer hands on now the certificate does not verify ({error}): a new one is issued"
                ),
                retry: Retry::NotBefore(SignedDuration::ZERO),
                minted: Minted::No,
            }),
        }
    }

    fn sign_and_verify(
        &self,
        request: &SignRequest,
        key: impl FnOnce(PrivateKeySpec) -> Result<PrivateKey, KeyError>,
    ) -> Result<CertificatePair, String> {
        let pair = self.sign(request, key(request.private_key).map_err(|error| error.to_string())?)?;
        let leaf = pair.certificates().first().ok_or("there is no certificate")?;
        check_signature(leaf, &self.certificate).map_err(|error| error.to_string())?;
        pair.verify(&request.subject, request.now).map_err(|error| error.to_string())?;
        Ok(pair)
    }

    fn sign(&self, request: &SignRequest, key: PrivateKey) -> Result<CertificatePair, String> {
        let not_before = (request.now - BACKDATING).max(self.not_before);
        // A duration beyond the last time that can be written ends with the CA too.
        let not_after = request.now.checked_add(request.duration).map_or(self.not_after, |wanted| wanted.min(self.not_after));
        let leaf = Leaf {
            serial_number: serial_number()?,
            issuer: self.certificate.tbs_certificate().subject().clone(),
            subject: request.subject.name().clone(),
            not_before,
            not_after,
            public_key: key.public_key_info().map_err(|error| error.to_string())?,
            authority_key_identifier: self.key_identifier.clone(),
        };
        let leaf = leaf.sign(&self.key).map_err(|error| error.to_string())?;
        CertificatePair::new([vec![leaf], self.intermediates().to_vec()].concat(), key).map_err(|error| error.to_string())
    }

    /// The certificates that are handed out after a leaf.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.chain.intermediates
    }

    /// What a person should know about certificates in the Secret that are not handed out: one sentence each.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.chain.remarks
    }

    /// Signs and verifies a certificate that nobody gets, so that a CA that cannot sign is refused when it is loaded. Whether the
    /// name constraints permit the name of the trial does not matter.
    fn try_out(&self, now: Timestamp) -> Result<(), CaError> {
        let trial = Subject::common_name("trial").map_err(|error| CaError::Trial(error.to_string()))?;
        let request =
            SignRequest { subject: trial, duration: SignedDuration::from_mins(1), private_key: PrivateKeySpec::default(), now };
        self.sign_and_verify(&request, PrivateKey::generate).map(|_| ()).map_err(CaError::Trial)
    }
}

fn refusal(reason: Reason, message: String) -> IssueError {
    IssueError { reason, message, retry: Retry::Backoff, minted: Minted::No }
}

/// The identifier of the key of the CA, as its certificate has it. If it has none, the one that a leaf would get.
fn key_identifier_of(certificate: &Certificate) -> Vec<u8> {
    let fields = certificate.tbs_certificate();
    match fields.get_extension::<SubjectKeyIdentifier>() {
        Ok(Some((_, identifier))) => identifier.0.as_bytes().to_vec(),
        _ => key_identifier(fields.subject_public_key_info().subject_public_key.raw_bytes()),
    }
}

/// The next time at which one of these certificates becomes valid or expires.
fn next_change(certificates: &[CertificateDer<'_>], now: Timestamp) -> Option<Timestamp> {
    let dates = certificates.iter().filter_map(|certificate| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let validity = certificate.tbs_certificate().validity();
        Some([time_of(validity.not_before), time_of(validity.not_after)])
    });
    dates.flatten().filter(|date| *date > now).min()
}

/// A serial number of 126 random bits. RFC 5280 section 4.1.2.2 wants a positive number of at most 20 octets, the CA/Browser
/// Forum at least 64 random bits.
fn serial_number() -> Result<[u8; 16], String> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    // The first bit is the sign. The second is set, which keeps the encoding at sixteen octets.
    bytes[0] = bytes[0] & 0x7F | 0x40;
    Ok(bytes)
}
