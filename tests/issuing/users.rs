//! The database user and its account: checked before anything is minted, and every certificate accounted for.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use usercert_test_support::atlas::{Fault, Refusal, X509Type};

use crate::{
    harness::{Shop, eventually},
    open,
};

async fn shop_with_issuer(name: &str) -> Shop {
    let shop = open(name).await;
    shop.atlas_issuer().await;
    shop.until_issuer("atlas", "True IssuerReady").await;
    shop
}

/// How many requests with credentials had this method and a target that ends so.
fn asked(shop: &Shop, method: &str, end: &str) -> usize {
    let requests = shop.cluster.atlas.requests();
    let path = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
    requests
        .iter()
        .filter(|request| request.authenticated && request.method == method && path(&request.target).ends_with(end))
        .count()
}

#[tokio::test]
async fn a_user_that_is_missing_or_of_another_type_is_named_before_anything_is_asked_for() {
    let shop = shop_with_issuer("user-check").await;
    let (missing, customer) = (shop.name("missing"), shop.name("customer"));
    shop.cluster.atlas.add_user(&shop.project, &customer, X509Type::Customer);
    for name in [&missing, &customer] {
        shop.certificate(name, "atlas", json!({})).await;
    }
    shop.until(&missing, "Ready", "False AtlasUserNotFound").await;
    shop.until(&customer, "Ready", "False AtlasUserNotManaged").await;
    assert!(shop.message(&customer, "Ready").await.contains("CUSTOMER"));
    shop.until_event(&customer, "AtlasUserNotManaged").await;
    for name in [&missing, &customer] {
        assert_eq!(asked(&shop, "POST", &format!("{name}/certs")), 0, "no certificate was asked for");
        assert_eq!(shop.status(name).await.issuance, None, "and none claimed");
    }
    shop.cluster.atlas.add_user(&shop.project, &missing, X509Type::Managed);
    shop.until_ready(&missing).await;
}

#[tokio::test]
async fn a_key_without_the_role_for_questions_still_makes_certificates() {
    let shop = shop_with_issuer("user-role").await;
    for (user, status, code) in [("unauthorized", 401, "USER_UNAUTHORIZED"), ("forbidden", 403, "ACCESS_FORBIDDEN")] {
        let user = shop.name(user);
        shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
        shop.cluster.atlas.refuse_questions(&user, Refusal::new(status, code));
        shop.certificate(&user, "atlas", json!({})).await;
        shop.until_ready(&user).await;
        assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 1);
    }
    let listed = shop.name("unavailable");
    shop.cluster.atlas.add_user(&shop.project, &listed, X509Type::Managed);
    shop.cluster.atlas.refuse_questions(&listed, Refusal::new(503, "SERVICE_UNAVAILABLE"));
    shop.certificate(&listed, "atlas", json!({})).await;
    shop.until(&listed, "Ready", "False AtlasUnavailable").await;
    assert_eq!(shop.unaccounted(&listed).await, 0, "a question mints nothing");
}

#[tokio::test]
async fn certificates_that_nobody_holds_are_counted_in_status_metric_and_event_with_their_expiry() {
    let shop = shop_with_issuer("unaccounted").await;
    let user = shop.name("orders");
    let atlas = &shop.cluster.atlas;
    atlas.add_user(&shop.project, &user, X509Type::Managed);
    let now = Timestamp::from_second(shop.cluster.now().as_second()).unwrap();
    let day = |days: i64| now + SignedDuration::from_hours(24 * days);
    let lost: Vec<_> = [30, 50].map(|days| atlas.mint_for(&shop.project, &user, day(days)).unwrap()).into();
    shop.certificate(&user, "atlas", json!({})).await;
    let status = shop.until_ready(&user).await;
    let unaccounted = status.unaccounted_certificates.unwrap();
    assert_eq!((unaccounted.count, unaccounted.presumed, unaccounted.latest_expiry.unwrap().0), (2, 0, day(50)));
    assert_eq!(unaccounted.certificates[0].serial_number, lost[1].serial_hexadecimal());
    shop.until_event(&user, "UnaccountedCertificates").await;
    assert_eq!(shop.until_metric("certificate_unaccounted", &user).await, 2);
    let expiry = shop.until_metric("certificate_unaccounted_latest_expiry_timestamp_seconds", &user).await;
    assert_eq!(expiry, day(50).as_second());

    // A renewal within the hour asks for no second list, and what it replaces is no loss.
    let serial = status.serial_number.unwrap();
    shop.annotate(&user, "usercert.dev/renew-requested-at", "now").await;
    shop.until_new_serial(&user, &serial).await;
    assert_eq!(asked(&shop, "GET", &format!("{user}/certs")), 1);
    assert_eq!(shop.unaccounted(&user).await, 2);
    shop.delete::<usercert_operator::api::DatabaseUserCertificate>(&user).await;
    eventually("the series is gone", || async { shop.metric("certificate_unaccounted", &user).is_none().then_some(()) }).await;
}

/// Another object of the user counted it, while it was in the memory of a process that was cut off.
#[tokio::test]
async fn what_the_secret_of_another_object_holds_is_not_counted_any_more() {
    let shop = shop_with_issuer("held").await;
    let user = shop.name("held");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    let mut serial_numbers = Vec::new();
    for name in ["one", "two"] {
        shop.apply(Shop::manifest(name, "atlas", &json!({ "username": user }))).await;
        serial_numbers.extend(shop.until_ready(name).await.serial_number);
    }
    let not_after = shop.status("one").await.not_after;
    let counted = |serial: &str| json!({ "serialNumber": serial, "notAfter": not_after });
    let counted = json!({
        "count": 2, "presumed": 0, "latestExpiry": not_after,
        "certificates": [counted(&serial_numbers[0]), counted("0123456789ABCDEF")],
    });
    let patch = Patch::Merge(json!({ "status": { "unaccountedCertificates": counted } }));
    let objects = shop.api::<usercert_operator::api::DatabaseUserCertificate>();
    objects.patch_status("two", &PatchParams::default(), &patch).await.unwrap();
    eventually("one of them is left", || async { (shop.unaccounted("two").await == 1).then_some(()) }).await;
    let left = shop.status("two").await.unaccounted_certificates.unwrap();
    assert_eq!(left.certificates[0].serial_number, "0123456789ABCDEF");
}

#[tokio::test]
async fn two_objects_of_one_user_hold_each_other_s_certificates_accounted() {
    let shop = shop_with_issuer("shared").await;
    let user = shop.name("shared");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    for name in ["one", "two"] {
        shop.apply(Shop::manifest(name, "atlas", &json!({ "username": user }))).await;
        shop.until_ready(name).await;
    }
    for name in ["one", "two"] {
        assert_eq!(shop.unaccounted(name).await, 0, "{name}");
    }
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 2);
}

#[tokio::test]
async fn more_certificates_in_a_day_than_objects_can_need_are_not_made_unless_by_request() {
    let shop = shop_with_issuer("budget").await;
    let user = shop.name("burnt");
    shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
    let end = shop.cluster.now() + SignedDuration::from_hours(24 * 60);
    for _ in 0..5 {
        shop.cluster.atlas.mint_for(&shop.project, &user, end).unwrap();
    }
    shop.certificate(&user, "atlas", json!({})).await;
    shop.until(&user, "Ready", "False AtlasMintBudget").await;
    shop.until_event(&user, "AtlasMintBudget").await;
    assert!(shop.message(&user, "Ready").await.contains("renew-requested-at"));
    assert_eq!(shop.unaccounted(&user).await, 5);
    shop.assert_quiet().await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 5);
    shop.annotate(&user, "usercert.dev/renew-requested-at", "now").await;
    shop.until_ready(&user).await;
    assert_eq!(shop.cluster.atlas.mints_of(&user).len(), 6);
}

#[tokio::test]
async fn the_limit_of_a_user_is_waited_for_until_its_first_certificate_expires() {
    let shop = shop_with_issuer("limit").await;
    let user = shop.name("full");
    let atlas = &shop.cluster.atlas;
    atlas.add_user(&shop.project, &user, X509Type::Managed);
    let first = Timestamp::from_second((shop.cluster.now() + SignedDuration::from_hours(24 * 20)).as_second()).unwrap();
    atlas.mint_for(&shop.project, &user, first).unwrap();
    atlas.mint_for(&shop.project, &user, first + SignedDuration::from_hours(24)).unwrap();
    atlas.fault(&user, Fault::Refuse(Refusal::new(400, "ATLAS_GENERATED_CERTS_LIMIT_EXCEEDED")));
    shop.certificate(&user, "atlas", json!({})).await;
    shop.until(&user, "Ready", "False AtlasCertificateLimit").await;
    let failure = shop.status(&user).await.failure.unwrap();
    assert_eq!(failure.next_attempt.0, first + SignedDuration::from_mins(1));
    let message = shop.message(&user, "Issuing").await;
    assert!(message.contains(&format!("the first of 2 certificates expires at {first}")), "{message}");
    shop.certificate(&user, "atlas", json!({ "monthsUntilExpiration": 7 })).await;
    shop.assert_quiet().await;
    assert_eq!(asked(&shop, "POST", &format!("{user}/certs")), 1, "another spec for the same user changes nothing");
    let other = shop.name("fresh");
    atlas.add_user(&shop.project, &other, X509Type::Managed);
    shop.certificate(&user, "atlas", json!({ "username": other })).await;
    shop.until_ready(&user).await;
}
