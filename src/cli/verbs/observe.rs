//! What decisions need to know of one certificate, from what a person may read.
//!
//! | The operator knows | from here |
//! | --- | --- |
//! | the object, its namespace, its issuer | the same objects |
//! | what is in the Secret | the Secret's metadata, and what the operator verified in exactly this version; with `--read-secret` its content |
//! | the issuer's credentials or CA | nothing: its condition Ready tells that it can be used, and which CA or project it is |
//! | what it remembers, and what Atlas says | nothing |
//!
//! What could not be read is in [`Seen::notes`], for an answer must not look more certain than it is.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::PartialObjectMeta};
use usercert_operator_controller::{
    Received,
    adoption::{Holder, abandoned, holder, holds_certificate_in_status, is_in_status, left_behind},
    secret::{NamedPassword, read, recall},
};
use usercert_operator_core::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificateStatus, ISSUING, IssuerIdentity, IssuerKind,
        IssuerSource, IssuerSpec, IssuerStatus, READY, Reason, condition,
    },
    certificate::NameConstraints,
    decide::{
        Allow, CaFacts, IssuerFacts, IssuerState, IssuingMethod, ObjectMemory, Observed, SecretState, SecretView,
        parse_duration,
    },
    layout::KeystorePassword,
};

use super::objects::Certificate;
use crate::{cluster::Cluster, exit::CliError};

/// What was found, and what was not looked at.
pub(super) struct Seen {
    /// What decisions need. `None` if too little could be read to decide anything.
    pub(super) observed: Option<Observed>,
    /// What is assumed, or could not be read, each as a sentence.
    pub(super) notes: Vec<String>,
}

/// Looks at all that belongs to one certificate.
pub(super) async fn observe(cluster: &Cluster, object: &Certificate, read_secret: bool) -> Result<Seen, CliError> {
    let namespace = object.namespace().unwrap_or_default();
    let mut notes = Vec::new();
    let Some(secret) = secret_state(cluster, object, &namespace, read_secret, &mut notes).await? else {
        return Ok(Seen { observed: None, notes });
    };
    let issuer = issuer_state(cluster, object, &namespace, &secret, &mut notes).await?;
    let observed = Observed {
        // Only the operator counts losses, and knows by these which process has ended.
        process: None,
        released_by: None,
        issuer,
        secret,
        status: object.status.clone().unwrap_or_default(),
        unreadable: object.unreadable().map(ToString::to_string),
        is_spec_unreadable: object.unreadable_object().is_some(),
        memory: ObjectMemory::default(),
        user: None,
        namespace_labels: namespace_labels(cluster, &namespace, &mut notes).await?,
        namespace,
    };
    Ok(Seen { observed: Some(observed), notes })
}

/// The Secret as far as it may be looked at; `None` if that tells nothing.
async fn secret_state(
    cluster: &Cluster,
    object: &Certificate,
    namespace: &str,
    read_secret: bool,
    notes: &mut Vec<String>,
) -> Result<Option<SecretState>, CliError> {
    let name = object.secret_name();
    let api = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let metadata = match cluster.ask(format!("look at the Secret {name}"), api.get_metadata_opt(&name)).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let needed = needed_by(cluster, namespace, &name).await?;
            return Ok(Some(needed.map_or(SecretState::Absent, SecretState::NeededByIssuer)));
        }
        Err(error) if error.is_denied() => {
            notes.push(format!("nothing could be checked: you may not get the Secret {name} in the namespace {namespace}"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let received: Received<PartialObjectMeta<Secret>> = metadata.clone().into();
    if let Holder::Another(owner) = holder(object, &received) {
        let needed = needed_by(cluster, namespace, &name).await?;
        return Ok(Some(needed.map_or(SecretState::NotOurs(owner), SecretState::NeededByIssuer)));
    }
    if read_secret {
        return content(cluster, object, namespace, &name, notes).await.map(Some);
    }
    match holder(object, &received) {
        Holder::ThisObject => {}
        Holder::LeftToThisObject(whose) => return Ok(Some(left(&metadata, whose, true, notes))),
        Holder::Nobody(whose) => return Ok(Some(left(&metadata, whose, false, notes))),
        Holder::Another(owner) => return Ok(Some(SecretState::NotOurs(owner))),
    }
    let view = object.status.as_ref().and_then(|status| recall(object, &metadata.metadata, status));
    if view.is_none() {
        notes.push(format!(
            "nothing could be checked: the operator has not found the present version of the Secret {name} to be in order, and its content was not read. --read-secret reads it"
        ));
    }
    Ok(view.map(|view| SecretState::Ours(Box::new(view))))
}

fn left(metadata: &PartialObjectMeta<Secret>, whose: String, is_retained: bool, notes: &mut Vec<String>) -> SecretState {
    notes.push("whether the content of the Secret may be taken over was not looked at: --read-secret reads it".to_owned());
    let secret = Secret { metadata: metadata.metadata.clone(), ..Secret::default() };
    SecretState::Abandoned(Box::new(abandoned(&secret, whose, is_retained, None)))
}

/// The Secret with its content, read as the operator reads it.
async fn content(
    cluster: &Cluster,
    object: &Certificate,
    namespace: &str,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<SecretState, CliError> {
    let api = Api::<Received<Secret>>::namespaced(cluster.client.clone(), namespace);
    let Some(found) = cluster.ask(format!("read the Secret {name}"), api.get_opt(name)).await? else {
        return Ok(SecretState::Absent);
    };
    // Whether the operator knows it by itself, only its memory tells. What it has found good is in the status.
    let is_known = is_in_status(object, &found.uid().unwrap_or_default()) || holds_certificate_in_status(object, &found);
    let needed = needed_by(cluster, namespace, name).await?;
    if let Some(left) = left_behind(object, &found, is_known, || needed.map(SecretState::NeededByIssuer)) {
        return Ok(left);
    }
    let has_named_password = object.spec.formats.iter().any(|format| format.password_secret_ref.is_some());
    let password = has_named_password.then(|| {
        notes.push("the keystore was not compared, for its password is in another Secret".to_owned());
        KeystorePassword::Unusable("it was not read".to_owned())
    });
    let mut view = read(object, &found, &NamedPassword { password, ..NamedPassword::default() }).view;
    if has_named_password {
        view.keystore.fault = None;
    }
    Ok(SecretState::Ours(Box::new(view)))
}

/// The `CertificateIssuer` of the namespace whose Secret this is.
async fn needed_by(cluster: &Cluster, namespace: &str, secret: &str) -> Result<Option<String>, CliError> {
    let api = Api::<Received<CertificateIssuer>>::namespaced(cluster.client.clone(), namespace);
    let issuers = cluster.list("issuers", &api, &ListParams::default()).await?;
    let found = issuers.iter().find(|issuer| secret_of(&issuer.spec) == Some(secret));
    Ok(found.map(|issuer| format!("the CertificateIssuer {}", issuer.name_any())))
}

/// The Secret that the spec of an issuer names.
pub(super) fn secret_of(spec: &IssuerSpec) -> Option<&str> {
    match spec.source()? {
        IssuerSource::Atlas(atlas) => atlas.credentials_secret_ref.as_ref().map(|secret| secret.name.as_str()),
        IssuerSource::Ca(ca) => Some(&ca.secret_name),
    }
}

/// The labels of the namespace; none if they may not be looked at.
pub(super) async fn namespace_labels(
    cluster: &Cluster,
    namespace: &str,
    notes: &mut Vec<String>,
) -> Result<std::collections::BTreeMap<String, String>, CliError> {
    let api = Api::<Namespace>::all(cluster.client.clone());
    match cluster.ask(format!("look at the namespace {namespace}"), api.get_metadata_opt(namespace)).await {
        Ok(found) => Ok(found.and_then(|found| found.metadata.labels).unwrap_or_default()),
        Err(error) if error.is_denied() => {
            notes.push(format!("the labels of the namespace are taken to be none: you may not get the namespace {namespace}"));
            Ok(std::collections::BTreeMap::new())
        }
        Err(error) => Err(error),
    }
}

/// The issuer, as its spec and its condition Ready tell.
pub(super) async fn issuer_state(
    cluster: &Cluster,
    object: &Certificate,
    namespace: &str,
    secret: &SecretState,
    notes: &mut Vec<String>,
) -> Result<IssuerState, CliError> {
    let Some(reference) = &object.spec.issuer_ref else {
        notes.push("what the AtlasDatabaseUser says is taken from the object's own conditions".to_owned());
        return Ok(user_issuer(object, secret));
    };
    let operation = format!("read the {} {}", reference.kind.as_str(), reference.name);
    let (found, secrets_in) = match reference.kind {
        IssuerKind::CertificateIssuer => {
            let api = Api::<CertificateIssuer>::namespaced(cluster.client.clone(), namespace);
            let found = cluster.ask(operation, api.get_opt(&reference.name)).await;
            (found.map(|found| found.map(|issuer| Issuer::new(&issuer, issuer.spec.clone(), issuer.status.clone()))), namespace)
        }
        IssuerKind::ClusterCertificateIssuer => {
            let api = Api::<ClusterCertificateIssuer>::all(cluster.client.clone());
            let found = cluster.ask(operation, api.get_opt(&reference.name)).await;
            let found =
                found.map(|found| found.map(|issuer| Issuer::new(&issuer, issuer.spec.0.clone(), issuer.status.clone())));
            (found, cluster.operator_namespace.as_str())
        }
    };
    let issuer = match found {
        Ok(Some(issuer)) => issuer,
        Ok(None) => return Ok(IssuerState::Missing),
        Err(error) if error.is_denied() => {
            notes.push(format!(
                "the issuer could not be looked at: you may not get the {} {}",
                reference.kind.as_str(),
                reference.name
            ));
            return Ok(IssuerState::Unknown);
        }
        Err(error) => return Err(error),
    };
    let version = version(cluster, &issuer, secrets_in, notes).await;
    notes.push(match issuer.spec.source() {
        Some(IssuerSource::Ca(_)) => {
            "the CA's Secret was not read, for the CA's key is in it: which CA it is, the issuer's condition Ready tells, and its chain and name constraints count as they were when the Secret was found in order"
                .to_owned()
        }
        _ => "that the issuer's credentials work is taken from its condition Ready: they were not read".to_owned(),
    });
    Ok(issuer.state(reference.kind, &reference.name, secret.ours(), &object.status.clone().unwrap_or_default(), version))
}

/// What changes with the issuer and its Secret, as the operator puts it together; empty if that cannot be known.
async fn version(cluster: &Cluster, issuer: &Issuer, secrets_in: &str, notes: &mut Vec<String>) -> String {
    let by_project = issuer.spec.atlas.as_ref().is_some_and(|atlas| atlas.project_ref.is_some());
    if let Some(name) = secret_of(&issuer.spec).filter(|_| !by_project) {
        let api = Api::<Secret>::namespaced(cluster.client.clone(), secrets_in);
        let found = cluster.ask(format!("look at the Secret {name}"), api.get_metadata_opt(name)).await;
        if let Ok(Some(secret)) = found {
            let (uid, version) = (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
            return format!("{}/{}//{uid}/{version}", issuer.uid, issuer.generation);
        }
    }
    notes.push(
        "whether a change of the issuer ended a wait early could not be told: its Secret may not be looked at".to_owned(),
    );
    String::new()
}

/// An issuer of either kind.
struct Issuer {
    uid: String,
    generation: i64,
    spec: IssuerSpec,
    status: IssuerStatus,
}

impl Issuer {
    fn new<K: Resource>(object: &K, spec: IssuerSpec, status: Option<IssuerStatus>) -> Self {
        let metadata = object.meta();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            spec,
            status: status.unwrap_or_default(),
        }
    }

    fn state(
        &self,
        kind: IssuerKind,
        name: &str,
        view: Option<&SecretView>,
        status: &DatabaseUserCertificateStatus,
        version: String,
    ) -> IssuerState {
        let ready =
            condition(&self.status.conditions, READY).filter(|_| self.status.observed_generation == Some(self.generation));
        let Some(ready) = ready else { return IssuerState::Unknown };
        let reason = Reason::from_name(&ready.reason).unwrap_or(Reason::InvalidSpec);
        let unusable = |message: &str| IssuerState::Unusable(reason, format!("{} {name}: {message}", kind.as_str()));
        if ready.status != "True" {
            return unusable(&ready.message);
        }
        let allow = match kind {
            IssuerKind::CertificateIssuer => Allow::of_namespaced_issuer(self.spec.allow.as_ref()),
            IssuerKind::ClusterCertificateIssuer => Allow::of_cluster_issuer(self.spec.allow.as_ref()),
        };
        let forbidden = self.spec.ca.as_ref().map_or(&[][..], |ca| &ca.forbidden_subjects);
        let (Some(source), Ok(allow)) = (self.spec.source(), allow.and_then(|allow| allow.with_forbidden(forbidden))) else {
            return unusable(&ready.message);
        };
        let facts = IssuerFacts {
            method: match source {
                IssuerSource::Atlas(atlas) => IssuingMethod::Mint { months_until_expiration: atlas.months_until_expiration },
                IssuerSource::Ca(ca) => IssuingMethod::Sign(CaFacts {
                    duration: duration("spec.ca.duration", ca.duration.as_deref()),
                    max_duration: duration("spec.ca.maxDuration", ca.max_duration.as_deref()),
                    ..presumed_ca(view, status)
                }),
            },
            allow,
            username: None,
            identity: IssuerIdentity::in_message(&ready.message).unwrap_or_else(|| presumed_identity(view, status)),
            version,
        };
        IssuerState::Usable(Box::new(facts))
    }
}

fn duration(field: &str, text: Option<&str>) -> Option<jiff::SignedDuration> {
    text.and_then(|text| parse_duration(field, text).ok())
}

/// The CA that the Secret was found good for.
fn presumed_ca(view: Option<&SecretView>, status: &DatabaseUserCertificateStatus) -> CaFacts {
    let verified = status.verified.as_ref();
    let read = view.and_then(|view| view.chain.digest.clone());
    CaFacts {
        duration: None,
        max_duration: None,
        not_after: verified.and_then(|verified| verified.chain_not_after.as_ref()).map_or(jiff::Timestamp::MAX, |time| time.0),
        ca_digest: view.and_then(|view| view.ca_digest.clone()).unwrap_or_default(),
        chain_digest: verified.and_then(|verified| verified.chain.clone()).or(read).unwrap_or_default(),
        name_constraints: NameConstraints::default(),
    }
}

/// Who issued the certificate in the Secret, or the last one that is known.
fn presumed_identity(view: Option<&SecretView>, status: &DatabaseUserCertificateStatus) -> IssuerIdentity {
    let in_history = || status.history.first().and_then(|issued| issued.issuer.clone()).map(IssuerIdentity::from);
    view.and_then(|view| view.issuer.clone()).or_else(in_history).unwrap_or_else(|| IssuerIdentity::from(""))
}

/// The issuer that an `AtlasDatabaseUser` amounts to, as the object's conditions tell.
fn user_issuer(object: &Certificate, secret: &SecretState) -> IssuerState {
    let status = object.status.clone().unwrap_or_default();
    let issuing = condition(&status.conditions, ISSUING);
    let is_about_it = |reason: &Reason| {
        matches!(
            reason,
            Reason::AtlasObjectNotFound
                | Reason::AtlasObjectNotReady
                | Reason::CredentialsNotFound
                | Reason::CredentialsInvalid
                | Reason::CredentialsNotLent
                | Reason::LentCredentialsUnusable
        )
    };
    if let Some((reason, issuing)) =
        issuing.and_then(|issuing| Some((Reason::from_name(&issuing.reason).filter(is_about_it)?, issuing)))
    {
        return IssuerState::Unusable(reason, issuing.message.clone());
    }
    let Some(username) = secret.certificate().and_then(|certificate| certificate.subject.lone_common_name()) else {
        return IssuerState::Unknown;
    };
    IssuerState::Usable(Box::new(IssuerFacts {
        method: IssuingMethod::Mint { months_until_expiration: 3 },
        allow: Allow::default(),
        username: Some(username),
        identity: presumed_identity(secret.ours(), &status),
        version: String::new(),
    }))
}
