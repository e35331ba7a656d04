//! `suspend` and `resume`.

use kube::ResourceExt;
use serde::Serialize;
use serde_json::json;
use usercert_operator_controller::chain;

use super::objects::{Certificate, certificate_of, change, confirmed, targets};
use crate::{
    arguments::ChangeArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::Cell,
    terminal::Progress,
    text::append,
};

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Changes {
    certificates: Vec<Told>,
}

/// What became of one certificate.
#[derive(Debug, Serialize)]
struct Told {
    namespace: String,
    name: String,
    result: Outcome,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Outcome {
    Already,
    WouldChange,
    Changed,
    Gone,
    Failed,
    /// The answer is lost, and the object does not show the change.
    Unknown,
    NotTried,
}

impl Outcome {
    /// What stands between the name and the state.
    const fn words(self) -> &'static str {
        match self {
            Self::Already => "already",
            Self::WouldChange => "would be",
            Self::Changed => "is now",
            Self::Gone => "was deleted, and is not",
            Self::Failed => "could not be",
            Self::Unknown => "is not known to be",
            Self::NotTried => "was not tried to be",
        }
    }
}

/// Sets `spec.suspend`. It stops at the first change that is refused, and says what was changed before. An object that was deleted meanwhile stops nothing.
pub(super) async fn suspend(
    cluster: &Cluster,
    session: &Session,
    arguments: &ChangeArguments,
    suspend: bool,
) -> Result<Answer, CliError> {
    if !arguments.dry_run {
        confirmed(&arguments.targets)?;
    }
    let objects = targets(cluster, &arguments.targets).await?;
    let mut progress = Progress::new(&session.terminal);
    let mut told: Vec<Told> = Vec::with_capacity(objects.len());
    let mut refusal = None;
    for (index, object) in objects.iter().enumerate() {
        let is_so = object.spec.suspend == suspend && object.unreadable_object().is_none();
        let (result, cause) = if refusal.is_some() {
            (Outcome::NotTried, None)
        } else if is_so {
            (Outcome::Already, None)
        } else {
            set(cluster, object, suspend, arguments.dry_run).await
        };
        told.push(line(object, suspend, result, cause.as_deref()));
        refusal = refusal.or(cause);
        progress.tell(|| format!("{} of {}", index + 1, objects.len()));
    }
    let exit = if refusal.is_none() { Exit::Good } else { Exit::CouldNotAsk };
    let changes = Changes { certificates: told };
    let in_words = || {
        changes.certificates.iter().fold(String::new(), |mut text, told| {
            append(&mut text, format_args!("{}\n", Cell::whole(&told.message).text()));
            text
        })
    };
    let text = for_programs(&changes, arguments.output)?.unwrap_or_else(in_words);
    Ok(Answer::new(text, exit))
}

/// Makes one change. Returns what became of it; and if the others are not to be tried, why.
async fn set(cluster: &Cluster, object: &Certificate, suspend: bool, dry_run: bool) -> (Outcome, Option<String>) {
    let error = match change(cluster, object, json!({ "spec": { "suspend": suspend } }), dry_run).await {
        Ok(_) if dry_run => return (Outcome::WouldChange, None),
        Ok(_) => return (Outcome::Changed, None),
        Err(error) if error.is_gone() => return (Outcome::Gone, None),
        Err(error) => error,
    };
    let result = if error.is_unanswered() && !dry_run {
        let found = certificate_of(cluster, &object.namespace().unwrap_or_default(), &object.name_any()).await;
        without_answer(object, &found, suspend)
    } else {
        Outcome::Failed
    };
    let is_settled = matches!(result, Outcome::Changed | Outcome::Gone);
    (result, (!is_settled).then(|| chain(&error)))
}

/// What became of a change whose answer is lost, by the object as it is found after it.
fn without_answer(object: &Certificate, found: &Result<Certificate, CliError>, suspend: bool) -> Outcome {
    match found {
        Ok(found) if found.uid() != object.uid() => Outcome::Gone,
        Ok(found) if found.spec.suspend == suspend && found.unreadable_object().is_none() => Outcome::Changed,
        Err(CliError::NotFound(_)) => Outcome::Gone,
        // The change may still be on its way.
        Ok(_) | Err(_) => Outcome::Unknown,
    }
}

fn line(object: &Certificate, suspend: bool, result: Outcome, cause: Option<&str>) -> Told {
    let state = if suspend { "suspended" } else { "resumed" };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    let again = if result == Outcome::Unknown { ", so repeat the command" } else { "" };
    Told { message: format!("{namespace}/{name} {} {state}{again}{cause}", result.words()), namespace, name, result }
}
