//! The certificate that the CA signs (RFC 5280 section 4.1).
//!
//! Names are taken over exactly as they are encoded. The issuer must equal the subject of the CA byte for byte. A subject may
//! have several attributes of one type, or several in one part, which builders at a higher level lose.

use aws_lc_rs::digest;
use der::{
    Decode, Encode, Sequence,
    asn1::{BitString, OctetString},
    oid::db::rfc5280::ID_KP_CLIENT_AUTH,
};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_cert::{
    certificate::Version,
    ext::{
        Extension, Extensions, ToExtension,
        pkix::{AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier},
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

use crate::certificate::{KeyError, PrivateKey};

/// The fields that differ between certificates.
pub(super) struct Leaf {
    pub(super) serial_number: [u8; 16],
    pub(super) issuer: Name,
    pub(super) subject: Name,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// An encoded `SubjectPublicKeyInfo`.
    pub(super) public_key: Vec<u8>,
    pub(super) authority_key_identifier: Vec<u8>,
}

#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

#[derive(Sequence)]
struct SignedCertificate {
    tbs_certificate: TbsCertificate,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// A certificate that could not be encoded or signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeafError {
    #[error("the certificate could not be encoded")]
    Encoding(#[from] der::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Leaf {
    pub(super) fn sign(self, key: &PrivateKey) -> Result<CertificateDer<'static>, LeafError> {
        let algorithm = key.signature_algorithm()?;
        let public_key = SubjectPublicKeyInfoOwned::from_der(&self.public_key)?;
        let own_identifier = key_identifier(public_key.subject_public_key.raw_bytes());
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&self.serial_number)?,
            signature: algorithm.clone(),
            issuer: self.issuer,
            validity: Validity::new(time(self.not_before)?, time(self.not_after)?),
            extensions: extensions(&self.subject, own_identifier, self.authority_key_identifier)?,
            subject: self.subject,
            subject_public_key_info: public_key,
        };
        let signature = key.sign(&tbs_certificate.to_der()?)?;
        let certificate = SignedCertificate {
            tbs_certificate,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(&signature)?,
        };
        Ok(certificate.to_der()?.into())
    }
}

/// The extensions of a leaf: client authentication and nothing else. In particular none of the extensions of MongoDB
/// (1.3.6.1.4.1.34601.2.1), which give roles and cluster membership to whoever presents the certificate.
fn extensions(subject: &Name, own: Vec<u8>, authority: Vec<u8>) -> Result<Extensions, der::Error> {
    let authority = AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(authority)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    // None of these reads the extensions that come before it.
    let others: &[Extension] = &[];
    Ok(vec![
        (true, &BasicConstraints { ca: false, path_len_constraint: None }).to_extension(subject, others)?,
        (true, &KeyUsage(KeyUsages::DigitalSignature.into())).to_extension(subject, others)?,
        (false, &ExtendedKeyUsage(vec![ID_KP_CLIENT_AUTH])).to_extension(subject, others)?,
        (false, &SubjectKeyIdentifier(OctetString::new(own)?)).to_extension(subject, others)?,
        (false, &authority).to_extension(subject, others)?,
    ])
}

/// The key identifier by RFC 7093 section 2, method 1: the leftmost 160 bits of the SHA-256 of the bits of the public key.
pub(super) fn key_identifier(public_key_bits: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, public_key_bits).as_ref()[..20].to_vec()
}

/// `UTCTime` up to 2049, `GeneralizedTime` after (RFC 5280 section 4.1.2.5).
fn time(timestamp: Timestamp) -> Result<Time, der::Error> {
    let seconds = std::time::Duration::from_secs(u64::try_from(timestamp.as_second()).unwrap_or_default());
    match der::asn1::UtcTime::from_unix_duration(seconds) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => der::asn1::GeneralizedTime::from_unix_duration(seconds).map(Time::GeneralTime),
    }
}
