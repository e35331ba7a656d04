//! Requests to the API server.
//!
//! # Guarantees
//!
//! - Each request has a time limit ([`REQUEST_LIMIT`]).
//!
//! # Errors
//!
//! - Each error names the operation that failed. Whether a request without an answer was carried out is not known.

use std::time::Duration;

use crate::decide::pass::{RequestError, RequestErrorKind};

/// The longest time for one request to the API server.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// A request to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The API server refused it or could not be reached.
    #[error("could not {operation}")]
    Request {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// It took longer than [`REQUEST_LIMIT`].
    #[error(
        "could not {operation} within {} seconds: the API server, or a webhook that it asks, gave no answer",
        REQUEST_LIMIT.as_secs()
    )]
    TimedOut {
        /// What was tried.
        operation: &'static str,
    },
}

/// Runs one request under the time limit.
///
/// # Errors
/// The request failed, or took too long.
pub async fn request<T>(
    operation: &'static str,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, KubernetesError> {
    match tokio::time::timeout(REQUEST_LIMIT, future).await {
        Ok(result) => result.map_err(|source| KubernetesError::Request { operation, source: Box::new(source) }),
        Err(_) => Err(KubernetesError::TimedOut { operation }),
    }
}

impl From<KubernetesError> for RequestError {
    fn from(error: KubernetesError) -> Self {
        Self { operation: error.operation(), kind: error.kind(), message: error.explanation() }
    }
}

impl KubernetesError {
    const fn operation(&self) -> &'static str {
        match self {
            Self::Request { operation, .. } | Self::TimedOut { operation } => operation,
        }
    }

    /// How it failed, as far as the order of steps depends on it.
    #[must_use]
    pub fn kind(&self) -> RequestErrorKind {
        match self.status() {
            None => RequestErrorKind::Unanswered,
            Some(_) if self.is_namespace_terminating() => RequestErrorKind::NamespaceTerminating,
            Some(status) => match status.code {
                404 => RequestErrorKind::NotFound,
                409 => RequestErrorKind::Conflict,
                // These speak of the load, not of the request.
                408 | 429 => RequestErrorKind::Failed,
                // Webhooks refuse with whatever code they like.
                400..=499 => RequestErrorKind::Refused,
                _ => RequestErrorKind::Failed,
            },
        }
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }

    /// 401 or 403: a permission is missing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 401 | 403))
    }

    /// 401: the API server does not know who asks.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.status().is_some_and(|status| status.code == 401)
    }

    /// 410: a list was read so slowly that the API server does not know its beginning any more.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.status().is_some_and(|status| status.code == 410)
    }

    /// 403 because the namespace is being deleted (cause `NamespaceTerminating`).
    fn is_namespace_terminating(&self) -> bool {
        self.status()
            .and_then(|status| status.details.as_ref())
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }

    /// What the API server said.
    #[must_use]
    pub fn explanation(&self) -> String {
        match self.status() {
            Some(status) => status.message.clone(),
            None => chain(self),
        }
    }
}

/// An error with its causes, each once, separated by colons.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // kube repeats the message of the API server three times. The message itself is enough, and has no further cause.
        let kube = error.downcast_ref::<kube::Error>().or_else(|| error.downcast_ref::<Box<kube::Error>>().map(Box::as_ref));
        let status = match kube {
            Some(kube::Error::Api(status)) => Some(&status.message),
            _ => None,
        };
        let own = status.cloned().unwrap_or_else(|| error.to_string());
        if !text.contains(&own) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&own);
        }
        next = if status.is_some() { None } else { error.source() };
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(status: serde_json::Value) -> KubernetesError {
        let status = serde_json::from_value(status).unwrap_or_default();
        KubernetesError::Request { operation: "create the Secret", source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_told_from_a_missing_permission() {
        let terminating = refused(json!({
            "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "secrets \"a\" is forbidden: unable to create new content in namespace shop because it is being terminated",
            "details": { "name": "a", "kind": "secrets", "causes": [{ "reason": "NamespaceTerminating", "message": "m", "field": "metadata.namespace" }] },
        }));
        assert_eq!(terminating.kind(), RequestErrorKind::NamespaceTerminating);
        let forbidden = refused(json!({ "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no" }));
        assert_eq!(forbidden.kind(), RequestErrorKind::Refused);
        assert_eq!(forbidden.explanation(), "no");
    }

    #[test]
    fn a_refusal_is_told_from_a_server_that_fails_or_is_busy() {
        use RequestErrorKind::{Conflict, Failed, NotFound, Refused};
        let kinds =
            [(400, Refused), (404, NotFound), (409, Conflict), (422, Refused), (408, Failed), (429, Failed), (500, Failed)];
        for (code, kind) in kinds {
            let answered = refused(json!({ "status": "Failure", "code": code, "message": "no", "reason": "" }));
            assert_eq!(answered.kind(), kind, "{code}");
        }
        assert_eq!(KubernetesError::TimedOut { operation: "create the Secret" }.kind(), RequestErrorKind::Unanswered);
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let error =
            refused(json!({ "status": "Failure", "code": 500, "message": "storage is gone", "reason": "InternalError" }));
        let text = chain(&error);
        assert!(text.starts_with("could not create the Secret: "), "{text}");
        assert_eq!(text.matches("storage is gone").count(), 1, "{text}");
    }
}
