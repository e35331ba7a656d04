//! The way down: certificates that were made and are in memory alone are written before the process ends.

use std::time::{Duration, Instant};

use kube::{Api, ResourceExt};
use tracing::{Instrument, error, info, warn};

use super::{Ended, run, span_of, workable};
use crate::{
    Context, Received, ReconcileError,
    api::{DatabaseUserCertificate, ObjectKey},
    decide::{
        Decision,
        pass::{End, Purpose},
    },
    kubernetes::{chain, request},
};

const PERIOD: Duration = Duration::from_secs(2);

/// Saves what is in memory until all is saved, or `limit` has passed since `stopped`. Mints nothing.
pub(crate) async fn drain(context: &Context, stopped: Instant, limit: Duration) {
    loop {
        let unsaved = context.memory.all_kept();
        if unsaved.is_empty() {
            return;
        }
        if stopped.elapsed() >= limit {
            let serial_numbers: Vec<String> = unsaved.into_iter().map(|(_, serial_number)| serial_number.into()).collect();
            error!(
                serial_numbers = serial_numbers.join(", "),
                "these certificates were made and could not be saved: they are lost, and counted at the next start"
            );
            return;
        }
        info!(certificates = unsaved.len(), "stopping: certificates that were made wait for their Secrets");
        for (name, _) in unsaved {
            if stopped.elapsed() >= limit {
                break;
            }
            if let Err(error) = Box::pin(save(context, &name)).instrument(span_of(&name)).await {
                warn!(namespace = name.namespace, name = name.name, error = chain(&error), "not saved yet");
            }
        }
        if !context.memory.all_kept().is_empty() {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Looks at the object and its Secret as they are now, and does nothing but save.
async fn save(context: &Context, name: &ObjectKey) -> Result<(), ReconcileError> {
    let api = Api::<Received<DatabaseUserCertificate>>::namespaced(context.client.clone(), &name.namespace);
    let found = request("read the object", api.get_opt(&name.name)).await?;
    let wanted = found.filter(|object| context.memory.kept(name, &object.uid().unwrap_or_default()).is_some());
    let Some(object) = wanted.and_then(|object| workable(context, object)) else {
        context.memory.forget(name);
        return Ok(());
    };
    let Ended { end, pass, .. } = Box::pin(run(context, &object, Purpose::SaveOnly)).await;
    let is_kept = context.memory.kept(name, &object.uid().unwrap_or_default()).is_some();
    let (namespace, name) = (&name.namespace, &name.name);
    match (end, pass.decision()) {
        (End::Failed(error), _) => return Err(error.into()),
        (_, Decision::Block { message, .. }) if is_kept => {
            warn!(namespace, name, message, "not saved yet");
        }
        (End::AwaitChange, decision) if !is_kept && *decision != Decision::Await => {
            info!(namespace, name, "given up: the Secret holds a newer certificate, or one for another user");
        }
        _ => {}
    }
    Ok(())
}
