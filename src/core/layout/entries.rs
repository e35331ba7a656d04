//! The data of a Secret.

use std::{collections::BTreeMap, fmt};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{
    api::{
        DatabaseUserCertificateSpec, FormatType, SecretFormat,
        names::{
            CA_CERTIFICATE, KEYSTORE_PASSWORD, PREVIOUS_CERTIFICATE, PREVIOUS_COMBINED, PREVIOUS_PRIVATE_KEY, TLS_CERTIFICATE,
            TLS_COMBINED, TLS_PRIVATE_KEY,
        },
    },
    certificate::{CertificatePair, encode_keystore},
    connection,
};

/// The longest password of a keystore, in bytes: the `openssl` command cuts passwords of 1024 bytes and more.
const PASSWORD_BYTES: usize = 512;

/// What the entries are made from.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// What the object asks for.
    pub spec: &'a DatabaseUserCertificateSpec,
    /// The certificate and its key.
    pub pair: &'a CertificatePair,
    /// PEM for `ca.crt`.
    pub ca_certificate: Option<&'a str>,
    /// The pair before this one.
    pub previous: Previous<'a>,
    /// The password of the keystore. `None` if it is not known now: then the keystore stays as it is, unless it goes.
    pub keystore_password: Option<&'a KeystorePassword>,
    /// Whether a keystore that cannot be made anew goes: its pair is of no use any more, or there is none.
    pub keystore_goes: bool,
}

/// The pair before the present one.
#[derive(Clone, Copy)]
pub enum Previous<'a> {
    /// None is kept.
    Nothing,
    /// This one is kept.
    Kept(&'a CertificatePair),
    /// What there is stays as it is, because it is not known.
    Untouched,
}

/// The password of the keystore.
#[derive(Clone)]
pub enum KeystorePassword {
    /// From the Secret that the spec names.
    Named(SecretString),
    /// Made by this operator. It stands in the Secret beside the keystore.
    Made(SecretString),
    /// There is none that can be used. The text says why, and what to change.
    Unusable(String),
}

impl fmt::Debug for KeystorePassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Named(_) => "Named([redacted])",
            Self::Made(_) => "Made([redacted])",
            Self::Unusable(_) => "Unusable",
        })
    }
}

/// What is to become of one entry.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// It holds these bytes.
    Value(Zeroizing<Vec<u8>>),
    /// It is not there.
    Absent,
    /// It stays as it is, because it is not known what it is to hold.
    Untouched,
    /// It stays as it is, because it cannot be made. The text says what to change.
    Unavailable(String),
    /// It goes: it cannot be made, and what it was is of no use any more. The text says what to change.
    Gone(String),
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => formatter.write_str("Value([redacted])"),
            Self::Absent => formatter.write_str("Absent"),
            Self::Untouched => formatter.write_str("Untouched"),
            Self::Unavailable(why) => write!(formatter, "Unavailable({why:?})"),
            Self::Gone(why) => write!(formatter, "Gone({why:?})"),
        }
    }
}

impl Entry {
    /// From a text that is public, or is wiped by its own type.
    fn text(text: &str) -> Self {
        Self::Value(Zeroizing::new(text.as_bytes().to_vec()))
    }

    /// From a text; an empty one makes no entry.
    fn text_if_any(text: &str) -> Self {
        if text.is_empty() { Self::Absent } else { Self::text(text) }
    }

    /// What becomes of a keystore that cannot be made anew.
    fn keystore_without(fault: &str, goes: bool) -> Self {
        if goes {
            Self::Gone(format!("there is no keystore, for one whose pair is of no use does not stay: {fault}"))
        } else {
            Self::Unavailable(format!("the keystore is not written, and one that is there stays as it is: {fault}"))
        }
    }
}

/// All entries of the Secret. Those that are not named here are others' and stay.
///
/// A further source of entries is one more line here. Its names belong into [`wanted_keys`], and what it reads of the spec into
/// [`digest`](super::digest).
#[must_use]
pub fn entries(content: &Content<'_>) -> BTreeMap<String, Entry> {
    let always = of_pair(content.pair, [TLS_CERTIFICATE, TLS_PRIVATE_KEY, TLS_COMBINED]);
    let ca = [(CA_CERTIFICATE.to_owned(), Entry::text_if_any(content.ca_certificate.unwrap_or_default()))];
    let formats = content.spec.formats.iter().map(|format| (format.key().to_owned(), formatted(content, format)));
    let mut all: BTreeMap<String, Entry> = formats.collect();
    all.extend(made_password(content));
    all.extend(previous(content));
    all.extend(ca);
    all.extend(always);
    all.extend(of_connection(content, &all));
    all
}

/// The names of the entries that [`entries`] may make for this spec.
#[must_use]
pub fn wanted_keys(spec: &DatabaseUserCertificateSpec) -> Vec<&str> {
    let always = [TLS_CERTIFICATE, TLS_PRIVATE_KEY, TLS_COMBINED, CA_CERTIFICATE];
    let optional = [KEYSTORE_PASSWORD, PREVIOUS_CERTIFICATE, PREVIOUS_PRIVATE_KEY, PREVIOUS_COMBINED];
    let of_connection = spec.connection.iter().flat_map(|_| connection::ENTRY_NAMES);
    always.into_iter().chain(optional).chain(spec.formats.iter().map(SecretFormat::key)).chain(of_connection).collect()
}

/// The names that [`entries`] gives to further entries by itself, whatever the spec: those of connections, and those of formats that have no
/// name of their own.
#[must_use]
pub fn standard_keys() -> Vec<&'static str> {
    let formats = [FormatType::Pkcs12, FormatType::Pkcs8Der, FormatType::CombinedPem, FormatType::Chain, FormatType::Ca];
    formats.map(FormatType::default_key).into_iter().chain(connection::ENTRY_NAMES).collect()
}

/// The keystore that the spec asks for; there is one at most.
#[must_use]
pub fn keystore_format(spec: &DatabaseUserCertificateSpec) -> Option<&SecretFormat> {
    spec.formats.iter().find(|format| format.type_ == FormatType::Pkcs12)
}

/// Checks what is to be the password of a keystore.
///
/// # Errors
/// What is wrong with it, as the end of a sentence. It holds no part of the password.
pub fn check_keystore_password(password: &[u8]) -> Result<SecretString, &'static str> {
    if password.is_empty() {
        return Err("is empty");
    }
    if password.len() > PASSWORD_BYTES {
        return Err("has more than 512 characters");
    }
    // Java takes no other characters in the password of a keystore.
    let text = str::from_utf8(password).ok().filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let text = text.ok_or("has a character that is not printable ASCII, such as a line break at its end")?;
    Ok(text.to_owned().into())
}

fn of_pair(pair: &CertificatePair, [certificate, key, combined]: [&str; 3]) -> [(String, Entry); 3] {
    [
        (certificate.to_owned(), Entry::text(&pair.certificates_pem())),
        (key.to_owned(), Entry::text(pair.key_pem().expose_secret())),
        (combined.to_owned(), Entry::text(pair.combined_pem().expose_secret())),
    ]
}

fn formatted(content: &Content<'_>, format: &SecretFormat) -> Entry {
    match format.type_ {
        FormatType::Pkcs12 => keystore(content, format.alias()),
        FormatType::Pkcs8Der => Entry::Value(content.pair.key_der()),
        FormatType::CombinedPem => Entry::text(content.pair.combined_pem().expose_secret()),
        FormatType::Chain => Entry::text_if_any(&content.pair.intermediates_pem()),
        FormatType::Ca => Entry::text_if_any(content.ca_certificate.unwrap_or_default()),
    }
}

fn keystore(content: &Content<'_>, alias: &str) -> Entry {
    match content.keystore_password {
        None if content.keystore_goes => Entry::Absent,
        None => Entry::Untouched,
        Some(KeystorePassword::Unusable(fault)) => Entry::keystore_without(fault, content.keystore_goes),
        Some(KeystorePassword::Named(password) | KeystorePassword::Made(password)) => {
            match encode_keystore(content.pair, alias, password) {
                Ok(keystore) => Entry::Value(keystore),
                Err(error) => Entry::keystore_without(&error.to_string(), content.keystore_goes),
            }
        }
    }
}

/// The keystore among these entries; there is none if the spec asks for none.
#[must_use]
pub fn keystore_entry<'a>(spec: &DatabaseUserCertificateSpec, entries: &'a BTreeMap<String, Entry>) -> Option<&'a Entry> {
    entries.get(keystore_format(spec)?.key())
}

/// The password that this operator made; a named one takes its place. It stays beside a keystore that cannot be made anew.
fn made_password(content: &Content<'_>) -> Option<(String, Entry)> {
    let is_named = keystore_format(content.spec)?.password_secret_ref.is_some();
    let entry = match content.keystore_password {
        // It opens nothing any more.
        Some(KeystorePassword::Unusable(_)) if is_named && content.keystore_goes => Entry::Absent,
        Some(KeystorePassword::Unusable(why)) => Entry::Unavailable(why.clone()),
        Some(KeystorePassword::Made(password)) if !is_named => Entry::text(password.expose_secret()),
        Some(KeystorePassword::Named(_) | KeystorePassword::Made(_)) => Entry::Absent,
        None => Entry::Untouched,
    };
    Some((KEYSTORE_PASSWORD.to_owned(), entry))
}

/// What tells clients how to reach the database. Copies are of what the Secret holds besides.
fn of_connection(content: &Content<'_>, others: &BTreeMap<String, Entry>) -> Vec<(String, Entry)> {
    let entry = |told| match told {
        connection::Entry::Text(text) => Entry::text(&text),
        connection::Entry::CopyOf(name) => others.get(name).cloned().unwrap_or(Entry::Absent),
    };
    let told = connection::entries(content.spec, &content.pair.facts().subject);
    told.into_iter().map(|(name, told)| (name.to_owned(), entry(told))).collect()
}

fn previous(content: &Content<'_>) -> Vec<(String, Entry)> {
    let names = [PREVIOUS_CERTIFICATE, PREVIOUS_PRIVATE_KEY, PREVIOUS_COMBINED];
    match content.previous {
        Previous::Nothing => Vec::new(),
        Previous::Kept(pair) => of_pair(pair, names).into(),
        Previous::Untouched => names.map(|name| (name.to_owned(), Entry::Untouched)).into(),
    }
}
