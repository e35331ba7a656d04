//! The Secret of a certificate: what is written to it, and what is read from it. The data itself is made in [`layout`](crate::layout).

mod ownership;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use self::{
    ownership::{other_owners, ownership, with_metadata},
    read::{ReadSecret, ca_certificate, chain_digest, read, recall, sha256},
    write::{Additions, NamedPassword, PreviousPair, SecretContent, placeholder, placeholder_patch},
};
pub(super) use self::{
    read::{first_pair, held_by},
    write::labels,
};
