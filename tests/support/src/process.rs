//! Child processes that cannot outlive this one.
//!
//! A test that is killed (a debugger, a time limit, SIGKILL) runs no destructor, and an etcd or API server left behind
//! would hold ports, memory and disk. The kernel's own tool for that (`PR_SET_PDEATHSIG`) needs unsafe code and Linux, so
//! each program runs below a small shell that holds the reading end of a pipe from us: when we are gone, by whatever way,
//! the pipe closes and the shell ends the program.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `$2...`; ends it when standard input closes or says so. `$1` is how many tenths of a second lie between
/// SIGTERM and SIGKILL. The exit status is the program's.
const SUPERVISOR: &str = r#"
grace=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
(
    word=
    read -r word <&3
    if [ "$word" != kill ]; then
        kill -TERM "$program"
        while [ "$grace" -gt 0 ] && kill -0 "$program"; do sleep 0.1; grace=$((grace - 1)); done
    fi
    kill -KILL "$program"
) 2>/dev/null &
watcher=$!
wait "$program"
status=$?
kill -KILL "$watcher"
exit "$status"
"#;

/// How often a wait for the end of a program looks.
const POLL: Duration = Duration::from_millis(5);

/// A program to start, with where its output goes and how it is stopped.
#[derive(Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    grace: Duration,
}

impl Program {
    /// The program at `path`, called `name` in messages and for its log file.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), arguments: Vec::new(), environment: Vec::new(), grace: Duration::ZERO }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable for the program.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Lets [`Process::stop`] and the end of our own process send SIGTERM and wait this long before SIGKILL.
    /// Without it both kill at once, which suits programs that have nothing worth saving.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the program with standard output and standard error appended to `<directory>/<name>.log`.
    ///
    /// # Errors
    /// When the log file cannot be opened or the shell cannot be started. A program that cannot be executed shows as a
    /// process that ended with status 126 or 127, with the reason in its log.
    pub fn start(self, directory: &Path) -> Result<Process> {
        let log = directory.join(format!("{}.log", self.name));
        let output =
            OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("failed to open {}", log.display()))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg((self.grace.as_millis() / 100).to_string())
            .arg(&self.path)
            .args(self.arguments)
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().context("failed to share the log file")?)
            .stderr(output)
            // Its own process group: Ctrl-C reaches us only, so that we decide in which order things end.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {}", self.path.display()))?;
        let lifeline = child.stdin.take();
        Ok(Process { name: self.name, log, child, lifeline, grace: self.grace })
    }
}

/// A running program. It ends when this value is dropped, when [`Process::stop`] or [`Process::kill`] is called, or when
/// our own process ends in any way.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    /// The writing end of the supervisor's pipe. `None` once the program was told to end.
    lifeline: Option<ChildStdin>,
    grace: Duration,
}

impl Process {
    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds what it printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("failed to ask after {}", self.name))
    }

    /// Fails with the end of its log when the program has ended.
    ///
    /// # Errors
    /// When the program is no longer running.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; the end of its log:\n{}", self.name, tail(&self.log, 15)),
        }
    }

    /// Ends the program: SIGTERM, its grace, SIGKILL. Without a grace it is killed at once. Returns when it is gone.
    ///
    /// # Errors
    /// When it is still there well after SIGKILL.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let word: &[u8] = if self.grace.is_zero() { b"kill\n" } else { b"stop\n" };
        self.end(word)
    }

    /// Ends the program by SIGKILL, as a crash of its machine would, and returns when it is gone.
    ///
    /// # Errors
    /// When it is still there well after SIGKILL.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.end(b"kill\n")
    }

    fn end(&mut self, word: &[u8]) -> Result<ExitStatus> {
        if let Some(mut lifeline) = self.lifeline.take() {
            // An error means that the supervisor is gone already, which the wait below finds out.
            let _ = lifeline.write_all(word);
        }
        let deadline = Instant::now() + self.grace + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        bail!("{} is still running {} s after SIGKILL", self.name, 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(process = self.name, "{error:#}");
        }
    }
}

/// A directory that is removed when this value is dropped or our process ends in any way.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Waits for the end of our process and then removes the directory. `None` for a directory that is kept.
    remover: Option<Child>,
}

impl Scratch {
    /// A new directory in the system's place for temporary files, readable by nobody else.
    ///
    /// # Errors
    /// When the directory cannot be made or the shell that would remove it cannot be started.
    pub fn new(prefix: &str) -> Result<Self> {
        let path = tempfile::Builder::new().prefix(prefix).tempdir().context("failed to make a temporary directory")?.keep();
        // Programs that write there may take a moment to die, so a removal that fails is tried again.
        let script = r#"read -r word; tries=20; while ! rm -rf "$1" && [ $tries -gt 0 ]; do sleep 0.5; tries=$((tries - 1)); done"#;
        let remover = Command::new("/bin/sh")
            .args(["-c", script, "remover"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to start the shell that removes the temporary directory")?;
        Ok(Self { path, remover: Some(remover) })
    }

    /// Uses `path`, made if it is missing, and leaves it in place afterwards.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn kept(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        Ok(Self { path, remover: None })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut remover) = self.remover.take() {
            drop(remover.stdin.take());
            let _ = remover.wait();
        }
    }
}

/// The last `lines` lines of a file, or a remark that it cannot be read: it is for messages about other failures.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    /// Far more than the last lines of any log take, and little to read.
    const WINDOW: u64 = 64 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}
