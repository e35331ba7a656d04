//! Objects that were deleted: whoever waits for their Secret looks again, and an Event tells of running pods that use it.
//!
//! There is no finalizer, so nothing holds a deletion up, and the Event is about an object that is gone. Pods are listed only when an
//! object was deleted: there is no watch of them, and no cost at rest.
//!
//! # Guarantees
//!
//! - Nothing is said of a Secret that stays: one that `deletionPolicy: Retain` has kept, one whose object was deleted with
//!   `--cascade=orphan`, and one that another object has by now.
//! - Nothing else depends on this. What fails is logged.
//!
//! # Limits
//!
//! - A deletion that the watch does not show, because it was interrupted or this process did not lead, is not told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, ObjectMeta},
    core::Request,
    runtime::reflector::ObjectRef,
};
use serde_json::Value;
use tokio::time::timeout;
use tracing::debug;

use super::{
    Context, Received, SecretMetadata,
    kubernetes::{KubernetesError, chain, request},
    pages::each_page,
};
use crate::{
    api::{DatabaseUserCertificate, Reason, SecretLocation},
    rollout_rules::{Uses, is_alive},
    runtime::Heartbeat,
};

/// How many deletions are told together: pods are listed once for all those of a namespace.
const TOGETHER: usize = 1000;

/// How often the loop shows that it moves while nothing is deleted.
const PERIOD: Duration = Duration::from_secs(10);

/// How many pods the Event names.
const NAMED: usize = 3;

/// Where the watch puts objects that were deleted.
pub(super) struct Deletions(UnboundedSender<Received<DatabaseUserCertificate>>);

/// Objects that were deleted, in the order in which the watch showed them.
pub(super) struct Deleted(UnboundedReceiver<Received<DatabaseUserCertificate>>);

impl Deletions {
    pub(super) fn new() -> (Self, Deleted) {
        let (sender, receiver) = unbounded();
        (Self(sender), Deleted(receiver))
    }

    /// The watch has shown that this object was deleted. A send fails only when the process stops.
    pub(super) fn saw(&self, object: &Received<DatabaseUserCertificate>) {
        let _ = self.0.unbounded_send(object.clone());
    }
}

impl Deleted {
    /// Tells of each deletion, until the process ends.
    pub(super) async fn tell(self, context: &Context, heartbeat: Heartbeat) {
        let mut deleted = self.0.ready_chunks(TOGETHER);
        loop {
            heartbeat.beat();
            let objects = match timeout(PERIOD, deleted.next()).await {
                Err(_) => continue,
                Ok(None) => break,
                Ok(Some(objects)) => objects,
            };
            let mut by_namespace: BTreeMap<String, Vec<_>> = BTreeMap::new();
            for object in objects {
                context.secret_watches.wake_waiting(&SecretLocation::of(&object));
                by_namespace.entry(object.namespace().unwrap_or_default()).or_default().push(object);
            }
            for (namespace, objects) in by_namespace {
                if let Err(error) = tell_of_pods(context, &namespace, objects, &heartbeat).await {
                    debug!(namespace, error = chain(&error), "whether pods use the Secrets of deleted objects is not known");
                }
            }
        }
        // A loop that has ended need not move.
        drop(heartbeat);
        // The watch has ended, and what else the process has to do goes on.
        std::future::pending::<()>().await;
    }
}

/// Publishes an Event for each of these objects whose Secret goes and is used.
async fn tell_of_pods(
    context: &Context,
    namespace: &str,
    objects: Vec<Received<DatabaseUserCertificate>>,
    heartbeat: &Heartbeat,
) -> Result<(), KubernetesError> {
    let concerned: Vec<_> = objects.into_iter().filter(|object| had_certificate(object)).collect();
    if concerned.is_empty() || is_being_deleted(context, namespace) || !context.settings.leadership.may_act() {
        return Ok(());
    }
    let names = concerned.iter().map(|object| object.secret_name()).collect();
    let users = users_of_all(context, namespace, names).await?;
    let secrets = Api::<SecretMetadata>::namespaced(context.client.clone(), namespace);
    for object in concerned {
        heartbeat.beat();
        let name = object.secret_name();
        let Some(users) = users.get(&name) else { continue };
        let found = request("read the Secret", secrets.get_opt(&name)).await?;
        if goes(&object, found.as_ref().map(|secret| &secret.metadata)) {
            context.settings.metrics.warned(Reason::SecretInUse);
            context.events.publish(&*object, Reason::SecretInUse, &sentence(&name, users)).await;
        }
    }
    Ok(())
}

/// The running pods that use each of these Secrets, in alphabetical order. Of a page of pods nothing else is kept.
async fn users_of_all(
    context: &Context,
    namespace: &str,
    secrets: BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<String>>, KubernetesError> {
    let requests = Request::new(Pod::url_path(&(), Some(namespace)));
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    each_page(&context.client, &requests, "list pods", &ListParams::default(), |pods| {
        for secret in &secrets {
            let names = users_of(pods, secret);
            if !names.is_empty() {
                users.entry(secret.clone()).or_default().extend(names);
            }
        }
    })
    .await?;
    for names in users.values_mut() {
        names.sort_unstable();
    }
    Ok(users)
}

/// Whether the Secret of the object held a certificate.
fn had_certificate(object: &DatabaseUserCertificate) -> bool {
    object.status.as_ref().is_some_and(|status| status.serial_number.is_some())
}

/// Whether the Secret goes, or went, with the object. The policy of the spec does not tell: it may have been changed too late to be carried
/// out. So the Secret tells while it is there, and the status tells where it is gone.
fn goes(object: &DatabaseUserCertificate, secret: Option<&ObjectMeta>) -> bool {
    let is_retained = || object.status.as_ref().is_some_and(|status| status.retained_secret_uid.is_some());
    secret.map_or_else(|| !is_retained(), |secret| goes_with(object, secret))
}

/// Whether a Secret that is still there will be deleted: the object that is gone is its only owner. One without owners was left behind,
/// and one with other owners is theirs.
fn goes_with(object: &DatabaseUserCertificate, secret: &ObjectMeta) -> bool {
    let mut owners = secret.owner_references.iter().flatten().peekable();
    owners.peek().is_some() && owners.all(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
}

/// In a namespace that is being deleted everything goes, and no Event can be made.
fn is_being_deleted(context: &Context, namespace: &str) -> bool {
    let known = context.namespaces.as_ref().and_then(|namespaces| namespaces.get(&ObjectRef::new(namespace)));
    known.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
}

/// The names of the running pods that use a Secret of their namespace.
fn users_of(pods: &[Value], secret: &str) -> Vec<String> {
    let users = pods.iter().filter(|pod| is_alive(pod) && Uses::of(&pod["spec"], secret).any());
    users.filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect()
}

fn sentence(secret: &str, users: &[String]) -> String {
    let named = users.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = users.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (pods, use_it) = if users.len() == 1 { ("pod", "uses") } else { ("pods", "use") };
    format!(
        "the Secret {secret} is deleted with this object, and {} running {pods} {use_it} it: {named}{more}; a pod that starts without it waits for \
         it. Make the DatabaseUserCertificate again, or move the pods; spec.deletionPolicy: Retain keeps a Secret",
        users.len()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, spec: &Value, status: &Value) -> Value {
        let mut spec = spec.clone();
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{ "name": "app" }]);
        }
        json!({ "metadata": { "name": name }, "spec": spec, "status": status })
    }

    #[test]
    fn three_of_the_running_pods_are_named_and_all_are_counted() {
        let volume = json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] });
        let with_phase = |name: &str, phase: &str| pod(name, &volume, &json!({ "phase": phase }));
        let mut pods = vec![
            with_phase("d", "Running"),
            with_phase("c", "Pending"),
            with_phase("done", "Succeeded"),
            with_phase("b", "Running"),
            with_phase("failed", "Failed"),
            with_phase("a", "Running"),
        ];
        pods.sort_by_key(|pod| pod["metadata"]["name"].to_string());
        let said = sentence("orders", &users_of(&pods, "orders"));
        assert!(
            said.starts_with("the Secret orders is deleted with this object, and 4 running pods use it: a, b, c and 1 more;"),
            "{said}"
        );
        pods.retain(|pod| pod["metadata"]["name"] == "d");
        let said = sentence("orders", &users_of(&pods, "orders"));
        assert!(said.contains("1 running pod uses it: d;"), "{said}");
    }

    #[test]
    fn a_secret_that_has_lost_its_owner_or_has_another_stays() {
        let object: DatabaseUserCertificate = serde_json::from_value(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "orders", "uid": "1" }, "spec": {},
        }))
        .unwrap();
        let goes = |uids: &[&str]| {
            let owners: Vec<Value> =
                uids.iter().map(|uid| json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": uid })).collect();
            goes_with(&object, &serde_json::from_value(json!({ "ownerReferences": owners })).unwrap())
        };
        assert!(goes(&["1"]));
        assert!(!goes(&[]) && !goes(&["2"]) && !goes(&["1", "2"]));
    }

    /// The policy may have been changed right before the deletion, and not been carried out.
    #[test]
    fn what_was_done_to_the_secret_counts_and_not_what_the_spec_says() {
        let object = |policy: &str, retained: Option<&str>| -> DatabaseUserCertificate {
            serde_json::from_value(json!({
                "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "orders", "uid": "1" },
                "spec": { "deletionPolicy": policy }, "status": { "serialNumber": "0A", "retainedSecretUid": retained },
            }))
            .unwrap()
        };
        let reference = json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "1" });
        let owned: ObjectMeta = serde_json::from_value(json!({ "ownerReferences": [reference] })).unwrap();
        for policy in ["Delete", "Retain"] {
            assert!(had_certificate(&object(policy, None)));
            assert!(goes(&object(policy, None), Some(&owned)));
            assert!(!goes(&object(policy, Some("s")), Some(&ObjectMeta::default())));
            assert!(goes(&object(policy, None), None), "it went with the object");
        }
        assert!(!goes(&object("Retain", Some("s")), None), "somebody deleted it before");
    }
}
