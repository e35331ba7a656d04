//! How the certificates of a text belong together.

use usercert_operator_core::{
    api::names::{CA_CERTIFICATE, TLS_CERTIFICATE},
    certificate::{CertificatePair, ChainError, LONGEST, Link, Reached, SignatureError, pem_text},
};

use super::inspection::Place;

/// The label of a certificate in PEM (RFC 7468).
const CERTIFICATE: &str = "CERTIFICATE";

/// What the certificates and the CA stand in, as people call it: entries of a Secret, or files.
pub(super) struct Places {
    pub(super) certificates: String,
    pub(super) ca: String,
}

impl Default for Places {
    fn default() -> Self {
        Self { certificates: TLS_CERTIFICATE.to_owned(), ca: CA_CERTIFICATE.to_owned() }
    }
}

impl Places {
    /// Why the certificates do not lead to the CA.
    pub(super) fn told(&self, fault: &ChainError) -> String {
        let Self { certificates, ca } = self;
        match fault {
            ChainError::Top(fault) => format!("{ca}: {fault}"),
            ChainError::Unreadable => format!("{certificates}: a certificate after the first cannot be read"),
            ChainError::Long(count) => {
                format!("{certificates} and {ca} hold {count} certificates: {LONGEST} at most are a chain")
            }
            ChainError::Broken(name) => {
                format!("{certificates} does not lead to {ca}: the certificate that issued {name} is in neither")
            }
            ChainError::Lacking(name) => format!("{certificates} lacks {name}, which is in {ca} and is no root"),
        }
    }
}

/// Where each certificate stands, and what is wrong with that. Programs take the first one for their own, whichever the key fits.
///
/// More than [`LONGEST`] certificates are not compared: the work grows with the square of their number.
pub(super) fn places_of(links: &[Link], key: &[u8]) -> (Vec<Place>, Vec<String>) {
    let count = links.len();
    let fitting = links.iter().position(|link| fits(link, key));
    // CAs without the key of one of them are no chain: databases trust each of them, as while a CA is replaced.
    let is_bundle = fitting.is_none() && links.first().is_some_and(Link::is_taken_for_root);
    if count > LONGEST {
        let places = (0..count).map(|index| if index == 0 { Place::Leaf } else { Place::Above });
        let long = (!is_bundle).then(|| format!("there are {count} certificates: {LONGEST} at most are a chain"));
        return (places.collect(), long.into_iter().collect());
    }
    let leaf = fitting.unwrap_or_default();
    let mut places = vec![Place::Beside; count];
    for index in Reached::from(&[leaf], links, |_| true).order {
        places[index] = if index == leaf { Place::Leaf } else { Place::Above };
    }
    // What cannot be verified here is not called wrong.
    let is_unverified = |index: usize| {
        let mut below = (0..count).filter(|below| places[*below] != Place::Beside);
        below.any(|below| links[below].is_issued_by(&links[index]) == Err(SignatureError::Unsupported))
    };
    let name = |index: usize| format!("certificate {} ({})", index + 1, links[index].name());
    let order = (leaf > 0).then(|| format!("the private key fits {}, which must stand first", name(leaf)));
    let beside = (0..count).filter(|index| !is_bundle && places[*index] == Place::Beside && !is_unverified(*index));
    let beside = beside.map(|index| format!("{} has signed none of the others that are needed: take it out", name(index)));
    let faults = order.into_iter().chain(beside).collect();
    (places, faults)
}

fn fits(link: &Link, key: &[u8]) -> bool {
    CertificatePair::parse(pem_text(CERTIFICATE, &link.encoded).as_bytes(), key).is_ok()
}
