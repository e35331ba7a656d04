//! `why`: what is decided about one certificate, and every check behind it.

mod render;
mod told;

use std::collections::BTreeMap;

use jiff::Timestamp;
use usercert_operator_core::{
    api::{DatabaseUserCertificate, ISSUING, READY, Reason, Severity, condition},
    decide::{Check, Decision, Explanation, Observed, Verdict, explain, next_status, ready_certificate},
};

use self::{
    render::render,
    told::{Outcome, ToldCheck, Why},
};
use super::{
    leader::{Clocks, Leader, leader},
    objects::{Certificate, certificate},
    observe::{Unseen, observe},
    state::told,
};
use crate::{
    arguments::WhyArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    terminal::Terminal,
    text::relative,
};

/// Answers `why`.
pub(super) async fn why(cluster: &Cluster, session: &Session, arguments: &WhyArguments) -> Result<Answer, CliError> {
    let object = certificate(cluster, &arguments.name).await?;
    let why = asked(cluster, session, &object, arguments.read_secret).await?;
    let exit = if why.needs_attention { Exit::Attention } else { Exit::Good };
    let text = for_programs(&why, arguments.output)?.unwrap_or_else(|| render(&why, &session.terminal));
    Ok(Answer::new(text, exit))
}

async fn asked(cluster: &Cluster, session: &Session, object: &Certificate, read_secret: bool) -> Result<Why, CliError> {
    let seen = observe(cluster, object, read_secret).await?;
    let leader = leader(cluster, session.now()).await;
    Ok(put_together(object, seen.observed.as_ref(), seen.unseen, leader, session.now()))
}

/// The answer as text, for a report.
pub(super) async fn told_in_words(cluster: &Cluster, session: &Session, object: &Certificate) -> Result<String, CliError> {
    let why = asked(cluster, session, object, false).await?;
    Ok(render(&why, &Terminal::none()))
}

fn put_together(
    object: &Certificate,
    observed: Option<&Observed>,
    unseen: Unseen,
    (leader, clocks): (Leader, Clocks),
    now: Timestamp,
) -> Why {
    let clocks = clocks.faults();
    let explanation = observed.map(|observed| explain(object, observed, now));
    // What settles it may be only presumed.
    let is_told =
        |explanation: &&Explanation| explanation.settled_by().is_none_or(|check| !unseen.presumed.contains_key(&check));
    let told_explanation = explanation.as_ref().filter(is_told);
    let decided =
        observed.zip(told_explanation).map(|(observed, explanation)| said(object, observed, &explanation.decision, now));
    let told = told(object, now);
    let is_warning = decided.as_ref().is_some_and(|(reason, _)| reason.severity() == Severity::Warning);
    let held = told_explanation.is_some_and(|explanation| {
        matches!(explanation.decision, Decision::Wait { .. } | Decision::Block { .. }) && is_warning
    });
    Why {
        namespace: told.namespace.clone(),
        name: told.name.clone(),
        decision: told_explanation.map(|explanation| outcome(&explanation.decision)),
        reason: decided.as_ref().map(|(reason, _)| reason.to_string()),
        message: decided.as_ref().map(|(_, message)| message.clone()),
        in_service: observed.map(|observed| in_service(object, observed, now)),
        checks: explanation.as_ref().map(|explanation| checks(explanation, &unseen.presumed)).unwrap_or_default(),
        operator_says: operator_says(object, now),
        differs: decided.and_then(|(reason, _)| difference(object, reason)),
        needs_attention: told.state.needs_attention() || held || matches!(leader, Leader::Gone(_)) || !clocks.is_empty(),
        leader,
        clocks,
        notes: unseen.notes,
    }
}

/// Reason and message, as the operator would write them into the condition `Issuing`.
fn said(object: &DatabaseUserCertificate, observed: &Observed, decision: &Decision, now: Timestamp) -> (Reason, String) {
    // The process that wrote the claim may be waiting for the answer.
    if let (Decision::CountLostClaim | Decision::Await, Some(claim)) = (decision, &observed.status.issuance) {
        let process = claim.process.as_ref().map(|process| format!(" by {process}")).unwrap_or_default();
        let since = relative(claim.since.0, now);
        let message = format!(
            "a certificate was requested{process} {since}, and only the operator's memory tells whether its answer is on the way"
        );
        return (Reason::from_name(&claim.reason).unwrap_or(Reason::NoCertificate), message);
    }
    if let (Decision::LookForLost, Some(failure)) = (decision, &observed.status.failure) {
        return (Reason::AtlasAnswerLost, failure.message.clone());
    }
    let status = next_status(object, observed, decision, now);
    let issuing = condition(&status.conditions, ISSUING);
    let reason = issuing.and_then(|issuing| Reason::from_name(&issuing.reason)).unwrap_or(Reason::Issued);
    (reason, issuing.map(|issuing| issuing.message.clone()).unwrap_or_default())
}

/// What follows from the decision.
fn outcome(decision: &Decision) -> String {
    match decision {
        Decision::Await => "the operator looks at the issuer first".to_owned(),
        Decision::Keep { renewal_time, .. } => format!("the certificate is kept until {renewal_time}, and renewed then"),
        Decision::Repair { .. } => "the Secret is put right, without a new certificate".to_owned(),
        Decision::LookUpUser { .. } => {
            "a new certificate is wanted: the operator asks Atlas about the database user, tries the write of the Secret, waits for its turn in the Atlas project, and then asks for the certificate".to_owned()
        }
        Decision::Queue { .. } => "a new certificate is wanted, and others of the Atlas project go first".to_owned(),
        Decision::AwaitKey => "a new certificate is wanted, and its key is being made".to_owned(),
        Decision::Issue { .. } => "a new certificate is issued now".to_owned(),
        Decision::Adopt => "the Secret is taken over as it is".to_owned(),
        Decision::ApplyDeletionPolicy => "the owner of the Secret is changed, as deletionPolicy asks".to_owned(),
        Decision::Suspend => "nothing is done, for the object is suspended".to_owned(),
        Decision::Save => "a certificate that was issued is written to the Secret".to_owned(),
        Decision::CountLostClaim => {
            "a certificate was requested, and the Secret does not hold it: if it does not come, it is counted as lost"
                .to_owned()
        }
        Decision::LookForLost => {
            "a certificate was counted as lost: the operator asks Atlas whether it lists the certificate now".to_owned()
        }
        Decision::Wait { until, .. } => format!("nothing is done before {until}"),
        Decision::Block { .. } => "nothing is done until something changes".to_owned(),
    }
}

fn in_service(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> String {
    match ready_certificate(object, observed, now) {
        Ok(certificate) => {
            let until = relative(certificate.not_after, now);
            format!("yes: certificate {} expires {until}, at {}", certificate.serial_number, certificate.not_after)
        }
        Err((reason, message)) => format!("no ({reason}): {message}"),
    }
}

/// Whether the operator is at it, and no person has to do anything.
const fn is_under_way(decision: &Decision) -> bool {
    matches!(decision, Decision::Await | Decision::LookUpUser { .. } | Decision::CountLostClaim | Decision::LookForLost)
}

fn checks(explanation: &Explanation, presumed: &BTreeMap<Check, &'static str>) -> Vec<ToldCheck> {
    let of = |(check, verdict): &(Check, Verdict)| {
        let operator = check.known_to_operator_alone();
        let unread = presumed.get(check).filter(|_| matches!(verdict, Verdict::Passed | Verdict::Settles));
        if let Some(why) = unread {
            return ToldCheck { statement: check.statement(), result: Outcome::NotLookedAt, note: Some((*why).to_owned()) };
        }
        let (result, note) = match (verdict, operator) {
            (Verdict::Needs(reason), _) => (Outcome::NeedsCertificate, Some(format!("a new certificate is needed: {reason}"))),
            // To ask Atlas is a step of the operator, and none that a person has to take.
            (Verdict::Settles, Some(operator)) if is_under_way(&explanation.decision) => {
                (Outcome::OnlyTheOperatorKnows, Some(operator.to_owned()))
            }
            (Verdict::Settles, _) => (Outcome::Settles, None),
            (Verdict::Passed, Some(operator))
                if !matches!(check, Check::SecretComplete | Check::NoOpenClaim | Check::NothingLookedFor) =>
            {
                (Outcome::OnlyTheOperatorKnows, Some(operator.to_owned()))
            }
            (Verdict::Passed, _) => (Outcome::Passed, None),
            (Verdict::NotReached, _) => (Outcome::NotReached, None),
        };
        ToldCheck { statement: check.statement(), result, note }
    };
    explanation.checks.iter().map(of).collect()
}

fn operator_says(object: &DatabaseUserCertificate, now: Timestamp) -> Vec<String> {
    let Some(status) = &object.status else { return Vec::new() };
    let of = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        let since = relative(condition.last_transition_time.0, now);
        format!("{}={} {} ({since}): {}", condition.type_, condition.status, condition.reason, condition.message)
    };
    status.conditions.iter().map(of).collect()
}

/// A note if the operator says another thing than what is decided here.
fn difference(object: &DatabaseUserCertificate, reason: Reason) -> Option<String> {
    let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let issuing = condition(conditions, ISSUING)?;
    let ready = condition(conditions, READY)?;
    let says_same = [&issuing.reason, &ready.reason].into_iter().any(|said| said == reason.as_str());
    (!says_same).then(|| {
        format!(
            "the operator says {} where {reason} follows from what can be read: it knows more (its memory, the issuer's credentials, Atlas), or has not looked since",
            issuing.reason
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;
    use usercert_operator_core::decide::{Allow, IssuerFacts, IssuerState, IssuingMethod, SecretState};

    use super::*;

    fn object() -> Certificate {
        serde_json::from_value(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "namespace": "shop", "name": "orders", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "username": "orders", "issuerRef": { "kind": "CertificateIssuer", "name": "atlas" } },
            "status": { "observedGeneration": 1, "conditions": [
                { "type": "Ready", "status": "False", "reason": "IssuerNotFound", "message": "create it", "lastTransitionTime": "2025-12-31T23:00:00Z" },
                { "type": "Issuing", "status": "False", "reason": "IssuerNotFound", "message": "create it", "lastTransitionTime": "2025-12-31T23:00:00Z" },
            ] },
        }))
        .map_or_else(|_| unreachable!(), std::convert::identity)
    }

    fn observed(issuer: IssuerState) -> Observed {
        let status = object().status.clone().unwrap();
        Observed { issuer, secret: SecretState::Absent, namespace: "shop".into(), status, ..Observed::default() }
    }

    fn atlas() -> IssuerState {
        IssuerState::Usable(Box::new(IssuerFacts {
            method: IssuingMethod::Mint { months_until_expiration: 3 },
            allow: Allow::default(),
            username: None,
            identity: "atlas/1".into(),
            version: "1".into(),
        }))
    }

    fn put(observed: Option<&Observed>) -> Why {
        put_presuming(observed, &[])
    }

    fn put_presuming(observed: Option<&Observed>, presumed: &[(Check, &'static str)]) -> Why {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let unseen = Unseen { notes: vec!["a note".into()], presumed: presumed.iter().copied().collect() };
        put_together(&object(), observed, unseen, (Leader::Leads("pod_1".into()), Clocks::default()), now)
    }

    #[test]
    fn the_check_that_settles_it_is_marked_and_those_after_it_are_not_reached() {
        let why = put(Some(&observed(IssuerState::Missing)));
        assert!(why.needs_attention);
        let text = render(&why, &Terminal::none());
        for expected in [
            "  Decision: nothing is done until something changes\n",
            "  Reason: IssuerNotFound: create the CertificateIssuer atlas, or correct spec.issuerRef\n",
            "  ok  The object is not suspended\n",
            "  NO  The issuer exists and can be used\n",
            "  -   The issuer serves this namespace\n",
            "  ?   No certificate waits in the operator's memory for its Secret (only the operator's memory tells)\n",
            "  In service: no (NoCertificate): there is no certificate yet\n",
            "  Ready=False IssuerNotFound (60m ago): create it\n",
            "  pod_1 leads\n",
            "Not looked at\n  a note\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert_eq!(why.differs, None);
    }

    #[test]
    fn what_only_the_operator_can_ask_is_no_refusal_and_a_difference_is_told() {
        let why = put(Some(&observed(atlas())));
        let text = render(&why, &Terminal::none());
        assert!(text.contains("  new There is a certificate (a new certificate is needed: NoCertificate)\n"), "{text}");
        assert!(text.contains("  ?   Atlas has the database user"), "{text}");
        assert!(!text.contains("  NO "), "{text}");
        assert!(why.differs.is_some_and(|differs| differs.contains("IssuerNotFound")));
    }

    #[test]
    fn a_request_under_way_is_no_loss() {
        let claim =
            json!({ "id": "1", "reason": "RenewalDue", "attempt": 1, "since": "2025-12-31T23:59:50Z", "process": "pod-1_a" });
        let mut observed = observed(atlas());
        observed.status.issuance = serde_json::from_value(claim).unwrap();
        let text = render(&put(Some(&observed)), &Terminal::none());
        assert!(text.contains("Reason: RenewalDue: a certificate was requested by pod-1_a 10s ago"), "{text}");
        assert!(text.contains("  ?   No request for a certificate is without its answer") && !text.contains("  NO "), "{text}");
    }

    #[test]
    fn a_certificate_that_counts_as_lost_is_asked_about_before_the_next() {
        let lost = json!({
            "count": 1, "reason": "AtlasAnswerLost", "message": "the operator stopped", "askedByIssuer": false, "inputs": "", "cause": "NoCertificate",
            "lastTime": "2025-12-31T23:59:00Z", "nextAttempt": "2026-01-01T00:05:00Z",
            "unlisted": { "nextQuestion": "2025-12-31T23:59:15Z", "claim": {
                "id": "1", "reason": "NoCertificate", "attempt": 1, "since": "2025-12-31T23:58:50Z", "process": "pod-1_a",
                "user": { "key": "user", "listed": { "serialNumbers": [], "othersUntil": null } } } },
        });
        let mut observed = observed(atlas());
        observed.status.failure = serde_json::from_value(lost).unwrap();
        let text = render(&put(Some(&observed)), &Terminal::none());
        assert!(text.contains("Decision: a certificate was counted as lost: the operator asks Atlas"), "{text}");
        assert!(text.contains("Reason: AtlasAnswerLost: the operator stopped"), "{text}");
        assert!(
            text.contains("  ?   No certificate that was counted as lost is looked for") && !text.contains("  NO "),
            "{text}"
        );
        observed.status.failure.as_mut().unwrap().unlisted = None;
        let text = render(&put(Some(&observed)), &Terminal::none());
        assert!(text.contains("  NO  No wait after a failure is under way"), "{text}");
    }

    #[test]
    fn without_the_right_to_look_at_the_secret_only_the_operator_is_quoted() {
        let why = put(None);
        let text = render(&why, &Terminal::none());
        assert!(text.contains("it cannot be told from what you may read") && !text.contains("Checks"), "{text}");
        assert!(text.contains("Ready=False IssuerNotFound"), "{text}");
    }

    #[test]
    fn what_rests_on_what_was_not_read_is_neither_passed_nor_refused() {
        let presumed = [(Check::IssuerUsable, "you may not get the issuer"), (Check::SecretIsOurs, "it was not read")];
        let text = render(&put_presuming(Some(&observed(atlas())), &presumed), &Terminal::none());
        assert!(text.contains("  ?   The issuer exists and can be used (you may not get the issuer)\n"), "{text}");
        assert!(text.contains("Decision: a new certificate is wanted"), "{text}");
        let why = put_presuming(Some(&observed(IssuerState::Missing)), &presumed);
        let text = render(&why, &Terminal::none());
        assert!(text.contains("it cannot be told from what you may read") && !text.contains("  NO "), "{text}");
        assert!(why.reason.is_none() && text.contains("  -   The issuer serves this namespace"), "{text}");
    }
}
