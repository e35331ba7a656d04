//! `create`: writes a `DatabaseUserCertificate`, or shows it.

use std::time::Duration;

use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use usercert_operator_core::api::{DatabaseUserCertificate, IssuerKind, READY, condition};

use super::objects::{Certificate, MANAGER, certificate_of};
use crate::{
    arguments::{CreateArguments, Form, IssuerName},
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::Cell,
    terminal::Progress,
};

/// How often an object that is waited for is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Does `create`.
pub(super) async fn create(cluster: &Cluster, session: &Session, arguments: &CreateArguments) -> Result<Answer, CliError> {
    let manifest = manifest(&cluster.namespace, arguments);
    let (namespace, name) = (&cluster.namespace, &arguments.name);
    write(cluster, &manifest, arguments.dry_run).await?;
    if arguments.dry_run {
        let text = for_programs(&manifest, Form::Yaml)?.unwrap_or_default();
        return Ok(Answer::new(text, Exit::Good));
    }
    if !arguments.wait {
        let text = format!("{namespace}/{name} created: kubectl usercert why {name} -n {namespace} tells what becomes of it\n");
        return Ok(Answer::new(text, Exit::Good));
    }
    let found = until(cluster, session, name, arguments.timeout, is_ready).await;
    let found = found.map_err(|error| error.after(format!("{namespace}/{name} is created")))?;
    Ok(answer(&found, namespace, name))
}

/// Creates the object; with `dry_run` the API server only checks it. If the answer is lost, it looks whether the object is there.
pub(super) async fn write(cluster: &Cluster, manifest: &Value, dry_run: bool) -> Result<Certificate, CliError> {
    let object: DatabaseUserCertificate = serde_json::from_value(manifest.clone())
        .map_err(|fault| CliError::Usage(format!("this makes no DatabaseUserCertificate: {fault}")))?;
    let api = Api::<Certificate>::namespaced(cluster.client.clone(), &cluster.namespace);
    let parameters = PostParams { dry_run, field_manager: Some(MANAGER.to_owned()) };
    let (name, wanted) = (object.name_any(), serde_json::to_value(&object).unwrap_or_default());
    let operation = format!("create the DatabaseUserCertificate {name}");
    match cluster.ask(operation, api.create(&parameters, &object.into())).await {
        Err(lost) if lost.is_unanswered() && !dry_run => {
            let found = cluster.find(format!("look for the DatabaseUserCertificate {name}"), &api, &name).await;
            without_answer(found.ok().flatten(), (&cluster.namespace, &name), &wanted, lost)
        }
        answer => answer,
    }
}

/// What is known of an object whose creation had no answer, by the one of its name that is found after it. One with the spec that was asked for
/// may have been there before, if it is being deleted or lacks an annotation.
fn without_answer(
    found: Option<Certificate>,
    (namespace, name): (&str, &str),
    wanted: &Value,
    lost: CliError,
) -> Result<Certificate, CliError> {
    if let Some(found) = found {
        if !is_part(&wanted["spec"], &json!(found.spec)) {
            return Err(CliError::Unusable(format!(
                "nothing was created, for there is another DatabaseUserCertificate {name}: choose another name"
            )));
        }
        let has_annotations = is_part(&wanted["metadata"]["annotations"], &json!(found.annotations()));
        if found.metadata.deletion_timestamp.is_none() && has_annotations {
            return Ok(found);
        }
    }
    Err(CliError::Unknown {
        change: format!("the DatabaseUserCertificate {name} was created"),
        to_do: format!("look with kubectl usercert status {name} -n {namespace}; if it is not there, repeat the command"),
        source: Box::new(lost),
    })
}

/// Whether all that is wanted is there. More may be: defaults of the API server, or what others have written.
pub(super) fn is_part(wanted: &Value, found: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::Object(fields) => fields.iter().all(|(field, wanted)| is_part(wanted, &found[field])),
        wanted => wanted == found,
    }
}

fn manifest(namespace: &str, arguments: &CreateArguments) -> Value {
    let mut spec = json!({ "username": arguments.username, "issuerRef": issuer_reference(&arguments.issuer) });
    let fields = [
        ("secretName", arguments.secret_name.as_ref().map(|name| json!(name))),
        ("monthsUntilExpiration", arguments.months.map(|months| json!(months))),
        ("duration", arguments.duration.as_ref().map(|duration| json!(duration))),
        ("subject", arguments.subject.as_ref().map(|subject| json!(subject))),
        ("renewBefore", arguments.renew_before.as_ref().map(|time| json!(time))),
        ("deletionPolicy", arguments.retain.then(|| json!("Retain"))),
        ("rollout", arguments.rollout.then(|| json!({ "auto": true }))),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    of_spec(namespace, &arguments.name, &spec)
}

/// The object with this spec.
pub(super) fn of_spec(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
        "metadata": { "namespace": namespace, "name": name }, "spec": spec,
    })
}

/// The issuer as a spec names it.
pub(super) fn issuer_reference(issuer: &IssuerName) -> Value {
    let kind = if issuer.is_of_cluster { IssuerKind::ClusterCertificateIssuer } else { IssuerKind::CertificateIssuer };
    json!({ "kind": kind, "name": issuer.name })
}

/// The object once this is so, or as it is when the time is over. A look that fails is repeated until then.
///
/// # Errors
/// The object is gone, or may not be looked at, or the last look failed.
pub(super) async fn until(
    cluster: &Cluster,
    session: &Session,
    name: &str,
    limit: Duration,
    is_so: impl Fn(&Certificate) -> bool,
) -> Result<Certificate, CliError> {
    let (started, mut progress) = (tokio::time::Instant::now(), Progress::new(&session.terminal));
    loop {
        let found = certificate_of(cluster, &cluster.namespace, name).await;
        let is_over = started.elapsed() >= limit;
        match found {
            Ok(found) if is_over || is_so(&found) => return Ok(found),
            Ok(found) => progress.tell(|| format!("{name}: {}", said(&found))),
            Err(error) if is_over || error.is_denied() || matches!(error, CliError::NotFound(_)) => return Err(error),
            Err(error) => progress.tell(|| format!("{name}: {error}")),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the operator has looked at this generation and says that the certificate works.
pub(super) fn is_ready(object: &Certificate) -> bool {
    let Some(status) = &object.status else { return false };
    status.observed_generation == object.metadata.generation
        && condition(&status.conditions, READY).is_some_and(|ready| ready.status == "True")
}

/// What the operator says.
pub(super) fn said(object: &Certificate) -> String {
    let ready = object.status.as_ref().and_then(|status| condition(&status.conditions, READY));
    ready.map_or_else(
        || "no operator has looked at it yet: kubectl usercert check".to_owned(),
        |ready| format!("{}: {}", ready.reason, ready.message),
    )
}

fn answer(found: &Certificate, namespace: &str, name: &str) -> Answer {
    if is_ready(found) {
        let secret = found.secret_name();
        return Answer::new(format!("{namespace}/{name} is ready: the Secret {secret} holds the certificate\n"), Exit::Good);
    }
    let text = format!("{namespace}/{name} was created, and is not ready: {}", said(found));
    Answer::new(Cell::whole(&text).text().to_owned() + "\n", Exit::Attention)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    fn manifest_of(arguments: &[&str]) -> Value {
        let arguments = [&["kubectl-usercert", "create"], arguments].concat();
        match Arguments::try_parse_from(arguments).unwrap().verb {
            Verb::Create(arguments) => manifest("shop", &arguments),
            _ => unreachable!(),
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_the_defaults() {
        let expected = json!({ "username": "orders", "issuerRef": { "kind": "CertificateIssuer", "name": "atlas" } });
        let found = manifest_of(&["orders-cert", "--username", "orders", "--issuer", "atlas"]);
        assert_eq!(found["spec"], expected);
        assert_eq!(found["metadata"], json!({ "namespace": "shop", "name": "orders-cert" }));
    }

    #[test]
    fn each_flag_has_its_field() {
        let found = manifest_of(&[
            "a",
            "--username=orders",
            "--issuer=cluster/ca",
            "--secret-name=s",
            "--duration=24h",
            "--subject=CN=orders,O=Acme",
            "--renew-before=2h",
            "--retain",
            "--rollout",
        ]);
        let expected = json!({
            "username": "orders", "issuerRef": { "kind": "ClusterCertificateIssuer", "name": "ca" }, "secretName": "s", "duration": "24h",
            "subject": "CN=orders,O=Acme", "renewBefore": "2h", "deletionPolicy": "Retain", "rollout": { "auto": true },
        });
        assert_eq!(found["spec"], expected);
        assert!(serde_json::from_value::<DatabaseUserCertificate>(found).is_ok());
    }
}
