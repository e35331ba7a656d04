//! Secrets and the objects that they belong to.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use secrecy::ExposeSecret;
use serde::Deserialize;
use usercert_operator::{
    api::{
        DatabaseUserCertificate, DeletionPolicy, FormatType,
        names::{GROUP, PREVIOUS_COMBINED, PREVIOUS_PRIVATE_KEY, TLS_COMBINED, TLS_PRIVATE_KEY},
    },
    certificate::CertificatePair,
    controller::{
        Received,
        adoption::{abandoned, check_adoptable, holder, ownership_patch},
        secret::{Additions, NamedPassword, ReadSecret, SecretContent, placeholder, placeholder_patch, read, recall},
    },
    decide::SecretView,
    layout::{KeystorePassword, keystore_format},
};

use crate::{
    Outcome,
    certificate::assert_is_pair,
    oracle::{assert_keeps_secret, assert_keeps_secret_beside},
};

#[derive(Deserialize)]
struct Case {
    certificate: Received<DatabaseUserCertificate>,
    secret: Received<Secret>,
}

/// A `certificate` and the `secret` that it finds, as JSON.
pub fn secret(data: &[u8]) -> Outcome {
    let Ok(Case { certificate, secret }) = serde_json::from_slice(data) else { return Outcome::Unread };
    let ReadSecret { view, pair, .. } = read(&certificate, &secret, &NamedPassword::default());
    let fault = check_adoptable(&certificate, &secret).err();
    let found = abandoned(&secret, String::new(), false, fault);
    let said = format!("{view:?} {found:?} {:?}", holder(&certificate, &secret));
    for key in key_material(&secret) {
        assert_keeps_secret_beside(&said, key, &open_text(&certificate, &secret));
    }
    let recalled = certificate.status.as_ref().and_then(|status| recall(&certificate, &secret.metadata, status));
    let _ = placeholder(&certificate);
    for seen in [Some(&view), recalled.as_ref()].into_iter().flatten() {
        let _ = placeholder_patch(&certificate, seen);
        assert_keeps_others_and_one_controller(&certificate, seen);
    }
    if let Some(pair) = pair {
        assert_is_pair(&pair, &[]);
        assert_is_read_as_written(&certificate, pair);
    }
    Outcome::Read
}

/// A change of the deletion policy keeps the owners of others, and names the object as controller or not at all.
fn assert_keeps_others_and_one_controller(certificate: &DatabaseUserCertificate, seen: &SecretView) {
    let patch = ownership_patch(certificate, &seen.uid, &seen.resource_version, &seen.owners);
    let owners: Vec<OwnerReference> =
        serde_json::from_value(patch["metadata"]["ownerReferences"].clone()).expect("owners are read as written");
    let of_object = |owner: &&OwnerReference| Some(&owner.uid) == certificate.metadata.uid.as_ref();
    let controls = certificate.metadata.name.is_some()
        && certificate.metadata.uid.is_some()
        && certificate.spec.deletion_policy == DeletionPolicy::Delete;
    assert_eq!(owners.iter().filter(of_object).count(), usize::from(controls), "{patch}");
    let others = seen.owners.iter().filter(|owner| !of_object(owner));
    assert!(others.into_iter().all(|other| owners.contains(other)), "{patch}");
}

/// What the Secret has that is secret, where it has it in the form in which it would be seen.
pub fn key_material(secret: &Secret) -> impl Iterator<Item = &[u8]> {
    let data = secret.data.iter().flatten();
    data.filter(|(key, _)| matches!(key.as_str(), TLS_PRIVATE_KEY | TLS_COMBINED | PREVIOUS_PRIVATE_KEY | PREVIOUS_COMBINED))
        .map(|(_, value)| value.0.as_slice())
}

/// What stands where everybody reads it.
pub fn open_text(certificate: &DatabaseUserCertificate, secret: &Secret) -> String {
    let shown = (certificate, &secret.metadata, &secret.type_);
    serde_json::to_string(&shown).expect("what was read is written")
}

/// The object as the API server would take it: with one keystore at most, whose password is made, and without labels and annotations that are
/// this operator's own.
fn acceptable(certificate: &DatabaseUserCertificate) -> DatabaseUserCertificate {
    let mut object = certificate.clone();
    let mut has_keystore = false;
    object.spec.formats.retain(|format| {
        let is_keystore = format.type_ == FormatType::Pkcs12;
        !(is_keystore && (format.password_secret_ref.is_some() || std::mem::replace(&mut has_keystore, true)))
    });
    if let Some(template) = &mut object.spec.secret_template {
        for values in [&mut template.labels, &mut template.annotations] {
            values.retain(|key, _| !key.starts_with(GROUP));
        }
    }
    object
}

fn assert_is_read_as_written(certificate: &DatabaseUserCertificate, pair: CertificatePair) {
    let facts = pair.facts().clone();
    let key = pair.key_pem();
    let content = SecretContent {
        pair,
        ca_certificate: Some("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned()),
        issuer: Some("ca/1".into()),
        issue_reason: None,
        issuance: Some("1".to_owned()),
        renew_request: None,
    };
    let shown = format!("{content:?}");
    assert_keeps_secret(&shown, key.expose_secret().as_bytes());
    assert!(!shown.contains("-----BEGIN"), "{shown}");
    let object = acceptable(certificate);
    let keystore_password = keystore_format(&object.spec).map(|_| KeystorePassword::Made("made".into()));
    let additions = Additions { keystore_password, ..Additions::default() };
    let view = read(&object, &content.to_secret(&object, &additions), &NamedPassword::default()).view;
    let has_identity = certificate.metadata.uid.is_some() && certificate.metadata.name.is_some();
    assert!(view.complete || !has_identity, "what was written is not complete: {view:?}");
    assert_eq!(view.certificate, Ok(facts));
    let _ = content.to_patch(&object, Some(&additions), &view);
}
