//! What goes wrong at Atlas. One after the other, because these alerts are about all requests together.

use serde_json::json;
use usercert_test_support::atlas::{Refusal, X509Type};

use super::{Break, CLUSTER, Row, about, alert, resolves};
use crate::{harness::Shop, prometheus::Prometheus};

const CLIENT_SECRET: &str = "mdb_sa_sk_4b7d-alerts-client-secret";

pub async fn all(prometheus: &Prometheus) -> Vec<Row> {
    let mut rows = unavailable(prometheus).await;
    rows.extend(credentials_refused(prometheus).await);
    rows
}

async fn unavailable(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "unavailable").await;
    shop.atlas_issuer().await;
    let users: Vec<String> = (0..4).map(|number| shop.name(&format!("u{number}"))).collect();
    let broken = Break::now("Atlas answers 503");
    for user in &users {
        shop.cluster.atlas.add_user(&shop.project, user, X509Type::Managed);
        shop.cluster.atlas.refuse_questions(user, Refusal::new(503, "SERVICE_UNAVAILABLE"));
        shop.certificate(user, "atlas", json!({})).await;
    }
    let wanted = [alert("UsercertAtlasUnavailable", &[]), about("UsercertRenewalFailing", &shop, &users[0])];
    let fired = broken.fires(prometheus, &wanted).await;
    for user in &users {
        shop.cluster.atlas.answer_questions(user);
    }
    resolves(prometheus, "Atlas answers", fired).await
}

async fn credentials_refused(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "refused").await;
    let (id, user) = (format!("mdb_sa_id_{}", shop.namespace), shop.name("orders"));
    shop.cluster.atlas.add_service_account(&shop.project, &id, CLIENT_SECRET);
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", "expired")]).await;
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    let broken = Break::now("the client secret of a service account has expired");
    shop.certificate(&user, "atlas", json!({})).await;
    let labels = [
        ("kind", "CertificateIssuer"),
        ("namespace", shop.namespace.as_str()),
        ("name", "atlas"),
        ("reason", "AtlasClientSecretRefused"),
    ];
    let fired = broken.fires(prometheus, &[alert("UsercertCredentialsRefused", &labels)]).await;
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", CLIENT_SECRET)]).await;
    resolves(prometheus, "the Secret holds a new one", fired).await
}
