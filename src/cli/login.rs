//! The login: credential plugins, and what is told of a kubeconfig or a plugin that cannot be used.
//!
//! # Guarantees
//!
//! - Neither what a plugin was given nor what it answered is told. Both may hold secrets, and kube's messages quote them.
//! - A plugin reads standard input only if that is a terminal, at which somebody may be asked.

use std::{error::Error, time::Duration};

use kube::{
    Client, Config,
    client::AuthError,
    config::{ExecInteractiveMode, KubeconfigError},
};
use tokio::runtime::Runtime;

use crate::{
    exit::CliError,
    redact::redacted,
    table::Cell,
    terminal::{PATIENCE, Terminal},
};

/// The most characters of what a plugin wrote last to standard error.
const LAST_WORDS: usize = 300;

/// Has the plugins of this configuration ask nobody, and keeps their words away from the terminal (`ExecConfig.interactiveMode` of
/// client.authentication.k8s.io).
pub(crate) fn ask_nobody(config: &mut Config) {
    if let Some(plugin) = &mut config.auth_info.exec {
        plugin.interactive_mode = Some(ExecInteractiveMode::Never);
    }
}

/// Whether a plugin may ask somebody, who needs longer than a request.
pub(crate) fn may_ask(config: &Config) -> bool {
    let plugin = config.auth_info.exec.as_ref();
    plugin.is_some_and(|plugin| plugin.interactive_mode != Some(ExecInteractiveMode::Never))
}

/// The program that gives the credentials, as the kubeconfig has it.
pub(crate) fn plugin_of(config: &Config) -> Option<String> {
    let of_provider = || config.auth_info.auth_provider.as_ref()?.config.get("cmd-path");
    let plugin = config.auth_info.exec.as_ref().and_then(|plugin| plugin.command.as_ref());
    plugin.or_else(of_provider).map(|plugin| Cell::plain(plugin).text().to_owned())
}

/// Makes the client. kube runs a credential plugin while it does so.
///
/// # Errors
/// The plugin gave no credentials, or not within the limit; or the configuration cannot be used.
pub(crate) async fn client(config: Config, limit: Duration, terminal: &Terminal) -> Result<Client, CliError> {
    let Some(plugin) = plugin_of(&config) else { return Client::try_from(config).map_err(|error| unusable(error, None)) };
    let (runtime, (send, receive)) = (tokio::runtime::Handle::current(), tokio::sync::oneshot::channel());
    // kube waits for the plugin without letting anything else run. The end of the program waits for no such thread, but would wait for one
    // of the runtime's.
    std::thread::spawn(move || {
        let _entered = runtime.enter();
        // Nobody waits any longer if the time is over.
        _ = send.send(Client::try_from(config));
    });
    let mut made = std::pin::pin!(tokio::time::timeout(limit, receive));
    let made = if let Ok(made) = tokio::time::timeout(PATIENCE, &mut made).await {
        made
    } else {
        terminal.tell(&format!("still waiting for the credential plugin {plugin}"));
        made.await
    };
    match made {
        Ok(Ok(made)) => made.map_err(|error| unusable(error, Some(&plugin))),
        Ok(Err(_)) => Err(CliError::Login(format!("the credential plugin {plugin} could not be run"))),
        Err(_) => Err(CliError::SlowPlugin { plugin, seconds: limit.as_secs() }),
    }
}

fn unusable(error: kube::Error, plugin: Option<&str>) -> CliError {
    failed_login(&error, plugin).unwrap_or_else(|| CliError::Client(Box::new(error)))
}

/// What is told of a login that failed, whatever the error is that kube put around it. `None` if the error is about something else.
///
/// A login fails in a request too, for kube runs the plugin again before its token expires.
pub(crate) fn failed_login(error: &(dyn Error + 'static), plugin: Option<&str>) -> Option<CliError> {
    let error = causes(error).find_map(|cause| cause.downcast_ref::<AuthError>())?;
    let plugin = plugin.map_or_else(|| "the credential plugin".to_owned(), |plugin| format!("the credential plugin {plugin}"));
    let why = match error {
        AuthError::AuthExecRun { out, .. } => {
            let told = String::from_utf8_lossy(&out.stderr);
            let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let last: String = redacted(last).chars().take(LAST_WORDS).collect();
            let colon = if last.is_empty() { "" } else { ": " };
            format!("{plugin} ended with {}{colon}{last}", out.status)
        }
        AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_) | AuthError::ExecPluginFailed => {
            format!("{plugin} answered something else than credentials")
        }
        AuthError::MalformedTokenExpirationDate(_) => {
            format!("{plugin}, or the kubeconfig, tells the expiry of the token in a form that is no time (RFC 3339)")
        }
        other => redacted(&other.to_string()),
    };
    Some(CliError::Login(why))
}

/// What is told of a kubeconfig that is not YAML, or has other fields; `None` if the error is about something else.
pub(crate) fn unreadable_kubeconfig(error: &(dyn Error + 'static)) -> Option<CliError> {
    let place = causes(error).find_map(|cause| match cause.downcast_ref::<KubeconfigError>() {
        Some(KubeconfigError::Parse(fault)) => Some(fault.location()),
        _ => None,
    })?;
    let place = place.map_or_else(String::new, |place| format!(" in line {}, column {}", place.line(), place.column()));
    Some(CliError::Unusable(format!(
        "could not read the kubeconfig: it has a mistake{place}: correct it, or give another one with --kubeconfig or KUBECONFIG"
    )))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// Runs this to its end, and waits for nothing that it has left behind: kube runs a credential plugin again in a thread of the runtime, and the
/// plugin may take as long as it likes.
pub(crate) fn block_on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use std::process::{ExitStatus, Output};

    use usercert_operator_controller::chain;

    use super::*;

    #[test]
    fn a_login_that_fails_in_a_request_is_told_without_secrets_too() {
        let out = Output {
            status: ExitStatus::default(),
            stdout: b"hunter2".to_vec(),
            stderr: b"client_secret=hunter2 is wrong\nlog in again\n\n".to_vec(),
        };
        let failed = AuthError::AuthExecRun { cmd: "TOKEN=hunter2 aws".to_owned(), out: Box::new(out) };
        let error = kube::Error::Service(Box::new(failed));
        let told = failed_login(&error, Some("aws")).map(|error| chain(&error)).unwrap_or_default();
        assert!(told.contains("could not log in") && told.contains("the credential plugin aws ended with"), "{told}");
        assert!(told.ends_with(": log in again") && !told.contains("hunter2"), "{told}");
        assert!(failed_login(&kube::Error::LinesCodecMaxLineLengthExceeded, None).is_none());
    }
}
