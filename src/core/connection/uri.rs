//! Connection strings.
//!
//! - MongoDB: the connection string and URI options specifications of its drivers.
//! - PostgreSQL: connection URIs of libpq.
//! - MySQL: URI-like strings of MySQL Shell; there is no form that all clients share.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::{
    Connection, DatabaseType,
    names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY},
};

/// All but the unreserved characters (RFC 3986 section 2.3). The parsers differ in what else they take as it is: MySQL Shell refuses
/// a slash in a value, libpq an equals sign, and some drivers read a plus sign as a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The connection string, with the files of the certificate below the mount path.
pub(super) fn uri(connection: &Connection, username: &str) -> String {
    let (scheme, user) = match (connection.database_type, &connection.srv) {
        // The certificate says who the user is, and an `@` alone would ask for a login by password (authentication specification).
        (DatabaseType::MongoDb, Some(_)) => ("mongodb+srv", None),
        (DatabaseType::MongoDb, None) => ("mongodb", None),
        (DatabaseType::PostgreSql, _) => ("postgresql", Some(username)),
        (DatabaseType::MySql, _) => ("mysql", Some(username)),
    };
    let user = user.map(|user| format!("{}@", encoded(user))).unwrap_or_default();
    let hosts = connection.srv.clone().unwrap_or_else(|| connection.hosts.join(","));
    let database = connection.database.as_deref().map(encoded).unwrap_or_default();
    let given = connection.options.iter().map(|option| (option.name.as_str(), option.value.clone()));
    let query: Vec<String> =
        login(connection).into_iter().chain(given).map(|(name, value)| format!("{name}={}", encoded(&value))).collect();
    format!("{scheme}://{user}{hosts}/{database}?{}", query.join("&"))
}

/// The options by which the client logs in with the certificate and verifies the server.
fn login(connection: &Connection) -> Vec<(&'static str, String)> {
    let file = |name: &str| format!("{}/{name}", connection.mount_path);
    let text = str::to_owned;
    let (mut options, server_ca) = match connection.database_type {
        DatabaseType::MongoDb => (
            vec![
                ("authMechanism", text("MONGODB-X509")),
                ("authSource", text("$external")),
                ("tls", text("true")),
                ("tlsCertificateKeyFile", file(TLS_COMBINED)),
            ],
            "tlsCAFile",
        ),
        DatabaseType::PostgreSql => (
            vec![("sslmode", text("verify-full")), ("sslcert", file(TLS_CERTIFICATE)), ("sslkey", file(TLS_PRIVATE_KEY))],
            "sslrootcert",
        ),
        DatabaseType::MySql => (
            vec![
                ("ssl-mode", text("VERIFY_IDENTITY")),
                ("ssl-cert", file(TLS_CERTIFICATE)),
                ("ssl-key", file(TLS_PRIVATE_KEY)),
            ],
            "ssl-ca",
        ),
    };
    match connection.server_ca_file.as_deref() {
        Some(CA_CERTIFICATE) => options.push((server_ca, file(CA_CERTIFICATE))),
        Some(elsewhere) => options.push((server_ca, text(elsewhere))),
        None => {}
    }
    options
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
