//! `renew`: asks for new certificates, at a rate, and waits for them.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use usercert_operator_core::{
    api::{ISSUING, Reason, Severity, condition, names::RENEW_REQUESTED_ANNOTATION, truncated_to_second},
    decide::next_forced_renewal,
};

use super::{
    Session,
    objects::{Certificate, certificate_of, change, targets},
};
use crate::{
    arguments::RenewArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit},
    table::{Cell, Table},
    terminal::{Mood, Progress},
    text::count,
};

/// How often the objects that are waited for are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What became of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The API server would take the request.
    WouldAsk,
    /// It was asked for.
    Asked,
    /// A new certificate is in the Secret: its serial number.
    Renewed(String),
    /// It was not asked for, or did not come: why.
    Not(String),
}

/// A renewal that was asked for.
struct Awaited {
    index: usize,
    value: String,
    asked: Timestamp,
    until: tokio::time::Instant,
}

/// Does `renew`.
pub(super) async fn renew(cluster: &Cluster, session: &Session, arguments: &RenewArguments) -> Result<Answer, CliError> {
    let objects = targets(cluster, &arguments.targets).await?;
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(objects.len());
    let mut awaited = Vec::new();
    let mut progress = Progress::new(&session.terminal);
    let mut turns = tokio::time::interval(arguments.at_most.interval);
    for (index, object) in objects.iter().enumerate() {
        if let Some(why) = obstacle(object, session.now()) {
            outcomes.push(Outcome::Not(why));
            continue;
        }
        if !arguments.dry_run {
            turns.tick().await;
        }
        let asked = session.now();
        let value = asked.to_string();
        let patch = json!({ "metadata": { "annotations": { RENEW_REQUESTED_ANNOTATION: value } } });
        match change(cluster, object, patch, arguments.dry_run).await {
            Ok(()) if arguments.dry_run => outcomes.push(Outcome::WouldAsk),
            Ok(()) => {
                outcomes.push(Outcome::Asked);
                awaited.push(Awaited { index, value, asked, until: tokio::time::Instant::now() + arguments.timeout });
            }
            Err(error) => outcomes.push(Outcome::Not(usercert_operator_controller::chain(&error))),
        }
        progress.tell(|| format!("asked for {} of {}", index + 1, objects.len()));
    }
    if arguments.wait {
        wait(cluster, session, &objects, awaited, &mut outcomes).await;
    }
    Ok(answer(&objects, &outcomes, session))
}

/// Why no renewal is asked for: it would not be carried out.
fn obstacle(object: &Certificate, now: Timestamp) -> Option<String> {
    let status = object.status.clone().unwrap_or_default();
    if let Some(unreadable) = object.unreadable() {
        return Some(format!("{unreadable}: correct what stands there"));
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Some("the object is being deleted".to_owned());
    }
    if object.spec.suspend {
        return Some("the object is suspended: resume it first (kubectl usercert resume)".to_owned());
    }
    let asked = object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(RENEW_REQUESTED_ANNOTATION));
    if let Some(until) = next_forced_renewal(&status, now) {
        return Some(format!("five renewals were forced within an hour: ask again after {until}"));
    }
    let is_asked = asked.filter(|asked| !asked.is_empty() && Some(*asked) != status.renew_request_handled.as_ref());
    is_asked.map(|asked| {
        format!(
            "a renewal was asked for at {asked} and is not carried out yet: kubectl usercert why {} tells",
            object.name_any()
        )
    })
}

/// Looks at the objects until each has its answer, or its time is over.
async fn wait(
    cluster: &Cluster,
    session: &Session,
    objects: &[Certificate],
    mut awaited: Vec<Awaited>,
    outcomes: &mut [Outcome],
) {
    let (all, mut progress) = (awaited.len(), Progress::new(&session.terminal));
    while !awaited.is_empty() {
        tokio::time::sleep(LOOK).await;
        let mut left = Vec::new();
        for waiting in awaited {
            let object = &objects[waiting.index];
            let found = certificate_of(cluster, &object.namespace().unwrap_or_default(), &object.name_any()).await;
            let outcome = match &found {
                Ok(found) => came(found, &waiting.value, waiting.asked),
                Err(CliError::NotFound(_)) => Some(Outcome::Not("the object was deleted".to_owned())),
                // It may be answered the next time.
                Err(_) => None,
            };
            let is_late = tokio::time::Instant::now() >= waiting.until;
            match (outcome, found) {
                (Some(outcome), _) => outcomes[waiting.index] = outcome,
                (None, found) if is_late => outcomes[waiting.index] = Outcome::Not(late(found.as_ref())),
                (None, _) => left.push(waiting),
            }
        }
        awaited = left;
        progress.tell(|| format!("{} of {all} renewals are carried out or refused", all - awaited.len()));
    }
}

/// What came of the request; `None` if nothing yet.
fn came(object: &Certificate, value: &str, asked: Timestamp) -> Option<Outcome> {
    let status = object.status.as_ref()?;
    if status.renew_request_handled.as_deref() == Some(value) {
        return Some(Outcome::Renewed(status.serial_number.clone().unwrap_or_default()));
    }
    // A failure of before counts only once the operator has looked again, which its time tells.
    let failure = status.failure.as_ref().filter(|failure| failure.last_time.0 >= truncated_to_second(asked))?;
    Some(Outcome::Not(format!("{}: {}", failure.reason, failure.message)))
}

/// What is known of a renewal that did not come in time.
fn late(found: Result<&Certificate, &CliError>) -> String {
    let conditions = found.ok().and_then(|object| object.status.as_ref()).map_or(&[][..], |status| &status.conditions);
    let is_news = |reason: &str| {
        Reason::from_name(reason).is_some_and(|reason| reason.severity() == Severity::Warning || reason == Reason::AtlasQueued)
    };
    match condition(conditions, ISSUING).filter(|issuing| is_news(&issuing.reason)) {
        Some(issuing) => format!("not in time, {}: {}", issuing.reason, issuing.message),
        None => "not in time: see that the operator runs (kubectl usercert check); the request stands".to_owned(),
    }
}

fn answer(objects: &[Certificate], outcomes: &[Outcome], session: &Session) -> Answer {
    let mut table = Table::new(["NAMESPACE", "NAME", "RESULT"]);
    for (object, outcome) in objects.iter().zip(outcomes) {
        let (words, mood) = match outcome {
            Outcome::WouldAsk => ("would be asked for".to_owned(), Mood::Plain),
            Outcome::Asked => ("asked for".to_owned(), Mood::Good),
            Outcome::Renewed(serial_number) => (format!("renewed: certificate {serial_number}"), Mood::Good),
            Outcome::Not(why) => (format!("not: {why}"), Mood::Bad),
        };
        table.push([object.namespace().unwrap_or_default().into(), object.name_any().into(), Cell::new(words, mood)]);
    }
    let left_out = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Not(_))).count();
    let sum = format!("\n{}, {left_out} not renewed\n", count(objects.len(), "certificate"));
    let exit = if left_out == 0 { Exit::Good } else { Exit::Attention };
    Answer::new(table.render(&session.terminal) + if objects.len() > 1 { &sum } else { "" }, exit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn object(metadata: &Value, suspend: bool, status: &Value) -> Certificate {
        let mut object = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "namespace": "shop", "name": "orders", "uid": "u" },
            "spec": { "username": "orders", "issuerRef": { "name": "atlas" }, "suspend": suspend },
            "status": status,
        });
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        serde_json::from_value(object).map_or_else(|_| unreachable!(), std::convert::identity)
    }

    fn asked(value: &str) -> Value {
        json!({ "annotations": { RENEW_REQUESTED_ANNOTATION: value } })
    }

    #[rstest]
    #[case::nothing_is_in_the_way(json!({}), false, json!({}), None)]
    #[case::suspended(json!({}), true, json!({}), Some("is suspended"))]
    #[case::being_deleted(json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }), false, json!({}), Some("being deleted"))]
    #[case::asked_for_already(asked("1"), false, json!({}), Some("was asked for at 1"))]
    #[case::answered_before(asked("1"), false, json!({ "renewRequestHandled": "1" }), None)]
    #[case::five_within_the_hour(json!({}), false, json!({ "forcedRenewals": vec!["2025-12-31T23:30:00Z"; 5] }), Some("ask again after 2026-01-01T00:30:00Z"))]
    fn what_would_not_be_carried_out_is_not_asked_for(
        #[case] metadata: Value,
        #[case] suspend: bool,
        #[case] status: Value,
        #[case] expected: Option<&str>,
    ) {
        let found = obstacle(&object(&metadata, suspend, &status), at(0));
        match (&found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            _ => unreachable!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_request_is_answered_by_its_value_or_by_a_failure_that_came_after_it() {
        let failure = |second: i64| {
            let time = at(second).to_string();
            json!({ "failure": { "count": 1, "reason": "AtlasUnavailable", "message": "no", "lastTime": time, "nextAttempt": time, "inputs": "" } })
        };
        let came = |status: Value| came(&object(&json!({}), false, &status), "now", at(10));
        assert_eq!(came(json!({})), None);
        assert_eq!(came(json!({ "renewRequestHandled": "before" })), None);
        assert_eq!(came(json!({ "renewRequestHandled": "now", "serialNumber": "0A" })), Some(Outcome::Renewed("0A".into())));
        assert_eq!(came(failure(9)), None, "it is older");
        assert_eq!(came(failure(10)), Some(Outcome::Not("AtlasUnavailable: no".into())));
    }

    #[test]
    fn each_certificate_is_told() {
        let objects = [object(&json!({}), false, &json!({})), object(&json!({ "name": "bills" }), true, &json!({}))];
        let session = Session { terminal: crate::terminal::Terminal::none(), clock: std::sync::Arc::new(|| at(0)) };
        let said = answer(&objects, &[Outcome::Renewed("0A".into()), Outcome::Not("the object is suspended".into())], &session);
        assert_eq!(said.exit, Exit::Attention);
        let expected = "\
NAMESPACE   NAME     RESULT
shop        orders   renewed: certificate 0A
shop        bills    not: the object is suspended

2 certificates, 1 not renewed
";
        assert_eq!(said.text(), expected);
    }
}
