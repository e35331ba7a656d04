//! The answer to a request that minted. It is verified before anything is done with it.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{Words, body::ReadError};
use crate::{
    IssueError, Issued, Minted, Retry,
    api::{Reason, printable},
    atlas::MintRequest,
    certificate::{CertificatePair, Kind, PairError, PemError, read_blocks},
};

/// The most characters that a message says about an answer that cannot be used. What it quotes may be longer.
const FAULT_CHARACTERS: usize = 500;

/// Takes the pair out of the body of a 201.
///
/// The body must be PEM. Its media type does not count: the pair proves itself, and a key that fits is not thrown away because of
/// a header.
pub(super) fn verified(
    body: Result<Zeroizing<Vec<u8>>, ReadError>,
    request: &MintRequest,
    words: Words,
) -> Result<Issued, IssueError> {
    let unusable = |what: String| match words {
        Words::Quoted => unusable(&what),
        // A description of what is wrong would tell what was answered.
        Words::Withheld => unusable("it is no certificate with its key for this user"),
    };
    let body = body.map_err(|error| unusable(error.to_string()))?;
    let text = std::str::from_utf8(&body).map_err(|_| unusable("it is not text".to_owned()))?;
    read(text, request).map(|pair| Issued { pair, ca_certificate: None }).map_err(unusable)
}

/// The error for an answer that cannot be used although Atlas made a certificate.
fn unusable(what: &str) -> IssueError {
    let what = printable(what, FAULT_CHARACTERS);
    IssueError {
        reason: Reason::AtlasAnswerUnusable,
        message: format!(
            "Atlas made a certificate, but its answer cannot be used: {what}; the certificate is counted in status.unaccountedCertificates"
        ),
        retry: Retry::Backoff,
        minted: Minted::Possibly,
    }
}

fn read(body: &str, request: &MintRequest) -> Result<CertificatePair, String> {
    let text = body.trim_start();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    // A gateway may turn the text into a JSON string, so that it matches the JSON media type.
    let unquoted = text.starts_with('"').then(|| serde_json::from_str::<String>(text).map(SecretString::from));
    let pem = match &unquoted {
        Some(Ok(pem)) => pem.expose_secret(),
        Some(Err(_)) => return Err("it is neither PEM nor a JSON string".to_owned()),
        None => text,
    };
    if !pem.starts_with("-----BEGIN") {
        return Err("it is not PEM".to_owned());
    }
    expect_one_of_each(pem)?;
    let pair = CertificatePair::parse_combined(pem.as_bytes()).map_err(|error| error.to_string())?;
    match pair.verify(&request.subject, request.now) {
        // Atlas dates its certificates back by an hour. If one is not valid yet, our clock is late, and the key must not be lost
        // because of that.
        Ok(()) | Err(PairError::NotYetValid(_)) => Ok(pair),
        Err(error) => Err(error.to_string()),
    }
}

fn expect_one_of_each(pem: &str) -> Result<(), String> {
    let (mut certificates, mut keys) = (0, 0);
    let blocks = read_blocks(pem.as_bytes()).map_err(|error| match error {
        PemError::WithoutEnd { label, .. } => format!("it is cut off within the {label}"),
        error => error.to_string(),
    })?;
    for block in blocks {
        match block.kind {
            Kind::Certificate => certificates += 1,
            Kind::Pkcs8Key | Kind::Pkcs1Key | Kind::Sec1Key => keys += 1,
            Kind::EncryptedKey | Kind::OtherKey | Kind::Harmless => {
                return Err("it holds something else than a certificate and a key".to_owned());
            }
        }
    }
    if (certificates, keys) == (1, 1) {
        Ok(())
    } else {
        Err(format!("it holds {certificates} certificates and {keys} private keys instead of one of each"))
    }
}
