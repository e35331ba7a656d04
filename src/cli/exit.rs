//! How the program ends: an answer and an exit code, or an error.

use std::path::PathBuf;

use serde::Serialize;
use usercert_operator_core::api::names::GROUP;

use crate::{arguments::Form, text::count};

/// The exit code. Scripts rely on the numbers, which do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked is in order, or was done.
    Good = 0,
    /// The question was answered, and something needs attention: a certificate that fails, a check that does not hold.
    Attention = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// The question could not be answered, or the change could not be made: no cluster, no right, no such object.
    CouldNotAsk = 3,
}

/// What is written to standard output, and the exit code.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What is written.
    pub bytes: Vec<u8>,
    /// The exit code.
    pub exit: Exit,
}

impl Answer {
    /// An answer in words.
    #[must_use]
    pub fn new(text: impl Into<String>, exit: Exit) -> Self {
        Self { bytes: text.into().into_bytes(), exit }
    }

    /// The text of the answer.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// An answer for programs, in JSON or YAML. `None` if the answer is for people.
///
/// # Errors
/// The answer cannot be written in that form.
pub fn for_programs<T: Serialize>(answer: &T, form: Form) -> Result<Option<String>, CliError> {
    let failed = |form, fault: String| CliError::Form { form, fault };
    match form {
        Form::Table => Ok(None),
        Form::Json => {
            let text = serde_json::to_string_pretty(answer).map_err(|fault| failed("JSON", fault.to_string()))?;
            Ok(Some(text + "\n"))
        }
        Form::Yaml => serde_saphyr::to_string(answer).map(Some).map_err(|fault| failed("YAML", fault.to_string())),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is understood, but makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The program could not start its threads.
    #[error("could not start")]
    Runtime(#[source] std::io::Error),
    /// There is no kubeconfig that can be used.
    #[error("could not find a cluster: give --kubeconfig or --context, or set KUBECONFIG")]
    NoCluster(#[source] kube::config::InferConfigError),
    /// The kubeconfig, or the context, that was named cannot be used.
    #[error("could not use the kubeconfig: correct --kubeconfig, --context or KUBECONFIG")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// No client could be made from the kubeconfig.
    #[error("the kubeconfig cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// Nobody could log in.
    #[error("could not log in to the cluster: {0}")]
    Login(String),
    /// A credential plugin did not answer in time.
    #[error(
        "could not log in to the cluster: the credential plugin {plugin} gave no credentials within {}: run it by itself to see what it waits for, or raise --request-timeout",
        count(*seconds, "second")
    )]
    SlowPlugin {
        /// Its program.
        plugin: String,
        /// The time limit.
        seconds: u64,
    },
    /// The API server did not answer in time.
    #[error(
        "could not {operation} within {}: see that the API server can be reached{}, or raise --request-timeout",
        count(*seconds, "second"),
        plugin.as_ref().map(|plugin| format!(", and that the credential plugin {plugin} answers when it is run by itself")).unwrap_or_default()
    )]
    TimedOut {
        /// What was tried.
        operation: String,
        /// The time limit.
        seconds: u64,
        /// The credential plugin: it may have been run again for the request.
        plugin: Option<String>,
    },
    /// The API server cannot be reached.
    #[error(
        "could not {operation}, for {server} cannot be reached: see the network, and that --context is the cluster that you mean"
    )]
    Unreachable {
        /// What was tried.
        operation: String,
        /// The API server, as the kubeconfig has it.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server refused a request, or its answer cannot be read.
    #[error("could not {operation}")]
    Request {
        /// What was tried.
        operation: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server does not know the operator's kinds.
    #[error(
        "could not {operation}, for the cluster does not serve {GROUP}: install the operator's chart, which brings the definitions, or see that --context is the cluster that you mean"
    )]
    NotServed {
        /// What was tried.
        operation: String,
    },
    /// Whether a change was made is not known, for its answer is missing.
    #[error("whether {change} is not known: {to_do}")]
    Unknown {
        /// What may have been done.
        change: String,
        /// How to find out, or to go on.
        to_do: String,
        /// Why there is no answer.
        #[source]
        source: Box<CliError>,
    },
    /// A change was made, and what was to come after it was not.
    #[error("{done}; but after that")]
    After {
        /// What was done.
        done: String,
        /// What could not be done.
        #[source]
        source: Box<CliError>,
    },
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// A file could not be read or written.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Something that was read cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// An answer could not be put into the form that was asked for.
    #[error("could not write the answer as {form}: {fault}")]
    Form {
        /// The form.
        form: &'static str,
        /// Why.
        fault: String,
    },
}

impl CliError {
    /// The exit code that belongs to it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            _ => Exit::CouldNotAsk,
        }
    }

    /// This error, with what was done before it.
    #[must_use]
    pub fn after(self, done: impl Into<String>) -> Self {
        Self::After { done: done.into(), source: Box::new(self) }
    }

    /// Whether the API server refused because a right is missing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }

    /// Whether the API server knows who asks, and refused because a right is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether the API server knows no such object or no such kind.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NotServed { .. }) || self.code() == Some(404)
    }

    /// Whether a change was refused because the object is gone, or another one has its name now.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.code(), Some(404 | 409))
    }

    /// Whether a change was refused because the object is another one now, or was changed meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the API server has forgotten the list of which a further page was asked for.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// Whether a change may have been made all the same, for its answer is missing.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        let is_silent = matches!(self, Self::TimedOut { .. } | Self::Unreachable { .. });
        (is_silent && !self.is_unsent()) || self.code() >= Some(500)
    }

    /// Whether the request was certainly not sent, for there was no connection: the name is unknown, nobody listens, no route leads there, or
    /// TLS was not agreed.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return false };
        let first: &(dyn std::error::Error + 'static) = source.as_ref();
        let mut causes = std::iter::successors(Some(first), |error| error.source());
        causes.any(|cause| cause.downcast_ref().is_some_and(hyper_util::client::legacy::Error::is_connect))
    }

    /// The HTTP status with which the API server refused.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_json_or_yaml() -> Result<(), CliError> {
        let answer = serde_json::json!({ "name": "orders" });
        assert_eq!(for_programs(&answer, Form::Table)?, None);
        assert_eq!(for_programs(&answer, Form::Json)?.as_deref(), Some("{\n  \"name\": \"orders\"\n}\n"));
        assert_eq!(for_programs(&answer, Form::Yaml)?.map(|text| text.trim().to_owned()).as_deref(), Some("name: orders"));
        Ok(())
    }
}
