//! Private keys: parse, generate, sign.
//!
//! # Guarantees
//!
//! - A key is redacted in `Debug` output.
//! - The memory of a key is zeroized on drop.
//! - No error holds a part of a key.

use std::{fmt, str::FromStr, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair,
    },
};
use der::{Decode, asn1::UintRef};
use rustls::{
    SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer},
    sign::SigningKey,
};
use secrecy::SecretString;
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoRef};
use zeroize::Zeroizing;

use super::{
    PemError,
    pem::{Block, Kind},
    pem_text, read_blocks,
};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// Elliptic curve over a NIST prime.
    Ecdsa,
    /// Edwards curve 25519.
    Ed25519,
}

/// Algorithm and size of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateKeySpec {
    /// The algorithm.
    pub algorithm: KeyAlgorithm,
    /// The size in bits.
    pub size: u32,
}

impl PrivateKeySpec {
    /// Whether a key takes long to make: up to seconds of computing.
    #[must_use]
    pub fn takes_long(&self) -> bool {
        self.algorithm == KeyAlgorithm::Rsa
    }
}

impl Default for PrivateKeySpec {
    fn default() -> Self {
        Self { algorithm: KeyAlgorithm::Ecdsa, size: 256 }
    }
}

impl fmt::Display for PrivateKeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm {
            KeyAlgorithm::Rsa => write!(f, "RSA {}", self.size),
            KeyAlgorithm::Ecdsa => write!(f, "ECDSA {}", self.size),
            KeyAlgorithm::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

impl FromStr for PrivateKeySpec {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (algorithm, size) = match text.split_once(' ') {
            Some(("RSA", size)) => (KeyAlgorithm::Rsa, size),
            Some(("ECDSA", size)) => (KeyAlgorithm::Ecdsa, size),
            None if text == "Ed25519" => (KeyAlgorithm::Ed25519, "256"),
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self { algorithm, size: size.parse().map_err(|_| KeyError::Unsupported)? })
    }
}

impl PrivateKeySpec {
    /// Algorithm and size of the public key in a certificate. `None` for kinds that databases are not used with.
    #[must_use]
    pub fn of_public_key(key: &SubjectPublicKeyInfoRef<'_>) -> Option<Self> {
        let parameter = || key.algorithm.parameters_oid().ok();
        match key.algorithm.oid {
            RSA_ENCRYPTION => {
                let bits = RsaPublicKey::from_der(key.subject_public_key.as_bytes()?).ok()?.modulus_bits();
                Some(Self { algorithm: KeyAlgorithm::Rsa, size: bits })
            }
            EC_PUBLIC_KEY => {
                let size = match parameter()? {
                    P256 => 256,
                    P384 => 384,
                    P521 => 521,
                    _ => return None,
                };
                Some(Self { algorithm: KeyAlgorithm::Ecdsa, size })
            }
            ED25519 => Some(Self { algorithm: KeyAlgorithm::Ed25519, size: 256 }),
            _ => None,
        }
    }
}

/// RFC 8017 appendix A.1.1.
#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    #[allow(dead_code, reason = "part of the encoding")]
    public_exponent: UintRef<'a>,
}

impl RsaPublicKey<'_> {
    fn modulus_bits(&self) -> u32 {
        let bytes = self.modulus.as_bytes();
        let leading = bytes.first().map_or(0, |first| first.leading_zeros());
        u32::try_from(bytes.len()).unwrap_or(u32::MAX / 8) * 8 - leading
    }
}

/// A key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no private key.
    #[error("there is no private key in PEM form")]
    Missing,
    /// The PEM cannot be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The private key is encrypted.
    #[error("the private key is encrypted: store it without a passphrase")]
    Encrypted,
    /// There is more than one private key.
    #[error("there is more than one private key")]
    Several,
    /// The PEM or what is in it cannot be read.
    #[error("the private key cannot be read")]
    Unreadable,
    /// The algorithm or size is not known here.
    #[error("the key's algorithm or size is not supported: use RSA, ECDSA (P-256, P-384, P-521) or Ed25519")]
    Unsupported,
    /// The system could not generate a key.
    #[error("no key could be generated")]
    Generation,
    /// The key could not sign.
    #[error("the key cannot sign")]
    Signing,
}

/// A private key.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    signing_key: Arc<dyn SigningKey>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

impl PrivateKey {
    /// Generates a key. For RSA this takes up to seconds of computing.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for other sizes than RSA 2048, 3072, 4096 and ECDSA 256, 384.
    pub fn generate(spec: PrivateKeySpec) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Generation;
        let random = SystemRandom::new();
        let ecdsa =
            |curve| EcdsaKeyPair::generate_pkcs8(curve, &random).map(|document| document.as_ref().to_vec()).map_err(failed);
        let rsa = |size| {
            let key = rsa::KeyPair::generate(size).map_err(failed)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map(|document| document.as_ref().to_vec()).map_err(failed)
        };
        let pkcs8 = match (spec.algorithm, spec.size) {
            (KeyAlgorithm::Ecdsa, 256) => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            (KeyAlgorithm::Ecdsa, 384) => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
            (KeyAlgorithm::Rsa, 2048) => rsa(rsa::KeySize::Rsa2048)?,
            (KeyAlgorithm::Rsa, 3072) => rsa(rsa::KeySize::Rsa3072)?,
            (KeyAlgorithm::Rsa, 4096) => rsa(rsa::KeySize::Rsa4096)?,
            (KeyAlgorithm::Ed25519, _) => {
                // Version 1 of PKCS#8: OpenSSL refuses the public key that version 2 carries.
                Ed25519KeyPair::generate_pkcs8v1(&random).map(|document| document.as_ref().to_vec()).map_err(failed)?
            }
            _ => return Err(KeyError::Unsupported),
        };
        Self::from_pkcs8(Zeroizing::new(pkcs8))
    }

    /// Reads the one key in a PEM text: PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong; it never holds a part of the key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let blocks = read_blocks(pem)?;
        let mut keys = blocks.iter().filter_map(|block| Some((key_of(block)?, block.unreadable())));
        let (key, unreadable) = keys.next().ok_or(KeyError::Missing)?;
        if keys.next().is_some() {
            return Err(KeyError::Several);
        }
        let pkcs8 = to_pkcs8(&key?).map_err(|error| if error == KeyError::Unreadable { unreadable.into() } else { error })?;
        Self::from_pkcs8(pkcs8)
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let signing_key = any_supported_type(&der).map_err(|_| KeyError::Unsupported)?;
        Ok(Self { pkcs8, signing_key })
    }

    /// PKCS#8 in DER.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// PKCS#8 as PEM.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> SecretString {
        pem_text("PRIVATE KEY", &self.pkcs8).into()
    }

    /// The public key as an encoded `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// The public key of this kind of key cannot be encoded here.
    pub fn public_key_info(&self) -> Result<Vec<u8>, KeyError> {
        self.signing_key.public_key().map(|key| key.as_ref().to_vec()).ok_or(KeyError::Unsupported)
    }

    /// Algorithm and size.
    ///
    /// # Errors
    /// The key's kind is not known here.
    pub fn spec(&self) -> Result<PrivateKeySpec, KeyError> {
        let public_key = self.public_key_info()?;
        SubjectPublicKeyInfoRef::from_der(&public_key)
            .ok()
            .and_then(|key| PrivateKeySpec::of_public_key(&key))
            .ok_or(KeyError::Unsupported)
    }

    /// The algorithm with which [`PrivateKey::sign`] signs: SHA-256 with RSA and P-256, SHA-384 with P-384, SHA-512 with P-521;
    /// Ed25519 has its own.
    ///
    /// # Errors
    /// The kind of the key is not known here.
    pub fn signature_algorithm(&self) -> Result<AlgorithmIdentifierOwned, KeyError> {
        let (oid, _) = self.signature()?;
        // The parameters are NULL for RSA (RFC 4055 section 5), and absent for ECDSA (RFC 5758 section 3.2) and Ed25519 (RFC 8410
        // section 3).
        let parameters = (oid == SHA256_WITH_RSA).then(der::asn1::Any::null);
        Ok(AlgorithmIdentifierOwned { oid, parameters })
    }

    /// Signs a message.
    ///
    /// # Errors
    /// [`KeyError::Signing`] or [`KeyError::Unsupported`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (_, scheme) = self.signature()?;
        let signer = self.signing_key.choose_scheme(&[scheme]).ok_or(KeyError::Unsupported)?;
        signer.sign(message).map_err(|_| KeyError::Signing)
    }

    fn signature(&self) -> Result<(ObjectIdentifier, SignatureScheme), KeyError> {
        let spec = self.spec()?;
        Ok(match (spec.algorithm, spec.size) {
            (KeyAlgorithm::Rsa, _) => (SHA256_WITH_RSA, SignatureScheme::RSA_PKCS1_SHA256),
            (KeyAlgorithm::Ecdsa, 256) => (ECDSA_WITH_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256),
            (KeyAlgorithm::Ecdsa, 384) => (ECDSA_WITH_SHA384, SignatureScheme::ECDSA_NISTP384_SHA384),
            (KeyAlgorithm::Ecdsa, 521) => (ECDSA_WITH_SHA512, SignatureScheme::ECDSA_NISTP521_SHA512),
            (KeyAlgorithm::Ed25519, _) => (ED25519, SignatureScheme::ED25519),
            (KeyAlgorithm::Ecdsa, _) => return Err(KeyError::Unsupported),
        })
    }
}

/// The key in a block. `None` if the block holds something else.
fn key_of(block: &Block) -> Option<Result<PrivateKeyDer<'_>, KeyError>> {
    let content = block.content.as_slice();
    Some(match block.kind {
        Kind::Pkcs8Key => Ok(PrivatePkcs8KeyDer::from(content).into()),
        Kind::Pkcs1Key => Ok(PrivatePkcs1KeyDer::from(content).into()),
        Kind::Sec1Key => Ok(PrivateSec1KeyDer::from(content).into()),
        Kind::EncryptedKey => Err(KeyError::Encrypted),
        Kind::OtherKey => Err(KeyError::Unsupported),
        Kind::Certificate | Kind::Harmless => return None,
    })
}

fn to_pkcs8(key: &PrivateKeyDer<'_>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = match key {
        PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
        PrivateKeyDer::Pkcs1(key) => {
            let key = rsa::KeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| KeyError::Unreadable)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(|_| KeyError::Unreadable)?.as_ref().to_vec()
        }
        PrivateKeyDer::Sec1(key) => {
            let curves = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
            let key = curves
                .into_iter()
                .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, key.secret_sec1_der()).ok())
                .ok_or(KeyError::Unsupported)?;
            key.to_pkcs8v1().map_err(|_| KeyError::Unreadable)?.as_ref().to_vec()
        }
        _ => return Err(KeyError::Unsupported),
    };
    Ok(Zeroizing::new(bytes))
}
