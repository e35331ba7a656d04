//! What the stand-in answers.

use bson::{Bson, DateTime, Document, doc};

use super::{ledger::Refusal, session::Session};

/// The version that it tells; `WIRE_VERSION` belongs to it.
const VERSION: &str = "7.0.0";
const WIRE_VERSION: i32 = 21;

/// The answer to a command.
pub(super) fn answer(session: &mut Session<'_>, command: &Document) -> Document {
    let Some((name, _)) = command.iter().next() else { return failure(40415, "BadValue", "an empty command") };
    match name.to_lowercase().as_str() {
        "hello" | "ismaster" => hello(session, command),
        "authenticate" => match session.authenticate(command, false) {
            Ok(answer) => success(answer),
            Err(refusal) => refused(&refusal),
        },
        "ping" | "endsessions" | "killcursors" => success(doc! {}),
        "buildinfo" => success(build_info()),
        "connectionstatus" => success(connection_status(session)),
        "find" | "aggregate" if session.user.is_none() => {
            failure(13, "Unauthorized", &format!("Command {name} requires authentication"))
        }
        "find" | "aggregate" => success(no_documents(command)),
        _ => failure(59, "CommandNotFound", &format!("no such command: '{name}'")),
    }
}

/// mongod names a user that it does not know and a wrong database; of everything else it says no more than that it failed.
fn refused(refusal: &Refusal) -> Document {
    match refusal {
        Refusal::UnknownUser(name) => {
            failure(11, "UserNotFound", &format!("Could not find user \"{name}\" for db \"$external\""))
        }
        Refusal::OtherDatabase(_) => {
            failure(17, "ProtocolError", "X.509 authentication must always use the $external database.")
        }
        _ => failure(18, "AuthenticationFailed", "Authentication failed."),
    }
}

fn hello(session: &mut Session<'_>, command: &Document) -> Document {
    if let Ok(driver) = command.get_document("client").and_then(|client| client.get_document("driver")) {
        // What is built upon a driver adds its own name after a bar.
        let part = |key: &str| driver.get_str(key).unwrap_or_default().split('|').next().unwrap_or_default();
        session.driver = format!("{} {}", part("name"), part("version"));
    }
    let mut answer = doc! {
        "helloOk": true,
        "maxBsonObjectSize": 16 << 20,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "localTime": DateTime::now(),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": i32::try_from(session.connection).unwrap_or(i32::MAX),
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": false,
    };
    let primary = if command.contains_key("hello") { "isWritablePrimary" } else { "ismaster" };
    answer.insert(primary, true);
    // As with mongod, a refusal is told by what is missing: the client then asks with `authenticate`, and gets the error.
    let login = command.get_document("speculativeAuthenticate").ok();
    if let Some(login) = login.and_then(|asked| session.authenticate(asked, true).ok()) {
        answer.insert("speculativeAuthenticate", login);
    }
    success(answer)
}

fn build_info() -> Document {
    doc! { "version": VERSION, "versionArray": [7, 0, 0, 0], "gitVersion": "stand-in", "bits": 64, "maxBsonObjectSize": 16 << 20 }
}

fn connection_status(session: &Session<'_>) -> Document {
    let users: Vec<Bson> =
        session.user.iter().map(|user| Bson::Document(doc! { "user": user.as_str(), "db": "$external" })).collect();
    doc! { "authInfo": { "authenticatedUsers": users, "authenticatedUserRoles": [] } }
}

fn no_documents(command: &Document) -> Document {
    let collection = command.get_str("find").or_else(|_| command.get_str("aggregate")).unwrap_or("$cmd.aggregate");
    let namespace = format!("{}.{collection}", command.get_str("$db").unwrap_or_default());
    doc! { "cursor": { "id": 0_i64, "ns": namespace, "firstBatch": [] } }
}

fn success(mut answer: Document) -> Document {
    answer.insert("ok", 1.0);
    answer
}

fn failure(code: i32, name: &str, message: &str) -> Document {
    doc! { "ok": 0.0, "errmsg": message, "code": code, "codeName": name }
}
