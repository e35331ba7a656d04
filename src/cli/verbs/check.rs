//! `check`: whether the operator can do its work here: each thing that it needs, and what to change where one is missing.

mod definitions;
mod findings;
pub(super) mod installed;
pub mod rights;

use jiff::SignedDuration;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration},
    core::v1::{Pod, Secret},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde::Serialize;
use serde_json::json;
use usercert_operator_controller::chain;
use usercert_operator_core::api::names::{CERTIFICATE_UID_LABEL, GROUP};

pub(super) use self::findings::Finding;
use self::{
    definitions::definitions,
    findings::render,
    installed::{Installed, installed},
};
use super::{
    leader::{Clocks, Leader, leader},
    namespace::must_exist,
    objects::certificates,
};
use crate::{
    arguments::{CheckArguments, Selection},
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    terminal::Progress,
    text::{SKEW, difference, length},
};

/// The name of the Secret that is only tried.
const TRIED_SECRET: &str = "usercert-check";

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Checks {
    checks: Vec<Finding>,
}

/// Answers `check`. Only the first check may end it: without the API server none of the others can be made.
pub(super) async fn check(cluster: &Cluster, session: &Session, arguments: &CheckArguments) -> Result<Answer, CliError> {
    let found = findings(cluster, session, arguments.service_account.as_deref(), arguments.all_namespaces).await?;
    let exit = if found.iter().any(Finding::is_fault) { Exit::Attention } else { Exit::Good };
    let answer = Checks { checks: found };
    let text = for_programs(&answer, arguments.output)?.unwrap_or_else(|| render(&answer.checks, &session.terminal));
    Ok(Answer::new(text, exit))
}

/// Makes all checks. `everywhere`: about the issuers of all namespaces.
///
/// # Errors
/// The API server cannot be reached.
pub(super) async fn findings(
    cluster: &Cluster,
    session: &Session,
    service_account: Option<&str>,
    everywhere: bool,
) -> Result<Vec<Finding>, CliError> {
    let mut progress = Progress::new(&session.terminal);
    let mut found = vec![api_server(cluster).await?];
    let (leader, found_clocks) = leader(cluster, session.now()).await;
    found.extend(clocks(found_clocks));
    if !everywhere && let Err(error) = must_exist(cluster).await {
        found.push(Finding::fails("Namespace", error.to_string(), "what follows about it says nothing"));
    }
    found.push(definitions(cluster).await);
    let installed = installed(cluster, &leader, service_account).await;
    found.push(operator(leader));
    found.push(pods(cluster, &installed).await);
    progress.tell(|| "rights are looked at".to_owned());
    found.extend(rights::of_operator(cluster, &installed).await);
    found.extend(rights::own(cluster).await);
    progress.tell(|| "webhooks and issuers are looked at".to_owned());
    found.push(webhooks(cluster).await);
    found.push(write(cluster).await);
    found.extend(issuers(cluster, session, everywhere).await);
    Ok(found)
}

async fn api_server(cluster: &Cluster) -> Result<Finding, CliError> {
    const NAME: &str = "API server";
    match cluster.ask("reach the API server", cluster.client.apiserver_version()).await {
        Ok(version) => Ok(Finding::holds(NAME, format!("answers, version {}", version.git_version))),
        // Some clusters tell their version to few.
        Err(error) if error.is_forbidden() => Ok(Finding::holds(NAME, "answers, and does not tell you its version".to_owned())),
        Err(error) => Err(error),
    }
}

/// Compares this machine's clock and the operator's with that of the API server.
fn clocks(clocks: Clocks) -> [Finding; 2] {
    [
        of_clock(
            "Clock",
            "this machine's",
            clocks.own,
            "set the clock that is wrong: what this program says of times may be wrong",
            "the API server does not tell its time",
        ),
        of_clock(
            "Operator's clock",
            "the operator's",
            clocks.operator,
            "set the clock of the operator's node: certificates of a CA in the cluster begin and are renewed by it, so Pods may get one that is not valid yet",
            "the operator's Lease does not tell",
        ),
    ]
}

fn of_clock(name: &str, whose: &str, ahead: Option<SignedDuration>, advice: &str, unknown: &str) -> Finding {
    match ahead {
        None => Finding::skipped(name, unknown),
        Some(ahead) if ahead.abs() <= SKEW => {
            let most = length(ahead.abs() + SignedDuration::from_secs(1));
            Finding::holds(name, format!("{whose} clock and the API server's differ by {most} at most"))
        }
        Some(ahead) => Finding::fails(name, format!("{whose} clock is {}", difference(ahead)), advice),
    }
}

fn operator(leader: Leader) -> Finding {
    const NAME: &str = "Operator";
    match leader {
        Leader::Leads(holder) => Finding::holds(NAME, format!("{holder} leads")),
        Leader::Gone(sentence) => Finding::fails(NAME, sentence, "without a leader nothing is issued or renewed"),
        Leader::Unknown(sentence) | Leader::Denied(sentence) => Finding::skipped(NAME, sentence),
    }
}

async fn pods(cluster: &Cluster, installed: &Installed) -> Finding {
    const NAME: &str = "Operator's Pods";
    let api = Api::<Pod>::namespaced(cluster.client.clone(), &cluster.operator_namespace);
    let ours = ListParams::default().labels(&installed.selector);
    match cluster.list("Pods", &api, &ours).await {
        Ok(pods) => of_pods(&pods, &cluster.operator_namespace),
        Err(error) if error.is_denied() => {
            Finding::skipped(NAME, format!("you may not list Pods in the namespace {}", cluster.operator_namespace))
        }
        Err(error) => Finding::could_not(NAME, &error),
    }
}

fn of_pods(pods: &[Pod], namespace: &str) -> Finding {
    const NAME: &str = "Operator's Pods";
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let ready = pods.iter().filter(is_ready).count();
    let waiting = pods.iter().flat_map(|pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()));
    let reasons: Vec<String> =
        waiting.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone()).collect();
    if ready > 0 {
        return Finding::holds(NAME, format!("{ready} of {} ready", pods.len()));
    }
    let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    Finding::fails(
        NAME,
        format!("{} in the namespace {namespace}, and none ready{why}", pods.len()),
        "see kubectl get events and kubectl logs in that namespace; give --operator-namespace if the operator runs in another one",
    )
}

/// Which webhooks the API server asks before it writes Secrets and the operator's objects.
async fn webhooks(cluster: &Cluster) -> Finding {
    const NAME: &str = "Webhooks";
    let all = ListParams::default();
    let mutating = cluster.list("webhooks", &Api::<MutatingWebhookConfiguration>::all(cluster.client.clone()), &all).await;
    let validating = cluster.list("webhooks", &Api::<ValidatingWebhookConfiguration>::all(cluster.client.clone()), &all).await;
    let (mutating, validating) = match (mutating, validating) {
        (Ok(mutating), Ok(validating)) => (mutating, validating),
        (Err(error), _) | (_, Err(error)) if error.is_denied() => {
            return Finding::skipped(NAME, "you may not list the configurations of webhooks");
        }
        (Err(error), _) | (_, Err(error)) => return Finding::could_not(NAME, &error),
    };
    let of_mutating = mutating.iter().flat_map(|configuration| configuration.webhooks.iter().flatten());
    let of_mutating = of_mutating.map(|webhook| (&webhook.name, webhook.rules.as_deref(), webhook.failure_policy.as_deref()));
    let of_validating = validating.iter().flat_map(|configuration| configuration.webhooks.iter().flatten());
    let of_validating =
        of_validating.map(|webhook| (&webhook.name, webhook.rules.as_deref(), webhook.failure_policy.as_deref()));
    let asked =
        of_mutating.chain(of_validating).filter(|(_, rules, _)| rules.is_some_and(|rules| rules.iter().any(concerns_us)));
    let told: Vec<String> =
        asked.map(|(name, _, policy)| format!("{name} (if it fails: {})", policy.unwrap_or("Fail"))).collect();
    if told.is_empty() {
        return Finding::holds(NAME, "none is asked about Secrets or certificates");
    }
    Finding::holds(NAME, format!("asked about Secrets or certificates: {}", told.join(", ")))
}

fn concerns_us(rule: &RuleWithOperations) -> bool {
    let has = |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|found| found == "*" || found == wanted);
    let resource =
        |wanted: &str| rule.resources.iter().flatten().any(|found| found == "*" || found == "*/*" || found == wanted);
    let writes = ["CREATE", "UPDATE"].iter().any(|operation| has(&rule.operations, operation));
    let secrets = has(&rule.api_groups, "") && resource("secrets");
    let ours = has(&rule.api_groups, GROUP)
        && (resource("databaseusercertificates")
            || resource("databaseusercertificates/status")
            || resource("databaseusercertificates/*"));
    writes && (secrets || ours)
}

/// Tries to write a Secret as the operator's are. Nothing is stored.
async fn write(cluster: &Cluster) -> Finding {
    const NAME: &str = "Write of a Secret";
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {
            "name": TRIED_SECRET,
            // Webhooks and policies may select what they are asked about by the operator's label.
            "labels": { CERTIFICATE_UID_LABEL: TRIED_SECRET },
        },
        "stringData": { "tls.crt": "", "tls.key": "" },
    });
    let Ok(secret) = serde_json::from_value::<Secret>(secret) else { return Finding::skipped(NAME, "it could not be made") };
    let api = Api::<Secret>::namespaced(cluster.client.clone(), &cluster.namespace);
    let parameters = PostParams { dry_run: true, field_manager: None };
    let namespace = &cluster.namespace;
    match cluster.ask("try to write a Secret", api.create(&parameters, &secret)).await {
        Ok(_) => Finding::holds(NAME, format!("a dry run in the namespace {namespace} is let through")),
        Err(error) if error.is_missing() => Finding::skipped(NAME, format!("there is no namespace {namespace}")),
        // Webhooks refuse with 403 too; the API server's own refusal names the user and the verb.
        Err(error) if error.is_denied() && chain(&error).contains("cannot create resource") => {
            Finding::skipped(NAME, format!("you may not create Secrets in the namespace {namespace}"))
        }
        // The API server does not ask a webhook that has side effects about a dry run, and refuses the dry run itself.
        Err(error) if chain(&error).contains("does not support dry run") => {
            Finding::skipped(NAME, format!("a webhook cannot be asked without effect: {}", chain(&error)))
        }
        Err(error) => Finding::fails(
            NAME,
            format!("a dry run in the namespace {namespace} is refused: {}", chain(&error)),
            "let the operator's Secrets through: change the webhook, the policy or the quota that the message names",
        ),
    }
}

/// What the issuers say, and what Atlas answered to their certificates.
async fn issuers(cluster: &Cluster, session: &Session, everywhere: bool) -> Vec<Finding> {
    let (found, skipped) = match findings::issuers(cluster, everywhere).await {
        Ok(found) => found,
        Err(error) if error.is_denied() => return vec![Finding::skipped("Issuers", "you may not list them")],
        Err(error) => return vec![Finding::could_not("Issuers", &error)],
    };
    // Those of other namespaces tell too how Atlas answered an issuer of the cluster.
    let objects = match certificates(cluster, &[], &Selection { all_namespaces: true, selector: None }).await {
        Err(error) if error.is_denied() => certificates(cluster, &[], &Selection::default()).await,
        other => other,
    };
    match objects {
        Ok(objects) => {
            let mut told = findings::of_issuers(&found, &objects, session.now());
            told.extend(skipped);
            told
        }
        Err(error) => vec![Finding::could_not("Issuers", &error)],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn clocks_may_differ_by_a_minute() {
        let of = |own: i64, operator: Option<i64>| {
            let ahead = SignedDuration::from_secs;
            clocks(Clocks { own: Some(ahead(own)), operator: operator.map(ahead) })
        };
        let [own, operator] = of(-60, None);
        assert!(!own.is_fault() && !operator.is_fault() && operator.says("skipped"), "{operator:?}");
        let [own, operator] = of(-3600, Some(3600));
        assert!(own.is_fault() && own.says("this machine's clock is 60m behind the API server's"), "{own:?}");
        assert!(operator.is_fault() && operator.says("the operator's clock is 60m ahead of the API server's"), "{operator:?}");
    }

    #[rstest]
    #[case::secrets(json!({ "apiGroups": [""], "resources": ["secrets"], "operations": ["CREATE"] }), true)]
    #[case::everything(json!({ "apiGroups": ["*"], "resources": ["*/*"], "operations": ["*"] }), true)]
    #[case::ours(json!({ "apiGroups": ["usercert.dev"], "resources": ["*"], "operations": ["UPDATE"] }), true)]
    #[case::the_status(json!({ "apiGroups": ["usercert.dev"], "resources": ["databaseusercertificates/status"], "operations": ["UPDATE"] }), true)]
    #[case::deletions(json!({ "apiGroups": [""], "resources": ["secrets"], "operations": ["DELETE"] }), false)]
    #[case::others(json!({ "apiGroups": ["apps"], "resources": ["*"], "operations": ["*"] }), false)]
    fn a_webhook_is_told_if_it_is_asked_about_what_is_written(#[case] rule: serde_json::Value, #[case] expected: bool) {
        assert_eq!(concerns_us(&serde_json::from_value(rule).unwrap()), expected);
    }

    #[test]
    fn one_pod_that_is_ready_is_enough() {
        let pod = |ready: &str, reason: Option<&str>| -> Pod {
            let waiting = reason.map(|reason| json!({ "waiting": { "reason": reason } }));
            serde_json::from_value(json!({ "metadata": { "name": "a" }, "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting }],
            } }))
            .unwrap()
        };
        assert!(!of_pods(&[pod("True", None), pod("False", None)], "s").is_fault());
        assert!(of_pods(&[pod("False", Some("ImagePullBackOff"))], "s").says("none ready (ImagePullBackOff)"));
        assert!(of_pods(&[], "s").is_fault());
    }
}
