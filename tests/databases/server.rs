//! A database server of the system, in a folder of its own, as the user that it wants, on loopback.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;
use usercert_test_support::control_plane::Supervised;

use crate::{
    process::{as_user, is_root, run, temporary},
    stage::Stage,
};

/// A server that is stopped when it is dropped; then its folder goes.
pub struct Server {
    process: Option<Supervised>,
    user: &'static str,
    /// Chosen right before the start, so that nobody else takes it meanwhile; 0 until then.
    pub port: u16,
    folder: TempDir,
}

impl Server {
    /// One that does not run yet, with the files of its TLS: `server.crt`, `server.key`, `server-ca.crt`, and `users-ca.crt` for the
    /// CAs whose clients it is to trust.
    pub async fn prepare(user: &'static str, stage: &Stage, users_ca: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("database-").tempdir_in(temporary()).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            let status = std::process::Command::new("chown").arg(user).arg(folder.path()).status().unwrap();
            assert!(status.success());
        }
        let server = Self { process: None, user, port: 0, folder };
        server.write("users-ca.crt", users_ca).await;
        // Clients read this one.
        fs::write(server.ca_file(), stage.server.ca_certificate()).unwrap();
        server.write("server.crt", &stage.server.certificate()).await;
        server.write("server.key", &stage.server.key()).await;
        server
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The CA of the certificate that it shows.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("server-ca.crt")
    }

    /// Writes a file as the server's user, for that user alone.
    pub async fn write(&self, name: &str, text: &str) {
        let script = format!("umask 077; cat > '{}'", self.path(name));
        run(self.command(Path::new("sh")).args(["-c", &script]), text).await.expect_success();
    }

    /// A command that runs as the server's user.
    pub fn command(&self, program: &Path) -> Command {
        let mut line = as_user(self.user);
        line.push(program.display().to_string());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).current_dir("/").env("TMPDIR", temporary());
        command
    }

    /// Starts the server itself.
    pub fn start(&mut self, program: &Path, arguments: &[String]) {
        let mut line = as_user(self.user);
        line.push(program.display().to_string());
        line.extend_from_slice(arguments);
        let log = self.folder.path().join("server.log");
        let environment = [("TMPDIR", temporary().display().to_string())];
        self.process = Some(Supervised::spawn(Path::new(&line[0]), &line[1..], &environment, &log).unwrap());
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    /// Waits a minute at most until it has logged this so many times.
    pub async fn until_logged(&self, count: usize, words: &str) {
        for _ in 0..600 {
            if self.log().matches(words).count() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{words:?} is not {count} times in {}", self.log());
    }
}
