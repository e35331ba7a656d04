//! What became of each certificate that a run is to renew: pure functions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;
use usercert_operator_core::{
    api::{ISSUING, Reason, Severity, condition, names::RENEW_REQUESTED_ANNOTATION},
    decide::{FORCED_IN_AN_HOUR, next_forced_renewal, renew_request},
};

use crate::{
    arguments::Form,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::{Cell, Table},
    terminal::Mood,
    text::count,
    verbs::{
        objects::Certificate,
        state::{not_understood, to_correct},
    },
};

/// What became of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The API server would take the request.
    WouldAsk,
    /// It was asked for.
    Asked,
    /// A new certificate is in the Secret: its serial number.
    Renewed(String),
    /// It was not asked for: why.
    Left(String),
    /// The API server did not let it be asked for, or could not be asked: why.
    Refused(String),
    /// Whether it was asked for is not known: why, and what asks once more without a second certificate.
    Unknown(String),
    /// It was asked for, and refused by the issuer or did not come: why.
    Failed(String),
}

impl Outcome {
    /// There is no object any more.
    pub(super) fn deleted() -> Self {
        Self::Left("the object was deleted".to_owned())
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::WouldAsk => "would be asked for".to_owned(),
            Self::Asked => "asked for".to_owned(),
            Self::Renewed(serial_number) => format!("renewed: certificate {serial_number}"),
            Self::Left(why) | Self::Refused(why) | Self::Failed(why) => format!("not: {why}"),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }

    const fn mood(&self) -> Mood {
        match self {
            Self::WouldAsk => Mood::Plain,
            Self::Asked | Self::Renewed(_) => Mood::Good,
            Self::Left(_) | Self::Refused(_) | Self::Unknown(_) | Self::Failed(_) => Mood::Bad,
        }
    }

    /// For programs.
    const fn name(&self) -> &'static str {
        match self {
            Self::WouldAsk => "WouldAsk",
            Self::Asked => "Asked",
            Self::Renewed(_) => "Renewed",
            Self::Left(_) => "Left",
            Self::Refused(_) => "Refused",
            Self::Unknown(_) => "Unknown",
            Self::Failed(_) => "Failed",
        }
    }

    const fn is_not_renewed(&self) -> bool {
        self.is_failure() || matches!(self, Self::Left(_))
    }

    const fn is_failure(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unknown(_) | Self::Failed(_))
    }
}

/// One certificate in the answer for programs.
#[derive(Debug, Serialize)]
struct Told {
    namespace: String,
    name: String,
    result: &'static str,
    message: String,
}

/// The answer for programs.
#[derive(Debug, Serialize)]
struct ToldRun<'a> {
    /// What continues the run: `--continue`.
    value: &'a str,
    certificates: Vec<Told>,
}

/// What has become of the object since this run began; `None` if the run has not come to it. `began`: when, if this continues the run. A
/// certificate that is younger is what the run asks for, whoever asked for it.
pub(super) fn of_this_run(object: &Certificate, value: &str, began: Option<Timestamp>) -> Option<Outcome> {
    let status = object.status.as_ref();
    let is_handled = status.and_then(|status| status.renew_request_handled.as_deref()) == Some(value);
    let issued = status.and_then(|status| status.history.first()).map(|issued| issued.recorded_at.0);
    if is_handled || issued.zip(began).is_some_and(|(issued, began)| issued > began) {
        return Some(renewed(object));
    }
    (renew_request(object).as_deref() == Some(value)).then_some(Outcome::Asked)
}

/// A certificate that came after the object was listed, whoever asked for it: a further one would be one too many.
pub(super) fn renewed_since(listed: &Certificate, object: &Certificate) -> Option<Outcome> {
    let serial_number = |object: &Certificate| object.status.as_ref()?.serial_number.clone();
    (serial_number(object).is_some() && serial_number(object) != serial_number(listed)).then(|| renewed(object))
}

fn renewed(object: &Certificate) -> Outcome {
    Outcome::Renewed(object.status.as_ref().and_then(|status| status.serial_number.clone()).unwrap_or_default())
}

/// How many of the last answers are failures, in a row. What was left out, or has no answer yet, is none.
pub(super) fn failures_in_a_row<'a>(outcomes: impl DoubleEndedIterator<Item = &'a Outcome>) -> usize {
    let answers = outcomes.rev().filter(|outcome| outcome.is_failure() || matches!(outcome, Outcome::Renewed(_)));
    answers.take_while(|outcome| outcome.is_failure()).count()
}

/// Why no renewal is asked for: it would not be carried out.
pub(super) fn obstacle(object: &Certificate, now: Timestamp) -> Option<String> {
    let status = object.status.clone().unwrap_or_default();
    if let Some(unreadable) = object.unreadable() {
        return Some(not_understood(object).unwrap_or_else(|| to_correct(unreadable)));
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Some("the object is being deleted".to_owned());
    }
    if object.spec.suspend {
        return Some("the object is suspended: resume it first (kubectl usercert resume)".to_owned());
    }
    if let Some(until) = next_forced_renewal(&status, now) {
        return Some(format!("{FORCED_IN_AN_HOUR} renewals were forced within an hour: ask again after {until}"));
    }
    renew_request(object).filter(|asked| Some(asked) != status.renew_request_handled.as_ref()).map(|asked| {
        format!(
            "a renewal was asked for at {asked} and is not carried out yet: kubectl usercert why {} tells",
            object.name_any()
        )
    })
}

/// When the last attempt of the object failed.
pub(super) fn last_failure(object: &Certificate) -> Option<Timestamp> {
    Some(object.status.as_ref()?.failure.as_ref()?.last_time.0)
}

/// When the annotation got its present value, by the API server's clock; `None` if that is not known.
pub(super) fn requested_at(owners: &[ManagedFieldsEntry]) -> Option<Timestamp> {
    let field = format!("f:{RENEW_REQUESTED_ANNOTATION}");
    let has_it = |fields: &Value| fields.pointer("/f:metadata/f:annotations").is_some_and(|found| found.get(&field).is_some());
    let owners = owners.iter().filter(|owner| owner.fields_v1.as_ref().is_some_and(|fields| has_it(&fields.0)));
    owners.filter_map(|owner| Some(owner.time.as_ref()?.0)).max()
}

/// What came of the request; `None` if nothing yet. A failure that was there before is no answer, whatever the clocks say.
pub(super) fn came(object: &Certificate, value: &str, failed_before: Option<Timestamp>) -> Option<Outcome> {
    let status = object.status.as_ref()?;
    if status.renew_request_handled.as_deref() == Some(value) {
        return Some(renewed(object));
    }
    let failure = status.failure.as_ref().filter(|failure| Some(failure.last_time.0) != failed_before)?;
    Some(Outcome::Failed(format!("{}: {}", failure.reason, failure.message)))
}

/// What is known of a renewal that did not come in time.
pub(super) fn late(object: &Certificate) -> String {
    let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let is_news = |reason: &str| {
        Reason::from_name(reason).is_some_and(|reason| reason.severity() == Severity::Warning || reason == Reason::AtlasQueued)
    };
    match condition(conditions, ISSUING).filter(|issuing| is_news(&issuing.reason)) {
        Some(issuing) => format!("not in time, {}: {}", issuing.reason, issuing.message),
        None => "not in time: see that the operator runs (kubectl usercert check); the request stands".to_owned(),
    }
}

/// The answer for people or for programs.
pub(super) fn answer(
    objects: &[Certificate],
    outcomes: &[Outcome],
    value: &str,
    session: &Session,
    form: Form,
) -> Result<Answer, CliError> {
    let all = || objects.iter().zip(outcomes);
    let left_out = outcomes.iter().filter(|outcome| outcome.is_not_renewed()).count();
    let exit = if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_) | Outcome::Unknown(_))) {
        Exit::CouldNotAsk
    } else if left_out > 0 {
        Exit::Attention
    } else {
        Exit::Good
    };
    let certificates = all().map(|(object, outcome)| Told {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        result: outcome.name(),
        message: outcome.words(),
    });
    if let Some(text) = for_programs(&ToldRun { value, certificates: certificates.collect() }, form)? {
        return Ok(Answer::new(text, exit));
    }
    let mut table = Table::new(["NAMESPACE", "NAME", "RESULT"]);
    for (object, outcome) in all() {
        let namespace = object.namespace().unwrap_or_default();
        table.push([namespace.into(), object.name_any().into(), Cell::new(outcome.words(), outcome.mood())]);
    }
    let sum = format!("\n{}, {left_out} not renewed\n", count(objects.len(), "certificate"));
    Ok(Answer::new(table.render(&session.terminal) + if objects.len() > 1 { &sum } else { "" }, exit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

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
    #[case::answered_before_by_its_beginning(asked(&"1".repeat(200)), false, json!({ "renewRequestHandled": "1".repeat(128) }), None)]
    #[case::five_within_the_hour(json!({}), false, json!({ "forcedRenewals": vec!["2025-12-31T23:30:00Z"; 5] }), Some("5 renewals were forced within an hour: ask again after 2026-01-01T00:30:00Z"))]
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
        let came = |status: Value| came(&object(&json!({}), false, &status), "now", Some(at(10)));
        assert_eq!(came(json!({})), None);
        assert_eq!(came(json!({ "renewRequestHandled": "before" })), None);
        assert_eq!(came(json!({ "renewRequestHandled": "now", "serialNumber": "0A" })), Some(Outcome::Renewed("0A".into())));
        assert_eq!(came(failure(10)), None, "it was there before");
        assert_eq!(came(failure(11)), Some(Outcome::Failed("AtlasUnavailable: no".into())));
    }

    #[test]
    fn a_run_that_is_continued_asks_for_nothing_twice() {
        let of = |metadata: &Value, status: &Value| of_this_run(&object(metadata, false, status), "run", None);
        assert_eq!(of(&json!({}), &json!({})), None);
        assert_eq!(of(&asked("other"), &json!({ "renewRequestHandled": "other" })), None);
        assert_eq!(of(&asked("run"), &json!({})), Some(Outcome::Asked));
        let done = json!({ "renewRequestHandled": "run", "serialNumber": "0A" });
        assert_eq!(of(&asked("run"), &done), Some(Outcome::Renewed("0A".into())));
        // Another renewal came after this run had asked, or before its turn.
        let issued = |second: i64| {
            let issued =
                json!([{ "serialNumber": "0B", "reason": "RenewalRequested", "recordedAt": at(second), "notAfter": at(9999) }]);
            let status = json!({ "renewRequestHandled": "other", "serialNumber": "0B", "history": issued });
            of_this_run(&object(&asked("other"), false, &status), "run", Some(at(5)))
        };
        assert_eq!((issued(5), issued(6)), (None, Some(Outcome::Renewed("0B".into()))));
    }

    #[test]
    fn a_certificate_that_came_since_the_list_is_not_renewed_once_more() {
        let of = |serial_number: Option<&str>| object(&json!({}), false, &json!({ "serialNumber": serial_number }));
        assert_eq!(renewed_since(&of(Some("0A")), &of(Some("0A"))), None);
        assert_eq!(renewed_since(&of(Some("0A")), &of(None)), None, "its Secret was deleted");
        for listed in [Some("0A"), None] {
            assert_eq!(renewed_since(&of(listed), &of(Some("0B"))), Some(Outcome::Renewed("0B".into())), "{listed:?}");
        }
    }

    #[test]
    fn failures_in_a_row_end_with_a_success_and_what_was_left_out_is_none() {
        let (failed, left) = (|| Outcome::Failed("no".into()), || Outcome::Left("suspended".into()));
        assert_eq!(failures_in_a_row([].iter()), 0);
        assert_eq!(
            failures_in_a_row([failed(), Outcome::Renewed("0A".into()), failed(), left(), Outcome::Asked, failed()].iter()),
            2
        );
        let refused = || Outcome::Refused("no".into());
        assert_eq!(failures_in_a_row([refused(), failed(), refused()].iter()), 3);
        assert_eq!(failures_in_a_row([failed(), Outcome::Renewed("0A".into())].iter()), 0);
    }

    #[test]
    fn the_api_server_tells_when_the_annotation_was_set() {
        let owner = |manager: &str, second: i64, annotation: &str| {
            let fields = json!({ "f:metadata": { "f:annotations": { ".": {}, format!("f:{annotation}"): {} } } });
            json!({ "manager": manager, "operation": "Update", "time": at(second).to_string(), "fieldsType": "FieldsV1", "fieldsV1": fields })
        };
        let owners = json!([owner("kubectl-usercert", 5, RENEW_REQUESTED_ANNOTATION), owner("argocd", 9, "team")]);
        let owners: Vec<ManagedFieldsEntry> = serde_json::from_value(owners).unwrap();
        assert_eq!(requested_at(&owners), Some(at(5)));
        assert_eq!(requested_at(&owners[1..]), None);
    }

    #[test]
    fn each_certificate_is_told() -> Result<(), CliError> {
        let objects = [object(&json!({}), false, &json!({})), object(&json!({ "name": "bills" }), true, &json!({}))];
        let session = Session { terminal: crate::terminal::Terminal::none(), clock: std::sync::Arc::new(|| at(0)) };
        let outcomes = [Outcome::Renewed("0A".into()), Outcome::Left("the object is suspended".into())];
        let said = answer(&objects, &outcomes, "run", &session, Form::Table)?;
        assert_eq!(said.exit, Exit::Attention);
        let expected = "\
NAMESPACE   NAME     RESULT
shop        orders   renewed: certificate 0A
shop        bills    not: the object is suspended

2 certificates, 1 not renewed
";
        assert_eq!(said.text(), expected);
        let as_json = answer(&objects, &outcomes, "run", &session, Form::Json)?.text();
        let as_json: Value = serde_json::from_str(&as_json).unwrap();
        assert_eq!((&as_json["value"], &as_json["certificates"][1]["result"]), (&json!("run"), &json!("Left")));
        for (outcomes, exit) in [
            ([Outcome::Asked, Outcome::Renewed("0A".into())], Exit::Good),
            ([Outcome::Asked, Outcome::Failed("no".into())], Exit::Attention),
            ([Outcome::Refused("no".into()), Outcome::Failed("no".into())], Exit::CouldNotAsk),
            ([Outcome::Refused("no".into()), Outcome::Renewed("0A".into())], Exit::CouldNotAsk),
            ([Outcome::Unknown("no".into()), Outcome::Renewed("0A".into())], Exit::CouldNotAsk),
        ] {
            assert_eq!(answer(&objects, &outcomes, "run", &session, Form::Table)?.exit, exit, "{outcomes:?}");
        }
        Ok(())
    }
}
