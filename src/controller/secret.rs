//! The Secret of a certificate: what is in it, and what is written to it.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt, api::ObjectMeta};
use rustls::pki_types::CertificateDer;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, DeletionPolicy, IssuerIdentity, VerifiedSecret,
        names::{
            CA_CERTIFICATE, CA_DIGEST_ANNOTATION, CERTIFICATE_UID_LABEL, CONTROLLER, ISSUANCE_ANNOTATION,
            ISSUE_REASON_ANNOTATION, ISSUER_ANNOTATION, NOT_AFTER_ANNOTATION, RENEW_REQUESTED_ANNOTATION,
            RETAINED_FOR_ANNOTATION, SERIAL_NUMBER_ANNOTATION, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY, TLS_SECRET_TYPE,
        },
    },
    certificate::{CertificateFacts, CertificatePair, PairError, Subject, check_leads_to},
    decide::{ChainView, SecretView},
};

/// What a Secret is to hold.
#[derive(Clone)]
pub struct SecretContent {
    /// The certificate and its key.
    pub pair: CertificatePair,
    /// PEM for `ca.crt`.
    pub ca_certificate: Option<String>,
    /// Who issued it, where that is known.
    pub issuer: Option<IssuerIdentity>,
    /// Why it was issued.
    pub issue_reason: Option<String>,
    /// The claim under which it was issued.
    pub issuance: Option<String>,
    /// The renewal request that it answers.
    pub renew_request: Option<String>,
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretContent").field("pair", &self.pair).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl SecretContent {
    fn annotations(&self) -> BTreeMap<String, Option<String>> {
        let facts = self.pair.facts();
        [
            (SERIAL_NUMBER_ANNOTATION, Some(facts.serial_number.to_string())),
            (NOT_AFTER_ANNOTATION, Some(facts.not_after.to_string())),
            (ISSUER_ANNOTATION, self.issuer.as_ref().map(ToString::to_string)),
            (ISSUE_REASON_ANNOTATION, self.issue_reason.clone()),
            (ISSUANCE_ANNOTATION, self.issuance.clone()),
            (RENEW_REQUESTED_ANNOTATION, self.renew_request.clone()),
            (CA_DIGEST_ANNOTATION, self.ca_certificate.as_deref().map(sha256)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn data(&self) -> BTreeMap<String, Option<ByteString>> {
        let bytes = |text: &str| Some(ByteString(text.as_bytes().to_vec()));
        [
            (TLS_CERTIFICATE, bytes(&self.pair.certificates_pem())),
            (TLS_PRIVATE_KEY, bytes(self.pair.key_pem().expose_secret())),
            (TLS_COMBINED, bytes(self.pair.combined_pem().expose_secret())),
            (CA_CERTIFICATE, self.ca_certificate.as_deref().and_then(bytes)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// A new Secret.
    #[must_use]
    pub fn to_secret(&self, object: &DatabaseUserCertificate) -> Secret {
        Secret {
            metadata: new_metadata(object, present(self.annotations())),
            type_: Some(TLS_SECRET_TYPE.to_owned()),
            data: Some(present(self.data())),
            ..Secret::default()
        }
    }

    /// A merge patch for a Secret of ours as it was seen: it fails with a conflict on any other. Labels, annotations and keys
    /// of others are not named in it and so survive.
    #[must_use]
    pub fn to_patch(&self, object: &DatabaseUserCertificate, seen: &SecretView) -> Value {
        let mut annotations = json!(self.annotations());
        let mut metadata = json!({ "uid": seen.uid, "resourceVersion": seen.resource_version, "labels": labels(object) });
        if seen.deletion_policy != Some(object.spec.deletion_policy) {
            let owned = ownership(object, &seen.owners);
            metadata["ownerReferences"] = owned["ownerReferences"].clone();
            annotations[RETAINED_FOR_ANNOTATION] = owned["annotations"][RETAINED_FOR_ANNOTATION].clone();
        }
        metadata["annotations"] = annotations;
        json!({ "metadata": metadata, "data": self.data() })
    }

    /// The Secret after the write that returned `written`, without looking at its data again.
    #[must_use]
    pub fn view(&self, written: &ObjectMeta, wrong_type: Option<String>) -> SecretView {
        let ca_certificate = self.ca_certificate.as_deref().unwrap_or_default().as_bytes();
        let seen = view_of(written, Ok(self.pair.facts().clone()));
        let chain = if is_from_ca(&seen) { chain(&self.pair, ca_certificate) } else { ChainView::default() };
        SecretView { wrong_type, complete: true, chain, ..seen }
    }
}

/// A Secret like the one that will be written, but without a key: to ask the API server whether it would take it.
#[must_use]
pub fn placeholder(object: &DatabaseUserCertificate) -> Secret {
    let empty = || ByteString(Vec::new());
    Secret {
        metadata: new_metadata(object, BTreeMap::new()),
        type_: Some(TLS_SECRET_TYPE.to_owned()),
        data: Some([(TLS_CERTIFICATE.to_owned(), empty()), (TLS_PRIVATE_KEY.to_owned(), empty())].into()),
        ..Secret::default()
    }
}

/// The same as a patch. It touches the data, because an immutable Secret still takes labels.
#[must_use]
pub fn placeholder_patch(object: &DatabaseUserCertificate, seen: &SecretView) -> Value {
    json!({
        "metadata": { "uid": seen.uid, "resourceVersion": seen.resource_version, "labels": labels(object) },
        "data": { TLS_COMBINED: ByteString(b"placeholder".to_vec()) },
    })
}

/// The pair in a Secret: that of `tls.crt` and `tls.key`, else that of `tls-combined.pem`.
pub(super) fn first_pair(secret: &Secret) -> Result<CertificatePair, PairError> {
    CertificatePair::parse(entry(secret, TLS_CERTIFICATE), entry(secret, TLS_PRIVATE_KEY))
        .or_else(|fault| CertificatePair::parse_combined(entry(secret, TLS_COMBINED)).map_err(|_| fault))
}

fn entry<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0)
}

/// Reads a Secret of ours: the first usable pair in it, and whether all else is as we write it.
///
/// A pair that was spoilt in `tls.crt` or `tls.key` is taken from `tls-combined.pem`, which costs no new certificate.
#[must_use]
pub fn read(object: &DatabaseUserCertificate, secret: &Secret) -> (SecretView, Option<CertificatePair>) {
    let entry = |key: &str| entry(secret, key);
    let (certificates, key, combined) = (entry(TLS_CERTIFICATE), entry(TLS_PRIVATE_KEY), entry(TLS_COMBINED));
    let (pair, fault) = best_pair(certificates, key, combined, entry(CA_CERTIFICATE));
    let facts = pair.as_ref().map(|pair| pair.facts().clone()).ok_or_else(|| fault.clone().unwrap_or_default());
    let mut view = view_of(&secret.metadata, facts);
    view.issuer = view.issuer.or_else(|| issuer_in_history(object, view.certificate.as_ref().ok()?));
    view.changed_by = last_other_manager(&secret.metadata);
    if let Some(pair) = pair.as_ref().filter(|_| is_from_ca(&view)) {
        view.chain = chain(pair, entry(CA_CERTIFICATE));
    }
    view.wrong_type = secret.type_.clone().filter(|type_| type_ != TLS_SECRET_TYPE);
    view.complete = pair.as_ref().is_some_and(|pair| {
        fault.is_none()
            // Databases read less than is read here.
            && certificates == pair.certificates_pem().as_bytes()
            && key == pair.key_pem().expose_secret().as_bytes()
            && combined == pair.combined_pem().expose_secret().as_bytes()
            && view.ca_digest == Some(entry(CA_CERTIFICATE)).filter(|ca| !ca.is_empty()).map(sha256_of)
            && has_own_metadata(object, &secret.metadata, pair.facts())
    });
    view.spoilt = fault.filter(|_| pair.is_some());
    (view, pair)
}

/// The pair of `tls.crt` and `tls.key`; that of `tls-combined.pem` if the first is unusable, or if only that one leads to
/// `ca.crt`. And the fault of the first, if the second is used or none is usable.
fn best_pair(
    certificates: &[u8],
    key: &[u8],
    combined: &[u8],
    ca_certificate: &[u8],
) -> (Option<CertificatePair>, Option<String>) {
    let leads = |pair: &CertificatePair| chain(pair, ca_certificate).fault;
    let first = CertificatePair::parse(certificates, key);
    let fault = match &first {
        Ok(pair) => leads(pair),
        Err(fault) => Some(fault.to_string()),
    };
    let Some(fault) = fault else { return (first.ok(), None) };
    let fault = format!("the Secret's content cannot be used: {fault}");
    match (first, CertificatePair::parse_combined(combined)) {
        (Ok(first), Ok(second)) if second.facts() == first.facts() && leads(&second).is_none() => (Some(second), Some(fault)),
        (Ok(first), _) => (Some(first), None),
        (Err(_), second) => (second.ok(), Some(fault)),
    }
}

/// What stands above the certificate in its Secret.
fn chain(pair: &CertificatePair, ca_certificate: &[u8]) -> ChainView {
    if ca_certificate.is_empty() {
        return ChainView::default();
    }
    let certificates = pair.certificates();
    let digest = Some(chain_digest(certificates.get(1..).unwrap_or_default(), ca_certificate));
    match check_leads_to(certificates, ca_certificate) {
        Ok(not_after) => ChainView { digest, fault: None, not_after: Some(not_after) },
        Err(fault) => ChainView { digest, fault: Some(fault.to_string()), not_after: None },
    }
}

/// SHA-256 of what a CA hands on with its certificates, in hexadecimal.
#[must_use]
pub fn chain_digest(intermediates: &[CertificateDer<'_>], ca_certificate: &[u8]) -> String {
    let each = intermediates.iter().map(|certificate| sha256_of(certificate)).chain([sha256_of(ca_certificate)]);
    sha256(&each.collect::<Vec<_>>().join(" "))
}

/// Certificates of Atlas have nothing above them in their Secret, whatever `ca.crt` others put there.
fn is_from_ca(view: &SecretView) -> bool {
    view.issuer.as_ref().map_or(view.ca_digest.is_some(), IssuerIdentity::is_ca)
}

/// Who issued the certificate, as the status remembers it.
fn issuer_in_history(object: &DatabaseUserCertificate, certificate: &CertificateFacts) -> Option<IssuerIdentity> {
    let history = &object.status.as_ref()?.history;
    history.iter().find(|issued| issued.serial_number == certificate.serial_number.as_str())?.issuer.clone().map(Into::into)
}

/// PEM of `ca.crt` as the Secret has it.
#[must_use]
pub fn ca_certificate(secret: &Secret) -> Option<String> {
    let entry = secret.data.as_ref()?.get(CA_CERTIFICATE)?;
    String::from_utf8(entry.0.clone()).ok().filter(|text| !text.is_empty())
}

/// Who else than this operator changed the object last, as its managed fields tell.
fn last_other_manager(metadata: &ObjectMeta) -> Option<String> {
    let others = metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() != Some(CONTROLLER));
    let last = others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    let manager = last.manager.as_deref().filter(|manager| !manager.is_empty())?;
    Some(format!("the field manager {manager:?} ({})", last.operation.as_deref().unwrap_or("unknown operation")))
}

/// The Secret rebuilt from metadata and status, if it has the version that was verified.
#[must_use]
pub fn recall(
    object: &DatabaseUserCertificate,
    metadata: &ObjectMeta,
    status: &DatabaseUserCertificateStatus,
) -> Option<SecretView> {
    let verified: &VerifiedSecret = status.verified.as_ref()?;
    if metadata.uid.as_ref() != Some(&verified.uid) || metadata.resource_version.as_ref() != Some(&verified.resource_version) {
        return None;
    }
    let has_chain = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(CA_DIGEST_ANNOTATION));
    // Release 0.1.0 did not look at it.
    if has_chain && (verified.chain.is_none() || verified.chain_not_after.is_none()) {
        return None;
    }
    let facts = CertificateFacts {
        serial_number: status.serial_number.clone()?.into(),
        subject: Subject::parse(status.subject.as_deref()?).ok()?,
        issuer: verified.issuer.clone(),
        not_before: status.not_before.as_ref()?.0,
        not_after: status.not_after.as_ref()?.0,
        private_key: verified.private_key.parse().ok()?,
    };
    let complete = has_own_metadata(object, metadata, &facts);
    let not_after = verified.chain_not_after.as_ref().map(|not_after| not_after.0);
    let chain = ChainView { digest: None, fault: None, not_after };
    Some(SecretView { complete, chain, ..view_of(metadata, Ok(facts)) })
}

fn view_of(metadata: &ObjectMeta, certificate: Result<CertificateFacts, String>) -> SecretView {
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned();
    SecretView {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        certificate,
        wrong_type: None,
        complete: false,
        issuer: annotation(ISSUER_ANNOTATION).map(Into::into),
        issuance: annotation(ISSUANCE_ANNOTATION),
        issue_reason: annotation(ISSUE_REASON_ANNOTATION),
        renew_request: annotation(RENEW_REQUESTED_ANNOTATION),
        ca_digest: annotation(CA_DIGEST_ANNOTATION),
        chain: ChainView::default(),
        changed_by: None,
        spoilt: None,
        deletion_policy: applied_policy(metadata),
        owners: other_owners(metadata),
    }
}

/// Which deletion policy the metadata of a Secret of ours carry out. `None` if they contradict each other: a Secret that is retained
/// and controlled, or one that the garbage collector would delete because its only owner is the object.
fn applied_policy(metadata: &ObjectMeta) -> Option<DeletionPolicy> {
    let is_retained =
        metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(RETAINED_FOR_ANNOTATION));
    let uid = metadata.labels.as_ref().and_then(|labels| labels.get(CERTIFICATE_UID_LABEL));
    let owners = || metadata.owner_references.iter().flatten();
    let is_controlled = owners().any(|owner| owner.controller == Some(true));
    match (is_controlled, is_retained) {
        (true, false) => Some(DeletionPolicy::Delete),
        (false, true) if owners().all(|owner| Some(&owner.uid) != uid) => Some(DeletionPolicy::Retain),
        _ => None,
    }
}

/// The owner references of a Secret besides that of a controller.
pub(super) fn other_owners(metadata: &ObjectMeta) -> Vec<OwnerReference> {
    metadata.owner_references.iter().flatten().filter(|owner| owner.controller != Some(true)).cloned().collect()
}

/// The part of a merge patch that has a Secret belong to the object as its `deletionPolicy` says. Other owners stay.
pub(super) fn ownership(object: &DatabaseUserCertificate, other_owners: &[OwnerReference]) -> Value {
    let others = other_owners.iter().filter(|owner| Some(&owner.uid) != object.metadata.uid.as_ref()).cloned();
    let owners: Vec<OwnerReference> = others.chain(controller_reference(object)).collect();
    json!({ "ownerReferences": owners, "annotations": { RETAINED_FOR_ANNOTATION: retained_for(object) } })
}

/// The reference that makes the object the controller of its Secret, unless the Secret is to be retained.
fn controller_reference(object: &DatabaseUserCertificate) -> Option<OwnerReference> {
    object.controller_owner_ref(&()).filter(|_| object.spec.deletion_policy == DeletionPolicy::Delete)
}

/// For whom the Secret is retained.
fn retained_for(object: &DatabaseUserCertificate) -> Option<String> {
    object.metadata.name.clone().filter(|_| object.spec.deletion_policy == DeletionPolicy::Retain)
}

/// The Secret after a write that changed only its metadata.
#[must_use]
pub fn with_metadata(seen: &SecretView, written: &ObjectMeta) -> SecretView {
    SecretView {
        resource_version: written.resource_version.clone().unwrap_or_default(),
        deletion_policy: applied_policy(written),
        owners: other_owners(written),
        ..seen.clone()
    }
}

fn has_own_metadata(object: &DatabaseUserCertificate, metadata: &ObjectMeta, facts: &CertificateFacts) -> bool {
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
    let not_after = annotation(NOT_AFTER_ANNOTATION).and_then(|text| text.parse::<Timestamp>().ok());
    metadata.labels.as_ref().and_then(|labels| labels.get(CERTIFICATE_UID_LABEL)) == object.metadata.uid.as_ref()
        && annotation(SERIAL_NUMBER_ANNOTATION).map(String::as_str) == Some(facts.serial_number.as_str())
        && annotation(ISSUER_ANNOTATION).is_some()
        && not_after == Some(facts.not_after)
}

fn new_metadata(object: &DatabaseUserCertificate, mut annotations: BTreeMap<String, String>) -> ObjectMeta {
    annotations.extend(retained_for(object).map(|name| (RETAINED_FOR_ANNOTATION.to_owned(), name)));
    ObjectMeta {
        name: Some(object.secret_name()),
        namespace: object.namespace(),
        labels: Some(labels(object)),
        annotations: Some(annotations),
        owner_references: controller_reference(object).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

pub(super) fn labels(object: &DatabaseUserCertificate) -> BTreeMap<String, String> {
    [(CERTIFICATE_UID_LABEL.to_owned(), object.uid().unwrap_or_default())].into()
}

fn present<T>(values: BTreeMap<String, Option<T>>) -> BTreeMap<String, T> {
    values.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect()
}

/// SHA-256 of a PEM text, in hexadecimal.
#[must_use]
pub fn sha256(text: &str) -> String {
    sha256_of(text.as_bytes())
}

fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
