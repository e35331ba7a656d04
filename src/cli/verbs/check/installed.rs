//! How the operator is installed: its Deployment tells, which has the name of its Lease; else the Pod that leads.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, ResourceExt};

use crate::{cluster::Cluster, verbs::leader::Leader};

/// The label by which the chart's Pods are found, if nothing tells another one.
const DEFAULT_SELECTOR: &str = "app.kubernetes.io/name=usercert-operator";

/// The account of the chart under its usual name.
const DEFAULT_ACCOUNT: &str = "usercert-operator";

/// The labels that a release gives its Pods.
const SELECTING: [&str; 2] = ["app.kubernetes.io/name", "app.kubernetes.io/instance"];

/// What other checks need to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verbs) struct Installed {
    /// The selector of its Pods.
    pub(in crate::verbs) selector: String,
    /// Its account.
    pub(super) service_account: String,
    /// Whether nothing tells which account it has.
    pub(super) is_presumed: bool,
}

/// Looks for it. `service_account`: the account that was named on the command line.
pub(in crate::verbs) async fn installed(cluster: &Cluster, leader: &Leader, service_account: Option<&str>) -> Installed {
    let client = || cluster.client.clone();
    let deployments = Api::<Deployment>::namespaced(client(), &cluster.operator_namespace);
    let deployment = cluster.ask("look at the operator's Deployment", deployments.get_opt(&cluster.lease_name)).await;
    let of_deployment = deployment.ok().flatten().and_then(|deployment| {
        let spec = deployment.spec?;
        let account = spec.template.spec.and_then(|spec| spec.service_account_name);
        Some((spec.selector.match_labels.unwrap_or_default(), account))
    });
    let found = match (of_deployment, pod_of(leader)) {
        (Some(found), _) => Some(found),
        (None, Some(pod)) => {
            let pods = Api::<Pod>::namespaced(client(), &cluster.operator_namespace);
            let pod = cluster.ask("look at the Pod that leads", pods.get_opt(pod)).await.ok().flatten();
            pod.map(|pod| (pod.labels().clone(), pod.spec.and_then(|spec| spec.service_account_name)))
        }
        (None, None) => None,
    };
    put_together(found, service_account)
}

fn put_together(found: Option<(BTreeMap<String, String>, Option<String>)>, named: Option<&str>) -> Installed {
    let (labels, account) = found.unwrap_or_default();
    let selecting: Vec<String> =
        SELECTING.iter().filter_map(|label| Some(format!("{label}={}", labels.get(*label)?))).collect();
    let account = named.map(ToOwned::to_owned).or(account);
    Installed {
        selector: if selecting.is_empty() { DEFAULT_SELECTOR.to_owned() } else { selecting.join(",") },
        is_presumed: account.is_none(),
        service_account: account.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
    }
}

/// The Pod that leads: the holder's name is that of the Pod, an underscore, and random letters.
fn pod_of(leader: &Leader) -> Option<&str> {
    match leader {
        Leader::Leads(holder) => holder.rsplit_once('_').map(|(pod, _)| pod),
        Leader::Gone(_) | Leader::Unknown(_) | Leader::Denied(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_account_are_those_of_the_release() {
        let labels = [("app.kubernetes.io/name", "db"), ("app.kubernetes.io/instance", "my"), ("pod-template-hash", "x")];
        let labels: BTreeMap<String, String> = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
        let found = put_together(Some((labels, Some("my-db".to_owned()))), None);
        assert_eq!(found.selector, "app.kubernetes.io/name=db,app.kubernetes.io/instance=my");
        assert_eq!((found.service_account.as_str(), found.is_presumed), ("my-db", false));
        let presumed = put_together(None, None);
        assert_eq!((presumed.selector.as_str(), presumed.is_presumed), (DEFAULT_SELECTOR, true));
        assert!(!put_together(None, Some("other")).is_presumed);
        assert_eq!(pod_of(&Leader::Leads("my-db-7f_0a1b".to_owned())), Some("my-db-7f"));
    }
}
