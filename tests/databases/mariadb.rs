//! MariaDB with `REQUIRE SUBJECT` and `REQUIRE ISSUER`, and its command-line client with the files of the Secret.

use std::{fs, path::Path, path::PathBuf, time::Duration};

use tempfile::TempDir;
use usercert_test_support::control_plane::Supervised;

use crate::{
    page::{self, Places},
    postgresql::{as_user_folder, command_as, write_for},
    process::{Ended, as_user, find, free_port, in_pod, run},
    stage::Stage,
    table::{Cell, Row},
    volume::Volume,
};

const PAGE: &str = "mariadb.md";

/// Asks who is logged in.
const WHO: &str = "SELECT CURRENT_USER();";

struct Server {
    process: Supervised,
    port: u16,
    ca_file: PathBuf,
    _folder: TempDir,
}

impl Server {
    /// One whose database and user are those of the page, and that trusts both CAs: so it is MariaDB's own rule that tells them apart.
    async fn start(stage: &Stage) -> Result<Self, String> {
        let needs = "MariaDB (Debian: mariadb-server, mariadb-client)";
        let mariadbd = find("mariadbd", &["/usr/sbin"]).ok_or(needs)?;
        let install = find("mariadb-install-db", &[]).ok_or(needs)?;
        find("mariadb", &[]).ok_or(needs)?;
        let folder = as_user_folder("mysql");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command = command_as("mysql", &install);
        command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        run(command.arg(format!("--datadir={}", path("data"))), "").await.expect_success();
        for (name, text) in [
            ("users-ca.crt", &format!("{}{}", stage.ca, stage.other_ca)),
            ("server-ca.crt", &stage.server.ca_certificate()),
            ("server.crt", &stage.server.certificate()),
            ("server.key", &stage.server.key()),
            ("users.sql", &page::block(PAGE, "sql")),
        ] {
            write_for("mysql", Path::new(&path(name)), text).await;
        }
        let port = free_port();
        let mut line = as_user("mysql");
        line.extend([
            mariadbd.display().to_string(),
            "--no-defaults".to_owned(),
            format!("--datadir={}", path("data")),
            "--bind-address=127.0.0.1".to_owned(),
            "--skip-name-resolve".to_owned(),
            format!("--port={port}"),
            format!("--socket={}", path("socket")),
            format!("--pid-file={}", path("pid")),
            format!("--ssl-ca={}", path("users-ca.crt")),
            format!("--ssl-cert={}", path("server.crt")),
            format!("--ssl-key={}", path("server.key")),
            format!("--init-file={}", path("users.sql")),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--log-warnings=9".to_owned(),
        ]);
        let log = folder.path().join("mariadb.log");
        let process = Supervised::spawn(Path::new(&line[0]), &line[1..], &[], &log).unwrap();
        let server = Self { process, port, ca_file: folder.path().join("server-ca.crt"), _folder: folder };
        server.until_logged("ready for connections").await;
        Ok(server)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap()
    }

    async fn until_logged(&self, words: &str) {
        for _ in 0..200 {
            if self.log().contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{words:?} is not in {}", self.log());
    }

    /// What the page's command says for a statement.
    async fn asked(&self, volume: &Volume, statement: &str) -> Ended {
        self.asked_by(volume, "", statement).await
    }

    /// The same with a further option.
    async fn asked_by(&self, volume: &Volume, option: &str, statement: &str) -> Ended {
        let places = Places { secret: volume.path(), server_ca: &self.ca_file, ports: (3306, self.port) };
        let script = places.block(PAGE, "sh").replace("mariadb ", &format!("mariadb --skip-column-names --batch {option} "));
        run(in_pod("sh").arg("-c").arg(script), statement).await
    }
}

/// The client logs in as the page says.
pub async fn client(stage: &'static Stage) -> Result<(), String> {
    let server = Server::start(stage).await?;
    let volume = Volume::mount(&stage.certificate("mariadb").await);
    assert_eq!(server.asked(&volume, WHO).await.expect_success().trim(), "orders@%");
    volume.update(&stage.renewed("mariadb").await);
    assert_eq!(server.asked(&volume, WHO).await.expect_success().trim(), "orders@%");

    // MariaDB compares text: it says which in its log, and nothing of it to the client.
    let wrong_user = Volume::mount(&stage.refused.wrong_user);
    server.asked(&wrong_user, WHO).await.expect_failure("Access denied for user 'orders'");
    server.until_logged("subject mismatch: should be '/O=Acme/OU=apps/CN=orders' but is '/O=Acme/OU=apps/CN=reports'").await;
    let other_ca = Volume::mount(&stage.refused.other_ca);
    server.asked(&other_ca, WHO).await.expect_failure("Access denied for user 'orders'");
    server.until_logged("issuer mismatch: should be '/O=Acme/CN=Users' but is '/O=Acme/CN=Others'").await;
    let expired = Volume::mount(&stage.refused.expired);
    // In TLS 1.3 the client is through with its part before the server refuses, and may see no more than a lost connection.
    server.asked_by(&expired, "--tls-version=TLSv1.2", WHO).await.expect_failure("alert certificate expired");
    assert!(!server.asked(&expired, WHO).await.success);
    stage.record(Row {
        client: format!("mariadb {}", version().await),
        format: "tls.crt, tls.key",
        login: Cell::Yes,
        renewed: Cell::Yes,
        refused: Cell::Yes,
        changed_file: Cell::NotApplicable,
    });
    Ok(())
}

async fn version() -> String {
    let printed = run(in_pod("mariadb").arg("--version"), "").await.expect_success();
    printed.split("Distrib ").nth(1).unwrap().split('-').next().unwrap().to_owned()
}
