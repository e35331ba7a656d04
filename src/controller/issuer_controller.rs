//! The controller of issuers, one for each kind: loads them with their Secrets, says in their status whether they can be used,
//! and wakes the certificates that use them.

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        Controller,
        controller::{Action, Error as ControllerError},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::warn;

use super::{
    Context, ReconcileError, Scope,
    issuers::{IssuerKey, LoadedIssuer, Refusal, load, secret_of, without_secret},
    kubernetes::{chain, request},
    observe::{issuer_key, now},
    report::{new_warnings, status_patch, superseded},
    secret_watches::Sighting,
    triggers::Waiting,
};
use crate::api::{
    CertificateIssuer, ClusterCertificateIssuer, IssuerKind, IssuerSpec, IssuerStatus, READY, Reason, names::CONTROLLER,
    set_condition,
};

/// Either kind of issuer.
pub(super) trait IssuerObject:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
    /// Which kind it is.
    const KIND: IssuerKind;
    /// The shared spec.
    fn issuer_spec(&self) -> &IssuerSpec;
    /// The status, if there is one.
    fn issuer_status(&self) -> Option<&IssuerStatus>;
    /// Where the issuer itself is read and written.
    fn api(&self, context: &Context) -> Api<Self>;
}

impl IssuerObject for CertificateIssuer {
    const KIND: IssuerKind = IssuerKind::CertificateIssuer;
    fn issuer_spec(&self) -> &IssuerSpec {
        &self.spec
    }
    fn issuer_status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
    fn api(&self, context: &Context) -> Api<Self> {
        Api::namespaced(context.client.clone(), &self.namespace().unwrap_or_default())
    }
}

impl IssuerObject for ClusterCertificateIssuer {
    const KIND: IssuerKind = IssuerKind::ClusterCertificateIssuer;
    fn issuer_spec(&self) -> &IssuerSpec {
        &self.spec.0
    }
    fn issuer_status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
    fn api(&self, context: &Context) -> Api<Self> {
        Api::all(context.client.clone())
    }
}

/// Runs the controller of one kind.
pub(super) async fn run<K>(controller: Controller<K>, context: Arc<Context>)
where
    K: IssuerObject,
    K::DynamicType: Debug + Eq + Hash + Clone + Unpin,
{
    controller
        .run(reconcile::<K>, after_error::<K>, Arc::clone(&context))
        .for_each(move |result| {
            match result {
                Err(ControllerError::ObjectNotFound(gone)) => {
                    let namespace = gone.namespace.unwrap_or_default();
                    forget(&context, &IssuerKey { kind: K::KIND, namespace, name: gone.name });
                }
                Err(ControllerError::QueueError(error)) => {
                    warn!(error = chain(&error), "the watch of issuers failed and goes on");
                }
                Ok(_) | Err(_) => {}
            }
            futures::future::ready(())
        })
        .await;
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn after_error<K: IssuerObject>(issuer: Arc<K>, error: &ReconcileError, _: Arc<Context>) -> Action {
    if !matches!(error, ReconcileError::Superseded) {
        warn!(issuer = issuer.name_any(), error = chain(error), "an issuer could not be loaded and is tried again");
    }
    Action::requeue(Duration::from_secs(5))
}

async fn reconcile<K: IssuerObject>(issuer: Arc<K>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = IssuerKey { kind: K::KIND, namespace: issuer.namespace().unwrap_or_default(), name: issuer.name_any() };
    let Some(loaded) = find(&*issuer, &key, &context).await? else {
        // The Secret's watch has shown nothing yet and wakes us when it has.
        return Ok(Action::await_change());
    };
    let next = next_look(&loaded, now(&context));
    let condition = match &loaded {
        Ok(loaded) => (true, Reason::IssuerReady, format!("certificates are issued by {}", loaded.facts.identity)),
        Err(refusal) => (false, refusal.reason, refusal.message.clone()),
    };
    if context.issuers.set(key.clone(), loaded) {
        wake_users(&context, &key);
    }
    report(&*issuer, &context, condition).await?;
    Ok(next)
}

/// Only dates make an issuer usable or unusable without a watch event: a CA's expiry is awaited, one out of date is read hourly.
fn next_look(loaded: &Loaded, now: Timestamp) -> Action {
    let hour = Duration::from_hours(1);
    match loaded {
        Ok(loaded) => match loaded.facts.not_after.map(|not_after| Duration::try_from(not_after.duration_since(now))) {
            Some(Ok(until)) => Action::requeue((until + Duration::from_secs(1)).min(hour)),
            _ => Action::await_change(),
        },
        Err(refusal) if refusal.reason == Reason::CaNotInDate => Action::requeue(hour),
        Err(_) => Action::await_change(),
    }
}

type Loaded = Result<Arc<LoadedIssuer>, Refusal>;

/// The issuer with its Secret; `None` if nothing is known of the Secret yet.
async fn find<K: IssuerObject>(issuer: &K, key: &IssuerKey, context: &Context) -> Result<Option<Loaded>, ReconcileError> {
    let spec = issuer.issuer_spec();
    let namespace = match (&context.scope, K::KIND) {
        (Scope::Cluster { operator_namespace }, IssuerKind::ClusterCertificateIssuer) => operator_namespace.clone(),
        _ => key.namespace.clone(),
    };
    let Some(name) = secret_of(spec) else {
        let refusal = Refusal::new(Reason::InvalidSpec, "name exactly one issuer in the spec: atlas or ca");
        return Ok(Some(Err(refusal)));
    };
    let secret = (namespace.clone(), name.to_owned());
    let missing = |why: &str| Ok(Some(Err(without_secret(spec, &namespace, why))));
    let seen = match context.secret_watches.watch(&Waiting::Issuer(key.clone()), &secret) {
        Sighting::Unknown => return Ok(None),
        Sighting::Absent => return missing("does not exist: create it"),
        Sighting::Refused(message) => return missing(&format!("cannot be read: {message}")),
        Sighting::Present(seen) => seen,
    };
    let generation = issuer.meta().generation.unwrap_or_default();
    let version = format!("{generation}/{}/{}", seen.uid().unwrap_or_default(), seen.resource_version().unwrap_or_default());
    let now = now(context);
    if let Some(Ok(known)) = context.issuers.get(key)
        && known.facts.version == version
        && known.facts.not_after.is_none_or(|not_after| not_after > now)
    {
        return Ok(Some(Ok(known)));
    }
    let api = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    match request("read the issuer's Secret", api.get_opt(name)).await? {
        Some(secret) => Ok(Some(load(key, spec, generation, &secret, &context.atlas, now).map(Arc::new))),
        None => missing("does not exist: create it"),
    }
}

async fn report<K: IssuerObject>(
    issuer: &K,
    context: &Context,
    (ready, reason, message): (bool, Reason, String),
) -> Result<(), ReconcileError> {
    let old = issuer.issuer_status().cloned().unwrap_or_default();
    let mut status = old.clone();
    status.observed_generation = issuer.meta().generation;
    set_condition(&mut status.conditions, READY, ready, reason, &message, issuer.meta().generation, now(context));
    if status == old {
        return Ok(());
    }
    let patch = Patch::Merge(status_patch(issuer, &status));
    let parameters = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    let (api, name) = (issuer.api(context), issuer.name_any());
    request("patch the issuer's status", api.patch_status(&name, &parameters, &patch)).await.map_err(superseded)?;
    for (reason, message) in new_warnings(&old.conditions, &status.conditions) {
        context.metrics.refused(reason);
        context.events.publish(issuer, reason, &message).await;
    }
    Ok(())
}

fn forget(context: &Context, key: &IssuerKey) {
    context.secret_watches.forget(&Waiting::Issuer(key.clone()));
    context.issuers.remove(key);
    wake_users(context, key);
}

fn wake_users(context: &Context, key: &IssuerKey) {
    for user in context.certificate_store.state_filter(|certificate| issuer_key(certificate) == *key) {
        let name = (user.namespace().unwrap_or_default(), user.name_any());
        context.triggers.wake(&Waiting::Certificate(name));
    }
}
