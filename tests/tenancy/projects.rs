//! Who names the project of another learns nothing about it, and changes nothing of what the operator knows of it.
//!
//! The id of a project stands in every Secret's annotation, so it is no secret. What proves that a tenant may use a project are credentials
//! that Atlas has accepted for it, at the endpoint that the tenant names.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use usercert_operator::controller::Scope;
use usercert_test_support::atlas::{Fault, Refusal, StandIn, StandInConfig, X509Type};

use crate::{
    harness::{Operator, PRIVATE_API_KEY, Shop, eventually},
    stage::Stage,
};

/// More than the operator takes any user to need in a day.
const INVENTED: usize = 300;

/// A tenant whose certificates come from Atlas.
async fn victim(stage: &Stage, namespace: &str) -> Shop {
    let victim = stage.tenant(namespace).await;
    victim.atlas_issuer().await;
    victim.until_issuer("atlas", "True IssuerReady").await;
    victim
}

/// A tenant whose issuer names the project of the victim and an endpoint of the tenant's own, which knows this user.
async fn forger(stage: &Stage, namespace: &str, victim: &Shop, user: &str) -> Shop {
    let mut forger = stage.tenant(namespace).await;
    let own = StandIn::start(StandInConfig::default()).await.unwrap();
    forger.project.clone_from(&victim.project);
    own.add_project(&forger.project, &forger.public_key, PRIVATE_API_KEY);
    own.add_user(&forger.project, user, X509Type::Managed);
    (forger.endpoint, forger.atlas) = (own.url(), own);
    forger.atlas_issuer().await;
    forger.until_issuer("atlas", "True IssuerReady").await;
    forger
}

/// How often the list of this user's certificates was asked for with credentials.
fn lists(shop: &Shop, user: &str) -> usize {
    let asked = shop.atlas.requests();
    let is_list = |target: &str| target.split('?').next().unwrap_or_default().ends_with(&format!("{user}/certs"));
    asked.iter().filter(|request| request.authenticated && request.method == "GET" && is_list(&request.target)).count()
}

pub async fn a_list_of_ones_own_says_nothing_about_the_user_of_another(stage: &'static Stage) {
    let victim = victim(stage, "listed").await;
    let user = victim.name("orders");
    victim.cluster.atlas.add_user(&victim.project, &user, X509Type::Managed);
    let forger = forger(stage, "lister", &victim, &user).await;
    let later = Timestamp::from_second(victim.cluster.now().as_second()).unwrap() + SignedDuration::from_hours(24 * 60);
    for _ in 0..INVENTED {
        forger.atlas.mint_for(&forger.project, &user, later).unwrap();
    }
    let attempt = async {
        forger.certificate(&user, "atlas", json!({})).await;
        forger.until(&user, "Ready", "False AtlasMintBudget").await;
        victim.certificate(&user, "atlas", json!({})).await;
        victim.until_ready(&user).await;
        format!("AtlasMintBudget for its own {INVENTED}; the victim's certificate was made at Atlas")
    };
    stage.attempt(10, "a list of 300 certificates of the victim's user", attempt).await;
    assert_eq!((lists(&victim, &user), victim.atlas.mints_of(&user).len()), (1, 1));
    assert_eq!(victim.unaccounted(&user).await, 0);
}

pub async fn a_lost_answer_of_ones_own_has_nothing_of_another_forgotten(stage: &'static Stage) {
    let victim = victim(stage, "remembered").await;
    let user = victim.name("orders");
    victim.cluster.atlas.add_user(&victim.project, &user, X509Type::Managed);
    victim.certificate(&user, "atlas", json!({})).await;
    let serial = victim.until_ready(&user).await.serial_number.unwrap();
    let forger = forger(stage, "loser", &victim, &user).await;
    forger.atlas.fault(&user, Fault::ResetUnminted);
    let attempt = async {
        forger.certificate(&user, "atlas", json!({})).await;
        forger.until(&user, "Ready", "False AtlasAnswerLost").await;
        victim.annotate(&user, "usercert.dev/renew-requested-at", "1").await;
        victim.until_new_serial(&user, &serial).await;
        "AtlasAnswerLost; what was known of the victim's user is still known".to_owned()
    };
    stage.attempt(10, "a lost answer for the victim's user", attempt).await;
    assert_eq!(lists(&victim, &user), 1, "the list is believed for an hour");
}

pub async fn a_refused_list_of_ones_own_blinds_nobody(stage: &'static Stage) {
    let victim = victim(stage, "sighted").await;
    let user = victim.name("orders");
    let atlas = &victim.cluster.atlas;
    atlas.add_user(&victim.project, &user, X509Type::Managed);
    let later = Timestamp::from_second(victim.cluster.now().as_second()).unwrap() + SignedDuration::from_hours(24 * 60);
    let lost = atlas.mint_for(&victim.project, &user, later).unwrap().serial_hexadecimal();
    let forger = forger(stage, "blinder", &victim, &user).await;
    forger.atlas.refuse_questions(&user, Refusal::new(401, "USER_UNAUTHORIZED"));
    let attempt = async {
        forger.certificate(&user, "atlas", json!({})).await;
        forger.until_ready(&user).await;
        victim.certificate(&user, "atlas", json!({})).await;
        let unaccounted = victim.until_ready(&user).await.unaccounted_certificates.unwrap();
        assert_eq!((unaccounted.count, &unaccounted.certificates[0].serial_number), (1, &lost));
        "a certificate of its own endpoint; the victim's unaccounted one is told".to_owned()
    };
    stage.attempt(10, "a 401 to the question for the victim's list", attempt).await;
}

pub async fn credentials_that_atlas_has_not_accepted_hold_up_nobody(stage: &'static Stage) {
    let victim = victim(stage, "queued").await;
    let user = victim.name("orders");
    victim.cluster.atlas.add_user(&victim.project, &user, X509Type::Managed);
    // The same endpoint and project, with a key that Atlas does not know.
    let mut forger = stage.tenant("blocker").await;
    let theirs = forger.name("theirs");
    forger.project.clone_from(&victim.project);
    "no-such-key".clone_into(&mut forger.public_key);
    forger.atlas_issuer().await;
    forger.until_issuer("atlas", "True IssuerReady").await;
    forger.atlas.fault(&theirs, Fault::RefuseChallenge(Refusal::new(429, "RATE_LIMITED").retry_after("86400")));
    let attempt = async {
        forger.certificate(&theirs, "atlas", json!({})).await;
        forger.until(&theirs, "Ready", "False AtlasRateLimited").await;
        victim.certificate(&user, "atlas", json!({})).await;
        victim.until_ready(&user).await;
        "AtlasRateLimited for a day, alone".to_owned()
    };
    stage.attempt(10, "a 429 to a key that Atlas does not know", attempt).await;
}

pub async fn in_namespaced_mode_a_certificate_of_one_namespace_is_known_in_the_other(stage: &'static Stage) {
    let (first, mut second) = (stage.tenant("served-one").await, stage.tenant("served-two").await);
    // The operator of the whole cluster would serve these namespaces too.
    first.cluster.kill_operator();
    let scopes = ["served-one", "served-two"].map(|namespace| Scope::Namespace(namespace.to_owned()));
    let operator = Operator::new(first.cluster.operator_config(), scopes.into(), first.cluster.atlas.url());
    let readiness = operator.start(&tokio::runtime::Handle::current());
    eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
    let user = first.name("orders");
    first.cluster.atlas.add_user(&first.project, &user, X509Type::Managed);
    first.cluster.atlas.add_project(&first.project, &second.public_key, PRIVATE_API_KEY);
    second.project.clone_from(&first.project);
    for shop in [&first, &second] {
        shop.atlas_issuer().await;
        shop.until_issuer("atlas", "True IssuerReady").await;
        shop.certificate(&user, "atlas", json!({})).await;
        shop.until_ready(&user).await;
        // The list that was asked for the first is not believed any more.
        operator.advance(SignedDuration::from_hours(2));
    }
    assert_eq!(second.unaccounted(&user).await, 0, "the first namespace holds the other one");
    operator.kill();
    let readiness = operator.start(&tokio::runtime::Handle::current());
    eventually("the operator is ready again", || async { readiness.is_ready().then_some(()) }).await;
    for shop in [&first, &second] {
        let serial_number = shop.status(&user).await.serial_number.unwrap();
        shop.annotate(&user, "usercert.dev/renew-requested-at", "after-the-restart").await;
        shop.until_new_serial(&user, &serial_number).await;
        assert_eq!(shop.unaccounted(&user).await, 0, "the Secrets of both were awaited before the list was judged");
    }
    stage.record("10", "one user in two namespaces that are served one by one", "each knows what the other holds");
    operator.kill();
    first.cluster.start_operator().await;
}
