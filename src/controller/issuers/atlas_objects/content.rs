//! What the objects of the Atlas Kubernetes Operator say, as far as it is used here. This module sends no requests.

use kube::{ResourceExt, api::DynamicObject};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    api::{NamespacedName, Reason, SecretLocation},
    issuers::IssuerFault,
};

/// What an `AtlasProject` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The project's id.
    pub id: String,
    /// The Secret with credentials for the project. `None` for those of the Atlas Kubernetes Operator itself.
    pub credentials: Option<SecretLocation>,
}

/// What an `AtlasDatabaseUser` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The database user.
    pub username: String,
    /// The project of the user.
    pub project: UserProject,
    /// The Secret with credentials for the project, if the user names one.
    pub credentials: Option<SecretLocation>,
}

/// How an `AtlasDatabaseUser` names its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserProject {
    /// By an `AtlasProject`.
    Object(NamespacedName),
    /// By the project's id.
    Id(String),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProjectData {
    spec: ProjectSpec,
    status: ProjectStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProjectSpec {
    connection_secret_ref: Option<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProjectStatus {
    id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: String,
    namespace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserData {
    spec: UserSpec,
    status: UserStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UserSpec {
    username: String,
    x509_type: Option<String>,
    project_ref: Option<Reference>,
    external_project_ref: Option<ExternalProject>,
    connection_secret: Option<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExternalProject {
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UserStatus {
    observed_generation: Option<i64>,
    conditions: Vec<ForeignCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ForeignCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// The longest JSON of the fields of an object that are used here, in bytes.
const LONGEST_CONTENT: usize = 8 * 1024;

/// Drops what is not used here. An object whose used fields are too long, or cannot be read, is left without content: reading it says so.
pub(crate) fn reduce(object: &mut DynamicObject) {
    let is_ready = |condition: &Value| condition.get("type").and_then(Value::as_str) == Some("Ready");
    if let Some(Value::Array(conditions)) = object.data.pointer_mut("/status/conditions") {
        conditions.retain(is_ready);
    }
    let mut kept = Map::new();
    for (part, fields) in USED {
        let found = |field: &&str| Some(((*field).to_owned(), object.data.get(*part)?.get(*field)?.clone()));
        if let Some(value) = object.data.get(*part).filter(|value| !value.is_object()) {
            kept.insert((*part).to_owned(), value.clone());
        } else {
            kept.insert((*part).to_owned(), Value::Object(fields.iter().filter_map(found).collect()));
        }
    }
    let kept = Value::Object(kept);
    object.data = if kept.to_string().len() <= LONGEST_CONTENT { kept } else { Value::Null };
}

/// The fields that are used, of the spec and of the status.
const USED: &[(&str, &[&str])] = &[
    ("spec", &["connectionSecretRef", "username", "x509Type", "projectRef", "externalProjectRef", "connectionSecret"]),
    ("status", &["id", "observedGeneration", "conditions"]),
];

/// Checks the id of a project, because it becomes a part of a URL.
fn checked_id(id: &str, of: &str) -> Result<String, IssuerFault> {
    if id.len() == 24 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(id.to_owned())
    } else {
        Err(IssuerFault::new(Reason::AtlasObjectNotReady, format!("{of} has a project id that is not 24 hexadecimal digits")))
    }
}

/// The namespace and name that a reference leads to. `None` if it names nothing. They are checked here because the definitions of
/// these kinds do not check them, and they become parts of paths and selectors.
fn within(reference: Reference, namespace: &str, of: &str) -> Result<Option<NamespacedName>, IssuerFault> {
    if reference.name.is_empty() {
        return Ok(None);
    }
    let namespace = reference.namespace.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| namespace.to_owned());
    if is_label(&namespace) && reference.name.len() <= 253 && reference.name.split('.').all(is_label) {
        return Ok(Some(NamespacedName::new(namespace, reference.name)));
    }
    Err(IssuerFault::new(Reason::AtlasObjectNotReady, format!("{of} refers to something whose name no object can have")))
}

/// Whether this is a label of a DNS name (RFC 1123). Names and namespaces of objects consist of such labels.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// The fields of an object that are used here. An object that is being deleted is refused.
fn data<T: for<'de> Deserialize<'de>>(object: &DynamicObject, of: &str) -> Result<T, IssuerFault> {
    if object.metadata.deletion_timestamp.is_some() {
        let message = format!("{of} is being deleted: create it anew once it is gone, or correct the reference");
        return Err(IssuerFault::new(Reason::AtlasObjectNotReady, message));
    }
    // The error of the reader would quote what stands there, at any length.
    T::deserialize(&object.data).map_err(|_| {
        let message = format!("{of} is not as the Atlas Kubernetes Operator has it: compare its fields with its definition");
        IssuerFault::new(Reason::AtlasObjectNotReady, message)
    })
}

/// Reads an `AtlasProject`.
///
/// # Errors
/// What has to happen to the object before it can be used.
pub fn read_project(object: &DynamicObject) -> Result<Project, IssuerFault> {
    let namespace = object.namespace().unwrap_or_default();
    let of = format!("the AtlasProject {} in namespace {namespace}", object.name_any());
    let ProjectData { spec, status } = data(object, &of)?;
    let id = status.id.filter(|id| !id.is_empty()).ok_or_else(|| {
        IssuerFault::new(
            Reason::AtlasObjectNotReady,
            format!(
                "{of} has no id in its status yet: see whether the Atlas Kubernetes Operator runs and what its conditions say"
            ),
        )
    })?;
    let credentials = match spec.connection_secret_ref {
        Some(reference) => within(reference, &namespace, &of)?,
        None => None,
    };
    Ok(Project { id: checked_id(&id, &of)?, credentials: credentials.map(Into::into) })
}

/// Reads an `AtlasDatabaseUser`.
///
/// # Errors
/// What has to happen to the object before it can be used.
pub fn read_user(object: &DynamicObject) -> Result<User, IssuerFault> {
    let namespace = object.namespace().unwrap_or_default();
    let of = format!("the AtlasDatabaseUser {}", object.name_any());
    let UserData { spec, status } = data(object, &of)?;
    if spec.x509_type.as_deref() != Some("MANAGED") {
        let found =
            spec.x509_type.filter(|found| matches!(found.as_str(), "CUSTOMER" | "NONE")).unwrap_or_else(|| "NONE".to_owned());
        let message = format!(
            "{of} has the x509Type {found}: Atlas makes certificates for the x509Type MANAGED only. Make one with another username, for the type of a user cannot be changed in Atlas"
        );
        return Err(IssuerFault::new(Reason::AtlasUserNotManaged, message));
    }
    // Without the generation that was looked at, the condition may be about another spec.
    let is_current = status.observed_generation.is_some() && status.observed_generation == object.metadata.generation;
    let is_ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !(is_current && is_ready) {
        let message =
            format!("{of} is not Ready yet: see whether the Atlas Kubernetes Operator runs and what its conditions say");
        return Err(IssuerFault::new(Reason::AtlasObjectNotReady, message));
    }
    let length = spec.username.chars().count();
    if length == 0 || length > 1024 || spec.username.chars().any(char::is_control) {
        return Err(IssuerFault::new(Reason::InvalidSpec, format!("{of} has a user name that no certificate can have")));
    }
    let no_project = || IssuerFault::new(Reason::AtlasObjectNotReady, format!("{of} names no project"));
    let project = match (spec.external_project_ref, spec.project_ref) {
        (Some(external), _) => UserProject::Id(checked_id(&external.id, &of)?),
        (None, Some(project)) => UserProject::Object(within(project, &namespace, &of)?.ok_or_else(no_project)?),
        (None, None) => return Err(no_project()),
    };
    let credentials = match spec.connection_secret {
        // Its namespace, if it has one, is ignored: the Secret is in the namespace of the user.
        Some(Reference { name, .. }) => within(Reference { name, namespace: None }, &namespace, &of)?,
        None => None,
    };
    Ok(User { username: spec.username, project, credentials: credentials.map(Into::into) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "the cases are literals")]
    fn object(value: serde_json::Value) -> DynamicObject {
        let mut object = json!({ "apiVersion": "atlas.mongodb.com/v1", "kind": "x", "metadata": { "name": "a", "namespace": "shop", "generation": 2 } });
        object.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        // As the watch keeps it.
        let mut object = serde_json::from_value(object).unwrap();
        reduce(&mut object);
        object
    }

    const ID: &str = "5efda6aea3f2ed2e7dd6ce05";

    #[rstest]
    #[case(json!({}), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": "" } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": "../../../x" } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": 5 } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": ID }, "spec": { "connectionSecretRef": { "name": "../../bank/secrets/key" } } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": ID }, "spec": { "connectionSecretRef": { "name": ".." } } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": ID }, "spec": { "connectionSecretRef": { "name": "a,metadata.name!=b" } } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": ID }, "spec": { "connectionSecretRef": { "name": "a", "namespace": "shop/../bank" } } }), Reason::AtlasObjectNotReady)]
    fn a_project_without_a_usable_id_is_waited_for(#[case] value: serde_json::Value, #[case] reason: Reason) {
        assert_eq!(read_project(&object(value)).unwrap_err().reason, reason);
    }

    #[test]
    fn a_project_names_its_id_and_its_credentials() {
        let project = object(
            json!({ "spec": { "name": "P", "connectionSecretRef": { "name": "key" } }, "status": { "id": ID, "conditions": [] } }),
        );
        let expected = Project { id: ID.to_owned(), credentials: Some(SecretLocation::new("shop", "key")) };
        assert_eq!(read_project(&project), Ok(expected));
        let elsewhere =
            object(json!({ "spec": { "connectionSecretRef": { "name": "key", "namespace": "b" } }, "status": { "id": ID } }));
        assert_eq!(read_project(&elsewhere).unwrap().credentials, Some(SecretLocation::new("b", "key")));
    }

    #[test]
    fn of_an_object_of_any_size_little_is_kept() {
        let long = "x".repeat(500_000);
        let conditions =
            vec![json!({ "type": "Other", "message": long.clone() }), json!({ "type": "Ready", "status": "True" })];
        let project = object(json!({
            "spec": { "name": long.clone(), "connectionSecretRef": { "name": "key" } }, "status": { "id": ID, "conditions": conditions },
        }));
        assert!(read_project(&project).is_ok() && project.data.to_string().len() < 200, "{}", project.data);
        let project = object(json!({ "status": { "id": ID, "conditions": [{ "type": "Ready", "message": long }] } }));
        assert_eq!(project.data, serde_json::Value::Null);
        assert_eq!(read_project(&project).unwrap_err().reason, Reason::AtlasObjectNotReady);
    }

    #[test]
    fn what_is_being_deleted_is_not_served() {
        let deleted = |object: DynamicObject| {
            let mut object = object;
            object.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-25T00:00:00Z")).unwrap();
            object
        };
        let project = object(json!({ "status": { "id": ID } }));
        assert!(read_project(&project).is_ok());
        let (project, user) =
            (read_project(&deleted(project)).unwrap_err(), read_user(&deleted(object(user_data()))).unwrap_err());
        for fault in [project, user] {
            assert_eq!(fault.reason, Reason::AtlasObjectNotReady);
            assert!(fault.message.contains("is being deleted"), "{}", fault.message);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        let fault = read_project(&object(json!({ "status": { "id": { "words": "x".repeat(5000) } } }))).unwrap_err();
        let other = read_project(&object(json!({ "status": "very-private" }))).unwrap_err();
        assert!(fault.message.len() < 200 && !other.message.contains("very-private"), "{fault:?} {other:?}");
    }

    fn user_data() -> serde_json::Value {
        json!({
            "spec": { "username": "orders", "databaseName": "$external", "x509Type": "MANAGED", "projectRef": { "name": "p", "namespace": "b" } },
            "status": { "observedGeneration": 2, "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "x" }] },
        })
    }

    fn user(change: &serde_json::Value) -> Result<User, IssuerFault> {
        let mut value = user_data();
        for (part, fields) in change.as_object().unwrap() {
            for (key, field) in fields.as_object().unwrap() {
                value[part][key] = field.clone();
            }
        }
        read_user(&object(value))
    }

    #[rstest]
    #[case(json!({ "spec": { "x509Type": "CUSTOMER" } }), Reason::AtlasUserNotManaged)]
    #[case(json!({ "spec": { "x509Type": null } }), Reason::AtlasUserNotManaged)]
    #[case(json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "conditions": [] } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "observedGeneration": 1 } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "observedGeneration": 3 } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "observedGeneration": null } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "spec": { "projectRef": { "name": "p/../q" } } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "spec": { "connectionSecret": { "name": "../a" } } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "spec": { "projectRef": null } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "spec": { "externalProjectRef": { "id": "../x" } } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "spec": { "username": "" } }), Reason::InvalidSpec)]
    #[case(json!({ "spec": { "username": "a\nb" } }), Reason::InvalidSpec)]
    fn a_user_is_refused(#[case] change: serde_json::Value, #[case] reason: Reason) {
        assert_eq!(user(&change).unwrap_err().reason, reason);
    }

    #[test]
    fn a_user_names_its_project_and_its_credentials() {
        let found = user(&json!({})).unwrap();
        assert_eq!(found.project, UserProject::Object(NamespacedName::new("b", "p")));
        assert_eq!(found.credentials, None);
        let found =
            user(&json!({ "spec": { "externalProjectRef": { "id": ID }, "connectionSecret": { "name": "own" } } })).unwrap();
        assert_eq!(found.project, UserProject::Id(ID.to_owned()));
        assert_eq!(found.credentials, Some(SecretLocation::new("shop", "own")));
    }
}
