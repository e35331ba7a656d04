//! What the certificates of a CA must fulfil, so that databases accept what is signed below them.
//!
//! The chain is as the Secret holds it: nothing is searched for. The rules are those of OpenSSL, with which databases verify.

use der::{
    AnyRef, Decode, Encode, Reader, SliceReader,
    asn1::BitStringRef,
    oid::{
        ObjectIdentifier,
        db::{
            DB,
            rfc5280::{
                ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES, ID_CE_CRL_DISTRIBUTION_POINTS, ID_CE_EXT_KEY_USAGE,
                ID_CE_INHIBIT_ANY_POLICY, ID_CE_KEY_USAGE, ID_CE_NAME_CONSTRAINTS, ID_CE_POLICY_CONSTRAINTS,
                ID_CE_POLICY_MAPPINGS, ID_CE_SUBJECT_ALT_NAME, ID_KP_CLIENT_AUTH,
            },
            rfc6960::ID_PKIX_OCSP_NOCHECK,
        },
    },
    referenced::OwnedToRef,
};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use webpki::ALL_VERIFICATION_ALGS;
use x509_cert::{
    Certificate,
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    spki::AlgorithmIdentifierOwned,
};

use super::CaError;
use crate::certificate::{KeyAlgorithm, PrivateKeySpec, Subject, time_of};

/// More CAs above each other than anybody has, and few enough to be verified in no time.
pub(super) const LONGEST_CHAIN: usize = 10;

/// The sizes that OpenSSL's default security level and the verification here both take.
const RSA_KEY_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

const NETSCAPE_CERT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113730.1.1");

/// The critical extensions of a CA that every OpenSSL knows (`X509_supported_extension`). Those of RFC 3779 are an option of its build.
const KNOWN_EXTENSIONS: [ObjectIdentifier; 12] = [
    ID_CE_BASIC_CONSTRAINTS,
    ID_CE_KEY_USAGE,
    ID_CE_EXT_KEY_USAGE,
    ID_CE_NAME_CONSTRAINTS,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_CRL_DISTRIBUTION_POINTS,
    ID_CE_CERTIFICATE_POLICIES,
    ID_CE_POLICY_CONSTRAINTS,
    ID_CE_POLICY_MAPPINGS,
    ID_CE_INHIBIT_ANY_POLICY,
    ID_PKIX_OCSP_NOCHECK,
    NETSCAPE_CERT_TYPE,
];

/// Algorithms and curves that CAs have and [`DB`] does not (RFC 3279 section 2.2.3, SEC 2).
const OTHER_NAMES: [(ObjectIdentifier, &str); 2] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), "ecdsa-with-SHA1"),
    (ObjectIdentifier::new_unwrap("1.3.132.0.10"), "secp256k1"),
];

/// Why a signature is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the signature algorithm is not known here")]
    Unsupported,
    #[error("the signature is not the CA's")]
    Wrong,
}

/// Checks each certificate by itself, and that each was issued by the next one.
pub(super) fn check_chain(encoded: &[CertificateDer<'_>], chain: &[Certificate], now: Timestamp) -> Result<(), CaError> {
    if chain.len() > LONGEST_CHAIN {
        return Err(CaError::LongChain(chain.len()));
    }
    for (index, certificate) in chain.iter().enumerate() {
        check_certificate(certificate, now)?;
        if path_length(certificate).is_some_and(|allowed| usize::from(allowed) < cas_below(chain, index)) {
            return Err(CaError::PathLength(subject_of(certificate)));
        }
    }
    for (encoded, pair) in encoded.iter().zip(chain.windows(2)) {
        let [certificate, above] = pair else { continue };
        let subject = subject_of(certificate);
        check_signature(encoded, above).map_err(|error| match error {
            SignatureError::Unsupported => {
                CaError::UnsupportedSignature { subject, algorithm: kind_of(certificate.signature_algorithm()) }
            }
            SignatureError::Unreadable | SignatureError::Wrong => CaError::Order(subject),
        })?;
    }
    Ok(())
}

fn check_certificate(certificate: &Certificate, now: Timestamp) -> Result<(), CaError> {
    let fields = certificate.tbs_certificate();
    let subject = subject_of(certificate);
    if !may_sign(certificate) {
        return Err(CaError::NotCa(subject));
    }
    let (not_before, not_after) = (time_of(fields.validity().not_before), time_of(fields.validity().not_after));
    if not_after <= now {
        return Err(CaError::Expired { subject, not_after });
    }
    if not_before > now {
        return Err(CaError::NotYetValid { subject, not_before });
    }
    if !may_sign_for_clients(certificate) {
        return Err(CaError::NotForClients(subject));
    }
    let mut extensions = fields.extensions().into_iter().flatten();
    if let Some(unknown) = extensions.find(|one| one.critical && !KNOWN_EXTENSIONS.contains(&one.extn_id)) {
        return Err(CaError::UnknownExtension { subject, extension: name_of(&unknown.extn_id) });
    }
    let key = fields.subject_public_key_info();
    match PrivateKeySpec::of_public_key(&key.owned_to_ref()) {
        None => Err(CaError::UnsupportedKey { subject, kind: kind_of(&key.algorithm) }),
        Some(PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size }) if !RSA_KEY_BITS.contains(&size) => {
            Err(CaError::RsaKeySize { subject, bits: size })
        }
        Some(_) => Ok(()),
    }
}

/// Checks that this certificate names `issuer` as its issuer and is signed with its key (RFC 5280 section 6.1.3, (a)(1) and (4)).
pub(super) fn check_signature(encoded: &[u8], issuer: &Certificate) -> Result<(), SignatureError> {
    let certificate = Certificate::from_der(encoded).map_err(|_| SignatureError::Unreadable)?;
    let (signed, signature) = signed_parts(encoded).map_err(|_| SignatureError::Unreadable)?;
    let (fields, above) = (certificate.tbs_certificate(), issuer.tbs_certificate());
    // RFC 5280 section 4.1.1.2: the algorithm is said twice, and only once under the signature.
    if fields.issuer() != above.subject() || fields.signature() != certificate.signature_algorithm() {
        return Err(SignatureError::Wrong);
    }
    let public_key = above.subject_public_key_info();
    let (key_id, signature_id) = (content(&public_key.algorithm), content(fields.signature()));
    let mut known = ALL_VERIFICATION_ALGS.iter().filter(|known| known.signature_alg_id().as_ref() == signature_id).peekable();
    if known.peek().is_none() {
        return Err(SignatureError::Unsupported);
    }
    let key = public_key.subject_public_key.raw_bytes();
    known
        .filter(|known| known.public_key_alg_id().as_ref() == key_id)
        .any(|known| known.verify_signature(key, signed, signature).is_ok())
        .then_some(())
        .ok_or(SignatureError::Wrong)
}

/// The bytes that are signed, as they are, and the signature.
fn signed_parts(certificate: &[u8]) -> Result<(&[u8], &[u8]), der::Error> {
    SliceReader::new(certificate)?.sequence(|reader| {
        let signed = reader.tlv_bytes()?;
        let _algorithm = reader.tlv_bytes()?;
        let signature: BitStringRef<'_> = reader.decode()?;
        Ok::<_, der::Error>((signed, signature.raw_bytes()))
    })
}

/// What is in the sequence of an algorithm's identifier, which is how [`ALL_VERIFICATION_ALGS`] has them.
fn content(algorithm: &AlgorithmIdentifierOwned) -> Vec<u8> {
    let encoded = algorithm.to_der().unwrap_or_default();
    AnyRef::from_der(&encoded).map(|any| any.value().to_vec()).unwrap_or_default()
}

/// The name of an algorithm; of an elliptic curve's key that of the curve.
fn kind_of(algorithm: &AlgorithmIdentifierOwned) -> String {
    name_of(&algorithm.owned_to_ref().parameters_oid().unwrap_or(algorithm.oid))
}

fn name_of(identifier: &ObjectIdentifier) -> String {
    let ours = || OTHER_NAMES.iter().find(|(known, _)| known == identifier).map(|(_, name)| *name);
    DB.by_oid(identifier).or_else(ours).map_or_else(|| identifier.to_string(), ToOwned::to_owned)
}

fn subject_of(certificate: &Certificate) -> String {
    Subject::from(certificate.tbs_certificate().subject().clone()).to_string()
}

fn may_sign(certificate: &Certificate) -> bool {
    let fields = certificate.tbs_certificate();
    let is_ca =
        fields.get_extension::<BasicConstraints>().is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca));
    let signs = fields.get_extension::<KeyUsage>().is_ok_and(|found| found.is_none_or(|(_, usage)| usage.key_cert_sign()));
    is_ca && signs
}

/// OpenSSL wants the use of a leaf in every CA above it that limits uses, the root included, and takes no `anyExtendedKeyUsage` for it.
fn may_sign_for_clients(certificate: &Certificate) -> bool {
    certificate
        .tbs_certificate()
        .get_extension::<ExtendedKeyUsage>()
        .is_ok_and(|found| found.is_none_or(|(_, usage)| usage.0.contains(&ID_KP_CLIENT_AUTH)))
}

fn path_length(certificate: &Certificate) -> Option<u8> {
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>().ok().flatten();
    constraints.and_then(|(_, constraints)| constraints.path_len_constraint)
}

/// How many CAs count against the path length of the one at `index`: those below it that are not issued to themselves.
fn cas_below(chain: &[Certificate], index: usize) -> usize {
    let counts = |ca: &&Certificate| ca.tbs_certificate().subject() != ca.tbs_certificate().issuer();
    chain.iter().take(index).filter(counts).count()
}
