//! A certificate with its key, and what decisions need to know of it.
//!
//! # Guarantees
//!
//! - The key of a [`CertificatePair`] fits its first certificate.
//! - `Debug` output and errors hold no part of the key.

use std::{fmt, sync::Arc};

use der::{Decode, Encode, oid::db::rfc5280::ID_KP_CLIENT_AUTH, referenced::OwnedToRef};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use x509_cert::{
    ext::pkix::{BasicConstraints, ExtendedKeyUsage},
    time::Time,
};
use zeroize::Zeroizing;

use super::{Certificate, KeyError, Kind, PemError, PrivateKey, PrivateKeySpec, SerialNumber, Subject, pem_text, read_blocks};

/// What decisions need to know of a certificate. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Serial number, upper-case hexadecimal as `openssl x509 -serial` prints it.
    pub serial_number: SerialNumber,
    /// The subject.
    pub subject: Subject,
    /// The issuer as an RFC 4514 string.
    pub issuer: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Algorithm and size of the key.
    pub private_key: PrivateKeySpec,
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is no certificate, or its key is of a kind that is not supported.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PairError> {
        let certificate = Certificate::from_der(certificate).map_err(|_| PairError::UnreadableCertificate)?;
        let public_key = certificate.tbs_certificate().subject_public_key_info();
        let private_key = PrivateKeySpec::of_public_key(&public_key.owned_to_ref()).ok_or(PairError::UnsupportedKey)?;
        Ok(facts(&certificate, private_key))
    }
}

/// Why a certificate and a key cannot be used as a pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// There is no certificate.
    #[error("there is no certificate in PEM form")]
    NoCertificate,
    /// The PEM cannot be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate cannot be read.
    #[error("the certificate cannot be read")]
    UnreadableCertificate,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate's public key is of a kind that is not supported.
    #[error("the certificate's key is neither RSA nor ECDSA nor Ed25519")]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error("the private key does not fit the certificate")]
    KeyMismatch,
    /// The certificate is for another subject.
    #[error("the certificate is for {found}, not for {expected}")]
    OtherSubject {
        /// The wanted subject.
        expected: String,
        /// The subject of the certificate.
        found: String,
    },
    /// The extended key usage does not name client authentication (RFC 5280 section 4.2.1.12).
    #[error("the certificate is not for client authentication")]
    NotForClients,
    /// It has expired.
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    /// It is not valid yet.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(Timestamp),
}

/// A certificate, the certificates above it, and the key that fits it.
#[derive(Clone)]
pub struct CertificatePair {
    chain: Arc<Vec<CertificateDer<'static>>>,
    key: PrivateKey,
    facts: CertificateFacts,
    for_clients: bool,
}

impl fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificatePair").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl CertificatePair {
    /// Reads certificates, of which the first is the leaf and the others are above it, and the key of the leaf.
    ///
    /// # Errors
    /// [`PairError`] says what is wrong. It never holds a part of the key.
    pub fn parse(certificates_pem: &[u8], key_pem: &[u8]) -> Result<Self, PairError> {
        let chain = read_certificates(certificates_pem)?;
        Self::new(chain, PrivateKey::from_pem(key_pem)?)
    }

    /// Reads the certificates and the key from one text, in any order.
    ///
    /// # Errors
    /// As [`CertificatePair::parse`].
    pub fn parse_combined(pem: &[u8]) -> Result<Self, PairError> {
        Self::parse(pem, pem)
    }

    /// Joins certificates, the leaf first, with the key of the leaf.
    ///
    /// # Errors
    /// As [`CertificatePair::parse`].
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, PairError> {
        let leaf = chain.first().ok_or(PairError::NoCertificate)?;
        let leaf = Certificate::from_der(leaf).map_err(|_| PairError::UnreadableCertificate)?;
        let public_key = leaf.tbs_certificate().subject_public_key_info();
        let encoded = public_key.to_der().map_err(|_| PairError::UnreadableCertificate)?;
        let private_key = PrivateKeySpec::of_public_key(&public_key.owned_to_ref()).ok_or(PairError::UnsupportedKey)?;
        if key.public_key_info()? != encoded {
            return Err(PairError::KeyMismatch);
        }
        let facts = facts(&leaf, private_key);
        Ok(Self { chain: Arc::new(chain), key, facts, for_clients: is_for_clients(&leaf) })
    }

    /// The same leaf and key with other certificates above them.
    #[must_use]
    pub fn with_chain(&self, intermediates: &[CertificateDer<'static>]) -> Self {
        let chain = self.chain.iter().take(1).chain(intermediates).cloned().collect();
        Self { chain: Arc::new(chain), ..self.clone() }
    }

    /// What is known of the leaf.
    #[must_use]
    pub const fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The certificates, the leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Checks that the certificate is for this subject, for client authentication, and in date.
    ///
    /// # Errors
    /// [`PairError`] says what does not hold.
    pub fn verify(&self, subject: &Subject, now: Timestamp) -> Result<(), PairError> {
        if self.facts.subject != *subject {
            return Err(PairError::OtherSubject { expected: subject.to_string(), found: self.facts.subject.to_string() });
        }
        if !self.for_clients {
            return Err(PairError::NotForClients);
        }
        if self.facts.not_after <= now {
            return Err(PairError::Expired(self.facts.not_after));
        }
        if self.facts.not_before > now {
            return Err(PairError::NotYetValid(self.facts.not_before));
        }
        Ok(())
    }

    /// Whether the leaf is for client authentication and is no CA.
    #[must_use]
    pub const fn is_for_clients(&self) -> bool {
        self.for_clients
    }

    /// The certificates as PEM, the leaf first.
    #[must_use]
    pub fn certificates_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem_text("CERTIFICATE", certificate)).collect()
    }

    /// The key as PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> SecretString {
        self.key.to_pkcs8_pem()
    }

    /// The key as PKCS#8 in DER.
    #[must_use]
    pub fn key_der(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8_der()
    }

    /// The certificates above the leaf as PEM. Empty if there are none.
    #[must_use]
    pub fn intermediates_pem(&self) -> String {
        self.chain.iter().skip(1).map(|certificate| pem_text("CERTIFICATE", certificate)).collect()
    }

    /// Certificates, then key, in one text.
    #[must_use]
    pub fn combined_pem(&self) -> SecretString {
        let mut text = self.certificates_pem();
        text.push_str(self.key_pem().expose_secret());
        text.into()
    }
}

fn facts(leaf: &Certificate, private_key: PrivateKeySpec) -> CertificateFacts {
    let fields = leaf.tbs_certificate();
    let serial = hex::encode_upper(fields.serial_number().as_bytes());
    let digits = serial.trim_start_matches("00");
    CertificateFacts {
        serial_number: if digits.is_empty() { "00" } else { digits }.into(),
        subject: fields.subject().clone().into(),
        issuer: Subject::from(fields.issuer().clone()).to_string(),
        not_before: time_of(fields.validity().not_before),
        not_after: time_of(fields.validity().not_after),
        private_key,
    }
}

fn is_for_clients(leaf: &Certificate) -> bool {
    let fields = leaf.tbs_certificate();
    let is_ca =
        fields.get_extension::<BasicConstraints>().map_or(true, |found| found.is_some_and(|(_, constraints)| constraints.ca));
    let names_clients = fields
        .get_extension::<ExtendedKeyUsage>()
        .is_ok_and(|usage| usage.is_some_and(|(_, usage)| usage.0.contains(&ID_KP_CLIENT_AUTH)));
    names_clients && !is_ca
}

/// The certificates in a PEM text. Keys in it are skipped.
///
/// # Errors
/// [`PairError`] says what cannot be read, or that there is none.
pub fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let blocks = read_blocks(pem)?.into_iter().filter(|block| block.kind == Kind::Certificate);
    let chain: Vec<CertificateDer<'static>> = blocks
        .map(|block| match Certificate::from_der(&block.content) {
            Ok(_) => Ok(block.content.to_vec().into()),
            Err(_) => Err(block.unreadable()),
        })
        .collect::<Result<_, _>>()?;
    if chain.is_empty() { Err(PairError::NoCertificate) } else { Ok(chain) }
}

/// The time in a certificate, in whole seconds: certificates have no fractions, and Kubernetes stores none.
///
/// Times in certificates end with the year 9999; 99991231235959Z says that there is no end (RFC 5280 section 4.1.2.5).
/// [`Timestamp`] ends 26 hours earlier, so its last second stands for all later times.
#[must_use]
pub fn time_of(time: Time) -> Timestamp {
    let latest = Timestamp::MAX.as_second();
    let second = i64::try_from(time.to_unix_duration().as_secs()).map_or(latest, |second| second.min(latest));
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}
