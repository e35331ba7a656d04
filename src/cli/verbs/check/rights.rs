//! Who may do what: the operator, and whoever asks.

use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview, SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
};
use kube::{Api, api::PostParams};
use usercert_operator_core::api::names::GROUP;

use super::findings::Finding;
use crate::{cluster::Cluster, exit::CliError};

/// How many questions are asked at once.
const AT_ONCE: usize = 8;

/// A right: group, resource with its subresource, verb.
type Right = (&'static str, &'static str, &'static str);

/// What the operator needs in each namespace that it serves: the chart's `usercert-operator.namespacedRules`.
const OF_OPERATOR: &[Right] = &[
    (GROUP, "databaseusercertificates", "get"),
    (GROUP, "databaseusercertificates", "list"),
    (GROUP, "databaseusercertificates", "watch"),
    (GROUP, "databaseusercertificates/status", "patch"),
    (GROUP, "certificateissuers", "get"),
    (GROUP, "certificateissuers", "list"),
    (GROUP, "certificateissuers", "watch"),
    (GROUP, "certificateissuers/status", "patch"),
    ("", "secrets", "get"),
    ("", "secrets", "list"),
    ("", "secrets", "watch"),
    ("", "secrets", "create"),
    ("", "secrets", "patch"),
    ("events.k8s.io", "events", "create"),
];

/// What the verbs of this program need.
const OWN: &[(Right, &str)] = &[
    ((GROUP, "databaseusercertificates", "list"), "status, plan, orphans"),
    ((GROUP, "databaseusercertificates", "get"), "why"),
    ((GROUP, "databaseusercertificates", "patch"), "renew, suspend, resume"),
    ((GROUP, "databaseusercertificates", "create"), "create, migrate"),
    (("", "secrets", "get"), "why, inspect, migrate"),
    (("", "secrets", "list"), "orphans"),
    (("", "pods", "list"), "inspect"),
];

/// Whether the operator has its rights in the namespace. To ask that is a right of administrators.
pub(super) async fn of_operator(cluster: &Cluster, service_account: &str) -> Vec<Finding> {
    const NAME: &str = "Operator's rights";
    let user = format!("system:serviceaccount:{}:{service_account}", cluster.operator_namespace);
    let api = Api::<SubjectAccessReview>::all(cluster.client.clone());
    let asked = OF_OPERATOR.iter().map(|right| {
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes(*right, &cluster.namespace)),
            user: Some(user.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api = api.clone();
        async move {
            let answer = cluster.ask("ask for the operator's rights", api.create(&PostParams::default(), &review)).await;
            (*right, answer.map(|review| is_allowed(review.status.as_ref())))
        }
    });
    let answers: Vec<(Right, Result<bool, CliError>)> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    vec![judged(NAME, &answers, &cluster.namespace, |missing| {
        format!(
            "{user} may not {missing}: it has the chart's rights if rbac.create is true, and in this namespace if watchNamespaces is empty or names it"
        )
    })]
}

/// What whoever asks may do in the namespace. That something may not be done is no fault.
pub(super) async fn own(cluster: &Cluster) -> Vec<Finding> {
    const NAME: &str = "Your rights";
    let api = Api::<SelfSubjectAccessReview>::all(cluster.client.clone());
    let asked = OWN.iter().map(|(right, verbs)| {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes(*right, &cluster.namespace)),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api = api.clone();
        async move {
            let answer = cluster.ask("ask for your rights", api.create(&PostParams::default(), &review)).await;
            (*right, *verbs, answer.map(|review| is_allowed(review.status.as_ref())))
        }
    });
    let answers: Vec<(Right, &str, Result<bool, CliError>)> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut lacking = Vec::new();
    for (right, verbs, answer) in &answers {
        match answer {
            Ok(true) => {}
            Ok(false) => lacking.push(format!("{} (for {verbs})", words(*right))),
            Err(error) => return vec![Finding::could_not(NAME, error)],
        }
    }
    let namespace = &cluster.namespace;
    let message = if lacking.is_empty() {
        format!("enough for every verb in the namespace {namespace}")
    } else {
        format!("in the namespace {namespace} you may not {}", lacking.join(", "))
    };
    vec![Finding::holds(NAME, message)]
}

fn attributes((group, resource, verb): Right, namespace: &str) -> ResourceAttributes {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(resource, sub)| (resource, Some(sub)));
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(ToOwned::to_owned),
        verb: Some(verb.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    }
}

fn is_allowed(status: Option<&SubjectAccessReviewStatus>) -> bool {
    status.is_some_and(|status| status.allowed)
}

fn words((_, resource, verb): Right) -> String {
    format!("{verb} {resource}")
}

fn judged(
    name: &str,
    answers: &[(Right, Result<bool, CliError>)],
    namespace: &str,
    sentence: impl Fn(String) -> String,
) -> Finding {
    let mut missing = Vec::new();
    for (right, answer) in answers {
        match answer {
            Ok(true) => {}
            Ok(false) => missing.push(words(*right)),
            Err(error) if error.is_denied() => return Finding::skipped(name, "you may not create SubjectAccessReviews"),
            Err(error) => return Finding::could_not(name, error),
        }
    }
    if missing.is_empty() {
        return Finding::holds(name, format!("all there in the namespace {namespace}"));
    }
    Finding::fails(
        name,
        sentence(missing.join(", ")),
        "upgrade the chart, or add the rights; give --service-account if the operator has another one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named() {
        let answers = [(OF_OPERATOR[0], Ok(true)), (OF_OPERATOR[3], Ok(false)), (OF_OPERATOR[12], Ok(false))];
        let found = judged("Rights", &answers, "shop", |missing| format!("it may not {missing}"));
        assert!(found.is_fault() && found.says("it may not patch databaseusercertificates/status, patch secrets"), "{found:?}");
        assert!(!judged("Rights", &answers[..1], "shop", |missing| missing).is_fault());
    }

    #[test]
    fn a_subresource_is_told_apart() {
        let found = attributes(OF_OPERATOR[3], "shop");
        assert_eq!(
            (found.resource.as_deref(), found.subresource.as_deref()),
            (Some("databaseusercertificates"), Some("status"))
        );
        assert_eq!(attributes(OF_OPERATOR[8], "shop").subresource, None);
    }
}
