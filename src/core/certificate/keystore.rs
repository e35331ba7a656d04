//! PKCS#12 keystores (RFC 7292), written only.
//!
//! The crates that write PKCS#12 bring a second set of ciphers and digests along, some of them as pre-releases. What is needed here is one fixed
//! form, so it is assembled from `der` and AWS-LC: PBES2 with AES-256-CBC and PBKDF2 (RFC 8018), and a MAC with SHA-256. Java 17 and OpenSSL
//! 3 read it without legacy algorithms, and write the same.
//!
//! # Guarantees
//!
//! - The same pair, alias and password give the same bytes. A keystore is compared with what would be written, and no foreign keystore is
//!   ever parsed.
//! - Salts and initialization vectors cannot be predicted and differ from content to content: they are an HMAC of the content under the
//!   private key. The password is no part of it, because a salt is public: passwords could be guessed with it at less cost than PBKDF2 has.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_256, AES_CBC_IV_LEN, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey},
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    error::Unspecified,
    hmac,
    iv::FixedLength,
    pbkdf2,
};
use der::{
    Any, Encode, Tag, TagMode, TagNumber,
    asn1::{ObjectIdentifier, OctetStringRef},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::CertificatePair;

// RFC 5652 sections 4 and 8.
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
// RFC 7292 section 4.2.
const SHROUDED_KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
// RFC 2985 section 5.5.
const FRIENDLY_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
const LOCAL_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.21");
// RFC 8018 appendix A.
const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const HMAC_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const ID_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// How often a password is hashed: as Java's `keytool` does it. A password that this operator makes needs none of it.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// The block of SHA-256 in bytes, `v` in RFC 7292 appendix B.2.
const DIGEST_BLOCK: usize = 64;

/// The purpose "MAC key" in RFC 7292 appendix B.3.
const FOR_MAC: u8 = 3;

/// A keystore that could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// Something is too long for DER.
    #[error("the keystore cannot be encoded")]
    Encoding,
    /// The cryptographic library refuses.
    #[error("the keystore cannot be encrypted")]
    Encryption,
}

impl From<der::Error> for KeystoreError {
    fn from(_: der::Error) -> Self {
        Self::Encoding
    }
}

impl From<Unspecified> for KeystoreError {
    fn from(_: Unspecified) -> Self {
        Self::Encryption
    }
}

/// A keystore with the key and all certificates of the pair. The key and its certificate have this alias. The alias and the password are
/// ASCII: Java takes no other passwords.
///
/// # Errors
/// [`KeystoreError`]: the encoding or the library fails, which no input is known to bring about.
pub fn encode_keystore(
    pair: &CertificatePair,
    alias: &str,
    password: &SecretString,
) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    let sealing = Sealing::new(pair, alias, password);
    let certificates = sealing.certificates(pair, alias)?;
    let key = sealing.key(pair, alias)?;
    let safe = sequence(&[certificates, key])?;
    let mac = sealing.mac(&safe)?;
    let version = 3_u8.to_der()?;
    Ok(Zeroizing::new(sequence(&[version, data(&safe)?, mac])?))
}

/// How the contents of one keystore are protected.
struct Sealing<'a> {
    password: &'a SecretString,
    /// From which salts and initialization vectors are taken.
    seed: hmac::Key,
}

impl<'a> Sealing<'a> {
    fn new(pair: &CertificatePair, alias: &str, password: &'a SecretString) -> Self {
        let mut of_content = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &pair.key_der()));
        of_content.update(b"usercert.dev keystore ");
        of_content.update(digest(&SHA256, alias.as_bytes()).as_ref());
        for certificate in pair.certificates() {
            of_content.update(digest(&SHA256, certificate).as_ref());
        }
        Self { password, seed: hmac::Key::new(hmac::HMAC_SHA256, of_content.sign().as_ref()) }
    }

    fn derived(&self, purpose: &str) -> [u8; SALT_BYTES] {
        let mut bytes = [0; SALT_BYTES];
        let tag = hmac::sign(&self.seed, purpose.as_bytes());
        bytes.iter_mut().zip(tag.as_ref()).for_each(|(byte, derived)| *byte = *derived);
        bytes
    }

    /// The certificates, encrypted as Java and OpenSSL expect it.
    fn certificates(&self, pair: &CertificatePair, alias: &str) -> Result<Vec<u8>, KeystoreError> {
        let mut bags = Vec::new();
        for (position, certificate) in pair.certificates().iter().enumerate() {
            let of_key = if position == 0 { attributes(pair, alias)? } else { Vec::new() };
            let bag = sequence(&[X509_CERTIFICATE.to_der()?, tagged(&octets(certificate)?)?])?;
            bags.push(sequence(&[CERTIFICATE_BAG.to_der()?, tagged(&bag)?, of_key])?);
        }
        let (algorithm, encrypted) = self.encrypt("certificates", &sequence(&bags)?)?;
        // [0] IMPLICIT OCTET STRING.
        let content = context_specific(TagMode::Implicit, &encrypted)?;
        let encrypted_content = sequence(&[DATA.to_der()?, algorithm, content])?;
        let encrypted_data = sequence(&[0_u8.to_der()?, encrypted_content])?;
        Ok(sequence(&[ENCRYPTED_DATA.to_der()?, tagged(&encrypted_data)?])?)
    }

    fn key(&self, pair: &CertificatePair, alias: &str) -> Result<Vec<u8>, KeystoreError> {
        let (algorithm, encrypted) = self.encrypt("key", &pair.key_der())?;
        let shrouded = sequence(&[algorithm, octets(&encrypted)?])?;
        let bag = sequence(&[SHROUDED_KEY_BAG.to_der()?, tagged(&shrouded)?, attributes(pair, alias)?])?;
        data(&sequence(&[bag])?)
    }

    /// PBES2 (RFC 8018 section 6.2): the algorithm with its parameters, and what was encrypted.
    fn encrypt(&self, purpose: &str, content: &[u8]) -> Result<(Vec<u8>, Vec<u8>), KeystoreError> {
        let salt = self.derived(&format!("salt of the {purpose}"));
        let vector: [u8; AES_CBC_IV_LEN] = self.derived(&format!("vector of the {purpose}"));
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let password = self.password.expose_secret().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, password, key.as_mut());
        let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key.as_ref())?)?;
        // With room for the padding, so that no copy of the content is left behind.
        let mut encrypted = Zeroizing::new(Vec::with_capacity(content.len() + AES_CBC_IV_LEN));
        encrypted.extend_from_slice(content);
        cipher.less_safe_encrypt(&mut *encrypted, EncryptionContext::Iv128(FixedLength::from(&vector)))?;
        let prf = sequence(&[HMAC_WITH_SHA256.to_der()?, null()?])?;
        let derivation = sequence(&[octets(&salt)?, ITERATIONS.get().to_der()?, prf])?;
        let derivation = sequence(&[PBKDF2.to_der()?, derivation])?;
        let encryption = sequence(&[AES_256_CBC.to_der()?, octets(&vector)?])?;
        let algorithm = sequence(&[PBES2.to_der()?, sequence(&[derivation, encryption])?])?;
        Ok((algorithm, std::mem::take(&mut *encrypted)))
    }

    /// The MAC over the contents (RFC 7292 section 4).
    fn mac(&self, safe: &[u8]) -> Result<Vec<u8>, KeystoreError> {
        let salt = self.derived("salt of the MAC");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.mac_key(&salt));
        let tag = hmac::sign(&key, safe);
        let algorithm = sequence(&[ID_SHA256.to_der()?, null()?])?;
        let digest_info = sequence(&[algorithm, octets(tag.as_ref())?])?;
        Ok(sequence(&[digest_info, octets(&salt)?, ITERATIONS.get().to_der()?])?)
    }

    /// RFC 7292 appendix B.2, for a key as long as the digest.
    fn mac_key(&self, salt: &[u8]) -> Zeroizing<[u8; SHA256_OUTPUT_LEN]> {
        // A BMPString with its end (appendix B.1).
        let units = self.password.expose_secret().encode_utf16().chain([0]);
        let password = Zeroizing::new(units.flat_map(u16::to_be_bytes).collect::<Vec<u8>>());
        let mut input = Zeroizing::new(vec![FOR_MAC; DIGEST_BLOCK]);
        for part in [salt, &password] {
            input.extend(part.iter().cycle().take(part.len().next_multiple_of(DIGEST_BLOCK)));
        }
        let mut key = Zeroizing::new([0; SHA256_OUTPUT_LEN]);
        key.copy_from_slice(digest(&SHA256, &input).as_ref());
        for _ in 1..ITERATIONS.get() {
            let next = digest(&SHA256, key.as_ref());
            key.copy_from_slice(next.as_ref());
        }
        key
    }
}

/// The attributes that join the key and its certificate (RFC 2985 section 5.5): the alias, and a digest of the certificate.
fn attributes(pair: &CertificatePair, alias: &str) -> Result<Vec<u8>, KeystoreError> {
    let units: Vec<u8> = alias.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let name = Any::new(Tag::BmpString, units)?.to_der()?;
    let certificate = pair.certificates().first().map(AsRef::as_ref).unwrap_or_default();
    let id = octets(digest(&SHA256, certificate).as_ref())?;
    let name = sequence(&[FRIENDLY_NAME.to_der()?, set(&name)?])?;
    let id = sequence(&[LOCAL_KEY_ID.to_der()?, set(&id)?])?;
    // DER sorts what is in a set; the name is the shorter attribute or has the smaller object identifier.
    let mut both = [name, id];
    both.sort();
    Ok(set(&both.concat())?)
}

/// A `ContentInfo` of type data (RFC 5652 section 4).
fn data(content: &[u8]) -> Result<Vec<u8>, KeystoreError> {
    Ok(sequence(&[DATA.to_der()?, tagged(&octets(content)?)?])?)
}

fn sequence(parts: &[Vec<u8>]) -> der::Result<Vec<u8>> {
    Any::new(Tag::Sequence, parts.concat())?.to_der()
}

fn set(content: &[u8]) -> der::Result<Vec<u8>> {
    Any::new(Tag::Set, content)?.to_der()
}

fn octets(content: &[u8]) -> der::Result<Vec<u8>> {
    OctetStringRef::new(content)?.to_der()
}

fn null() -> der::Result<Vec<u8>> {
    Any::null().to_der()
}

/// `[0] EXPLICIT`.
fn tagged(content: &[u8]) -> der::Result<Vec<u8>> {
    context_specific(TagMode::Explicit, content)
}

/// `[0]`: explicit tags are constructed, implicit ones of octets are not.
fn context_specific(mode: TagMode, content: &[u8]) -> der::Result<Vec<u8>> {
    let tag = Tag::ContextSpecific { constructed: mode == TagMode::Explicit, number: TagNumber(0) };
    Any::new(tag, content)?.to_der()
}
