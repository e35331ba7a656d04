//! What the certificates of a CA must fulfil, so that databases accept what is signed below them.
//!
//! # Guarantees
//!
//! - The rules are those of OpenSSL, with which databases verify.
//! - The certificates may stand in any order in the Secret.
//!
//! # Assumptions
//!
//! - Only what the Secret holds counts: nothing is looked up elsewhere.
//!
//! # Errors
//!
//! - [`CaError`] names the certificate and what to change.

use der::{
    Encode,
    oid::{
        ObjectIdentifier,
        db::{
            rfc5280::{
                ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES, ID_CE_CRL_DISTRIBUTION_POINTS, ID_CE_EXT_KEY_USAGE,
                ID_CE_INHIBIT_ANY_POLICY, ID_CE_KEY_USAGE, ID_CE_NAME_CONSTRAINTS, ID_CE_POLICY_CONSTRAINTS,
                ID_CE_POLICY_MAPPINGS, ID_CE_SUBJECT_ALT_NAME, ID_KP_CLIENT_AUTH,
            },
            rfc6960::ID_PKIX_OCSP_NOCHECK,
        },
    },
    referenced::OwnedToRef,
};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_cert::{
    certificate::Version,
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
};

use super::CaError;
use crate::certificate::{
    Certificate, KeyAlgorithm, Link, PairError, PrivateKeySpec, Proof, Reached, SignatureError, kind_of, name_of, time_of,
};

/// The most certificates in a Secret: more CAs than anybody has above each other, and few enough to be verified in no time.
pub(super) const LONGEST_CHAIN: usize = 10;

/// The sizes in bits that the default security level of OpenSSL and the verification here both accept.
const RSA_KEY_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

const NETSCAPE_CERT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113730.1.1");

/// The critical extensions of a CA that every OpenSSL knows (`X509_supported_extension`). Those of RFC 3779 are not among them:
/// they are an option of its build.
const KNOWN_EXTENSIONS: [ObjectIdentifier; 12] = [
    ID_CE_BASIC_CONSTRAINTS,
    ID_CE_KEY_USAGE,
    ID_CE_EXT_KEY_USAGE,
    ID_CE_NAME_CONSTRAINTS,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_CRL_DISTRIBUTION_POINTS,
    ID_CE_CERTIFICATE_POLICIES,
    ID_CE_POLICY_CONSTRAINTS,
    ID_CE_POLICY_MAPPINGS,
    ID_CE_INHIBIT_ANY_POLICY,
    ID_PKIX_OCSP_NOCHECK,
    NETSCAPE_CERT_TYPE,
];

/// The certificates of a CA, put in order.
pub(super) struct Chain {
    /// The CA first, then each issuer of the one before, up to the root or to the topmost that is known.
    pub(super) path: Vec<Link>,
    /// The certificates that are handed out after a leaf. No root is among them, because whoever trusts a root has it.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// What a person should know about certificates that are in the Secret and are not handed out.
    pub(super) remarks: Vec<String>,
}

impl Chain {
    /// Puts the certificates in order, and checks those on the way from the CA to its root. If the CA is cross-signed, the
    /// shortest way to a root in date is taken, and the certificates that lead to other roots are handed out too.
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>, public_key: &[u8], now: Timestamp) -> Result<Self, CaError> {
        let links = distinct(certificates)?;
        let own = own_certificates(&links, public_key)?;
        let all = Reached::from(&own, &links, |_| true);
        let faults: Vec<Option<CaError>> = links.iter().map(|link| check_certificate(link, now).err()).collect();
        let usable = Reached::from(&own, &links, |index| faults[index].is_none());
        let way = way_up(&own, &links, &faults);
        let leads_to_root = way.as_ref().and_then(|(path, _)| path.last()).is_some_and(|end| links[*end].is_self_signed());
        if !leads_to_root {
            check_connected(&links, &all)?;
        }
        let (path, proof) = match way {
            Some(way) => way,
            None => match all.order.iter().find_map(|index| faults[*index].clone()) {
                Some(fault) => return Err(fault),
                // CAs that signed each other, without a root.
                None => usable.path(usable.order.last().copied().ok_or(CaError::KeyMismatch)?),
            },
        };
        check_path_lengths(&path, &links)?;
        let remark = |index: usize| match &faults[index] {
            _ if !all.order.contains(&index) => Some(format!("{} is not above the CA and is left out", links[index].name())),
            Some(fault) => Some(format!("{fault}; there is another way to a root, and it is left out")),
            None if proof == Proof::Presumed && path.last() == Some(&index) => Some(presumed(&links[index])),
            None => None,
        };
        let remarks = (0..links.len()).filter_map(remark).collect();
        let others = usable.order.iter().copied().filter(|index| !path.contains(index));
        let handed_on = path.iter().copied().chain(others).filter(|index| !links[*index].is_self_signed());
        Ok(Self {
            intermediates: handed_on.map(|index| links[index].encoded.clone()).collect(),
            path: path.iter().map(|index| links[*index].clone()).collect(),
            remarks,
        })
    }
}

fn presumed(root: &Link) -> String {
    let kind = kind_of(&root.certificate.tbs_certificate().subject_public_key_info().algorithm);
    format!("{} is taken for the root by its name, for keys of the kind {kind} cannot verify here", root.name())
}

/// The certificates without repetitions.
fn distinct(certificates: Vec<CertificateDer<'static>>) -> Result<Vec<Link>, CaError> {
    let mut distinct: Vec<CertificateDer<'static>> = Vec::new();
    for certificate in certificates {
        if !distinct.contains(&certificate) {
            distinct.push(certificate);
        }
        if distinct.len() > LONGEST_CHAIN {
            return Err(CaError::LongChain);
        }
    }
    distinct
        .into_iter()
        .map(Link::new)
        .collect::<Result<_, _>>()
        .map_err(|_| CaError::Certificate(PairError::UnreadableCertificate))
}

/// The certificates of the CA that has this key. It may have one from each of several issuers.
fn own_certificates(links: &[Link], public_key: &[u8]) -> Result<Vec<usize>, CaError> {
    let key = |link: &Link| link.certificate.tbs_certificate().subject_public_key_info().to_der().ok();
    let has_key = |link: &&Link| key(link).as_deref() == Some(public_key);
    let first = links.iter().find(has_key).ok_or(CaError::KeyMismatch)?;
    Ok((0..links.len()).filter(|index| links[*index].is_same_ca(first)).collect())
}

/// Checks that every certificate is above the CA. It is called only if no way leads to a root: then a certificate that is not
/// above the CA shows that one between them is missing.
fn check_connected(links: &[Link], reached: &Reached) -> Result<(), CaError> {
    let Some(left) = (0..links.len()).find(|index| !reached.order.contains(index)) else { return Ok(()) };
    for below in reached.order.iter().map(|index| &links[*index]) {
        for above in (0..links.len()).filter(|index| !reached.order.contains(index)).map(|index| &links[index]) {
            if below.is_issued_by(above) == Err(SignatureError::Unsupported) {
                check_key(above)?;
                let algorithm = kind_of(below.certificate.signature_algorithm());
                return Err(CaError::UnsupportedSignature { subject: below.name(), algorithm });
            }
        }
    }
    let has_issuer = |index: &&usize| links.iter().any(|above| links[**index].is_issued_by(above).is_ok());
    let top = reached.order.iter().find(|index| !has_issuer(index)).or(reached.order.last());
    let subject = top.map(|index| links[*index].name()).unwrap_or_default();
    Err(CaError::Unconnected { subject, left: links[left].name() })
}

/// The way up from the certificates of the CA.
///
/// 1. It leads to the nearest root. If that root has several certificates, to the one that lasts longest.
/// 2. If no root is there, it leads to the nearest certificate whose issuer is not there.
///
/// If the CA has several certificates, the first one with a way counts.
fn way_up(own: &[usize], links: &[Link], faults: &[Option<CaError>]) -> Option<(Vec<usize>, Proof)> {
    let reached: Vec<Reached> =
        own.iter().map(|begin| Reached::from(&[*begin], links, |index| faults[index].is_none())).collect();
    let has_issuer = |index: usize| links.iter().any(|above| links[index].is_issued_by(above).is_ok());
    let not_after = |index: usize| time_of(links[index].certificate.tbs_certificate().validity().not_after);
    let to_root = |reached: &Reached| {
        let roots: Vec<usize> = reached.order.iter().copied().filter(|index| links[*index].is_self_signed()).collect();
        let nearest = &links[*roots.first()?];
        let same = roots.iter().filter(|index| links[**index].is_same_ca(nearest));
        Some(reached.path(same.copied().max_by_key(|index| not_after(*index))?))
    };
    let to_top = |reached: &Reached| Some(reached.path(reached.order.iter().copied().find(|index| !has_issuer(*index))?));
    reached.iter().find_map(to_root).or_else(|| reached.iter().find_map(to_top))
}

fn check_path_lengths(path: &[usize], links: &[Link]) -> Result<(), CaError> {
    for (position, index) in path.iter().enumerate() {
        // Only certificates that are not issued to themselves count.
        let below = path.iter().take(position).filter(|below| !links[**below].is_self_issued()).count();
        if path_length(&links[*index].certificate).is_some_and(|allowed| usize::from(allowed) < below) {
            return Err(CaError::PathLength(links[*index].name()));
        }
    }
    Ok(())
}

fn check_certificate(link: &Link, now: Timestamp) -> Result<(), CaError> {
    let fields = link.certificate.tbs_certificate();
    let subject = link.name();
    if !may_sign(link) {
        return Err(CaError::NotCa(subject));
    }
    let (not_before, not_after) = (time_of(fields.validity().not_before), time_of(fields.validity().not_after));
    if not_after <= now {
        return Err(CaError::Expired { subject, not_after });
    }
    if not_before > now {
        return Err(CaError::NotYetValid { subject, not_before });
    }
    if !may_sign_for_clients(&link.certificate) {
        return Err(CaError::NotForClients(subject));
    }
    if link.is_taken_for_root() && !link.is_self_signed() {
        return Err(CaError::TakenForRoot(subject));
    }
    let mut extensions = fields.extensions().into_iter().flatten();
    if let Some(unknown) = extensions.find(|one| one.critical && !KNOWN_EXTENSIONS.contains(&one.extn_id)) {
        return Err(CaError::UnknownExtension { subject, extension: name_of(&unknown.extn_id) });
    }
    check_key(link)
}

/// Checks the key of a certificate. A root may have a kind of key that is not known here, because it is not handed out.
fn check_key(link: &Link) -> Result<(), CaError> {
    let key = link.certificate.tbs_certificate().subject_public_key_info();
    let is_root = link.is_self_signed();
    match PrivateKeySpec::of_public_key(&key.owned_to_ref()) {
        None if !is_root => Err(CaError::UnsupportedKey { subject: link.name(), kind: kind_of(&key.algorithm) }),
        Some(PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size })
            if size < *RSA_KEY_BITS.start() || size > *RSA_KEY_BITS.end() && !is_root =>
        {
            Err(CaError::RsaKeySize { subject: link.name(), bits: size })
        }
        _ => Ok(()),
    }
}

/// Whether the certificate may sign others, by the rules of OpenSSL. A root of version 1 needs no extensions, and cannot have
/// any.
fn may_sign(link: &Link) -> bool {
    let fields = link.certificate.tbs_certificate();
    let (Ok(usage), Ok(constraints)) = (fields.get_extension::<KeyUsage>(), fields.get_extension::<BasicConstraints>()) else {
        return false;
    };
    if usage.as_ref().is_some_and(|(_, usage)| !usage.key_cert_sign()) {
        return false;
    }
    match constraints {
        Some((_, constraints)) => constraints.ca,
        None => fields.version() == Version::V1 && link.is_self_signed(),
    }
}

/// Whether the certificate may sign for clients. If a CA limits its uses, OpenSSL wants the use of the leaf among them, for every
/// CA above the leaf, the root included. It does not accept `anyExtendedKeyUsage` instead.
fn may_sign_for_clients(certificate: &Certificate) -> bool {
    certificate
        .tbs_certificate()
        .get_extension::<ExtendedKeyUsage>()
        .is_ok_and(|found| found.is_none_or(|(_, usage)| usage.0.contains(&ID_KP_CLIENT_AUTH)))
}

fn path_length(certificate: &Certificate) -> Option<u8> {
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>().ok().flatten();
    constraints.and_then(|(_, constraints)| constraints.path_len_constraint)
}
