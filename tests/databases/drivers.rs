//! Programs that use a driver as its page says: each is the page's block beside a program of `tests/databases/drivers`.
//!
//! The drivers come from the registries of their languages, in the versions and with the digests that their lock files name.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;
use usercert_test_support::{command::on_path, control_plane::repository};

use crate::{
    page::Places,
    process::{Conversation, Ended, can_be_entered, find, in_pod, is_root, run, run_within, temporary},
    stage::{Entries, Stage},
    volume::Volume,
};

/// How long it may take to fetch a driver and to compile a program.
const LIMIT: Duration = Duration::from_mins(8);

/// What pip, npm, Go and Cargo say of a lock file that does not fit what was fetched or what is asked for.
const LOCK_BROKEN: [&str; 8] = [
    "DO NOT MATCH THE HASHES",
    "require-hashes mode",
    "EINTEGRITY",
    "are in sync",
    "SECURITY ERROR",
    "missing go.sum entry",
    "checksum",
    "--locked was passed",
];

/// Which block of a driver's page is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The driver reads the files.
    Plain,
    /// The application hands the driver what the files hold at each connection.
    Rereading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
    Go,
    Rust,
    Java,
}

impl Language {
    /// The folder of its program, and its page without the ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Java => "java",
        }
    }

    /// The mark of its blocks, and the file that such a block becomes with what has to stand before it.
    fn block(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Python => ("python", "connect.py", ""),
            Self::Node => ("js", "connect.mjs", ""),
            Self::Go => ("go", "connect.go", "package main\n\n"),
            Self::Rust => ("rust", "src/connect.rs", ""),
            Self::Java => ("java", "ConnectMongoDb.java", ""),
        }
    }
}

/// A program that can be started, and the Secret that is mounted for it.
pub struct Program {
    command: Vec<String>,
    folder: PathBuf,
    pub volume: Volume,
    pub server_ca: PathBuf,
    // A second run of the tests waits for its turn with the folder.
    _turn: File,
}

impl Program {
    /// Makes the program that uses MongoDB's driver for this language, in a folder of this name.
    pub async fn mongodb(stage: &Stage, language: Language, way: Way, name: &str) -> Result<Self, String> {
        let (mark, file, before) = language.block();
        let mark = format!("{mark} tested{}", if way == Way::Plain { "" } else { " rereading" });
        let mut program = Self::prepare(stage, language, name);
        let places = program.places((0, 0));
        let code = places.block(&format!("{}.md", language.name()), &mark);
        fs::write(program.folder.join(file), format!("{before}{code}")).unwrap();
        program.command = program.build(language).await?;
        program.let_everybody_read().await;
        Ok(program)
    }

    /// Makes the program that uses PostgreSQL's driver for Java.
    pub async fn jdbc(stage: &Stage, port: u16) -> Result<Self, String> {
        let mut program = Self::prepare(stage, Language::Java, "jdbc");
        let code = program.places((5432, port)).block("postgresql.md", "java tested");
        fs::write(program.folder.join("ConnectPostgreSql.java"), code).unwrap();
        program.command = program.java("PostgreSqlProgram").await?;
        program.let_everybody_read().await;
        Ok(program)
    }

    /// A folder with the language's files and an empty volume. It stays between runs, so that nothing is fetched or compiled twice.
    fn prepare(stage: &Stage, language: Language, name: &str) -> Self {
        let folder = programs().join(name);
        fs::create_dir_all(&folder).unwrap();
        let turn = File::create(folder.join("turn")).unwrap();
        turn.lock().unwrap();
        copy(&repository().join("tests/databases/drivers").join(language.name()), &folder);
        let server_ca = folder.join("server-ca.crt");
        fs::write(&server_ca, stage.server.ca_certificate()).unwrap();
        let volume = Volume::mount_at(&folder.join("usercert"));
        Self { command: Vec::new(), folder, volume, server_ca, _turn: turn }
    }

    /// What the pages call by other names.
    pub fn places(&self, ports: (u16, u16)) -> Places<'_> {
        Places { secret: self.volume.path(), server_ca: &self.server_ca, ports }
    }

    /// As the process of a Pod.
    fn command(&self) -> Command {
        let mut command = in_pod(&self.command[0]);
        command.args(&self.command[1..]).current_dir(&self.folder);
        command
    }

    /// Starts it.
    pub fn start(&self) -> Conversation {
        Conversation::start(&mut self.command())
    }

    /// Starts it, and ends it after its first answer: what it said, or what it said of errors.
    pub async fn once(&self) -> String {
        let ended = run(&mut self.command(), "").await;
        ended.stdout.lines().next().map_or(ended.stderr, ToOwned::to_owned)
    }

    /// Asserts that a Pod without the `fsGroup` that the pages ask for could not read these files, and that the program says so.
    ///
    /// Without root it is the user of the tests that reads them, and owns them.
    pub async fn assert_needs_the_group(&mut self, entries: &Entries) {
        if is_root() {
            self.volume.set_mode(0o400);
            self.volume.update(entries);
            let said = self.once().await;
            assert!(["ermission denied", "EACCES", "AccessDenied"].iter().any(|words| said.contains(words)), "{said}");
        }
    }

    async fn build(&self, language: Language) -> Result<Vec<String>, String> {
        match language {
            Language::Python => self.python().await,
            Language::Node => self.node().await,
            Language::Go => self.go().await,
            Language::Rust => self.rust().await,
            Language::Java => self.java("MongoDbProgram").await,
        }
    }

    async fn python(&self) -> Result<Vec<String>, String> {
        let needs = "Python 3.9 or newer with venv, which a Pod's user may run (Debian: python3-venv)";
        // An interpreter in somebody's home is for that one alone.
        let interpreter = runnable("python3", &["-c", "import ensurepip, venv"], needs).await?.display().to_string();
        let (environment, python) = (self.folder.join("venv"), self.path("venv/bin/python"));
        if environment.exists() && !runs_in_pod(Path::new(&python), &["--version"]).await {
            fs::remove_dir_all(&environment).unwrap();
        }
        self.fetch("requirements.txt", &environment, async || {
            self.tool(&interpreter, &["-m", "venv", "venv"]).await?;
            self.tool(&python, &["-m", "pip", "install", "-q", "--require-hashes", "-r", "requirements.txt"]).await
        })
        .await?;
        Ok(vec![python, "program.py".to_owned()])
    }

    async fn node(&self) -> Result<Vec<String>, String> {
        let needs = "Node.js 20.19 or newer with npm";
        needed("npm", needs)?;
        let node = runnable("node", &["--version"], needs).await?;
        let version = run(in_pod(&node).arg("--version"), "").await.stdout;
        let mut parts = version.trim().trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0_u32));
        if (parts.next(), parts.next()) < (Some(20), Some(19)) {
            return Err(format!("{needs} (here is {})", version.trim()));
        }
        self.fetch("package-lock.json", &self.folder.join("node_modules"), async || {
            self.tool("npm", &["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).await
        })
        .await?;
        Ok(vec![node.display().to_string(), "program.mjs".to_owned()])
    }

    async fn go(&self) -> Result<Vec<String>, String> {
        needed("go", "Go 1.26 or newer")?;
        self.tool("go", &["mod", "download"]).await?;
        self.compiler("go", &["build", "-mod=readonly", "-o", "program", "."]).await;
        Ok(vec![self.path("program")])
    }

    async fn rust(&self) -> Result<Vec<String>, String> {
        needed("cargo", "Cargo")?;
        self.tool("cargo", &["fetch", "--locked", "--quiet"]).await?;
        self.compiler("cargo", &["build", "--locked", "--quiet", "--target-dir", "target"]).await;
        Ok(vec![self.path("target/debug/login")])
    }

    async fn java(&self, class: &str) -> Result<Vec<String>, String> {
        let needs = "a JDK of version 17 or newer and Maven (Debian: default-jdk-headless, maven)";
        for program in ["javac", "mvn"] {
            needed(program, needs)?;
        }
        let java = runnable("java", &["-version"], needs).await?.display().to_string();
        let jars = jars();
        self.fetch("jars.sha256", &jars, async || {
            let output = format!("-DoutputDirectory={}", jars.display());
            self.tool("mvn", &["-q", "-B", "dependency:copy-dependencies", &output]).await
        })
        .await?;
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--quiet", &self.path("jars.sha256")]).current_dir(&jars);
        run(&mut check, "").await.expect_success();
        let class_path = format!("{}/*:.", jars.display());
        let connect = class.replace("Program", ".java");
        self.compiler("javac", &["-cp", &class_path, &format!("{class}.java"), &format!("Connect{connect}")]).await;
        // Without a library for its log the driver warns of that alone.
        let quiet = "-Djava.util.logging.config.file=/dev/null";
        Ok([&java, quiet, "-cp", &class_path, class].map(ToOwned::to_owned).to_vec())
    }

    /// Whatever the umask of the tests is. The volume is empty yet.
    async fn let_everybody_read(&self) {
        fs::set_permissions(programs(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in [&self.folder, &jars()].into_iter().filter(|folder| folder.exists()) {
            run(Command::new("chmod").args(["-R", "go+rX"]).arg(folder), "").await.expect_success();
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    async fn run_tool(&self, program: &str, arguments: &[&str]) -> Ended {
        run_within(Command::new(program).args(arguments).current_dir(&self.folder), "", LIMIT).await
    }

    /// Runs something that needs a registry, and a second time if it fails. A failure is told as what is needed.
    async fn tool(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let mut ended = self.run_tool(program, arguments).await;
        if !ended.success {
            ended = self.run_tool(program, arguments).await;
        }
        if ended.success {
            return Ok(());
        }
        let said = format!("{}\n{}", ended.stdout, ended.stderr);
        // What is there, but is not what the lock file names, is no want of a registry.
        let differs = LOCK_BROKEN.iter().any(|words| said.contains(words));
        assert!(!differs, "{program} {} does not get what the lock file names: {said}", arguments.join(" "));
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(format!("what {program} {} fetches ({last})", arguments.join(" ")))
    }

    /// Runs something whose failure is a fault of the page or of the program.
    async fn compiler(&self, program: &str, arguments: &[&str]) {
        self.run_tool(program, arguments).await.expect_success();
    }

    /// Fetches into a folder what a lock file names, unless it was fetched already. What was fetched before goes.
    async fn fetch(&self, lock: &str, into: &Path, fetched: impl AsyncFnOnce() -> Result<(), String>) -> Result<(), String> {
        let (wanted, done) = (fs::read(self.folder.join(lock)).unwrap(), into.join(format!("{lock}.fetched")));
        if fs::read(&done).is_ok_and(|content| content == wanted) {
            return Ok(());
        }
        let _ = fs::remove_dir_all(into);
        fetched().await?;
        fs::write(done, wanted).unwrap();
        Ok(())
    }
}

/// Where the programs are: in a folder that a Pod's user may enter.
fn programs() -> PathBuf {
    let here = repository().join("target/databases");
    if here.parent().is_some_and(can_be_entered) { here } else { temporary().join("usercert-operator-databases") }
}

/// One copy of the drivers for Java, for all programs.
fn jars() -> PathBuf {
    programs().join("jars")
}

/// The first program of this name on the PATH with which a Pod's user can do this.
async fn runnable(program: &str, arguments: &[&str], needs: &str) -> Result<PathBuf, String> {
    for file in on_path(program) {
        if runs_in_pod(&file, arguments).await {
            return Ok(file);
        }
    }
    Err(needs.to_owned())
}

async fn runs_in_pod(program: &Path, arguments: &[&str]) -> bool {
    run(in_pod(program).args(arguments), "").await.success
}

fn needed(program: &str, needs: &str) -> Result<PathBuf, String> {
    find(program, &[]).ok_or_else(|| needs.to_owned())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if fs::read(&target).ok() != fs::read(entry.path()).ok() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
