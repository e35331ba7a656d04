//! What goes wrong with single certificates and issuers. All of it at once, each in a namespace of its own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use usercert_test_support::{
    atlas::{Fault, X509Type},
    control_plane::tool,
};

use super::{Break, CLUSTER, Row, about, alert, resolves};
use crate::{
    harness::{Shop, eventually},
    kubelet::Kubelet,
    prometheus::{Prometheus, Wanted},
    runbooks::command_of,
};

pub async fn all(prometheus: &Prometheus) -> Vec<Row> {
    let (ca_ends, ca_ended, suspended, unaccounted, unsaved, rollout, credentials) = tokio::join!(
        ca_at_its_end(prometheus),
        ca_past_its_end(prometheus),
        suspended(prometheus),
        unaccounted(prometheus),
        unsaved(prometheus),
        rollout_late(prometheus),
        credentials_near_their_year(prometheus),
    );
    [ca_ends, ca_ended, suspended, unaccounted, unsaved, rollout, credentials].into_iter().flatten().collect()
}

/// A CA that has so many seconds left.
fn ca_for(seconds: i64) -> (String, String) {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "CA at its end");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let end = u64::try_from(Timestamp::now().as_second() + seconds).unwrap();
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
    let key = KeyPair::generate().unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

async fn apply_ca(shop: &Shop, (certificate, key): (String, String)) {
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "ca" },
        "stringData": { "tls.crt": certificate, "tls.key": key },
    }))
    .await;
}

/// Of a CA that has 90 seconds left. The certificate is not renewed, and expires with it.
pub async fn certificate_near_its_end(shop: &Shop) {
    apply_ca(shop, ca_for(90)).await;
    let issuer = json!({ "ca": { "secretName": "ca" } });
    shop.apply(json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" }, "spec": issuer })).await;
    // It begins five minutes ago, for clocks differ; so a third of its life would be more than what is left. Of this life of 390 seconds the renewal is
    // due after 12 of the last 90, and so the alert that it expires soon fires for the last 39: enough to be seen on a slow machine.
    shop.certificate("orders", "ca", json!({ "renewBeforePercentage": 20 })).await;
    shop.until("orders", "Ready", "True Issued").await;
}

fn about_ca(name: &'static str, shop: &Shop) -> Wanted {
    alert(name, &[("namespace", &shop.namespace), ("kind", "CertificateIssuer"), ("name", "ca")])
}

async fn ca_at_its_end(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "ca-at-its-end").await;
    let broken = Break::now("the CA has 90 seconds left, and its certificate with it");
    certificate_near_its_end(&shop).await;
    let wanted = [
        about_ca("UsercertCaExpiresSoon", &shop),
        about("UsercertCertificateExpiresSoon", &shop, "orders"),
        about("UsercertRenewalOverdue", &shop, "orders"),
    ];
    let fired = broken.fires(prometheus, &wanted).await;
    shop.replace_ca(3650).await;
    resolves(prometheus, "the Secret holds a new CA", fired).await
}

async fn ca_past_its_end(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "ca-past-its-end").await;
    let broken = Break::now("the CA had 90 seconds left, and its certificate with it");
    certificate_near_its_end(&shop).await;
    let wanted = [
        about("UsercertCertificateExpired", &shop, "orders"),
        about("UsercertCertificateNotReady", &shop, "orders"),
        about_ca("UsercertIssuerNotReady", &shop),
        about_ca("UsercertCaExpired", &shop),
    ];
    let fired = broken.fires(prometheus, &wanted).await;
    shop.replace_ca(3650).await;
    resolves(prometheus, "the Secret holds a new CA", fired).await
}

async fn suspended(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "suspended").await;
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({})).await;
    shop.until_ready("orders").await;
    let broken = Break::now("spec.suspend is left true");
    shop.certificate("orders", "ca", json!({ "suspend": true })).await;
    let fired = broken.fires(prometheus, &[about("UsercertCertificateSuspended", &shop, "orders")]).await;
    shop.certificate("orders", "ca", json!({ "suspend": false })).await;
    resolves(prometheus, "it is set to false", fired).await
}

async fn unaccounted(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "unaccounted").await;
    shop.atlas_issuer().await;
    let user = shop.name("orders");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    let broken = Break::now("somebody else has Atlas make a certificate for 20 seconds");
    let end = Timestamp::now() + SignedDuration::from_secs(20);
    shop.cluster.atlas.mint_for(&shop.project, &user, end).unwrap();
    shop.certificate(&user, "atlas", json!({})).await;
    let fired = broken.fires(prometheus, &[about("UsercertUnaccountedCertificates", &shop, &user)]).await;
    tokio::time::sleep(Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default()).await;
    // Its next look would be at the renewal time, or in an hour.
    shop.annotate(&user, "example.com/looked-at", "1").await;
    resolves(prometheus, "it has expired", fired).await
}

/// Of a first certificate, and of a renewal: there the old certificate works, and `Ready` stays True.
async fn unsaved(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "unsaved").await;
    shop.atlas_issuer().await;
    let [first, renewed, healthy] = ["first", "renewed", "healthy"].map(|name| shop.name(name));
    for user in [&first, &renewed, &healthy] {
        shop.cluster.atlas.add_user(&shop.project, user, X509Type::Managed);
    }
    for user in [&renewed, &healthy] {
        shop.certificate(user, "atlas", json!({})).await;
        shop.until_ready(user).await;
    }
    let old = shop.status(&renewed).await.serial_number.unwrap();
    for user in [&first, &renewed] {
        shop.cluster.atlas.fault_once(user, Fault::Delay(Duration::from_secs(15)));
    }
    shop.certificate(&first, "atlas", json!({})).await;
    shop.annotate(&renewed, "usercert.dev/renew-requested-at", "now").await;
    let mints = |user: &str| shop.cluster.atlas.mints_of(user).len();
    eventually("Atlas works on both", || async { (mints(&first) == 1 && mints(&renewed) == 2).then_some(()) }).await;
    shop.apply_secret(&first, &[("of", "somebody else")]).await;
    shop.patch_secret(&renewed, json!({ "immutable": true })).await;
    let broken = Break::now("Secrets refuse two certificates while Atlas works");
    let fired = broken.fires(prometheus, &[alert("UsercertUnsavedCertificates", &[("namespace", "usercert-system")])]).await;
    shop.until(&renewed, "Issuing", "False SecretNotWritable").await;
    assert_eq!(shop.condition(&renewed, "Ready").await, "True Issued");
    let found = printed_by(&command_of("UsercertUnsavedCertificates")).await;
    assert!(found.contains(&first) && found.contains(&renewed) && !found.contains(&healthy), "{found}");
    for secret in [&first, &renewed] {
        shop.delete::<Secret>(secret).await;
    }
    let rows = resolves(prometheus, "these Secrets are deleted", fired).await;
    shop.until_new_serial(&renewed, &old).await;
    assert_eq!((mints(&first), mints(&renewed)), (1, 2), "what was in memory is saved");
    rows
}

/// What a command of a runbook prints.
async fn printed_by(command: &str) -> String {
    let kubectl = tool("kubectl").unwrap();
    let path = format!("{}:{}", kubectl.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = tokio::process::Command::new("bash");
    let output = bash.args(["-c", command]).env("KUBECONFIG", CLUSTER.control_plane.kubeconfig()).env("PATH", path).output();
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}

async fn rollout_late(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "rollout").await;
    let kubelet = Kubelet::start(shop.client.clone(), &shop.namespace, Timestamp::now);
    shop.ca_issuer(3650).await;
    shop.certificate("orders", "ca", json!({ "rollout": { "auto": true } })).await;
    let serial = shop.until_ready("orders").await.serial_number.unwrap();
    shop.apply(deployment()).await;
    eventually("its pod is ready", || async {
        let status = shop.api::<Deployment>().get("app").await.unwrap().status?;
        (status.ready_replicas == Some(1)).then_some(())
    })
    .await;
    kubelet.break_new_pods("app");
    let broken = Break::now("new pods of a workload do not become ready after a renewal");
    shop.annotate("orders", "usercert.dev/renew-requested-at", "now").await;
    shop.until_new_serial("orders", &serial).await;
    let fired = broken.fires(prometheus, &[about("UsercertRolloutLate", &shop, "orders")]).await;
    kubelet.mend("app");
    resolves(prometheus, "they do; pods have to be younger than the Secret by 60 s", fired).await
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app" },
        "spec": {
            "selector": { "matchLabels": { "app": "app" } },
            "template": {
                "metadata": { "labels": { "app": "app" } },
                "spec": {
                    "containers": [{ "name": "main", "image": "example.com/none" }],
                    "volumes": [{ "name": "certificate", "secret": { "secretName": "orders" } }],
                },
            },
        },
    })
}

async fn credentials_near_their_year(prometheus: &Prometheus) -> Vec<Row> {
    let shop = Shop::open(&CLUSTER, "year").await;
    let id = format!("mdb_sa_id_{}", shop.namespace);
    shop.cluster.atlas.add_service_account(&shop.project, &id, "mdb_sa_sk_first-of-alerts");
    let broken = Break::now("a client secret is as old as it may be (here 20 seconds)");
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", "mdb_sa_sk_first-of-alerts")]).await;
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    let labels = [("namespace", shop.namespace.as_str()), ("name", "atlas")];
    let fired = broken.fires(prometheus, &[alert("UsercertCredentialsExpireSoon", &labels)]).await;
    shop.cluster.atlas.add_service_account(&shop.project, &id, "mdb_sa_sk_second-of-alerts");
    shop.apply_secret("atlas-api-key", &[("clientId", &id), ("clientSecret", "mdb_sa_sk_second-of-alerts")]).await;
    let rows = resolves(prometheus, "the Secret holds a new one", fired).await;
    // It would be as old again in 20 seconds.
    shop.delete_all().await;
    rows
}
