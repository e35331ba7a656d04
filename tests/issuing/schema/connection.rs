//! `spec.connection`: what no client could use, and what all clients understand.

use serde_json::{Value, json};

use super::refusal;
use crate::{harness::Shop, open};

#[tokio::test]
async fn a_connection_that_no_client_could_use_is_refused_with_what_to_change() {
    let shop = open("schema-connection").await;
    let hosts = |hosts: &[&str]| json!({ "hosts": hosts });
    let option = |name: &str, value: &str| json!({ "options": [{ "name": name, "value": value }] });
    let postgresql = |more: Value| merged(json!({ "type": "postgresql", "serverCAFile": "ca.crt" }), more);
    let mysql = |more: Value| merged(json!({ "type": "mysql", "serverCAFile": "ca.crt" }), more);
    let host_rule = "each of hosts must be a host name in lower-case ASCII";
    let login_rule = "options must not change the login or the check of the server";
    let address_rule = "srvMaxHosts and srvServiceName need srv";
    let mut cases = vec![
        (json!({ "hosts": null }), "give either hosts or srv"),
        (json!({ "srv": "cluster0.example.net" }), "give either hosts or srv"),
        (json!({ "mountPath": null }), "mountPath"),
        (json!({ "type": "oracle" }), "type"),
        (hosts(&[]), "hosts"),
        (hosts(&["a"; 33]), "hosts"),
        (hosts(&["a", "a"]), "twice"),
        (hosts(&["a", "a:27017"]), "twice"),
        (postgresql(hosts(&["a", "a:5432"])), "twice"),
        (mysql(hosts(&["a", "b"])), "a uri of type mysql has one host"),
        (postgresql(json!({ "hosts": null, "srv": "db.example" })), "srv is for type mongodb"),
        (postgresql(json!({ "serverCAFile": null })), "serverCAFile is needed"),
        (mysql(json!({ "serverCAFile": null })), "serverCAFile is needed"),
        (json!({ "serverCAFile": "ca.pem" }), "serverCAFile must be ca.crt"),
        (json!({ "serverCAFile": "/etc/../" }), "serverCAFile must be ca.crt"),
        (json!({ "mountPath": "certs" }), "mountPath must be an absolute path"),
        (json!({ "mountPath": "/certs/" }), "mountPath must be an absolute path"),
        (json!({ "mountPath": "/" }), "mountPath must be an absolute path"),
        (json!({ "mountPath": "/c?d" }), "mountPath must be an absolute path"),
        (json!({ "mountPath": format!("/{}", "x".repeat(512)) }), "512"),
        (json!({ "database": "" }), "database"),
        (json!({ "database": "a\nb" }), "database"),
        (json!({ "database": "x".repeat(64) }), "63"),
        (json!({ "provider": "" }), "provider"),
        (json!({ "options": [{ "name": "a", "value": "1" }, { "name": "A", "value": "2" }] }), "only readPreferenceTags"),
        (option("a=b", "1"), "name"),
        (option("", "1"), "name"),
        (option("appName", "a\nb"), "value"),
        (option("appName", &"x".repeat(257)), "256"),
        (option("srvMaxHosts", "2"), address_rule),
        (merged(hosts(&["a", "b"]), option("directConnection", "true")), address_rule),
        (merged(hosts(&["a", "b"]), option("loadBalanced", "true")), address_rule),
        (merged(json!({ "hosts": null, "srv": "db.example.net" }), option("directConnection", "true")), address_rule),
    ];
    for host in [
        "",
        "A",
        "a:0",
        "a:65536",
        "a:99999",
        "a:",
        "a:x",
        ":1",
        "a b",
        "a/b",
        "a,b",
        "a@b",
        "a?b",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "münchen.example",
        "mongodb://a",
        "::1",
        "[::1",
        "[::1]]",
        "[1.2.3.4]",
        "[::g]",
        "[::1%eth0]",
        "[::1]:0",
        "1.2.3",
        "256.1.1.1",
        "1.2.3.4.5:1",
        "a:1:2",
        "%61",
    ] {
        cases.push((hosts(&[host]), if host.is_empty() { "hosts" } else { host_rule }));
    }
    for srv in
        ["", "A.example", "a.example:27017", "mongodb+srv://a.example", "a.example.", "192.0.2.1", "[::1]", "münchen.example"]
    {
        cases.push((json!({ "hosts": null, "srv": srv }), if srv.is_empty() { "srv" } else { "srv must be a host name" }));
    }
    for database in ["a/b", "a\\b", "a b", "a\"b", "a$b", "a.b"] {
        cases.push((json!({ "database": database }), "the database of type mongodb must not have"));
    }
    for name in ["user", "USERNAME", "host", "hostAddr", "port", "dbname", "passfile", "proxyPassword", "pass_word", "service"]
    {
        for kind in
            [merged, |more, other| merged(merged(more, json!({ "type": "postgresql", "serverCAFile": "ca.crt" })), other)]
        {
            cases.push((kind(option(name, "x"), json!({})), "options must not name the user"));
        }
    }
    for name in [
        "authMechanism",
        "AUTHSOURCE",
        "authMechanismProperties",
        "tls",
        "SSL",
        "tlsInsecure",
        "tlsAllowInvalidCertificates",
        "tlsallowinvalidhostnames",
        "tlsCAFile",
        "tlsCertificateKeyFile",
        "tlsCertificateFile",
        "ssl_certfile",
        "sslInsecure",
    ] {
        cases.push((option(name, "x"), login_rule));
    }
    for name in ["sslmode", "SSLCert", "sslkey", "sslrootcert", "sslcertmode", "requiressl", "ssl", "gssencmode"] {
        cases.push((postgresql(option(name, "x")), login_rule));
    }
    for name in ["ssl-mode", "SSL_MODE", "sslMode", "ssl-ca", "ssl-capath", "ssl-cert", "ssl-key", "tls", "useSSL"] {
        cases.push((mysql(option(name, "x")), login_rule));
    }
    for (connection, words) in cases {
        let connection = merged(json!({ "hosts": ["db.example"], "mountPath": "/certs" }), connection);
        let message = refusal(&shop, Shop::manifest("refused", "ca", &json!({ "connection": connection }))).await;
        assert!(message.contains(words), "{connection} is refused without {words:?}: {message}");
        assert!(!message.contains("evaluation error") && !message.contains("no such overload"), "{message}");
    }
    for connection in [json!({ "type": "postgresql", "serverCAFile": "/etc/ssl/ca.pem" }), json!({ "serverCAFile": "ca.crt" })]
    {
        let connection = merged(json!({ "hosts": ["db.example"], "mountPath": "/certs" }), connection);
        let spec = json!({ "userRef": { "name": "orders" }, "username": null, "issuerRef": null, "connection": connection });
        let message = refusal(&shop, Shop::manifest("refused", "ca", &spec)).await;
        assert!(message.contains("userRef is for Atlas: connection.type must be mongodb"), "{message}");
    }
}

#[tokio::test]
async fn a_connection_may_say_all_that_clients_understand() {
    let shop = open("schema-connections").await;
    let options = |options: &[(&str, &str)]| json!({ "options": options.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>() });
    let hosts: Vec<String> = (0..32).map(|number| format!("{}-{number}.example:27017", "a".repeat(50))).collect();
    let many: Vec<(String, String)> = (0..32).map(|number| (format!("{}{number}", "n".repeat(62)), "ä".repeat(256))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (number, connection) in [
        json!({}),
        json!({ "hosts": null, "srv": "cluster0.ab1cd.mongodb.net", "provider": "atlas" }),
        json!({ "hosts": ["a", "a:27018", "10.0.0.1", "10.0.0.1:1", "[2001:db8::1]", "[2001:db8::1]:65535", "xn--mnchen-3ya.example"] }),
        json!({ "hosts": hosts, "database": "orders-ä", "serverCAFile": "/etc/ssl/certs/ca.pem" }),
        options(&[("readPreferenceTags", "dc:ny,rack:1"), ("readPreferenceTags", "dc:ny"), ("readPreferenceTags", "")]),
        options(&[("tlsDisableOCSPEndpointCheck", "true"), ("directConnection", "true"), ("appName", "a & b")]),
        options(&many),
        merged(json!({ "hosts": null, "srv": "a.example.net" }), options(&[("srvMaxHosts", "2"), ("loadBalanced", "false")])),
        merged(
            json!({ "type": "postgresql", "serverCAFile": "ca.crt", "hosts": ["a", "b:5433"], "database": "a/b $" }),
            options(&[("target_session_attrs", "read-write"), ("options", "-c search_path=x"), ("sslcrl", "/x"), ("ssl_min_protocol_version", "TLSv1.3")]),
        ),
        merged(json!({ "type": "mysql", "serverCAFile": "ca.crt" }), options(&[("ssl-cipher", "x"), ("connect-timeout", "1000")])),
    ]
    .into_iter()
    .enumerate()
    {
        let connection = merged(json!({ "hosts": ["db.example"], "mountPath": "/var/run/secrets/db_1.2" }), connection);
        let made = shop.apply(Shop::manifest(&format!("c{number}"), "none", &json!({ "connection": connection }))).await;
        let kind = connection.get("type").cloned().unwrap_or_else(|| json!("mongodb"));
        assert_eq!(made.data["spec"]["connection"]["type"], kind);
    }
}

/// The first with the fields of the second; null takes a field away.
fn merged(mut object: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { return object };
    for (name, value) in changes {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(&name);
        } else {
            object[name] = value;
        }
    }
    object
}
