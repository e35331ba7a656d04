//! `check`: whether the operator can do its work here: each thing that it needs, and what to change where one is missing.

mod findings;
mod rights;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration},
        core::v1::{Pod, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    client::Body,
};
use serde_json::json;
use usercert_operator_core::api::{custom_resource_definitions, names::GROUP};

pub(super) use self::findings::Finding;
use self::findings::render;
use super::{
    Session,
    leader::{Leader, leader},
    objects::certificates,
};
use crate::{
    arguments::{CheckArguments, Selection},
    cluster::Cluster,
    exit::{Answer, CliError, Exit},
    text::{for_programs, length},
};

/// Certificates that were made now must not look as if they began later: what clocks may differ by.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The name of the Secret that is only tried.
const TRIED_SECRET: &str = "usercert-check";

/// Answers `check`. Only the first check may end it: without the API server none of the others can be made.
pub(super) async fn check(cluster: &Cluster, session: &Session, arguments: &CheckArguments) -> Result<Answer, CliError> {
    let found = findings(cluster, session, &arguments.service_account).await?;
    let exit = if found.iter().any(Finding::is_fault) { Exit::Attention } else { Exit::Good };
    let text = for_programs(&found, arguments.output)?.unwrap_or_else(|| render(&found, &session.terminal));
    Ok(Answer::new(text, exit))
}

/// Makes all checks.
///
/// # Errors
/// The API server cannot be reached.
pub(super) async fn findings(cluster: &Cluster, session: &Session, service_account: &str) -> Result<Vec<Finding>, CliError> {
    let mut found = vec![api_server(cluster).await?];
    found.push(clock(cluster, session).await);
    found.push(definitions(cluster).await);
    found.push(operator(cluster, session.now()).await);
    found.push(pods(cluster).await);
    found.extend(rights::of_operator(cluster, service_account).await);
    found.extend(rights::own(cluster).await);
    found.push(webhooks(cluster).await);
    found.push(write(cluster).await);
    found.extend(issuers(cluster, session).await);
    Ok(found)
}

async fn api_server(cluster: &Cluster) -> Result<Finding, CliError> {
    let version = cluster.ask("reach the API server", cluster.client.apiserver_version()).await?;
    Ok(Finding::holds("API server", format!("answers, version {}", version.git_version)))
}

/// Compares this machine's clock with that of the API server.
async fn clock(cluster: &Cluster, session: &Session) -> Finding {
    const NAME: &str = "Clock";
    let Ok(request) = http::Request::get("/version").body(Body::empty()) else {
        return Finding::skipped(NAME, "the request could not be made");
    };
    let before = session.now();
    let answer = match cluster.ask("ask for the time", cluster.client.send(request)).await {
        Ok(answer) => answer,
        Err(error) => return Finding::could_not(NAME, &error),
    };
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    date.map_or_else(|| Finding::skipped(NAME, "the API server does not tell its time"), |server| of_clocks(before, server))
}

fn of_clocks(own: Timestamp, server: Timestamp) -> Finding {
    let skew = own.duration_since(server);
    if skew.abs() <= SKEW {
        return Finding::holds(
            "Clock",
            format!("this machine and the API server differ by {} at most", length(skew.abs() + SignedDuration::from_secs(1))),
        );
    }
    let which = if skew.is_negative() { "behind" } else { "ahead of" };
    Finding::fails(
        "Clock",
        format!("this machine is {} {which} the API server", length(skew)),
        "set the clock that is wrong: what this program says of times may be wrong, and so may certificates of a CA in the cluster",
    )
}

/// Compares the definitions in the cluster with those that this program knows.
async fn definitions(cluster: &Cluster) -> Finding {
    const NAME: &str = "Definitions";
    let resources =
        match cluster.ask("ask for the kinds", cluster.client.list_api_group_resources(&format!("{GROUP}/v1alpha1"))).await {
            Ok(resources) => resources,
            Err(error) if error.is_missing() => {
                return Finding::fails(
                    NAME,
                    format!("the API server serves nothing of {GROUP}/v1alpha1"),
                    "install the operator's chart, which brings the definitions",
                );
            }
            Err(error) => return Finding::could_not(NAME, &error),
        };
    let own = custom_resource_definitions();
    let is_served = |definition: &&CustomResourceDefinition| {
        resources.resources.iter().any(|served| served.name == definition.spec.names.plural)
    };
    let missing: Vec<&str> = own
        .iter()
        .filter(|definition| !is_served(definition))
        .map(|definition| definition.spec.names.plural.as_str())
        .collect();
    if !missing.is_empty() {
        return Finding::fails(
            NAME,
            format!("the API server does not serve {}", missing.join(", ")),
            "install the operator's chart, which brings the definitions",
        );
    }
    let api = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let names = own.iter().map(ResourceExt::name_any);
    let stored = join_all(names.map(|name| {
        let api = api.clone();
        async move { cluster.ask(format!("read the definition {name}"), api.get(&name)).await }
    }))
    .await;
    let mut lacking = Vec::new();
    for (definition, stored) in own.iter().zip(stored) {
        match stored {
            Ok(stored) => lacking.extend(fields_lacking(definition, &stored)),
            Err(error) if error.is_denied() => {
                return Finding::holds(
                    NAME,
                    "all kinds are served; whether the definitions are of this version is not known: you may not get them",
                );
            }
            Err(error) => return Finding::could_not(NAME, &error),
        }
    }
    if lacking.is_empty() {
        return Finding::holds(NAME, "all kinds are served, with every field of this version");
    }
    Finding::fails(
        NAME,
        format!("the definitions are older than this program: they lack {}", lacking.join(", ")),
        "upgrade the chart and let it bring the definitions, or use the program of the operator's version",
    )
}

/// The fields of spec and status that the stored definition lacks.
fn fields_lacking(own: &CustomResourceDefinition, stored: &CustomResourceDefinition) -> Vec<String> {
    let fields = |definition: &CustomResourceDefinition, part: &str| {
        let schemas =
            definition.spec.versions.iter().filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        let parts = schemas.filter_map(|schema| schema.properties.as_ref()?.get(part)?.properties.clone());
        parts.flat_map(std::collections::BTreeMap::into_keys).collect::<std::collections::BTreeSet<String>>()
    };
    let lacking = ["spec", "status"].into_iter().flat_map(|part| {
        let stored = fields(stored, part);
        fields(own, part).into_iter().filter(move |field| !stored.contains(field)).map(move |field| format!("{part}.{field}"))
    });
    lacking.map(|field| format!("{} of {}", field, own.spec.names.kind)).collect()
}

async fn operator(cluster: &Cluster, now: Timestamp) -> Finding {
    const NAME: &str = "Operator";
    match leader(cluster, now).await {
        Leader::Leads(holder) => Finding::holds(NAME, format!("{holder} leads")),
        Leader::Gone(sentence) => Finding::fails(NAME, sentence, "without a leader nothing is issued or renewed"),
        Leader::Unknown(sentence) => Finding::skipped(NAME, sentence),
    }
}

async fn pods(cluster: &Cluster) -> Finding {
    const NAME: &str = "Operator's Pods";
    let api = Api::<Pod>::namespaced(cluster.client.clone(), &cluster.operator_namespace);
    let ours = ListParams::default().labels("app.kubernetes.io/name=usercert-operator");
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
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": TRIED_SECRET },
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
        Err(error) if error.is_denied() && told(&error).contains("cannot create resource") => {
            Finding::skipped(NAME, format!("you may not create Secrets in the namespace {namespace}"))
        }
        Err(error) => Finding::fails(
            NAME,
            format!("a dry run in the namespace {namespace} is refused: {}", told(&error)),
            "let the operator's Secrets through: change the webhook, the policy or the quota that the message names",
        ),
    }
}

fn told(error: &CliError) -> String {
    usercert_operator_controller::chain(error)
}

/// What the issuers say, and what Atlas answered to their certificates.
async fn issuers(cluster: &Cluster, session: &Session) -> Vec<Finding> {
    let found = match findings::issuers(cluster).await {
        Ok(found) => found,
        Err(error) => return vec![Finding::could_not("Issuers", &error)],
    };
    let objects = match certificates(cluster, &[], &Selection { all_namespaces: true, selector: None }).await {
        Err(error) if error.is_denied() => certificates(cluster, &[], &Selection::default()).await,
        other => other,
    };
    match objects {
        Ok(objects) => findings::of_issuers(&found, &objects, session.now()),
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
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(!of_clocks(at(1000), at(1060)).is_fault());
        let behind = of_clocks(at(1000), at(4600));
        assert!(behind.is_fault() && behind.says("60m behind"), "{behind:?}");
        assert!(of_clocks(at(4600), at(1000)).says("60m ahead of"));
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
    fn a_definition_of_before_lacks_fields() {
        let own = custom_resource_definitions();
        assert_eq!(fields_lacking(&own[0], &own[0]), Vec::<String>::new());
        let mut old = own[0].clone();
        let schema = old.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        schema.properties.as_mut().unwrap().get_mut("spec").unwrap().properties.as_mut().unwrap().remove("rollout");
        assert_eq!(fields_lacking(&own[0], &old), ["spec.rollout of DatabaseUserCertificate"]);
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
