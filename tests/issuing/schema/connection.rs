//! `spec.connection`: what no client could use, and what all clients understand.

use serde_json::{Value, json};

use super::refusal;
use crate::{harness::Shop, open};

/// Applies each connection, completed with a host and a path, and sees that it is refused with these words.
async fn assert_refused(shop: &Shop, cases: Vec<(Value, &str)>) {
    for (connection, words) in cases {
        let connection = merged(json!({ "hosts": ["db.example"], "mountPath": "/certs" }), connection);
        let message = refusal(shop, Shop::manifest("refused", "ca", &json!({ "connection": connection }))).await;
        assert!(message.contains(words), "{connection} is refused without {words:?}: {message}");
        assert!(!message.contains("evaluation error") && !message.contains("no such overload"), "{message}");
    }
}

fn hosts(hosts: &[&str]) -> Value {
    json!({ "hosts": hosts })
}

fn option(name: &str, value: &str) -> Value {
    json!({ "options": [{ "name": name, "value": value }] })
}

fn postgresql(more: Value) -> Value {
    merged(json!({ "type": "postgresql", "serverCAFile": "ca.crt" }), more)
}

fn mysql(more: Value) -> Value {
    merged(json!({ "type": "mysql", "serverCAFile": "ca.crt" }), more)
}

#[tokio::test]
async fn fields_that_do_not_fit_together_or_into_a_uri_are_refused() {
    let shop = open("schema-connection").await;
    let mut cases = vec![
        (json!({ "hosts": null }), "give either hosts or srv"),
        (json!({ "srv": "cluster0.example.net" }), "give either hosts or srv"),
        (json!({ "mountPath": null }), "mountPath"),
        (json!({ "type": "oracle" }), "type"),
        (mysql(hosts(&["a", "b"])), "a uri of type mysql has one host"),
        (postgresql(json!({ "hosts": null, "srv": "db.example" })), "srv is for type mongodb"),
        (postgresql(json!({ "serverCAFile": null })), "serverCAFile is needed"),
        (mysql(json!({ "serverCAFile": null })), "serverCAFile is needed"),
        (json!({ "serverCAFile": "ca.pem" }), "serverCAFile must be ca.crt"),
        (json!({ "serverCAFile": "/etc/../" }), "serverCAFile must be ca.crt"),
        (json!({ "mountPath": format!("/{}", "x".repeat(512)) }), "512"),
        (json!({ "database": "" }), "database"),
        (json!({ "database": "a\nb" }), "database"),
        (json!({ "database": "x".repeat(64) }), "63"),
        (json!({ "provider": "" }), "provider"),
    ];
    for path in ["", "certs", "/certs/", "/", "/c?d", "/c d", "//c"] {
        cases.push((json!({ "mountPath": path }), "mountPath must be an absolute path"));
    }
    for database in ["a/b", "a\\b", "a b", "a\"b", "a$b", "a.b"] {
        cases.push((json!({ "database": database }), "the database of type mongodb must not have"));
    }
    assert_refused(&shop, cases).await;
    for connection in [postgresql(json!({ "serverCAFile": "/etc/ssl/ca.pem" })), json!({ "serverCAFile": "ca.crt" })] {
        let connection = merged(json!({ "hosts": ["db.example"], "mountPath": "/certs" }), connection);
        let spec = json!({ "userRef": { "name": "orders" }, "username": null, "issuerRef": null, "connection": connection });
        let message = refusal(&shop, Shop::manifest("refused", "ca", &spec)).await;
        assert!(message.contains("userRef is for Atlas: connection.type must be mongodb"), "{message}");
    }
}

#[tokio::test]
async fn hosts_that_no_uri_could_hold_are_refused() {
    let shop = open("schema-hosts").await;
    let mut cases = vec![
        (hosts(&[]), "hosts"),
        (hosts(&["a"; 33]), "hosts"),
        (hosts(&["a", "a"]), "twice"),
        (hosts(&["a", "a:27017"]), "twice"),
        (hosts(&["[::1]", "[::1]:27017"]), "twice"),
        (postgresql(hosts(&["a", "a:5432"])), "twice"),
        (hosts(&[""]), "hosts"),
        (json!({ "hosts": null, "srv": "" }), "srv"),
    ];
    let names = "A,a b,a/b,a@b,a?b,-a,a-,a..b,.a,a.,münchen.example,mongodb://a,%61";
    let ports = "a:0,a:65536,a:99999,a:,a:x,:1,a:1:2,[::1]:0";
    let addresses = "::1,[::1,[::1]],[1.2.3.4],[::g],[::1%eth0],1.2.3,256.1.1.1,1.2.3.4.5:1";
    for host in [names, ports, addresses].into_iter().flat_map(|list| list.split(',')).chain(["a,b"]) {
        cases.push((hosts(&[host]), "each of hosts must be a host name in lower-case ASCII"));
    }
    for srv in "A.example,a.example:27017,mongodb+srv://a.example,a.example.,192.0.2.1,[::1],münchen.example".split(',') {
        cases.push((json!({ "hosts": null, "srv": srv }), "srv must be a host name"));
    }
    assert_refused(&shop, cases).await;
}

#[tokio::test]
async fn options_that_say_what_the_operator_says_or_weaken_the_login_are_refused() {
    let shop = open("schema-options").await;
    let login = "options must not change the login or the check of the server";
    let address = "srvMaxHosts and srvServiceName need srv";
    let srv = json!({ "hosts": null, "srv": "db.example.net" });
    let mut cases = vec![
        (json!({ "options": [{ "name": "a", "value": "1" }, { "name": "A", "value": "2" }] }), "only readPreferenceTags"),
        (option("a=b", "1"), "name"),
        (option("", "1"), "name"),
        (option("appName", "a\nb"), "value"),
        (option("appName", &"x".repeat(257)), "256"),
        (option("srvMaxHosts", "2"), address),
        (merged(hosts(&["a", "b"]), option("directConnection", "true")), address),
        (merged(hosts(&["a", "b"]), option("loadBalanced", "true")), address),
        (merged(srv, option("directConnection", "true")), address),
    ];
    for name in "user,USERNAME,host,hostAddr,port,dbname,passfile,proxyPassword,pass_word,service".split(',') {
        cases.push((option(name, "x"), "options must not name the user"));
        cases.push((postgresql(option(name, "x")), "options must not name the user"));
    }
    let mongodb = "authMechanism,AUTHSOURCE,authMechanismProperties,tls,SSL,tlsInsecure,tlsAllowInvalidCertificates,\
        tlsallowinvalidhostnames,tlsCAFile,tlsCertificateKeyFile,tlsCertificateFile,ssl_certfile,sslInsecure";
    cases.extend(mongodb.split(',').map(|name| (option(name, "x"), login)));
    let libpq = "sslmode,SSLCert,sslkey,sslrootcert,sslcertmode,requiressl,ssl";
    cases.extend(libpq.split(',').map(|name| (postgresql(option(name, "x")), login)));
    let shell = "ssl-mode,SSL_MODE,sslMode,ssl-ca,ssl-capath,ssl-cert,ssl-key,tls,useSSL";
    cases.extend(shell.split(',').map(|name| (mysql(option(name, "x")), login)));
    assert_refused(&shop, cases).await;
}

#[tokio::test]
async fn a_connection_may_say_all_that_clients_understand() {
    let shop = open("schema-connections").await;
    let options = |options: &[(&str, &str)]| json!({ "options": options.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>() });
    let hosts: Vec<String> =
        (10..42).map(|number| format!("{}.a{number}:27017", ["a"; 4].map(|label| label.repeat(61)).join("."))).collect();
    let many: Vec<(String, String)> = (0..32).map(|number| (format!("{}{number}", "n".repeat(62)), "ä".repeat(256))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (number, connection) in [
        json!({}),
        json!({ "hosts": null, "srv": "cluster0.ab1cd.mongodb.net", "provider": "atlas" }),
        json!({ "hosts": ["a", "a:27018", "10.0.0.1", "10.0.0.1:1", "[2001:db8::1]", "[2001:db8::1]:65535", "xn--mnchen-3ya.example"] }),
        merged(json!({ "hosts": hosts, "database": "orders-ä", "serverCAFile": "/etc/ssl/certs/ca.pem" }), options(&many)),
        options(&[("readPreferenceTags", "dc:ny,rack:1"), ("readPreferenceTags", "dc:ny"), ("readPreferenceTags", "")]),
        options(&[("tlsDisableOCSPEndpointCheck", "true"), ("directConnection", "true"), ("appName", "a & b")]),
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
