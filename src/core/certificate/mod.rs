//! X.509 certificates and private keys: parse, compare, generate. No network, no clock, no Kubernetes.

mod canonical;
mod chain;
mod key;
mod keystore;
mod name_constraints;
mod pair;
mod pem;
mod serial_number;
mod signature;
mod subject;
#[cfg(test)]
mod tests;

pub use chain::ChainError;
pub use key::{KeyAlgorithm, KeyError, PrivateKey, PrivateKeySpec};
pub use keystore::{KeystoreError, encode_keystore};
pub use name_constraints::{NameConstraints, NameConstraintsError, NameViolation};
pub use pair::{CertificateFacts, CertificatePair, PairError};
pub use pem::PemError;
pub use serial_number::SerialNumber;
pub use subject::{Subject, SubjectError};

pub use chain::{LONGEST, Reached, check_leads_to};
pub use pair::{read_certificates, time_of};
pub use pem::{Kind, pem_text, read_blocks};
pub use signature::{Link, Proof, SignatureError, check_signature, key_id, kind_of, name_of};

/// A certificate as OpenSSL reads it: the limits of RFC 5280 for serial numbers are not checked, because some CAs do not keep
/// them.
pub type Certificate = x509_cert::certificate::CertificateInner<x509_cert::certificate::Raw>;
