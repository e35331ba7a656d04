//! Who issued a certificate, found out as OpenSSL does it: by names, key identifiers and signature.
//!
//! | Question | Answered by |
//! | --- | --- |
//! | Did `above` issue this certificate? | [`Link::is_issued_by`] |
//! | Is it a root (issued to itself and signed with its own key)? | [`Link::is_self_signed`] |
//! | Does OpenSSL take it for a root, without a look at the signature? | [`Link::is_taken_for_root`] |

use aws_lc_rs::digest;
use der::{
    AnyRef, Decode, Encode, Reader, SliceReader,
    asn1::BitStringRef,
    oid::{ObjectIdentifier, db::DB},
    referenced::OwnedToRef,
};
use rustls::pki_types::CertificateDer;
use webpki::ALL_VERIFICATION_ALGS;
use x509_cert::{
    ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier, name::GeneralName},
    spki::AlgorithmIdentifierOwned,
};

use super::{Certificate, KeyAlgorithm, PrivateKeySpec, Subject, canonical::CanonicalName};

/// The sizes in bits of the RSA keys with which signatures can be verified here.
const RSA_KEY_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// Signatures with MD5 and SHA-1 (RFC 3279 section 2.2).
const WEAK_SIGNATURES: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
    ObjectIdentifier::new_unwrap("1.2.840.10040.4.3"),
];

/// Object identifiers of keys, and the prefixes of those of their signatures (RFC 3279 sections 2.2 and 2.3, RFC 5758 section 3).
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const ECDSA_SIGNATURES: &str = "1.2.840.10045.4.";
const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const RSA_SIGNATURES: &str = "1.2.840.113549.1.1.";

/// Names of algorithms and curves that CAs use and [`DB`] does not know (RFC 3279 section 2.2.3, SEC 2).
const OTHER_NAMES: [(ObjectIdentifier, &str); 2] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), "ecdsa-with-SHA1"),
    (ObjectIdentifier::new_unwrap("1.3.132.0.10"), "secp256k1"),
];

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The certificate is no DER of a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// The algorithm or the curve is none that can be verified with here.
    #[error("the signature algorithm is not known here")]
    Unsupported,
    /// The names, the key identifiers or the signature do not fit.
    #[error("the signature is not the CA's")]
    Wrong,
}

/// A certificate and its encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The DER.
    pub encoded: CertificateDer<'static>,
    /// The certificate.
    pub certificate: Certificate,
    subject: CanonicalName,
    issuer: CanonicalName,
}

/// How sure it is that one certificate issued another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By the signature.
    Verified,
    /// By names and key identifiers only, because the algorithm is not known here. This is accepted only for an issuer that is
    /// issued to itself. Whoever trusts a root does not ask who signed it, and databases verify what it signed by themselves.
    Presumed,
}

impl Link {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn new(encoded: CertificateDer<'static>) -> Result<Self, der::Error> {
        let certificate = Certificate::from_der(&encoded)?;
        let fields = certificate.tbs_certificate();
        let (subject, issuer) = (fields.subject().into(), fields.issuer().into());
        Ok(Self { encoded, certificate, subject, issuer })
    }

    /// The subject as an RFC 4514 string.
    #[must_use]
    pub fn name(&self) -> String {
        Subject::from(self.certificate.tbs_certificate().subject().clone()).to_string()
    }

    /// Whether both certificates have the same subject and the same key.
    #[must_use]
    pub fn is_same_ca(&self, other: &Self) -> bool {
        let key = |link: &Self| link.certificate.tbs_certificate().subject_public_key_info().to_der().ok();
        self.subject == other.subject && key(self) == key(other)
    }

    /// Whether subject and issuer are one name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether it is a root: issued to itself, and signed with its own key.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.is_issued_by(self).is_ok()
    }

    /// Whether OpenSSL takes it for a root (`EXFLAG_SS`). OpenSSL does not look at the signature for this. It goes by the names,
    /// by the key that the certificate names as that of its issuer, and by the kinds of signature and key.
    #[must_use]
    pub fn is_taken_for_root(&self) -> bool {
        let key = &self.certificate.tbs_certificate().subject_public_key_info().algorithm.oid;
        let signature = &self.certificate.signature_algorithm().oid;
        let is_of_kind = |base: &str| signature.to_string().starts_with(base);
        let fits = match key.to_string().as_str() {
            EC_PUBLIC_KEY => is_of_kind(ECDSA_SIGNATURES),
            RSA_ENCRYPTION => is_of_kind(RSA_SIGNATURES),
            _ => key == signature,
        };
        self.is_self_issued() && self.names_key_of(self) && fits
    }

    /// Whether `above` issued this certificate, by names, key identifiers and signature, as OpenSSL decides it.
    ///
    /// # Errors
    /// [`SignatureError`] says why not.
    pub fn is_issued_by(&self, above: &Self) -> Result<Proof, SignatureError> {
        if self.issuer != above.subject || !self.names_key_of(above) {
            return Err(SignatureError::Wrong);
        }
        match check_signature(&self.encoded, &above.certificate) {
            Ok(()) => Ok(Proof::Verified),
            Err(SignatureError::Unsupported)
                if above.is_self_issued() && above.names_key_of(above) && (self == above || !self.has_weak_signature()) =>
            {
                Ok(Proof::Presumed)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the default security level of OpenSSL refuses the signature algorithm. For a root it does not matter.
    fn has_weak_signature(&self) -> bool {
        WEAK_SIGNATURES.contains(&self.certificate.signature_algorithm().oid)
    }

    /// Whether `above` fits the key that this certificate names as that of its issuer (RFC 5280 section 4.2.1.1). What either of
    /// them leaves out is not compared.
    fn names_key_of(&self, above: &Self) -> bool {
        let (fields, above) = (self.certificate.tbs_certificate(), above.certificate.tbs_certificate());
        let Ok(Some((_, named))) = fields.get_extension::<AuthorityKeyIdentifier>() else { return true };
        let own = above.get_extension::<SubjectKeyIdentifier>().ok().flatten().map(|(_, identifier)| identifier.0);
        let is_other_key = named.key_identifier.zip(own).is_some_and(|(named, own)| named != own);
        let serial = named.authority_cert_serial_number;
        let is_other_serial = serial.is_some_and(|serial| serial.as_bytes() != above.serial_number().as_bytes());
        let directory = named.authority_cert_issuer.into_iter().flatten().find_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let is_other_issuer = directory.is_some_and(|name| CanonicalName::from(&name) != CanonicalName::from(above.issuer()));
        !is_other_key && !is_other_serial && !is_other_issuer
    }
}

/// Checks that this certificate is signed with the key of `issuer` (RFC 5280 section 6.1.3 (a)(1)) and names it as its issuer
/// ((a)(4)).
///
/// # Errors
/// [`SignatureError`] says why it is not accepted.
pub fn check_signature(encoded: &[u8], issuer: &Certificate) -> Result<(), SignatureError> {
    let certificate = Certificate::from_der(encoded).map_err(|_| SignatureError::Unreadable)?;
    let (signed, signature) = signed_parts(encoded).map_err(|_| SignatureError::Unreadable)?;
    let (fields, above) = (certificate.tbs_certificate(), issuer.tbs_certificate());
    // The algorithm is named twice, and the signature covers only one of the two: they must be equal (RFC 5280 section 4.1.1.2).
    if CanonicalName::from(fields.issuer()) != CanonicalName::from(above.subject())
        || fields.signature() != certificate.signature_algorithm()
    {
        return Err(SignatureError::Wrong);
    }
    let public_key = above.subject_public_key_info();
    let (key_id, signature_id) = (content(&public_key.algorithm), content(fields.signature()));
    let spec = PrivateKeySpec::of_public_key(&public_key.owned_to_ref());
    let is_unknown_key = spec.is_none_or(|spec| spec.algorithm == KeyAlgorithm::Rsa && !RSA_KEY_BITS.contains(&spec.size));
    let mut known = ALL_VERIFICATION_ALGS.iter().filter(|known| known.signature_alg_id().as_ref() == signature_id).peekable();
    if is_unknown_key || known.peek().is_none() {
        return Err(SignatureError::Unsupported);
    }
    let key = public_key.subject_public_key.raw_bytes();
    known
        .filter(|known| known.public_key_alg_id().as_ref() == key_id)
        .any(|known| known.verify_signature(key, signed, signature).is_ok())
        .then_some(())
        .ok_or(SignatureError::Wrong)
}

/// The bytes that are signed, exactly as they are encoded, and the signature.
fn signed_parts(certificate: &[u8]) -> Result<(&[u8], &[u8]), der::Error> {
    SliceReader::new(certificate)?.sequence(|reader| {
        let signed = reader.tlv_bytes()?;
        let _algorithm = reader.tlv_bytes()?;
        let signature: BitStringRef<'_> = reader.decode()?;
        Ok::<_, der::Error>((signed, signature.raw_bytes()))
    })
}

/// The content of the sequence that identifies an algorithm: the form in which [`ALL_VERIFICATION_ALGS`] has it.
fn content(algorithm: &AlgorithmIdentifierOwned) -> Vec<u8> {
    let encoded = algorithm.to_der().unwrap_or_default();
    AnyRef::from_der(&encoded).map(|any| any.value().to_vec()).unwrap_or_default()
}

/// The digest of a CA's name and public key: the leftmost 128 bits of SHA-256, in hexadecimal. A renewed certificate with the same key is the
/// same CA.
#[must_use]
pub fn key_id(ca: &Certificate) -> String {
    let fields = ca.tbs_certificate();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&fields.subject().to_der().unwrap_or_default());
    context.update(&fields.subject_public_key_info().to_der().unwrap_or_default());
    hex::encode(&context.finish().as_ref()[..16])
}

/// The name of an algorithm. For a key on an elliptic curve, the name of the curve.
#[must_use]
pub fn kind_of(algorithm: &AlgorithmIdentifierOwned) -> String {
    name_of(&algorithm.owned_to_ref().parameters_oid().unwrap_or(algorithm.oid))
}

/// The name of what an object identifier stands for, or the identifier itself.
pub fn name_of(identifier: &ObjectIdentifier) -> String {
    let ours = || OTHER_NAMES.iter().find(|(known, _)| known == identifier).map(|(_, name)| *name);
    DB.by_oid(identifier).or_else(ours).map_or_else(|| identifier.to_string(), ToOwned::to_owned)
}
