//! What decisions need to know of one certificate, from what a person may read.
//!
//! | The operator knows | from here |
//! | --- | --- |
//! | the object, its namespace, its issuer | the same objects |
//! | what is in the Secret | the Secret's metadata, and what the operator verified in exactly this version; with `--read-secret` its content |
//! | the issuer's credentials or CA | nothing: its condition Ready tells that it can be used, and which CA or project it is |
//! | what it remembers, and what Atlas says | nothing |
//!
//! What could not be read is in [`Unseen`], for an answer must not look more certain than it is.

mod issuer;
mod unseen;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use usercert_operator_controller::{
    Received,
    adoption::{Holder, abandoned, holder, holds_certificate_in_status, is_in_status, left_behind},
    secret::{NamedPassword, read, recall},
    secret_of,
};
use usercert_operator_core::{
    api::CertificateIssuer,
    decide::{Check, ObjectMemory, Observed, SecretState},
    layout::KeystorePassword,
};

pub(super) use self::{issuer::issuer_state, unseen::Unseen};
use super::{objects::Certificate, state::not_understood};
use crate::{cluster::Cluster, exit::CliError};

/// What was found, and what was not looked at.
pub(super) struct Seen {
    /// What decisions need. `None` if too little could be read to decide anything.
    pub(super) observed: Option<Observed>,
    /// What was not looked at.
    pub(super) unseen: Unseen,
}

/// Looks at all that belongs to one certificate.
pub(super) async fn observe(cluster: &Cluster, object: &Certificate, read_secret: bool) -> Result<Seen, CliError> {
    let namespace = object.namespace().unwrap_or_default();
    let mut unseen = Unseen::default();
    // What this program does not understand may be what decides.
    if let Some(note) = not_understood(object) {
        unseen.note(format!("nothing could be checked: {note}"));
        return Ok(Seen { observed: None, unseen });
    }
    let Some(secret) = secret_state(cluster, object, &namespace, read_secret, &mut unseen).await? else {
        return Ok(Seen { observed: None, unseen });
    };
    let Some(issuer) = issuer_state(cluster, object, &namespace, &secret, &mut unseen).await? else {
        return Ok(Seen { observed: None, unseen });
    };
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
        held: std::collections::BTreeSet::new(),
        namespace_labels: namespace_labels(cluster, &namespace, &mut unseen).await?,
        namespace,
    };
    Ok(Seen { observed: Some(observed), unseen })
}

/// The Secret as far as it may be looked at; `None` if that tells nothing.
async fn secret_state(
    cluster: &Cluster,
    object: &Certificate,
    namespace: &str,
    read_secret: bool,
    unseen: &mut Unseen,
) -> Result<Option<SecretState>, CliError> {
    let name = object.secret_name();
    let api = Api::<Received<PartialObjectMeta<Secret>>>::namespaced(cluster.client.clone(), namespace);
    let metadata = match cluster.ask(format!("look at the Secret {name}"), api.get_opt(&name)).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let needed = needed_by(cluster, namespace, &name, unseen).await?;
            return Ok(Some(needed.map_or(SecretState::Absent, SecretState::NeededByIssuer)));
        }
        Err(error) if error.is_denied() => {
            unseen.note(format!("nothing could be checked: you may not get the Secret {name} in the namespace {namespace}"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if let Holder::Another(owner) = holder(object, &metadata) {
        let needed = needed_by(cluster, namespace, &name, unseen).await?;
        return Ok(Some(needed.map_or(SecretState::NotOurs(owner), SecretState::NeededByIssuer)));
    }
    if read_secret {
        return content(cluster, object, namespace, &name, unseen).await.map(Some);
    }
    match holder(object, &metadata) {
        Holder::ThisObject => {}
        Holder::LeftToThisObject(whose) => return Ok(Some(left(&metadata, whose, true, unseen))),
        Holder::Nobody(whose) => return Ok(Some(left(&metadata, whose, false, unseen))),
        Holder::Another(owner) => return Ok(Some(SecretState::NotOurs(owner))),
    }
    let view = object.status.as_ref().and_then(|status| recall(object, &metadata.metadata, status));
    if view.is_none() {
        unseen.note(format!(
            "nothing could be checked: the operator has not found the present version of the Secret {name} to be in order, and its content was not read. --read-secret reads it"
        ));
    }
    Ok(view.map(|view| SecretState::Ours(Box::new(view))))
}

fn left(metadata: &PartialObjectMeta<Secret>, whose: String, is_retained: bool, unseen: &mut Unseen) -> SecretState {
    unseen.note("whether the content of the Secret may be taken over was not looked at: --read-secret reads it".to_owned());
    let secret = Secret { metadata: metadata.metadata.clone(), ..Secret::default() };
    SecretState::Abandoned(Box::new(abandoned(&secret, whose, is_retained, None)))
}

/// The Secret with its content, read as the operator reads it.
async fn content(
    cluster: &Cluster,
    object: &Certificate,
    namespace: &str,
    name: &str,
    unseen: &mut Unseen,
) -> Result<SecretState, CliError> {
    let api = Api::<Received<Secret>>::namespaced(cluster.client.clone(), namespace);
    let Some(found) = cluster.ask(format!("read the Secret {name}"), api.get_opt(name)).await? else {
        return Ok(SecretState::Absent);
    };
    // Whether the operator knows it by itself, only its memory tells. What it has found good is in the status.
    let is_known = is_in_status(object, &found.uid().unwrap_or_default()) || holds_certificate_in_status(object, &found);
    let needed = needed_by(cluster, namespace, name, unseen).await?;
    if let Some(left) = left_behind(object, &found, is_known, || needed.map(SecretState::NeededByIssuer)) {
        return Ok(left);
    }
    let has_named_password = object.spec.formats.iter().any(|format| format.password_secret_ref.is_some());
    let password = has_named_password.then(|| {
        unseen.note("the keystore was not compared, for its password is in another Secret");
        unseen.presume(&[Check::SecretComplete], "the keystore was not compared");
        KeystorePassword::Unusable("it was not read".to_owned())
    });
    let mut view = read(object, &found, &NamedPassword { password, ..NamedPassword::default() }).view;
    if has_named_password {
        view.keystore.fault = None;
    }
    Ok(SecretState::Ours(Box::new(view)))
}

/// The `CertificateIssuer` of the namespace whose Secret this is.
async fn needed_by(cluster: &Cluster, namespace: &str, secret: &str, unseen: &mut Unseen) -> Result<Option<String>, CliError> {
    let api = Api::<Received<CertificateIssuer>>::namespaced(cluster.client.clone(), namespace);
    let issuers = match cluster.list("issuers", &api, &ListParams::default()).await {
        Err(error) if error.is_denied() => {
            unseen.note(format!(
                "whether an issuer needs the Secret {secret} could not be told: you may not list CertificateIssuers in the namespace {namespace}"
            ));
            return Ok(None);
        }
        listed => listed?,
    };
    let found = issuers.iter().find(|issuer| secret_of(&issuer.spec) == Some(secret));
    Ok(found.map(|issuer| format!("the CertificateIssuer {}", issuer.name_any())))
}

/// The labels of the namespace; none if they may not be looked at.
pub(super) async fn namespace_labels(
    cluster: &Cluster,
    namespace: &str,
    unseen: &mut Unseen,
) -> Result<std::collections::BTreeMap<String, String>, CliError> {
    let api = Api::<Received<PartialObjectMeta<Namespace>>>::all(cluster.client.clone());
    match cluster.ask(format!("look at the namespace {namespace}"), api.get_opt(namespace)).await {
        Ok(found) => Ok(found.and_then(|found| found.metadata.labels.clone()).unwrap_or_default()),
        Err(error) if error.is_denied() => {
            unseen.note(format!("the labels of the namespace are taken to be none: you may not get the namespace {namespace}"));
            unseen.presume(&[Check::NamespaceAllowed], "you may not get the namespace, whose labels may count");
            Ok(std::collections::BTreeMap::new())
        }
        Err(error) => Err(error),
    }
}
