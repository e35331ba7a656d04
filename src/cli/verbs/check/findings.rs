//! How a check came out, and what the issuers say.

use jiff::{SignedDuration, Timestamp};
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;
use usercert_operator_controller::{Received, chain};
use usercert_operator_core::api::{
    CertificateFailure, CertificateIssuer, ClusterCertificateIssuer, IssuerKey, IssuerKind, IssuerSource, IssuerSpec,
    IssuerStatus, READY, Reason, condition,
};

use crate::{
    cluster::Cluster,
    exit::CliError,
    table::Cell,
    terminal::{Mood, Terminal},
    text::{append, count, paragraph},
    verbs::objects::Certificate,
};

/// How a check came out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::verbs) struct Finding {
    check: String,
    result: Outcome,
    message: String,
    /// What to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Holds,
    Fails,
    /// It could not be made. That is no pass.
    Skipped,
}

impl Finding {
    pub(super) fn holds(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self { check: check.into(), result: Outcome::Holds, message: message.into(), advice: None }
    }

    pub(super) fn fails(check: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), result: Outcome::Fails, message: message.into(), advice: Some(advice.into()) }
    }

    pub(super) fn skipped(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self { check: check.into(), result: Outcome::Skipped, message: format!("skipped: {}", why.into()), advice: None }
    }

    /// A check that failed because a request did.
    pub(super) fn could_not(check: impl Into<String>, error: &CliError) -> Self {
        Self::fails(check, chain(error), "repeat it; if it goes on, the API server needs a look")
    }

    pub(super) fn is_fault(&self) -> bool {
        self.result == Outcome::Fails
    }

    #[cfg(test)]
    pub(super) fn says(&self, words: &str) -> bool {
        self.message.contains(words)
    }
}

/// A line for each check, and what to change below those that fail.
pub(super) fn render(found: &[Finding], terminal: &Terminal) -> String {
    let mut text = String::new();
    for finding in found {
        let (mark, mood) = match finding.result {
            Outcome::Holds => ("ok     ", Mood::Good),
            Outcome::Fails => ("FAILS  ", Mood::Bad),
            Outcome::Skipped => ("skipped", Mood::Warning),
        };
        let message = finding.message.strip_prefix("skipped: ").unwrap_or(&finding.message);
        let words = paragraph(Cell::whole(&format!("{}: {message}", finding.check)).text(), 8, terminal);
        append(&mut text, format_args!("{} {}", terminal.paint(mood, mark), words.trim_start()));
        if let Some(advice) = &finding.advice {
            text.push_str(&paragraph(Cell::whole(advice).text(), 8, terminal));
        }
    }
    let of = |result| found.iter().filter(|finding| finding.result == result).count();
    let (fails, skipped) = (of(Outcome::Fails), of(Outcome::Skipped));
    text + &format!("\n{}, {fails} failed, {skipped} skipped\n", count(found.len(), "check"))
}

/// An issuer of either kind.
pub(super) struct Issuer {
    key: IssuerKey,
    spec: IssuerSpec,
    status: IssuerStatus,
    generation: Option<i64>,
}

/// The issuers of the cluster, and those of the namespace or of all namespaces; and that those of the cluster may not be listed.
pub(super) async fn issuers(cluster: &Cluster, everywhere: bool) -> Result<(Vec<Issuer>, Option<Finding>), CliError> {
    let (all, mut found, client) = (ListParams::default(), Vec::new(), cluster.client.clone());
    let api = if everywhere { Api::all(client) } else { Api::namespaced(client, &cluster.namespace) };
    let listed: Vec<Received<CertificateIssuer>> = cluster.list("issuers", &api, &all).await?;
    found.extend(listed.into_iter().map(|issuer| Issuer {
        key: IssuerKey {
            kind: IssuerKind::CertificateIssuer,
            namespace: issuer.namespace().unwrap_or_default(),
            name: issuer.name_any(),
        },
        spec: issuer.spec.clone(),
        status: issuer.status.clone().unwrap_or_default(),
        generation: issuer.metadata.generation,
    }));
    let api = Api::<Received<ClusterCertificateIssuer>>::all(cluster.client.clone());
    let (listed, skipped) = match cluster.list("cluster issuers", &api, &all).await {
        Err(error) if error.is_denied() => {
            (Vec::new(), Some(Finding::skipped("Issuers of the cluster", "you may not list ClusterCertificateIssuers")))
        }
        other => (other?, None),
    };
    found.extend(listed.into_iter().map(|issuer| Issuer {
        key: IssuerKey { kind: IssuerKind::ClusterCertificateIssuer, namespace: String::new(), name: issuer.name_any() },
        spec: issuer.spec.0.clone(),
        status: issuer.status.clone().unwrap_or_default(),
        generation: issuer.metadata.generation,
    }));
    Ok((found, skipped))
}

/// Each issuer: whether it can be used, and for Atlas, what its certificates tell of the way to Atlas.
pub(super) fn of_issuers(issuers: &[Issuer], objects: &[Certificate], now: Timestamp) -> Vec<Finding> {
    if issuers.is_empty() {
        return vec![Finding::skipped("Issuers", "there is none that you may list")];
    }
    let mut found = Vec::new();
    for issuer in issuers {
        let place = if issuer.key.namespace.is_empty() { String::new() } else { format!(" in {}", issuer.key.namespace) };
        let name = format!("{} {}{place}", issuer.key.kind.as_str(), issuer.key.name);
        let ready = condition(&issuer.status.conditions, READY);
        found.push(match ready {
            Some(ready) if issuer.status.observed_generation != issuer.generation => Finding::fails(
                &name,
                format!("the operator has not looked at its present spec; before, it said {}: {}", ready.reason, ready.message),
                "see that the operator runs and serves this namespace",
            ),
            Some(ready) if ready.status == "True" => Finding::holds(&name, ready.message.clone()),
            Some(ready) => Finding::fails(
                &name,
                format!("{}: {}", ready.reason, ready.message),
                "until then none of its certificates is issued or renewed",
            ),
            None => {
                Finding::fails(&name, "no operator has looked at it", "see that the operator runs and serves this namespace")
            }
        });
        if matches!(issuer.spec.source(), Some(IssuerSource::Atlas(_))) {
            let of_issuer: Vec<&Certificate> =
                objects.iter().filter(|object| IssuerKey::of(object).as_ref() == Some(&issuer.key)).collect();
            found.push(atlas(&format!("Atlas by {name}"), &of_issuer, now));
        }
    }
    found
}

/// Evidence that is older than this tells nothing of today.
const OLD: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Whether this failure is about the way to Atlas: its credentials, its limits, its service. Others are about one database user, and show
/// that Atlas answers.
fn is_about_atlas(failure: &CertificateFailure) -> bool {
    let reason = Reason::from_name(&failure.reason);
    reason.is_some_and(|reason| {
        matches!(
            reason,
            Reason::AtlasUnauthorized
                | Reason::AtlasClientSecretRefused
                | Reason::AtlasAccessListDenied
                | Reason::AtlasForbidden
                | Reason::AtlasAccountSuspended
                | Reason::AtlasProjectNotFound
                | Reason::AtlasRateLimited
                | Reason::AtlasUnavailable
                | Reason::AtlasAnswerUnusable
                | Reason::AtlasAnswerLost
        )
    })
}

/// Whether Atlas was asked. It was not where the operator waits, or where an object in the cluster is missing.
fn is_answer_of_atlas(failure: &CertificateFailure) -> bool {
    let not_asked = [Reason::AtlasQueued, Reason::AtlasMintBudget, Reason::AtlasObjectNotFound, Reason::AtlasObjectNotReady];
    failure.reason.starts_with("Atlas") && Reason::from_name(&failure.reason).is_none_or(|reason| !not_asked.contains(&reason))
}

/// What Atlas answered last to the certificates of an issuer. Only the operator has the credentials to ask.
fn atlas(name: &str, objects: &[&Certificate], now: Timestamp) -> Finding {
    let failures = objects.iter().filter_map(|object| Some((object, object.status.as_ref()?.failure.as_ref()?)));
    let last = failures.filter(|(_, failure)| is_answer_of_atlas(failure)).max_by_key(|(_, failure)| failure.last_time.0);
    let issued = objects.iter().filter_map(|object| Some(object.status.as_ref()?.history.first()?.recorded_at.0)).max();
    let is_newest = |failure: &CertificateFailure| issued.is_none_or(|issued| issued <= failure.last_time.0);
    let is_old = |time: Timestamp| now.duration_since(time) > OLD;
    let old = |time| {
        let when = crate::text::relative(time, now);
        Finding::skipped(name, format!("only the operator may ask Atlas, which answered {when} for the last time"))
    };
    match (last.filter(|(_, failure)| is_newest(failure)), issued) {
        (Some((_, failure)), _) if is_old(failure.last_time.0) => old(failure.last_time.0),
        (Some((object, failure)), _) => {
            let (namespace, object) = (object.namespace().unwrap_or_default(), object.name_any());
            let when = crate::text::relative(failure.last_time.0, now);
            let answered = format!("it answered {namespace}/{object} {when} with {}", failure.reason);
            if is_about_atlas(failure) {
                let advice = format!("every check about it: kubectl usercert why {object} -n {namespace}");
                Finding::fails(name, format!("{answered}: {}", failure.message), advice)
            } else {
                Finding::holds(name, format!("{answered}, which is about that certificate and not about the way to Atlas"))
            }
        }
        (None, Some(issued)) if is_old(issued) => old(issued),
        (None, Some(issued)) => {
            let when = crate::text::relative(issued, now);
            Finding::holds(name, format!("it made a certificate {when}, and no request has failed since"))
        }
        (None, None) => {
            Finding::skipped(name, "only the operator may ask Atlas, and none of its certificates has been requested yet")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn issuer(ready: &Value) -> Issuer {
        Issuer {
            key: IssuerKey { kind: IssuerKind::CertificateIssuer, namespace: "shop".into(), name: "atlas".into() },
            spec: serde_json::from_value(
                json!({ "atlas": { "projectId": "5efda6aea3f2ed2e7dd6ce05", "credentialsSecretRef": { "name": "k" } } }),
            )
            .unwrap(),
            status: serde_json::from_value(json!({ "observedGeneration": 1, "conditions": [ready] })).unwrap(),
            generation: Some(1),
        }
    }

    fn ready(status: &str, reason: &str) -> Value {
        json!({ "type": "Ready", "status": status, "reason": reason, "message": "a message", "lastTransitionTime": "2026-01-01T00:00:00Z" })
    }

    fn object(status: &Value) -> Certificate {
        serde_json::from_value(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "namespace": "shop", "name": "orders" },
            "spec": { "username": "orders", "issuerRef": { "kind": "CertificateIssuer", "name": "atlas" } }, "status": status,
        }))
        .map_or_else(|_| unreachable!(), std::convert::identity)
    }

    fn told(issuers: &[Issuer], objects: &[Certificate]) -> Vec<String> {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        of_issuers(issuers, objects, now)
            .iter()
            .map(|finding| format!("{:?} {}: {}", finding.result, finding.check, finding.message))
            .collect()
    }

    #[test]
    fn atlas_is_judged_by_what_it_answered() {
        let good = issuer(&ready("True", "IssuerReady"));
        let failed = json!({ "failure": { "count": 1, "reason": "AtlasUnauthorized", "message": "no", "lastTime": "2026-01-01T00:00:00Z", "nextAttempt": "2026-01-01T00:01:00Z", "inputs": "" } });
        let issued = json!({ "history": [{ "serialNumber": "0A", "reason": "NoCertificate", "recordedAt": "2026-01-01T00:00:00Z", "notAfter": "2026-04-01T00:00:00Z" }] });
        let atlas = |objects: &[Certificate]| told(std::slice::from_ref(&good), objects)[1].clone();
        assert!(atlas(&[]).starts_with("Skipped Atlas by CertificateIssuer atlas in shop"));
        assert!(atlas(&[object(&issued)]).starts_with("Holds Atlas by"));
        let both = atlas(&[object(&issued), object(&failed)]);
        let at = |time: &str, reason: &str| {
            object(
                &json!({ "failure": { "count": 1, "reason": reason, "message": "no", "lastTime": time, "nextAttempt": time, "inputs": "" } }),
            )
        };
        let of_one_user = atlas(&[at("2026-01-01T00:30:00Z", "AtlasUserNotFound")]);
        assert!(of_one_user.starts_with("Holds") && of_one_user.contains("about that certificate"), "{of_one_user}");
        for about_the_way in ["AtlasAccessListDenied", "AtlasRateLimited", "AtlasUnavailable", "AtlasAnswerLost"] {
            assert!(atlas(&[at("2026-01-01T00:30:00Z", about_the_way)]).starts_with("Fails"), "{about_the_way}");
        }
        for not_asked in ["AtlasQueued", "AtlasMintBudget", "AtlasObjectNotReady"] {
            assert!(atlas(&[at("2026-01-01T00:30:00Z", not_asked)]).starts_with("Skipped"), "{not_asked}");
        }
        let before = atlas(&[object(&issued), at("2025-12-31T23:00:00Z", "AtlasUnavailable")]);
        assert!(before.starts_with("Holds") && before.contains("it made a certificate"), "{before}");
        let long_ago = atlas(&[at("2025-12-01T00:00:00Z", "AtlasUnavailable")]);
        assert!(long_ago.starts_with("Skipped") && long_ago.contains("31d ago"), "{long_ago}");
        assert!(
            both.contains("Fails") && both.contains("it answered shop/orders 60m ago with AtlasUnauthorized: no"),
            "{both}"
        );
    }

    #[test]
    fn an_issuer_that_cannot_be_used_fails_and_what_is_skipped_is_no_pass() {
        assert!(
            told(&[issuer(&ready("False", "CredentialsNotFound"))], &[])[0]
                .starts_with("Fails CertificateIssuer atlas in shop: CredentialsNotFound: a message")
        );
        assert!(told(&[], &[])[0].starts_with("Skipped"));
        let found = [Finding::holds("A", "a"), Finding::fails("B", "b", "do c"), Finding::skipped("D", "needs e")];
        let expected = "ok      A: a\nFAILS   B: b\n        do c\nskipped D: needs e\n\n3 checks, 1 failed, 1 skipped\n";
        assert_eq!(render(&found, &Terminal::none()), expected);
        assert!(!found[2].is_fault());
    }
}
