//! The Atlas Administration API: `POST .../databaseUsers/{username}/certs` makes a certificate and its key.
//!
//! What Atlas made cannot be revoked, fetched again or deleted. So the request that mints is sent once, its answer is verified
//! before it is used, and every failure says whether a certificate may have been made.

mod answer;
mod credentials;
mod errors;
#[cfg(test)]
mod tests;
mod wire;

use url::Url;

pub use credentials::{AtlasCredentials, CredentialsError};
pub use wire::{AtlasClient, AtlasClientError, certificates_url};

use super::{IssueError, IssueRequest, Issued};

/// The version of the Administration API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtlasApiVersion {
    /// The current one; resources have dated media types.
    V2,
    /// The legacy one.
    V1,
}

impl AtlasApiVersion {
    const fn path(self) -> &'static str {
        match self {
            Self::V2 => "api/atlas/v2",
            Self::V1 => "api/atlas/v1.0",
        }
    }

    /// The media type to ask for. The certificates resource has had this one version since 2023-01-01; without a date, v2 answers
    /// `INVALID_VERSION_DATE`.
    const fn media_type(self) -> &'static str {
        match self {
            Self::V2 => "application/vnd.atlas.2023-01-01+json",
            Self::V1 => "application/json",
        }
    }
}

/// Where and in which project.
#[derive(Clone, Debug)]
pub struct AtlasSettings {
    /// The API's base URL, such as `https://cloud.mongodb.com`.
    pub endpoint: Url,
    /// The project, which the API calls group.
    pub project_id: String,
    /// The API's version.
    pub api_version: AtlasApiVersion,
}

/// One project with the credentials for it.
#[derive(Clone, Debug)]
pub struct AtlasIssuer {
    client: AtlasClient,
    settings: AtlasSettings,
    credentials: AtlasCredentials,
}

impl AtlasIssuer {
    /// For one project.
    #[must_use]
    pub const fn new(client: AtlasClient, settings: AtlasSettings, credentials: AtlasCredentials) -> Self {
        Self { client, settings, credentials }
    }

    /// `atlas/<project id>`: project ids are unique, whichever endpoint or proxy leads to them.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("atlas/{}", self.settings.project_id)
    }

    /// Has one certificate made and verifies it.
    ///
    /// # Errors
    /// [`IssueError`] says whether a certificate may have been made all the same.
    pub async fn issue(&self, request: &IssueRequest) -> Result<Issued, IssueError> {
        let body = self.client.mint(&self.settings, &self.credentials, request).await?;
        answer::verified(&body, request)
    }
}
