//! Which subjects the CAs of a chain permit (RFC 5280 section 4.2.1.10).
//!
//! The rules are those of OpenSSL, because databases verify with it. A name is compared only with subtrees of its own kind. The
//! common name of a certificate without alternative names counts as a DNS name if it looks like one.

use std::sync::Arc;

use der::oid::db::{rfc3280::EMAIL_ADDRESS, rfc4519::CN};
use x509_cert::{
    ext::pkix::{
        NameConstraints as Extension, SubjectAltName,
        constraints::name::{GeneralSubtree, GeneralSubtrees},
        name::GeneralName,
    },
    name::Name,
};

use super::{
    Certificate, Subject,
    canonical::{CanonicalName, is_readable, text_of},
};

/// The most permitted subtrees of a CA that a message names.
const NAMED_SUBTREES: usize = 3;

const EMAIL_ADDRESSES: &str = "email addresses";

/// The subtrees that the CAs of a chain permit and exclude. The default permits every name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameConstraints(Arc<[Constraints]>);

/// The constraints of one CA.
#[derive(Debug, PartialEq)]
struct Constraints {
    ca: Subject,
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

#[derive(Debug, PartialEq)]
struct Subtree {
    base: ComparedName,
    /// Whether it has a minimum other than 0, or a maximum. OpenSSL then refuses every name of this kind.
    has_distance: bool,
}

/// A name in a certificate, or the base of a subtree.
#[derive(Debug, PartialEq)]
enum ComparedName {
    Directory(CanonicalName, Subject),
    Dns(String),
    /// A kind of name that this operator neither signs nor compares. The certificate of a CA may have such names.
    Other(&'static str),
}

/// A name that a CA does not permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameViolation(String);

/// A chain whose name constraints cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameConstraintsError {
    /// An extension cannot be read.
    #[error("the CA {ca} has {extension} that cannot be read: have it issued again without them")]
    Unreadable {
        /// The CA.
        ca: String,
        /// What cannot be read.
        extension: &'static str,
    },
    /// A CA has a name that a CA above it does not permit. Databases refuse all that it signs.
    #[error("the CA {ca} has a name that a CA above it does not permit: {violation}")]
    CaNotPermitted {
        /// The CA.
        ca: String,
        /// Which subtree does not permit it.
        violation: NameViolation,
    },
}

impl NameConstraints {
    /// Reads the constraints of a chain: the CA first, then those above it, the root included. The constraints of each CA bind
    /// the CAs below it too, except those that are issued to themselves (subject and issuer are the same name).
    ///
    /// # Errors
    /// An extension cannot be read, or one CA is outside of what another permits.
    pub fn of_chain(chain: &[Certificate]) -> Result<Self, NameConstraintsError> {
        let mut above: Vec<Constraints> = Vec::new();
        for certificate in chain.iter().rev() {
            if !above.is_empty() && !is_self_issued(certificate) {
                let names = names_of_ca(certificate)?;
                let not_permitted = |violation| NameConstraintsError::CaNotPermitted { ca: subject_of(certificate), violation };
                above.iter().try_for_each(|constraints| constraints.check(&names)).map_err(not_permitted)?;
            }
            above.extend(Constraints::of(certificate)?);
        }
        Ok(Self(above.into()))
    }

    /// Checks that a certificate for this subject and without alternative names is permitted.
    ///
    /// # Errors
    /// The sentence names the CA and the subtree.
    pub fn check(&self, subject: &Subject) -> Result<(), NameViolation> {
        let mut names = names_in(subject.name());
        let common_names = subject.name().iter().filter(|attribute| attribute.oid == CN);
        let common_names = common_names.filter_map(|attribute| text_of(&attribute.value));
        names.extend(common_names.filter(|name| is_like_dns_name(name)).map(ComparedName::Dns));
        self.0.iter().try_for_each(|constraints| constraints.check(&names))
    }
}

impl Constraints {
    fn of(certificate: &Certificate) -> Result<Option<Self>, NameConstraintsError> {
        let fields = certificate.tbs_certificate();
        let extension = fields.get_extension::<Extension>().map_err(|_| unreadable(certificate, "nameConstraints"))?;
        let Some((_, extension)) = extension else { return Ok(None) };
        let subtrees = |found: Option<GeneralSubtrees>| found.into_iter().flatten().map(Subtree::new).collect::<Option<_>>();
        let (permitted, excluded) = (subtrees(extension.permitted_subtrees), subtrees(extension.excluded_subtrees));
        let Some((permitted, excluded)) = permitted.zip(excluded) else {
            return Err(unreadable(certificate, "nameConstraints"));
        };
        Ok(Some(Self { ca: fields.subject().clone().into(), permitted, excluded }))
    }

    fn check(&self, names: &[ComparedName]) -> Result<(), NameViolation> {
        names.iter().try_for_each(|name| self.check_name(name))
    }

    /// Only subtrees of the kind of the name count:
    ///
    /// - If any are permitted, the name must be in one of them.
    /// - The name must not be in an excluded one.
    fn check_name(&self, name: &ComparedName) -> Result<(), NameViolation> {
        let kind = name.kind();
        let of_its_kind = |subtree: &&Subtree| subtree.base.kind() == kind;
        let permitted: Vec<&Subtree> = self.permitted.iter().filter(of_its_kind).collect();
        let excluded: Vec<&Subtree> = self.excluded.iter().filter(of_its_kind).collect();
        let violation = |why: String| Err(NameViolation(format!("the nameConstraints of the CA {} {why}", self.ca)));

        let Some(one) = permitted.first().or(excluded.first()) else { return Ok(()) };
        if matches!(one.base, ComparedName::Other(_)) {
            return violation(format!(
                "are about {kind}, which this operator cannot compare: have the CA issued without those"
            ));
        }
        if let Some(subtree) = permitted.iter().chain(&excluded).find(|subtree| subtree.has_distance) {
            let base = subtree.base.text();
            return violation(format!("give {base} a minimum or maximum, which databases refuse: have the CA issued without"));
        }
        if !permitted.is_empty() && !permitted.iter().any(|subtree| name.is_below(&subtree.base)) {
            let bases: Vec<String> = permitted.iter().take(NAMED_SUBTREES).map(|subtree| subtree.base.text()).collect();
            let others = if permitted.len() > bases.len() { " or others" } else { "" };
            let bases = bases.join(" or ");
            return violation(format!("permit only {kind} below {bases}{others}, and {} is not: change it", name.text()));
        }
        if let Some(subtree) = excluded.iter().find(|subtree| name.is_below(&subtree.base)) {
            let base = subtree.base.text();
            return violation(format!("exclude {kind} below {base}, and {} is: change it", name.text()));
        }
        Ok(())
    }
}

impl Subtree {
    /// `None` if OpenSSL cannot read the base.
    fn new(subtree: GeneralSubtree) -> Option<Self> {
        let readable = !matches!(&subtree.base, GeneralName::DirectoryName(name) if !is_readable(name));
        let has_distance = subtree.minimum != 0 || subtree.maximum.is_some();
        readable.then(|| Self { base: subtree.base.into(), has_distance })
    }
}

impl From<GeneralName> for ComparedName {
    fn from(name: GeneralName) -> Self {
        match name {
            GeneralName::DirectoryName(name) => Self::directory(&name),
            GeneralName::DnsName(name) => Self::Dns(name.as_str().to_owned()),
            GeneralName::Rfc822Name(_) => Self::Other(EMAIL_ADDRESSES),
            GeneralName::UniformResourceIdentifier(_) => Self::Other("URIs"),
            GeneralName::IpAddress(_) => Self::Other("IP addresses"),
            GeneralName::OtherName(_) => Self::Other("names of type otherName"),
            GeneralName::EdiPartyName(_) => Self::Other("names of type ediPartyName"),
            GeneralName::RegisteredId(_) => Self::Other("registered IDs"),
        }
    }
}

impl ComparedName {
    fn directory(name: &Name) -> Self {
        Self::Directory(CanonicalName::from(name), name.clone().into())
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Directory(..) => "subjects",
            Self::Dns(_) => "DNS names",
            Self::Other(kind) => kind,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Directory(_, name) => format!("\"{name}\""),
            Self::Dns(name) => format!("\"{name}\""),
            Self::Other(kind) => (*kind).to_owned(),
        }
    }

    fn is_below(&self, base: &Self) -> bool {
        match (self, base) {
            (Self::Directory(name, _), Self::Directory(base, _)) => name.is_below(base),
            (Self::Dns(name), Self::Dns(base)) => is_dns_name_below(name, base),
            _ => false,
        }
    }
}

/// The names that the subject gives any certificate: the subject itself, unless it is empty, and its email addresses.
fn names_in(subject: &Name) -> Vec<ComparedName> {
    let whole = (!subject.is_empty()).then(|| ComparedName::directory(subject));
    let email = subject.iter().find(|attribute| attribute.oid == EMAIL_ADDRESS);
    whole.into_iter().chain(email.map(|_| ComparedName::Other(EMAIL_ADDRESSES))).collect()
}

fn names_of_ca(certificate: &Certificate) -> Result<Vec<ComparedName>, NameConstraintsError> {
    let fields = certificate.tbs_certificate();
    let mut names = names_in(fields.subject());
    let others = fields.get_extension::<SubjectAltName>().map_err(|_| unreadable(certificate, "alternative names"))?;
    names.extend(others.into_iter().flat_map(|(_, names)| names.0).map(ComparedName::from));
    Ok(names)
}

fn is_self_issued(certificate: &Certificate) -> bool {
    let fields = certificate.tbs_certificate();
    CanonicalName::from(fields.subject()) == CanonicalName::from(fields.issuer())
}

/// The rule of OpenSSL: at least two labels of letters, digits, hyphens and underscores, with no hyphen at the edge of a label.
fn is_like_dns_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-');
    text.contains('.') && text.split('.').all(is_label)
}

/// A base with a leading dot has only the names below it in its subtree. A base without one has itself in it too.
fn is_dns_name_below(name: &str, base: &str) -> bool {
    let (name, base) = (name.as_bytes(), base.as_bytes());
    let Some(length) = name.len().checked_sub(base.len()) else { return false };
    let (before, end) = name.split_at(length);
    let at_a_dot = before.is_empty() || base.is_empty() || base.starts_with(b".") || before.ends_with(b".");
    at_a_dot && end.eq_ignore_ascii_case(base)
}

fn unreadable(certificate: &Certificate, extension: &'static str) -> NameConstraintsError {
    NameConstraintsError::Unreadable { ca: subject_of(certificate), extension }
}

fn subject_of(certificate: &Certificate) -> String {
    Subject::from(certificate.tbs_certificate().subject().clone()).to_string()
}
