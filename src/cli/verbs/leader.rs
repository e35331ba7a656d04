//! Whether an operator leads, as its Lease tells, and how its clock and this machine's differ from the API server's.
//!
//! The Lease has two times of its last renewal: the leader wrote one by its own clock, and the API server noted the other by its clock, in
//! the field's owner. So what this machine's clock says does not matter, and a leader whose clock is wrong is seen.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde::Serialize;
use usercert_operator_controller::chain;

use crate::{
    cluster::Cluster,
    table::Cell,
    terminal::{Mood, Terminal},
    text::{SKEW, difference, length, paragraph},
};

/// A leader that is well renews its Lease within a few seconds, and another one takes over within half a minute.
const SILENCE: SignedDuration = SignedDuration::from_mins(1);

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Leader {
    /// This process.
    Leads(String),
    /// Nobody, as the sentence says.
    Gone(String),
    /// There is no Lease, or it does not tell; the sentence says why.
    Unknown(String),
    /// The Lease may not be looked at, as the sentence says.
    Denied(String),
}

/// By how much clocks are ahead of the API server's; less than zero: behind it. `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clocks {
    /// This machine's.
    pub(super) own: Option<SignedDuration>,
    /// That of the operator that leads, or led last.
    pub(super) operator: Option<SignedDuration>,
}

impl Clocks {
    /// A sentence for each clock that is wrong.
    pub(super) fn faults(self) -> Vec<String> {
        [self.fault_of_own(), self.fault_of_operator()].into_iter().flatten().collect()
    }

    /// A sentence, if this machine's clock is wrong.
    pub(super) fn fault_of_own(self) -> Option<String> {
        fault("this machine's", self.own)
    }

    /// A sentence, if the operator's clock is wrong.
    pub(super) fn fault_of_operator(self) -> Option<String> {
        fault("the operator's", self.operator)
    }
}

fn fault(whose: &str, ahead: Option<SignedDuration>) -> Option<String> {
    ahead.filter(|ahead| ahead.abs() > SKEW).map(|ahead| format!("{whose} clock is {}", difference(ahead)))
}

/// Looks at the Lease and at the clocks.
pub(super) async fn leader(cluster: &Cluster, now: Timestamp) -> (Leader, Clocks) {
    let server = cluster.time().await.ok().flatten();
    let own = server.map(|server| now.duration_since(server));
    let (namespace, name) = (&cluster.operator_namespace, &cluster.lease_name);
    let api = Api::<Lease>::namespaced(cluster.client.clone(), namespace);
    let (leader, operator) = match cluster.ask("look at the operator's Lease", api.get_opt(name)).await {
        Ok(lease) => {
            let operator = lease.as_ref().and_then(clock_of_leader);
            (of_lease(lease.as_ref(), (namespace, name), server.unwrap_or(now)), operator)
        }
        Err(error) if error.is_denied() => {
            (Leader::Denied(format!("you may not get the Lease {name} in the namespace {namespace}")), None)
        }
        Err(error) => (Leader::Unknown(chain(&error)), None),
    };
    (leader, Clocks { own, operator })
}

/// What is told of the operator and of clocks, below certificates that may be well.
pub(super) fn below(operator: &Leader, clocks: &[String], terminal: &Terminal) -> String {
    missing(operator, terminal) + &wrong_clocks(clocks, terminal)
}

/// That no operator leads, or that this is not known. Whoever may not look at the Lease is told nothing.
fn missing(operator: &Leader, terminal: &Terminal) -> String {
    let sentence = match operator {
        Leader::Gone(sentence) => format!("{sentence}. Until then nothing is issued or renewed"),
        Leader::Unknown(sentence) => format!("whether an operator leads is not known: {sentence}"),
        Leader::Leads(_) | Leader::Denied(_) => return String::new(),
    };
    let title = terminal.paint(Mood::Title, "The operator");
    format!("\n{title}\n{}", paragraph(Cell::whole(&sentence).text(), 2, terminal))
}

/// Which clocks are wrong: what is told of times may be wrong then.
fn wrong_clocks(clocks: &[String], terminal: &Terminal) -> String {
    if clocks.is_empty() {
        return String::new();
    }
    let title = terminal.paint(Mood::Title, "Clocks");
    let told = clocks.iter().map(|clock| format!("{clock}: what is said here of times may be wrong"));
    told.fold(format!("\n{title}\n"), |text, sentence| text + &paragraph(Cell::whole(&sentence).text(), 2, terminal))
}

fn of_lease(lease: Option<&Lease>, (namespace, name): (&str, &str), now: Timestamp) -> Leader {
    let Some((lease, spec)) = lease.and_then(|lease| Some((lease, lease.spec.as_ref()?))) else {
        return Leader::Unknown(format!(
            "there is no Lease {name} in the namespace {namespace}: the operator was never there, runs in another namespace (--operator-namespace) or under another name (--lease-name), or runs without leader election"
        ));
    };
    let Some(holder) = spec.holder_identity.as_ref().filter(|holder| !holder.is_empty()) else {
        return Leader::Gone("no operator leads: the last one has given the Lease back. Start the operator".to_owned());
    };
    let renewed = renewed_by_server(lease).or_else(|| spec.renew_time.as_ref().map(|time| time.0));
    match renewed.map(|renewed| now.duration_since(renewed)) {
        Some(silence) if silence > SILENCE => Leader::Gone(format!(
            "no operator leads: {holder} renewed the Lease {} ago for the last time. Look at the operator's Pods in {namespace}",
            length(silence)
        )),
        Some(_) => Leader::Leads(holder.clone()),
        None => Leader::Unknown("the Lease does not tell when it was renewed".to_owned()),
    }
}

/// When the Lease was renewed, by the API server's clock, to the second.
fn renewed_by_server(lease: &Lease) -> Option<Timestamp> {
    let renews = |fields: &serde_json::Value| fields.get("f:spec").is_some_and(|spec| spec.get("f:renewTime").is_some());
    let owners = lease.metadata.managed_fields.iter().flatten();
    let of_time = owners.filter(|owner| owner.fields_v1.as_ref().is_some_and(|fields| renews(&fields.0)));
    of_time.filter_map(|owner| Some(owner.time.as_ref()?.0)).max()
}

/// By how much the leader's clock was ahead of the API server's when it renewed the Lease.
fn clock_of_leader(lease: &Lease) -> Option<SignedDuration> {
    let written = lease.spec.as_ref()?.renew_time.as_ref()?.0;
    Some(written.duration_since(renewed_by_server(lease)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: (&str, &str) = ("usercert-system", "usercert-operator");

    fn lease(spec: &serde_json::Value, by_server: Option<&str>) -> Lease {
        let owners = by_server.map(|time| {
            json!([
                { "manager": "kubectl", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                  "fieldsV1": { "f:metadata": { "f:annotations": {} } } },
                { "manager": "usercert-operator", "operation": "Update", "time": time, "fieldsType": "FieldsV1",
                  "fieldsV1": { "f:spec": { "f:renewTime": {}, "f:holderIdentity": {} } } },
            ])
        });
        serde_json::from_value(json!({ "metadata": { "managedFields": owners }, "spec": spec })).unwrap()
    }

    fn found(spec: &serde_json::Value) -> Leader {
        of_lease(Some(&lease(spec, None)), NAME, Timestamp::from_second(1_767_225_600).unwrap())
    }

    #[test]
    fn a_leader_renews_its_lease() {
        let led = |renewed: &str| found(&json!({ "holderIdentity": "pod_1", "renewTime": renewed }));
        assert_eq!(led("2025-12-31T23:59:55.000000Z"), Leader::Leads("pod_1".into()));
        assert_eq!(led("2026-01-01T00:00:30.000000Z"), Leader::Leads("pod_1".into()), "its clock is ahead");
        assert!(matches!(led("2025-12-31T23:00:00.000000Z"), Leader::Gone(text) if text.contains("60m ago")));
        assert!(matches!(found(&json!({ "holderIdentity": "" })), Leader::Gone(_)));
        assert!(matches!(of_lease(None, NAME, Timestamp::UNIX_EPOCH), Leader::Unknown(_)));
    }

    #[test]
    fn a_leader_whose_clock_is_wrong_leads_all_the_same_and_is_told() {
        let spec = json!({ "holderIdentity": "pod_1", "renewTime": "2025-12-31T22:59:55.000000Z" });
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let behind = lease(&spec, Some("2025-12-31T23:59:55Z"));
        assert_eq!(of_lease(Some(&behind), NAME, now), Leader::Leads("pod_1".into()));
        let operator = clock_of_leader(&behind);
        assert_eq!(operator, Some(SignedDuration::from_hours(-1)));
        let own = Some(SignedDuration::from_secs(59));
        assert_eq!(Clocks { own, operator }.faults(), ["the operator's clock is 60m behind the API server's"]);
        let gone = lease(&spec, Some("2025-12-31T23:58:55Z"));
        assert!(matches!(of_lease(Some(&gone), NAME, now), Leader::Gone(text) if text.contains("65s ago")));
        assert_eq!(Clocks::default().faults(), Vec::<String>::new());
    }

    #[test]
    fn an_operator_that_is_gone_is_told_below_certificates_that_work() {
        let text = missing(&Leader::Gone("no operator leads: start it".into()), &Terminal::none());
        assert_eq!(text, "\nThe operator\n  no operator leads: start it. Until then nothing is issued or renewed\n");
        let text = missing(&of_lease(None, NAME, Timestamp::UNIX_EPOCH), &Terminal::none());
        assert!(
            text.starts_with("\nThe operator\n  whether an operator leads is not known: there is no Lease usercert-operator"),
            "{text}"
        );
        for silent in [Leader::Leads("pod".into()), Leader::Denied("you may not".into())] {
            assert_eq!(missing(&silent, &Terminal::none()), "");
        }
    }
}
