//! No key, API key or PEM is in a log, condition, Event or metric.

use kube::{Api, api::ListParams};
use serde_json::json;
use usercert_operator::api::{CertificateIssuer, DatabaseUserCertificate};
use usercert_test_support::atlas::{Fault, X509Type};

use crate::{harness::PRIVATE_API_KEY, open};

#[tokio::test]
async fn nothing_secret_is_logged_reported_or_counted() {
    let shop = open("secrecy").await;
    shop.atlas_issuer().await;
    let ca = shop.ca_issuer(30).await;
    for (name, fault) in [
        ("good", None),
        ("bad", Some(Fault::WrongKey)),
        ("cut", Some(Fault::TruncatedPem)),
        ("double", Some(Fault::TwoCertificates)),
    ] {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        if let Some(fault) = fault {
            shop.cluster.atlas.fault(name, fault);
        }
        shop.certificate(name, "atlas", json!({})).await;
    }
    shop.certificate("signed", "ca", json!({})).await;
    shop.until_ready("good").await;
    shop.until_ready("signed").await;
    for name in ["bad", "cut", "double"] {
        shop.until(name, "Ready", "False AtlasAnswerUnusable").await;
    }
    shop.patch_secret("ca", json!({ "stringData": { "tls.crt": "garbage" } })).await;
    shop.until_issuer("ca", "False CaInvalid").await;

    let everything = ListParams::default();
    let places = [
        ("the log", shop.cluster.log.text()),
        ("the metrics", shop.cluster.metrics.encode().unwrap()),
        (
            "the certificates",
            format!("{:?}", Api::<DatabaseUserCertificate>::all(shop.client.clone()).list(&everything).await.unwrap()),
        ),
        ("the issuers", format!("{:?}", Api::<CertificateIssuer>::all(shop.client.clone()).list(&everything).await.unwrap())),
        (
            "the Events",
            format!(
                "{:?}",
                Api::<k8s_openapi::api::events::v1::Event>::all(shop.client.clone()).list(&everything).await.unwrap()
            ),
        ),
    ];
    assert!(places[0].1.contains("a certificate was issued"), "the log is the operator's");
    let mut secrets = vec![PRIVATE_API_KEY.to_owned(), "-----BEGIN".to_owned()];
    secrets.extend(lines_of(&ca));
    for mint in shop.cluster.atlas.mints() {
        secrets.extend(lines_of(&mint.key_pem));
        secrets.extend(lines_of(&mint.certificate_pem));
    }
    for name in ["signed", "ca"] {
        secrets.extend(lines_of(&shop.value(name, "tls.key").await));
    }
    for (place, text) in &places {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{place}: {secret}");
        }
    }
}

/// The lines of a PEM text, which are long enough to be nothing else; also as they would look in base64.
fn lines_of(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| !line.starts_with("-----") && line.len() > 30).map(ToOwned::to_owned).collect()
}
