//! Processes that do not outlive us.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::command::command_alone;

/// A shell that starts the program and waits for the end of its own standard input, which comes when we end, in whatever way.
const WATCHDOG: &str = r#""$@" </dev/null & child=$!
( while read -r _; do :; done; kill -TERM $child 2>/dev/null; sleep 5; kill -KILL $child 2>/dev/null ) &
watchdog=$!
wait $child; status=$?
kill $watchdog 2>/dev/null
exit $status"#;

/// A running program with its log; it is stopped when dropped.
pub struct Supervised {
    child: Child,
    // Never written to: the program lives as long as this end of the pipe.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Supervised {
    /// Starts a program; what it prints goes to the log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(program: &Path, arguments: &[String], environment: &[(&str, String)], log: &Path) -> Result<Self> {
        Self::spawn_from(Command::new("sh"), program, arguments, environment, log)
    }

    /// The same with nothing but this environment, as by [`command_alone`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_alone(program: &Path, arguments: &[String], environment: &[(&str, String)], log: &Path) -> Result<Self> {
        Self::spawn_from(command_alone("sh"), program, arguments, environment, log)
    }

    fn spawn_from(
        mut shell: Command,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("could not write {}", log.display()))?;
        let mut child = shell
            .args(["-c", &format!("exec 3<&0; {}", WATCHDOG.replace("( while", "( exec <&3; while"))])
            .arg("watchdog")
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, log: log.to_owned() })
    }

    /// Where its output is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it with SIGTERM, after five seconds with SIGKILL.
    pub fn stop(&mut self) {
        drop(self.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(7);
        while self.is_running() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        // Nothing is left to do about one that outlives SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The ends of all logs in a directory.
pub(super) fn tails(directory: &Path) -> String {
    let logs = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log") && !path.ends_with("audit.log"));
    let mut tails = String::new();
    for log in logs {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        tails.extend([log.display().to_string(), ":\n".to_owned()]);
        tails.extend(lines.iter().rev().flat_map(|line| [line, "\n"]));
    }
    tails
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;

    #[test]
    fn a_program_ends_when_it_is_stopped_and_when_its_starter_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("sleep.log");
        let arguments = ["-c".to_owned(), "echo $$; exec sleep 1000".to_owned()];
        let process_id = || loop {
            let text = fs::read_to_string(&log).unwrap();
            if text.ends_with('\n') {
                return text.trim().to_owned();
            }
            thread::sleep(Duration::from_millis(10));
        };
        let runs = |id: &str| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        let mut sleeper = Supervised::spawn(Path::new("sh"), &arguments, &[], &log).unwrap();
        let id = process_id();
        assert!(runs(&id));
        sleeper.stop();
        assert!(!runs(&id));

        let mut orphan = Supervised::spawn(Path::new("sh"), &arguments, &[], &log).unwrap();
        let id = process_id();
        // What the system does for a process that is killed: it closes its pipes.
        drop(orphan.stdin.take());
        for _ in 0..200 {
            thread::sleep(Duration::from_millis(20));
            if !runs(&id) {
                return;
            }
        }
        assert!(!runs(&id));
    }
}
