//! What was minted, and what was asked.

use jiff::Timestamp;
use serde::Serialize;

/// A certificate that was minted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mint {
    /// When.
    pub time: Timestamp,
    /// The project.
    pub project_id: String,
    /// The database user.
    pub username: String,
    /// The serial number, `_id` of the list.
    pub serial: i64,
    /// Start of validity, `createdAt` of the list.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The certificate.
    #[serde(skip)]
    pub certificate_pem: String,
    /// Its key, so that tests can look for it where it must not be.
    #[serde(skip)]
    pub key_pem: String,
}

impl Mint {
    /// The serial number as `openssl x509 -serial` prints it.
    #[must_use]
    pub fn serial_hexadecimal(&self) -> String {
        let text = format!("{:X}", self.serial);
        if text.len() % 2 == 0 { text } else { format!("0{text}") }
    }
}

/// A request that was received.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// The method.
    pub method: String,
    /// The request target as it was sent.
    pub target: String,
    /// Whether it proved to know a key.
    pub authenticated: bool,
    /// The status that was answered; 0 if the connection was closed instead.
    pub status: u16,
}
