//! `status`: who expires when, who fails, and what to change.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    leader::{Leader, below, leader},
    objects::{Certificate, certificates},
    state::{State, Told, told},
};
use crate::{
    arguments::StatusArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::{Cell, Table},
    terminal::{Mood, Terminal},
    text::{append, count, paragraph, relative},
};

/// How long an operator has to look at a spec that seems unattended.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Status {
    certificates: Vec<Told>,
    operator: Leader,
    /// A sentence for each clock that is wrong.
    clocks: Vec<String>,
}

/// Answers `status`.
pub(super) async fn status(cluster: &Cluster, session: &Session, arguments: &StatusArguments) -> Result<Answer, CliError> {
    let mut found = certificates(cluster, &arguments.names, &arguments.selection).await?;
    let mut told = all_told(&found, session.now());
    if told.iter().any(|certificate| certificate.state == State::Unattended) {
        // A spec that was changed a moment ago is looked at within seconds, and when it was changed is nowhere.
        session.terminal.tell("a spec seems to be new: it is looked at again in three seconds");
        tokio::time::sleep(SECOND_LOOK).await;
        found = certificates(cluster, &arguments.names, &arguments.selection).await?;
        told = all_told(&found, session.now());
    }
    let now = session.now();
    told.retain(|certificate| !arguments.failing || certificate.state.needs_attention());
    // Certificates that work go on without an operator, until nobody renews them.
    let (operator, clocks) = leader(cluster, now).await;
    let clocks = clocks.faults();
    let exit = if matches!(operator, Leader::Gone(_)) || !clocks.is_empty() { Exit::Attention } else { exit(&told) };
    let status = Status { certificates: told, operator, clocks };
    let in_words = || {
        let text = render(&status.certificates, found.len(), arguments.selection.all_namespaces, &session.terminal, now);
        text + &below(&status.operator, &status.clocks, &session.terminal)
    };
    let text = for_programs(&status, arguments.output)?.unwrap_or_else(in_words);
    Ok(Answer::new(text, exit))
}

/// What is told of each certificate, the worst first.
pub(super) fn all_told(found: &[Certificate], now: Timestamp) -> Vec<Told> {
    let mut told: Vec<Told> = found.iter().map(|object| told(object, now)).collect();
    told.sort_by(|one, other| {
        let key = |told: &Told| (told.state, told.not_after.unwrap_or(Timestamp::MAX));
        key(one).cmp(&key(other)).then_with(|| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)))
    });
    told
}

fn exit(told: &[Told]) -> Exit {
    if told.iter().any(|certificate| certificate.state.needs_attention()) { Exit::Attention } else { Exit::Good }
}

/// The answer for people: a table, then what to change, one paragraph for each certificate that needs attention.
fn render(told: &[Told], found: usize, has_namespaces: bool, terminal: &Terminal, now: Timestamp) -> String {
    if found == 0 {
        return "there are no certificates here: kubectl usercert create --help shows how to ask for one\n".to_owned();
    }
    if told.is_empty() {
        return format!("{}, and none needs attention\n", count(found, "certificate"));
    }
    let mut table = Table::new(["NAMESPACE", "NAME", "STATE", "EXPIRES", "RENEWS", "ROLLOUT", "REASON", "ISSUER"]);
    for certificate in told {
        let namespace = if has_namespaces { certificate.namespace.as_str() } else { "" };
        let time = |time: Option<Timestamp>| time.map_or_else(String::new, |time| relative(time, now));
        // Without a renewal ahead, the state says more than a time.
        let renews = certificate.renewal_time.filter(|_| certificate.state != State::Suspended);
        table.push([
            namespace.into(),
            certificate.name.as_str().into(),
            Cell::new(certificate.state.label(), certificate.state.mood()),
            time(certificate.not_after).into(),
            time(renews).into(),
            certificate.rollout.clone().unwrap_or_default().into(),
            certificate.reason.clone().unwrap_or_default().into(),
            certificate.issuer.as_str().into(),
        ]);
    }
    let mut text = table.render(terminal);
    let failing: Vec<&Told> = told.iter().filter(|certificate| certificate.state.needs_attention()).collect();
    for certificate in &failing {
        let name = format!("{}/{}", certificate.namespace, certificate.name);
        let title = Cell::plain(format!("{name}: {}", certificate.state.label()));
        append(&mut text, format_args!("\n{}\n", terminal.paint(Mood::Title, title.text())));
        let message = Cell::whole(certificate.message.as_deref().unwrap_or("the operator gives no message"));
        text.push_str(&paragraph(message.text(), 2, terminal));
        text.push_str(&paragraph(&why(certificate), 2, terminal));
    }
    text
}

fn why(certificate: &Told) -> String {
    format!("every check: kubectl usercert why {} -n {}", certificate.name, certificate.namespace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// 2026-01-01T00:00:00Z.
    fn now() -> Timestamp {
        Timestamp::from_second(1_767_225_600).unwrap()
    }

    fn object(name: &str, spec: &Value, status: &Value) -> Certificate {
        let mut object = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "namespace": "shop", "name": name, "generation": 1, "creationTimestamp": "2025-12-01T00:00:00Z" },
            "spec": { "username": name, "issuerRef": { "kind": "CertificateIssuer", "name": "atlas" } },
            "status": {
                "observedGeneration": 1, "notAfter": "2026-03-01T00:00:00Z", "renewalTime": "2026-01-25T00:00:00Z", "serialNumber": "0A",
                "conditions": [condition("Ready", "True", "Issued", "it works"), condition("Issuing", "False", "Issued", "nothing to do")],
            },
        });
        for (part, changes) in [("spec", spec), ("status", status)] {
            for (key, value) in changes.as_object().unwrap() {
                object[part][key] = value.clone();
            }
        }
        serde_json::from_value(object).map_or_else(|_| unreachable!(), std::convert::identity)
    }

    fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({ "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2025-12-01T00:00:00Z" })
    }

    fn conditions(all: &[(&str, &str, &str)]) -> Value {
        let all: Vec<Value> =
            all.iter().map(|(type_, status, reason)| condition(type_, status, reason, "change this")).collect();
        json!({ "conditions": all })
    }

    #[rstest]
    #[case::good(json!({}), json!({}), State::Good)]
    #[case::expired_whatever_the_conditions_say(json!({}), json!({ "notAfter": "2025-12-31T00:00:00Z" }), State::Expired)]
    #[case::not_valid_yet_whatever_the_conditions_say(json!({}), json!({ "notBefore": "2026-01-01T00:55:00Z" }), State::NotReady)]
    #[case::not_ready(json!({}), conditions(&[("Ready", "False", "AtlasUserNotFound"), ("Issuing", "False", "AtlasUserNotFound")]), State::NotReady)]
    #[case::on_its_way(json!({}), conditions(&[("Ready", "False", "NoCertificate"), ("Issuing", "True", "NoCertificate")]), State::Pending)]
    #[case::renewal_fails(json!({}), conditions(&[("Ready", "True", "Issued"), ("Issuing", "False", "AtlasUnauthorized"), ("RenewalFailed", "True", "AtlasUnauthorized")]), State::RenewalFailed)]
    #[case::nobody_renews_it(json!({}), json!({ "renewalTime": "2025-12-31T22:00:00Z" }), State::RenewalLate)]
    #[case::the_renewal_has_just_come_due(json!({}), json!({ "renewalTime": "2025-12-31T23:30:00Z" }), State::Good)]
    #[case::suspended(json!({ "suspend": true }), conditions(&[("Ready", "True", "Issued"), ("Issuing", "False", "Suspended")]), State::Suspended)]
    #[case::suspended_and_its_renewal_is_over(json!({ "suspend": true }), json!({ "renewalTime": null, "notBefore": "2025-10-01T00:00:00Z", "notAfter": "2026-01-02T00:00:00Z" }), State::RenewalLate)]
    #[case::suspended_before_its_renewal(json!({ "suspend": true }), json!({ "renewalTime": null, "notBefore": "2025-12-01T00:00:00Z" }), State::Suspended)]
    #[case::suspended_after_a_renewal_that_the_spec_has_early(json!({ "suspend": true, "renewBefore": "1500h" }), json!({ "renewalTime": null, "notBefore": "2025-12-01T00:00:00Z" }), State::RenewalLate)]
    #[case::suspended_and_its_renewal_has_just_come_due(json!({ "suspend": true }), json!({ "renewalTime": "2025-12-31T23:30:00Z" }), State::Suspended)]
    #[case::suspended_and_not_ready(json!({ "suspend": true }), conditions(&[("Ready", "False", "PairUnusable"), ("Issuing", "False", "Suspended")]), State::NotReady)]
    #[case::nobody_looked_at_it(json!({}), json!({ "observedGeneration": -1, "conditions": [] }), State::Unattended)]
    #[case::nobody_looked_at_the_present_spec(json!({}), json!({ "observedGeneration": 0 }), State::Unattended)]
    #[case::the_rollout_stopped(json!({}), conditions(&[("Ready", "True", "Issued"), ("Issuing", "False", "Issued"), ("RolledOut", "False", "RolloutForbidden")]), State::RolloutStopped)]
    #[case::the_rollout_goes_on(json!({}), conditions(&[("Ready", "True", "Issued"), ("Issuing", "False", "Issued"), ("RolledOut", "False", "RolloutInProgress")]), State::Good)]
    #[case::the_type_is_wrong(json!({}), conditions(&[("Ready", "True", "Issued"), ("Issuing", "False", "SecretTypeWrong")]), State::Warning)]
    #[case::keys_that_nobody_holds(json!({}), json!({ "unaccountedCertificates": { "count": 2 } }), State::Warning)]
    fn the_state_follows_from_the_conditions_and_the_time(#[case] spec: Value, #[case] status: Value, #[case] expected: State) {
        let told = told(&object("orders", &spec, &status), now());
        assert_eq!(told.state, expected, "{told:?}");
        assert_eq!(exit(&[told]), if expected.needs_attention() { Exit::Attention } else { Exit::Good });
    }

    #[test]
    fn what_fails_stands_first_with_what_to_change_below_the_table() {
        let failing = conditions(&[("Ready", "False", "AtlasUserNotFound"), ("Issuing", "False", "AtlasUserNotFound")]);
        let objects = [object("bills", &json!({}), &failing), object("orders", &json!({}), &json!({}))];
        let told: Vec<Told> = objects.iter().map(|object| told(object, now())).collect();
        let text = render(&told, 2, true, &Terminal::none(), now());
        let expected = "\
NAMESPACE   NAME     STATE       EXPIRES   RENEWS   REASON              ISSUER
shop        bills    Not ready   in 59d    in 24d   AtlasUserNotFound   CertificateIssuer/atlas
shop        orders   Good        in 59d    in 24d   Issued              CertificateIssuer/atlas

shop/bills: Not ready
  change this
  every check: kubectl usercert why bills -n shop
";
        assert_eq!(text, expected);
    }

    #[test]
    fn nothing_to_show_is_said() {
        assert!(render(&[], 0, false, &Terminal::none(), now()).starts_with("there are no certificates here"));
        assert_eq!(render(&[], 3, false, &Terminal::none(), now()), "3 certificates, and none needs attention\n");
    }
}
