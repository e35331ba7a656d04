//! API keys, as the Atlas Kubernetes Operator keeps them in a Secret too.

use secrecy::SecretString;

const PUBLIC_KEY: &str = "publicApiKey";
const PRIVATE_KEY: &str = "privateApiKey";
const SERVICE_ACCOUNT: [&str; 2] = ["clientId", "clientSecret"];

/// A programmatic API key: the public part is the user name, the private part the password of HTTP digest authentication.
#[derive(Clone, Debug)]
pub struct AtlasCredentials {
    pub(super) public_key: SecretString,
    pub(super) private_key: SecretString,
}

/// A Secret that holds no usable API key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A part is missing or empty.
    #[error("the key {0} is missing or empty")]
    Missing(&'static str),
    /// A part has characters that a key cannot have.
    #[error("the key {0} is not printable ASCII text: was it encoded twice?")]
    NotText(&'static str),
    /// Both kinds of credentials are there.
    #[error(
        "it holds both an API key (publicApiKey, privateApiKey) and a service account (clientId, clientSecret): remove one of them"
    )]
    BothKinds,
    /// Only a service account is there.
    #[error(
        "it holds a service account (clientId, clientSecret), which is not supported yet: give an API key as publicApiKey and privateApiKey"
    )]
    ServiceAccount,
}

impl AtlasCredentials {
    /// Takes the API key from a Secret's data.
    ///
    /// # Errors
    /// [`CredentialsError`] names the key to change, never its value.
    pub fn from_secret<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, CredentialsError> {
        let has = |name: &&str| entry(name).is_some_and(|value| !value.is_empty());
        let has_api_key = [PUBLIC_KEY, PRIVATE_KEY].iter().any(has);
        if SERVICE_ACCOUNT.iter().any(has) {
            return Err(if has_api_key { CredentialsError::BothKinds } else { CredentialsError::ServiceAccount });
        }
        Ok(Self { public_key: text(&entry, PUBLIC_KEY)?, private_key: text(&entry, PRIVATE_KEY)? })
    }
}

/// A trailing newline, as `echo` and editors leave it, is no part of a key.
fn text<'a>(entry: &impl Fn(&str) -> Option<&'a [u8]>, name: &'static str) -> Result<SecretString, CredentialsError> {
    let value = entry(name).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty()).ok_or(CredentialsError::Missing(name))?;
    match std::str::from_utf8(value) {
        Ok(text) if text.chars().all(|character| character.is_ascii_graphic()) => Ok(text.into()),
        _ => Err(CredentialsError::NotText(name)),
    }
}
