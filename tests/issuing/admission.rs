//! Webhooks that refuse our Secrets, with whatever code: a condition, an Event, a wait, and Atlas is not asked.

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            RuleWithOperations, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::{
    atlas::X509Type,
    webhook::{DENIAL, DenyingWebhook},
};

use crate::{
    harness::{
        Shop,
        webhooks::{WEBHOOK, until_asked},
    },
    open,
};

/// Has every write of a certificate's Secret in the namespace asked of this URL.
async fn ask(shop: &Shop, url: String, ca: &str) {
    let exists = LabelSelectorRequirement {
        key: "usercert.dev/certificate-uid".to_owned(),
        operator: "Exists".to_owned(),
        values: None,
    };
    let selector = LabelSelector { match_expressions: Some(vec![exists]), ..LabelSelector::default() };
    ask_about(shop, url, ca, ("", "v1", "secrets"), selector).await;
    until_asked(true, async || try_secret(shop).await).await;
}

/// A dry run of a write of a certificate's Secret, by an administrator: the chart's policy would refuse the operator's.
async fn try_secret(shop: &Shop) -> Result<Secret, kube::Error> {
    let secret = json!({ "metadata": { "name": "tried", "labels": { "usercert.dev/certificate-uid": "none" } } });
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let secrets = Api::<Secret>::namespaced(shop.impatient_client().await, &shop.namespace);
    secrets.create(&dry_run, &serde_json::from_value(secret).unwrap()).await
}

/// A dry run of a write of the status of the certificate `tried`.
async fn try_status(shop: &Shop) -> Result<DatabaseUserCertificate, kube::Error> {
    let certificates = Api::<DatabaseUserCertificate>::namespaced(shop.client_of_operator(), &shop.namespace);
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    certificates.patch_status("tried", &dry_run, &Patch::Merge(json!({ "status": { "observedGeneration": 9 } }))).await
}

/// Has every write of this resource in the namespace asked of this URL.
async fn ask_about(
    shop: &Shop,
    url: String,
    ca: &str,
    (group, version, resource): (&str, &str, &str),
    selector: LabelSelector,
) {
    let webhook = ValidatingWebhook {
        name: WEBHOOK.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: WebhookClientConfig {
            url: Some(url),
            ca_bundle: Some(ByteString(ca.as_bytes().to_vec())),
            service: None,
        },
        failure_policy: Some("Fail".to_owned()),
        namespace_selector: Some(LabelSelector {
            match_labels: Some([("kubernetes.io/metadata.name".to_owned(), shop.namespace.clone())].into()),
            ..LabelSelector::default()
        }),
        object_selector: Some(selector),
        rules: Some(vec![RuleWithOperations {
            api_groups: Some(vec![group.to_owned()]),
            api_versions: Some(vec![version.to_owned()]),
            operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
            resources: Some(vec![resource.to_owned()]),
            scope: None,
        }]),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(5),
        ..ValidatingWebhook::default()
    };
    let configuration = ValidatingWebhookConfiguration {
        metadata: ObjectMeta { name: Some(shop.namespace.clone()), ..ObjectMeta::default() },
        webhooks: Some(vec![webhook]),
    };
    let api = Api::<ValidatingWebhookConfiguration>::all(shop.client.clone());
    api.create(&PostParams::default(), &configuration).await.unwrap();
}

async fn ask_no_more<T>(shop: &Shop, request: impl AsyncFn() -> Result<T, kube::Error>) {
    let api = Api::<ValidatingWebhookConfiguration>::all(shop.client.clone());
    api.delete(&shop.namespace, &DeleteParams::default()).await.unwrap();
    until_asked(false, request).await;
}

async fn is_refused(shop: &Shop, name: &str, reason: &str, words: &str) {
    shop.until(name, "Ready", &format!("False {reason}")).await;
    shop.until_event(name, reason).await;
    let message = shop.message(name, "Issuing").await;
    assert!(message.contains(words) && message.contains(WEBHOOK), "it says who refused: {message}");
    let failure = shop.status(name).await.failure.unwrap();
    let wait = failure.next_attempt.0.duration_since(failure.last_time.0).as_secs();
    assert!((30..=34).contains(&wait), "the first of the waits that double: {wait}");
    assert!(shop.secret(name).await.is_none());
}

#[tokio::test]
async fn a_secret_that_a_webhook_refuses_with_any_code_has_a_condition_an_event_and_a_wait() {
    let webhook = DenyingWebhook::start().await.unwrap();
    let codes = [400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 503];
    futures::future::join_all(codes.map(|code| {
        let (url, ca) = (webhook.url(code), webhook.ca_certificate());
        async move {
            let shop = open(&format!("denied-{code}")).await;
            shop.ca_issuer(30).await;
            ask(&shop, url, &ca).await;
            shop.certificate("orders", "ca", json!({})).await;
            let reason = if code == 429 || code >= 500 { "SecretWriteFailed" } else { "SecretNotWritable" };
            is_refused(&shop, "orders", reason, DENIAL).await;
            let stalled = shop.condition("orders", "Stalled").await;
            assert_eq!(!stalled.is_empty(), reason == "SecretNotWritable", "{code}: {stalled}");
            ask_no_more(&shop, async || try_secret(&shop).await).await;
            shop.annotate("orders", "usercert.dev/renew-requested-at", "now").await;
            shop.until_ready("orders").await;
            assert_eq!(shop.condition("orders", "Stalled").await, "");
        }
    }))
    .await;
}

/// A conflict is told from a webhook that says so by how long it lasts.
#[tokio::test]
async fn a_status_that_a_webhook_refuses_is_told_with_the_name_of_the_webhook() {
    let webhook = DenyingWebhook::start().await.unwrap();
    futures::future::join_all([404, 409, 500].map(|code| {
        let (url, ca) = (webhook.url(code), webhook.ca_certificate());
        async move {
            let shop = open(&format!("denied-status-{code}")).await;
            shop.ca_issuer(30).await;
            let status = ("usercert.dev", "v1alpha1", "databaseusercertificates/status");
            shop.certificate("tried", "ca", json!({ "suspend": true })).await;
            shop.until("tried", "Issuing", "False Suspended").await;
            ask_about(&shop, url, &ca, status, LabelSelector::default()).await;
            until_asked(true, async || try_status(&shop).await).await;
            shop.certificate("orders", "ca", json!({})).await;
            shop.until_event("orders", "ReconcileFailing").await;
            let note = shop.event_note("orders", "ReconcileFailing").await;
            assert!(note.contains("could not patch the status") && note.contains(WEBHOOK), "{code}: {note}");
            ask_no_more(&shop, async || try_status(&shop).await).await;
            shop.annotate("orders", "example.com/looked-at", "now").await;
            shop.until_ready("orders").await;
        }
    }))
    .await;
}

#[tokio::test]
async fn a_webhook_that_nobody_answers_for_keeps_atlas_from_being_asked() {
    let webhook = DenyingWebhook::start().await.unwrap();
    let shop = open("no-webhook").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "orders-no-webhook", X509Type::Managed);
    ask(&shop, "https://127.0.0.1:1/validate".to_owned(), &webhook.ca_certificate()).await;
    shop.certificate("orders-no-webhook", "atlas", json!({})).await;
    is_refused(&shop, "orders-no-webhook", "SecretWriteFailed", "failed calling webhook").await;
    assert!(shop.cluster.atlas.mints_of("orders-no-webhook").is_empty());
    ask_no_more(&shop, async || try_secret(&shop).await).await;
    shop.annotate("orders-no-webhook", "usercert.dev/renew-requested-at", "now").await;
    shop.until_ready("orders-no-webhook").await;
    assert_eq!(shop.cluster.atlas.mints_of("orders-no-webhook").len(), 1);
}
