//! Programs that the tests start: as which user they run, and for how long.

use std::{
    ffi::OsStr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use usercert_test_support::{command::on_path, control_plane::free_ports};

/// The user of a Pod, and its `fsGroup`.
const POD_USER: u32 = 65532;
pub const POD_GROUP: u32 = 2000;

/// The path of a socket has 107 bytes at most (unix(7)), of which the server's folder and the socket's name take some.
const LONGEST_PLACE: usize = 70;

/// How long a program may run that logs in once.
const LIMIT: Duration = Duration::from_mins(1);

/// How long it may take to lay out an empty database.
pub const INSTALL_LIMIT: Duration = Duration::from_mins(3);

/// Whether this program runs as root.
pub fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| std::fs::metadata("/proc/self").unwrap().uid() == 0)
}

/// The beginning of a command that runs as this user of the system: database servers refuse root. Empty without root.
pub fn as_user(name: &str) -> Vec<String> {
    let arguments = ["setpriv", "--reuid", name, "--regid", name, "--clear-groups", "--"];
    if is_root() { arguments.map(ToOwned::to_owned).to_vec() } else { Vec::new() }
}

/// A command that runs as the process of a Pod would.
pub fn in_pod(program: impl AsRef<OsStr>) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let (user, group) = (POD_USER.to_string(), POD_GROUP.to_string());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--groups", &group, "--"]).arg(program);
    command.env("HOME", "/nonexistent").env("TMPDIR", temporary());
    command
}

/// Where folders are made that only this run needs: in `TMPDIR`, unless other users of the system cannot enter it or a socket in it would have too long
/// a path.
pub fn temporary() -> PathBuf {
    let here = std::env::temp_dir();
    if can_be_entered(&here) && here.as_os_str().len() <= LONGEST_PLACE { here } else { PathBuf::from("/tmp") }
}

/// Whether others than root may enter this folder. Without root there are no others.
pub fn can_be_entered(folder: &Path) -> bool {
    let may_enter = |folder: &Path| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
    !is_root() || folder.ancestors().filter(|folder| folder.exists()).all(may_enter)
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// What it printed as a success.
    pub fn expect_success(self) -> String {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts that it failed and said this.
    pub fn expect_failure(self, words: &str) {
        assert!(!self.success, "it succeeded: {}", self.stdout);
        assert!(self.stderr.contains(words), "{words:?} is not in {}", self.stderr);
    }
}

/// Runs a program to its end with this input. It is killed after a minute.
pub async fn run(command: &mut Command, input: &str) -> Ended {
    run_within(command, input, LIMIT).await
}

/// The same with another limit.
pub async fn run_within(command: &mut Command, input: &str, limit: Duration) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read its input closes the pipe.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = timeout(limit, child.wait_with_output()).await.expect("the program did not end in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A program that goes on and answers line by line. It is killed when this is dropped.
pub struct Conversation {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Conversation {
    /// Starts it. What it says of errors is shown with the test's output.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, answers }
    }

    /// Says a line and waits for the answer, which is a line.
    pub async fn ask(&mut self, line: &str) -> String {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    /// The next line that it says.
    pub async fn answer(&mut self) -> String {
        let line = timeout(LIMIT, self.answers.next_line()).await.expect("no answer in time").unwrap();
        line.unwrap_or_else(|| panic!("the program ended: {:?}", self.child.try_wait()))
    }
}

/// A program of the system, where one of these folders or the PATH has it.
pub fn find(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let in_folders = folders.iter().map(|folder| Path::new(folder).join(program)).find(|file| file.is_file());
    in_folders.or_else(|| on_path(program).into_iter().next())
}

/// A port of loopback that is free now.
pub fn free_port() -> u16 {
    let [port] = free_ports().unwrap();
    port
}
