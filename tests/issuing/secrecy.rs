//! No key, API key, token or PEM is in a log, condition, Event or metric, nor in the `Debug` of any public type. `secrecy-check` looks
//! for the same in all that was said in a whole run of the tests.

use kube::{Api, api::ListParams};
use serde_json::json;
use usercert_operator::{
    api::{CertificateIssuer, DatabaseUserCertificate},
    certificate::{PrivateKey, PrivateKeySpec, Subject},
    controller::secret::{Additions, NamedPassword, PreviousPair, SecretContent},
    issuer::{
        Issuer,
        atlas::{AtlasApiVersion, AtlasClient, AtlasCredentials, AtlasIssuer, AtlasSettings, Words},
        ca::{CaIssuer, SignRequest},
    },
    layout::KeystorePassword,
};
use usercert_test_support::{
    atlas::{Fault, X509Type},
    evidence,
};

use crate::{
    harness::{PRIVATE_API_KEY, new_ca},
    open,
};

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
    let more = json!({ "formats": [{ "type": "PKCS12" }, { "type": "PKCS8DER" }, { "type": "CA" }], "keepPrevious": true });
    shop.certificate("signed", "ca", more).await;
    shop.until_ready("good").await;
    let former = shop.until_ready("signed").await.serial_number.unwrap();
    shop.annotate("signed", "usercert.dev/renew-requested-at", "1").await;
    shop.until_new_serial("signed", &former).await;
    shop.until_ready("double").await;
    for name in ["bad", "cut"] {
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
    for (name, entry) in [("signed", "tls.key"), ("ca", "tls.key"), ("signed", "previous-tls.key")] {
        secrets.extend(lines_of(&shop.value(name, entry).await));
    }
    let password = shop.value("signed", "keystore-password").await;
    assert_eq!(password.len(), 48);
    evidence::secret(&password);
    secrets.push(password);
    for (place, text) in &places {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{place}: {secret}");
        }
    }
}

#[test]
fn the_debug_of_every_public_type_that_holds_a_secret_shows_none() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ca, ca_key) = new_ca(30);
    let entry = |data: &'static [(&'static str, &'static str)]| {
        AtlasCredentials::from_secret(move |key| data.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_bytes()))
            .unwrap()
    };
    let key = entry(&[("publicApiKey", "the-public-key"), ("privateApiKey", "the-private-key")]);
    let account = entry(&[("clientId", "the-client-id"), ("clientSecret", "the-client-secret")]);
    let (AtlasCredentials::ApiKey(api_key), AtlasCredentials::ServiceAccount(service_account)) = (key.clone(), account.clone())
    else {
        panic!("each is of its kind")
    };
    let settings = AtlasSettings {
        endpoint: "https://cloud.mongodb.com".parse().unwrap(),
        project_id: "5efda6aea3f2ed2e7dd6ce05".to_owned(),
        credentials_uid: "uid-1".to_owned(),
        api_version: AtlasApiVersion::V2,
        allow_plain_http: false,
        words: Words::Quoted,
    };
    let client = AtlasClient::new(std::time::Duration::from_secs(1), None).unwrap();
    let atlas = AtlasIssuer::new(client.clone(), settings, account.clone());
    let now = jiff::Timestamp::now();
    let ca_issuer = CaIssuer::from_secret(Some(ca.as_bytes()), Some(ca_key.as_bytes()), now).unwrap();
    let request = SignRequest {
        subject: Subject::for_user("orders").unwrap(),
        duration: jiff::SignedDuration::from_hours(24),
        private_key: PrivateKeySpec::default(),
        now,
    };
    let issued = ca_issuer.issue(&request).unwrap();
    let pair_key = secrecy::ExposeSecret::expose_secret(&issued.pair.key_pem()).to_owned();
    let private_key = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
    let private_key_pem = secrecy::ExposeSecret::expose_secret(&private_key.to_pkcs8_pem()).to_owned();
    let content = SecretContent {
        pair: issued.pair.clone(),
        ca_certificate: issued.ca_certificate.clone(),
        issuer: None,
        issue_reason: None,
        issuance: None,
        renew_request: None,
    };
    let password = || KeystorePassword::Made("the-keystore-password".into());
    let additions = Additions {
        previous: PreviousPair::Kept(issued.pair.clone()),
        keystore_password: Some(password()),
        keystore_goes: false,
        named_password: NamedPassword { password: Some(password()), ..NamedPassword::default() },
    };
    let shown = [
        format!("{additions:?} {additions:#?}"),
        format!("{key:?} {account:?} {api_key:?} {service_account:?}"),
        format!("{atlas:?} {:?} {client:?}", Issuer::Atlas(std::sync::Arc::new(atlas.clone()))),
        format!(
            "{ca_issuer:?} {:?}",
            Issuer::Ca(std::sync::Arc::new(CaIssuer::from_secret(Some(ca.as_bytes()), Some(ca_key.as_bytes()), now).unwrap()))
        ),
        format!("{issued:?} {:?} {private_key:?} {request:?}", issued.pair),
        format!("{atlas:#?} {issued:#?} {content:#?} {private_key:#?}"),
    ];
    let mut secrets: Vec<String> =
        ["the-public-key", "the-private-key", "the-client-id", "the-client-secret", "the-keystore-password", "-----BEGIN"]
            .map(ToOwned::to_owned)
            .into();
    for pem in [&ca_key, &pair_key, &private_key_pem] {
        secrets.extend(lines_of(pem));
    }
    assert!(secrets.len() >= 8, "{}", secrets.len());
    for text in &shown {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{text}");
        }
    }
}

/// The lines of a PEM text between its boundaries that are long enough to be nothing else.
fn lines_of(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16).map(ToOwned::to_owned).collect()
}
