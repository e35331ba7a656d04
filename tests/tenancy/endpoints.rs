//! A namespaced issuer has the operator send nothing to a place of the tenant's choice.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    harness::PRIVATE_API_KEY,
    stage::{Stage, refused},
};

pub async fn a_namespaced_issuer_sends_nothing_to_a_place_that_is_not_allowed(stage: &'static Stage) {
    let shop = stage.tenant("reaching").await;
    shop.apply_secret("atlas-api-key", &[("publicApiKey", "key"), ("privateApiKey", PRIVATE_API_KEY)]).await;
    // The harness allows 127.0.0.1 alone, at any port.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut told = Vec::new();
    for (what, name, endpoint) in [
        ("an issuer's endpoint that listens", "open", format!("http://{address}")),
        ("the same with TLS", "tls", format!("https://{address}")),
        ("an endpoint that nobody listens on", "closed", "http://127.0.0.2:9".to_owned()),
        ("an endpoint whose name nobody knows", "unknown", "https://no-such-host.invalid".to_owned()),
        ("an address of the machine itself", "itself", "http://[::1]:9".to_owned()),
    ] {
        let mut issuer = shop.atlas_issuer_manifest("v2");
        issuer["metadata"]["name"] = json!(name);
        issuer["spec"]["atlas"]["endpoint"] = json!(endpoint);
        issuer["spec"]["atlas"]["allowPlainHttp"] = json!(true);
        let attempt = async {
            shop.apply(issuer).await;
            shop.certificate(name, name, json!({})).await;
            refused(&shop, name, "EndpointNotAllowed").await
        };
        stage.attempt(7, what, attempt).await;
        told.push(shop.message(name, "Ready").await.replace(&format!("CertificateIssuer {name}: "), ""));
    }
    shop.assert_quiet().await;
    server.abort();
    assert_eq!(accepted.load(Ordering::SeqCst), 0, "a connection was made");
    assert!(told.iter().all(|message| *message == told[0]), "what is there is not told: {told:?}");
}
