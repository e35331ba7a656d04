//! MariaDB with `REQUIRE SUBJECT` and `REQUIRE ISSUER`, and its command-line client with the files of the Secret.

use serde_json::json;

use crate::{
    page::{self, Places},
    process::{Ended, INSTALL_LIMIT, find, free_port, in_pod, run, run_within},
    server::Server,
    stage::Stage,
    table::{Cell, Row},
    volume::Volume,
};

const PAGE: &str = "mariadb.md";

/// Asks who is logged in.
const WHO: &str = "SELECT CURRENT_USER();";

/// A server whose database and user are those of the page. It trusts both CAs, so it is MariaDB's own rule that tells them apart.
async fn start(stage: &Stage) -> Result<Server, String> {
    let needs = "MariaDB (Debian: mariadb-server, mariadb-client)";
    let mariadbd = find("mariadbd", &["/usr/sbin"]).ok_or(needs)?;
    let install = find("mariadb-install-db", &[]).ok_or(needs)?;
    find("mariadb", &[]).ok_or(needs)?;
    let mut server = Server::prepare("mysql", stage, &format!("{}{}", stage.ca, stage.other_ca)).await;
    let mut command = server.command(&install);
    command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    run_within(command.arg(format!("--datadir={}", server.path("data"))), "", INSTALL_LIMIT).await.expect_success();
    server.write("users.sql", &page::block(PAGE, "sql tested")).await;
    server.port = free_port();
    let arguments = [
        "--no-defaults".to_owned(),
        format!("--datadir={}", server.path("data")),
        "--bind-address=127.0.0.1".to_owned(),
        "--skip-name-resolve".to_owned(),
        format!("--port={}", server.port),
        format!("--socket={}", server.path("socket")),
        format!("--pid-file={}", server.path("pid")),
        format!("--ssl-ca={}", server.path("users-ca.crt")),
        format!("--ssl-cert={}", server.path("server.crt")),
        format!("--ssl-key={}", server.path("server.key")),
        format!("--init-file={}", server.path("users.sql")),
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
        // With the notes that name what differs, as the page says.
        "--log-warnings=2".to_owned(),
    ];
    server.start(&mariadbd, &arguments);
    server.until_logged(1, "ready for connections").await;
    Ok(server)
}

/// What the page's command says for a statement, with a further option.
async fn asked_by(server: &Server, volume: &Volume, option: &str, statement: &str) -> Ended {
    let ca_file = server.ca_file();
    let places = Places { secret: volume.path(), server_ca: &ca_file, ports: (3306, server.port) };
    let script = places.block(PAGE, "sh tested").replace("mariadb ", &format!("mariadb --skip-column-names --batch {option} "));
    run(in_pod("sh").arg("-c").arg(script), statement).await
}

async fn asked(server: &Server, volume: &Volume, statement: &str) -> Ended {
    asked_by(server, volume, "", statement).await
}

/// The client logs in as the page says.
pub async fn client(stage: &'static Stage) -> Result<(), String> {
    let server = start(stage).await?;
    let volume = Volume::mount();
    volume.update(&stage.certificate("mariadb", json!({ "username": "orders" })).await);
    assert_eq!(asked(&server, &volume, WHO).await.expect_success().trim(), "orders@%");
    volume.update(&stage.renewed("mariadb").await);
    assert_eq!(asked(&server, &volume, WHO).await.expect_success().trim(), "orders@%");

    // MariaDB compares text: it says which in its log, and nothing of it to the client.
    volume.update(&stage.refused.wrong_user);
    asked(&server, &volume, WHO).await.expect_failure("Access denied for user 'orders'");
    server.until_logged(1, "subject mismatch: should be '/O=Acme/OU=apps/CN=orders' but is '/O=Acme/OU=apps/CN=reports'").await;
    volume.update(&stage.refused.other_ca);
    asked(&server, &volume, WHO).await.expect_failure("Access denied for user 'orders'");
    server.until_logged(1, "issuer mismatch: should be '/O=Acme/CN=Users' but is '/O=Acme/CN=Others'").await;
    volume.update(&stage.refused.expired);
    // In TLS 1.3 the client is through with its part before the server refuses, and may see no more than a lost connection.
    asked_by(&server, &volume, "--tls-version=TLSv1.2", WHO).await.expect_failure("alert certificate expired");
    assert!(!asked(&server, &volume, WHO).await.success);
    // Another certificate was refused at the next start, and the server's log names it.
    let measured = "each start reads the files";
    page::assert_documented("mariadb", measured);
    stage.record(Row {
        client: format!("mariadb {}", version().await),
        format: "tls.crt, tls.key",
        login: Cell::Yes,
        renewed: Cell::Yes,
        refused: Cell::Yes,
        changed_file: Cell::Measured(measured),
    });
    Ok(())
}

async fn version() -> String {
    let printed = run(in_pod("mariadb").arg("--version"), "").await.expect_success();
    printed.split("Distrib ").nth(1).unwrap().split('-').next().unwrap().to_owned()
}
