//! Adoption: taking over a Secret of ours whose object is gone, as a restored backup brings it back.
//!
//! # Guarantees
//!
//! - A Secret that another program made is never taken over, whoever asks for it. Otherwise its content would be overwritten at
//!   the next renewal and deleted with the object.
//! - Adoption changes only the label and the owner references, in exactly the version that was looked at.
//!
//! Whose a Secret is ([`holder`]):
//!
//! | Controller of the Secret | With our label or annotation | With neither |
//! | --- | --- | --- |
//! | this object | this object's | this object's |
//! | a former object with the name of this one | nobody's | another's |
//! | any other | another's | another's |
//! | none | nobody's | another's |
//!
//! A Secret that cannot be read counts as another's in any case.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, api::ObjectMeta};
use serde_json::{Value, json};

use super::secret::{first_pair, labels};
use crate::{
    Received,
    api::{
        DatabaseUserCertificate,
        names::{CERTIFICATE_UID_LABEL, GROUP, SERIAL_NUMBER_ANNOTATION, TLS_SECRET_TYPE},
    },
    decide::AbandonedSecret,
    layout::wanted_keys,
};

/// Who controls a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This object controls it.
    ThisObject,
    /// Nobody any more: the Secret has our label or annotation, and its controller is gone, as in a restored backup. Its
    /// reference names no controller, or a former object with the name of this one. The text is a sentence about the Secret.
    Nobody(String),
    /// Another object; or nobody, and the Secret has neither our label nor our annotation. The text is a sentence about the
    /// Secret.
    Another(String),
}

/// Who controls a Secret, by its controller reference. A Secret that cannot be read may hold a certificate that works, so it
/// counts as that of another.
#[must_use]
pub fn holder<K: Resource>(object: &DatabaseUserCertificate, secret: &Received<K>) -> Holder {
    let metadata = secret.meta();
    if let Some(unreadable) = secret.unreadable() {
        return Holder::Another(format!("cannot be read ({})", unreadable.fault()));
    }
    match controller_of(metadata) {
        Some(owner) if Some(&owner.uid) == object.metadata.uid.as_ref() => Holder::ThisObject,
        Some(owner) if is_former(object, owner) && is_marked(metadata) => {
            Holder::Nobody(format!("belongs to a former {} {}", owner.kind, owner.name))
        }
        Some(owner) => Holder::Another(format!("belongs to {} {}", owner.kind, owner.name)),
        None if is_marked(metadata) => Holder::Nobody("belongs to nobody any more".to_owned()),
        None => Holder::Another("was not made by this operator".to_owned()),
    }
}

fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether this owner is an object that had the name of this one before, and so is gone.
fn is_former(object: &DatabaseUserCertificate, owner: &OwnerReference) -> bool {
    owner.kind == DatabaseUserCertificate::kind(&())
        && owner.api_version.starts_with(&format!("{GROUP}/"))
        && Some(&owner.name) == object.metadata.name.as_ref()
}

/// Whether the Secret carries our label, or our annotation that backups keep.
fn is_marked(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CERTIFICATE_UID_LABEL))
        || metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(SERIAL_NUMBER_ANNOTATION))
}

/// Checks that the Secret holds what this operator could have written for the object, so that it may be adopted.
///
/// # Errors
/// What it holds instead, as the end of a sentence.
pub fn check_adoptable(object: &DatabaseUserCertificate, secret: &Secret) -> Result<(), String> {
    let type_ = secret.type_.as_deref().unwrap_or_default();
    if type_ != TLS_SECRET_TYPE {
        return Err(format!("its type is {type_:?}, and this operator writes {TLS_SECRET_TYPE}"));
    }
    let own_keys = wanted_keys(&object.spec);
    if let Some(key) = secret.data.iter().flat_map(BTreeMap::keys).find(|key| !own_keys.contains(&key.as_str())) {
        return Err(format!("it has the key {key:?}, which is none that the spec asks for"));
    }
    match first_pair(secret) {
        Ok(pair) if pair.is_for_clients() => Ok(()),
        Ok(_) => Err("its certificate is not a client certificate".to_owned()),
        Err(_) => Err("it holds no certificate with its key".to_owned()),
    }
}

/// The patch that takes over a Secret in exactly this version. Only its label and its owner references change.
#[must_use]
pub fn adoption_patch(object: &DatabaseUserCertificate, found: &AbandonedSecret) -> Value {
    let owners: Vec<_> = found.owners.iter().cloned().chain(object.controller_owner_ref(&())).collect();
    json!({
        "metadata": {
            "uid": found.uid,
            "resourceVersion": found.resource_version,
            "labels": labels(object),
            "ownerReferences": owners,
        },
    })
}

/// What decisions need to know of a Secret that nobody controls any more.
#[must_use]
pub fn abandoned(secret: &Secret, whose: String, fault: Option<String>) -> AbandonedSecret {
    let metadata = &secret.metadata;
    let owners = metadata.owner_references.iter().flatten().filter(|owner| owner.controller != Some(true)).cloned().collect();
    AbandonedSecret {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        owners,
        whose,
        fault,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rstest::rstest;

    use super::*;

    fn object() -> DatabaseUserCertificate {
        serde_json::from_value(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "name": "orders", "namespace": "shop", "uid": "new" }, "spec": {},
        }))
        .unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        let api_version = if kind == "DatabaseUserCertificate" { "usercert.dev/v1alpha1" } else { "apps/v1" };
        json!([{ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true }])
    }

    fn received(secret: &Value) -> Received<Secret> {
        serde_json::from_str(&secret.to_string()).unwrap()
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_there_and_not_to_be_touched() {
        let metadata = json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "new") });
        let found = received(&json!({ "metadata": metadata, "data": "x" }));
        assert_eq!(holder(&object(), &found), Holder::Another("cannot be read (data: expected a map)".to_owned()));
    }

    /// `this`, `nobody` or `another`.
    fn whose(metadata: &Value) -> &'static str {
        match holder(&object(), &received(&json!({ "metadata": metadata }))) {
            Holder::ThisObject => "this",
            Holder::Nobody(_) => "nobody",
            Holder::Another(_) => "another",
        }
    }

    #[rstest]
    #[case(json!({}), "another")]
    #[case(json!({ "labels": { "usercert.dev/certificate-uid": "old" } }), "nobody")]
    #[case(json!({ "annotations": { "usercert.dev/serial-number": "0A" } }), "nobody")]
    #[case(json!({ "annotations": { "usercert.dev/note": "x" } }), "another")]
    #[case(json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "new") }), "this")]
    #[case(json!({ "ownerReferences": owner("DatabaseUserCertificate", "orders", "old") }), "another")]
    #[case(json!({ "labels": { "usercert.dev/certificate-uid": "old" }, "ownerReferences": owner("DatabaseUserCertificate", "orders", "old") }), "nobody")]
    #[case(json!({ "labels": { "usercert.dev/certificate-uid": "old" }, "ownerReferences": owner("DatabaseUserCertificate", "other", "old") }), "another")]
    #[case(json!({ "labels": { "usercert.dev/certificate-uid": "new" }, "ownerReferences": owner("Deployment", "orders", "old") }), "another")]
    fn a_secret_is_abandoned_only_with_our_mark_and_without_another_controller(
        #[case] metadata: Value,
        #[case] expected: &str,
    ) {
        assert_eq!(whose(&metadata), expected);
    }

    fn secret(type_: &str, data: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        let encoded = data.into_iter().map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())));
        Secret { type_: Some(type_.to_owned()), data: Some(encoded.collect()), ..Secret::default() }
    }

    /// A certificate with these uses, and its key.
    fn pair(uses: &[ExtendedKeyUsagePurpose], is_ca: IsCa) -> (String, String) {
        let mut parameters = CertificateParams::default();
        (parameters.extended_key_usages, parameters.is_ca) = (uses.to_vec(), is_ca);
        let key = KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn only_what_this_operator_could_have_written_is_adopted() {
        let (certificate, key) = pair(&[ExtendedKeyUsagePurpose::ClientAuth], IsCa::ExplicitNoCa);
        let good = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
        assert_eq!(check_adoptable(&object(), &secret("kubernetes.io/tls", &good)), Ok(()));
        let combined = certificate.clone() + &key;
        assert_eq!(check_adoptable(&object(), &secret("kubernetes.io/tls", &[("tls-combined.pem", &combined)])), Ok(()));
        let refused = |found: &Secret| check_adoptable(&object(), found).unwrap_err();
        assert!(refused(&secret("Opaque", &good)).contains("type"));
        let with_password = [good.as_slice(), &[("password", "x")]].concat();
        assert!(refused(&secret("kubernetes.io/tls", &with_password)).contains("\"password\""));
        assert!(refused(&secret("kubernetes.io/tls", &[("tls.crt", "garbage"), ("tls.key", &key)])).contains("no certificate"));
    }

    #[rstest]
    #[case::of_a_server(&[ExtendedKeyUsagePurpose::ServerAuth], IsCa::ExplicitNoCa)]
    #[case::of_a_ca(&[ExtendedKeyUsagePurpose::ClientAuth], IsCa::Ca(BasicConstraints::Unconstrained))]
    #[case::without_a_use(&[], IsCa::NoCa)]
    fn no_other_certificate_than_a_client_s_is_adopted(#[case] uses: &[ExtendedKeyUsagePurpose], #[case] is_ca: IsCa) {
        let (certificate, key) = pair(uses, is_ca);
        let found = secret("kubernetes.io/tls", &[("tls.crt", &certificate), ("tls.key", &key)]);
        assert!(check_adoptable(&object(), &found).unwrap_err().contains("not a client certificate"));
    }
}
