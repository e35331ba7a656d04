//! What the API server refuses at `kubectl apply`, by schema and CEL.

mod connection;

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{harness::Shop, open};

async fn refusal(shop: &Shop, object: Value) -> String {
    match shop.try_apply(object.clone()).await {
        Ok(_) => panic!("was accepted: {object}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn specs_that_cannot_be_right_are_refused_with_what_to_change() {
    let shop = open("schema").await;
    for (spec, words) in [
        (json!({ "username": "" }), "username"),
        (json!({ "username": "." }), "username must not be '.' or '..'"),
        (json!({ "username": ".." }), "username must not be '.' or '..'"),
        (json!({ "username": "a\nb" }), "username"),
        (json!({ "username": "x".repeat(1025) }), "1024"),
        (json!({ "issuerRef": { "kind": "Issuer", "name": "a" } }), "CertificateIssuer"),
        (json!({ "issuerRef": { "kind": "CertificateIssuer", "name": "No" } }), "issuerRef.name"),
        (json!({ "secretName": "Not_A_Name" }), "secretName"),
        (json!({ "monthsUntilExpiration": 0 }), "monthsUntilExpiration"),
        (json!({ "monthsUntilExpiration": 25 }), "monthsUntilExpiration"),
        (json!({ "duration": "soon" }), "duration"),
        (json!({ "duration": "59m" }), "duration must be 1h or more"),
        (json!({ "renewBefore": "30d" }), "use hours: 30 days is 720h"),
        (json!({ "duration": "30d", "renewBefore": "1w" }), "duration must be 1h or more, in h, m and s"),
        (json!({ "renewBefore": "4m" }), "renewBefore must be 5m or more"),
        (json!({ "renewBefore": "1h", "renewBeforePercentage": 10 }), "exclude each other"),
        (json!({ "renewBeforePercentage": 91 }), "renewBeforePercentage"),
        (json!({ "renewBefore": "24h", "duration": "24h" }), "renewBefore must be shorter than duration"),
        (
            json!({ "renewBefore": "672h", "monthsUntilExpiration": 1 }),
            "renewBefore must be shorter than monthsUntilExpiration",
        ),
        (json!({ "monthsUntilExpiration": 3, "subject": "CN=a" }), "monthsUntilExpiration is for Atlas issuers"),
        (json!({ "userRef": { "name": "orders" } }), "give username and issuerRef, or userRef alone"),
        (json!({ "username": null }), "give username and issuerRef, or userRef alone"),
        (json!({ "issuerRef": null }), "give username and issuerRef, or userRef alone"),
        (
            json!({ "userRef": { "name": "orders" }, "username": null, "issuerRef": null, "subject": "CN=a" }),
            "duration, subject and privateKey are for CA issuers",
        ),
        (json!({ "privateKey": { "algorithm": "RSA", "size": 1024 } }), "size must be"),
        (json!({ "privateKey": { "algorithm": "DSA" } }), "algorithm"),
        (json!({ "suspend": "yes" }), "suspend"),
        (json!({ "deletionPolicy": "Keep" }), "deletionPolicy"),
    ] {
        let message = refusal(&shop, Shop::manifest("refused", "ca", &spec)).await;
        assert!(message.contains(words), "{spec} is refused without {words:?}: {message}");
        assert!(!message.contains("evaluation error") && !message.contains("no such overload"), "{message}");
    }
    assert!(
        shop.api::<usercert_operator::api::DatabaseUserCertificate>().list(&Default::default()).await.unwrap().items.is_empty()
    );
}

#[tokio::test]
async fn what_a_secret_may_hold_besides_is_checked_at_apply() {
    let shop = open("schema-formats").await;
    let format = |type_: &str, more: Value| {
        let mut format = json!({ "type": type_ });
        for (key, value) in more.as_object().unwrap() {
            format[key] = value.clone();
        }
        json!({ "formats": [format] })
    };
    let key = |key: &str| format("CA", json!({ "key": key }));
    let label = |key: &str, value: &str| json!({ "secretTemplate": { "labels": { key: value } } });
    let annotation = |key: &str, value: &str| json!({ "secretTemplate": { "annotations": { key: value } } });
    let annotations = |value: &str, count: usize| {
        let values: serde_json::Map<_, _> = (0..count).map(|number| (format!("k{number}"), json!(value))).collect();
        json!({ "secretTemplate": { "annotations": values } })
    };
    let bytes = "have at most 16384 bytes together";
    let many = |count: usize| (0..count).map(|number| (format!("k{number}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let same = "two formats have the same key";
    let reserved = "key must be another name";
    let prefix = "are not for the template";
    let name = "a key is a name of at most 63";
    let mut cases = vec![
        (format("JKS", json!({})), "PKCS12"),
        (json!({ "formats": [{ "key": "a" }] }), "type"),
        (json!({ "formats": vec![json!({ "type": "CA" }); 17] }), "16"),
        (key(""), "key"),
        (key("a/b"), "key"),
        (key("a b"), "key"),
        (key("."), "must not be '.'"),
        (key("..a"), "must not be '.'"),
        (key(&"k".repeat(254)), "253"),
        (json!({ "formats": [{ "type": "CA", "key": "a" }, { "type": "Chain", "key": "a" }] }), same),
        (json!({ "formats": [{ "type": "CA" }, { "type": "CA" }] }), same),
        (json!({ "formats": [{ "type": "CA" }, { "type": "Chain", "key": "root.crt" }] }), same),
        (json!({ "formats": [{ "type": "PKCS12" }, { "type": "PKCS12", "key": "a" }] }), "one PKCS12 at most"),
        (format("CA", json!({ "alias": "a" })), "are for type PKCS12"),
        (format("CA", json!({ "passwordSecretRef": { "name": "a", "key": "b" } })), "are for type PKCS12"),
        (format("PKCS12", json!({ "alias": "A" })), "alias"),
        (format("PKCS12", json!({ "alias": "" })), "alias"),
        (format("PKCS12", json!({ "passwordSecretRef": { "name": "../a", "key": "b" } })), "passwordSecretRef"),
        (format("PKCS12", json!({ "passwordSecretRef": { "name": "a" } })), "key"),
        (json!({ "secretTemplate": { "labels": many(17) } }), "16"),
        (json!({ "secretTemplate": { "annotations": many(17) } }), "16"),
        (label("a", &"v".repeat(64)), "63"),
        (label("a", "no spaces"), "labels"),
        (annotation("a", &"v".repeat(4097)), "4096"),
        (annotations(&"v".repeat(4096), 5), bytes),
        (annotations(&"\u{1d4d0}".repeat(1366), 3), bytes),
    ];
    for taken in [
        "tls.crt",
        "tls.key",
        "tls-combined.pem",
        "ca.crt",
        "previous-tls.crt",
        "previous-anything",
        "keystore-password",
        "type",
        "provider",
        "host",
        "port",
        "uri",
        "username",
        "password",
        "database",
        "certificates",
        "private-key",
    ] {
        cases.push((key(taken), reserved));
    }
    for prefixed in ["", "app.", "a.b."] {
        for domain in ["kubernetes.io", "k8s.io", "usercert.dev", "atlas.mongodb.com"] {
            cases.push((label(&format!("{prefixed}{domain}/a"), "v"), prefix));
            cases.push((annotation(&format!("{prefixed}{domain}/a"), "v"), prefix));
        }
    }
    let long = format!("{}/a", "a.".repeat(127));
    for wrong in ["", "/a", "a/", "a/b/c", "A.example/a", "-a", "a-", "a..b/c", "ä", &"k".repeat(64), &long] {
        cases.push((label(wrong, "v"), name));
        cases.push((annotation(wrong, "v"), name));
    }
    for (spec, words) in cases {
        let message = refusal(&shop, Shop::manifest("refused", "ca", &spec)).await;
        assert!(message.contains(words), "{spec} is refused without {words:?}: {message}");
        assert!(!message.contains("evaluation error") && !message.contains("no such overload"), "{message}");
    }
    let every = json!({
        "formats": [
            { "type": "PKCS12", "alias": "orders-1", "passwordSecretRef": { "name": "a.b", "key": "p_W.d-1" } }, { "type": "PKCS8DER" },
            { "type": "CombinedPEM" }, { "type": "Chain" }, { "type": "CA" }, { "type": "CA", "key": "2024_CA.pem" },
        ],
        "secretTemplate": {
            "labels": { "team": "db", "mongodb.com/a": "", "notkubernetes.io/A_b.c": "v", "example.com/x": "V_1.a" },
            "annotations": { "reloader.stakater.com/match": "true", "note": "any text, with spaces\nand lines" },
        },
        "keepPrevious": true,
    });
    let made = shop.apply(Shop::manifest("accepted", "ca", &every)).await;
    assert_eq!(made.data["spec"]["formats"][5]["key"], "2024_CA.pem");
}

#[tokio::test]
async fn an_issuer_names_exactly_one_source() {
    let shop = open("schema-issuer").await;
    let issuer = |spec: Value| json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "i" }, "spec": spec });
    let atlas = json!({ "projectId": "5efda6aea3f2ed2e7dd6ce05", "credentialsSecretRef": { "name": "a" } });
    let changed = |key: &str, value: Value| {
        let mut atlas = atlas.clone();
        atlas[key] = value;
        json!({ "atlas": atlas })
    };
    for (spec, words) in [
        (json!({}), "exactly one issuer"),
        (json!({ "atlas": atlas, "ca": { "secretName": "ca" } }), "exactly one issuer"),
        (changed("projectId", json!("short")), "projectId"),
        (changed("endpoint", json!("http://cloud.mongodb.com")), "endpoint"),
        (changed("projectId", Value::Null), "name exactly one project"),
        (changed("projectRef", json!({ "name": "p" })), "name exactly one project"),
        (changed("credentialsSecretRef", Value::Null), "credentialsSecretRef is needed with projectId"),
        (changed("endpoint", json!("https://user:password@cloud.mongodb.com")), "endpoint"),
        (changed("apiVersion", json!("v3")), "apiVersion"),
        (changed("credentialsSecretRef", json!({ "name": "../other" })), "credentialsSecretRef"),
        (
            json!({ "ca": { "secretName": "ca", "duration": "48h", "maxDuration": "24h" } }),
            "duration must not exceed maxDuration",
        ),
        (json!({ "ca": { "secretName": "ca", "duration": "90d" } }), "use hours: 30 days is 720h"),
        (json!({ "ca": { "secretName": "ca", "maxDuration": "90d" } }), "use hours: 30 days is 720h"),
    ] {
        let message = refusal(&shop, issuer(spec.clone())).await;
        assert!(message.contains(words), "{spec} is refused without {words:?}: {message}");
    }
    let made = shop.apply(issuer(json!({ "atlas": atlas }))).await;
    assert_eq!(made.data["spec"]["atlas"]["endpoint"], "https://cloud.mongodb.com");
    assert_eq!(made.data["spec"]["atlas"]["monthsUntilExpiration"], 3);
}

#[tokio::test]
async fn no_edit_moves_a_certificate_to_another_secret() {
    let shop = open("schema-edit").await;
    shop.certificate("orders", "ca", json!({})).await;
    let message = refusal(&shop, Shop::manifest("orders", "ca", &json!({ "secretName": "other" }))).await;
    assert!(message.contains("secretName cannot be changed"), "{message}");
    let same = shop.try_apply(Shop::manifest("orders", "ca", &json!({ "secretName": "orders" }))).await.unwrap();
    assert_eq!(same.name_any(), "orders", "to name the default is no change");
    let again = refusal(&shop, Shop::manifest("orders", "ca", &json!({ "secretName": "orders-2" }))).await;
    assert!(again.contains("secretName cannot be changed"), "{again}");
}

#[tokio::test]
async fn certificates_are_selected_by_issuer_secret_and_user() {
    let shop = open("schema-select").await;
    shop.certificate("orders", "one", json!({ "secretName": "orders-tls", "username": "o" })).await;
    shop.certificate("reports", "two", json!({})).await;
    for selector in ["spec.issuerRef.name=one", "spec.secretName=orders-tls", "spec.username=o"] {
        let selected = kube::api::ListParams::default().fields(selector);
        let found = shop.api::<usercert_operator::api::DatabaseUserCertificate>().list(&selected).await.unwrap();
        assert_eq!(found.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["orders"], "{selector}");
    }
}

#[tokio::test]
async fn user_names_may_have_any_other_characters() {
    let shop = open("schema-names").await;
    for (number, name) in
        ["a/b", "a:b", "100%", "a b", "a+b", "müller", "CN=orders", "x@y.z", "arn:aws:iam::1:role/x"].iter().enumerate()
    {
        shop.apply(Shop::manifest(&format!("n{number}"), "none", &json!({ "username": name }))).await;
    }
}

#[tokio::test]
async fn plain_http_to_another_machine_needs_a_word() {
    let shop = open("schema-http").await;
    let issuer = |allow: Value| {
        json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "i" },
            "spec": { "atlas": {
                "projectId": "5efda6aea3f2ed2e7dd6ce05", "credentialsSecretRef": { "name": "a" },
                "endpoint": "http://atlas.example:8080", "allowPlainHttp": allow,
            } },
        })
    };
    let message = refusal(&shop, issuer(json!(false))).await;
    assert!(message.contains("endpoint must begin with https://"), "{message}");
    shop.apply(issuer(json!(true))).await;
}
