//! The user that a certificate stands for.

use anyhow::{Context as _, Result};
use der::Decode as _;
use x509_cert::Certificate;

/// What mongod reads off a certificate that was verified.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The subject, last attribute first, which is the name of the user in `$external`.
    pub(super) subject: String,
    pub(super) serial_number: u128,
}

impl Identity {
    /// Of a certificate in DER.
    pub(super) fn of(certificate: &[u8]) -> Result<Self> {
        let certificate = Certificate::from_der(certificate)?;
        let fields = certificate.tbs_certificate();
        let serial_number = hex::encode(fields.serial_number().as_bytes());
        let serial_number =
            u128::from_str_radix(&serial_number, 16).context("the serial number is longer than the stand-in's ledger takes")?;
        Ok(Self { subject: fields.subject().to_string(), serial_number })
    }
}
