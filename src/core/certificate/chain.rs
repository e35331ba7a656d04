//! Whether the certificates of a Secret are a chain: each issued by the next, up to one in `ca.crt`.
//!
//! # Guarantees
//!
//! - Each certificate on an accepted way issued the one before, as OpenSSL decides it (see [`Link::is_issued_by`]).
//! - Only the certificates that are passed in count: nothing is looked up elsewhere.
//! - The work is bounded: at most 20 certificates are compared.
//!
//! # Assumptions
//!
//! - Whether a CA may sign (basicConstraints, key usages, name constraints) is checked where a CA is loaded, in `issuer::ca`.
//! - Dates are not judged here: [`check_leads_to`] returns the time at which the chain ends.

use std::collections::VecDeque;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use super::{
    PairError, read_certificates,
    signature::{Link, Proof},
    time_of,
};

/// The most certificates that are compared: more than any chain has, and few enough to take no time.
pub const LONGEST: usize = 20;

/// Why the certificates of a Secret are not a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// `ca.crt` cannot be read.
    #[error("ca.crt: {0}")]
    Top(#[source] PairError),
    /// A certificate in `tls.crt` cannot be read.
    #[error("tls.crt: a certificate after the first cannot be read")]
    Unreadable,
    /// There are too many certificates.
    #[error("tls.crt and ca.crt hold {0} certificates: {LONGEST} at most are a chain")]
    Long(usize),
    /// The certificates do not lead to `ca.crt`.
    #[error("tls.crt does not lead to ca.crt: the certificate that issued {0} is in neither")]
    Broken(String),
    /// The topmost certificate that is known is not a root and stands in `ca.crt` alone. Databases trust a root above it and need
    /// it in `tls.crt`.
    #[error("tls.crt lacks {0}, which is in ca.crt and is no root")]
    Lacking(String),
}

/// The result of a search upwards: the certificates that were found, and the way to each.
pub struct Reached {
    /// In the order in which they were found. Those that the search began with come first.
    pub order: Vec<usize>,
    /// For each certificate, the one below it through which it was found, and how sure that step is.
    below: Vec<Option<(usize, Proof)>>,
}

impl Reached {
    /// Searches upwards from `begin`, the nearest first, among the certificates that `is_allowed` accepts.
    pub fn from(begin: &[usize], links: &[Link], is_allowed: impl Fn(usize) -> bool) -> Self {
        let mut reached = Self { order: Vec::new(), below: vec![None; links.len()] };
        let mut found = vec![false; links.len()];
        let mut queue: VecDeque<usize> = begin.iter().copied().filter(|index| is_allowed(*index)).collect();
        for index in &queue {
            found[*index] = true;
        }
        while let Some(index) = queue.pop_front() {
            reached.order.push(index);
            for above in 0..links.len() {
                if found[above] || !is_allowed(above) {
                    continue;
                }
                if let Ok(proof) = links[index].is_issued_by(&links[above]) {
                    found[above] = true;
                    reached.below[above] = Some((index, proof));
                    queue.push_back(above);
                }
            }
        }
        reached
    }

    /// The way up to this certificate, and how sure its last step is.
    #[must_use]
    pub fn path(&self, end: usize) -> (Vec<usize>, Proof) {
        let proof = self.below[end].map_or(Proof::Verified, |(_, proof)| proof);
        let mut path = vec![end];
        while let Some((below, _)) = path.last().and_then(|last| self.below[*last]) {
            path.push(below);
        }
        path.reverse();
        (path, proof)
    }
}

/// Checks that the first certificate (the leaf) leads through the others to one in `ca.crt`, by names and signatures, at any
/// time.
///
/// The certificate in `ca.crt` is either a root, or the topmost that is known. In the second case it must be in `chain` too.
///
/// Returns when the chain ends: the time at which the first of the certificates above the leaf expires. If there are several ways
/// up, the one that lasts longest counts.
///
/// # Errors
/// [`ChainError`] says what is missing or cannot be read.
pub fn check_leads_to(chain: &[CertificateDer<'static>], ca_certificates: &[u8]) -> Result<Timestamp, ChainError> {
    let tops = read_certificates(ca_certificates).map_err(ChainError::Top)?;
    let count = chain.len() + tops.len();
    if count > LONGEST {
        return Err(ChainError::Long(count));
    }
    let links: Vec<Link> =
        chain.iter().chain(&tops).cloned().map(Link::new).collect::<Result<_, _>>().map_err(|_| ChainError::Unreadable)?;
    let ends_there = |link: &Link| link.is_taken_for_root() && !link.is_self_signed();
    let is_allowed = |index: usize| index == 0 || !ends_there(&links[index]);
    let reached = Reached::from(&[0], &links, is_allowed);
    let ends = ends_of_ways(&links, &reached.order);
    let is_top = |index: &&usize| **index > 0 && tops.contains(&links[**index].encoded);
    let is_handed_on = |index: usize| index < chain.len() || links[index].is_self_signed();
    let tops = reached.order.iter().copied().filter(|index| is_top(&index) && is_handed_on(*index));
    if let Some(not_after) = tops.filter_map(|top| ends[top]).max() {
        return Ok(not_after);
    }
    if let Some(lacking) = reached.order.iter().find(is_top) {
        return Err(ChainError::Lacking(links[*lacking].name()));
    }
    Err(ChainError::Broken(reached.order.last().map(|index| links[*index].name()).unwrap_or_default()))
}

/// For each certificate, when the way up to it ends: the time at which the first certificate on the way expires. The certificate
/// itself counts, the leaf (the first) does not. If there are several ways, the one that lasts longest counts. Only certificates
/// in `reached` can be on a way.
fn ends_of_ways(links: &[Link], reached: &[usize]) -> Vec<Option<Timestamp>> {
    let not_after = |index: usize| time_of(links[index].certificate.tbs_certificate().validity().not_after);
    let mut ends: Vec<Option<Timestamp>> = vec![None; links.len()];
    let mut left = reached.to_vec();
    let mut next = Some(0).filter(|leaf| left.contains(leaf));
    while let Some(below) = next {
        left.retain(|index| *index != below);
        for above in left.iter().copied().filter(|above| links[below].is_issued_by(&links[*above]).is_ok()) {
            let end = ends[below].map_or(not_after(above), |end| end.min(not_after(above)));
            ends[above] = ends[above].max(Some(end));
        }
        next = left.iter().copied().filter(|index| ends[*index].is_some()).max_by_key(|index| ends[*index]);
    }
    ends
}
