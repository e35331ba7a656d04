//! The certificates, shaped as Atlas's are.

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RsaKeySize, SerialNumber, string::PrintableString,
};
use time::OffsetDateTime;

use super::ledger::Mint;
use crate::evidence;

const POOL_SIZE: usize = 3;

/// RSA keys of 4,096 bits, as Atlas makes them, made once: they take seconds each.
#[derive(Clone)]
pub struct KeyPool(Arc<Vec<KeyPair>>);

impl KeyPool {
    /// Reads the pool from a directory, and makes what is missing. Keys of the stand-in protect nothing.
    ///
    /// # Errors
    /// The directory cannot be written or holds something else than keys.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("could not make {}", directory.display()))?;
        let keys = (0..POOL_SIZE).map(|number| {
            let file = directory.join(format!("rsa-4096-{number}.pem"));
            if let Ok(pem) = fs::read_to_string(&file) {
                return Ok(KeyPair::from_pem(&pem)?);
            }
            let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?;
            // Several processes may do the same at once: a rename leaves no half-written file.
            let temporary = directory.join(format!(".{number}-{}-{:?}", std::process::id(), SystemTime::now()));
            fs::write(&temporary, key.serialize_pem())?;
            fs::rename(&temporary, &file)?;
            Ok(key)
        });
        let keys: Vec<KeyPair> = keys.collect::<Result<_>>()?;
        for key in &keys {
            evidence::secret(&key.serialize_pem().replace("\r\n", "\n"));
        }
        Ok(Self(Arc::new(keys)))
    }

    fn key(&self, number: usize) -> Option<&KeyPair> {
        self.0.get(number % self.0.len().max(1))
    }

    pub(super) fn key_pem(&self, number: usize) -> Option<String> {
        self.key(number).map(KeyPair::serialize_pem)
    }
}

/// What is asked for.
pub(super) struct Order<'a> {
    pub(super) project_id: &'a str,
    pub(super) username: &'a str,
    /// The common name; the user's, except to play a fault.
    pub(super) common_name: &'a str,
    pub(super) months: i64,
    /// The end of validity, if it is not so many months from now.
    pub(super) not_after: Option<Timestamp>,
    pub(super) serial: i64,
    pub(super) now: Timestamp,
}

/// Mints one certificate: subject CN only, backdated by an hour, valid for calendar months, for client authentication.
pub(super) fn mint(pool: &KeyPool, order: &Order<'_>) -> Result<Mint> {
    let number = usize::try_from(order.serial.rem_euclid(1000))?;
    let (key, issuer_key) = (pool.key(number).context("the pool is empty")?, pool.key(0).context("the pool is empty")?);
    let not_before = order.now - Span::new().hours(1);
    let not_after = match order.not_after {
        Some(not_after) => not_after,
        None => order.now.to_zoned(TimeZone::UTC).checked_add(Span::new().months(order.months))?.timestamp(),
    };

    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = names(&[(DnType::CommonName, order.common_name)]);
    parameters.not_before = OffsetDateTime::from_unix_timestamp(not_before.as_second())?;
    parameters.not_after = OffsetDateTime::from_unix_timestamp(not_after.as_second())?;
    parameters.serial_number = Some(SerialNumber::from_slice(&order.serial.to_be_bytes()));
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // extKeyUsage (2.5.29.37) with clientAuth (1.3.6.1.5.5.7.3.2), critical as Atlas has it.
    let mut usage = CustomExtension::from_oid_content(
        &[2, 5, 29, 37],
        vec![0x30, 0x0A, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
    );
    usage.set_criticality(true);
    parameters.custom_extensions = vec![usage];

    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = names(&[
        (DnType::OrganizationName, "MongoDB Inc"),
        (DnType::OrganizationalUnitName, "Atlas"),
        (DnType::CommonName, order.project_id),
    ]);
    let certificate = parameters.signed_by(key, &Issuer::from_params(&issuer, issuer_key))?;
    evidence::secret(&certificate.pem().replace("\r\n", "\n"));
    Ok(Mint {
        time: order.now,
        project_id: order.project_id.to_owned(),
        username: order.username.to_owned(),
        serial: order.serial,
        not_before,
        not_after,
        certificate_pem: certificate.pem().replace("\r\n", "\n"),
        key_pem: key.serialize_pem().replace("\r\n", "\n"),
    })
}

/// As Atlas encodes names: `PrintableString` where their letters allow it.
fn names(attributes: &[(DnType, &str)]) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    for (type_, value) in attributes {
        let value = PrintableString::try_from(*value).map_or_else(|_| DnValue::from(*value), DnValue::PrintableString);
        names.push(type_.clone(), value);
    }
    names
}
