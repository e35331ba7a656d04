//! What tells clients how to reach the database and to log in with the certificate: the entries of the Secret that `spec.connection`
//! asks for.
//!
//! The names of the entries, and what each must hold, are those of servicebinding.io ("Well-known Secret Entries").

#[cfg(test)]
mod tests;
mod uri;

use std::collections::BTreeMap;

use crate::{
    api::{
        Connection, DatabaseType, DatabaseUserCertificateSpec,
        names::{CA_CERTIFICATE, TLS_PRIVATE_KEY},
    },
    certificate::Subject,
};
use uri::uri;

/// The names of all entries that [`entries`] may give.
pub const ENTRY_NAMES: [&str; 9] =
    ["type", "provider", "host", "port", "database", "username", URI, "certificates", "private-key"];

/// The entry with the connection string. It is there whenever any of them is.
pub const URI: &str = "uri";

/// The value of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This text. It is no secret.
    Text(String),
    /// What the Secret has in this other entry; absent if it has none.
    CopyOf(&'static str),
}

/// The entries for a Secret whose certificate has this subject. None if the spec has no connection.
#[must_use]
pub fn entries(spec: &DatabaseUserCertificateSpec, subject: &Subject) -> BTreeMap<&'static str, Entry> {
    let Some(connection) = &spec.connection else { return BTreeMap::new() };
    let username = username(spec, connection.database_type, subject);
    let text = |value: &str| Some(Entry::Text(value.to_owned()));
    // Of several hosts none can stand for all, and an SRV name is no name of a host.
    let (host, port) = only_host(connection).unzip();
    [
        ("type", text(connection.database_type.name())),
        ("provider", connection.provider.as_deref().and_then(text)),
        ("host", host.and_then(text)),
        ("port", port.and_then(text)),
        ("database", connection.database.as_deref().and_then(text)),
        (URI, text(&uri(connection, &username))),
        ("username", text(&username)),
        // servicebinding.io means the CAs to trust. Which these are is known only if they are the CA of the users too.
        (
            "certificates",
            (connection.server_ca_file.as_deref() == Some(CA_CERTIFICATE)).then_some(Entry::CopyOf(CA_CERTIFICATE)),
        ),
        ("private-key", Some(Entry::CopyOf(TLS_PRIVATE_KEY))),
    ]
    .into_iter()
    .filter_map(|(name, entry)| Some((name, entry?)))
    .collect()
}

/// The name under which the database knows the user of this certificate.
///
/// MongoDB takes the whole subject (`$external` user). The others have the user name of the spec, as long as the certificate is for
/// it. While the certificate is for another, which is to be replaced, it is the common name: entries fit the certificate beside them.
fn username(spec: &DatabaseUserCertificateSpec, database_type: DatabaseType, subject: &Subject) -> String {
    if database_type == DatabaseType::MongoDb {
        return subject.mongodb_user_name();
    }
    let given = spec.username.as_deref().filter(|name| {
        let is_whole_subject = Subject::for_user(name) != Subject::common_name(name);
        let wanted = spec.subject.as_deref().map_or_else(|| Subject::for_user(name), Subject::parse);
        !is_whole_subject && wanted.as_ref() == Ok(subject)
    });
    // PostgreSQL compares the common name that is first in the encoding.
    let parts = subject.parts();
    let common_name = parts.iter().rev().flatten().find(|(attribute, _)| attribute == "CN").map(|(_, value)| value.as_str());
    given.or(common_name).map_or_else(|| subject.mongodb_user_name(), str::to_owned)
}

/// Host and port, if there is one host.
fn only_host(connection: &Connection) -> Option<(&str, &str)> {
    let [host] = connection.hosts.as_slice() else { return None };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host.as_str(), connection.database_type.default_port()),
    };
    Some((name.trim_start_matches('[').trim_end_matches(']'), port))
}
