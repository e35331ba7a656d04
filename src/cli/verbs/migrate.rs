//! `migrate`: has the operator take over a Secret that cert-manager, a script or Terraform made, without a new certificate.
//!
//! The operator takes over only what carries one of its marks and holds nothing but what it could have written. So the Secret gets the mark,
//! which is the annotation with the serial number of its certificate, and the object gets the annotation that asks for the adoption. The
//! operator changes the owner then, and completes the Secret from its own content.
//!
//! The Secret may hold the only copy of a key that works. So nothing is done while the operator would replace the pair, while somebody else
//! may delete the Secret, or while nobody would renew it.

mod obstacles;
mod prepare;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde_json::Value;
use usercert_operator_core::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, ISSUING, IssuerSource, IssuerSpec, Reason,
        condition,
        names::{CA_CERTIFICATE, NOT_AFTER_ANNOTATION, SERIAL_NUMBER_ANNOTATION},
    },
    decide::{IssuerState, Observed, SecretState},
};

use self::{
    obstacles::{Obstacle, chain_of_issuer, links, of_decision, of_metadata, with_name_constraints},
    prepare::{Takeover, prepare},
};
use super::{
    Session,
    create::{LOOK, is_ready, said, write},
    inspect::read_file,
    objects::{Certificate, MANAGER, certificate_of},
    observe::{Unseen, issuer_state, namespace_labels},
};
use crate::{
    arguments::{Form, IssuerName, MigrateArguments},
    cluster::Cluster,
    exit::{Answer, CliError, Exit},
    table::Cell,
    terminal::{Mood, Progress, Terminal},
    text::{append, for_programs, paragraph, relative},
};

/// Does `migrate`. Without `--yes` it shows what it would do.
pub(super) async fn migrate(cluster: &Cluster, session: &Session, arguments: &MigrateArguments) -> Result<Answer, CliError> {
    let (namespace, name) = (&cluster.namespace, &arguments.secret);
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let secret = cluster.ask(format!("read the Secret {name}"), secrets.get_opt(name)).await?;
    let secret = secret.ok_or_else(|| CliError::NotFound(format!("there is no Secret {name} in the namespace {namespace}")))?;
    let issuer = issuer(cluster, &arguments.issuer).await?;
    let is_ca = matches!(issuer.source(), Some(IssuerSource::Ca(_)));
    let object_name = arguments.name.as_ref().unwrap_or(name);
    let keep_previous = arguments.accept_new_certificate;
    let takeover = prepare(&secret, namespace, object_name, &arguments.issuer, is_ca, keep_previous, session.now())
        .map_err(CliError::Unusable)?;
    let obstacles = obstacles(cluster, session, arguments, &secret, &takeover).await?;
    // Before the first change: whether each would be let through.
    write(cluster, &takeover.object, true).await?;
    mark(cluster, &secrets, name, &takeover.mark, true).await?;
    if !arguments.yes {
        let exit = if obstacles.is_empty() { Exit::Good } else { Exit::Attention };
        return Ok(Answer::new(preview(&takeover, &obstacles, namespace, name, &session.terminal, session.now())?, exit));
    }
    let is_accepted =
        |obstacle: &&Obstacle| arguments.accept_new_certificate && matches!(obstacle, Obstacle::NewCertificate(_));
    let refused: Vec<&str> = obstacles.iter().filter(|obstacle| !is_accepted(obstacle)).map(Obstacle::sentence).collect();
    if !refused.is_empty() {
        return Err(CliError::Unusable(format!("nothing was changed: {}", refused.join("; "))));
    }
    mark(cluster, &secrets, name, &takeover.mark, false).await?;
    write(cluster, &takeover.object, false).await?;
    let found = until_taken_over(cluster, session, object_name, arguments.timeout).await?;
    Ok(answer(&found, &takeover, arguments.accept_new_certificate))
}

/// What became of it.
fn answer(found: &Certificate, takeover: &Takeover, is_accepted: bool) -> Answer {
    let (namespace, name, secret) = (found.namespace().unwrap_or_default(), found.name_any(), found.secret_name());
    let serial_number = found.status.as_ref().and_then(|status| status.serial_number.clone()).unwrap_or_default();
    let issuing = found.status.as_ref().and_then(|status| condition(&status.conditions, ISSUING));
    if !is_ready(found) {
        let text = format!("{namespace}/{name} is created, and not ready: {}\n", said(found));
        return Answer::new(text, Exit::Attention);
    }
    if serial_number != takeover.facts.serial_number.as_str() {
        let text = format!(
            "{namespace}/{name} has taken over the Secret {secret}, and a new certificate {serial_number} is in it: kubectl usercert why {name} -n {namespace}\n"
        );
        return Answer::new(text, if is_accepted { Exit::Good } else { Exit::Attention });
    }
    if !is_settled(found) {
        let why = issuing.map(|issuing| format!("{}: {}", issuing.reason, issuing.message)).unwrap_or_default();
        let text = format!(
            "{namespace}/{name} has taken over the Secret {secret}, with certificate {serial_number} as before, and the operator is not done: {why}\n"
        );
        return Answer::new(text, Exit::Attention);
    }
    let text = format!("{namespace}/{name} has taken over the Secret {secret}, with certificate {serial_number} as before\n");
    Answer::new(text, Exit::Good)
}

/// Whether the operator has looked at the object, and nothing is left to be done before the renewal.
fn is_settled(object: &Certificate) -> bool {
    let issuing = object.status.as_ref().and_then(|status| condition(&status.conditions, ISSUING));
    is_ready(object) && issuing.is_some_and(|issuing| issuing.status == "False" && issuing.reason == Reason::Issued.as_str())
}

/// The object once it is settled, or as it is when the time is over.
async fn until_taken_over(
    cluster: &Cluster,
    session: &Session,
    name: &str,
    limit: std::time::Duration,
) -> Result<Certificate, CliError> {
    let (started, mut progress) = (tokio::time::Instant::now(), Progress::new(&session.terminal));
    loop {
        let found = certificate_of(cluster, &cluster.namespace, name).await?;
        if is_settled(&found) || started.elapsed() >= limit {
            return Ok(found);
        }
        progress.tell(|| format!("{name}: {}", said(&found)));
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks at all that may be in the way.
async fn obstacles(
    cluster: &Cluster,
    session: &Session,
    arguments: &MigrateArguments,
    secret: &Secret,
    takeover: &Takeover,
) -> Result<Vec<Obstacle>, CliError> {
    let mut found = of_metadata(&secret.metadata);
    found.extend(still_written_by(cluster, secret).await?);
    let object: DatabaseUserCertificate = serde_json::from_value(takeover.object.clone())
        .map_err(|fault| CliError::Unusable(format!("this makes no DatabaseUserCertificate: {fault}")))?;
    let object = Certificate::from(object);
    let mut unseen = Unseen::default();
    let issuer = issuer_state(cluster, &object, &cluster.namespace, &SecretState::Absent, &mut unseen).await?;
    let mut issuer = issuer.unwrap_or_default();
    if let IssuerState::Usable(facts) = &issuer
        && facts.ca().is_some()
    {
        let mut known =
            secret.data.as_ref().and_then(|data| data.get(CA_CERTIFICATE)).map(|ca| links(&ca.0)).unwrap_or_default();
        if let Some(file) = &arguments.ca {
            known.extend(links(&read_file(file)?));
        }
        match chain_of_issuer(&takeover.pair, &known, &facts.identity) {
            Ok(chain) => issuer = with_name_constraints(issuer, &chain),
            Err(obstacle) => found.push(obstacle),
        }
    }
    let observed = Observed {
        issuer,
        namespace: cluster.namespace.clone(),
        namespace_labels: namespace_labels(cluster, &cluster.namespace, &mut unseen).await?,
        ..Observed::default()
    };
    found.extend(of_decision(&object, secret, observed, session.now()));
    Ok(found)
}

async fn mark(cluster: &Cluster, secrets: &Api<Secret>, name: &str, patch: &Value, dry_run: bool) -> Result<(), CliError> {
    let parameters = PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    cluster
        .ask(format!("mark the Secret {name}"), secrets.patch_metadata(name, &parameters, &Patch::Merge(patch)))
        .await
        .map(|_| ())
}

/// A Secret that cert-manager would go on writing.
async fn still_written_by(cluster: &Cluster, secret: &Secret) -> Result<Option<Obstacle>, CliError> {
    let Some(certificate) = secret.annotations().get("cert-manager.io/certificate-name") else { return Ok(None) };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    match cluster.ask(format!("look for the Certificate {certificate} of cert-manager"), api.get_opt(certificate)).await {
        // The kind is not served: cert-manager is gone.
        Ok(None) => Ok(None),
        Err(error) if error.is_missing() => Ok(None),
        // Other projects have a kind of that name too.
        Ok(Some(_)) => Ok(Some(Obstacle::Change(format!(
            "the Certificate {certificate} of cert-manager still renews this Secret: delete it first with kubectl delete certificates.cert-manager.io {certificate} -n {} --cascade=orphan, which leaves the Secret",
            cluster.namespace
        )))),
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

fn preview(
    takeover: &Takeover,
    obstacles: &[Obstacle],
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
    if !obstacles.is_empty() {
        append(&mut text, format_args!("\n{}", title("In the way")));
        text.extend(obstacles.iter().map(|obstacle| words(obstacle.sentence())));
        let way = if obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Change(_))) {
            "Change what is in the way"
        } else {
            "Give --yes --accept-new-certificate to do it all the same"
        };
        append(&mut text, format_args!("\nNothing was changed. {way}.\n"));
        return Ok(text);
    }
    text.push_str("\nNothing was changed; the API server would let it be done. Give --yes to do it.\n");
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::{
        prepare::tests::{now, prepared, secret},
        *,
    };

    #[test]
    fn the_preview_shows_the_object_and_holds_no_key() {
        let secret = secret(None, |_| {});
        let takeover = prepared(&secret, true).unwrap_or_else(|fault| unreachable!("{fault}"));
        let text = preview(&takeover, &[], "shop", "old", &Terminal::none(), now()).unwrap();
        for expected in
            ["for CN=orders, which expires in 81d", "kind: DatabaseUserCertificate", "Give --yes to do it", "it is renewed in"]
        {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("PRIVATE"), "{text}");

        let shown = |obstacles: &[Obstacle]| preview(&takeover, obstacles, "shop", "old", &Terminal::none(), now()).unwrap();
        let change = shown(&[Obstacle::Change("another CA".into()), Obstacle::NewCertificate("it is due".into())]);
        assert!(change.contains("In the way\n  another CA\n  it is due\n\nNothing was changed. Change what"), "{change}");
        let accepted = shown(&[Obstacle::NewCertificate("it is due".into())]);
        assert!(accepted.contains("--yes --accept-new-certificate") && !accepted.contains("would let"), "{accepted}");
    }
}
