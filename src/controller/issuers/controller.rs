//! The controllers of issuers, one for each kind. Each loads issuers with their Secrets, says in their status whether they can be
//! used, and wakes the certificates that use them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt,
    runtime::{
        Controller,
        controller::{Action, Error as ControllerError},
    },
};
use tracing::{Instrument, warn};

use super::{
    IssuerFault, LoadedIssuer,
    atlas_objects::{Project, check_project_beside_secret, find_project, project_credentials},
    credentials::SecretReference,
    endpoint_of,
    lending::Place,
    load, not_one_issuer, secret_of,
};
use crate::{
    Context, Received, ReconcileError,
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, ISSUING, IssuerKey, IssuerKind, IssuerSource,
        IssuerSpec, IssuerStatus, NamespacedName, ObjectKey, READY, Reason, SecretLocation, condition, set_condition,
        set_stalled,
    },
    decide::{
        new_warnings,
        pass::{PassOutcome, RequestError},
        refused_credentials,
    },
    dispatch::Dispatch,
    failures::{self, Failing},
    kubernetes::chain,
    runtime::ControllerName,
    span,
    status::{Ours, report_unreadable, write_status},
    triggers::Waiting,
};

/// Either kind of issuer.
pub(crate) trait IssuerObject: Ours {
    /// Which kind it is.
    const KIND: IssuerKind;
    /// The shared spec.
    fn issuer_spec(&self) -> &IssuerSpec;
    /// The status, if there is one.
    fn issuer_status(&self) -> Option<&IssuerStatus>;
}

impl IssuerObject for CertificateIssuer {
    const KIND: IssuerKind = IssuerKind::CertificateIssuer;
    fn issuer_spec(&self) -> &IssuerSpec {
        &self.spec
    }
    fn issuer_status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
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
}

impl<K: IssuerObject> Failing for K {
    fn conditions(&self) -> &[Condition] {
        self.issuer_status().map_or(&[], |status| &status.conditions)
    }
    fn set_failing(&self, context: &Context, conditions: &mut Vec<Condition>, message: &str) {
        // One that is loaded goes on issuing with what it was loaded with.
        let is_loaded = context.issuers.get(&key_of(self)).is_some_and(|loaded| loaded.is_ok());
        if !is_loaded || condition(conditions, READY).is_none() {
            let generation = self.meta().generation;
            set_condition(conditions, READY, false, Reason::ReconcileFailing, message, generation, context.now());
        }
    }
}

/// Runs the controller of one kind.
pub(crate) async fn run<K: IssuerObject>(controller: Controller<Received<K>>, dispatch: Dispatch, context: Arc<Context>) {
    controller
        .run(reconcile::<K>, after_error::<K>, Arc::clone(&context))
        .for_each(move |result| {
            dispatch.moved();
            match result {
                Err(ControllerError::ObjectNotFound(gone)) if Dispatch::is_sign_of_life(&gone) => {}
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
fn after_error<K: IssuerObject>(issuer: Arc<Received<K>>, error: &ReconcileError, context: Arc<Context>) -> Action {
    failures::repeat(&context, &Waiting::Issuer(key_of(&**issuer)), &**issuer, error)
}

fn key_of<K: IssuerObject>(issuer: &K) -> IssuerKey {
    IssuerKey { kind: K::KIND, namespace: issuer.namespace().unwrap_or_default(), name: issuer.name_any() }
}

async fn reconcile<K: IssuerObject>(issuer: Arc<Received<K>>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = key_of(&**issuer);
    let who = Waiting::Issuer(key.clone());
    let span = span::of_pass(K::KIND.as_str(), &NamespacedName::new(&key.namespace, &key.name));
    let ended = async {
        let ended = Box::pin(look_at(Arc::clone(&issuer), key.clone(), &context)).await;
        let outcome = ended.as_ref().map_or_else(|error| failures::outcome(&context, &who, error), |(_, outcome)| *outcome);
        context.settings.metrics.reconciled(ControllerName::Issuers(K::KIND), outcome);
        failures::note(&context, &who, &issuer, ended.map(|(action, _)| action), true).await
    };
    let ended = ended.instrument(span).await;
    if let Err(error) = &ended
        && context.failures.have_lasted(&who)
        && context.issuers.get(&key).is_none()
    {
        // Without this its certificates would say nothing.
        let fault = IssuerFault::new(Reason::ReconcileFailing, format!("could not be loaded: {}", chain(error)));
        if context.issuers.set(key.clone(), Err(fault)) {
            wake_users(&context, &key);
        }
    }
    ended
}

async fn look_at<K: IssuerObject>(
    issuer: Arc<Received<K>>,
    key: IssuerKey,
    context: &Context,
) -> Result<(Action, PassOutcome), ReconcileError> {
    if let Some(unreadable) = issuer.unreadable_object() {
        let fault = IssuerFault::new(Reason::ObjectUnreadable, unreadable.to_string());
        if context.issuers.set(key.clone(), Err(fault)) {
            wake_users(context, &key);
        }
        report_unreadable(context, &Waiting::Issuer(key), &issuer).await;
        return Ok((Action::await_change(), PassOutcome::Blocked));
    }
    // An issuer that was loaded with an earlier spec must not stay in use while the Secret of this spec cannot be read.
    let spec = spec_version(&**issuer);
    context.issuers.forget_unless(&key, |known| known.facts.version.starts_with(&spec));
    let Some(loaded) = find(&**issuer, &key, context).await? else {
        // The watch of the Secret has shown nothing yet. It wakes us when it has.
        return Ok((Action::await_change(), PassOutcome::Pending));
    };
    let next = next_look(&loaded, context.now());
    if context.issuers.set(key.clone(), loaded.clone()) {
        if let Err(fault) = &loaded {
            fault.log_detail(&key.namespace, &key.name);
        }
        wake_users(context, &key);
    }
    // The issuer is set before this wait, because certificates wait for it. What they have met with its credentials is known only
    // once all of them are in the cache.
    context.lists.filled().await;
    let ready = ready(&loaded, &key, context);
    span::decided(if ready.0 { "serve" } else { "refuse" }, Some(ready.1));
    let is_refused = ready.1.is_about_credentials();
    let outcome = if ready.0 { PassOutcome::Done } else { PassOutcome::Blocked };
    report(&issuer, context, ready).await?;
    Ok((if is_refused { Action::requeue(REFUSED_LOOK) } else { next }, outcome))
}

/// How often an issuer with refused credentials is looked at again, in memory: the certificate that told of the refusal may be
/// gone or use another issuer.
const REFUSED_LOOK: Duration = Duration::from_mins(1);

/// What the condition Ready says: whether the issuer can be used, and whether Atlas accepts its credentials. Refused credentials
/// do not keep certificates from trying.
fn ready(loaded: &Loaded, key: &IssuerKey, context: &Context) -> (bool, Reason, String) {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(fault) => return (false, fault.reason, fault.message.clone()),
    };
    let users = context.certificate_store.state_filter(|certificate| IssuerKey::of(certificate).as_ref() == Some(key));
    match refused_credentials(&loaded.facts, users.iter().map(|user| &***user)) {
        // The words of Atlas are only in the status of the certificate: whoever may read the issuer may not be allowed to read
        // that.
        Some(reason) => (false, reason, format!("{} Certificates are tried all the same.", reason.explanation())),
        None => (true, Reason::IssuerReady, ready_message(loaded)),
    }
}

/// Wakes the issuer of a certificate if their two statuses say different things about the credentials of the issuer.
pub(crate) fn tell_issuer(context: &Context, object: &DatabaseUserCertificate) {
    let Some(key) = IssuerKey::of(object) else { return };
    let about_credentials = |reason: &str| Reason::from_name(reason).filter(|reason| reason.is_about_credentials());
    let status = object.status.as_ref().filter(|_| !object.spec.suspend);
    let met = status.and_then(|status| about_credentials(&status.failure.as_ref()?.reason));
    let told = context.with_issuer(&key, |status| about_credentials(&condition(&status?.conditions, READY)?.reason)).flatten();
    if met != told {
        context.triggers.wake(&Waiting::Issuer(key));
    }
}

fn ready_message(loaded: &LoadedIssuer) -> String {
    let issued = loaded.facts.identity.message();
    [&[issued], loaded.issuer.remarks()].concat().join("; ")
}

/// When an issuer is looked at again without a watch event. Only dates make it usable or unusable then: the dates of the
/// certificates of a CA are awaited, and a CA that is out of date is read again every hour.
fn next_look(loaded: &Loaded, now: Timestamp) -> Action {
    let hour = Duration::from_hours(1);
    match loaded {
        Ok(loaded) => match loaded.reread_at.map(|at| Duration::try_from(at.duration_since(now))) {
            Some(Ok(until)) => Action::requeue((until + Duration::from_secs(1)).min(hour)),
            _ => Action::await_change(),
        },
        Err(fault) if fault.reason == Reason::CaNotInDate => Action::requeue(hour),
        Err(_) => Action::await_change(),
    }
}

type Loaded = Result<Arc<LoadedIssuer>, IssuerFault>;

/// The beginning of the version of each issuer that was loaded with this spec.
fn spec_version<K: IssuerObject>(issuer: &K) -> String {
    format!("{}/{}/", issuer.meta().uid.as_deref().unwrap_or_default(), issuer.meta().generation.unwrap_or_default())
}

/// The issuer, loaded with its Secret. `None` if nothing is known of the Secret yet.
async fn find<K: IssuerObject>(issuer: &K, key: &IssuerKey, context: &Context) -> Result<Option<Loaded>, ReconcileError> {
    let spec = issuer.issuer_spec();
    let (project_id, reference) = match parts(spec, key, context) {
        Ok(Some(parts)) => parts,
        Ok(None) => return Ok(None),
        Err(fault) => return Ok(Some(Err(fault))),
    };
    let seen = match reference.seen(context, &Waiting::Issuer(key.clone())) {
        Ok(Some(seen)) => seen,
        Ok(None) => return Ok(None),
        Err(fault) => return Ok(Some(Err(fault))),
    };
    let version = format!(
        "{}{}/{}/{}",
        spec_version(issuer),
        project_id.as_deref().unwrap_or_default(),
        seen.uid().unwrap_or_default(),
        seen.resource_version().unwrap_or_default()
    );
    let now = context.now();
    if let Some(Ok(known)) = context.issuers.get(key)
        && known.facts.version == version
        && known.reread_at.is_none_or(|at| at > now)
    {
        return Ok(Some(Ok(known)));
    }
    Ok(Some(match reference.read(context).await? {
        Ok(secret) => load(key, spec, version, project_id, &secret, &context.atlas, now).map(Arc::new).map_err(|fault| {
            // Any other refusal is about the spec of the issuer itself.
            if fault.reason == Reason::CredentialsInvalid { reference.place.hide(fault) } else { fault }
        }),
        Err(fault) => Err(fault),
    }))
}

/// The id of the `AtlasProject` that the issuer refers to, if there is one, and the Secret that it needs. `None` if they are not
/// known yet.
///
/// Nothing is watched for an endpoint that is not allowed, because only another spec changes that.
fn parts(
    spec: &IssuerSpec,
    key: &IssuerKey,
    context: &Context,
) -> Result<Option<(Option<String>, SecretReference)>, IssuerFault> {
    let waiting = Waiting::Issuer(key.clone());
    if let Some(atlas) = &spec.atlas {
        endpoint_of(key.kind, atlas, &context.atlas).inspect_err(|_| forget_watches(context, key))?;
    }
    let project = if let Some(reference) = spec.atlas.as_ref().and_then(|atlas| atlas.project_ref.as_ref()) {
        let Some(project) = find_project(context, &waiting, reference, &key.namespace)? else { return Ok(None) };
        Some(project)
    } else {
        context.atlas_projects.forget(&waiting);
        None
    };
    let (missing, unusable) = match spec.source().ok_or_else(not_one_issuer)? {
        IssuerSource::Atlas(_) => (Reason::CredentialsNotFound, Reason::CredentialsInvalid),
        IssuerSource::Ca(_) => (Reason::CaNotFound, Reason::CaInvalid),
    };
    if let Some(name) = secret_of(spec) {
        let namespace = context.secrets_of_issuer(key);
        if let Some((at, _)) = &project {
            check_project_beside_secret(&context.settings.atlas_defaults.lending, &at.namespace, namespace)?;
        }
        let secret = SecretReference { name: SecretLocation::new(namespace, name), place: Place::Own, missing, unusable };
        return Ok(Some((project.map(|(_, project)| project.id), secret)));
    }
    match project {
        Some((at, Project { id, credentials: Some(secret) })) => {
            let place = project_credentials(&context.settings.atlas_defaults.lending, &key.namespace, &at.namespace, &secret)?;
            Ok(Some((Some(id), SecretReference { name: secret, place, missing, unusable })))
        }
        Some(_) => Err(IssuerFault::new(
            Reason::CredentialsNotFound,
            "the AtlasProject names no Secret with credentials: name one in spec.atlas.credentialsSecretRef",
        )),
        None => Err(IssuerFault::new(
            Reason::InvalidSpec,
            "name the Secret with the credentials: spec.atlas.credentialsSecretRef, or a projectRef that leads to one",
        )),
    }
}

/// Writes the status if it changed, or if the present one cannot be read: it holds nothing that cannot be found out anew.
async fn report<K: IssuerObject>(
    issuer: &Received<K>,
    context: &Context,
    (ready, reason, message): (bool, Reason, String),
) -> Result<(), ReconcileError> {
    let old = issuer.issuer_status().cloned().unwrap_or_default();
    let mut status = old.clone();
    status.observed_generation = issuer.meta().generation;
    set_condition(&mut status.conditions, READY, ready, reason, &message, issuer.meta().generation, context.now());
    set_stalled(&mut status.conditions, context.now());
    if status == old && issuer.unreadable().is_none() {
        return Ok(());
    }
    write_status(context, &**issuer, &status).await.map_err(|error| RequestError::from(error).of_object())?;
    for (reason, message) in new_warnings(&old.conditions, &status.conditions) {
        context.settings.metrics.warned(reason);
        context.events.publish(issuer, reason, &message).await;
    }
    Ok(())
}

fn forget_watches(context: &Context, key: &IssuerKey) {
    context.secret_watches.forget(&Waiting::Issuer(key.clone()));
    context.atlas_projects.forget(&Waiting::Issuer(key.clone()));
}

fn forget(context: &Context, key: &IssuerKey) {
    forget_watches(context, key);
    context.memory.forget_unreadable(&Waiting::Issuer(key.clone()));
    context.failures.end(&Waiting::Issuer(key.clone()));
    context.issuers.remove(key);
    wake_users(context, key);
}

fn wake_users(context: &Context, key: &IssuerKey) {
    let secrets_in = context.secrets_of_issuer(key);
    // Certificates that leave a Secret alone because this issuer needed it may take it now.
    let stands_aside = |certificate: &DatabaseUserCertificate| {
        let conditions = certificate.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let issuing = condition(conditions, ISSUING).is_some_and(|found| found.reason == Reason::SecretNotOwned.as_str());
        issuing && certificate.namespace().as_deref() == Some(secrets_in)
    };
    let is_concerned = |certificate: &Received<DatabaseUserCertificate>| {
        IssuerKey::of(certificate).as_ref() == Some(key) || stands_aside(certificate)
    };
    for user in context.certificate_store.state_filter(is_concerned) {
        context.triggers.wake(&Waiting::Certificate(ObjectKey::of(&user)));
    }
}
