//! Serial numbers of certificates.

use std::{borrow::Borrow, fmt};

/// More digits than any serial number has: RFC 5280 section 4.1.2.2 allows twenty bytes, and some CAs do not keep to that.
const MOST_DIGITS: usize = 64;

/// A serial number, in upper-case hexadecimal as `openssl x509 -serial` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber(String);

impl SerialNumber {
    /// Reads a serial number as people copy it: hexadecimal digits of either case, with `0x` before them, or in pairs with colons between them
    /// as `openssl x509 -text` prints them. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("0x").unwrap_or(text);
        let is_in_pairs = || text.split(':').all(|pair| pair.len() == 2);
        if text.contains(':') && !is_in_pairs() {
            return None;
        }
        let digits = text.replace(':', "").to_ascii_uppercase();
        let is_number = (1..=MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let significant = digits.trim_start_matches('0');
        // Whole bytes, and at least one.
        let width = significant.len().max(1).next_multiple_of(2);
        is_number.then(|| Self(format!("{significant:0>width$}")))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for SerialNumber {
    /// As a status or an annotation has it.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SerialNumber {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<SerialNumber> for String {
    fn from(serial_number: SerialNumber) -> Self {
        serial_number.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for SerialNumber {
    fn borrow(&self) -> &str {
        &self.0
    }
}
