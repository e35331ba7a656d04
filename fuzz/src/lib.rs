//! Everything that reads bytes from outside, as functions of bytes that must return: no panic, and in bounded time and memory, which
//! whoever calls them watches. Besides that each states what has to hold of whatever was read.
//!
//! `cargo fuzz` calls them by `fuzz_targets/`, guided by coverage and for as long as one likes (`make fuzz`). `tests/corpus` calls
//! them with the checked-in `corpus/` and with mutations of it that follow from a seed (`make unit`).
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a target panics when it has found a fault, and for that alone"
)]

mod arguments;
mod atlas;
mod ca;
mod ca_bundle;
mod certificate;
mod decision;
mod digest;
mod exchange;
mod issuer;
mod kubernetes;
mod lease;
mod names;
mod oracle;
mod secret;

pub use arguments::arguments;
pub use atlas::{atlas_answer, atlas_object};
pub use ca::ca_secret;
pub use ca_bundle::ca_bundle;
pub use certificate::{certificate_pair, private_key};
pub use decision::decision;
pub use digest::digest_challenge;
pub use exchange::atlas_exchange;
pub use issuer::issuer;
pub use kubernetes::kubernetes_status;
pub use lease::lease;
pub use names::{duration, subject};
pub use secret::secret;

use jiff::Timestamp;

/// A target and its name, which is that of its file in `fuzz_targets/` and of its folder in `corpus/`.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The function. It panics when it has found a fault.
    pub run: fn(&[u8]) -> Outcome,
}

/// How far an input got. One that gets nowhere checks nothing, which nobody would notice of a checked-in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It does not have the form that the target reads, or nothing came of it.
    Unread,
    /// It went to what is fuzzed, which took it or refused it.
    Read,
}

/// All targets.
pub const TARGETS: [Target; 16] = [
    Target { name: "arguments", run: arguments },
    Target { name: "atlas_answer", run: atlas_answer },
    Target { name: "atlas_exchange", run: atlas_exchange },
    Target { name: "atlas_object", run: atlas_object },
    Target { name: "ca_bundle", run: ca_bundle },
    Target { name: "ca_secret", run: ca_secret },
    Target { name: "certificate_pair", run: certificate_pair },
    Target { name: "decision", run: decision },
    Target { name: "digest_challenge", run: digest_challenge },
    Target { name: "duration", run: duration },
    Target { name: "issuer", run: issuer },
    Target { name: "kubernetes_status", run: kubernetes_status },
    Target { name: "lease", run: lease },
    Target { name: "private_key", run: private_key },
    Target { name: "secret", run: secret },
    Target { name: "subject", run: subject },
];

/// In seconds.
const START_OF_YEAR_0: i64 = -62_167_219_200;

/// The time at which everything happens; the certificates of the corpus are valid then.
fn now() -> Timestamp {
    Timestamp::from_second(1_796_000_000).expect("a time in 2026")
}

/// Two texts in one input: what is before and after the first NUL, which no text in PEM or JSON has. Without one, both are the whole.
fn two_texts(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, data),
    }
}
