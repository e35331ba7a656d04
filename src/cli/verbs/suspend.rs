//! `suspend` and `resume`.

use kube::ResourceExt;
use serde_json::json;

use super::{
    Session,
    objects::{Certificate, change, targets},
};
use crate::{
    arguments::ChangeArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit},
    terminal::Progress,
    text::append,
};

/// Sets `spec.suspend`. It stops at the first change that is refused, and says what was changed before.
pub(super) async fn suspend(
    cluster: &Cluster,
    session: &Session,
    arguments: &ChangeArguments,
    suspend: bool,
) -> Result<Answer, CliError> {
    let objects = targets(cluster, &arguments.targets).await?;
    let mut progress = Progress::new(&session.terminal);
    let (mut text, mut exit) = (String::new(), Exit::Good);
    for (index, object) in objects.iter().enumerate() {
        if object.spec.suspend == suspend && object.unreadable_object().is_none() {
            text.push_str(&line(object, suspend, "already"));
            continue;
        }
        match change(cluster, object, json!({ "spec": { "suspend": suspend } }), arguments.dry_run).await {
            Ok(()) => text.push_str(&line(object, suspend, if arguments.dry_run { "would be" } else { "is now" })),
            Err(error) => {
                append(&mut text, format_args!("error: {}\n", usercert_operator_controller::chain(&error)));
                exit = Exit::CouldNotAsk;
                break;
            }
        }
        progress.tell(|| format!("{} of {}", index + 1, objects.len()));
    }
    Ok(Answer::new(text, exit))
}

fn line(object: &Certificate, suspend: bool, how: &str) -> String {
    let state = if suspend { "suspended" } else { "resumed" };
    format!("{}/{} {how} {state}\n", object.namespace().unwrap_or_default(), object.name_any())
}
