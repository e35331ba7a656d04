//! Every answer of Atlas that is not a certificate: its condition, its Event, its counter, its wait; and nothing lost.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use usercert_test_support::atlas::{Fault, Refusal, X509Type};

use crate::{
    harness::{Shop, eventually},
    open,
};

/// What the API refuses with: (status, code, reason, words of the message).
const REFUSALS: &[(u16, &str, &str, &str)] = &[
    (
        400,
        "USER_NOT_MANAGED_X509",
        "AtlasUserNotManaged",
        "is not of the X.509 type MANAGED: make a database user with another name",
    ),
    (400, "ATLAS_GENERATED_CERTS_LIMIT_EXCEEDED", "AtlasCertificateLimit", "expires"),
    (400, "CERT_EXPIRY_CANNOT_EXCEED_TWO_YEARS", "AtlasRequestRefused", "monthsUntilExpiration"),
    (400, "CANNOT_GENERATE_CERT_IF_ADVANCED_X509", "AtlasSelfManagedX509", "use a CA issuer"),
    (400, "ATLAS_MANAGED_X509_NAME_INVALID", "AtlasRequestRefused", "spec.username"),
    (400, "ATLAS_INVALID_USERNAME", "AtlasRequestRefused", "spec.username"),
    (400, "VALIDATION_ERROR", "AtlasRequestRefused", "VALIDATION_ERROR"),
    (400, "MALFORMED_JSON", "AtlasRequestRefused", "MALFORMED_JSON"),
    (400, "INVALID_VERSION_DATE", "AtlasRequestRefused", "apiVersion"),
    (400, "PATH_PARAM_PARSE_ERROR", "AtlasRequestRefused", "PATH_PARAM_PARSE_ERROR"),
    (401, "", "AtlasUnauthorized", "Project Owner"),
    (401, "NOT_IN_GROUP", "AtlasUnauthorized", "Project Owner"),
    (401, "USER_UNAUTHORIZED", "AtlasUnauthorized", "Project Owner"),
    (401, "USER_CANNOT_ACCESS_GROUP", "AtlasUnauthorized", "Project Owner"),
    (402, "ACCOUNT_SUSPENDED", "AtlasAccountSuspended", "account"),
    (403, "IP_ADDRESS_NOT_ON_ACCESS_LIST", "AtlasAccessListDenied", "access list"),
    (403, "IP_ADDRESS_NOT_ON_WHITELIST", "AtlasAccessListDenied", "access list"),
    (403, "ORG_REQUIRES_ACCESS_LIST", "AtlasAccessListDenied", "access list"),
    (403, "ORG_REQUIRES_WHITELIST", "AtlasAccessListDenied", "access list"),
    (403, "ACCESS_FORBIDDEN", "AtlasForbidden", "role"),
    (404, "USERNAME_NOT_FOUND", "AtlasUserNotFound", "create the database user"),
    (404, "USER_NOT_FOUND", "AtlasUserNotFound", "create the database user"),
    (404, "GROUP_NOT_FOUND", "AtlasProjectNotFound", "projectId"),
    (404, "RESOURCE_NOT_FOUND", "AtlasUserNotFound", "projectId"),
    (404, "UNEXPECTED_ERROR", "AtlasUserNotFound", "projectId"),
    (405, "WRITES_NOT_ALLOWED_DURING_APP_UPGRADES", "AtlasUnavailable", "upgraded"),
    (409, "CONFLICT", "AtlasConflict", "repeated"),
    (429, "RATE_LIMITED_TOKEN_BUCKET", "AtlasRateLimited", "repeated"),
    (429, "RATE_LIMITED", "AtlasRateLimited", "repeated"),
    (500, "UNEXPECTED_ERROR", "AtlasAnswerLost", "may have made"),
    (503, "SERVICE_UNAVAILABLE", "AtlasAnswerLost", "may have made"),
];

#[tokio::test]
async fn every_error_has_its_reason_its_advice_and_its_wait() {
    walk_the_table("v2").await;
}

#[tokio::test]
async fn the_legacy_api_s_errors_mean_the_same() {
    walk_the_table("v1.0").await;
}

/// Each error in its condition, its Event, its metric and its next attempt. A 429 holds for its whole project, so each has its own.
async fn walk_the_table(api_version: &str) {
    let (limited, others): (Vec<_>, Vec<_>) = REFUSALS.iter().partition(|(status, ..)| *status == 429);
    tokio::join!(walk(api_version, &others), async {
        for refusal in &limited {
            walk(api_version, std::slice::from_ref(refusal)).await;
        }
    });
}

async fn walk(api_version: &str, refusals: &[&(u16, &'static str, &str, &str)]) {
    let shop = open("answers").await;
    shop.atlas_issuer().await;
    shop.apply(shop.atlas_issuer_manifest(api_version)).await;
    for (number, (status, code, ..)) in refusals.iter().enumerate() {
        let name = shop.name(&format!("refused-{number}"));
        shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
        shop.cluster.atlas.fault(&name, Fault::Refuse(Refusal::new(*status, code)));
        shop.certificate(&name, "atlas", json!({})).await;
    }
    // Beside each other: some are asked for again after half a minute.
    let looks =
        refusals.iter().enumerate().map(|(number, refusal)| look_at(&shop, shop.name(&format!("refused-{number}")), refusal));
    futures::future::join_all(looks).await;
    let metrics = shop.cluster.metrics.encode().unwrap();
    for (.., reason, _) in refusals {
        let failures = format!(r#"usercert_issue_failures_total{{issuer_type="atlas",reason="{reason}"}} "#);
        let warnings = format!(r#"usercert_warnings_total{{reason="{reason}"}} "#);
        for series in [failures, warnings] {
            let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
            assert!(count.is_some_and(|count| count != "0"), "{series}{count:?}");
        }
    }
}

async fn look_at(shop: &Shop, name: String, (status, code, reason, words): &(u16, &'static str, &str, &str)) {
    shop.until(&name, "Ready", &format!("False {reason}")).await;
    shop.until_event(&name, reason).await;
    let message = shop.message(&name, "Issuing").await;
    assert!(message.contains(words) && message.contains(&status.to_string()), "{code}: {message}");
    let found = shop.status(&name).await;
    let failure = found.failure.unwrap();
    assert_eq!((failure.count, failure.reason.as_str()), (1, *reason));
    let wait = failure.next_attempt.0.duration_since(failure.last_time.0);
    let expected = match *status {
        404 | 405 | 409 => 30..=34,
        // The project goes on at a time of which the fraction of a second is dropped.
        429 => 29..=34,
        500.. => 300..=331,
        _ => 3600..=3961,
    };
    assert!(expected.contains(&wait.as_secs()), "{code} waits {wait:#}");
    assert_eq!(found.unaccounted_certificates.is_some(), *status >= 500, "{code}");
    assert_eq!(found.issuance, None);
    assert!(shop.secret(&name).await.is_none());
}

#[tokio::test]
async fn a_time_that_atlas_asks_for_is_waited_for_by_the_whole_project() {
    for (value, seconds) in [("90", 90), ("9999999", 86_400)] {
        let shop = open("retry-after").await;
        shop.atlas_issuer().await;
        let (first, second) = (shop.name("first"), shop.name("second"));
        for user in [&first, &second] {
            shop.cluster.atlas.add_user(&shop.project, user, X509Type::Managed);
        }
        shop.cluster.atlas.fault(&first, Fault::Refuse(Refusal::new(429, "RATE_LIMITED").retry_after(value)));
        shop.certificate(&first, "atlas", json!({})).await;
        shop.until(&first, "Ready", "False AtlasRateLimited").await;
        let failure = shop.status(&first).await.failure.unwrap();
        let wait = failure.next_attempt.0.duration_since(failure.last_time.0);
        assert!((seconds - 1..=seconds).contains(&wait.as_secs()), "{wait:#}");
        shop.certificate(&first, "atlas", json!({ "monthsUntilExpiration": 5 })).await;
        shop.certificate(&second, "atlas", json!({})).await;
        shop.until(&second, "Ready", "False AtlasRateLimited").await;
        let message = shop.message(&second, "Issuing").await;
        assert!(message.contains(&failure.next_attempt.0.to_string()), "until when nobody is served: {message}");
        eventually("the changed spec was looked at", || async {
            (shop.status(&first).await.observed_generation == Some(2)).then_some(())
        })
        .await;
        shop.assert_quiet().await;
        assert!(shop.cluster.atlas.mints_of(&first).is_empty(), "a changed spec does not shorten it");
        assert!(shop.cluster.atlas.mints_of(&second).is_empty(), "one 429 is one delay");
        let limited = shop
            .cluster
            .atlas
            .requests()
            .into_iter()
            .filter(|request| request.status == 429 && request.target.contains(&shop.project));
        assert_eq!(limited.count(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_counted_and_never_written() {
    let shop = open("unusable").await;
    shop.atlas_issuer().await;
    let faults = [
        ("html", Fault::HtmlBody, "not PEM"),
        ("empty", Fault::EmptyBody, "empty"),
        ("truncated", Fault::TruncatedPem, "cut off within the PRIVATE KEY"),
        ("wrong-key", Fault::WrongKey, "does not fit"),
        ("expired", Fault::ExpiredCertificate, "expired"),
        ("other-user", Fault::OtherUser, "is for CN=other-user-other, not for CN=other-user"),
        ("large", Fault::FiveMegabytes, "too long"),
        ("endless", Fault::NeverEnds, "did not end in time"),
    ];
    for (name, fault, _) in &faults {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.cluster.atlas.fault(name, fault.clone());
        shop.certificate(name, "atlas", json!({})).await;
    }
    for (name, _, words) in &faults {
        shop.until(name, "Ready", "False AtlasAnswerUnusable").await;
        let message = shop.message(name, "Ready").await;
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!(shop.unaccounted(name).await, 1);
        assert!(shop.secret(name).await.is_none());
        assert_eq!(shop.cluster.atlas.mints_of(name).len(), 1);
    }
    shop.cluster.atlas.clear_faults("html");
    shop.certificate("html", "atlas", json!({ "monthsUntilExpiration": 6 })).await;
    shop.assert_quiet().await;
    assert_eq!(
        shop.cluster.atlas.mints_of("html").len(),
        1,
        "each attempt may cost a certificate, so a changed spec does not hurry"
    );
}

#[tokio::test]
async fn an_answer_with_a_certificate_too_many_costs_no_key() {
    let shop = open("twice").await;
    shop.atlas_issuer().await;
    let name = shop.name("twice");
    shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.cluster.atlas.fault(&name, Fault::TwoCertificates);
    shop.certificate(&name, "atlas", json!({})).await;
    shop.until_ready(&name).await;
    assert_eq!((shop.cluster.atlas.mints_of(&name).len(), shop.unaccounted(&name).await), (1, 0));
    assert_eq!(shop.value(&name, "tls.crt").await.matches("BEGIN CERTIFICATE").count(), 1);
    shop.assert_quiet().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_counted_and_the_request_not_repeated() {
    let shop = open("lost").await;
    shop.atlas_issuer().await;
    for (name, fault) in [
        ("reset", Fault::Reset),
        ("silent", Fault::NeverAnswers),
        ("error-after", Fault::RefuseAfterMint(Refusal::new(502, "").body("<html>Bad gateway</html>"))),
    ] {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.cluster.atlas.fault(name, fault);
        shop.certificate(name, "atlas", json!({})).await;
    }
    for name in ["reset", "silent", "error-after"] {
        shop.until(name, "Ready", "False AtlasAnswerLost").await;
        shop.until_event(name, "AtlasAnswerLost").await;
        assert_eq!(shop.unaccounted(name).await, 1);
        assert_eq!(shop.cluster.atlas.mints_of(name).len(), 1);
        let wait = shop.status(name).await.failure.map(|failure| failure.next_attempt.0.duration_since(failure.last_time.0));
        assert!(wait.unwrap() >= SignedDuration::from_mins(5));
    }
}

#[tokio::test]
async fn a_late_answer_in_time_is_used() {
    let shop = open("late").await;
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "late", X509Type::Managed);
    shop.cluster.atlas.fault("late", Fault::Delay(Duration::from_secs(1)));
    shop.certificate("late", "atlas", json!({})).await;
    shop.until_ready("late").await;
    assert_eq!(shop.cluster.atlas.mints_of("late").len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_on_costs_no_certificate() {
    let shop = open("unreachable").await;
    shop.atlas_issuer().await;
    let mut issuer = shop.atlas_issuer_manifest("v2");
    issuer["spec"]["atlas"]["endpoint"] = json!("http://127.0.0.1:9");
    shop.apply(issuer).await;
    shop.certificate("nobody", "atlas", json!({})).await;
    shop.until("nobody", "Ready", "False AtlasUnavailable").await;
    assert_eq!(shop.unaccounted("nobody").await, 0);
    shop.cluster.atlas.add_user(&shop.project, "nobody", X509Type::Managed);
    shop.apply(shop.atlas_issuer_manifest("v2")).await;
    shop.until_ready("nobody").await;
}

#[tokio::test]
async fn a_claim_of_a_process_that_died_is_counted_once_and_waited_for() {
    let shop = open("claim").await;
    shop.cluster.atlas.add_user(&shop.project, "orphan", X509Type::Managed);
    shop.certificate("orphan", "atlas", json!({})).await;
    shop.until("orphan", "Ready", "False IssuerNotFound").await;
    let claim = json!({ "status": { "issuance": {
        "id": "dead", "reason": "NoCertificate", "attempt": 1, "since": "2026-01-01T00:00:00Z",
    } } });
    let api = shop.api::<usercert_operator::api::DatabaseUserCertificate>();
    api.patch_status("orphan", &Default::default(), &kube::api::Patch::Merge(claim)).await.unwrap();
    eventually("the claim is accounted for", || async {
        let status = shop.status("orphan").await;
        (status.issuance.is_none() && shop.unaccounted("orphan").await == 1).then_some(())
    })
    .await;
    shop.atlas_issuer().await;
    shop.until("orphan", "Ready", "False AtlasAnswerLost").await;
    shop.assert_quiet().await;
    assert!(shop.cluster.atlas.mints_of("orphan").is_empty());
}

#[tokio::test]
async fn what_happens_to_the_challenge_costs_no_certificate() {
    let shop = open("challenge").await;
    shop.atlas_issuer().await;
    for (name, fault, reason) in [
        ("reset", Fault::ResetChallenge, "AtlasUnavailable"),
        ("unavailable", Fault::RefuseChallenge(Refusal::new(503, "SERVICE_UNAVAILABLE")), "AtlasUnavailable"),
        ("html", Fault::RefuseChallenge(Refusal::new(502, "").body("<html>Bad gateway</html>")), "AtlasUnavailable"),
    ] {
        let name = shop.name(name);
        shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
        shop.cluster.atlas.fault_once(&name, fault);
        shop.certificate(&name, "atlas", json!({})).await;
        shop.until(&name, "Ready", &format!("False {reason}")).await;
        assert_eq!(shop.unaccounted(&name).await, 0);
        let failure = shop.status(&name).await.failure.unwrap();
        assert!(failure.next_attempt.0.duration_since(failure.last_time.0) <= SignedDuration::from_secs(34));
    }
    for name in ["reset", "unavailable", "html"] {
        let name = shop.name(name);
        shop.until_ready(&name).await;
        assert_eq!(shop.cluster.atlas.mints_of(&name).len(), 1);
    }
}

#[tokio::test]
async fn a_nonce_that_went_stale_is_replaced_at_once() {
    let shop = open("stale").await;
    shop.atlas_issuer().await;
    let name = shop.name("stale");
    shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
    shop.cluster.atlas.fault_once(&name, Fault::StaleNonce);
    shop.certificate(&name, "atlas", json!({})).await;
    let status = shop.until_ready(&name).await;
    assert_eq!(status.failure, None);
    assert_eq!(shop.cluster.atlas.mints_of(&name).len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_header_without_end_not_read() {
    let shop = open("hostile").await;
    shop.atlas_issuer().await;
    let trap = usercert_test_support::atlas::StandIn::start(Default::default()).await.unwrap();
    for (name, fault, reason) in [
        ("redirected", Fault::Redirect(format!("{}/api", trap.url())), "AtlasRequestRefused"),
        ("huge", Fault::HugeHeader, "AtlasAnswerLost"),
    ] {
        let name = shop.name(name);
        shop.cluster.atlas.add_user(&shop.project, &name, X509Type::Managed);
        shop.cluster.atlas.fault(&name, fault);
        shop.certificate(&name, "atlas", json!({})).await;
        shop.until(&name, "Ready", &format!("False {reason}")).await;
    }
    assert!(shop.message(&shop.name("redirected"), "Ready").await.contains("redirects are not followed"));
    assert_eq!(trap.requests().len(), 0);
}
