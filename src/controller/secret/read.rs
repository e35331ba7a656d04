//! What is read from a Secret.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::api::ObjectMeta;
use rustls::pki_types::CertificateDer;

use super::{
    NamedPassword,
    ownership::{applied_policy, other_owners},
};
use crate::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, ISSUING, IssuerIdentity, Reason, VerifiedSecret, condition,
        names::{
            CA_CERTIFICATE, CA_DIGEST_ANNOTATION, CERTIFICATE_UID_LABEL, CONTROLLER, ISSUANCE_ANNOTATION,
            ISSUE_REASON_ANNOTATION, ISSUER_ANNOTATION, KEYSTORE_PASSWORD, KEYSTORE_SERIAL_NUMBER_ANNOTATION,
            LAYOUT_ANNOTATION, NOT_AFTER_ANNOTATION, PREVIOUS_CERTIFICATE, PREVIOUS_COMBINED, PREVIOUS_NOT_AFTER_ANNOTATION,
            PREVIOUS_PRIVATE_KEY, PREVIOUS_SERIAL_NUMBER_ANNOTATION, RENEW_REQUESTED_ANNOTATION, SERIAL_NUMBER_ANNOTATION,
            TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY, TLS_SECRET_TYPE,
        },
    },
    certificate::{CertificateFacts, CertificatePair, PairError, SerialNumber, Subject, check_leads_to},
    compromised::Compromised,
    decide::{ChainView, KeystoreView, SecretView},
    layout::{
        Content, Entry, KeystorePassword, LayoutRecord, Previous, check_keystore_password, entries, keystore_entry,
        keystore_format,
    },
    received::shortened_list,
};

/// The pair in a Secret: that of `tls.crt` and `tls.key`, else that of `tls-combined.pem`.
pub fn first_pair(secret: &Secret) -> Result<CertificatePair, PairError> {
    CertificatePair::parse(entry(secret, TLS_CERTIFICATE), entry(secret, TLS_PRIVATE_KEY))
        .or_else(|fault| CertificatePair::parse_combined(entry(secret, TLS_COMBINED)).map_err(|_| fault))
}

fn entry<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0)
}

/// A Secret of ours as it was read.
pub struct ReadSecret {
    /// What decisions need to know of it.
    pub view: SecretView,
    /// The first usable pair in it.
    pub pair: Option<CertificatePair>,
    /// PEM of its `ca.crt`.
    pub ca_certificate: Option<String>,
    /// The pair before the present one, if the spec asks for it and the Secret holds one.
    pub previous: Option<CertificatePair>,
    /// The password of the keystore, if the spec asks for one and it is known.
    pub keystore_password: Option<KeystorePassword>,
    /// Whether it holds the keystore that the spec asks for.
    pub has_keystore: bool,
}

/// Reads a Secret of ours: the first usable pair in it, and whether all else is as we write it.
///
/// A pair that was spoilt in `tls.crt` or `tls.key` is taken from `tls-combined.pem`, which costs no new certificate.
#[must_use]
pub fn read(object: &DatabaseUserCertificate, secret: &Secret, named: &NamedPassword) -> ReadSecret {
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
    let ca_certificate = ca_certificate(secret);
    let previous = pair.as_ref().and_then(|pair| previous_pair(object, secret, pair));
    let keystore_password = keystore_password(object, secret, named);
    let has_keystore = keystore_format(&object.spec).is_some_and(|format| !entry(format.key()).is_empty());
    if let Some(pair) = &pair {
        let entries = entries(&Content {
            spec: &object.spec,
            pair,
            ca_certificate: ca_certificate.as_deref(),
            previous: previous.as_ref().map_or(Previous::Nothing, Previous::Kept),
            keystore_password: keystore_password.as_ref(),
            keystore_goes: !has_keystore,
        });
        let keystore = keystore_entry(&object.spec, &entries);
        view.keystore = named.view(keystore, &view);
        view.complete = fault.is_none()
            && entries.iter().all(|(name, wanted)| is_as_wanted(entry(name), wanted))
            && view.layout == LayoutRecord::of(&object.spec, &entries)
            && view.previous_not_after == previous.as_ref().map(|pair| pair.facts().not_after)
            && view.previous_serial_number == previous.as_ref().map(|pair| pair.facts().serial_number.clone())
            && names_pair_in_keystore(&view, keystore, pair)
            && view.ca_digest == Some(entry(CA_CERTIFICATE)).filter(|ca| !ca.is_empty()).map(sha256_of)
            && has_own_metadata(object, &secret.metadata, pair.facts());
    }
    view.spoilt = fault.filter(|_| pair.is_some());
    ReadSecret { view, pair, ca_certificate, previous, keystore_password, has_keystore }
}

/// Whether the annotation says whose pair the keystore holds. What a keystore holds that cannot be made anew only the annotation tells.
fn names_pair_in_keystore(view: &SecretView, keystore: Option<&Entry>, pair: &CertificatePair) -> bool {
    let named = view.keystore.serial_number.as_ref();
    match keystore {
        Some(Entry::Value(_)) => named == Some(&pair.facts().serial_number),
        Some(Entry::Untouched | Entry::Unavailable(_)) => true,
        Some(Entry::Absent | Entry::Gone(_)) | None => named.is_none(),
    }
}

/// Databases read less than is read here, so each entry is compared with what would be written.
fn is_as_wanted(found: &[u8], wanted: &Entry) -> bool {
    match wanted {
        Entry::Value(bytes) => found == bytes.as_slice(),
        Entry::Absent | Entry::Gone(_) => found.is_empty(),
        // It was lost, and only the operator could have made it.
        Entry::Untouched => false,
        Entry::Unavailable(_) => true,
    }
}

/// The pair before the present one: that of its two entries, else that of its combined one.
fn previous_pair(object: &DatabaseUserCertificate, secret: &Secret, present: &CertificatePair) -> Option<CertificatePair> {
    let entry = |key: &str| entry(secret, key);
    let pair = CertificatePair::parse(entry(PREVIOUS_CERTIFICATE), entry(PREVIOUS_PRIVATE_KEY))
        .or_else(|_| CertificatePair::parse_combined(entry(PREVIOUS_COMBINED)));
    let (found, present) = (pair.ok().filter(|_| object.spec.keep_previous)?, present.facts());
    let is_compromised = Compromised::of(object).has(found.facts().serial_number.as_str());
    let is_former =
        found.facts().subject == present.subject && found.facts().serial_number != present.serial_number && !is_compromised;
    is_former.then_some(found)
}

/// The password of the keystore that the spec asks for. `None` if it asks for none, or if the Secret has lost the one that was made.
fn keystore_password(object: &DatabaseUserCertificate, secret: &Secret, named: &NamedPassword) -> Option<KeystorePassword> {
    let format = keystore_format(&object.spec)?;
    if format.password_secret_ref.is_some() { named.password.clone() } else { made_password(secret) }
}

/// The password that this operator has made and keeps in the Secret.
#[must_use]
pub fn made_password(secret: &Secret) -> Option<KeystorePassword> {
    check_keystore_password(entry(secret, KEYSTORE_PASSWORD)).ok().map(KeystorePassword::Made)
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
pub(super) fn chain(pair: &CertificatePair, ca_certificate: &[u8]) -> ChainView {
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

/// Certificates of Atlas come without a root, so there is nothing that they have to lead to, whatever `ca.crt` others put there.
pub(super) fn is_from_ca(view: &SecretView) -> bool {
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

/// The Secret rebuilt from metadata and status, if it has the version that was verified, with all that belongs to it.
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
    // Earlier versions did not note it, so the Secret is read.
    let is_told = |told: &Condition| told.reason == Reason::SecretTypeWrong.as_str();
    if verified.wrong_type.is_none() && condition(&status.conditions, ISSUING).is_some_and(is_told) {
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
    // What is missing here may have been too long to be kept. The Secret itself tells.
    if !has_own_metadata(object, metadata, &facts) {
        return None;
    }
    let not_after = verified.chain_not_after.as_ref().map(|not_after| not_after.0);
    let chain = ChainView { digest: None, fault: None, not_after };
    let mut view = view_of(metadata, Ok(facts));
    view.keystore.password.clone_from(&verified.keystore_password);
    Some(SecretView { complete: true, chain, wrong_type: verified.wrong_type.clone(), ..view })
}

pub(super) fn view_of(metadata: &ObjectMeta, certificate: Result<CertificateFacts, String>) -> SecretView {
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned();
    SecretView {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        certificate,
        wrong_type: None,
        complete: false,
        layout: LayoutRecord::from_annotation(annotation(LAYOUT_ANNOTATION).as_deref()),
        previous_not_after: annotation(PREVIOUS_NOT_AFTER_ANNOTATION).and_then(|text| text.parse().ok()),
        previous_serial_number: annotation(PREVIOUS_SERIAL_NUMBER_ANNOTATION).map(SerialNumber::from),
        keystore: KeystoreView {
            serial_number: annotation(KEYSTORE_SERIAL_NUMBER_ANNOTATION).map(SerialNumber::from),
            ..KeystoreView::default()
        },
        issuer: annotation(ISSUER_ANNOTATION).map(Into::into),
        issuance: annotation(ISSUANCE_ANNOTATION),
        issue_reason: annotation(ISSUE_REASON_ANNOTATION),
        renew_request: annotation(RENEW_REQUESTED_ANNOTATION),
        ca_digest: annotation(CA_DIGEST_ANNOTATION),
        chain: ChainView::default(),
        changed_by: None,
        written: written(metadata),
        spoilt: None,
        deletion_policy: applied_policy(metadata),
        owners: other_owners(metadata),
        held_by: held_by(metadata),
    }
}

/// When this operator changed the Secret last: the API server notes that for each field manager.
fn written(metadata: &ObjectMeta) -> Option<Timestamp> {
    let ours = metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() == Some(CONTROLLER));
    ours.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max()
}

/// The finalizers of a Secret that is being deleted. A Secret that was read has all of them, and one of a watch the first ones: both are told
/// alike.
pub fn held_by(metadata: &ObjectMeta) -> Option<String> {
    metadata.deletion_timestamp.as_ref()?;
    Some(shortened_list(metadata.finalizers.clone().unwrap_or_default()).join(", "))
}

fn has_own_metadata(object: &DatabaseUserCertificate, metadata: &ObjectMeta, facts: &CertificateFacts) -> bool {
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
    let not_after = annotation(NOT_AFTER_ANNOTATION).and_then(|text| text.parse::<Timestamp>().ok());
    metadata.labels.as_ref().and_then(|labels| labels.get(CERTIFICATE_UID_LABEL)) == object.metadata.uid.as_ref()
        && annotation(SERIAL_NUMBER_ANNOTATION).map(String::as_str) == Some(facts.serial_number.as_str())
        && annotation(ISSUER_ANNOTATION).is_some()
        && not_after == Some(facts.not_after)
        && has_template(object, metadata)
}

/// Whether the Secret has the labels and annotations that the spec asks for.
fn has_template(object: &DatabaseUserCertificate, metadata: &ObjectMeta) -> bool {
    type Values = BTreeMap<String, String>;
    let has = |found: Option<&Values>, wanted: &Values| {
        wanted.iter().all(|(key, value)| found.and_then(|found| found.get(key)) == Some(value))
    };
    object.spec.secret_template.as_ref().is_none_or(|template| {
        has(metadata.labels.as_ref(), &template.labels) && has(metadata.annotations.as_ref(), &template.annotations)
    })
}

/// SHA-256 of a PEM text, in hexadecimal.
#[must_use]
pub fn sha256(text: &str) -> String {
    sha256_of(text.as_bytes())
}

fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
