//! A stand-in for the Atlas Administration API, as far as certificates of database users go.
//!
//! It behaves as the recorded answers of the real one do, down to the digest challenge, the JSON media type on a PEM body and
//! the certificates that outlive their user; and it keeps a ledger of what it minted, the oracle of the tests.

mod answer;
mod bucket;
mod certificate;
mod certs;
mod digest;
mod fault;
mod ledger;
mod server;
mod stand_in;
mod state;
#[cfg(test)]
mod tests;
mod token;

pub use bucket::RateLimit;
pub use certificate::KeyPool;
pub use digest::DigestAlgorithm;
pub use fault::{Fault, Point, Refusal};
pub use ledger::{LoggedRequest, Mint};
pub use stand_in::StandIn;
pub use state::{StandInConfig, X509Type};
