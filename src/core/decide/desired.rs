//! What the user wants, with the issuer's defaults filled in and every value parsed.

use jiff::SignedDuration;

use super::{CaFacts, IssuerFacts, IssuingMethod, Observed};
use crate::{
    api::{
        DatabaseType, DatabaseUserCertificate, PrivateKeyAlgorithm,
        names::{CA_CERTIFICATE, RENEW_REQUESTED_ANNOTATION},
    },
    certificate::{KeyAlgorithm, PrivateKeySpec, Subject},
    compromised::Compromised,
};

/// Validity of a CA's certificate when neither the object nor the issuer says: 90 days.
const DEFAULT_DURATION: SignedDuration = SignedDuration::from_hours(2160);

/// The hours of the shortest calendar month (28 days): what holds of it holds of every month.
const SHORTEST_MONTH_HOURS: i64 = 28 * 24;

/// A renewal request longer than this counts by its beginning only: it is copied to the Secret and to the status.
const RENEW_REQUEST_CHARACTERS: usize = 128;

/// What to change in a spec that names no user.
pub(super) const NO_USERNAME: &str = "give spec.username and spec.issuerRef, or spec.userRef";

/// How long before expiry to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewBefore {
    /// One third of the lifetime; see [`renew_before`](super::renew_before).
    Default,
    /// A fixed time.
    Time(SignedDuration),
    /// A share of the lifetime, in percent.
    Percentage(u8),
}

/// What only one way of issuing needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// This process signs.
    Sign {
        /// Validity.
        duration: SignedDuration,
        /// The key to generate.
        private_key: PrivateKeySpec,
    },
    /// A service makes certificate and key.
    Mint {
        /// Validity in calendar months, 1..=24.
        months_until_expiration: u8,
    },
}

/// The wanted certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The object's UID; the seed of its jitter.
    pub uid: String,
    /// The spec's generation.
    pub generation: i64,
    /// The database user.
    pub username: String,
    /// The certificate's subject.
    pub subject: Subject,
    /// What the issuer is asked for besides.
    pub order: Order,
    /// How long before expiry to renew.
    pub renew_before: RenewBefore,
    /// The value of the annotation that asks for a renewal.
    pub renew_request: Option<String>,
    /// The certificates whose keys are known to others.
    pub compromised: Compromised,
}

/// A spec that cannot be carried out with this issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSpec(pub String);

impl Desired {
    /// Fills in the issuer's defaults and parses every value.
    ///
    /// # Errors
    /// [`InvalidSpec`] names the field to change.
    pub fn new(object: &DatabaseUserCertificate, facts: &IssuerFacts) -> Result<Self, InvalidSpec> {
        let username = username(object, Some(facts)).ok_or_else(|| InvalidSpec(NO_USERNAME.to_owned()))?;
        let desired = Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            username: username.to_owned(),
            subject: wanted_subject(object, username)?,
            order: order(object, facts)?,
            renew_before: renew_before(object)?,
            renew_request: renew_request(object),
            compromised: Compromised::of(object),
        };
        desired.check_username(object)?;
        desired.check_renew_before()?;
        desired.check_connection(object)?;
        Ok(desired)
    }

    /// The key that the certificate must have; `None` where the issuer chooses.
    #[must_use]
    pub const fn private_key(&self) -> Option<PrivateKeySpec> {
        match self.order {
            Order::Sign { private_key, .. } => Some(private_key),
            Order::Mint { .. } => None,
        }
    }

    /// The shortest lifetime that the request can give, before a CA shortens it.
    #[must_use]
    pub fn shortest_lifetime(&self) -> SignedDuration {
        match self.order {
            Order::Sign { duration, .. } => duration,
            Order::Mint { months_until_expiration } => {
                SignedDuration::from_hours(i64::from(months_until_expiration) * SHORTEST_MONTH_HOURS)
            }
        }
    }

    /// A distinguished name that does not begin with `CN=` would become a common name, which no database user has: refused. One
    /// that begins with `CN=` is the subject.
    fn check_username(&self, object: &DatabaseUserCertificate) -> Result<(), InvalidSpec> {
        let is_subject =
            object.spec.subject.is_some() || Subject::for_user(&self.username) != Subject::common_name(&self.username);
        if matches!(self.order, Order::Mint { .. })
            || is_subject
            || !Subject::is_like_name_of_several_attributes(&self.username)
        {
            return Ok(());
        }
        Err(InvalidSpec(format!(
            "spec.username ({:?}) reads as a distinguished name, and one that does not begin with CN= is taken for a common name: write the name in spec.subject",
            self.username
        )))
    }

    /// Users of Atlas log in to MongoDB, and their certificates come without the CA that signed them.
    fn check_connection(&self, object: &DatabaseUserCertificate) -> Result<(), InvalidSpec> {
        let Some(connection) = object.spec.connection.as_ref().filter(|_| matches!(self.order, Order::Mint { .. })) else {
            return Ok(());
        };
        if connection.database_type != DatabaseType::MongoDb {
            return Err(InvalidSpec("set spec.connection.type to mongodb: the issuer is Atlas".to_owned()));
        }
        if connection.server_ca_file.as_deref() == Some(CA_CERTIFICATE) {
            let message = "remove spec.connection.serverCAFile: the issuer is Atlas, whose certificates come without ca.crt and whose servers have certificates of public CAs";
            return Err(InvalidSpec(message.to_owned()));
        }
        Ok(())
    }

    fn check_renew_before(&self) -> Result<(), InvalidSpec> {
        match self.renew_before {
            RenewBefore::Time(time) if time >= self.shortest_lifetime() => Err(InvalidSpec(format!(
                "spec.renewBefore ({:#}) must be shorter than the certificate's lifetime ({:#})",
                time,
                self.shortest_lifetime()
            ))),
            _ => Ok(()),
        }
    }
}

/// The database user: the one in the spec, or that of the `AtlasDatabaseUser` that the spec refers to, once that is known.
pub(super) fn username<'a>(object: &'a DatabaseUserCertificate, issuer: Option<&'a IssuerFacts>) -> Option<&'a str> {
    object.spec.username.as_deref().or_else(|| issuer?.username.as_deref())
}

/// The subject that the spec asks for: `subject`, else the one that belongs to the user name. It does not depend on the issuer.
///
/// # Errors
/// [`InvalidSpec`] says what is wrong with the name.
pub(super) fn wanted_subject(object: &DatabaseUserCertificate, username: &str) -> Result<Subject, InvalidSpec> {
    match &object.spec.subject {
        Some(subject) => Subject::parse(subject).map_err(|error| InvalidSpec(format!("spec.subject: {error}"))),
        None => Subject::for_user(username).map_err(|error| InvalidSpec(format!("spec.username: {error}"))),
    }
}

/// What this way of issuing needs to know. A field that only the other way could honour is refused.
fn order(object: &DatabaseUserCertificate, facts: &IssuerFacts) -> Result<Order, InvalidSpec> {
    let spec = &object.spec;
    let refused = |issuer: &str, fields: &[(&str, bool)]| match fields.iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => Err(InvalidSpec(format!("remove spec.{field}: the issuer is {issuer}, which cannot honour it"))),
        None => Ok(()),
    };
    match &facts.method {
        IssuingMethod::Sign(ca) => {
            refused("a CA", &[("monthsUntilExpiration", spec.months_until_expiration.is_some())])?;
            Ok(Order::Sign { duration: duration(object, ca)?, private_key: private_key(object) })
        }
        IssuingMethod::Mint { months_until_expiration } => {
            let (duration, subject, key) = (spec.duration.is_some(), spec.subject.is_some(), spec.private_key.is_some());
            refused("Atlas", &[("duration", duration), ("subject", subject), ("privateKey", key)])?;
            let months_until_expiration = spec.months_until_expiration.unwrap_or(*months_until_expiration);
            Ok(Order::Mint { months_until_expiration })
        }
    }
}

fn duration(object: &DatabaseUserCertificate, ca: &CaFacts) -> Result<SignedDuration, InvalidSpec> {
    let own = object.spec.duration.as_deref().map(|text| parse_duration("spec.duration", text)).transpose()?;
    let wanted = own.or(ca.duration);
    match (wanted, ca.max_duration) {
        (Some(wanted), Some(max)) if wanted > max => {
            Err(InvalidSpec(format!("spec.duration ({wanted:#}) exceeds the issuer's maxDuration ({max:#})")))
        }
        (Some(wanted), _) => Ok(wanted),
        (None, max) => Ok(default_duration(max)),
    }
}

/// How long a certificate of a CA is valid for which neither the object nor its issuer says it. `max`: the issuer's `maxDuration`.
#[must_use]
pub fn default_duration(max: Option<SignedDuration>) -> SignedDuration {
    max.map_or(DEFAULT_DURATION, |max| max.min(DEFAULT_DURATION))
}

fn private_key(object: &DatabaseUserCertificate) -> PrivateKeySpec {
    let key = object.spec.private_key.as_ref();
    let size = key.and_then(|key| key.size).map(u32::from);
    match key.map(|key| key.algorithm).unwrap_or_default() {
        PrivateKeyAlgorithm::Ecdsa => PrivateKeySpec { algorithm: KeyAlgorithm::Ecdsa, size: size.unwrap_or(256) },
        PrivateKeyAlgorithm::Rsa => PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: size.unwrap_or(2048) },
        PrivateKeyAlgorithm::Ed25519 => PrivateKeySpec { algorithm: KeyAlgorithm::Ed25519, size: 256 },
    }
}

/// How long before expiry the spec asks to renew.
///
/// # Errors
/// [`InvalidSpec`] names the field.
pub(super) fn renew_before(object: &DatabaseUserCertificate) -> Result<RenewBefore, InvalidSpec> {
    let spec = &object.spec;
    match (&spec.renew_before, spec.renew_before_percentage) {
        (Some(text), _) => parse_duration("spec.renewBefore", text).map(RenewBefore::Time),
        (None, Some(percentage)) => Ok(RenewBefore::Percentage(percentage)),
        (None, None) => Ok(RenewBefore::Default),
    }
}

/// What the annotation `usercert.dev/renew-requested-at` asks for, as `status.renewRequestHandled` has it once it is carried out; `None` if it
/// asks for nothing.
#[must_use]
pub fn renew_request(object: &DatabaseUserCertificate) -> Option<String> {
    let value = object.metadata.annotations.as_ref()?.get(RENEW_REQUESTED_ANNOTATION)?;
    let value: String = value.chars().take(RENEW_REQUEST_CHARACTERS).collect();
    Some(value).filter(|value| !value.is_empty())
}

/// Parses a duration such as `2160h` or `1h30m`, as the schema admits it: a part of what Go reads, and exact.
///
/// # Errors
/// [`InvalidSpec`] names the field.
pub fn parse_duration(field: &str, text: &str) -> Result<SignedDuration, InvalidSpec> {
    hours_minutes_seconds(text)
        .filter(|duration| *duration >= SignedDuration::from_mins(1))
        .ok_or_else(|| InvalidSpec(format!("{field} ({text:?}) must be a duration such as 2160h")))
}

/// Hours, minutes, seconds, each at most once, in this order. kube's `Duration` panics at large and negative values; jiff's takes
/// more than the schema: spaces and words (`2 hours`), fractions, ISO 8601 (`PT2H`), signs and `ago`.
fn hours_minutes_seconds(text: &str) -> Option<SignedDuration> {
    let (mut seconds, mut rest) = (0_i64, text);
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((digits, after)) = rest.split_once(unit) else { continue };
        let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<i64>().ok()?;
        seconds = seconds.checked_add(number.checked_mul(length)?)?;
        rest = after;
    }
    rest.is_empty().then_some(SignedDuration::from_secs(seconds))
}

/// Whether the object asks for a renewal that was not answered yet. The Secret remembers the request that it answers, so that a lost status
/// renews nothing; the status remembers it for a Secret that lost its annotations.
pub(super) fn is_renewal_requested(desired: &Desired, observed: &Observed) -> bool {
    let answered = observed.secret.ours().and_then(|view| view.renew_request.as_ref());
    desired.renew_request.is_some()
        && desired.renew_request.as_ref() != answered
        && desired.renew_request != observed.status.renew_request_handled
}
