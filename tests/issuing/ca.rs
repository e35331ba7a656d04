//! The in-cluster CA, from the issuer to the Secret.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertifiedIssuer, KeyPair};
use serde_json::json;
use usercert_operator::api::DatabaseUserCertificate;

use crate::{
    authority::{Authority, P256},
    harness::{Shop, eventually, new_ca, openssl},
    open,
};

#[tokio::test]
async fn a_certificate_costs_three_writes_and_one_read() {
    let shop = open("ca-cost").await;
    let ca = shop.ca_issuer(30).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    shop.certificate("orders", "ca", json!({ "subject": "CN=orders,OU=apps,O=Acme" })).await;
    let status = shop.until_ready("orders").await;
    shop.until_event("orders", "Issued").await;

    let about_certificate: Vec<String> = shop
        .cluster
        .requests_of_operator(&shop.namespace)
        .into_iter()
        .filter(|request| !request.contains("certificateissuers"))
        .collect();
    assert_eq!(
        about_certificate,
        [
            "list secrets",
            "get secrets",
            "get databaseusercertificates",
            "create secrets",
            "patch databaseusercertificates/status",
            "create events",
        ],
        "the first two are the issuer's, of its own Secret; the object is read live before its own is written"
    );
    let secret = shop.secret("orders").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(Some(&annotations["usercert.dev/serial-number"]), status.serial_number.as_ref());
    assert_eq!(annotations["usercert.dev/not-after"].parse::<Timestamp>().unwrap(), status.not_after.unwrap().0);
    assert_eq!(secret.metadata.labels.unwrap()["usercert.dev/certificate-uid"], shop.get("orders").await.metadata.uid.unwrap());
    assert_eq!(secret.metadata.owner_references.unwrap()[0].controller, Some(true));
    let keys: Vec<String> = secret.data.unwrap().into_keys().collect();
    assert_eq!(keys, ["ca.crt", "tls-combined.pem", "tls.crt", "tls.key"]);
    assert_eq!(shop.value("orders", "ca.crt").await, ca);
    let combined = shop.value("orders", "tls-combined.pem").await;
    assert_eq!(combined, shop.value("orders", "tls.crt").await + &shop.value("orders", "tls.key").await);
    let subject = openssl(&["x509", "-noout", "-subject", "-nameopt", "RFC2253"], &combined);
    assert_eq!(subject.trim(), format!("subject={}", status.subject.unwrap()));
    openssl(&["pkey", "-check", "-noout"], &combined);
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_replaced_ca_and_a_changed_spec_bring_a_new_certificate_and_a_broken_one_takes_nothing() {
    let shop = open("ca-change").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    let first = shop.until_ready("orders").await.serial_number.unwrap();
    let certificate = shop.value("orders", "tls.crt").await;

    shop.apply_secret("ca-garbage", &[("tls.crt", "garbage"), ("tls.key", "garbage")]).await;
    for (data, reason) in [
        (json!({ "tls.crt": "garbage", "tls.key": "garbage" }), "CaInvalid"),
        (json!({ "tls.crt": new_ca(3).0, "tls.key": new_ca(3).1 }), "CaInvalid"),
        (json!({ "tls.crt": new_ca(3).0, "tls.key": "" }), "CaInvalid"),
    ] {
        shop.patch_secret("ca", json!({ "stringData": data })).await;
        shop.until_issuer("ca", &format!("False {reason}")).await;
        shop.until("orders", "Issuing", &format!("False {reason}")).await;
        assert_eq!(shop.condition("orders", "Ready").await, "True Issued", "the certificate works still");
        assert_eq!(shop.value("orders", "tls.crt").await, certificate);
    }
    let ca = shop.replace_ca(30).await;
    let second = shop.until_new_serial("orders", &first).await;
    assert_eq!(second.history[0].reason, "IssuerChanged");
    shop.until_ready("orders").await;
    assert_eq!(shop.value("orders", "ca.crt").await, ca);

    shop.certificate(
        "orders",
        "ca",
        json!({ "subject": "CN=orders,O=New", "privateKey": { "algorithm": "RSA", "size": 3072 } }),
    )
    .await;
    let third = shop.until_new_serial("orders", &second.serial_number.unwrap()).await;
    assert_eq!(third.subject.as_deref(), Some("CN=orders,O=New"));
    let text = openssl(&["x509", "-noout", "-text"], &shop.value("orders", "tls.crt").await);
    assert!(text.contains("Public-Key: (3072 bit)"));
    shop.certificate("orders", "ca", json!({ "subject": "CN=orders,O=New" })).await;
    let fourth = shop.until_new_serial("orders", &third.serial_number.unwrap()).await;
    assert_eq!(fourth.history[0].reason, "PrivateKeyChanged");
}

#[tokio::test]
async fn a_success_is_told_with_its_cause_whatever_the_length_of_the_name() {
    let shop = open("ca-events").await;
    shop.ca_issuer(30).await;
    for length in [236, 237, 253] {
        let name = "n".repeat(length);
        shop.certificate(&name, "ca", json!({ "username": "orders", "secretName": format!("secret-{length}") })).await;
        shop.until_event(&name, "Issued").await;
        let events = shop.api::<k8s_openapi::api::events::v1::Event>().list(&Default::default()).await.unwrap().items;
        let told = events.iter().find(|event| {
            event.reason.as_deref() == Some("Issued")
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(&name)
        });
        let told = told.unwrap();
        assert_eq!(told.type_.as_deref(), Some("Normal"));
        let note = told.note.as_deref().unwrap();
        assert!(note.starts_with("issued certificate ") && note.ends_with("; cause: NoCertificate"), "{note}");
    }
}

#[tokio::test]
async fn a_ca_certificate_renewed_with_its_key_changes_ca_crt_and_nothing_else() {
    let shop = open("ca-renewed").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({ "duration": "24h" })).await;
    let before = shop.until_ready("orders").await;
    let key = shop.value("ca", "tls.key").await;
    let arguments = [
        "req",
        "-x509",
        "-key",
        "/dev/stdin",
        "-days",
        "60",
        "-subj",
        "/O=Acme/CN=CA",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ];
    let renewed = openssl(&arguments, &key);
    shop.patch_secret("ca", json!({ "stringData": { "tls.crt": renewed } })).await;
    shop.until_event("orders", "SecretRepaired").await;
    assert_eq!(shop.value("orders", "ca.crt").await, renewed);
    assert_eq!(shop.status("orders").await.serial_number, before.serial_number);
}

#[tokio::test]
async fn a_changed_chain_reaches_secrets_that_exist_without_a_new_certificate() {
    let shop = open("ca-chain").await;
    let authority = Authority::new();
    let ca = |name: &str, key: &str, parent| authority.ca(name, key, &format!("/O=Acme/CN={key}"), parent, &[]);
    let (root, other) = (ca("root", "root", None), ca("other", "other", None));
    let middle = ca("middle", "middle", Some(("root", "root")));
    let issuing = ca("issuing", "issuing", Some(("middle", "middle")));
    let key = authority.key("issuing", P256);
    shop.apply_secret("ca", &[("tls.crt", &issuing), ("tls.key", &key)]).await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.certificate("orders", "ca", json!({})).await;
    let before = shop.until_ready("orders").await;
    let renewed = ca("renewed", "issuing", Some(("other", "other")));
    let cross = ca("cross", "root", Some(("other", "other")));
    for (file, trusted, count) in [
        // Glued together, as a script of an administrator may do it.
        (format!("{}{}{root}", issuing.trim_end(), middle.trim_end()), &root, 3),
        // For databases that trust another root; the root and so ca.crt stay.
        (format!("{issuing}{middle}{root}{cross}"), &other, 4),
        (format!("{renewed}{other}"), &other, 2),
    ] {
        shop.patch_secret("ca", json!({ "stringData": { "tls.crt": file } })).await;
        eventually("the chain is handed on", || async {
            let got = shop.value("orders", "tls.crt").await;
            (got.matches("BEGIN").count() == count && authority.verifies(&got, trusted).is_ok()).then_some(())
        })
        .await;
        assert_eq!(
            shop.value("orders", "tls-combined.pem").await,
            shop.value("orders", "tls.crt").await + &shop.value("orders", "tls.key").await
        );
        shop.until("orders", "Ready", "True Issued").await;
    }
    assert_eq!(shop.status("orders").await.serial_number, before.serial_number, "no new certificate");
    shop.assert_quiet().await;
    // OpenSSL takes no CA for the issuer whose key identifier is not the one that the certificate names.
    let identified = ["-addext", "subjectKeyIdentifier=010203"];
    let renamed = authority.ca("renamed", "issuing", "/O=Acme/CN=issuing", Some(("other", "other")), &identified);
    shop.patch_secret("ca", json!({ "stringData": { "tls.crt": renamed + &other } })).await;
    let anew = shop.until_new_serial("orders", &before.serial_number.unwrap()).await;
    assert_eq!(anew.history[0].reason, "ChainBroken");
    assert_eq!(authority.verifies(&shop.value("orders", "tls.crt").await, &other), Ok(()));
    shop.until("orders", "Ready", "True Issued").await;
    shop.assert_quiet().await;
    shop.patch_secret("ca", json!({ "stringData": { "tls.crt": issuing.replacen("-----BEGIN", "----BEGIN", 1) } })).await;
    shop.until_issuer("ca", "False CaInvalid").await;
    shop.until("orders", "Issuing", "False CaInvalid").await;
    assert!(shop.message("orders", "Issuing").await.contains("tls.crt: line 1 looks like a boundary and is damaged"));
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
}

#[tokio::test]
async fn a_certificate_of_the_ca_s_file_is_handed_on_when_it_becomes_valid() {
    let shop = open("ca-later").await;
    let parameters = |name: &str| {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters
    };
    let root = |name| CertifiedIssuer::self_signed(parameters(name), KeyPair::generate().unwrap()).unwrap();
    let (root, other) = (root("root"), root("other"));
    let key = KeyPair::generate().unwrap().serialize_pem();
    let below = |root, not_before: std::time::SystemTime| {
        let mut parameters = parameters("issuing");
        parameters.not_before = not_before.into();
        CertifiedIssuer::signed_by(parameters, KeyPair::from_pem(&key).unwrap(), root).unwrap().pem()
    };
    let now = std::time::SystemTime::now();
    let (valid, later) = (below(&root, now - Duration::from_mins(1)), below(&other, now + Duration::from_secs(15)));
    let file = [valid, later.clone(), root.pem(), other.pem()].concat();
    shop.apply_secret("ca", &[("tls.crt", &file), ("tls.key", &key)]).await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.certificate("orders", "ca", json!({})).await;
    let before = shop.until_ready("orders").await;
    assert_eq!(shop.value("orders", "tls.crt").await.matches("BEGIN").count(), 2, "the other is not valid yet");
    eventually("the other is handed on too", || async {
        (shop.value("orders", "tls.crt").await.matches("BEGIN").count() == 3).then_some(())
    })
    .await;
    shop.until("orders", "Ready", "True Issued").await;
    assert_eq!(shop.status("orders").await.serial_number, before.serial_number, "no new certificate");
    shop.assert_quiet().await;
}

#[tokio::test]
async fn a_root_that_cannot_verify_here_is_named_and_a_long_name_is_warned_of() {
    let shop = open("ca-curve").await;
    let authority = Authority::new();
    authority.key("root", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"]);
    let root = authority.ca("root", "root", "/CN=Root", None, &[]);
    let issuing = authority.ca("issuing", "issuing", "/CN=Issuing", Some(("root", "root")), &[]);
    let key = authority.key("issuing", P256);
    shop.apply_secret("ca", &[("tls.crt", &(issuing + &root)), ("tls.key", &key)]).await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.certificate("orders", "ca", json!({ "subject": format!("CN={}", "x".repeat(65)) })).await;
    shop.until_ready("orders").await;
    assert_eq!(authority.verifies(&shop.value("orders", "tls.crt").await, &root), Ok(()));
    let issuer = shop.api::<usercert_operator::api::CertificateIssuer>().get("ca").await.unwrap().status.unwrap();
    assert!(issuer.conditions[0].message.contains("CN=Root is taken for the root by its name"), "{issuer:?}");
    shop.until_event("orders", "CommonNameTooLong").await;
    assert!(shop.message("orders", "Issuing").await.contains("the common name has 65 characters"));
}

#[tokio::test]
async fn an_issuer_or_ca_that_comes_later_is_noticed_and_one_that_goes_takes_nothing() {
    let shop = open("ca-later").await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until("orders", "Ready", "False IssuerNotFound").await;
    shop.until_event("orders", "IssuerNotFound").await;
    assert!(shop.message("orders", "Ready").await.contains("CertificateIssuer ca"));
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.until("orders", "Ready", "False CaNotFound").await;
    shop.until_issuer("ca", "False CaNotFound").await;
    shop.until_event("ca", "CaNotFound").await;
    shop.replace_ca(30).await;
    let status = shop.until_ready("orders").await;
    shop.delete::<usercert_operator::api::CertificateIssuer>("ca").await;
    shop.until("orders", "Issuing", "False IssuerNotFound").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    assert_eq!(shop.status("orders").await.serial_number, status.serial_number);
}

#[tokio::test]
async fn a_secret_of_the_certificate_goes_with_its_object() {
    let shop = open("ca-deleted").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    shop.delete::<DatabaseUserCertificate>("orders").await;
    eventually("the Secret is collected", || async { shop.secret("orders").await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_spec_that_its_issuer_cannot_honour_is_refused_with_the_field() {
    let shop = open("ca-invalid").await;
    shop.ca_issuer(30).await;
    for (name, spec, words) in [
        ("months", json!({ "monthsUntilExpiration": 3 }), "spec.monthsUntilExpiration"),
        ("subject", json!({ "subject": "orders, Inc" }), "spec.subject"),
        ("long", json!({ "renewBefore": "5000h" }), "spec.renewBefore"),
    ] {
        shop.certificate(name, "ca", spec).await;
        shop.until(name, "Ready", "False InvalidSpec").await;
        assert!(shop.message(name, "Ready").await.contains(words));
        assert!(shop.secret(name).await.is_none());
    }
    shop.certificate("subject", "ca", json!({ "subject": "CN=orders" })).await;
    shop.until_ready("subject").await;
}

#[tokio::test]
async fn a_cluster_issuer_serves_whom_it_allows() {
    let shop = open("cluster-issuer").await;
    let (certificate, key) = new_ca(30);
    let admin = Shop::in_namespace(&crate::CLUSTER, "usercert-system").await;
    admin
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "cluster-ca" },
            "stringData": { "tls.crt": certificate, "tls.key": key },
        }))
        .await;
    let issuers = kube::Api::<usercert_operator::api::ClusterCertificateIssuer>::all(shop.client.clone());
    let allow = |allow: serde_json::Value| {
        let issuer = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "ClusterCertificateIssuer", "metadata": { "name": "shared" },
            "spec": { "ca": { "secretName": "cluster-ca" }, "allow": allow },
        });
        let issuers = issuers.clone();
        async move {
            issuers
                .patch("shared", &kube::api::PatchParams::apply("test").force(), &kube::api::Patch::Apply(issuer))
                .await
                .unwrap();
        }
    };
    allow(json!({})).await;
    let cluster = json!({ "issuerRef": { "kind": "ClusterCertificateIssuer", "name": "shared" } });
    shop.certificate("orders", "", cluster.clone()).await;
    shop.until("orders", "Ready", "False IssuerNotAllowed").await;
    assert!(shop.secret("orders").await.is_none());
    allow(json!({ "namespaces": { "names": [shop.namespace] }, "usernames": ["{{namespace}}.*"] })).await;
    eventually("the pattern is named", || async {
        shop.message("orders", "Ready").await.contains("spec.allow.usernames").then_some(())
    })
    .await;
    allow(json!({ "namespaces": { "selector": { "matchLabels": { "kubernetes.io/metadata.name": shop.namespace } } } })).await;
    shop.until_ready("orders").await;
    allow(json!({ "namespaces": { "names": ["nobody"] } })).await;
    shop.until("orders", "Issuing", "False IssuerNotAllowed").await;
    assert_eq!(shop.condition("orders", "Ready").await, "True Issued");
    shop.delete::<Secret>("orders").await;
    shop.until("orders", "Ready", "False IssuerNotAllowed").await;
}
