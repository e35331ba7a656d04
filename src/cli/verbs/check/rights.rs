//! Who may do what: the operator, and whoever asks.

use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview, SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
};
use kube::{Api, api::PostParams};
use usercert_operator_core::api::names::GROUP;

use super::{findings::Finding, installed::Installed};
use crate::{cluster::Cluster, exit::CliError};

/// How many questions are asked at once.
const AT_ONCE: usize = 8;

const ATLAS: &str = "atlas.mongodb.com";
const LEASES: &str = "coordination.k8s.io";

/// The API group, the resource with its subresource, and verbs.
pub type Rights = &'static [(&'static str, &'static str, &'static [&'static str])];

/// What the operator needs in each namespace that it serves: the chart's `usercert-operator.namespacedRules`. A test compares both.
pub const IN_NAMESPACES: Rights = &[
    (GROUP, "databaseusercertificates", &["get", "list", "watch"]),
    (GROUP, "certificateissuers", &["get", "list", "watch"]),
    (GROUP, "databaseusercertificates/status", &["patch"]),
    (GROUP, "certificateissuers/status", &["patch"]),
    (GROUP, "databaseusercertificates/finalizers", &["update"]),
    ("", "secrets", &["get", "list", "watch", "create", "patch"]),
    ("", "pods", &["list"]),
    (ATLAS, "atlasprojects", &["get", "list", "watch"]),
    (ATLAS, "atlasdatabaseusers", &["get", "list", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// What it needs besides if it serves the whole cluster.
pub const IN_CLUSTER: Rights = &[
    (GROUP, "clustercertificateissuers", &["get", "list", "watch"]),
    (GROUP, "clustercertificateissuers/status", &["patch"]),
    ("", "namespaces", &["list", "watch"]),
];

/// What it needs besides if `rollout.enabled` is true.
pub const FOR_ROLLOUTS: Rights = &[
    ("apps", "deployments", &["get", "list", "patch"]),
    ("apps", "statefulsets", &["get", "list", "patch"]),
    ("apps", "daemonsets", &["get", "list", "patch"]),
    ("batch", "jobs", &["list"]),
];

/// What it needs on its Lease, in its own namespace.
pub const ON_LEASE: Rights = &[(LEASES, "leases", &["create", "get", "update"])];

/// Where a right is needed.
#[derive(Clone, Copy)]
enum Place {
    /// In the namespace that is asked about.
    Here,
    /// In that of the operator.
    OfOperator,
    /// In no namespace.
    Cluster,
}

/// What the verbs of this program need: the group, the resource, the verb, where, and for which of them.
const OWN: &[(&str, &str, &str, Place, &str)] = &[
    (GROUP, "databaseusercertificates", "list", Place::Here, "status, plan, orphans, report"),
    (GROUP, "databaseusercertificates", "get", Place::Here, "why, renew, suspend, resume, migrate"),
    (GROUP, "databaseusercertificates", "patch", Place::Here, "renew, suspend, resume"),
    (GROUP, "databaseusercertificates", "create", Place::Here, "create, migrate"),
    (GROUP, "certificateissuers", "get", Place::Here, "why, migrate"),
    (GROUP, "certificateissuers", "list", Place::Here, "why, check, report"),
    (GROUP, "clustercertificateissuers", "get", Place::Cluster, "why, migrate"),
    (GROUP, "clustercertificateissuers", "list", Place::Cluster, "check, report"),
    ("", "secrets", "get", Place::Here, "why, inspect, migrate"),
    ("", "secrets", "patch", Place::Here, "migrate"),
    ("cert-manager.io", "certificates", "get", Place::Here, "migrate, for Secrets of cert-manager"),
    ("", "secrets", "list", Place::Here, "orphans, report"),
    ("", "pods", "list", Place::Here, "inspect"),
    ("", "events", "list", Place::Here, "report"),
    ("", "namespaces", "get", Place::Cluster, "why, migrate"),
    (LEASES, "leases", "get", Place::OfOperator, "status, why, check, report"),
    ("", "pods", "list", Place::OfOperator, "check, report"),
    ("", "pods/log", "get", Place::OfOperator, "report"),
];

/// A right that was asked about.
struct Asked {
    words: String,
    is_there: Result<bool, CliError>,
}

/// Whether the operator has its rights in the namespace, in the cluster and on its Lease. To ask that is a right of administrators.
pub(super) async fn of_operator(cluster: &Cluster, installed: &Installed) -> Vec<Finding> {
    let user = format!("system:serviceaccount:{}:{}", cluster.operator_namespace, installed.service_account);
    let (namespace, own) = (Some(cluster.namespace.as_str()), Some(cluster.operator_namespace.as_str()));
    let in_namespace = ask(cluster, &user, IN_NAMESPACES, namespace, None).await;
    let in_cluster = ask(cluster, &user, IN_CLUSTER, None, None).await;
    let for_rollouts = ask(cluster, &user, FOR_ROLLOUTS, namespace, None).await;
    let on_lease = ask(cluster, &user, ON_LEASE, own, Some(&cluster.lease_name)).await;
    let here = format!("in the namespace {}", cluster.namespace);
    let there = format!("in the namespace {}", cluster.operator_namespace);
    let nobody = installed.is_presumed.then_some(
        "it has none of them, and may have another account: give --service-account, or --lease-name if the release has another name",
    );
    let in_namespaces =
        Some("it has none of them: it serves named namespaces (watchNamespaces), and no ClusterCertificateIssuers");
    let off = Some("it has none of them: rollout.enabled is not true, and spec.rollout has no effect");
    let alone = Some("it has none of them: it runs without leader election, or under another account");
    vec![
        judged("Operator's rights", &in_namespace, &user, &here, nobody),
        judged("Operator's rights in the cluster", &in_cluster, &user, "in the cluster", in_namespaces),
        judged("Operator's rights for rollouts", &for_rollouts, &user, &here, off),
        judged("Operator's rights on its Lease", &on_lease, &user, &there, alone),
    ]
}

async fn ask(cluster: &Cluster, user: &str, rights: Rights, namespace: Option<&str>, name: Option<&str>) -> Vec<Asked> {
    // The API server adds these groups to an account's token, and none by itself to a review.
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", cluster.operator_namespace),
        "system:authenticated".to_owned(),
    ];
    let api = Api::<SubjectAccessReview>::all(cluster.client.clone());
    let each = rights.iter().flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| (*group, *resource, *verb)));
    let asked = each.map(|(group, resource, verb)| {
        let mut attributes = attributes(group, resource, verb, namespace);
        // RBAC cannot restrict create to a name.
        attributes.name = name.filter(|_| verb != "create").map(ToOwned::to_owned);
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(user.to_owned()),
            groups: Some(groups.to_vec()),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api = api.clone();
        async move {
            let answer = cluster.ask("ask for the operator's rights", api.create(&PostParams::default(), &review)).await;
            Asked { words: format!("{verb} {resource}"), is_there: answer.map(|review| is_allowed(review.status.as_ref())) }
        }
    });
    stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
}

/// What whoever asks may do. That something may not be done is no fault.
pub(super) async fn own(cluster: &Cluster) -> Vec<Finding> {
    const NAME: &str = "Your rights";
    let api = Api::<SelfSubjectAccessReview>::all(cluster.client.clone());
    let asked = OWN.iter().map(|(group, resource, verb, place, verbs)| {
        let (namespace, at) = match place {
            Place::Here => (Some(cluster.namespace.as_str()), ""),
            Place::OfOperator => (Some(cluster.operator_namespace.as_str()), " of the operator"),
            Place::Cluster => (None, ""),
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes(group, resource, verb, namespace)),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api = api.clone();
        async move {
            let answer = cluster.ask("ask for your rights", api.create(&PostParams::default(), &review)).await;
            let words = format!("{verb} {resource}{at} (for {verbs})");
            Asked { words, is_there: answer.map(|review| is_allowed(review.status.as_ref())) }
        }
    });
    let answers: Vec<Asked> = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
    let mut lacking = Vec::new();
    for Asked { words, is_there } in &answers {
        match is_there {
            Ok(true) => {}
            Ok(false) => lacking.push(words.as_str()),
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

fn attributes(group: &str, resource: &str, verb: &str, namespace: Option<&str>) -> ResourceAttributes {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(resource, sub)| (resource, Some(sub)));
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(ToOwned::to_owned),
        verb: Some(verb.to_owned()),
        namespace: namespace.map(ToOwned::to_owned),
        ..ResourceAttributes::default()
    }
}

fn is_allowed(status: Option<&SubjectAccessReviewStatus>) -> bool {
    status.is_some_and(|status| status.allowed)
}

/// `if_none`: what it means that not one of them is there, where that is no fault.
fn judged(name: &str, asked: &[Asked], user: &str, place: &str, if_none: Option<&str>) -> Finding {
    let mut missing = Vec::new();
    for Asked { words, is_there } in asked {
        match is_there {
            Ok(true) => {}
            Ok(false) => missing.push(words.as_str()),
            Err(error) if error.is_denied() => return Finding::skipped(name, "you may not create SubjectAccessReviews"),
            Err(error) => return Finding::could_not(name, error),
        }
    }
    if missing.is_empty() {
        return Finding::holds(name, format!("all there {place}"));
    }
    if let Some(if_none) = if_none.filter(|_| missing.len() == asked.len()) {
        return Finding::skipped(name, if_none);
    }
    Finding::fails(
        name,
        format!(
            "{user} may not {} {place}: it has the chart's rights if rbac.create is true, and in a namespace if watchNamespaces is empty or names it",
            missing.join(", ")
        ),
        "upgrade the chart, or add the rights; give --service-account if the operator has another one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answers: &[(&str, bool)]) -> Vec<Asked> {
        answers.iter().map(|(words, is_there)| Asked { words: (*words).to_owned(), is_there: Ok(*is_there) }).collect()
    }

    #[test]
    fn a_missing_right_is_named_and_none_at_all_may_be_no_fault() {
        let judged =
            |answers: &[(&str, bool)], if_none: Option<&str>| judged("Rights", &asked(answers), "operator", "in shop", if_none);
        let found = judged(&[("get a", true), ("patch a", false), ("list b", false)], Some("it is off"));
        assert!(found.is_fault() && found.says("operator may not patch a, list b in shop"), "{found:?}");
        assert!(!judged(&[("get a", true)], None).is_fault());
        assert!(judged(&[("get a", false)], Some("it is off")).says("skipped: it is off"));
        assert!(judged(&[("get a", false)], None).is_fault());
    }

    #[test]
    fn a_subresource_is_told_apart() {
        let found = attributes(GROUP, "databaseusercertificates/status", "patch", Some("shop"));
        assert_eq!(
            (found.resource.as_deref(), found.subresource.as_deref()),
            (Some("databaseusercertificates"), Some("status"))
        );
        assert_eq!(attributes("", "secrets", "get", None).subresource, None);
    }
}
