//! `migrate`: has the operator take over a Secret that cert-manager, a script or Terraform made, without a new certificate.
//!
//! The operator takes over only what carries one of its marks and holds nothing but what it could have written. So the Secret gets the mark,
//! which is the annotation with the serial number of its certificate, and the object gets the annotation that asks for the adoption. The
//! operator takes the Secret over then, and completes it from its own content. The object does not own it, for it has the policy Retain.
//!
//! The Secret may hold the only copy of a key that works. So nothing is done while the operator would replace the pair, while somebody else
//! may delete the Secret or write another pair into it, or while nobody would renew it.

mod answer;
mod clock;
mod obstacles;
mod others;
mod prepare;
mod signer;
mod successor;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde_json::{Value, json};
use usercert_operator_controller::{Received, Unreadable};
use usercert_operator_core::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, IssuerSource, IssuerSpec, IssuerStatus,
        names::CA_CERTIFICATE,
    },
    certificate::Link,
    decide::{Observed, SecretState},
};

use self::{
    answer::{Plan, is_settled},
    clock::clock,
    obstacles::{Obstacle, of_credentials, of_decision},
    others::of_metadata,
    prepare::{Takeover, Wanted, prepare},
    signer::{chain_of_issuer, links, lost_trust, of_atlas, with_name_constraints},
};
use super::{
    create::{is_part, until, write},
    inspect::read_file,
    objects::{Certificate, MANAGER},
    observe::{Unseen, issuer_state, namespace_labels},
};
use crate::{
    arguments::{IssuerName, MigrateArguments},
    cluster::Cluster,
    exit::{Answer, CliError},
    session::Session,
};

/// By this annotation cert-manager says for which `Certificate` it writes a Secret.
const CERT_MANAGER_ANNOTATION: &str = "cert-manager.io/certificate-name";

/// Does `migrate`. Without `--yes` it shows what it would do.
pub(super) async fn migrate(cluster: &Cluster, session: &Session, arguments: &MigrateArguments) -> Result<Answer, CliError> {
    let (namespace, name) = (&cluster.namespace, &arguments.secret);
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let secret = cluster.ask(format!("read the Secret {name}"), secrets.get_opt(name)).await?;
    let secret = secret.ok_or_else(|| CliError::NotFound(format!("there is no Secret {name} in the namespace {namespace}")))?;
    let (issuer_spec, issuer_status) = issuer(cluster, &arguments.issuer).await?;
    let object_name = arguments.name.as_ref().unwrap_or(name);
    let wanted = Wanted {
        namespace,
        name: object_name,
        issuer: &arguments.issuer,
        issuer_spec: &issuer_spec,
        keep_previous: arguments.acceptance.keeps_former_pair(),
    };
    let clock = clock(cluster, session).await;
    let mut takeover = prepare(&secret, &wanted, clock.now).map_err(CliError::Unusable)?;
    takeover.notes.extend(clock.notes);
    let mut obstacles = obstacles(cluster, clock.now, arguments, &secret, &takeover, &issuer_spec).await?;
    obstacles.extend(of_credentials(issuer_status.as_ref()));
    obstacles.extend(clock.obstacle);
    // Before the first change: whether each would be let through.
    write(cluster, &takeover.object, true).await?;
    mark(cluster, &secrets, name, &takeover.mark, true).await?;
    let plan = Plan {
        namespace,
        secret: name,
        name: object_name,
        takeover: &takeover,
        obstacles: &obstacles,
        acceptance: arguments.acceptance,
    };
    if !arguments.yes {
        return plan.preview(&session.terminal, clock.now, arguments.output);
    }
    plan.check()?;
    mark(cluster, &secrets, name, &takeover.mark, false).await?;
    let marked = format!("the Secret {name} has its mark, which alone changes nothing");
    write(cluster, &takeover.object, false).await.map_err(|error| error.after(marked))?;
    let created = format!("the Secret {name} has its mark, and the DatabaseUserCertificate {object_name} is created");
    let found = until(cluster, session, object_name, arguments.timeout, is_settled).await;
    let found = found.map_err(|error| error.after(created))?;
    plan.outcome(&found, arguments.output)
}

/// Looks at all that may be in the way.
async fn obstacles(
    cluster: &Cluster,
    now: Timestamp,
    arguments: &MigrateArguments,
    secret: &Secret,
    takeover: &Takeover,
    issuer_spec: &IssuerSpec,
) -> Result<Vec<Obstacle>, CliError> {
    let mut found = of_metadata(&secret.metadata);
    found.extend(still_written_by(cluster, secret).await?);
    let object: DatabaseUserCertificate = serde_json::from_value(takeover.object.clone())
        .map_err(|fault| CliError::Unusable(format!("this makes no DatabaseUserCertificate: {fault}")))?;
    let object = Certificate::from(object);
    let mut unseen = Unseen::default();
    let issuer = issuer_state(cluster, &object, &cluster.namespace, &SecretState::Absent, &mut unseen).await?;
    let mut issuer = issuer.unwrap_or_default();
    // Without a Secret that tells, what the issuer does not say is empty.
    let identity = issuer.usable().map(|facts| facts.identity.clone()).filter(|identity| !identity.as_str().is_empty());
    match issuer_spec.source() {
        Some(IssuerSource::Ca(_)) if issuer.usable().is_some() => {
            match chain_of_issuer(&takeover.pair, &known_certificates(secret, arguments)?, identity.as_ref()) {
                Ok(chain) => {
                    found.extend(lost_trust(ca_entry(secret), Some(&chain)));
                    issuer = with_name_constraints(issuer, &chain);
                }
                Err(obstacle) => found.push(obstacle),
            }
        }
        Some(IssuerSource::Atlas(atlas)) => {
            let project = atlas.project_id.as_deref().or_else(|| identity.as_ref()?.as_str().strip_prefix("atlas/"));
            found.extend(of_atlas(&takeover.facts.issuer, project));
            found.extend(lost_trust(ca_entry(secret), None));
        }
        // What the operator would decide says what is wrong with it.
        Some(IssuerSource::Ca(_)) | None => {}
    }
    let observed = Observed {
        issuer,
        namespace: cluster.namespace.clone(),
        namespace_labels: namespace_labels(cluster, &cluster.namespace, &mut unseen).await?,
        ..Observed::default()
    };
    found.extend(of_decision(&object, secret, observed, now));
    found.extend(takeover.obstacles.iter().cloned());
    Ok(found)
}

/// The certificates of CAs that are at hand: those of the Secret, and those of `--ca`.
fn known_certificates(secret: &Secret, arguments: &MigrateArguments) -> Result<Vec<Link>, CliError> {
    let mut known = links(ca_entry(secret));
    if let Some(file) = &arguments.ca {
        known.extend(links(&read_file(file)?));
    }
    Ok(known)
}

fn ca_entry(secret: &Secret) -> &[u8] {
    secret.data.as_ref().and_then(|data| data.get(CA_CERTIFICATE)).map_or(&[], |entry| &entry.0)
}

/// Marks the Secret. If the answer is lost, it looks whether the mark is there.
async fn mark(cluster: &Cluster, secrets: &Api<Secret>, name: &str, patch: &Value, dry_run: bool) -> Result<(), CliError> {
    let parameters = PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let merge = Patch::Merge(patch);
    let lost = match cluster.ask(format!("mark the Secret {name}"), secrets.patch_metadata(name, &parameters, &merge)).await {
        Ok(_) => return Ok(()),
        Err(lost) if lost.is_unanswered() && !dry_run => lost,
        Err(error) => return Err(error),
    };
    let found = cluster.ask(format!("look for the mark of the Secret {name}"), secrets.get_metadata(name)).await;
    if found.is_ok_and(|found| has_mark(&found.metadata, patch)) {
        return Ok(());
    }
    let to_do = "repeat the command, for a mark alone changes nothing".to_owned();
    Err(CliError::Unknown { change: format!("the Secret {name} was marked"), to_do, source: Box::new(lost) })
}

/// Whether the Secret is the one of the patch, and has its annotations.
fn has_mark(metadata: &ObjectMeta, patch: &Value) -> bool {
    let wanted = &patch["metadata"];
    wanted["uid"] == json!(metadata.uid) && is_part(&wanted["annotations"], &json!(metadata.annotations))
}

/// A Secret that cert-manager would go on writing.
async fn still_written_by(cluster: &Cluster, secret: &Secret) -> Result<Option<Obstacle>, CliError> {
    let Some(certificate) = secret.annotations().get(CERT_MANAGER_ANNOTATION) else { return Ok(None) };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    match cluster.ask(format!("look for the Certificate {certificate} of cert-manager"), api.get_opt(certificate)).await {
        // The kind is not served: cert-manager is gone.
        Ok(None) => Ok(None),
        Err(error) if error.is_missing() => Ok(None),
        // Other projects have a kind of that name too.
        Ok(Some(_)) => Ok(Some(Obstacle::change(format!(
            "the Certificate {certificate} of cert-manager still renews this Secret: delete it first with kubectl delete certificates.cert-manager.io {certificate} -n {} --cascade=orphan, which leaves the Secret",
            cluster.namespace
        )))),
        // The API server refuses before it looks whether there is such a kind.
        Err(error) if error.is_denied() => Ok(Some(Obstacle::change(format!(
            "whether the Certificate {certificate} of cert-manager still renews this Secret is not known, for you may not get certificates.cert-manager.io: get that right. Or see that it is gone, and take the annotation {CERT_MANAGER_ANNOTATION} off the Secret"
        )))),
        Err(error) => Err(error),
    }
}

async fn issuer(cluster: &Cluster, name: &IssuerName) -> Result<(IssuerSpec, Option<IssuerStatus>), CliError> {
    let missing = |kind: &str| CliError::NotFound(format!("there is no {kind} {}: create it first", name.name));
    if name.is_of_cluster {
        let api = Api::<Received<ClusterCertificateIssuer>>::all(cluster.client.clone());
        let found = cluster.ask("read the issuer", api.get_opt(&name.name)).await?;
        let issuer = found.ok_or_else(|| missing("ClusterCertificateIssuer"))?;
        understood(issuer.unreadable_object())?;
        return Ok((issuer.spec.0.clone(), issuer.status.clone()));
    }
    let api = Api::<Received<CertificateIssuer>>::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = cluster.ask("read the issuer", api.get_opt(&name.name)).await?;
    let issuer = found.ok_or_else(|| missing("CertificateIssuer"))?;
    understood(issuer.unreadable_object())?;
    Ok((issuer.spec.clone(), issuer.status.clone()))
}

/// What is left of a spec that is not understood may mean something else.
fn understood(unreadable: Option<&Unreadable>) -> Result<(), CliError> {
    unreadable.map_or(Ok(()), |unreadable| {
        let fault = unreadable.fault();
        Err(CliError::Unusable(format!(
            "this program does not understand the issuer ({fault}): use the program of the operator's release"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_there_if_the_same_secret_has_all_of_it() {
        let patch = json!({ "metadata": { "uid": "u", "resourceVersion": "1", "annotations": { "a": "1", "b": "2" } } });
        let of = |uid: &str, annotations: Value| {
            let found = serde_json::from_value(json!({ "uid": uid, "annotations": annotations }));
            found.is_ok_and(|found| has_mark(&found, &patch))
        };
        assert!(of("u", json!({ "a": "1", "b": "2", "c": "3" })));
        assert!(!of("another", json!({ "a": "1", "b": "2" })));
        assert!(!of("u", json!({ "a": "1", "b": "3" })) && !of("u", json!({ "a": "1" })) && !of("u", Value::Null));
    }
}
