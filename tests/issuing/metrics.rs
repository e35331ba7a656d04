//! What metrics tell of objects, from their first look to their end.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use usercert_operator::{
    api::{CertificateIssuer, DatabaseUserCertificate},
    controller::Scope,
    runtime::{CertificateSeries, Leadership, Liveness, Metrics, Readiness},
};
use usercert_test_support::atlas::{Fault, Refusal, X509Type};

use crate::{
    Shop,
    harness::{Operator, eventually},
    open,
};

/// The names and labels of all counters, without their values.
fn counters(metrics: &Metrics) -> BTreeSet<String> {
    let text = metrics.encode().unwrap();
    let lines = text.lines().filter(|line| line.contains("_total") && !line.starts_with(['#', 'p']));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// The value of a counter of the whole operator.
fn counter(shop: &Shop, series: &str) -> u64 {
    let text = shop.cluster.metrics.encode().unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{series} "))).unwrap_or_else(|| panic!("{series}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_series_of_a_certificate_follow_it_through_renewal_failure_and_deletion() {
    let shop = open("metrics").await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.atlas_issuer().await;
    shop.until_issuer("atlas", "True IssuerReady").await;
    shop.until_metric_is("issuer_ready", "atlas", 1).await;
    assert_eq!(shop.metric("issuer_credentials_not_after_timestamp_seconds", "atlas"), None, "API keys do not expire");
    let created = r#"usercert_atlas_requests_total{operation="create_certificate",code="201"}"#;
    let before = counter(&shop, created);

    shop.certificate(&user, "atlas", json!({})).await;
    let status = shop.until_ready(&user).await;
    shop.until_metric_is("certificate_ready", &user, 1).await;
    let not_after = status.not_after.unwrap().0.as_second();
    shop.until_metric_is("certificate_not_after_timestamp_seconds", &user, not_after).await;
    let renewal = status.renewal_time.unwrap().0.as_second();
    assert_eq!(shop.metric("certificate_renewal_timestamp_seconds", &user), Some(renewal));
    assert_eq!(shop.metric("certificate_consecutive_failures", &user), Some(0));
    let text = shop.cluster.metrics.encode().unwrap();
    let labels = format!(r#"{{namespace="{}",name="{user}",issuer="CertificateIssuer/atlas"}}"#, shop.namespace);
    assert!(text.contains(&format!("usercert_certificate_ready{labels} 1")), "{text}");
    assert!(counter(&shop, created) > before);

    // A renewal that fails leaves the certificate Ready.
    shop.cluster.atlas.fault(&user, Fault::Refuse(Refusal::new(409, "CONFLICT")));
    let failed = r#"usercert_issue_failures_total{issuer_type="atlas",reason="AtlasConflict"}"#;
    let refused = r#"usercert_atlas_requests_total{operation="create_certificate",code="409"}"#;
    let before = [counter(&shop, failed), counter(&shop, refused)];
    shop.annotate(&user, "usercert.dev/renew-requested-at", "1").await;
    shop.until(&user, "Issuing", "False AtlasConflict").await;
    shop.until_metric_is("certificate_consecutive_failures", &user, 1).await;
    assert_eq!(shop.metric("certificate_ready", &user), Some(1));
    assert!(counter(&shop, failed) > before[0] && counter(&shop, refused) > before[1]);

    // A renewal that succeeds moves the dates.
    shop.cluster.atlas.clear_faults(&user);
    shop.certificate(&user, "atlas", json!({ "monthsUntilExpiration": 12 })).await;
    shop.annotate(&user, "usercert.dev/renew-requested-at", "2").await;
    let status = shop.until_new_serial(&user, &status.serial_number.unwrap()).await;
    let next = status.not_after.unwrap().0.as_second();
    assert!(next > not_after);
    shop.until_metric_is("certificate_not_after_timestamp_seconds", &user, next).await;
    shop.until_metric_is("certificate_consecutive_failures", &user, 0).await;

    // What is gone has no series.
    shop.delete::<DatabaseUserCertificate>(&user).await;
    shop.delete::<CertificateIssuer>("atlas").await;
    eventually("no series is left", || async {
        let text = shop.cluster.metrics.encode().unwrap();
        (!text.contains(&format!("namespace=\"{}\"", shop.namespace))).then_some(())
    })
    .await;
    assert_eq!(counters(&shop.cluster.metrics), counters(&Metrics::default()), "each counter was there from the beginning");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_had_is_told_as_not_ready_and_its_issuer_too() {
    let shop = open("metrics-refused").await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until("orders", "Ready", "False CaNotFound").await;
    shop.until_metric_is("certificate_ready", "orders", 0).await;
    shop.until_metric_is("issuer_ready", "ca", 0).await;
    assert_eq!(shop.metric("certificate_not_after_timestamp_seconds", "orders"), None);
    assert_eq!(shop.metric("issuer_ca_not_after_timestamp_seconds", "ca"), None);
    shop.replace_ca(30).await;
    shop.until_ready("orders").await;
    shop.until_metric_is("issuer_ready", "ca", 1).await;
    let in_days = |seconds: i64| (seconds - jiff::Timestamp::now().as_second()) / 86_400;
    assert!((29..=30).contains(&in_days(shop.until_metric("issuer_ca_not_after_timestamp_seconds", "ca").await)));
}

#[tokio::test]
async fn the_client_secret_of_a_service_account_expires_a_year_after_its_secret_was_written_at_the_latest() {
    let shop = open("metrics-credentials").await;
    shop.apply_secret("atlas-api-key", &[("clientId", "mdb_sa_id_metrics"), ("clientSecret", "mdb_sa_sk_metrics")]).await;
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    shop.until_issuer("atlas", "True IssuerReady").await;
    let written = jiff::Timestamp::now().as_second();
    let expiry = shop.until_metric("issuer_credentials_not_after_timestamp_seconds", "atlas").await;
    let year = 365 * 86_400;
    assert!((written + year - 60..=written + year).contains(&expiry), "{expiry}");

    // A new client secret begins a new year.
    tokio::time::sleep(Duration::from_secs(2)).await;
    shop.apply_secret("atlas-api-key", &[("clientId", "mdb_sa_id_metrics"), ("clientSecret", "mdb_sa_sk_rotated")]).await;
    let first = expiry;
    let expiry = eventually("the date moves", || async {
        shop.metric("issuer_credentials_not_after_timestamp_seconds", "atlas").filter(|expiry| *expiry >= first + 2)
    })
    .await;

    // Who labels the Secret later renews nothing.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let secrets = shop.api::<Secret>();
    let patch = |annotations: Value| {
        Patch::Merge(json!({ "metadata": { "labels": { "team": "orders" }, "annotations": annotations } }))
    };
    let before = secrets.get("atlas-api-key").await.unwrap().resource_version();
    let parameters = PatchParams::apply("somebody-else");
    let labelled =
        secrets.patch("atlas-api-key", &PatchParams { force: false, ..parameters.clone() }, &patch(json!({}))).await.unwrap();
    assert_ne!(labelled.resource_version(), before);
    let loaded = || async { shop.metric("issuer_credentials_not_after_timestamp_seconds", "atlas") };
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(eventually("it is loaded", loaded).await, expiry);

    // Who knows the true end notes it there.
    let noted = written + 86_400;
    let time = jiff::Timestamp::from_second(noted).unwrap().to_string();
    let annotation = json!({ "usercert.dev/credentials-not-after": time });
    secrets.patch("atlas-api-key", &parameters, &patch(annotation)).await.unwrap();
    shop.until_metric_is("issuer_credentials_not_after_timestamp_seconds", "atlas", noted).await;
}

#[tokio::test]
async fn an_issuer_whose_credentials_atlas_refuses_is_named_until_it_accepts_them() {
    let shop = open("metrics-refused-credentials").await;
    let (user, id) = (shop.name("orders"), format!("mdb_sa_id_{}", shop.namespace));
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    shop.cluster.atlas.add_service_account(&shop.project, &id, "mdb_sa_sk_of-metrics");
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", "expired")]).await;
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    shop.certificate(&user, "atlas", json!({})).await;
    let labels =
        format!(r#"kind="CertificateIssuer",namespace="{}",name="atlas",reason="AtlasClientSecretRefused""#, shop.namespace);
    let series = format!("usercert_credentials_refused{{{labels}}} 1\n");
    eventually("it is named", || async { shop.cluster.metrics.encode().unwrap().contains(&series).then_some(()) }).await;
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", "mdb_sa_sk_of-metrics")]).await;
    eventually("it is not", || async { (!shop.cluster.metrics.encode().unwrap().contains(&series)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_totals_no_certificate_has_series_of_its_own() {
    let shop = open("metrics-totals").await;
    shop.ca_issuer(30).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.certificate("missing", "no-such-issuer", json!({})).await;
    shop.until_ready("orders").await;
    shop.until("missing", "Ready", "False IssuerNotFound").await;

    let scope = Scope::Namespace(shop.namespace.clone());
    let metrics = Metrics::new(Leadership::alone(None), Liveness::default(), Readiness::awaiting(0), CertificateSeries::Totals);
    let operator = Operator::new(shop.cluster.operator_config(), vec![scope], shop.endpoint.clone()).with_metrics(metrics);
    let readiness = operator.start(&tokio::runtime::Handle::current());
    eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    let of = |issuer: &str, ready: &str, count: u32| {
        format!("usercert_certificates{{issuer=\"CertificateIssuer/{issuer}\",ready=\"{ready}\"}} {count}\n")
    };
    let missing = |ready: &str, count: u32| format!("usercert_certificates{{issuer=\"missing\",ready=\"{ready}\"}} {count}\n");
    let expected = [of("ca", "True", 1), of("ca", "False", 0), missing("True", 0), missing("False", 1)];
    let text = operator.metrics.encode().unwrap();
    assert!(!text.contains("no-such-issuer"), "nobody has series made by naming issuers: {text}");
    assert!(expected.iter().all(|series| text.contains(series)), "{text}");
    let not_after = shop.status("orders").await.not_after.unwrap().0.as_second();
    let earliest = "usercert_certificates_earliest_not_after_timestamp_seconds{issuer=\"CertificateIssuer/ca\"}";
    assert!(text.contains(&format!("{earliest} {not_after}\n")), "{text}");
    assert!(!text.contains("name=\"orders\"") && !text.contains("usercert_certificate_"), "{text}");
    operator.kill();
    eventually("no series outlives the controllers", || async {
        (!operator.metrics.encode().unwrap().contains("usercert_certificates{")).then_some(())
    })
    .await;
}
