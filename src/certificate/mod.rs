//! X.509 certificates and private keys: parse, compare, generate. No network, no clock, no Kubernetes.

mod canonical;
mod key;
mod name_constraints;
mod pair;
mod subject;
#[cfg(test)]
pub(crate) mod tests;

pub use key::{KeyAlgorithm, KeyError, PrivateKey, PrivateKeySpec};
pub use name_constraints::{NameConstraints, NameConstraintsError, NameViolation};
pub use pair::{CertificateFacts, CertificatePair, PairError};
pub use subject::{Subject, SubjectError};

pub(crate) use pair::{pem_text, read_certificates, time_of};
