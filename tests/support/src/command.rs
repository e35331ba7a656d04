//! Programs of the system, and answers that are waited for.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// The programs of this name on the PATH, in its order.
#[must_use]
pub fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).filter(|program| program.is_file()).collect()
}

/// What a program keeps of our environment: where programs and the machine's own CAs are.
const KEPT: [&str; 3] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// A program that the environment of whoever runs the tests tells nothing. Every flag of the operator may come from a variable, a proxy may be set, and a
/// kubeconfig may be in somebody's home.
#[must_use]
pub fn command_alone(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(kept()).env("HOME", "/nonexistent");
    command
}

fn kept() -> impl Iterator<Item = (&'static str, OsString)> {
    KEPT.into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

/// Runs a command without input to its end, and gives what it printed.
///
/// # Errors
/// It cannot be run, or fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command with this text as its input to its end. The input may be left unread.
///
/// # Errors
/// It cannot be started, or its output cannot be read.
pub fn output_with_input(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // Beside the reading, for a program may print more than a pipe holds before it has read everything.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })
}

/// Asks again, five times a second, until there is an answer.
///
/// # Errors
/// The question fails, or has no answer within so many seconds.
pub async fn until<T>(what: &str, seconds: u64, mut question: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = question().await? {
            return Ok(answer);
        }
        ensure!(started.elapsed().as_secs() < seconds, "not within {seconds} seconds: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;

    #[test]
    fn a_program_alone_has_nothing_of_our_environment_but_where_programs_and_cas_are() {
        // Cargo sets this one for every test.
        assert!(env::var_os("CARGO_PKG_NAME").is_some());
        let told = run(command_alone("env").env("GIVEN", "yes")).unwrap();
        let mut names: Vec<&str> = told.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.retain(|name| !["SSL_CERT_FILE", "SSL_CERT_DIR"].contains(name));
        names.sort_unstable();
        assert_eq!(names, ["GIVEN", "HOME", "PATH"]);
        assert!(told.contains("HOME=/nonexistent"));
    }
}
