//! What a Secret holds: the entries that are made from a certificate, and which of them, with labels and annotations, are there because the
//! spec asks for them.
//!
//! # Guarantees
//!
//! - [`entries`] is the one place where the data of a Secret is made. The same inputs give the same bytes, so a Secret is complete if its data
//!   equals what would be written.
//! - A spec that asks for nothing more has the empty layout, which leaves no trace in the Secret.

mod entries;
mod previous;
mod record;
mod reloader;
#[cfg(test)]
mod tests;

pub use entries::{
    Content, Entry, KeystorePassword, Previous, check_keystore_password, entries, keystore_entry, keystore_format,
    standard_keys, wanted_keys,
};
pub use previous::{FormerPair, former_pair, former_pair_in_keystore, has_useless_keystore};
pub use record::{LayoutRecord, digest};
pub use reloader::take_over_from_reloader;
