//! Statements about the entries. The connection strings are read back as their specifications say, by the `url` crate, and by libpq
//! and MongoDB's own driver where they are installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod parsers;

use proptest::{prelude::*, strategy::ValueTree};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use parsers::{Parsed, libpq, mongodb_driver, parsed};

/// A spec as a user writes it.
fn spec(connection: Value) -> DatabaseUserCertificateSpec {
    let mut spec = json!({ "username": "orders", "issuerRef": { "name": "ca" }, "connection": { "mountPath": "/certs" } });
    let Value::Object(connection) = connection else { panic!("{connection} is no object") };
    for (key, value) in connection {
        spec["connection"][key] = value;
    }
    serde_json::from_value(spec).unwrap()
}

fn entries_of(spec: &DatabaseUserCertificateSpec) -> BTreeMap<&'static str, Entry> {
    entries(spec, &Subject::for_user("orders").unwrap())
}

fn text(entries: &BTreeMap<&'static str, Entry>, name: &str) -> String {
    match entries.get(name) {
        Some(Entry::Text(text)) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn names(entries: &BTreeMap<&'static str, Entry>) -> Vec<&'static str> {
    entries.keys().copied().collect()
}

#[test]
fn without_a_connection_there_are_no_entries() {
    let spec = DatabaseUserCertificateSpec { username: Some("orders".into()), ..Default::default() };
    assert_eq!(entries_of(&spec), BTreeMap::new());
}

#[rstest]
#[case::srv(
    json!({ "srv": "cluster0.ab1cd.mongodb.net", "database": "orders", "options": [{ "name": "appName", "value": "orders & co" }] }),
    "mongodb+srv://cluster0.ab1cd.mongodb.net/orders?authMechanism=MONGODB-X509&authSource=%24external&tls=true\
     &tlsCertificateKeyFile=%2Fcerts%2Ftls-combined.pem&appName=orders%20%26%20co",
)]
#[case::replica_set(
    json!({
        "hosts": ["db-0.example:27017", "[2001:db8::1]:27018", "192.0.2.1"], "serverCAFile": "ca.crt",
        "options": [{ "name": "replicaSet", "value": "rs0" }],
    }),
    "mongodb://db-0.example:27017,[2001:db8::1]:27018,192.0.2.1/?authMechanism=MONGODB-X509&authSource=%24external&tls=true\
     &tlsCertificateKeyFile=%2Fcerts%2Ftls-combined.pem&tlsCAFile=%2Fcerts%2Fca.crt&replicaSet=rs0",
)]
#[case::postgresql(
    json!({ "type": "postgresql", "hosts": ["pg-0.example:5432", "pg-1.example"], "database": "a/b c", "serverCAFile": "ca.crt" }),
    "postgresql://orders@pg-0.example:5432,pg-1.example/a%2Fb%20c?sslmode=verify-full&sslcert=%2Fcerts%2Ftls.crt\
     &sslkey=%2Fcerts%2Ftls.key&sslrootcert=%2Fcerts%2Fca.crt",
)]
#[case::mysql(
    json!({ "type": "mysql", "hosts": ["mysql.example"], "database": "orders", "serverCAFile": "/etc/ssl/mysql.pem" }),
    "mysql://orders@mysql.example/orders?ssl-mode=VERIFY_IDENTITY&ssl-cert=%2Fcerts%2Ftls.crt&ssl-key=%2Fcerts%2Ftls.key\
     &ssl-ca=%2Fetc%2Fssl%2Fmysql.pem",
)]
fn a_uri_says_where_the_database_is_and_how_to_log_in(#[case] connection: Value, #[case] uri: &str) {
    assert_eq!(text(&entries_of(&spec(connection)), "uri"), uri);
}

#[test]
fn one_host_has_entries_of_its_own() {
    for (host, name, port) in [
        ("db.example", "db.example", "5432"),
        ("db.example:6543", "db.example", "6543"),
        ("[2001:db8::1]", "2001:db8::1", "5432"),
        ("[2001:db8::1]:6543", "2001:db8::1", "6543"),
    ] {
        let entries = entries_of(&spec(
            json!({ "type": "postgresql", "hosts": [host], "database": "d", "serverCAFile": "ca.crt", "provider": "acme" }),
        ));
        let mut expected = ENTRY_NAMES.to_vec();
        expected.sort_unstable();
        assert_eq!(names(&entries), expected, "every entry is there");
        assert_eq!((text(&entries, "host"), text(&entries, "port")), (name.to_owned(), port.to_owned()));
        assert_eq!((text(&entries, "type"), text(&entries, "provider")), ("postgresql".to_owned(), "acme".to_owned()));
        assert_eq!(text(&entries, "database"), "d");
        assert_eq!(entries["private-key"], Entry::CopyOf("tls.key"));
        assert_eq!(entries["certificates"], Entry::CopyOf("ca.crt"));
    }
}

#[rstest]
#[case::several_hosts(json!({ "hosts": ["a", "b"] }))]
#[case::srv(json!({ "srv": "cluster0.ab1cd.mongodb.net" }))]
fn what_is_not_one_host_has_no_entry_host(#[case] connection: Value) {
    assert_eq!(names(&entries_of(&spec(connection))), ["private-key", "type", "uri", "username"]);
}

#[test]
fn certificates_to_trust_are_not_claimed_where_they_are_in_another_file() {
    let elsewhere = entries_of(&spec(json!({ "hosts": ["a"], "serverCAFile": "/etc/ssl/db.pem" })));
    assert!(!elsewhere.contains_key("certificates"));
    assert!(text(&elsewhere, "uri").contains("tlsCAFile=%2Fetc%2Fssl%2Fdb.pem"));
}

#[rstest]
#[case::mongodb_takes_the_subject("mongodb", json!({ "username": "orders" }), "CN=orders", "CN=orders")]
#[case::as_openssl_prints_it("mongodb", json!({ "username": "müller" }), "CN=müller", r"CN=m\C3\BCller")]
#[case::an_atlas_user_is_named_elsewhere("mongodb", json!({}), "CN=orders", "CN=orders")]
#[case::others_take_the_user("postgresql", json!({ "username": "orders" }), "CN=orders", "orders")]
#[case::whatever_the_subject("mysql", json!({ "username": "orders", "subject": "CN=x,O=Acme" }), "CN=x,O=Acme", "orders")]
#[case::or_its_common_name("postgresql", json!({ "username": "CN=orders,O=Acme" }), "CN=orders,O=Acme", "orders")]
#[case::the_first_in_the_encoding("postgresql", json!({ "username": "CN=orders,CN=Users,DC=x" }), "CN=orders,CN=Users,DC=x", "Users")]
#[case::until_the_new_certificate_is_there("postgresql", json!({ "username": "reports" }), "CN=orders", "orders")]
fn the_user_name_is_the_one_that_fits_the_certificate(
    #[case] database_type: &str,
    #[case] user: Value,
    #[case] subject: &str,
    #[case] username: &str,
) {
    let mut spec = spec(json!({ "type": database_type, "hosts": ["a"], "serverCAFile": "ca.crt" }));
    spec.username = user["username"].as_str().map(Into::into);
    spec.subject = user["subject"].as_str().map(Into::into);
    let entries = entries(&spec, &Subject::parse(subject).unwrap());
    assert_eq!(text(&entries, "username"), username);
    let user = parsed(&text(&entries, "uri")).user;
    assert_eq!(user.as_deref(), (database_type != "mongodb").then_some(username), "a MongoDB driver is told no user");
}

/// What the API server lets through, and what a URI could be broken with.
fn any_connection() -> impl Strategy<Value = Value> {
    let host = prop_oneof![
        r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,8}[a-z0-9])?){0,3}",
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ];
    let host = (host, proptest::option::of(1..=u16::MAX))
        .prop_map(|(host, port)| port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")));
    let hosts = proptest::collection::btree_set(host, 1..4);
    let value = r"[ -~äß漢%&=?/#@:+,;]{0,12}";
    let options = proptest::collection::btree_map("x[a-z0-9_.-]{0,8}", value, 0..4);
    let path = r"(/[A-Za-z0-9_.-]{1,8}){1,3}";
    let others = (
        proptest::option::of(r"[a-zA-Z0-9äß漢%&=?#@:+,;'()-]{1,12}"),
        options,
        path,
        prop_oneof![Just("ca.crt".to_owned()), path],
    );
    (0..4_usize, hosts, others).prop_map(|(kind, hosts, (database, options, mount_path, ca))| {
        let hosts: Vec<String> = hosts.into_iter().take(if kind == 3 { 1 } else { 4 }).collect();
        let options: Vec<Value> = options.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let database_type = ["mongodb", "mongodb", "postgresql", "mysql"][kind];
        let mut connection = json!({
            "type": database_type, "hosts": hosts, "database": database,
            "options": options, "mountPath": mount_path, "serverCAFile": ca,
        });
        if kind == 0 {
            connection["hosts"] = json!([]);
            connection["srv"] = json!("cluster0.example.net");
        }
        connection
    })
}

/// What a client must read in the URI.
fn expected(connection: &Value, username: &str) -> Parsed {
    let connection = &spec(connection.clone()).connection.unwrap();
    let hosts = connection.srv.clone().map_or_else(|| connection.hosts.clone(), |srv| vec![srv]);
    let file = |name: &str| format!("{}/{name}", connection.mount_path);
    let ca = connection.server_ca_file.as_deref().unwrap();
    let ca = if ca == "ca.crt" { file(ca) } else { ca.to_owned() };
    let (scheme, user, login) = match connection.database_type {
        DatabaseType::MongoDb => (
            if connection.srv.is_some() { "mongodb+srv" } else { "mongodb" },
            None,
            vec![
                ("authMechanism", "MONGODB-X509".to_owned()),
                ("authSource", "$external".to_owned()),
                ("tls", "true".to_owned()),
                ("tlsCertificateKeyFile", file("tls-combined.pem")),
                ("tlsCAFile", ca),
            ],
        ),
        DatabaseType::PostgreSql => (
            "postgresql",
            Some(username.to_owned()),
            vec![
                ("sslmode", "verify-full".to_owned()),
                ("sslcert", file("tls.crt")),
                ("sslkey", file("tls.key")),
                ("sslrootcert", ca),
            ],
        ),
        DatabaseType::MySql => (
            "mysql",
            Some(username.to_owned()),
            vec![
                ("ssl-mode", "VERIFY_IDENTITY".to_owned()),
                ("ssl-cert", file("tls.crt")),
                ("ssl-key", file("tls.key")),
                ("ssl-ca", ca),
            ],
        ),
    };
    let given = connection.options.iter().map(|option| (option.name.clone(), option.value.clone()));
    Parsed {
        scheme: scheme.to_owned(),
        user,
        hosts,
        database: connection.database.clone(),
        options: login.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(given).collect(),
    }
}

proptest! {
    #[test]
    fn whatever_the_spec_says_comes_back_out_of_the_uri(connection in any_connection(), username in r"[ -~äß漢]{1,12}") {
        let mut spec = spec(connection.clone());
        spec.username = Some(username.clone());
        let Ok(subject) = Subject::common_name(&username) else { return Ok(()) };
        if Subject::for_user(&username).as_ref() != Ok(&subject) {
            return Ok(());
        }
        let uri = text(&entries(&spec, &subject), "uri");
        prop_assert_eq!(parsed(&uri), expected(&connection, &username), "{}", uri);
    }
}

/// A few hundred of them, because each parser is started once.
fn samples(kinds: &[&str]) -> Vec<(Value, String)> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut samples = Vec::new();
    while samples.len() < 300 {
        let connection = any_connection().new_tree(&mut runner).unwrap().current();
        if kinds.contains(&connection["type"].as_str().unwrap()) {
            let uri = text(&entries_of(&spec(connection.clone())), "uri");
            samples.push((connection, uri));
        }
    }
    samples
}

#[test]
fn libpq_reads_what_was_meant() {
    // libpq refuses options that it does not know.
    let samples: Vec<(Value, String)> = samples(&["postgresql"])
        .into_iter()
        .map(|(mut connection, _)| {
            let value = connection["options"].as_array().unwrap().first().map_or(json!(""), |option| option["value"].clone());
            connection["options"] = json!([{ "name": "application_name", "value": value }]);
            let uri = text(&entries_of(&spec(connection.clone())), "uri");
            (connection, uri)
        })
        .collect();
    let Some(read) = libpq(samples.iter().map(|(_, uri)| uri.as_str())) else { return };
    assert_eq!(read.len(), samples.len());
    for ((connection, uri), read) in samples.iter().zip(read) {
        assert_eq!(read.normalised(), expected(connection, "orders").normalised(), "{uri}");
    }
}

#[test]
fn the_driver_of_mongodb_reads_what_was_meant() {
    let samples: Vec<(Value, String)> =
        samples(&["mongodb"]).into_iter().filter(|(connection, _)| connection.get("srv").is_none()).collect();
    let Some(read) = mongodb_driver(samples.iter().map(|(_, uri)| uri.as_str())) else { return };
    assert_eq!(read.len(), samples.len());
    for ((connection, uri), read) in samples.iter().zip(read) {
        assert_eq!(read.normalised(), expected(connection, "orders").normalised(), "{uri}");
    }
}
