//! The API server's audit log: who asked for what.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Who asked, such as `system:serviceaccount:usercert-system:usercert-operator`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: String,
    /// The resource, with its subresource: `secrets`, `databaseusercertificates/status`.
    pub resource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name; empty for lists and for names that the API server makes up.
    pub name: String,
    /// The status code.
    pub code: u16,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// The path and query of the request.
    pub uri: String,
}

impl AuditEvent {
    /// Whether it was meant to change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !self.dry_run && matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectReference,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectReference {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Reads the log. A watch counts when it begins, anything else when it ends.
pub(super) fn read(log: &Path) -> Result<Vec<AuditEvent>> {
    let text = fs::read_to_string(log).with_context(|| format!("could not read {}", log.display()))?;
    // The last line may still be being written.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.filter(|line| (line.verb == "watch") == (line.stage == "ResponseStarted")).map(event).collect())
}

fn event(line: Line) -> AuditEvent {
    let reference = line.object_ref;
    let resource = match reference.subresource.as_str() {
        "" => reference.resource,
        subresource => format!("{}/{subresource}", reference.resource),
    };
    AuditEvent {
        user: line.user.username,
        verb: line.verb,
        resource,
        namespace: reference.namespace,
        name: reference.name,
        code: line.response_status.map_or(0, |status| status.code),
        dry_run: line.request_uri.contains("dryRun=All"),
        uri: line.request_uri,
    }
}
