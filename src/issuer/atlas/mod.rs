//! The Atlas Administration API: `POST .../databaseUsers/{username}/certs` makes a certificate and its key.
//!
//! A certificate that Atlas has made cannot be revoked, fetched again or deleted.
//!
//! # Guarantees
//!
//! - The request that mints is sent at most once per call of [`AtlasIssuer::issue`], except after an answer that proves that it
//!   was not carried out (a stale nonce, or a 401 for a token). It is sent only while the permit is given.
//! - The answer is verified before it is used.
//! - Redirects are not followed, and bodies have a limit.
//!
//! # Assumptions
//!
//! - Only a POST with credentials can mint. The challenge leg of HTTP digest, the token endpoint and GET requests cannot.
//!
//! # Errors
//!
//! - Each failure says whether a certificate may have been made: only a POST with credentials whose answer is lost, is a 5xx, or
//!   is a success that cannot be used.

mod account;
mod answer;
mod body;
mod client;
mod credentials;
mod digest;
mod endpoint;
mod errors;
mod limits;
mod list;
mod observed;
mod permit;
mod resources;
mod settings;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::json;

pub use account::Account;
pub use body::ReadError;
pub use client::{Answer, AtlasClient, AtlasClientError};
pub use credentials::{ApiKey, AtlasCredentials, CredentialsError, ServiceAccount};
pub use endpoint::{AllowedEndpoints, AtlasAccess, EndpointRule, Words};
pub use limits::{HeldLimit, LimitKey, Limits, Remaining};
pub use list::Page;
pub use settings::{AtlasApiVersion, AtlasSettings};

use self::{
    client::Call,
    errors::{Refusal, Unanswered},
    list::{MOST_CERTIFICATES, PAGE_SIZE, Pages},
    resources::{is_json, unreadable},
};
use super::{Deadline, IssueError, Issued, MintPermit};
use crate::{api::IssuerIdentity, atlas_request::AtlasOperation, certificate::Subject, decide::ListedCertificate};

/// The longest answer with a certificate, in bytes: ten times what Atlas sends (a certificate of 1.8 kB and a key of 3.2 kB).
const CERTIFICATE_LIMIT: usize = 64 * 1024;

/// The longest page of a list, in bytes. A page of [`PAGE_SIZE`] certificates takes about a tenth of it.
const LIST_LIMIT: usize = 1 << 20;

/// The last page that is requested.
const LAST_PAGE: usize = MOST_CERTIFICATES / PAGE_SIZE;

/// What Atlas is asked for.
#[derive(Clone, Debug)]
pub struct MintRequest {
    /// The database user's name as the database knows it.
    pub username: String,
    /// The subject that the certificate must have.
    pub subject: Subject,
    /// Validity in calendar months, 1..=24.
    pub months_until_expiration: u8,
    /// The time of the request.
    pub now: Timestamp,
}

/// One project with the credentials for it.
#[derive(Clone, Debug)]
pub struct AtlasIssuer {
    client: AtlasClient,
    settings: AtlasSettings,
    credentials: AtlasCredentials,
    /// What is known of its rate limit goes with the last issuer that has it.
    _limit: Arc<HeldLimit>,
}

impl AtlasIssuer {
    /// An issuer for one project.
    #[must_use]
    pub fn new(client: AtlasClient, settings: AtlasSettings, credentials: AtlasCredentials) -> Self {
        let limit = Arc::new(client.limits().hold(settings.account()));
        Self { client, settings, credentials, _limit: limit }
    }

    /// `atlas/<project id>`. Project ids are unique, whatever endpoint or proxy leads to the project.
    #[must_use]
    pub fn identity(&self) -> IssuerIdentity {
        IssuerIdentity::of_atlas_project(&self.settings.project_id)
    }

    /// Who asks whom.
    #[must_use]
    pub fn account(&self) -> Account {
        self.settings.account()
    }

    /// Checks that certificates can be made for a user. Credentials without the role for this question pass, because the request
    /// that follows will tell.
    ///
    /// # Errors
    /// The user does not exist or is not of X.509 type MANAGED, or Atlas does not answer. Nothing was minted.
    pub async fn check_user(&self, username: &str, now: Timestamp, deadline: Deadline) -> Result<(), IssueError> {
        let url = self.settings.user_url(username)?;
        let call = Call {
            operation: AtlasOperation::GetUser,
            method: Method::GET,
            url,
            body: None,
            body_limit: CERTIFICATE_LIMIT,
            metered: false,
            permit: None,
        };
        let answer = self.in_time(deadline, self.client.send(&self.settings, &self.credentials, call, now)).await?;
        self.read_user(&answer, username, now)
    }

    /// What a question comes to. All of it, however many requests it takes, has no more time than one request with its challenge.
    async fn in_time<T>(
        &self,
        deadline: Deadline,
        question: impl Future<Output = Result<T, IssueError>>,
    ) -> Result<T, IssueError> {
        let limit = self.client.request_limit() * 2;
        let answered = deadline.at_most(limit).limit(question).await;
        answered.unwrap_or_else(|| Err(Unanswered::Lost("time-out".to_owned()).classify(false, self.settings.words)))
    }

    /// The meaning of an answer to the request for the user.
    ///
    /// # Errors
    /// As [`AtlasIssuer::check_user`].
    pub fn read_user(&self, answer: &Answer, username: &str, now: Timestamp) -> Result<(), IssueError> {
        match answer.status {
            StatusCode::OK => resources::check_user(json_body(answer, "database user")?, username),
            _ => self.tolerate_missing_role(answer, username, now),
        }
    }

    /// The certificates of the user that have not expired. `None` if the credentials lack the role for this question.
    ///
    /// # Errors
    /// Atlas does not answer in time, or not with a list. Nothing was minted.
    pub async fn list(
        &self,
        username: &str,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Vec<ListedCertificate>>, IssueError> {
        self.in_time(deadline, self.list_pages(username, now)).await
    }

    async fn list_pages(&self, username: &str, now: Timestamp) -> Result<Option<Vec<ListedCertificate>>, IssueError> {
        let mut pages = Pages::default();
        for page in 1..=LAST_PAGE {
            let mut url = self.settings.certificates_url(username)?;
            url.set_query(Some(&format!("itemsPerPage={PAGE_SIZE}&pageNum={page}")));
            let call = Call {
                operation: AtlasOperation::ListCertificates,
                method: Method::GET,
                url,
                body: None,
                body_limit: LIST_LIMIT,
                metered: true,
                permit: None,
            };
            let answer = self.client.send(&self.settings, &self.credentials, call, now).await?;
            let Some(found) = self.read_page(&answer, username, now)? else { return Ok(None) };
            if pages.add(found)? {
                return pages.complete().map(Some);
            }
        }
        Err(unreadable("list of certificates"))
    }

    /// The meaning of an answer to the request for one page of the list.
    ///
    /// # Errors
    /// As [`AtlasIssuer::list`].
    pub fn read_page(&self, answer: &Answer, username: &str, now: Timestamp) -> Result<Option<Page>, IssueError> {
        match answer.status {
            StatusCode::OK => Page::read(json_body(answer, "list of certificates")?).map(Some),
            StatusCode::NOT_FOUND => {
                let refusal = self.refusal(answer, username, now, false);
                // A gateway answers 404 too, and knows nothing of certificates.
                if refusal.is_unknown_user() { Ok(Some(Page::empty())) } else { Err(refusal.classify()) }
            }
            _ => self.tolerate_missing_role(answer, username, now).map(|()| None),
        }
    }

    /// Has one certificate made and verifies it.
    ///
    /// # Errors
    /// [`IssueError`] says whether a certificate may have been made all the same.
    pub async fn issue(&self, request: &MintRequest, permit: &MintPermit) -> Result<Issued, IssueError> {
        let url = self.settings.certificates_url(&request.username)?;
        let body = Some(json!({ "monthsUntilExpiration": request.months_until_expiration }).to_string());
        let permit = Some(permit.clone());
        let call = Call {
            operation: AtlasOperation::CreateCertificate,
            method: Method::POST,
            url,
            body,
            body_limit: CERTIFICATE_LIMIT,
            metered: true,
            permit,
        };
        let answer = self.client.send(&self.settings, &self.credentials, call, request.now).await?;
        self.read_certificate(answer, request)
    }

    /// The meaning of an answer to the request for a certificate.
    ///
    /// # Errors
    /// As [`AtlasIssuer::issue`].
    pub fn read_certificate(&self, answer: Answer, request: &MintRequest) -> Result<Issued, IssueError> {
        if answer.status.is_success() {
            return answer::verified(answer.body, request, self.settings.words);
        }
        Err(self.refusal(&answer, &request.username, request.now, true).classify())
    }

    /// Ignores a refusal that may be about a missing role. Atlas answers 401 and 403 for a missing role as well as for wrong
    /// credentials. Which of the two it is shows when a certificate is requested.
    fn tolerate_missing_role(&self, answer: &Answer, username: &str, now: Timestamp) -> Result<(), IssueError> {
        let refusal = self.refusal(answer, username, now, false);
        if refusal.may_be_missing_role() { Ok(()) } else { Err(refusal.classify()) }
    }

    fn refusal<'a>(&'a self, answer: &'a Answer, username: &'a str, now: Timestamp, mints: bool) -> Refusal<'a> {
        Refusal {
            status: answer.status,
            headers: &answer.headers,
            body: answer.body.as_deref().map_or(&[], Vec::as_slice),
            may_have_minted: mints && answer.authenticated,
            username,
            project_id: &self.settings.project_id,
            advice: self.settings.advice(&self.credentials),
            words: self.settings.words,
            now,
        }
    }
}

fn json_body<'a>(answer: &'a Answer, what: &str) -> Result<&'a [u8], IssueError> {
    match &answer.body {
        Ok(body) if is_json(&answer.headers) => Ok(body),
        _ => Err(unreadable(what)),
    }
}
