//! Observe: what is there, read only where it is not known already.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    Context, Received, Scope, SecretMetadata,
    adoption::{Holder, abandoned, check_adoptable, holder},
    atlas_objects::user_issuer,
    issuers::{IssuerKey, LoadedIssuer, secret_of},
    kubernetes::{KubernetesError, request},
    memory::NamespacedName,
    name_watches::Sighting,
    secret,
    triggers::Waiting,
};
use crate::{
    api::{DatabaseUserCertificate, IssuerKind, IssuerSpec, Reason},
    decide::{IssuerState, Observed, SecretState},
};
use std::{collections::BTreeMap, sync::Arc};

/// How the Secret is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// By what the watches and this process know; it is read only if that does not suffice.
    Cached,
    /// Read, because a write met something else than what was known.
    Live,
}

/// What was found, and the issuer to act with.
pub(super) struct Found {
    pub(super) observed: Observed,
    pub(super) issuer: Option<Arc<LoadedIssuer>>,
}

pub(super) async fn observe(
    context: &Context,
    object: &Received<DatabaseUserCertificate>,
    look: Look,
) -> Result<Found, KubernetesError> {
    let namespace = object.namespace().unwrap_or_default();
    let secret_name = (namespace.clone(), object.secret_name());
    let (state, issuer) = issuer_state(context, object, &namespace).await?;
    let secret = match secret_state(context, object, &secret_name, look).await? {
        // What is put there later would be overwritten.
        SecretState::Absent => {
            issuer_that_needs(context, &secret_name).map_or(SecretState::Absent, SecretState::NeededByIssuer)
        }
        found => found,
    };
    let name = (namespace.clone(), object.name_any());
    let unsaved = context.memory.unsaved(&name, &object.uid().unwrap_or_default());
    let observed = Observed {
        issuer: state,
        secret,
        status: object.status.clone().unwrap_or_default(),
        unreadable: object.unreadable().map(ToString::to_string),
        account: None,
        save_refused: unsaved.as_ref().and_then(|unsaved| unsaved.refused.clone()),
        recent_repairs: context.memory.repairs(&name),
        unsaved_claim: unsaved.as_ref().and_then(|unsaved| unsaved.content.issuance.clone()),
        unsaved: unsaved.map(|unsaved| unsaved.content.pair.facts().clone()),
        namespace_labels: namespace_labels(context.namespaces.as_ref(), &namespace),
        namespace,
    };
    Ok(Found { observed, issuer })
}

/// The issuer that an object names, unless it names an `AtlasDatabaseUser`.
pub(super) fn issuer_key(object: &DatabaseUserCertificate) -> Option<IssuerKey> {
    let reference = object.spec.issuer_ref.as_ref()?;
    Some(IssuerKey {
        kind: reference.kind,
        namespace: match reference.kind {
            IssuerKind::CertificateIssuer => object.namespace().unwrap_or_default(),
            IssuerKind::ClusterCertificateIssuer => String::new(),
        },
        name: reference.name.clone(),
    })
}

impl Context {
    /// The issuer of an object, if it was looked at and can be used.
    pub(super) fn loaded_issuer(&self, object: &DatabaseUserCertificate) -> Option<Arc<LoadedIssuer>> {
        let found = match &object.spec.user_ref {
            Some(user) => self.user_issuers.get(&(object.namespace().unwrap_or_default(), user.name.clone())),
            None => self.issuers.get(&issuer_key(object)?),
        };
        found?.ok()
    }
}

async fn issuer_state(
    context: &Context,
    object: &DatabaseUserCertificate,
    namespace: &str,
) -> Result<(IssuerState, Option<Arc<LoadedIssuer>>), KubernetesError> {
    if let Some(user) = &object.spec.user_ref {
        return user_issuer(context, object, namespace, &user.name).await;
    }
    context.forget_user(&(namespace.to_owned(), object.name_any()));
    let Some(key) = issuer_key(object) else { return Ok((IssuerState::Missing, None)) };
    // The store is asked first: an issuer that went while its watch was interrupted is forgotten by nobody.
    let state = unloaded(context, &key, namespace);
    if state != IssuerState::Unknown {
        return Ok((state, None));
    }
    Ok(match context.issuers.get(&key) {
        Some(Ok(loaded)) => (IssuerState::Usable(Box::new(loaded.facts.clone())), Some(loaded)),
        Some(Err(refusal)) => {
            let why = match key.kind {
                IssuerKind::CertificateIssuer => refusal.message.as_str(),
                // It would name the administrator's objects in other namespaces.
                IssuerKind::ClusterCertificateIssuer => "cannot be used: its own condition Ready tells the administrator why",
            };
            let message = format!("{} {}: {why}", key.kind.as_str(), key.name);
            (IssuerState::Refused(refusal.reason, message), None)
        }
        None => (state, None),
    })
}

fn unloaded(context: &Context, key: &IssuerKey, namespace: &str) -> IssuerState {
    let exists = match key.kind {
        IssuerKind::CertificateIssuer => context.issuer_store.get(&ObjectRef::new(&key.name).within(namespace)).is_some(),
        IssuerKind::ClusterCertificateIssuer => {
            let Some(store) = &context.cluster_issuer_store else {
                let message =
                    "this operator serves single namespaces and so no ClusterCertificateIssuer: use a CertificateIssuer";
                return IssuerState::Refused(Reason::IssuerNotAllowed, message.to_owned());
            };
            store.get(&ObjectRef::new(&key.name)).is_some()
        }
    };
    if exists { IssuerState::Unknown } else { IssuerState::Missing }
}

async fn secret_state(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &NamespacedName,
    look: Look,
) -> Result<SecretState, KubernetesError> {
    if look == Look::Live {
        return read(context, object, name).await;
    }
    let reference = ObjectRef::<SecretMetadata>::new(&name.1).within(&name.0);
    let Some(seen) = context.secrets.get(&reference) else {
        return unlabelled(context, object, name).await;
    };
    if let Some(foreign) = foreign(context, object, name, &seen) {
        return Ok(foreign);
    }
    if holder(object, &seen) != Holder::ThisObject {
        return read(context, object, name).await;
    }
    let owner = object.uid().unwrap_or_default();
    let (uid, version) = (seen.uid().unwrap_or_default(), seen.resource_version().unwrap_or_default());
    let known = context
        .memory
        .recall(name, &uid, &version)
        .or_else(|| context.memory.recall_own_write(name, &owner, Some(&version)).filter(|view| view.uid == uid))
        .or_else(|| secret::recall(object, &seen.metadata, object.status.as_ref()?));
    match known {
        Some(view) => Ok(SecretState::Ours(Box::new(view))),
        None => read(context, object, name).await,
    }
}

/// A Secret that the label-selected watch does not show: none, one that we wrote just now, or one without our label that was
/// met before.
async fn unlabelled(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &NamespacedName,
) -> Result<SecretState, KubernetesError> {
    if let Some(view) = context.memory.recall_own_write(name, &object.uid().unwrap_or_default(), None) {
        return Ok(SecretState::Ours(Box::new(view)));
    }
    match context.secret_watches.sighting(name) {
        Sighting::Present(seen) => match foreign(context, object, name, &seen) {
            Some(foreign) => Ok(foreign),
            None => read(context, object, name).await,
        },
        // It was there: it may have lost its label alone.
        Sighting::Unknown if object.status.as_ref().is_some_and(|status| status.serial_number.is_some()) => {
            read(context, object, name).await
        }
        Sighting::Unknown | Sighting::Absent | Sighting::NotServed | Sighting::Refused(_) => Ok(SecretState::Absent),
    }
}

async fn read(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &NamespacedName,
) -> Result<SecretState, KubernetesError> {
    let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &name.0);
    let Some(found) = request("read the Secret", api.get_opt(&name.1)).await? else {
        return Ok(SecretState::Absent);
    };
    if let Some(foreign) = foreign(context, object, name, &found) {
        return Ok(foreign);
    }
    if let Holder::Nobody(whose) = holder(object, &found) {
        if let Some(issuer) = issuer_that_needs(context, name) {
            return Ok(SecretState::NeededByIssuer(issuer));
        }
        let fault = check_adoptable(&found).err();
        return Ok(SecretState::Abandoned(Box::new(abandoned(&found, whose, fault))));
    }
    let (view, _) = secret::read(object, &found);
    context.memory.read(name.clone(), view.clone());
    Ok(SecretState::Ours(Box::new(view)))
}

/// A Secret that is there and must not be touched: another's, or one that cannot be read and may hold a certificate that works.
fn foreign<K: Resource>(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &NamespacedName,
    found: &Received<K>,
) -> Option<SecretState> {
    let Holder::Another(owner) = holder(object, found) else { return None };
    Some(issuer_that_needs(context, name).map_or(SecretState::NotOurs(owner), SecretState::NeededByIssuer))
}

/// The issuer that has its credentials or its CA in this Secret, whichever object's issuer it is.
fn issuer_that_needs(context: &Context, name: &NamespacedName) -> Option<String> {
    let (namespace, secret) = name;
    let names_it = |spec: &IssuerSpec| secret_of(spec) == Some(secret.as_str());
    let in_namespace =
        context.issuer_store.find(|issuer| issuer.namespace().as_ref() == Some(namespace) && names_it(&issuer.spec));
    if let Some(issuer) = in_namespace {
        return Some(format!("the CertificateIssuer {}", issuer.name_any()));
    }
    if let (Scope::Cluster { operator_namespace }, Some(issuers)) = (&context.scope, &context.cluster_issuer_store)
        && operator_namespace == namespace
        && let Some(issuer) = issuers.find(|issuer| names_it(&issuer.spec.0))
    {
        return Some(format!("the ClusterCertificateIssuer {}", issuer.name_any()));
    }
    let is_lent = context.atlas_defaults.credentials.as_ref() == Some(name);
    let is_awaited = context.secret_watches.waiting(name).iter().any(|who| !matches!(who, Waiting::Certificate(_)));
    (is_lent || is_awaited).then(|| "an issuer that uses an object of the Atlas Kubernetes Operator".to_owned())
}

fn namespace_labels(
    store: Option<&Store<Received<PartialObjectMeta<Namespace>>>>,
    namespace: &str,
) -> BTreeMap<String, String> {
    store
        .and_then(|store| store.get(&ObjectRef::new(namespace)))
        .and_then(|found| found.metadata.labels.clone())
        .unwrap_or_default()
}

/// Now, by the clock that this process goes by.
pub(super) fn now(context: &Context) -> Timestamp {
    (context.clock)()
}
