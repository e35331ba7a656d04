//! `migrate`: has the operator take over a Secret that cert-manager, a script or Terraform made, without a new certificate.
//!
//! The operator takes over only what carries one of its marks and holds nothing but what it could have written. So the Secret gets the mark,
//! which is the annotation with the serial number of its certificate, and the object gets the annotation that asks for the adoption. The
//! operator changes the owner then, and completes the Secret from its own content.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde_json::{Value, json};
use usercert_operator_controller::adoption::{check_adoptable, is_controlled};
use usercert_operator_core::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, IssuerSource, IssuerSpec,
        names::{
            ADOPT_SECRET_ANNOTATION, CERTIFICATE_UID_LABEL, NOT_AFTER_ANNOTATION, SERIAL_NUMBER_ANNOTATION, TLS_CERTIFICATE,
            TLS_PRIVATE_KEY,
        },
    },
    certificate::{CertificateFacts, CertificatePair, KeyAlgorithm, Subject},
    decide::{RenewBefore, renew_before},
};

use super::{
    Session,
    create::{is_ready, issuer_reference, of_spec, said, until_ready, write},
    objects::MANAGER,
};
use crate::{
    arguments::{Form, IssuerName, MigrateArguments},
    cluster::Cluster,
    exit::{Answer, CliError, Exit},
    table::Cell,
    terminal::{Mood, Terminal},
    text::{append, for_programs, paragraph, relative},
};

/// What will be done, and what is to be known before.
struct Takeover {
    /// The object.
    object: Value,
    /// The patch of the Secret, of exactly the version that was read.
    mark: Value,
    facts: CertificateFacts,
    notes: Vec<String>,
}

/// Does `migrate`. Without `--yes` it shows what it would do.
pub(super) async fn migrate(cluster: &Cluster, session: &Session, arguments: &MigrateArguments) -> Result<Answer, CliError> {
    let (namespace, name) = (&cluster.namespace, &arguments.secret);
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let secret = cluster.ask(format!("read the Secret {name}"), secrets.get_opt(name)).await?;
    let secret = secret.ok_or_else(|| CliError::NotFound(format!("there is no Secret {name} in the namespace {namespace}")))?;
    still_written_by(cluster, &secret).await?;
    let issuer = issuer(cluster, &arguments.issuer).await?;
    let object_name = arguments.name.as_ref().unwrap_or(name);
    let takeover =
        prepare(&secret, namespace, object_name, &arguments.issuer, &issuer, session.now()).map_err(CliError::Unusable)?;
    // Before the first change: whether each would be let through.
    write(cluster, &takeover.object, true).await?;
    mark(cluster, &secrets, name, &takeover.mark, true).await?;
    if !arguments.yes {
        return Ok(Answer::new(preview(&takeover, namespace, name, &session.terminal, session.now())?, Exit::Good));
    }
    mark(cluster, &secrets, name, &takeover.mark, false).await?;
    write(cluster, &takeover.object, false).await?;
    let found = until_ready(cluster, session, object_name, arguments.timeout).await?;
    let serial_number = found.status.as_ref().and_then(|status| status.serial_number.clone()).unwrap_or_default();
    Ok(if !is_ready(&found) {
        Answer::new(format!("{namespace}/{object_name} is created, and not ready: {}\n", said(&found)), Exit::Attention)
    } else if serial_number == takeover.facts.serial_number.as_str() {
        Answer::new(
            format!("{namespace}/{object_name} has taken over the Secret {name}, with certificate {serial_number} as before\n"),
            Exit::Good,
        )
    } else {
        let text = format!(
            "{namespace}/{object_name} has taken over the Secret {name}, and a new certificate {serial_number} is in it: kubectl usercert why {object_name} -n {namespace}\n"
        );
        Answer::new(text, Exit::Attention)
    })
}

async fn mark(cluster: &Cluster, secrets: &Api<Secret>, name: &str, patch: &Value, dry_run: bool) -> Result<(), CliError> {
    let parameters = PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    cluster
        .ask(format!("mark the Secret {name}"), secrets.patch_metadata(name, &parameters, &Patch::Merge(patch)))
        .await
        .map(|_| ())
}

/// Refuses a Secret that cert-manager would go on writing.
async fn still_written_by(cluster: &Cluster, secret: &Secret) -> Result<(), CliError> {
    let Some(certificate) = secret.annotations().get("cert-manager.io/certificate-name") else { return Ok(()) };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    match cluster.ask(format!("look for the Certificate {certificate} of cert-manager"), api.get_opt(certificate)).await {
        // The kind is not served: cert-manager is gone.
        Ok(None) => Ok(()),
        Err(error) if error.is_missing() => Ok(()),
        Ok(Some(_)) => Err(CliError::Unusable(format!(
            "the Certificate {certificate} of cert-manager still renews this Secret: delete it first with kubectl delete certificate {certificate} -n {} --cascade=orphan, which leaves the Secret",
            cluster.namespace
        ))),
        Err(error) => Err(error),
    }
}

async fn issuer(cluster: &Cluster, name: &IssuerName) -> Result<IssuerSpec, CliError> {
    let missing = |kind: &str| CliError::NotFound(format!("there is no {kind} {}: create it first", name.name));
    if name.is_of_cluster {
        let api = Api::<ClusterCertificateIssuer>::all(cluster.client.clone());
        let found = cluster.ask("read the issuer", api.get_opt(&name.name)).await?;
        return found.map(|issuer| issuer.spec.0).ok_or_else(|| missing("ClusterCertificateIssuer"));
    }
    let api = Api::<CertificateIssuer>::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = cluster.ask("read the issuer", api.get_opt(&name.name)).await?;
    found.map(|issuer| issuer.spec).ok_or_else(|| missing("CertificateIssuer"))
}

/// What is to be done to have the Secret taken over as it is.
///
/// # Errors
/// Why it cannot be taken over, and what to change.
fn prepare(
    secret: &Secret,
    namespace: &str,
    name: &str,
    issuer: &IssuerName,
    issuer_spec: &IssuerSpec,
    now: Timestamp,
) -> Result<Takeover, String> {
    let secret_name = secret.name_any();
    if secret.labels().contains_key(CERTIFICATE_UID_LABEL) {
        return Err(format!(
            "the Secret {secret_name} is the operator's already: kubectl usercert orphans tells whether it has lost its object"
        ));
    }
    if is_controlled(&secret.metadata) {
        let owners = secret.owner_references().iter().filter(|owner| owner.controller == Some(true));
        let owners: Vec<String> = owners.map(|owner| format!("{} {}", owner.kind, owner.name)).collect();
        return Err(format!(
            "the Secret {secret_name} is controlled by {}: remove that first, and leave the Secret (--cascade=orphan)",
            owners.join(", ")
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
    let is_ca = matches!(issuer_spec.source(), Some(IssuerSource::Ca(_)));
    let spec = spec_for(&facts, &secret_name, issuer, is_ca)?;
    let mut object = of_spec(namespace, name, &spec);
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
    let notes = notes(secret, &facts, is_ca, now);
    Ok(Takeover { object, mark, facts, notes })
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
    notes.push(if renewal <= now {
        format!("it was due for renewal at {renewal}, so a new certificate follows at once")
    } else {
        format!("it is renewed {} at the latest", relative(renewal, now))
    });
    let mut managers: Vec<&str> = secret
        .managed_fields()
        .iter()
        .filter_map(|entry| entry.manager.as_deref())
        .filter(|manager| *manager != MANAGER)
        .collect();
    managers.dedup();
    if !managers.is_empty() {
        notes.push(format!(
            "{} wrote the Secret: stop what would write it again, for the operator puts it right, five times in ten minutes",
            managers.join(", ")
        ));
    }
    notes.push(if is_ca {
        "if the CA of the issuer is not the one that signed this certificate, the operator issues a new one".to_owned()
    } else {
        "whether the certificate is from the project of the issuer is not looked at, and Atlas cannot revoke it".to_owned()
    });
    notes
}

fn preview(
    takeover: &Takeover,
    namespace: &str,
    secret: &str,
    terminal: &Terminal,
    now: Timestamp,
) -> Result<String, CliError> {
    let words = |text: &str| paragraph(Cell::whole(text).text(), 2, terminal);
    let title = |text: &str| format!("{}\n", terminal.paint(Mood::Title, text));
    let facts = &takeover.facts;
    let mut text = title("What is taken over");
    text.push_str(&words(&format!(
        "the Secret {namespace}/{secret}, with certificate {} for {}, which expires {}",
        facts.serial_number,
        facts.subject,
        relative(facts.not_after, now)
    )));
    append(&mut text, format_args!("\n{}", title("What is done")));
    text.push_str(&words(&format!("1. the Secret gets the annotations {SERIAL_NUMBER_ANNOTATION} and {NOT_AFTER_ANNOTATION}")));
    text.push_str(&words("2. this object is created, and the operator makes it the owner of the Secret:"));
    for line in for_programs(&takeover.object, Form::Yaml)?.unwrap_or_default().lines() {
        append(&mut text, format_args!("     {line}\n"));
    }
    text.push_str(&words("3. the operator adds the entries and annotations that its Secrets have; the certificate stays"));
    append(&mut text, format_args!("\n{}", title("To know before")));
    text.extend(takeover.notes.iter().map(|note| words(note)));
    text.push_str("\nNothing was changed; the API server would let it be done. Give --yes to do it.\n");
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-10T00:00:00Z".parse().unwrap()
    }

    fn issuer(is_ca: bool) -> IssuerSpec {
        let atlas = json!({ "atlas": { "projectId": "5efda6aea3f2ed2e7dd6ce05", "credentialsSecretRef": { "name": "k" } } });
        serde_json::from_value(if is_ca { json!({ "ca": { "secretName": "ca" } }) } else { atlas }).unwrap()
    }

    fn secret(organisation: Option<&str>, change: impl FnOnce(&mut Secret)) -> Secret {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, "orders");
        if let Some(organisation) = organisation {
            leaf.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
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

    fn prepared(secret: &Secret, is_ca: bool) -> Result<Takeover, String> {
        let name = IssuerName { is_of_cluster: false, name: "issuer".into() };
        prepare(secret, "shop", "old", &name, &issuer(is_ca), now())
    }

    #[test]
    fn the_object_asks_for_exactly_the_certificate_that_is_there() {
        let found = prepared(&secret(None, |_| {}), true).expect("it can be taken over");
        let spec = json!({
            "username": "orders", "secretName": "old", "issuerRef": { "kind": "CertificateIssuer", "name": "issuer" },
            "privateKey": { "algorithm": "ECDSA", "size": 256 },
        });
        assert_eq!(found.object["spec"], spec);
        assert_eq!(found.object["metadata"]["annotations"][ADOPT_SECRET_ANNOTATION], "true");
        assert_eq!((&found.mark["metadata"]["uid"], &found.mark["metadata"]["resourceVersion"]), (&json!("u"), &json!("7")));
        let with_subject = prepared(&secret(Some("Acme"), |_| {}), true).expect("it can be taken over");
        assert_eq!(with_subject.object["spec"]["subject"], with_subject.facts.subject.to_string());
        let atlas = prepared(&secret(None, |_| {}), false).expect("it can be taken over");
        assert_eq!(atlas.object["spec"].get("privateKey"), None, "Atlas chooses the key");
    }

    #[test]
    fn what_cannot_be_taken_over_is_told_with_what_to_change() {
        let refused = |secret: &Secret, is_ca| prepared(secret, is_ca).err().expect("it is refused");
        let owner =
            json!({ "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "old", "uid": "c", "controller": true });
        let controlled =
            secret(None, |secret| secret.metadata.owner_references = serde_json::from_value(json!([owner])).unwrap());
        assert!(refused(&controlled, true).contains("controlled by Certificate old"));
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

    #[test]
    fn the_preview_shows_the_object_and_holds_no_key() {
        let secret = secret(None, |_| {});
        let text = preview(
            &prepared(&secret, true).unwrap_or_else(|fault| unreachable!("{fault}")),
            "shop",
            "old",
            &Terminal::none(),
            now(),
        )
        .unwrap();
        for expected in
            ["for CN=orders, which expires in 81d", "kind: DatabaseUserCertificate", "Give --yes to do it", "it is renewed in"]
        {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}
