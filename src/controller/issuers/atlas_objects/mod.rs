//! The objects of the Atlas Kubernetes Operator (`atlas.mongodb.com/v1`) that our objects refer to.
//!
//! # Guarantees
//!
//! - They are only read, one by one and by name.
//! - Nothing outside of the namespace of a tenant's object is watched or read for it unless [`lending`](super::lending) allows it.
//!
//! # Assumptions
//!
//! - The cluster need not serve their kinds.

mod content;

use std::sync::Arc;

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

pub(crate) use self::content::reduce;
pub use self::content::{Project, User, UserProject, read_project, read_user};
use super::{
    AtlasSource, Endpoint, IssuerFault, LoadedIssuer,
    credentials::SecretReference,
    lending::{Lending, Place},
    load_atlas,
};
use crate::{
    Context, Received, Scope,
    api::{AtlasApiVersion, DatabaseUserCertificate, NamespacedName, ObjectKey, ProjectReference, Reason, SecretLocation},
    decide::{Allow, IssuerState},
    issuer::atlas::Words,
    kubernetes::KubernetesError,
    triggers::Waiting,
    watches::by_name::Presence,
};

/// Validity in months of a certificate with a `userRef` whose spec does not give one.
const DEFAULT_MONTHS: u8 = 3;

/// The API for `AtlasProject`s.
pub(crate) fn projects(client: &Client, namespace: &str) -> Api<Received<DynamicObject>> {
    api(client, namespace, "AtlasProject", "atlasprojects")
}

/// The API for `AtlasDatabaseUser`s.
pub(crate) fn users(client: &Client, namespace: &str) -> Api<Received<DynamicObject>> {
    api(client, namespace, "AtlasDatabaseUser", "atlasdatabaseusers")
}

fn api(client: &Client, namespace: &str, kind: &str, plural: &str) -> Api<Received<DynamicObject>> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("atlas.mongodb.com", "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Reads the object that a reference leads to. `Ok(None)` if its watch has shown nothing yet.
fn present<T>(
    presence: Presence<DynamicObject>,
    kind: &str,
    NamespacedName { namespace, name }: &NamespacedName,
    read: impl FnOnce(&DynamicObject) -> Result<T, IssuerFault>,
) -> Result<Option<T>, IssuerFault> {
    let object = presence.known("does not exist: create it, or correct the reference").map_err(|why| {
        IssuerFault::new(Reason::AtlasObjectNotFound, format!("the {kind} {name} in namespace {namespace} {why}"))
    })?;
    let Some(object) = object else { return Ok(None) };
    match object.unreadable() {
        Some(unreadable) => Err(IssuerFault::new(
            Reason::AtlasObjectNotReady,
            format!("the {kind} {name} in namespace {namespace} cannot be read ({})", unreadable.fault()),
        )),
        None => read(&object).map(Some),
    }
}

/// The project that an issuer in this namespace (empty for a cluster issuer) refers to, and its namespace and name.
pub(crate) fn find_project(
    context: &Context,
    who: &Waiting,
    reference: &ProjectReference,
    namespace: &str,
) -> Result<Option<(NamespacedName, Project)>, IssuerFault> {
    let is_cluster_issuer = namespace.is_empty();
    let name = match (&reference.namespace, is_cluster_issuer) {
        (Some(other), true) => NamespacedName::new(other, &reference.name),
        (None, true) => {
            return Err(IssuerFault::new(
                Reason::InvalidSpec,
                "give spec.atlas.projectRef.namespace: a cluster issuer has none of its own",
            ));
        }
        (None, false) => NamespacedName::new(namespace, &reference.name),
        (Some(other), false) if other == namespace => NamespacedName::new(namespace, &reference.name),
        (Some(_), false) => {
            let message = "spec.atlas.projectRef must not lead to another namespace, whose credentials are not this one's: use a ClusterCertificateIssuer";
            return Err(IssuerFault::new(Reason::InvalidSpec, message));
        }
    };
    let project = present(context.atlas_projects.watch(who, &name), "AtlasProject", &name, read_project)?;
    Ok(project.map(|project| (name, project)))
}

/// Whether an issuer that names no Secret may use the one that its project names, and where that Secret is.
///
/// A project belongs to its namespace, whichever issuer refers to it:
///
/// | Issuer | Secret in the namespace of the project | Secret elsewhere |
/// | --- | --- | --- |
/// | `CertificateIssuer` | used | refused |
/// | `ClusterCertificateIssuer` | used | used only if credentials are lent to the namespace of the project |
pub(crate) fn project_credentials(
    lending: &Lending,
    issuer_namespace: &str,
    project_namespace: &str,
    secret: &SecretLocation,
) -> Result<Place, IssuerFault> {
    if !issuer_namespace.is_empty() && secret.namespace != issuer_namespace {
        return Err(IssuerFault::new(
            Reason::CredentialsInvalid,
            "the AtlasProject's credentials are in another namespace: name a Secret of this one in credentialsSecretRef, or use a ClusterCertificateIssuer",
        ));
    }
    lending.place(project_namespace, &secret.namespace)
}

/// Whether the issuer's own Secret may be used together with a project in this namespace.
///
/// Whoever may write the project and its status chooses the project for which the Secret is used. So a project outside of the
/// namespace of the Secret must be allowed by the administrator.
pub(crate) fn check_project_beside_secret(
    lending: &Lending,
    project_namespace: &str,
    secret_namespace: &str,
) -> Result<(), IssuerFault> {
    lending.place(project_namespace, secret_namespace).map(|_| ()).map_err(|fault| {
        let message = format!(
            "the AtlasProject is in namespace {project_namespace}, where its id could be changed to that of any project that spec.atlas.credentialsSecretRef is good for: give spec.atlas.projectId, or add {project_namespace} to the chart's value atlas.lendCredentialsTo (--lend-credentials-to)"
        );
        IssuerFault { message, ..fault }
    })
}

/// The issuer that stands for an `AtlasDatabaseUser`: its project, with its credentials, for its user alone.
pub(crate) async fn user_issuer(
    context: &Context,
    object: &DatabaseUserCertificate,
    namespace: &str,
    user: &str,
) -> Result<(IssuerState, Option<Arc<LoadedIssuer>>), KubernetesError> {
    let name = NamespacedName::new(namespace, user);
    let certificate = ObjectKey::of(object);
    if context.atlas_users.awaited_by(&Waiting::Certificate(certificate.clone())).is_some_and(|before| before != name) {
        context.forget_user(&certificate);
    }
    let found = match find_user(context, object, &name).await? {
        Ok(Some(loaded)) => {
            context.user_issuers.set(name, Ok(Arc::clone(&loaded)));
            (IssuerState::Usable(Box::new(loaded.facts.clone())), Some(loaded))
        }
        Ok(None) => (IssuerState::Unknown, None),
        Err(fault) => {
            if context.user_issuers.set(name, Err(fault.clone())) {
                fault.log_detail(namespace, user);
            }
            (IssuerState::Unusable(fault.reason, fault.message), None)
        }
    };
    Ok(found)
}

type Found = Result<Option<Arc<LoadedIssuer>>, IssuerFault>;

async fn find_user(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &NamespacedName,
) -> Result<Found, KubernetesError> {
    let certificate = ObjectKey::of(object);
    let who = Waiting::Certificate(certificate.clone());
    let Parts { user, project_id, secret: reference } = match user_parts(context, &who, name) {
        Ok(Some(parts)) => parts,
        Ok(None) => return Ok(Ok(None)),
        Err(fault) => return Ok(Err(fault)),
    };
    let seen = match reference.seen(context, &Waiting::Credentials(certificate)) {
        Ok(Some(seen)) => seen,
        Ok(None) => return Ok(Ok(None)),
        Err(fault) => return Ok(Err(fault)),
    };
    let version = format!(
        "{}/{project_id}/{}/{}",
        user.username,
        seen.uid().unwrap_or_default(),
        seen.resource_version().unwrap_or_default()
    );
    if let Some(Ok(known)) = context.user_issuers.get(name)
        && known.facts.version == version
    {
        return Ok(Ok(Some(known)));
    }
    let secret = match reference.read(context).await? {
        Ok(secret) => secret,
        Err(fault) => return Ok(Err(fault)),
    };
    let endpoint = context.atlas.endpoint.clone();
    let source = AtlasSource {
        // The administrator gave this endpoint.
        endpoint: Endpoint { allow_plain_http: (context.atlas.is_allowed)(&endpoint), url: endpoint, words: Words::Quoted },
        project_id,
        api_version: AtlasApiVersion::V2,
        months_until_expiration: DEFAULT_MONTHS,
        username: Some(user.username),
    };
    Ok(load_atlas(source, Allow::default(), version, &secret, &context.atlas.client)
        .map(|loaded| Some(Arc::new(loaded)))
        .map_err(|fault| reference.place.hide(fault)))
}

/// What an `AtlasDatabaseUser` leads to.
struct Parts {
    user: User,
    project_id: String,
    secret: SecretReference,
}

/// The user, the id of its project, and the Secret with the credentials. An object in another namespace is watched only if it is
/// lent to the namespace of the user.
fn user_parts(context: &Context, who: &Waiting, name: &NamespacedName) -> Result<Option<Parts>, IssuerFault> {
    let Some(user) = present(context.atlas_users.watch(who, name), "AtlasDatabaseUser", name, read_user)? else {
        return Ok(None);
    };
    let lending = &context.settings.atlas_defaults.lending;
    let (project, project_place) = match &user.project {
        UserProject::Id(id) => {
            context.atlas_projects.forget(who);
            (Project { id: id.clone(), credentials: None }, Place::Own)
        }
        UserProject::Object(project) => {
            let place =
                lending.place(&name.namespace, &project.namespace).inspect_err(|_| context.atlas_projects.forget(who))?;
            let found = present(context.atlas_projects.watch(who, project), "AtlasProject", project, read_project);
            match found.map_err(|fault| place.hide(fault))? {
                Some(project) => (project, place),
                None => return Ok(None),
            }
        }
    };
    let global = context
        .settings
        .atlas_defaults
        .credentials
        .as_ref()
        .filter(|_| matches!(context.settings.scope, Scope::Cluster { .. }));
    let of_project = (project.credentials, project_place);
    let (secret, place) = lending.credentials(&name.namespace, user.credentials.clone(), of_project, global)?;
    let secret =
        SecretReference { name: secret, place, missing: Reason::CredentialsNotFound, unusable: Reason::CredentialsInvalid };
    Ok(Some(Parts { user, project_id: project.id, secret }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::own("shop", "shop", "shop", &[], Ok(Place::Own))]
    #[case::elsewhere("shop", "shop", "bank", &[], Err(Reason::CredentialsInvalid))]
    #[case::elsewhere_though_lent("shop", "shop", "bank", &["shop"], Err(Reason::CredentialsInvalid))]
    #[case::cluster_issuer("", "shop", "shop", &[], Ok(Place::Own))]
    #[case::cluster_issuer_led_elsewhere("", "shop", "bank", &[], Err(Reason::CredentialsNotLent))]
    #[case::cluster_issuer_lent("", "shop", "bank", &["shop"], Ok(Place::Elsewhere))]
    fn a_project_leads_an_issuer_out_of_its_namespace_only_where_that_is_lent(
        #[case] issuer: &str,
        #[case] project: &str,
        #[case] secret: &str,
        #[case] lent_to: &[&str],
        #[case] expected: Result<Place, Reason>,
    ) {
        let lending: Lending = lent_to.iter().map(|name| (*name).to_owned()).collect();
        let found = project_credentials(&lending, issuer, project, &SecretLocation::new(secret, "key"));
        assert_eq!(found.map_err(|fault| fault.reason), expected);
    }
    #[rstest]
    #[case::of_a_namespace("shop", "shop", &[], true)]
    #[case::of_the_cluster_beside_its_secret("system", "system", &[], true)]
    #[case::of_the_cluster("shop", "system", &[], false)]
    #[case::of_the_cluster_lent_to_another("shop", "system", &["bank"], false)]
    #[case::of_the_cluster_lent("shop", "system", &["shop"], true)]
    fn a_project_elsewhere_tells_where_an_issuer_s_secret_is_used_only_if_that_is_lent(
        #[case] project: &str,
        #[case] secret: &str,
        #[case] lent_to: &[&str],
        #[case] expected: bool,
    ) {
        let lending: Lending = lent_to.iter().map(|name| (*name).to_owned()).collect();
        let found = check_project_beside_secret(&lending, project, secret);
        assert_eq!(found.is_ok(), expected);
        let refused = |fault: IssuerFault| fault.reason == Reason::CredentialsNotLent && fault.message.contains("projectId");
        assert!(found.err().is_none_or(refused));
    }
}
