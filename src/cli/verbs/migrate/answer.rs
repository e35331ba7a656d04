//! What `migrate` says: what it would do, and what has become of it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use usercert_operator_core::api::{
    ISSUING, Reason, condition,
    names::{NOT_AFTER_ANNOTATION, SERIAL_NUMBER_ANNOTATION},
};

use super::{
    obstacles::{Consent, Obstacle},
    prepare::Takeover,
};
use crate::{
    arguments::{Acceptance, Form},
    exit::{Answer, CliError, Exit, for_programs},
    table::Cell,
    terminal::{Mood, Terminal},
    text::{append, paragraph, relative},
    verbs::{
        create::{is_ready, said},
        objects::Certificate,
    },
};

/// A takeover with all that is known before it.
pub(super) struct Plan<'a> {
    pub(super) namespace: &'a str,
    pub(super) secret: &'a str,
    /// The name of the object.
    pub(super) name: &'a str,
    pub(super) takeover: &'a Takeover,
    pub(super) obstacles: &'a [Obstacle],
    pub(super) acceptance: Acceptance,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Outcome {
    /// Nothing was changed, and nothing that is not accepted is in the way.
    WouldTakeOver,
    /// Nothing was changed, and something is in the way.
    InTheWay,
    /// The Secret is the operator's, with the certificate as before.
    TakenOver,
    /// The Secret is the operator's, with a new certificate.
    NewCertificate,
    /// The Secret is the operator's, with the certificate as before, and the operator is not done.
    Unfinished,
    /// The object is created, and not ready.
    NotReady,
}

/// All that is told, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    namespace: &'a str,
    secret: &'a str,
    name: &'a str,
    result: Outcome,
    message: &'a str,
    /// Of the certificate that is taken over.
    serial_number: &'a str,
    subject: String,
    not_after: Timestamp,
    /// Of the certificate that is in the Secret after it, as the object's status has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    present_serial_number: Option<&'a str>,
    /// The object that is created.
    object: &'a Value,
    /// The patch of the Secret.
    mark: &'a Value,
    notes: &'a [String],
    obstacles: Vec<ToldObstacle<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldObstacle<'a> {
    message: &'a str,
    /// The flag that accepts it; absent where it has to be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_by: Option<&'static str>,
    accepted: bool,
}

impl Plan<'_> {
    /// What is in the way and not accepted.
    fn refused(&self) -> impl Iterator<Item = &Obstacle> {
        self.obstacles.iter().filter(|obstacle| !obstacle.is_accepted(self.acceptance))
    }

    /// Refuses a takeover that something is in the way of.
    ///
    /// # Errors
    /// What is in the way and not accepted.
    pub(super) fn check(&self) -> Result<(), CliError> {
        let refused: Vec<String> = self.refused().map(in_one_line).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(CliError::Unusable(format!("nothing was changed: {}", refused.join("; "))))
    }

    /// What would be done, and what is in the way.
    pub(super) fn preview(&self, terminal: &Terminal, now: Timestamp, form: Form) -> Result<Answer, CliError> {
        let way = self.way();
        let (result, exit) = match self.refused().next() {
            None => (Outcome::WouldTakeOver, Exit::Good),
            Some(_) => (Outcome::InTheWay, Exit::Attention),
        };
        let text = match for_programs(&self.told(result, &way, None), form)? {
            Some(text) => text,
            None => self.preview_in_words(&way, terminal, now)?,
        };
        Ok(Answer::new(text, exit))
    }

    /// What to do next. The flags that were given are among it, needed or not, for the object that was shown is that of these flags.
    fn way(&self) -> String {
        let refused: Vec<_> = self.refused().collect();
        let is_needed = |consent| self.obstacles.iter().any(|obstacle| obstacle.consent == Some(consent));
        let flags = Consent::ALL.into_iter().filter(|consent| consent.is_given(self.acceptance) || is_needed(*consent));
        let flags = flags.fold("--yes".to_owned(), |flags, consent| flags + " " + consent.flag());
        if refused.is_empty() {
            return format!("Nothing was changed; the API server would let it be done. Give {flags} to do it.");
        }
        if refused.iter().any(|obstacle| obstacle.consent.is_none()) {
            return "Nothing was changed. Change what is in the way.".to_owned();
        }
        format!("Nothing was changed. Give {flags} to do it all the same.")
    }

    fn preview_in_words(&self, way: &str, terminal: &Terminal, now: Timestamp) -> Result<String, CliError> {
        let words = |text: &str| paragraph(Cell::whole(text).text(), 2, terminal);
        let title = |text: &str| format!("{}\n", terminal.paint(Mood::Title, text));
        let (facts, takeover) = (&self.takeover.facts, self.takeover);
        let mut text = title("What is taken over");
        text.push_str(&words(&format!(
            "the Secret {}/{}, with certificate {} for {}, which expires {}",
            self.namespace,
            self.secret,
            facts.serial_number,
            facts.subject,
            relative(facts.not_after, now)
        )));
        append(&mut text, format_args!("\n{}", title("What is done")));
        text.push_str(&words(&format!(
            "1. the Secret gets the annotations {SERIAL_NUMBER_ANNOTATION} and {NOT_AFTER_ANNOTATION}"
        )));
        text.push_str(&words("2. this object is created, and the operator takes the Secret over for it:"));
        for line in for_programs(&takeover.object, Form::Yaml)?.unwrap_or_default().lines() {
            append(&mut text, format_args!("     {}\n", Cell::whole(line).text()));
        }
        let is_due = self.obstacles.iter().any(|obstacle| obstacle.consent == Some(Consent::NewCertificate));
        let then = if is_due { "then it issues a new certificate" } else { "certificate and key stay" };
        text.push_str(&words(&format!(
            "3. the operator adds the entries and annotations that its Secrets have, and writes the key as PKCS#8; {then}"
        )));
        append(&mut text, format_args!("\n{}", title("To know before")));
        text.extend(takeover.notes.iter().map(|note| words(note)));
        let (accepted, refused): (Vec<&Obstacle>, Vec<&Obstacle>) =
            self.obstacles.iter().partition(|obstacle| obstacle.is_accepted(self.acceptance));
        for (heading, obstacles) in [("Accepted", accepted), ("In the way", refused)] {
            if !obstacles.is_empty() {
                append(&mut text, format_args!("\n{}", title(heading)));
                text.extend(obstacles.iter().map(|obstacle| words(&in_one_line(obstacle))));
            }
        }
        append(&mut text, format_args!("\n{way}\n"));
        Ok(text)
    }

    /// What has become of it.
    pub(super) fn outcome(&self, found: &Certificate, form: Form) -> Result<Answer, CliError> {
        let (namespace, name, secret) = (self.namespace, self.name, self.secret);
        let serial_number = found.status.as_ref().and_then(|status| status.serial_number.as_deref()).unwrap_or_default();
        let taken_over = format!("{namespace}/{name} has taken over the Secret {secret}");
        let (result, message, exit) = if !is_ready(found) {
            (Outcome::NotReady, format!("{namespace}/{name} is created, and not ready: {}", said(found)), Exit::Attention)
        } else if serial_number != self.takeover.facts.serial_number.as_str() {
            let message = format!(
                "{taken_over}, and a new certificate {serial_number} is in it: kubectl usercert why {name} -n {namespace}"
            );
            let exit = if self.acceptance.new_certificate { Exit::Good } else { Exit::Attention };
            (Outcome::NewCertificate, message, exit)
        } else if is_settled(found) {
            (Outcome::TakenOver, format!("{taken_over}, with certificate {serial_number} as before"), Exit::Good)
        } else {
            let issuing = found.status.as_ref().and_then(|status| condition(&status.conditions, ISSUING));
            let why = issuing.map(|issuing| format!("{}: {}", issuing.reason, issuing.message)).unwrap_or_default();
            let message =
                format!("{taken_over}, with certificate {serial_number} as before, and the operator is not done: {why}");
            (Outcome::Unfinished, message, Exit::Attention)
        };
        let text = for_programs(&self.told(result, &message, Some(serial_number)), form)?;
        Ok(Answer::new(text.unwrap_or_else(|| format!("{}\n", Cell::whole(&message).text())), exit))
    }

    fn told<'a>(&'a self, result: Outcome, message: &'a str, present_serial_number: Option<&'a str>) -> Told<'a> {
        let facts = &self.takeover.facts;
        let obstacle = |obstacle: &'a Obstacle| ToldObstacle {
            message: &obstacle.message,
            accepted_by: obstacle.consent.map(Consent::flag),
            accepted: obstacle.is_accepted(self.acceptance),
        };
        Told {
            namespace: self.namespace,
            secret: self.secret,
            name: self.name,
            result,
            message,
            serial_number: facts.serial_number.as_str(),
            subject: facts.subject.to_string(),
            not_after: facts.not_after,
            present_serial_number: present_serial_number.filter(|number| !number.is_empty()),
            object: &self.takeover.object,
            mark: &self.takeover.mark,
            notes: &self.takeover.notes,
            obstacles: self.obstacles.iter().map(obstacle).collect(),
        }
    }
}

/// What is in the way, with the flag that accepts it.
fn in_one_line(obstacle: &Obstacle) -> String {
    match obstacle.consent {
        None => obstacle.message.clone(),
        Some(consent) => format!("{} ({} accepts it)", obstacle.message, consent.flag()),
    }
}

/// Whether the operator has looked at the object, and nothing is left to be done before the renewal.
pub(super) fn is_settled(object: &Certificate) -> bool {
    let issuing = object.status.as_ref().and_then(|status| condition(&status.conditions, ISSUING));
    is_ready(object) && issuing.is_some_and(|issuing| issuing.status == "False" && issuing.reason == Reason::Issued.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::json;
    use usercert_operator_core::api::DatabaseUserCertificate;

    use super::{
        super::prepare::tests::{now, prepared, secret},
        *,
    };

    fn with_plan<T>(obstacles: &[Obstacle], acceptance: Acceptance, look: impl FnOnce(&Plan<'_>) -> T) -> T {
        let takeover = prepared(&secret(None, |_| {}), true).unwrap_or_else(|fault| unreachable!("{fault}"));
        look(&Plan { namespace: "shop", secret: "old", name: "old", takeover: &takeover, obstacles, acceptance })
    }

    fn shown(obstacles: &[Obstacle], acceptance: Acceptance, form: Form) -> Answer {
        with_plan(obstacles, acceptance, |plan| plan.preview(&Terminal::none(), now(), form).unwrap())
    }

    fn change() -> Obstacle {
        Obstacle::change("another CA")
    }

    fn due() -> Obstacle {
        Obstacle::unless(Consent::NewCertificate, "it is due")
    }

    #[test]
    fn the_preview_shows_the_object_and_holds_no_key() {
        let answer = shown(&[], Acceptance::default(), Form::Table);
        let text = answer.text();
        for expected in [
            "for CN=orders, which expires in 81d",
            "kind: DatabaseUserCertificate",
            "Give --yes to do it",
            "it is renewed in",
            "certificate and key stay",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("PRIVATE"), "{text}");
        assert_eq!(answer.exit, Exit::Good);
        let due = shown(&[due()], Acceptance::default(), Form::Table).text();
        assert!(due.contains("then it issues a new certificate") && !due.contains("key stay"), "{due}");
    }

    #[rstest]
    #[case::it_has_to_be_changed(&[change(), due()], Acceptance::default(), Exit::Attention, "In the way\n  another CA\n  it is due (--accept-new-certificate accepts it)\n\nNothing was changed. Change what")]
    #[case::it_may_be_accepted(&[due()], Acceptance::default(), Exit::Attention, "Give --yes --accept-new-certificate to do it all the same")]
    #[case::two_flags(&[due(), Obstacle::unless(Consent::UnknownIssuer, "who knows")], Acceptance { new_certificate: true, ..Acceptance::default() }, Exit::Attention, "Accepted\n  it is due (--accept-new-certificate accepts it)\n\nIn the way\n  who knows (--accept-unknown-issuer accepts it)\n\nNothing was changed. Give --yes --accept-new-certificate --accept-unknown-issuer to")]
    #[case::it_is_accepted(&[due()], Acceptance { new_certificate: true, ..Acceptance::default() }, Exit::Good, "would let it be done. Give --yes --accept-new-certificate to do it")]
    #[case::a_flag_that_is_not_needed_is_told_too(&[due()], Acceptance { new_certificate: true, loss: true, ..Acceptance::default() }, Exit::Good, "Give --yes --accept-loss --accept-new-certificate to do it")]
    #[case::nothing_is_in_the_way(&[], Acceptance { unknown_issuer: true, ..Acceptance::default() }, Exit::Good, "Give --yes --accept-unknown-issuer to do it")]
    #[case::a_tool_has_let_go(&[Obstacle::unless(Consent::FormerWriter, "Terraform has written it")], Acceptance { former_writer: true, ..Acceptance::default() }, Exit::Good, "Accepted\n  Terraform has written it (--accept-former-writer accepts it)\n\nNothing was changed; the API server would let it be done. Give --yes --accept-former-writer to do it")]
    #[case::another_flag_accepts_nothing(&[due()], Acceptance { loss: true, unknown_issuer: true, ..Acceptance::default() }, Exit::Attention, "In the way\n  it is due")]
    fn what_is_in_the_way_is_told_with_the_flag_that_accepts_it(
        #[case] obstacles: &[Obstacle],
        #[case] acceptance: Acceptance,
        #[case] exit: Exit,
        #[case] expected: &str,
    ) {
        let answer = shown(obstacles, acceptance, Form::Table);
        assert!(answer.text().contains(expected), "{}", answer.text());
        assert_eq!(answer.exit, exit);
        let check = with_plan(obstacles, acceptance, |plan| plan.check().map_err(|refusal| refusal.to_string()));
        assert_eq!(check.is_ok(), exit == Exit::Good, "--yes does what the preview says: {check:?}");
    }

    #[test]
    fn programs_get_the_object_the_mark_the_obstacles_and_the_notes() {
        let answer = shown(&[change(), due()], Acceptance { new_certificate: true, ..Acceptance::default() }, Form::Json);
        let told: Value = serde_json::from_str(&answer.text()).unwrap();
        assert_eq!(told["result"], "InTheWay");
        assert_eq!(told["object"]["kind"], "DatabaseUserCertificate");
        assert_eq!(told["mark"]["metadata"]["annotations"][SERIAL_NUMBER_ANNOTATION], told["serialNumber"]);
        let obstacles = json!([
            { "message": "another CA", "accepted": false },
            { "message": "it is due", "acceptedBy": "--accept-new-certificate", "accepted": true },
        ]);
        assert_eq!(told["obstacles"], obstacles);
        assert!(told["notes"].as_array().is_some_and(|notes| !notes.is_empty()));
        assert!(!answer.text().contains("PRIVATE"));
    }

    fn object(serial_number: &str, ready: &str, issuing: &str, message: &str) -> Certificate {
        let time = "2026-01-10T00:00:00Z";
        let condition = |type_: &str, status: &str, reason: &str| json!({ "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": time });
        let object: DatabaseUserCertificate = serde_json::from_value(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "namespace": "shop", "name": "old" }, "spec": {},
            "status": { "serialNumber": serial_number, "conditions": [condition("Ready", ready, "CertificateReady"), condition("Issuing", "False", issuing)] },
        }))
        .unwrap();
        object.into()
    }

    #[test]
    fn what_became_of_it_is_told_in_words_and_as_data() {
        let told = |serial_number: Option<&str>, ready: &str, issuing: &str, acceptance: Acceptance| {
            with_plan(&[due()], acceptance, |plan| {
                let own = plan.takeover.facts.serial_number.to_string();
                let found = object(serial_number.unwrap_or(&own), ready, issuing, "because \u{1b}[31mso");
                let text = plan.outcome(&found, Form::Table).unwrap();
                let data: Value = serde_json::from_str(&plan.outcome(&found, Form::Json).unwrap().text()).unwrap();
                assert!(!text.text().contains('\u{1b}'), "what others wrote does not act on the terminal: {}", text.text());
                (data["result"].as_str().unwrap().to_owned(), text.exit, text.text())
            })
        };
        let accepted = Acceptance { new_certificate: true, ..Acceptance::default() };
        let (result, exit, text) = told(None, "True", "Issued", Acceptance::default());
        assert_eq!((result.as_str(), exit), ("TakenOver", Exit::Good));
        assert!(text.contains("shop/old has taken over the Secret old, with certificate") && text.contains("as before"));
        let (result, exit, text) = told(None, "True", "Suspended", Acceptance::default());
        assert_eq!((result.as_str(), exit), ("Unfinished", Exit::Attention));
        assert!(text.contains("is not done: Suspended: because [31mso"), "{text}");
        let (result, exit, text) = told(None, "False", "Issued", Acceptance::default());
        assert_eq!((result.as_str(), exit), ("NotReady", Exit::Attention));
        assert!(text.contains("not ready: CertificateReady: because [31mso"), "{text}");
        let (result, exit, _) = told(Some("0A"), "True", "Issued", Acceptance::default());
        assert_eq!((result.as_str(), exit), ("NewCertificate", Exit::Attention));
        let (result, exit, _) = told(Some("0A"), "True", "Issued", accepted);
        assert_eq!((result.as_str(), exit), ("NewCertificate", Exit::Good));
    }
}
