//! Serial numbers of certificates.

use std::{borrow::Borrow, fmt};

/// A serial number, in upper-case hexadecimal as `openssl x509 -serial` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber(String);

impl SerialNumber {
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
