//! stub
#![allow(missing_docs, clippy::all, clippy::pedantic)]
use super::*;
use std::time::Duration;
#[derive(Clone, Debug)]
pub struct AtlasClient;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct AtlasClientError;
impl AtlasClient {
    pub fn new(_: Duration) -> Result<Self, AtlasClientError> {
        Ok(Self)
    }
}
#[derive(Debug)]
pub struct AtlasCredentials;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct CredentialsError;
impl AtlasCredentials {
    pub fn from_secret<'a>(_: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, CredentialsError> {
        Ok(Self)
    }
}
pub enum AtlasApiVersion {
    V2,
    V1,
}
pub struct AtlasSettings {
    pub endpoint: url::Url,
    pub project_id: String,
    pub api_version: AtlasApiVersion,
}
#[derive(Debug)]
pub struct AtlasIssuer;
impl AtlasIssuer {
    pub fn new(_: AtlasClient, _: AtlasSettings, _: AtlasCredentials) -> Self {
        Self
    }
    pub fn identity(&self) -> String {
        String::new()
    }
    pub async fn issue(&self, _: &IssueRequest) -> Result<Issued, IssueError> {
        unimplemented!()
    }
}
