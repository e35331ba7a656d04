//! PostgreSQL with `cert` in `pg_hba.conf`: psql and JDBC with the files of the Secret.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    drivers::Program,
    page::{self, Places},
    process::{Conversation, Ended, INSTALL_LIMIT, find, free_port, in_pod, run, run_within},
    server::Server,
    stage::{Entries, Refused, Stage, serial_number},
    table::{Cell, Row},
    volume::Volume,
};

const PAGE: &str = "postgresql.md";

/// Asks which certificate the server was shown on this connection.
const SHOWN: &str = "SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid();";

/// What the server logs of a certificate that it does not take. It says no more before version 16.
const NOT_VERIFIED: &str = "could not accept SSL connection: certificate verify failed";

/// A server whose database, user and `pg_hba.conf` are those of the page. An error is what it needs, if that is not here.
async fn start(stage: &Stage) -> Result<Server, String> {
    let needs = "PostgreSQL (Debian: postgresql)";
    let binaries = folders();
    let folders: Vec<&str> = binaries.iter().map(String::as_str).collect();
    let (initdb, postgres) = find("initdb", &folders).zip(find("postgres", &folders)).ok_or(needs)?;
    find("psql", &[]).ok_or(needs)?;
    let mut server = Server::prepare("postgres", stage, &stage.ca).await;
    let mut command = server.command(&initdb);
    command.args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--pgdata"]);
    run_within(command.arg(server.path("data")), "", INSTALL_LIMIT).await.expect_success();
    server.write("data/pg_hba.conf", &format!("local all postgres trust\n{}", page::block(PAGE, "text tested"))).await;
    server.port = free_port();
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={}", server.port),
        format!("unix_socket_directories={}", server.path("")),
        "fsync=off".to_owned(),
        "ssl=on".to_owned(),
        format!("ssl_ca_file={}", server.path("users-ca.crt")),
        format!("ssl_cert_file={}", server.path("server.crt")),
        format!("ssl_key_file={}", server.path("server.key")),
    ];
    let mut arguments = vec!["-D".to_owned(), server.path("data")];
    arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    server.start(&postgres, &arguments);
    server.until_logged(1, "database system is ready to accept connections").await;
    for statement in page::block(PAGE, "sql tested").lines() {
        let mut command = server.command(Path::new("psql"));
        command.args(["-h", &server.path(""), "-p", &server.port.to_string(), "-U", "postgres", "-c", statement]);
        run(&mut command, "").await.expect_success();
    }
    Ok(server)
}

/// The page's command for the shell, with these further options.
fn command(server: &Server, volume: &Volume, options: &str) -> tokio::process::Command {
    let ca_file = server.ca_file();
    let places = Places { secret: volume.path(), server_ca: &ca_file, ports: (5432, server.port) };
    let script = places.block(PAGE, "sh tested").replace("psql ", &format!("{options} psql -qAt "));
    let mut command = in_pod("sh");
    command.arg("-c").arg(script);
    command
}

/// psql logs in as the page says.
pub async fn psql(stage: &'static Stage) -> Result<(), String> {
    let server = start(stage).await?;
    let mut volume = Volume::mount();
    let connection = json!({
        "type": "postgresql", "hosts": [format!("127.0.0.1:{}", server.port)], "database": "shop",
        "mountPath": volume.path(), "serverCAFile": server.ca_file(),
    });
    let spec = json!({ "username": "orders", "connection": connection });
    let first = stage.certificate("psql", spec).await;
    volume.update(&first);
    assert_eq!(shown(&server, &volume).await.expect_success().trim(), serial_number(&first).to_string());
    // A session that goes on: its next connection shows what the file holds then.
    let mut session = Conversation::start(&mut command(&server, &volume, ""));
    assert_eq!(session.ask(SHOWN).await, serial_number(&first).to_string());
    let second = stage.renewed("psql").await;
    volume.update(&second);
    assert_ne!(serial_number(&first), serial_number(&second));
    assert_eq!(session.ask(SHOWN).await, serial_number(&first).to_string(), "the connection goes on");
    assert_eq!(session.ask(&format!("\\connect\n{SHOWN}")).await, serial_number(&second).to_string());
    assert_eq!(shown(&server, &volume).await.expect_success().trim(), serial_number(&second).to_string());
    drop(session);

    refused(stage, &server, &volume, &second).await;
    // libpq refuses a key that everybody may read, which is what a volume has without `defaultMode`.
    volume.set_mode(0o644);
    volume.update(&second);
    shown(&server, &volume).await.expect_failure("has group or world access");
    page::assert_documented("psql", "reads per connection");
    stage.record(Row {
        client: format!("psql {}", version().await),
        format: "tls.crt, tls.key, uri",
        login: Cell::Yes,
        renewed: Cell::Yes,
        refused: Cell::Yes,
        changed_file: Cell::Measured("reads per connection"),
    });
    Ok(())
}

/// The JDBC driver logs in as the page says.
pub async fn jdbc(stage: &'static Stage) -> Result<(), String> {
    let server = start(stage).await?;
    let mut program = Program::jdbc(stage, server.port).await?;
    let first = stage.certificate("jdbc", json!({ "username": "orders", "formats": [{ "type": "PKCS8DER" }] })).await;
    program.volume.update(&first);
    let mut client = program.start();
    assert_eq!(client.answer().await, serial_number(&first).to_string());
    let second = stage.renewed("jdbc").await;
    program.volume.update(&second);
    assert_eq!(client.ask("a new connection").await, serial_number(&second).to_string());
    for (entries, words) in [
        (&stage.refused.wrong_user, "certificate authentication failed for user \"orders\""),
        // The server names its CA, and the driver shows no certificate of another.
        (&stage.refused.other_ca, "connection requires a valid client certificate"),
    ] {
        program.volume.update(entries);
        let said = client.ask("a new connection").await;
        assert!(said.starts_with("failed") && said.contains(words), "{words:?} is not in {said}");
    }
    // In TLS 1.3 the client is through with its part before the server refuses, and may see no more than a lost connection. The server tells why.
    let before = server.log().matches(NOT_VERIFIED).count();
    program.volume.update(&stage.refused.expired);
    let said = client.ask("a new connection").await;
    assert!(said.starts_with("failed"), "{said}");
    server.until_logged(before + 1, NOT_VERIFIED).await;
    program.volume.update(&second);
    assert_eq!(client.ask("the right one again").await, serial_number(&second).to_string());
    program.assert_needs_the_group(&second).await;
    page::assert_documented("PostgreSQL's JDBC driver", "reads per connection");
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

async fn refused(stage: &Stage, server: &Server, volume: &Volume, good: &Entries) {
    let show = |entries: &Entries| volume.update(&Refused::at_the_uri_of(entries, good));
    show(&stage.refused.wrong_user);
    shown(server, volume).await.expect_failure("certificate authentication failed for user \"orders\"");
    server.until_logged(1, "provided user name (orders) and authenticated user name (reports) do not match").await;
    show(&Entries::new());
    shown(server, volume).await.expect_failure("connection requires a valid client certificate");
    for (count, entries, words) in
        [(2, &stage.refused.expired, "alert certificate expired"), (4, &stage.refused.other_ca, "alert unknown ca")]
    {
        show(entries);
        // In TLS 1.3 the client is through with its part before the server refuses, and may see no more than a lost connection.
        let mut command = command(server, volume, "PGSSLMAXPROTOCOLVERSION=TLSv1.2");
        run(&mut command, SHOWN).await.expect_failure(words);
        assert!(!shown(server, volume).await.success);
        server.until_logged(count, NOT_VERIFIED).await;
    }
}

/// What the page's command prints for the question which certificate was shown.
async fn shown(server: &Server, volume: &Volume) -> Ended {
    run(&mut command(server, volume, ""), SHOWN).await
}

async fn version() -> String {
    let printed = run(in_pod("psql").arg("--version"), "").await.expect_success();
    printed.split_whitespace().nth(2).unwrap().to_owned()
}

/// The folders of Debian's versions, newest first.
fn folders() -> Vec<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<String> = versions.map(|version| version.path().join("bin").display().to_string()).collect();
    folders.sort_by(|one, other| other.cmp(one));
    folders
}
