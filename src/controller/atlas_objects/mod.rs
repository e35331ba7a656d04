//! The objects of the Atlas Kubernetes Operator (`atlas.mongodb.com/v1`), as far as they are referred to. They are only ever read, one by
//! one by name, and their kinds need not be served.

mod content;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

pub use self::content::{Project, User, UserProject, read_project, read_user};
use super::{
    Context, Received, Scope,
    issuers::{AtlasSource, LoadedIssuer, NO_SECRET, Refusal, load_atlas, unreadable_secret, without_secret},
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
pub(super) fn projects(client: &Client, namespace: &str) -> Api<Received<DynamicObject>> {
    api(client, namespace, "AtlasProject", "atlasprojects")
}

/// Where `AtlasDatabaseUser`s are read.
pub(super) fn users(client: &Client, namespace: &str) -> Api<Received<DynamicObject>> {
    api(client, namespace, "AtlasDatabaseUser", "atlasdatabaseusers")
}

fn api(client: &Client, namespace: &str, kind: &str, plural: &str) -> Api<Received<DynamicObject>> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("atlas.mongodb.com", "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
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
    let Some(object) = object else { return Ok(None) };
    match object.unreadable() {
        Some(unreadable) => Err(Refusal::new(
            Reason::AtlasObjectNotReady,
            format!("the {kind} {name} in namespace {namespace} cannot be read ({})", unreadable.fault()),
        )),
        None => read(&object).map(Some),
    }
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
    let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &secret.0);
    let Some(found) = request("read the credentials Secret", api.get_opt(&secret.1)).await? else {
        return missing(NO_SECRET);
    };
    if let Some(unreadable) = found.unreadable() {
        return Ok(Err(unreadable_secret(Reason::CredentialsInvalid, &secret, unreadable)));
    }
    let source = AtlasSource {
        endpoint: &context.atlas_defaults.endpoint,
        allow_plain_http: false,
        project_id: project,
        api_version: AtlasApiVersion::V2,
        months_until_expiration: DEFAULT_MONTHS,
        username: Some(user.username),
    };
    Ok(load_atlas(source, Allow::default(), version, &found, &context.atlas).map(|loaded| Some(Arc::new(loaded))))
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
