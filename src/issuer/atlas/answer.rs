//! The answer to a request that minted. It is verified before anything is done with it.

use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use usercert_operator_core::text::count;
use zeroize::Zeroizing;

use super::{Words, body::ReadError};
use crate::{
    IssueError, Issued, Minted, Retry,
    api::{Reason, printable},
    atlas::MintRequest,
    certificate::{CertificatePair, Kind, Link, PairError, PemError, PrivateKey, Reached, read_blocks, read_certificates},
};

/// The most characters that a message says about an answer that cannot be used. What it quotes may be longer.
const FAULT_CHARACTERS: usize = 500;

/// The most certificates above the one that was asked for: more than any chain has.
const MOST_ABOVE: usize = 10;

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
    expect_certificate_and_key(pem)?;
    let pair = leaf_first(pem.as_bytes()).map_err(|error| error.to_string())?;
    match pair.verify(&request.subject, request.now) {
        // Atlas dates its certificates back by an hour. If one is not valid yet, our clock is late, and the key must not be lost
        // because of that.
        Ok(()) | Err(PairError::NotYetValid(_)) => Ok(pair),
        Err(error) => Err(error.to_string()),
    }
}

fn expect_certificate_and_key(pem: &str) -> Result<(), String> {
    let (mut certificates, mut keys) = (0, 0);
    let blocks = read_blocks(pem.as_bytes()).map_err(|error| match error {
        PemError::WithoutEnd { label, .. } => format!("it is cut off within the {label}"),
        error => error.to_string(),
    })?;
    for block in blocks {
        match block.kind {
            Kind::Certificate => certificates += 1,
            Kind::Pkcs8Key | Kind::Pkcs1Key | Kind::Sec1Key => keys += 1,
            Kind::Harmless => {}
            Kind::EncryptedKey | Kind::OtherKey => {
                return Err("it holds a private key that cannot be read here".to_owned());
            }
        }
    }
    if certificates > 0 && keys == 1 {
        Ok(())
    } else {
        let [certificates, keys] = [count(certificates, "certificate"), count(keys, "private key")];
        Err(format!("it holds {certificates} and {keys} instead of a certificate and its key"))
    }
}

/// The certificate that the key fits, and after it those above it without the root, as a Secret of the type `kubernetes.io/tls` has them. Further
/// certificates are left out: a program that reads the Secret may refuse what is no chain.
///
/// Today Atlas answers with one certificate. If it adds others one day, the key must not be lost for that.
fn leaf_first(pem: &[u8]) -> Result<CertificatePair, PairError> {
    let (certificates, key) = (read_certificates(pem)?, PrivateKey::from_pem(pem)?);
    let pair_of = |leaf: &CertificateDer<'static>| CertificatePair::new(vec![leaf.clone()], key.clone());
    let Some((leaf, pair)) = certificates.iter().enumerate().find_map(|(leaf, one)| Some((leaf, pair_of(one).ok()?))) else {
        return CertificatePair::new(certificates, key);
    };
    let links: Result<Vec<Link>, _> = certificates.into_iter().map(Link::new).collect();
    let links = links.map_err(|_| PairError::UnreadableCertificate)?;
    let is_handed_on = |index: usize| index == leaf || !links[index].is_self_signed();
    let above = Reached::from(&[leaf], &links, is_handed_on).order.into_iter().skip(1);
    let above: Vec<CertificateDer<'static>> = above.take(MOST_ABOVE).map(|index| links[index].encoded.clone()).collect();
    Ok(pair.with_chain(&above))
}
