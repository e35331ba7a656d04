//! The endpoint, the project, and the URLs of the API.

use std::fmt::Write;

use url::Url;

use super::{Account, AtlasCredentials, Words};
use crate::{IssueError, Minted, Retry, api::Reason};

/// The version of the Administration API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtlasApiVersion {
    /// The current version, whose resources have dated media types.
    V2,
    /// The legacy version.
    V1,
}

impl AtlasApiVersion {
    const fn path(self) -> &'static str {
        match self {
            Self::V2 => "api/atlas/v2",
            Self::V1 => "api/atlas/v1.0",
        }
    }

    /// The media type to ask for. The certificates resource has had only this version since 2023-01-01. Without a date, v2
    /// answers `INVALID_VERSION_DATE`.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::V2 => "application/vnd.atlas.2023-01-01+json",
            Self::V1 => "application/json",
        }
    }
}

/// Where Atlas is reached, and in which project.
#[derive(Clone, Debug)]
pub struct AtlasSettings {
    /// The API's base URL, such as `https://cloud.mongodb.com`.
    pub endpoint: Url,
    /// The id of the project, which the API calls a group.
    pub project_id: String,
    /// The UID of the Secret with the credentials. It stays the same when the credentials in it change.
    pub credentials_uid: String,
    /// The API's version.
    pub api_version: AtlasApiVersion,
    /// Whether the endpoint may be reached without TLS although it is not on this machine.
    pub allow_plain_http: bool,
    /// Whether messages may quote the endpoint.
    pub words: Words,
}

impl AtlasSettings {
    /// Who asks whom.
    #[must_use]
    pub fn account(&self) -> Account {
        Account {
            endpoint: self.endpoint.as_str().to_owned(),
            project_id: self.project_id.clone(),
            credentials_uid: self.credentials_uid.clone(),
        }
    }

    /// The URL of the certificates of a user. The user name is one path segment, encoded exactly once.
    ///
    /// # Errors
    /// The name is `.` or `..`, which a URL cannot hold as a segment; or the endpoint has no paths, or must not be reached
    /// without TLS.
    pub fn certificates_url(&self, username: &str) -> Result<Url, IssueError> {
        self.in_project(&format!("{}/certs", segment(username)?))
    }

    /// The URL of a database user that logs in with X.509.
    ///
    /// # Errors
    /// As [`AtlasSettings::certificates_url`].
    pub fn user_url(&self, username: &str) -> Result<Url, IssueError> {
        self.in_project(&format!("%24external/{}", segment(username)?))
    }

    fn in_project(&self, path: &str) -> Result<Url, IssueError> {
        self.url(&format!("{}/groups/{}/databaseUsers/{path}", self.api_version.path(), self.project_id))
    }

    /// The URL that gives tokens to service accounts.
    pub(super) fn token_url(&self) -> Result<Url, IssueError> {
        self.url("api/oauth/token")
    }

    fn url(&self, path: &str) -> Result<Url, IssueError> {
        if self.endpoint.scheme() != "https" && !self.allow_plain_http && !is_loopback(&self.endpoint) {
            return Err(refusal("spec.atlas.endpoint must begin with https:// (or say allowPlainHttp)"));
        }
        self.endpoint.join(&format!("/{path}")).map_err(|_| refusal("spec.atlas.endpoint cannot be the base of a URL"))
    }

    /// What a person checks when Atlas refuses the credentials for this project.
    pub(super) fn advice(&self, credentials: &AtlasCredentials) -> String {
        format!("{} on the project {}", credentials.advice(), self.project_id)
    }
}

fn refusal(message: &str) -> IssueError {
    IssueError { reason: Reason::InvalidSpec, message: message.to_owned(), retry: Retry::Slowly, minted: Minted::No }
}

/// Percent-encodes everything but the unreserved characters (RFC 3986 section 2.3).
fn segment(text: &str) -> Result<String, IssueError> {
    if matches!(text, "." | "..") {
        return Err(refusal("spec.username must not be '.' or '..', which a URL path cannot hold"));
    }
    Ok(text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Formatting into a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    }))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
