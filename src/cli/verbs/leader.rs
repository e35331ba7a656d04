//! Whether an operator leads, as its Lease tells.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde::Serialize;
use usercert_operator_core::api::names::CONTROLLER;

use crate::{cluster::Cluster, exit::CliError, text::length};

/// A leader that is well renews its Lease within a few seconds. The clocks of machines may differ by more than that.
const SILENCE: SignedDuration = SignedDuration::from_mins(2);

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Leader {
    /// This process.
    Leads(String),
    /// Nobody, as the sentence says.
    Gone(String),
    /// The Lease could not be looked at; the sentence says why.
    Unknown(String),
}

/// Looks at the Lease.
pub(super) async fn leader(cluster: &Cluster, now: Timestamp) -> Leader {
    let namespace = &cluster.operator_namespace;
    let api = Api::<Lease>::namespaced(cluster.client.clone(), namespace);
    match cluster.ask("look at the operator's Lease", api.get_opt(CONTROLLER)).await {
        Ok(lease) => of_lease(lease.as_ref(), namespace, now),
        Err(error) if error.is_denied() => {
            Leader::Unknown(format!("you may not get the Lease {CONTROLLER} in the namespace {namespace}"))
        }
        Err(error) => Leader::Unknown(told(&error)),
    }
}

fn told(error: &CliError) -> String {
    usercert_operator_controller::chain(error)
}

fn of_lease(lease: Option<&Lease>, namespace: &str, now: Timestamp) -> Leader {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else {
        return Leader::Unknown(format!(
            "there is no Lease {CONTROLLER} in the namespace {namespace}: the operator was never there, runs in another namespace (--operator-namespace), or runs without leader election"
        ));
    };
    let Some(holder) = spec.holder_identity.as_ref().filter(|holder| !holder.is_empty()) else {
        return Leader::Gone("no operator leads: the last one has given the Lease back. Start the operator".to_owned());
    };
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    match renewed.map(|renewed| now.duration_since(renewed)) {
        Some(silence) if silence > SILENCE => Leader::Gone(format!(
            "no operator leads: {holder} renewed the Lease {} ago for the last time. Look at the operator's Pods in {namespace}",
            length(silence)
        )),
        Some(_) => Leader::Leads(holder.clone()),
        None => Leader::Unknown("the Lease does not tell when it was renewed".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(spec: &serde_json::Value) -> Leader {
        let lease: Lease = serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
        of_lease(Some(&lease), "usercert-system", Timestamp::from_second(1_767_225_600).unwrap())
    }

    #[test]
    fn a_leader_renews_its_lease() {
        let led = |renewed: &str| found(&json!({ "holderIdentity": "pod_1", "renewTime": renewed }));
        assert_eq!(led("2025-12-31T23:59:55.000000Z"), Leader::Leads("pod_1".into()));
        assert_eq!(led("2026-01-01T00:00:30.000000Z"), Leader::Leads("pod_1".into()), "its clock is ahead");
        assert!(matches!(led("2025-12-31T23:00:00.000000Z"), Leader::Gone(text) if text.contains("60m ago")));
        assert!(matches!(found(&json!({ "holderIdentity": "" })), Leader::Gone(_)));
        assert!(matches!(of_lease(None, "usercert-system", Timestamp::UNIX_EPOCH), Leader::Unknown(_)));
    }
}
