//! Credentials for the API, in Secrets of the form that the Atlas Kubernetes Operator uses too.

use jiff::SignedDuration;
use secrecy::SecretString;

const PUBLIC_KEY: &str = "publicApiKey";
const PRIVATE_KEY: &str = "privateApiKey";
const CLIENT_ID: &str = "clientId";
const CLIENT_SECRET: &str = "clientSecret";

/// The most bytes of one part. What Atlas makes has fewer than a hundred.
const MOST_BYTES: usize = 1024;

/// The credentials of a caller of the API.
#[derive(Clone, Debug)]
pub enum AtlasCredentials {
    /// A programmatic API key, for HTTP digest authentication.
    ApiKey(ApiKey),
    /// A service account, for OAuth 2.0 client credentials.
    ServiceAccount(ServiceAccount),
}

/// A programmatic API key. In HTTP digest authentication the public part is the user name and the private part the password.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub(super) public_key: SecretString,
    pub(super) private_key: SecretString,
}

/// A service account: its id and its secret, which expires.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    pub(super) client_id: SecretString,
    pub(super) client_secret: SecretString,
}

/// A Secret that holds no usable credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// It has no key that could be a part of credentials.
    #[error("it holds neither an API key (publicApiKey, privateApiKey) nor a service account (clientId, clientSecret)")]
    Empty,
    /// A part is missing or empty.
    #[error("the key {0} is missing or empty")]
    Missing(&'static str),
    /// A part has characters that it cannot have.
    #[error("the key {0} is not printable ASCII text: was it encoded twice?")]
    NotText(&'static str),
    /// A part is longer than any credentials. All of them are in memory, each as often as issuers name it.
    #[error("the key {0} has more than {MOST_BYTES} bytes, which no credentials of Atlas have")]
    TooLong(&'static str),
    /// Both kinds of credentials are there.
    #[error(
        "it holds both an API key (publicApiKey, privateApiKey) and a service account (clientId, clientSecret): remove one of them"
    )]
    BothKinds,
}

impl AtlasCredentials {
    /// Takes the credentials from the data of a Secret. Other keys, such as `orgId`, are ignored.
    ///
    /// # Errors
    /// [`CredentialsError`] names the key to change, never its value.
    pub fn from_secret<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, CredentialsError> {
        let has = |names: [&str; 2]| names.iter().any(|name| entry(name).is_some_and(|value| !value.is_empty()));
        match (has([PUBLIC_KEY, PRIVATE_KEY]), has([CLIENT_ID, CLIENT_SECRET])) {
            (true, true) => Err(CredentialsError::BothKinds),
            (false, false) => Err(CredentialsError::Empty),
            (true, false) => {
                Ok(Self::ApiKey(ApiKey { public_key: text(&entry, PUBLIC_KEY)?, private_key: text(&entry, PRIVATE_KEY)? }))
            }
            (false, true) => Ok(Self::ServiceAccount(ServiceAccount {
                client_id: text(&entry, CLIENT_ID)?,
                client_secret: text(&entry, CLIENT_SECRET)?,
            })),
        }
    }

    /// How long after their making they can work at most; `None`: for ever. Atlas gives client secrets a year, or less if that is asked for.
    #[must_use]
    pub const fn longest_life(&self) -> Option<SignedDuration> {
        match self {
            Self::ApiKey(_) => None,
            Self::ServiceAccount(_) => Some(SignedDuration::from_hours(365 * 24)),
        }
    }

    /// What a person checks when Atlas refuses the credentials.
    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => {
                "check publicApiKey and privateApiKey in the credentials Secret, and that the API key has the role Project Owner"
            }
            Self::ServiceAccount(_) => {
                "check clientId and clientSecret in the credentials Secret, and that the service account has the role Project Owner"
            }
        }
    }
}

/// A part of the credentials. White space around it is dropped, because `echo` and editors leave a newline at the end.
fn text<'a>(entry: &impl Fn(&str) -> Option<&'a [u8]>, name: &'static str) -> Result<SecretString, CredentialsError> {
    let value = entry(name).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty()).ok_or(CredentialsError::Missing(name))?;
    if value.len() > MOST_BYTES {
        return Err(CredentialsError::TooLong(name));
    }
    match std::str::from_utf8(value) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.into()),
        _ => Err(CredentialsError::NotText(name)),
    }
}
