//! The object and the mark with which the operator takes a Secret over as it is: pure functions.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use usercert_operator_controller::adoption::check_adoptable;
use usercert_operator_core::{
    api::{
        DatabaseUserCertificate, IssuerSource, IssuerSpec,
        names::{
            ADOPT_SECRET_ANNOTATION, CERTIFICATE_UID_LABEL, NOT_AFTER_ANNOTATION, SERIAL_NUMBER_ANNOTATION, TLS_CERTIFICATE,
            TLS_PRIVATE_KEY,
        },
    },
    certificate::{CertificateFacts, CertificatePair, KeyAlgorithm, Link, Subject},
    decide::{RenewBefore, renew_before},
};

use super::{
    obstacles::Obstacle,
    others::{note_of_metadata, unknown_managers},
    successor::{lifetime, lost_with},
};
use crate::{
    arguments::IssuerName,
    text::relative,
    verbs::{
        create::{issuer_reference, of_spec},
        objects::MANAGER,
    },
};

/// What will be done, and what is to be known before.
pub(super) struct Takeover {
    /// The object.
    pub(super) object: Value,
    /// The patch of the Secret, of exactly the version that was read.
    pub(super) mark: Value,
    pub(super) pair: CertificatePair,
    pub(super) facts: CertificateFacts,
    pub(super) notes: Vec<String>,
    /// What the next certificate will not have, and should have.
    pub(super) obstacles: Vec<Obstacle>,
}

/// What the object is to be.
pub(super) struct Wanted<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) issuer: &'a IssuerName,
    pub(super) issuer_spec: &'a IssuerSpec,
    /// Whether a renewal keeps the former pair.
    pub(super) keep_previous: bool,
}

/// What is to be done to have the Secret taken over as it is.
///
/// # Errors
/// Why it cannot be taken over, and what to change.
pub(super) fn prepare(secret: &Secret, wanted: &Wanted<'_>, now: Timestamp) -> Result<Takeover, String> {
    let is_ca = matches!(wanted.issuer_spec.source(), Some(IssuerSource::Ca(_)));
    let secret_name = secret.name_any();
    if secret.labels().contains_key(CERTIFICATE_UID_LABEL) {
        return Err(format!(
            "the Secret {secret_name} is the operator's already: kubectl usercert orphans tells whether it has lost its object"
        ));
    }
    if secret.immutable == Some(true) {
        return Err(format!(
            "the Secret {secret_name} is immutable, so nobody could renew it: make a new one under another name"
        ));
    }
    let entry = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    let pair = CertificatePair::parse(entry(TLS_CERTIFICATE), entry(TLS_PRIVATE_KEY))
        .map_err(|fault| format!("the Secret {secret_name} cannot be taken over: {fault}"))?;
    let facts = pair.facts().clone();
    if facts.not_after <= now {
        return Err(format!(
            "the certificate expired at {}: create a DatabaseUserCertificate with another Secret",
            facts.not_after
        ));
    }
    let mut spec = spec_for(&facts, &secret_name, wanted.issuer, is_ca)?;
    let lifetime = lifetime(&facts, wanted.issuer_spec);
    if let Some((field, value)) = lifetime.field {
        spec[field] = value;
    }
    // Whoever deletes the object to go back keeps what programs use.
    spec["deletionPolicy"] = json!("Retain");
    if wanted.keep_previous {
        spec["keepPrevious"] = json!(true);
    }
    let mut object = of_spec(wanted.namespace, wanted.name, &spec);
    object["metadata"]["annotations"] = json!({ ADOPT_SECRET_ANNOTATION: "true" });
    let typed: DatabaseUserCertificate = serde_json::from_value(object.clone()).map_err(|fault| fault.to_string())?;
    check_adoptable(&typed, secret).map_err(|fault| format!("the Secret {secret_name} cannot be taken over, for {fault}"))?;
    let mark = json!({ "metadata": {
        "uid": secret.uid(), "resourceVersion": secret.resource_version(),
        "annotations": {
            SERIAL_NUMBER_ANNOTATION: facts.serial_number.as_str(),
            NOT_AFTER_ANNOTATION: facts.not_after.to_string(),
        },
    } });
    let leaf = pair.certificates().first().cloned().and_then(|leaf| Link::new(leaf).ok());
    let lost = leaf.map(|leaf| lost_with(&leaf.certificate)).unwrap_or_default();
    let notes =
        [notes(secret, &facts, is_ca, now), lost.notes, lifetime.note.into_iter().collect(), vec![way_back(secret)]].concat();
    Ok(Takeover { object, mark, pair, facts, notes, obstacles: lost.obstacles })
}

/// The spec that the certificate fulfils, so that none of its checks asks for a new one.
fn spec_for(facts: &CertificateFacts, secret_name: &str, issuer: &IssuerName, is_ca: bool) -> Result<Value, String> {
    let mut spec = json!({ "secretName": secret_name, "issuerRef": issuer_reference(issuer) });
    match facts.subject.lone_common_name() {
        Some(name) if Subject::for_user(&name).is_ok_and(|subject| subject == facts.subject) => spec["username"] = json!(name),
        _ if is_ca => {
            spec["username"] = json!(facts.subject.mongodb_user_name());
            spec["subject"] = json!(facts.subject.to_string());
        }
        _ => {
            return Err(format!(
                "the certificate is for {}, and Atlas makes certificates for CN=<user name> alone: this issuer could not renew it",
                facts.subject
            ));
        }
    }
    if is_ca {
        let key = facts.private_key;
        spec["privateKey"] = match (key.algorithm, key.size) {
            (KeyAlgorithm::Ed25519, _) => json!({ "algorithm": "Ed25519" }),
            (KeyAlgorithm::Ecdsa, size @ (256 | 384)) => json!({ "algorithm": "ECDSA", "size": size }),
            (KeyAlgorithm::Rsa, size @ (2048 | 3072 | 4096)) => json!({ "algorithm": "RSA", "size": size }),
            _ => {
                return Err(format!(
                    "the key is {key}, which this operator does not make: the certificate would be replaced at once"
                ));
            }
        };
    }
    Ok(spec)
}

fn notes(secret: &Secret, facts: &CertificateFacts, is_ca: bool, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    let lifetime = facts.not_after.duration_since(facts.not_before);
    let renewal = facts.not_after.saturating_sub(renew_before(RenewBefore::Default, lifetime)).unwrap_or(facts.not_after);
    if renewal > now {
        notes.push(format!("it is renewed {} at the latest", relative(renewal, now)));
    }
    let managers: BTreeSet<&str> = unknown_managers(&secret.metadata).filter(|manager| *manager != MANAGER).collect();
    if !managers.is_empty() {
        notes.push(format!(
            "{} wrote the Secret: see that none of them writes it again, or deletes it when it is no longer in a source. The operator puts it right, five times in ten minutes",
            managers.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    if !is_ca {
        notes.push(
            "which project the certificate is from is told by the name of its signer alone, and Atlas cannot revoke it"
                .to_owned(),
        );
    }
    notes.extend(note_of_metadata(&secret.metadata));
    notes
}

fn way_back(secret: &Secret) -> String {
    format!(
        "to go back, delete the object: with deletionPolicy: Retain the Secret {} stays. Set Delete later, if the Secret is to go with the object",
        secret.name_any()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
pub(super) mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;

    pub(in crate::verbs::migrate) fn now() -> Timestamp {
        "2026-01-10T00:00:00Z".parse().unwrap()
    }

    pub(in crate::verbs::migrate) fn secret(organisation: Option<&str>, change: impl FnOnce(&mut Secret)) -> Secret {
        secret_of(organisation, (2026, 4, 1), change)
    }

    fn secret_of(organisation: Option<&str>, (year, month, day): (i32, u8, u8), change: impl FnOnce(&mut Secret)) -> Secret {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, "orders");
        if let Some(organisation) = organisation {
            leaf.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(year, month, day));
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.self_signed(&key).unwrap();
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": { "namespace": "shop", "name": "old", "uid": "u", "resourceVersion": "7" }, "type": "kubernetes.io/tls",
        }))
        .unwrap();
        let data = [("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())];
        secret.data = Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).into());
        change(&mut secret);
        secret
    }

    pub(in crate::verbs::migrate) fn prepared(secret: &Secret, is_ca: bool) -> Result<Takeover, String> {
        let issuer = IssuerName { is_of_cluster: false, name: "issuer".into() };
        let source = if is_ca {
            json!({ "ca": { "secretName": "ca" } })
        } else {
            json!({ "atlas": { "projectId": "5efda6aea3f2ed2e7dd6ce05" } })
        };
        let issuer_spec = serde_json::from_value(source).unwrap();
        let wanted =
            Wanted { namespace: "shop", name: "old", issuer: &issuer, issuer_spec: &issuer_spec, keep_previous: false };
        prepare(secret, &wanted, now())
    }

    #[test]
    fn the_object_asks_for_exactly_the_certificate_that_is_there() {
        let found = prepared(&secret(None, |_| {}), true).expect("it can be taken over");
        let spec = json!({
            "username": "orders", "secretName": "old", "issuerRef": { "kind": "CertificateIssuer", "name": "issuer" },
            "privateKey": { "algorithm": "ECDSA", "size": 256 }, "deletionPolicy": "Retain",
        });
        assert_eq!(found.object["spec"], spec);
        assert_eq!(found.object["metadata"]["annotations"][ADOPT_SECRET_ANNOTATION], "true");
        assert_eq!((&found.mark["metadata"]["uid"], &found.mark["metadata"]["resourceVersion"]), (&json!("u"), &json!("7")));
        let with_subject = prepared(&secret(Some("Acme"), |_| {}), true).expect("it can be taken over");
        assert_eq!(with_subject.object["spec"]["subject"], with_subject.facts.subject.to_string());
        let year = secret_of(None, (2027, 1, 1), |_| {});
        assert_eq!(prepared(&year, true).expect("it can be taken over").object["spec"]["duration"], "8760h");
        assert_eq!(prepared(&year, false).expect("it can be taken over").object["spec"]["monthsUntilExpiration"], 12);
        let atlas = prepared(&secret(None, |_| {}), false).expect("it can be taken over");
        assert_eq!(atlas.object["spec"].get("monthsUntilExpiration"), None, "it is the issuer's own");
        assert_eq!(atlas.object["spec"].get("privateKey"), None, "Atlas chooses the key");
    }

    #[test]
    fn whoever_wrote_the_secret_is_named_once_and_the_way_back_is_told() {
        let owners =
            ["helm", "controller", "helm", "Terraform"].map(|manager| json!({ "manager": manager, "operation": "Update" }));
        let found = secret(None, |secret| secret.metadata.managed_fields = serde_json::from_value(json!(owners)).unwrap());
        let notes = prepared(&found, true).expect("it can be taken over").notes.join("\n");
        assert!(notes.contains("controller, helm wrote the Secret"), "what is in the way is not told twice: {notes}");
        assert!(notes.contains("to go back, delete the object: with deletionPolicy: Retain the Secret old stays"), "{notes}");
    }

    #[test]
    fn what_cannot_be_taken_over_is_told_with_what_to_change() {
        let refused = |secret: &Secret, is_ca| prepared(secret, is_ca).err().expect("it is refused");
        let opaque = secret(None, |secret| secret.type_ = Some("Opaque".into()));
        assert!(refused(&opaque, true).contains("its type is \"Opaque\""));
        let more = secret(None, |secret| _ = secret.data.as_mut().unwrap().insert("keystore.jks".into(), ByteString(vec![1])));
        assert!(refused(&more, true).contains("it has the key \"keystore.jks\""));
        let keyless = secret(None, |secret| _ = secret.data.as_mut().unwrap().remove("tls.key"));
        assert!(refused(&keyless, true).contains("cannot be taken over"));
        let immutable = secret(None, |secret| secret.immutable = Some(true));
        assert!(refused(&immutable, true).contains("immutable"));
        assert!(refused(&secret(Some("Acme"), |_| {}), false).contains("Atlas makes certificates for CN=<user name> alone"));
    }
}
