//! `suspend` and `resume`.

use kube::ResourceExt;
use serde::Serialize;
use serde_json::json;

use super::objects::{Certificate, change, confirmed, targets};
use crate::{
    arguments::ChangeArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::Cell,
    terminal::Progress,
    text::append,
};

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
    NotTried,
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
        let (result, how) = if refusal.is_some() {
            (Outcome::NotTried, "was not tried to be".to_owned())
        } else if is_so {
            (Outcome::Already, "already".to_owned())
        } else {
            match change(cluster, object, json!({ "spec": { "suspend": suspend } }), arguments.dry_run).await {
                Ok(_) if arguments.dry_run => (Outcome::WouldChange, "would be".to_owned()),
                Ok(_) => (Outcome::Changed, "is now".to_owned()),
                Err(error) if error.is_gone() => (Outcome::Gone, "was deleted, and is not".to_owned()),
                Err(error) => {
                    refusal = Some(usercert_operator_controller::chain(&error));
                    (Outcome::Failed, "could not be".to_owned())
                }
            }
        };
        let cause = refusal.as_deref().filter(|_| result == Outcome::Failed);
        told.push(line(object, suspend, result, &how, cause));
        progress.tell(|| format!("{} of {}", index + 1, objects.len()));
    }
    let exit = if refusal.is_none() { Exit::Good } else { Exit::CouldNotAsk };
    let in_words = || {
        told.iter().fold(String::new(), |mut text, told| {
            append(&mut text, format_args!("{}\n", Cell::whole(&told.message).text()));
            text
        })
    };
    let text = for_programs(&told, arguments.output)?.unwrap_or_else(in_words);
    Ok(Answer::new(text, exit))
}

fn line(object: &Certificate, suspend: bool, result: Outcome, how: &str, cause: Option<&str>) -> Told {
    let state = if suspend { "suspended" } else { "resumed" };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    Told { message: format!("{namespace}/{name} {how} {state}{cause}"), namespace, name, result }
}
