//! Requests to the API server: each under a time limit, each failure with the operation that failed.

use std::time::Duration;

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
    #[error("could not {operation} within {} seconds", REQUEST_LIMIT.as_secs())]
    TimedOut {
        /// What was tried.
        operation: &'static str,
    },
}

/// Runs one request under the time limit.
///
/// # Errors
/// Whatever the request fails with, and its being too slow.
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

    /// 409: the object is not as it was seen, or exists already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    /// 404.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// The request was understood and refused (403, 422 and the like), so repeating it at once is pointless.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 400 | 403 | 413 | 422))
    }

    /// 403 because the namespace is being deleted (cause `NamespaceTerminating`).
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
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
