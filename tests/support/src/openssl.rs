//! OpenSSL as an oracle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::command::output_with_input;

/// What `openssl` prints with these arguments and this text as its input.
///
/// # Panics
/// It cannot be run, or fails.
#[allow(clippy::must_use_candidate, reason = "what it verifies is the answer")]
pub fn openssl(arguments: &[&str], input: &str) -> String {
    let output = output_with_input(Command::new("openssl").args(arguments), input).unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A new folder for files that OpenSSL wants by name. Whoever asks for it removes it.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn tempfile() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("usercert-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
