//! What has to hold of every text that people will read.

use std::collections::HashSet;

/// A shorter piece says nothing, and would be met by chance.
const PIECE: usize = 20;

/// Pieces of fewer different bytes, such as the zeros of a padding, look alike wherever they come from.
const DIFFERENT_BYTES: usize = 8;

/// Keys in PEM, passwords and tokens have digits all over; words of ours, which a fuzzer learns to write, have not.
const RUNS_OF_DIGITS: usize = 2;

/// The longest message. The API server takes far longer ones, but a person reads this in a condition.
const LONGEST_MESSAGE: usize = 4096;

/// No piece of what may be secret is in the text.
pub fn assert_keeps_secret(text: &str, secret: &[u8]) {
    assert_keeps_secret_beside(text, secret, "");
}

/// No piece of what may be secret is in the text, unless somebody wrote it where nobody keeps secrets.
pub fn assert_keeps_secret_beside(text: &str, secret: &[u8], open: &str) {
    let pieces: HashSet<&[u8]> = text.as_bytes().windows(PIECE).collect();
    let open: HashSet<&[u8]> = open.as_bytes().windows(PIECE).collect();
    let leaked = secret.windows(PIECE).find(|piece| pieces.contains(piece) && !open.contains(piece) && is_telling(piece));
    assert!(leaked.is_none(), "a piece of the input, {:?}, is in: {text}", leaked.map(String::from_utf8_lossy));
}

/// Whether it looks like a part of a secret. Numbers, which messages have too, are hexadecimal.
fn is_telling(piece: &[u8]) -> bool {
    let is_of_secrets = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte);
    let runs =
        piece.chunk_by(|one, other| one.is_ascii_digit() == other.is_ascii_digit()).filter(|run| run[0].is_ascii_digit());
    piece.iter().all(is_of_secrets)
        && !piece.iter().all(u8::is_ascii_hexdigit)
        && runs.count() >= RUNS_OF_DIGITS
        && piece.iter().collect::<HashSet<_>>().len() >= DIFFERENT_BYTES
}

/// A message for a condition is short and has nothing in it that a terminal would act on.
pub fn assert_readable(message: &str) {
    assert!(!message.chars().any(char::is_control), "control characters are in: {message:?}");
    assert!(message.chars().count() <= LONGEST_MESSAGE, "{} bytes are in one message: {message}", message.len());
}
