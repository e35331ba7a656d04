//! `status`: who expires when, who fails, and what to change.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    leader::{Leader, below, leader},
    namespace::must_exist_if_empty,
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
    must_exist_if_empty(cluster, found.is_empty(), arguments.selection.all_namespaces).await?;
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
        changed_at("2025-12-01T00:00:00Z", all)
    }

    fn changed_at(time: &str, all: &[(&str, &str, &str)]) -> Value {
        let condition = |(type_, status, reason): &(&str, &str, &str)| {
            let mut condition = condition(type_, status, reason, "change this");
            condition["lastTransitionTime"] = json!(time);
            condition
        };
        json!({ "conditions": all.iter().map(condition).collect::<Vec<_>>() })
    }

    /// A renewal that was due at this time and has begun.
    fn under_way(due: &str, not_after: &str) -> Value {
        let mut status = conditions(&[("Ready", "True", "Issued"), ("Issuing", "True", "RenewalDue")]);
        (status["renewalTime"], status["notAfter"]) = (json!(due), json!(not_after));
        status
    }

    #[rstest]
    #[case::good(json!({}), json!({}), State::Good)]
    #[case::expired_whatever_the_conditions_say(json!({}), json!({ "notAfter": "2025-12-31T00:00:00Z" }), State::Expired)]
    #[case::not_valid_yet_whatever_the_conditions_say(json!({}), json!({ "notBefore": "2026-01-01T00:55:00Z" }), State::NotReady)]
    #[case::not_ready(json!({}), conditions(&[("Ready", "False", "AtlasUserNotFound"), ("Issuing", "False", "AtlasUserNotFound")]), State::NotReady)]
    #[case::on_its_way(json!({}), changed_at("2025-12-31T23:50:00Z", &[("Ready", "False", "NoCertificate"), ("Issuing", "True", "NoCertificate")]), State::Pending)]
    #[case::asked_for_again_a_moment_ago(json!({}), json!({ "conditions": [condition("Ready", "False", "NoCertificate", "m"), { "type": "Issuing", "status": "True", "reason": "NoCertificate", "message": "m", "lastTransitionTime": "2025-12-31T23:59:00Z" }] }), State::Pending)]
    #[case::on_its_way_for_too_long(json!({}), changed_at("2025-12-31T23:40:00Z", &[("Ready", "False", "NoCertificate"), ("Issuing", "True", "NoCertificate")]), State::NotReady)]
    #[case::without_a_condition_for_too_long(json!({}), json!({ "conditions": [], "notAfter": null, "renewalTime": null }), State::NotReady)]
    #[case::nobody_goes_on_with_a_renewal_that_had_begun(json!({}), under_way("2025-12-31T17:00:00Z", "2026-01-20T00:00:00Z"), State::RenewalLate)]
    #[case::a_renewal_is_under_way(json!({}), under_way("2025-12-31T19:00:00Z", "2026-01-20T00:00:00Z"), State::Good)]
    #[case::a_renewal_is_under_way_and_half_of_what_was_left_is_over(json!({}), under_way("2025-12-31T23:30:00Z", "2026-01-01T00:20:00Z"), State::RenewalLate)]
    #[case::a_short_life_has_a_late_renewal_before_it_is_over(json!({}), json!({ "renewalTime": "2025-12-31T23:48:00Z", "notAfter": "2026-01-01T00:08:00Z" }), State::RenewalLate)]
    #[case::a_short_life_is_renewed_in_a_moment(json!({}), json!({ "renewalTime": "2025-12-31T23:52:00Z", "notAfter": "2026-01-01T00:12:00Z" }), State::Good)]
    #[case::a_short_life_is_suspended_past_its_renewal(json!({ "suspend": true }), json!({ "renewalTime": "2025-12-31T23:48:00Z", "notAfter": "2026-01-01T00:08:00Z" }), State::RenewalLate)]
    #[case::a_renewal_time_after_the_end_is_not_late_before_it(json!({}), json!({ "renewalTime": "2026-01-03T00:00:00Z", "notAfter": "2026-01-02T00:00:00Z" }), State::Good)]
    #[case::a_newer_operator_has_understood_the_spec(json!({ "deletionPolicy": "Archive" }), json!({}), State::Warning)]
    #[case::a_newer_operator_says_what_is_wrong(json!({ "deletionPolicy": "Archive" }), conditions(&[("Ready", "False", "AtlasUserNotFound"), ("Issuing", "False", "AtlasUserNotFound")]), State::NotReady)]
    #[case::nobody_has_understood_the_spec(json!({ "deletionPolicy": "Archive" }), json!({ "observedGeneration": 0 }), State::NotReady)]
    #[case::a_part_of_the_status_is_not_understood(json!({}), json!({ "notAfter": "9999-12-31T23:59:59Z" }), State::Warning)]
    #[case::a_condition_is_not_understood(json!({}), json!({ "conditions": [{ "type": "Ready", "lastTransitionTime": "9999-12-31T23:59:59Z" }, condition("Issuing", "False", "Issued", "m")] }), State::NotReady)]
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
    fn only_an_object_that_the_operator_does_not_understand_either_is_to_be_corrected() {
        let message = |spec: Value, status: Value| told(&object("orders", &spec, &status), now()).message.unwrap();
        let newer = json!({ "deletionPolicy": "Archive" });
        let unseen = message(newer.clone(), json!({ "observedGeneration": 0 }));
        assert!(unseen.ends_with(": correct what stands there"), "{unseen}");
        let refused = conditions(&[("Ready", "False", "AtlasUserNotFound"), ("Issuing", "False", "AtlasUserNotFound")]);
        let refused = message(newer.clone(), refused);
        assert!(refused.starts_with("change this; this program does not understand the object"), "{refused}");
        let in_status = json!({ "notAfter": "9999-12-31T23:59:59Z" });
        let old = json!({ "notAfter": "9999-12-31T23:59:59Z", "observedGeneration": 0 });
        for told in [message(newer, json!({})), message(json!({}), in_status), message(json!({}), old), refused] {
            assert!(told.contains("use the program of the operator's release") && !told.contains("correct"), "{told}");
        }
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
