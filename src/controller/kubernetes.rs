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

/// The time limit of one request to the API server.
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
    #[error("could not {operation} within {} seconds", REQUEST_LIMIT.as_secs())]
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

impl KubernetesError {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }

    /// Whether it is a 409: the object is not as it was seen, or exists already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    /// Whether it is a 401 or 403: a permission is missing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 401 | 403))
    }

    /// Whether it is a 404.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Whether there was an answer of any status, from the API server or from a webhook that it asks.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.status().is_some()
    }

    /// Whether the request was understood and refused (4xx), so that repeating it at once is pointless. 408 and 429 are not
    /// refusals: they are about the load, not about the request. Webhooks may refuse with any code.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 400..=499) && !matches!(status.code, 408 | 429))
    }

    /// Whether it is a 403 because the namespace is being deleted (cause `NamespaceTerminating`).
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
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
        assert!(terminating.is_refusal() && terminating.is_namespace_terminating());
        let forbidden = refused(json!({ "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no" }));
        assert!(forbidden.is_refusal() && !forbidden.is_namespace_terminating());
        assert_eq!(forbidden.explanation(), "no");
    }

    #[test]
    fn a_refusal_is_told_from_a_server_that_fails_or_is_busy() {
        for (code, is_refusal) in [(400, true), (404, true), (409, true), (422, true), (408, false), (429, false), (500, false)]
        {
            let answered = refused(json!({ "status": "Failure", "code": code, "message": "no", "reason": "" }));
            assert!(answered.is_answer());
            assert_eq!(answered.is_refusal(), is_refusal, "{code}");
        }
        assert!(!KubernetesError::TimedOut { operation: "create the Secret" }.is_answer());
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
