//! Endpoints: which ones an issuer may name, and what is told of those that anybody may stand behind.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::net::TcpListener;
use usercert_operator::api::{CertificateIssuer, ClusterCertificateIssuer, condition};
use usercert_test_support::atlas::{Fault, Refusal, StandIn, StandInConfig, X509Type};

use crate::{
    CLUSTER,
    harness::{PRIVATE_API_KEY, Shop, eventually},
    open,
};

/// A server that takes connections at a free port of this address and says nothing; its URL, and how many came.
async fn listener(address: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let (url, count) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let accepted = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            accepted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, count)
}

#[tokio::test]
async fn a_namespaced_issuer_reaches_only_what_the_administrator_allows() {
    let shop = open("endpoint").await;
    shop.atlas_issuer().await;
    shop.until_issuer("atlas", "True IssuerReady").await;
    // The harness allows 127.0.0.1 alone.
    let (foreign, never) = listener("127.0.0.2").await;
    let (allowed, reached) = listener("127.0.0.1").await;
    let mut issuer = shop.atlas_issuer_manifest("v2");
    let name = shop.name("orders");
    let unresolved = "https://name-that-is-not-resolved.invalid".to_owned();
    for endpoint in [unresolved, foreign.replace("http:", "https:"), foreign.clone()] {
        issuer["spec"]["atlas"]["endpoint"] = json!(endpoint);
        issuer["spec"]["atlas"]["allowPlainHttp"] = json!(true);
        shop.apply(issuer.clone()).await;
        eventually("the endpoint is refused", || async {
            let issuer = shop.api::<CertificateIssuer>().get("atlas").await.unwrap();
            let status = issuer.status.unwrap();
            let ready = condition(&status.conditions, "Ready").unwrap();
            (status.observed_generation == issuer.metadata.generation
                && ready.reason == "EndpointNotAllowed"
                && ready.message.contains("atlas.allowedEndpoints"))
            .then_some(())
        })
        .await;
        shop.certificate(&name, "atlas", json!({})).await;
        shop.until(&name, "Ready", "False EndpointNotAllowed").await;
    }
    shop.until_event("atlas", "EndpointNotAllowed").await;
    shop.assert_quiet().await;
    // Neither its credentials nor anything else but its spec can bring it back.
    shop.apply_secret("atlas-api-key", &[("publicApiKey", "other"), ("privateApiKey", PRIVATE_API_KEY)]).await;
    shop.assert_quiet().await;
    assert_eq!(never.load(Ordering::SeqCst), 0, "a connection was made");

    issuer["spec"]["atlas"]["endpoint"] = json!(allowed);
    shop.apply(issuer.clone()).await;
    eventually("a connection", || async { (reached.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    // A certificate that works goes on working when its issuer is refused.
    shop.delete::<usercert_operator::api::DatabaseUserCertificate>(&name).await;
    let working = shop.name("working");
    shop.cluster.atlas.add_user(&shop.project, &working, X509Type::Managed);
    shop.atlas_issuer().await;
    shop.certificate(&working, "atlas", json!({})).await;
    shop.until_ready(&working).await;
    issuer["spec"]["atlas"]["endpoint"] = json!(foreign);
    shop.apply(issuer).await;
    shop.until(&working, "Issuing", "False EndpointNotAllowed").await;
    assert_eq!(shop.condition(&working, "Ready").await, "True Issued");
}

/// A cluster issuer of this name for the shop, with its credentials in the operator's namespace.
async fn cluster_issuer(shop: &Shop, name: &str, endpoint: &str) {
    let admin = Shop::in_namespace(&CLUSTER, "usercert-system").await;
    admin.apply_secret(name, &[("publicApiKey", &shop.public_key), ("privateApiKey", PRIVATE_API_KEY)]).await;
    let issuer = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "ClusterCertificateIssuer", "metadata": { "name": name },
        "spec": {
            "atlas": { "projectId": shop.project, "credentialsSecretRef": { "name": name }, "endpoint": endpoint },
            "allow": { "namespaces": { "names": [shop.namespace] } },
        },
    });
    let issuers = Api::<ClusterCertificateIssuer>::all(shop.client.clone());
    issuers.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(issuer)).await.unwrap();
}

#[tokio::test]
async fn a_cluster_issuer_may_name_any_endpoint_but_the_words_of_one_that_is_not_listed_are_not_told() {
    let shop = open("words").await;
    let foreign =
        StandIn::start(StandInConfig { listen: ([127, 0, 0, 2], 0).into(), ..StandInConfig::default() }).await.unwrap();
    foreign.add_project(&shop.project, &shop.public_key, PRIVATE_API_KEY);
    let (listed, unlisted, closed) = (shop.name("listed"), shop.name("unlisted"), shop.name("closed"));
    cluster_issuer(&shop, &listed, &shop.endpoint).await;
    cluster_issuer(&shop, &unlisted, &foreign.url()).await;
    cluster_issuer(&shop, &closed, "http://127.0.0.3:9").await;
    let faults = [
        ("works", None, "", ""),
        (
            "refused",
            Some(Fault::Refuse(Refusal::new(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST"))),
            "stand-in detail",
            ": add this operator's egress address",
        ),
        (
            "other-code",
            Some(Fault::Refuse(Refusal::new(403, "WORDS_OF_ANOTHER"))),
            "WORDS_OF_ANOTHER",
            ": give the API key the role",
        ),
        ("redirected", Some(Fault::Redirect("https://words.test/x".to_owned())), "words.test", "redirects are not followed"),
        ("other-user", Some(Fault::OtherUser), "-other", "its answer cannot be used"),
        ("lost", Some(Fault::Reset), "(", "the answer of Atlas was lost"),
    ];
    for (issuer, atlas) in [(&listed, &shop.atlas), (&unlisted, &foreign)] {
        for (name, fault, ..) in &faults {
            let name = format!("{name}-{issuer}");
            atlas.add_user(&shop.project, &name, X509Type::Managed);
            if let Some(fault) = fault {
                atlas.fault(&name, fault.clone());
            }
            certificate(&shop, &name, issuer).await;
        }
        shop.until_ready(&format!("works-{issuer}")).await;
        for (name, _, foreign_words, ours) in &faults[1..] {
            let name = format!("{name}-{issuer}");
            let message = eventually(ours, || async {
                let message = shop.message(&name, "Issuing").await;
                message.contains(ours).then_some(message)
            })
            .await;
            let said = message.replace(&name, "");
            assert_eq!(said.contains(foreign_words), *issuer == listed, "{name}: {message}");
        }
    }
    certificate(&shop, "closed", &closed).await;
    shop.until("closed", "Ready", "False AtlasUnavailable").await;
    let message = shop.message("closed", "Ready").await;
    assert!(message.contains("did not answer") && !message.contains("refused"), "{message}");
}

async fn certificate(shop: &Shop, name: &str, issuer: &str) {
    let reference = json!({ "issuerRef": { "kind": "ClusterCertificateIssuer", "name": issuer } });
    shop.certificate(name, "", reference).await;
}
