//! The objects of the Atlas Kubernetes Operator (`atlas.mongodb.com/v1`), as far as they are referred to. They are only ever read, one by
//! one by name, and their kinds need not be served.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde::Deserialize;

use super::{
    Context, Scope,
    issuers::{AtlasSource, LoadedIssuer, NO_SECRET, Refusal, load_atlas, without_secret},
    kubernetes::{KubernetesError, request},
    memory::NamespacedName,
    name_watches::Sighting,
    triggers::Waiting,
};
use crate::{
    api::{AtlasApiVersion, DatabaseUserCertificate, ProjectReference, Reason},
    decide::{Allow, IssuerState},
};

/// Validity of a certificate for a `userRef` that does not say, in months.
const DEFAULT_MONTHS: u8 = 3;

/// Where `AtlasProject`s are read.
pub(super) fn projects(client: &Client, namespace: &str) -> Api<DynamicObject> {
    api(client, namespace, "AtlasProject", "atlasprojects")
}

/// Where `AtlasDatabaseUser`s are read.
pub(super) fn users(client: &Client, namespace: &str) -> Api<DynamicObject> {
    api(client, namespace, "AtlasDatabaseUser", "atlasdatabaseusers")
}

fn api(client: &Client, namespace: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("atlas.mongodb.com", "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// What an `AtlasProject` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The project's id.
    pub id: String,
    /// The Secret with its credentials; `None` for those of the Atlas Kubernetes Operator itself.
    pub credentials: Option<NamespacedName>,
}

/// What an `AtlasDatabaseUser` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The database user.
    pub username: String,
    /// The project that the user belongs to.
    pub project: UserProject,
    /// The Secret with credentials for it, if the user names one.
    pub credentials: Option<NamespacedName>,
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

/// An id becomes a part of a URL.
fn checked_id(id: &str, of: &str) -> Result<String, Refusal> {
    if id.len() == 24 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(id.to_owned())
    } else {
        Err(Refusal::new(Reason::AtlasObjectNotReady, format!("{of} has a project id that is not 24 hexadecimal digits")))
    }
}

fn within(reference: Reference, namespace: &str) -> Option<NamespacedName> {
    let namespace = reference.namespace.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| namespace.to_owned());
    (!reference.name.is_empty()).then_some((namespace, reference.name))
}

fn data<T: for<'de> Deserialize<'de>>(object: &DynamicObject, of: &str) -> Result<T, Refusal> {
    T::deserialize(&object.data).map_err(|error| {
        Refusal::new(Reason::AtlasObjectNotReady, format!("{of} is not as the Atlas Kubernetes Operator has it: {error}"))
    })
}

/// Reads an `AtlasProject`.
///
/// # Errors
/// What has to happen to the object before it can be used.
pub fn read_project(object: &DynamicObject) -> Result<Project, Refusal> {
    let namespace = object.namespace().unwrap_or_default();
    let of = format!("the AtlasProject {} in namespace {namespace}", object.name_any());
    let ProjectData { spec, status } = data(object, &of)?;
    let id = status.id.filter(|id| !id.is_empty()).ok_or_else(|| {
        Refusal::new(
            Reason::AtlasObjectNotReady,
            format!(
                "{of} has no id in its status yet: see whether the Atlas Kubernetes Operator runs and what its conditions say"
            ),
        )
    })?;
    Ok(Project {
        id: checked_id(&id, &of)?,
        credentials: spec.connection_secret_ref.and_then(|reference| within(reference, &namespace)),
    })
}

/// Reads an `AtlasDatabaseUser`.
///
/// # Errors
/// What has to happen to the object before it can be used.
pub fn read_user(object: &DynamicObject) -> Result<User, Refusal> {
    let namespace = object.namespace().unwrap_or_default();
    let of = format!("the AtlasDatabaseUser {}", object.name_any());
    let UserData { spec, status } = data(object, &of)?;
    if spec.x509_type.as_deref() != Some("MANAGED") {
        let found =
            spec.x509_type.filter(|found| matches!(found.as_str(), "CUSTOMER" | "NONE")).unwrap_or_else(|| "NONE".to_owned());
        let message = format!("{of} has the x509Type {found}: Atlas makes certificates for the x509Type MANAGED only");
        return Err(Refusal::new(Reason::AtlasUserNotManaged, message));
    }
    let is_current = status.observed_generation.is_none_or(|observed| Some(observed) == object.metadata.generation);
    let is_ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !(is_current && is_ready) {
        let message =
            format!("{of} is not Ready yet: see whether the Atlas Kubernetes Operator runs and what its conditions say");
        return Err(Refusal::new(Reason::AtlasObjectNotReady, message));
    }
    let length = spec.username.chars().count();
    if length == 0 || length > 1024 || spec.username.chars().any(char::is_control) {
        return Err(Refusal::new(Reason::InvalidSpec, format!("{of} has a user name that no certificate can have")));
    }
    let project = match (spec.external_project_ref, spec.project_ref.and_then(|reference| within(reference, &namespace))) {
        (Some(external), _) => UserProject::Id(checked_id(&external.id, &of)?),
        (None, Some(project)) => UserProject::Object(project),
        (None, None) => {
            return Err(Refusal::new(Reason::AtlasObjectNotReady, format!("{of} names no project")));
        }
    };
    let credentials = spec.connection_secret.map(|secret| (namespace, secret.name)).filter(|(_, name)| !name.is_empty());
    Ok(User { username: spec.username, project, credentials })
}

/// What was found at the end of a reference; `Ok(None)` if its watch has shown nothing yet.
fn sighted<T>(
    sighting: Sighting<DynamicObject>,
    kind: &str,
    (namespace, name): &NamespacedName,
    read: impl FnOnce(&DynamicObject) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    let object = sighting.known("does not exist: create it, or correct the reference").map_err(|why| {
        Refusal::new(Reason::AtlasObjectNotFound, format!("the {kind} {name} in namespace {namespace} {why}"))
    })?;
    object.map(|object| read(&object)).transpose()
}

/// The project that an issuer in this namespace refers to.
pub(super) fn find_project(
    context: &Context,
    who: &Waiting,
    reference: &ProjectReference,
    namespace: &str,
) -> Result<Option<Project>, Refusal> {
    let is_cluster_issuer = namespace.is_empty();
    let name = match (&reference.namespace, is_cluster_issuer) {
        (Some(other), true) => (other.clone(), reference.name.clone()),
        (None, true) => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "give spec.atlas.projectRef.namespace: a cluster issuer has none of its own",
            ));
        }
        (None, false) => (namespace.to_owned(), reference.name.clone()),
        (Some(other), false) if other == namespace => (namespace.to_owned(), reference.name.clone()),
        (Some(_), false) => {
            let message = "spec.atlas.projectRef must not lead to another namespace, whose credentials are not this one's: use a ClusterCertificateIssuer";
            return Err(Refusal::new(Reason::InvalidSpec, message));
        }
    };
    let project = sighted(context.atlas_projects.watch(who, &name), "AtlasProject", &name, read_project)?;
    match &project {
        Some(Project { credentials: Some((other, _)), .. }) if !is_cluster_issuer && other != namespace => Err(Refusal::new(
            Reason::CredentialsInvalid,
            "the AtlasProject's credentials are in another namespace: name a Secret of this one in credentialsSecretRef, or use a ClusterCertificateIssuer",
        )),
        _ => Ok(project),
    }
}

/// The issuer that an `AtlasDatabaseUser` amounts to.
pub(super) async fn user_issuer(
    context: &Context,
    object: &DatabaseUserCertificate,
    namespace: &str,
    user: &str,
) -> Result<(IssuerState, Option<Arc<LoadedIssuer>>), KubernetesError> {
    let name = (namespace.to_owned(), user.to_owned());
    let found = match find_user(context, object, &name).await? {
        Ok(Some(loaded)) => {
            context.user_issuers.set(name, Ok(Arc::clone(&loaded)));
            (IssuerState::Usable(Box::new(loaded.facts.clone())), Some(loaded))
        }
        Ok(None) => (IssuerState::Unknown, None),
        Err(refusal) => {
            context.user_issuers.set(name, Err(refusal.clone()));
            (IssuerState::Refused(refusal.reason, refusal.message), None)
        }
    };
    Ok(found)
}

type Found = Result<Option<Arc<LoadedIssuer>>, Refusal>;

async fn find_user(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &NamespacedName,
) -> Result<Found, KubernetesError> {
    let certificate = (name.0.clone(), object.name_any());
    let who = Waiting::Certificate(certificate.clone());
    let (user, project, secret) = match user_parts(context, &who, name) {
        Ok(Some(parts)) => parts,
        Ok(None) => return Ok(Ok(None)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let missing = |why: &str| Ok(Err(without_secret(Reason::CredentialsNotFound, &secret, why)));
    let seen = match context.secret_watches.watch(&Waiting::Credentials(certificate), &secret).known(NO_SECRET) {
        Ok(Some(seen)) => seen,
        Ok(None) => return Ok(Ok(None)),
        Err(why) => return missing(&why),
    };
    let version = format!(
        "{}/{project}/{}/{}",
        user.username,
        seen.uid().unwrap_or_default(),
        seen.resource_version().unwrap_or_default()
    );
    if let Some(Ok(known)) = context.user_issuers.get(name)
        && known.facts.version == version
    {
        return Ok(Ok(Some(known)));
    }
    let api = Api::<Secret>::namespaced(context.client.clone(), &secret.0);
    let Some(secret) = request("read the credentials Secret", api.get_opt(&secret.1)).await? else {
        return missing(NO_SECRET);
    };
    let source = AtlasSource {
        endpoint: &context.atlas_defaults.endpoint,
        allow_plain_http: false,
        project_id: project,
        api_version: AtlasApiVersion::V2,
        months_until_expiration: DEFAULT_MONTHS,
        username: Some(user.username),
    };
    Ok(load_atlas(source, Allow::of_namespaced_issuer(None), version, &secret, &context.atlas)
        .map(|loaded| Some(Arc::new(loaded))))
}

/// The user, its project's id, and the Secret with the credentials: the user's, else the project's, else the operator's.
fn user_parts(
    context: &Context,
    who: &Waiting,
    name: &NamespacedName,
) -> Result<Option<(User, String, NamespacedName)>, Refusal> {
    let Some(user) = sighted(context.atlas_users.watch(who, name), "AtlasDatabaseUser", name, read_user)? else {
        return Ok(None);
    };
    let project = match &user.project {
        UserProject::Id(id) => {
            context.atlas_projects.forget(who);
            Project { id: id.clone(), credentials: None }
        }
        UserProject::Object(project) => {
            match sighted(context.atlas_projects.watch(who, project), "AtlasProject", project, read_project)? {
                Some(project) => project,
                None => return Ok(None),
            }
        }
    };
    let global = context.atlas_defaults.credentials.clone().filter(|_| matches!(context.scope, Scope::Cluster { .. }));
    match user.credentials.clone().or(project.credentials).or(global) {
        Some(secret) => Ok(Some((user, project.id, secret))),
        None => Err(Refusal::new(
            Reason::CredentialsNotFound,
            "neither the AtlasDatabaseUser nor its AtlasProject names a Secret with credentials: give spec.connectionSecret or spec.connectionSecretRef, or tell this operator the global one (--atlas-operator-secret)",
        )),
    }
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
        serde_json::from_value(object).unwrap()
    }

    const ID: &str = "5efda6aea3f2ed2e7dd6ce05";

    #[rstest]
    #[case(json!({}), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": "" } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": "../../../x" } }), Reason::AtlasObjectNotReady)]
    #[case(json!({ "status": { "id": 5 } }), Reason::AtlasObjectNotReady)]
    fn a_project_without_a_usable_id_is_waited_for(#[case] value: serde_json::Value, #[case] reason: Reason) {
        assert_eq!(read_project(&object(value)).unwrap_err().reason, reason);
    }

    #[test]
    fn a_project_names_its_id_and_its_credentials() {
        let project = object(
            json!({ "spec": { "name": "P", "connectionSecretRef": { "name": "key" } }, "status": { "id": ID, "conditions": [] } }),
        );
        let expected = Project { id: ID.to_owned(), credentials: Some(("shop".to_owned(), "key".to_owned())) };
        assert_eq!(read_project(&project), Ok(expected));
        let elsewhere =
            object(json!({ "spec": { "connectionSecretRef": { "name": "key", "namespace": "b" } }, "status": { "id": ID } }));
        assert_eq!(read_project(&elsewhere).unwrap().credentials, Some(("b".to_owned(), "key".to_owned())));
    }

    fn user(change: &serde_json::Value) -> Result<User, Refusal> {
        let mut value = json!({
            "spec": { "username": "orders", "databaseName": "$external", "x509Type": "MANAGED", "projectRef": { "name": "p", "namespace": "b" } },
            "status": { "observedGeneration": 2, "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "x" }] },
        });
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
        assert_eq!(found.project, UserProject::Object(("b".to_owned(), "p".to_owned())));
        assert_eq!(found.credentials, None);
        let found =
            user(&json!({ "spec": { "externalProjectRef": { "id": ID }, "connectionSecret": { "name": "own" } } })).unwrap();
        assert_eq!(found.project, UserProject::Id(ID.to_owned()));
        assert_eq!(found.credentials, Some(("shop".to_owned(), "own".to_owned())));
    }
}
