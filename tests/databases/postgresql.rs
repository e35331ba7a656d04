//! PostgreSQL with `cert` in `pg_hba.conf`, and psql with the files of the Secret.

use std::{fs, path::Path, path::PathBuf, time::Duration};

use tempfile::TempDir;
use usercert_test_support::control_plane::Supervised;

use crate::{
    drivers::Program,
    formats,
    page::{self, Places},
    process::{Conversation, Ended, as_user, find, free_port, in_pod, run},
    stage::{Entries, Stage, serial_number},
    table::{Cell, Row},
    volume::Volume,
};

const PAGE: &str = "postgresql.md";

/// Asks which certificate the server was shown on this connection.
const SHOWN: &str = "SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid();";

/// A running server; it stops when it is dropped, and its folder goes.
pub struct Server {
    process: Supervised,
    pub port: u16,
    pub ca_file: PathBuf,
    folder: TempDir,
}

impl Server {
    /// One whose database, user and `pg_hba.conf` are those of the page. What it needs, if that is not here.
    pub async fn start(stage: &Stage) -> Result<Self, String> {
        let needs = "PostgreSQL (Debian: postgresql)";
        let binaries = server_folders();
        let folders: Vec<&str> = binaries.iter().map(String::as_str).collect();
        let (initdb, postgres) = find("initdb", &folders).zip(find("postgres", &folders)).ok_or(needs)?;
        find("psql", &folders).ok_or(needs)?;
        let folder = as_user_folder("postgres");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command = command_as("postgres", &initdb);
        command.args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--pgdata"]);
        run(command.arg(path("data")), "").await.expect_success();
        for (name, text) in [
            ("users-ca.crt", &stage.ca),
            ("server-ca.crt", &stage.server.ca_certificate()),
            ("server.crt", &stage.server.certificate()),
            ("server.key", &stage.server.key()),
            ("data/pg_hba.conf", &format!("local all postgres trust\n{}", page::block(PAGE, "text"))),
        ] {
            write_for("postgres", Path::new(&path(name)), text).await;
        }
        let port = free_port();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={}", folder.path().display()),
            "fsync=off".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_ca_file={}", path("users-ca.crt")),
            format!("ssl_cert_file={}", path("server.crt")),
            format!("ssl_key_file={}", path("server.key")),
        ];
        let mut line = as_user("postgres");
        line.extend([postgres.display().to_string(), "-D".to_owned(), path("data")]);
        line.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        let log = folder.path().join("postgres.log");
        let process = Supervised::spawn(Path::new(&line[0]), &line[1..], &[], &log).unwrap();
        let server = Self { process, port, ca_file: folder.path().join("server-ca.crt"), folder };
        server.administrate("SELECT 1;").await;
        for statement in page::block(PAGE, "sql").lines() {
            server.administrate(statement).await;
        }
        Ok(server)
    }

    /// Runs a statement as the administrator, as soon as the server takes one.
    async fn administrate(&self, statement: &str) {
        let mut last = None;
        for _ in 0..100 {
            let mut command = command_as("postgres", Path::new("psql"));
            command.args(["-h", &self.folder.path().display().to_string(), "-p", &self.port.to_string()]);
            command.args(["-U", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement]);
            let ended = run(&mut command, "").await;
            if ended.success {
                return;
            }
            last = Some(ended);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{last:?}\n{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap()
    }

    /// Waits until the log has this.
    pub async fn until_logged(&self, words: &str) {
        for _ in 0..50 {
            if self.log().contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{words:?} is not in {}", self.log());
    }

    pub fn places<'a>(&'a self, volume: &'a Volume) -> Places<'a> {
        Places { secret: volume.path(), server_ca: &self.ca_file, ports: (5432, self.port) }
    }
}

/// psql logs in as the page says.
pub async fn psql(stage: &'static Stage) -> Result<(), String> {
    let server = Server::start(stage).await?;
    let first = stage.certificate("psql").await;
    let volume = Volume::mount(&first);
    assert_eq!(shown(&server, &volume, SHOWN).await.expect_success().trim(), serial_number(&first).to_string());
    // A session that goes on: its next connection shows what the file holds then.
    let mut command = in_pod("sh");
    let mut session =
        Conversation::start(command.arg("-c").arg(server.places(&volume).block(PAGE, "sh").replace("psql ", "psql -qAt ")));
    assert_eq!(session.ask(SHOWN).await, serial_number(&first).to_string());
    let second = stage.renewed("psql").await;
    volume.update(&second);
    assert_ne!(serial_number(&first), serial_number(&second));
    assert_eq!(session.ask(SHOWN).await, serial_number(&first).to_string(), "the connection goes on");
    assert_eq!(session.ask(&format!("\\connect\n{SHOWN}")).await, serial_number(&second).to_string());
    assert_eq!(shown(&server, &volume, SHOWN).await.expect_success().trim(), serial_number(&second).to_string());

    // libpq refuses a key that everybody may read, which is what a volume has without `defaultMode`.
    let readable = Volume::mount_with_mode(&second, 0o644);
    shown(&server, &readable, SHOWN).await.expect_failure("has group or world access");
    refused(stage, &server).await;
    stage.record(Row {
        client: format!("psql {}", version().await),
        format: "tls.crt, tls.key",
        login: Cell::Yes,
        renewed: Cell::Yes,
        refused: Cell::Yes,
        changed_file: Cell::Measured("reads per connection"),
    });
    Ok(())
}

/// The JDBC driver logs in as the page says.
pub async fn jdbc(stage: &'static Stage) -> Result<(), String> {
    let server = Server::start(stage).await?;
    let program = Program::jdbc(stage, server.port).await?;
    let mount = |entries: &Entries| {
        program.mount(&formats::complete(entries.clone(), server.port, program.volume.path(), &program.server_ca));
    };
    let first = stage.certificate("jdbc").await;
    mount(&first);
    let mut client = program.start();
    assert_eq!(client.answer().await, serial_number(&first).to_string());
    let second = stage.renewed("jdbc").await;
    mount(&second);
    assert_eq!(client.ask("a new connection").await, serial_number(&second).to_string());
    for (entries, words) in [
        (&stage.refused.wrong_user, "certificate authentication failed for user \"orders\""),
        (&stage.refused.expired, "certificate_expired"),
        // The server names its CA, and the driver shows no certificate of another.
        (&stage.refused.other_ca, "connection requires a valid client certificate"),
    ] {
        mount(entries);
        let said = client.ask("a new connection").await;
        assert!(said.starts_with("failed") && said.contains(words), "{words:?} is not in {said}");
    }
    mount(&second);
    assert_eq!(client.ask("the right one again").await, serial_number(&second).to_string());
    stage.record(Row {
        client: "JDBC for PostgreSQL".to_owned(),
        format: "tls.crt, tls.pk8",
        login: Cell::Yes,
        renewed: Cell::Yes,
        refused: Cell::Yes,
        changed_file: Cell::Measured("reads per connection"),
    });
    Ok(())
}

async fn refused(stage: &Stage, server: &Server) {
    let wrong_user = Volume::mount(&stage.refused.wrong_user);
    shown(server, &wrong_user, SHOWN).await.expect_failure("certificate authentication failed for user \"orders\"");
    server.until_logged("provided user name (orders) and authenticated user name (reports) do not match").await;
    let expired = Volume::mount(&stage.refused.expired);
    shown(server, &expired, SHOWN).await.expect_failure("alert certificate expired");
    server.until_logged("could not accept SSL connection: certificate verify failed").await;
    let other_ca = Volume::mount(&stage.refused.other_ca);
    shown(server, &other_ca, SHOWN).await.expect_failure("alert unknown ca");
    let nothing = Volume::mount(&Entries::new());
    shown(server, &nothing, SHOWN).await.expect_failure("connection requires a valid client certificate");
}

/// What the page's command prints for a statement.
async fn shown(server: &Server, volume: &Volume, statement: &str) -> Ended {
    let script = server.places(volume).block(PAGE, "sh").replace("psql ", "psql -qAt ");
    run(in_pod("sh").arg("-c").arg(script), statement).await
}

async fn version() -> String {
    let printed = run(in_pod("psql").arg("--version"), "").await.expect_success();
    printed.split_whitespace().nth(2).unwrap().to_owned()
}

/// The folders of Debian's versions, newest first.
fn server_folders() -> Vec<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<String> = versions.map(|version| version.path().join("bin").display().to_string()).collect();
    folders.sort_by(|one, other| other.cmp(one));
    folders
}

/// A command that runs as this user of the system.
pub fn command_as(user: &str, program: &Path) -> tokio::process::Command {
    let mut line = as_user(user);
    line.push(program.display().to_string());
    let mut command = tokio::process::Command::new(&line[0]);
    command.args(&line[1..]).current_dir("/");
    command
}

/// A folder of this user that others may enter.
pub fn as_user_folder(user: &str) -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::Builder::new().prefix("database-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if crate::process::is_root() {
        let status = std::process::Command::new("chown").arg(user).arg(folder.path()).status().unwrap();
        assert!(status.success());
    }
    folder
}

/// Writes a file that belongs to this user, and that others may read unless it is a key.
pub async fn write_for(user: &str, file: &Path, text: &str) {
    let mode = if file.extension().is_some_and(|extension| extension == "key") { "600" } else { "644" };
    let script = format!("umask 077; cat > '{0}'; chmod {mode} '{0}'", file.display());
    run(command_as(user, Path::new("sh")).args(["-c", &script]), text).await.expect_success();
}
