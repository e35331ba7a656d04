//! The issuer, as a person may see it.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Resource, ResourceExt, core::PartialObjectMeta};
use usercert_operator_controller::{Received, secret_of};
use usercert_operator_core::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificateStatus, ISSUING, IssuerIdentity, IssuerKind,
        IssuerReference, IssuerSource, IssuerSpec, IssuerStatus, READY, Reason, condition,
    },
    certificate::NameConstraints,
    decide::{Allow, CaFacts, Check, IssuerFacts, IssuerState, IssuingMethod, SecretState, SecretView, parse_duration},
};

use super::unseen::Unseen;
use crate::{cluster::Cluster, exit::CliError, verbs::objects::Certificate};

/// The checks that rest on the issuer's spec and condition.
const OF_ISSUER: &[Check] =
    &[Check::IssuerSeen, Check::IssuerUsable, Check::NamespaceAllowed, Check::SpecFits, Check::SubjectAllowed];

/// The checks that rest on the certificates of a CA: its name constraints, its chain, and its end.
const OF_CA: &[Check] = &[Check::SubjectAllowed, Check::ChainVerifies, Check::LastsLonger];

/// The issuer, as its spec and its condition Ready tell. `None` if nothing tells what it is.
pub(in crate::verbs) async fn issuer_state(
    cluster: &Cluster,
    object: &Certificate,
    namespace: &str,
    secret: &SecretState,
    unseen: &mut Unseen,
) -> Result<Option<IssuerState>, CliError> {
    let Some(reference) = &object.spec.issuer_ref else {
        unseen.note("what the AtlasDatabaseUser says is taken from the object's own conditions");
        let state = user_issuer(object, secret);
        if state.usable().is_some() {
            unseen.presume(OF_ISSUER, "the AtlasDatabaseUser was not read");
            unseen.presume(&[Check::SubjectFits, Check::IssuerFits], "the AtlasDatabaseUser was not read");
        }
        return Ok(Some(state));
    };
    let issuer = match read(cluster, reference, namespace).await {
        Ok(Some(issuer)) => issuer,
        Ok(None) => return Ok(Some(IssuerState::Missing)),
        Err(error) if error.is_denied() => {
            return Ok(unknown(reference, object, secret, unseen, "you may not get", "you may not get the issuer"));
        }
        Err(error) => return Err(error),
    };
    if let Some(fault) = &issuer.unreadable {
        let cause = format!("this program does not understand it ({fault}):");
        return Ok(unknown(reference, object, secret, unseen, &cause, "this program does not understand the issuer"));
    }
    let secrets_in = match reference.kind {
        IssuerKind::CertificateIssuer => namespace,
        IssuerKind::ClusterCertificateIssuer => &cluster.operator_namespace,
    };
    let version = version(cluster, &issuer, secrets_in, unseen).await;
    unseen.note(match issuer.spec.source() {
        Some(IssuerSource::Ca(_)) => {
            "the CA's Secret was not read, because it holds the CA's key. The CA is taken from the issuer's condition Ready. The chain and the name constraints are those of the last good check"
                .to_owned()
        }
        _ => "that the issuer's credentials work is taken from its condition Ready: they were not read".to_owned(),
    });
    if matches!(issuer.spec.source(), Some(IssuerSource::Ca(_))) {
        unseen.presume(OF_CA, "the CA's Secret was not read");
    }
    if issuer.identity().is_none() {
        unseen.presume(&[Check::IssuerFits], "the issuer's condition does not tell which CA or project it is");
    }
    let status = object.status.clone().unwrap_or_default();
    Ok(Some(issuer.state(reference.kind, &reference.name, secret.ours(), &status, version)))
}

async fn read(cluster: &Cluster, reference: &IssuerReference, namespace: &str) -> Result<Option<Issuer>, CliError> {
    let operation = format!("read the {} {}", reference.kind.as_str(), reference.name);
    match reference.kind {
        IssuerKind::CertificateIssuer => {
            let api = Api::<Received<CertificateIssuer>>::namespaced(cluster.client.clone(), namespace);
            let found = cluster.ask(operation, api.get_opt(&reference.name)).await?;
            Ok(found.map(|issuer| Issuer::new(&issuer, issuer.spec.clone(), issuer.status.clone())))
        }
        IssuerKind::ClusterCertificateIssuer => {
            let api = Api::<Received<ClusterCertificateIssuer>>::all(cluster.client.clone());
            let found = cluster.ask(operation, api.get_opt(&reference.name)).await?;
            Ok(found.map(|issuer| Issuer::new(&issuer, issuer.spec.0.clone(), issuer.status.clone())))
        }
    }
}

/// An issuer that may not be looked at, or that this program does not understand, as the object's conditions tell. `cause`: the beginning of a
/// sentence that goes on with the issuer's name.
fn unknown(
    reference: &IssuerReference,
    object: &Certificate,
    secret: &SecretState,
    unseen: &mut Unseen,
    cause: &str,
    why: &'static str,
) -> Option<IssuerState> {
    let name = format!("{} {}", reference.kind.as_str(), reference.name);
    unseen.note(format!("the issuer could not be looked at: {cause} the {name}"));
    let state = issuer_of_conditions(object, secret);
    if state.as_ref().is_some_and(|state| state.usable().is_some()) {
        for checks in [OF_ISSUER, OF_CA, &[Check::IssuerFits]] {
            unseen.presume(checks, why);
        }
    }
    state
}

/// What changes with the issuer and its Secret, as the operator puts it together; empty if that cannot be known.
async fn version(cluster: &Cluster, issuer: &Issuer, secrets_in: &str, unseen: &mut Unseen) -> String {
    let by_project = issuer.spec.atlas.as_ref().is_some_and(|atlas| atlas.project_ref.is_some());
    if let Some(name) = secret_of(&issuer.spec).filter(|_| !by_project) {
        let api = Api::<Received<PartialObjectMeta<Secret>>>::namespaced(cluster.client.clone(), secrets_in);
        let found = cluster.ask(format!("look at the Secret {name}"), api.get_opt(name)).await;
        if let Ok(Some(secret)) = found {
            let (uid, version) = (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
            return format!("{}/{}//{uid}/{version}", issuer.uid, issuer.generation);
        }
    }
    unseen.note(
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
    /// What of its spec this program does not understand. What is left of it may mean something else.
    unreadable: Option<String>,
}

impl Issuer {
    fn new<K: Resource>(object: &Received<K>, spec: IssuerSpec, status: Option<IssuerStatus>) -> Self {
        let metadata = object.meta();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            spec,
            status: status.unwrap_or_default(),
            unreadable: object.unreadable_object().map(|unreadable| unreadable.fault().to_owned()),
        }
    }

    /// Which CA or project it is, as its spec or its condition Ready tells.
    fn identity(&self) -> Option<IssuerIdentity> {
        let project = self.spec.atlas.as_ref().and_then(|atlas| atlas.project_id.as_deref());
        let of_condition = || IssuerIdentity::in_message(&condition(&self.status.conditions, READY)?.message);
        project.map(IssuerIdentity::of_atlas_project).or_else(of_condition)
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
        // Refused credentials do not keep the operator from trying.
        if ready.status != "True" && !reason.is_about_credentials() {
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
            identity: self.identity().unwrap_or_else(|| presumed_identity(view, status)),
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

/// What the object's own conditions say that is about its issuer.
fn fault_in_conditions(object: &Certificate) -> Option<IssuerState> {
    let issuing = condition(&object.status.as_ref()?.conditions, ISSUING)?;
    let reason = Reason::from_name(&issuing.reason).filter(|reason| {
        matches!(
            reason,
            Reason::AtlasObjectNotFound
                | Reason::AtlasObjectNotReady
                | Reason::IssuerNotFound
                | Reason::IssuerNotAllowed
                | Reason::EndpointNotAllowed
                | Reason::CredentialsNotFound
                | Reason::CredentialsInvalid
                | Reason::CredentialsNotLent
                | Reason::LentCredentialsUnusable
                | Reason::CaNotFound
                | Reason::CaInvalid
                | Reason::CaNotInDate
        )
    })?;
    Some(IssuerState::Unusable(reason, issuing.message.clone()))
}

/// An issuer that may not be looked at, as the object's conditions and its Secret tell; `None` if these tell too little.
fn issuer_of_conditions(object: &Certificate, secret: &SecretState) -> Option<IssuerState> {
    if let Some(fault) = fault_in_conditions(object) {
        return Some(fault);
    }
    let (status, view) = (object.status.clone().unwrap_or_default(), secret.ours()?);
    let identity = view.issuer.clone()?;
    let method = if identity.is_ca() {
        IssuingMethod::Sign(presumed_ca(Some(view), &status))
    } else {
        IssuingMethod::Mint { months_until_expiration: 3 }
    };
    let (allow, version) = (Allow::default(), String::new());
    Some(IssuerState::Usable(Box::new(IssuerFacts { method, allow, username: None, identity, version })))
}

/// The issuer that an `AtlasDatabaseUser` amounts to, as the object's conditions tell.
fn user_issuer(object: &Certificate, secret: &SecretState) -> IssuerState {
    let status = object.status.clone().unwrap_or_default();
    if let Some(fault) = fault_in_conditions(object) {
        return fault;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_issuer_whose_credentials_are_refused_is_used_all_the_same() {
        let state = |reason: &str| {
            let spec = json!({ "atlas": { "projectId": "5efda6aea3f2ed2e7dd6ce05", "credentialsSecretRef": { "name": "k" } } });
            let ready = json!({ "type": "Ready", "status": "False", "reason": reason, "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let status = json!({ "observedGeneration": 1, "conditions": [ready] });
            let (spec, status) = (serde_json::from_value(spec).unwrap(), serde_json::from_value(status).unwrap());
            let issuer = Issuer { uid: "u".to_owned(), generation: 1, spec, status, unreadable: None };
            issuer.state(IssuerKind::CertificateIssuer, "atlas", None, &DatabaseUserCertificateStatus::default(), String::new())
        };
        for refused in ["AtlasUnauthorized", "AtlasAccessListDenied"] {
            let of_project = IssuerIdentity::of_atlas_project("5efda6aea3f2ed2e7dd6ce05");
            assert_eq!(state(refused).usable().map(|facts| facts.identity.clone()), Some(of_project), "{refused}");
        }
        for unusable in ["CredentialsNotFound", "EndpointNotAllowed", "InvalidSpec"] {
            assert!(state(unusable).usable().is_none(), "{unusable}");
        }
    }
}
