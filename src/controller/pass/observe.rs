//! What is there, read only if it is not known.

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use tracing::warn;

use crate::{
    Context, Received, Scope, SecretMetadata,
    adoption::{Holder, holder, holds_certificate_in_status, is_controlled, is_in_status, label_of, left_behind},
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, IssuerKey, IssuerKind, IssuerSpec, NamespacedName, ObjectKey,
        Reason, SecretLocation,
    },
    decide::{IssuerState, Observed, SecretSource, SecretState, SecretVersion, SecretView, pass::Look},
    issuers::{LoadedIssuer, atlas_objects::user_issuer, secret_of},
    keystore_password,
    kubernetes::{KubernetesError, chain, request},
    memory::{ECHO_LIMIT, users},
    secret,
    triggers::Waiting,
    watches::by_name::Presence,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub(super) async fn observe(
    context: &Context,
    object: &Received<DatabaseUserCertificate>,
    look: Look,
) -> Result<(Observed, Option<Arc<LoadedIssuer>>), KubernetesError> {
    let namespace = object.namespace().unwrap_or_default();
    let secret_name = SecretLocation::of(object);
    let (state, issuer) = issuer_state(context, object, &namespace).await?;
    let known = match secret_state(context, object, &secret_name, look).await? {
        SecretState::Ours(view) if !keystore_password::is_current(context, object, &view) => {
            compared_with_password(context, object, &secret_name, view).await
        }
        known => known,
    };
    let secret = match known {
        // The issuer's Secret may come later: ours must not take its name.
        SecretState::Absent => {
            issuer_that_needs(context, &secret_name).map_or(SecretState::Absent, SecretState::NeededByIssuer)
        }
        found => found,
    };
    let held = issuer.as_ref().map(|loaded| users::held(context, object, &loaded.facts.identity)).unwrap_or_default();
    let observed = Observed {
        held,
        issuer: state,
        secret,
        // The pass knows the newest one.
        status: DatabaseUserCertificateStatus::default(),
        unreadable: object.unreadable().map(ToString::to_string),
        is_spec_unreadable: object.unreadable_object().is_some(),
        memory: context.memory.object(&ObjectKey::of(object), &object.uid().unwrap_or_default()),
        user: None,
        process: context.settings.leadership.process(),
        released_by: context.settings.leadership.released_by(),
        namespace_labels: namespace_labels(context.namespaces.as_ref(), &namespace),
        namespace,
    };
    Ok((observed, issuer))
}

/// How long the object may rest: no longer than our own write's echo is awaited, in case another changes the Secret before the
/// watch has shown our write.
pub(super) fn until_echo(context: &Context, object: &DatabaseUserCertificate, sleep: Duration) -> Duration {
    let secret = SecretLocation::of(object);
    if context.memory.awaits_echo(&secret) { sleep.min(ECHO_LIMIT) } else { sleep }
}

async fn issuer_state(
    context: &Context,
    object: &DatabaseUserCertificate,
    namespace: &str,
) -> Result<(IssuerState, Option<Arc<LoadedIssuer>>), KubernetesError> {
    if let Some(user) = &object.spec.user_ref {
        return user_issuer(context, object, namespace, &user.name).await;
    }
    context.forget_user(&ObjectKey::of(object));
    let Some(key) = IssuerKey::of(object) else { return Ok((IssuerState::Missing, None)) };
    // The store first: if an issuer goes while its watch is interrupted, no event removes it from the directory.
    let state = unloaded(context, &key);
    if state != IssuerState::Unknown {
        return Ok((state, None));
    }
    Ok(match context.issuers.get(&key) {
        Some(Ok(loaded)) => (IssuerState::Usable(Box::new(loaded.facts.clone())), Some(loaded)),
        Some(Err(fault)) => {
            let why = match key.kind {
                IssuerKind::CertificateIssuer => fault.message.as_str(),
                // It would name the administrator's objects in other namespaces.
                IssuerKind::ClusterCertificateIssuer => "cannot be used: its own condition Ready tells the administrator why",
            };
            let message = format!("{} {}: {why}", key.kind.as_str(), key.name);
            (IssuerState::Unusable(fault.reason, message), None)
        }
        None => (state, None),
    })
}

fn unloaded(context: &Context, key: &IssuerKey) -> IssuerState {
    if key.kind == IssuerKind::ClusterCertificateIssuer && context.cluster_issuer_store.is_none() {
        let message = "this operator serves single namespaces and so no ClusterCertificateIssuer: use a CertificateIssuer";
        return IssuerState::Unusable(Reason::IssuerNotAllowed, message.to_owned());
    }
    if context.has_issuer(key) { IssuerState::Unknown } else { IssuerState::Missing }
}

async fn secret_state(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
    look: Look,
) -> Result<SecretState, KubernetesError> {
    if look == Look::Live {
        return read(context, object, name).await;
    }
    let reference = ObjectRef::<SecretMetadata>::new(&name.name).within(&name.namespace);
    let Some(seen) = context.secrets.get(&reference) else {
        return unlabelled(context, object, name).await;
    };
    if let Some(foreign) = foreign(context, object, name, &seen) {
        return Ok(foreign);
    }
    if holder(object, &seen) != Holder::ThisObject {
        return read(context, object, name).await;
    }
    let (uid, version) = (seen.uid().unwrap_or_default(), seen.resource_version().unwrap_or_default());
    let shown = SecretVersion { uid: &uid, resource_version: &version };
    let known = match known_secret(context, object, name, Some(shown), true) {
        (SecretSource::Status, _) => object.status.as_ref().and_then(|status| secret::recall(object, &seen.metadata, status)),
        (_, known) => known,
    };
    match known {
        Some(view) => Ok(SecretState::Ours(Box::new(view))),
        None => read(context, object, name).await,
    }
}

fn known_secret(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
    shown: Option<SecretVersion<'_>>,
    has_certificate: bool,
) -> (SecretSource, Option<SecretView>) {
    let verified = object.status.as_ref().and_then(|status| status.verified.as_ref());
    let verified = verified.map(|verified| SecretVersion { uid: &verified.uid, resource_version: &verified.resource_version });
    context.memory.known_secret(name, &object.uid().unwrap_or_default(), shown, verified, has_certificate)
}

/// A Secret that the watch of our label does not show: it is absent, or we have just written it, or it has no label.
async fn unlabelled(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
) -> Result<SecretState, KubernetesError> {
    let had_certificate = object.status.as_ref().is_some_and(|status| status.serial_number.is_some());
    let presence = context.secret_watches.presence(name);
    // It had a certificate, so it may have lost only its label.
    let may_be_there = had_certificate && matches!(presence, Presence::Unknown);
    match (known_secret(context, object, name, None, may_be_there), presence) {
        ((_, Some(view)), _) => Ok(SecretState::Ours(Box::new(view))),
        (_, Presence::Present(seen)) => match foreign(context, object, name, &seen) {
            Some(foreign) => Ok(foreign),
            None => read(context, object, name).await,
        },
        ((SecretSource::Read, _), _) => read(context, object, name).await,
        _ => Ok(SecretState::Absent),
    }
}

/// The Secret, read anew because the password of its keystore has changed. A certificate does not wait for that: if the Secret cannot be
/// read, what is known of it counts, and it is read again soon.
async fn compared_with_password(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
    known: Box<SecretView>,
) -> SecretState {
    read(context, object, name).await.unwrap_or_else(|error| {
        warn!(error = chain(&error), "the password of the keystore has changed, and the Secret cannot be read");
        let mut view = known;
        view.keystore.is_passing = true;
        SecretState::Ours(view)
    })
}

async fn read(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
) -> Result<SecretState, KubernetesError> {
    let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &name.namespace);
    let Some(found) = request("read the Secret", api.get_opt(&name.name)).await? else {
        return Ok(SecretState::Absent);
    };
    let uid = found.uid().unwrap_or_default();
    let is_known =
        is_in_status(object, &uid) || context.memory.knows(name, &uid) || holds_certificate_in_status(object, &found);
    if let Some(left) = left_behind(object, &found, is_known, || claimed(context, object, name, &found.metadata)) {
        return Ok(left);
    }
    let named = keystore_password::read(context, object).await;
    let view = secret::read(object, &found, &named).view;
    context.memory.read(name.clone(), view.clone());
    Ok(SecretState::Ours(Box::new(view)))
}

/// Who else claims a Secret that this object does not control: an issuer, or the object of its label.
fn claimed(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
    metadata: &ObjectMeta,
) -> Option<SecretState> {
    issuer_that_needs(context, name).map(SecretState::NeededByIssuer).or_else(|| {
        let other = object_of_label(context, object, metadata).filter(|_| !is_controlled(metadata))?;
        Some(SecretState::NotOurs(format!("belongs to DatabaseUserCertificate {other}")))
    })
}

/// The other object whose UID the label names, if it exists.
fn object_of_label(context: &Context, object: &DatabaseUserCertificate, metadata: &ObjectMeta) -> Option<String> {
    let uid = label_of(metadata).filter(|uid| Some(*uid) != object.metadata.uid.as_deref())?;
    let other = context.certificate_store.find(|other| other.metadata.uid.as_deref() == Some(uid))?;
    (other.namespace() == object.namespace()).then(|| other.name_any())
}

/// A Secret that is there and must not be touched: another's, or one that cannot be read and may hold a certificate that works.
fn foreign<K: Resource>(
    context: &Context,
    object: &DatabaseUserCertificate,
    name: &SecretLocation,
    found: &Received<K>,
) -> Option<SecretState> {
    let Holder::Another(owner) = holder(object, found) else { return None };
    Some(issuer_that_needs(context, name).map_or(SecretState::NotOurs(owner), SecretState::NeededByIssuer))
}

/// The issuer whose credentials or CA are in this Secret, no matter which certificates use it.
fn issuer_that_needs(context: &Context, name: &SecretLocation) -> Option<String> {
    let NamespacedName { namespace, name: secret } = &**name;
    let names_it = |spec: &IssuerSpec| secret_of(spec) == Some(secret.as_str());
    let in_namespace =
        context.issuer_store.find(|issuer| issuer.namespace().as_ref() == Some(namespace) && names_it(&issuer.spec));
    if let Some(issuer) = in_namespace {
        return Some(format!("the CertificateIssuer {}", issuer.name_any()));
    }
    if let (Scope::Cluster { operator_namespace }, Some(issuers)) = (&context.settings.scope, &context.cluster_issuer_store)
        && operator_namespace == namespace
        && let Some(issuer) = issuers.find(|issuer| names_it(&issuer.spec.0))
    {
        return Some(format!("the ClusterCertificateIssuer {}", issuer.name_any()));
    }
    let is_lent = context.settings.atlas_defaults.credentials.as_ref() == Some(name);
    let is_awaited =
        context.secret_watches.waiting(name).iter().any(|who| matches!(who, Waiting::Credentials(_) | Waiting::Issuer(_)));
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
