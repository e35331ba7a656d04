//! The way down: certificates that were made and are in memory alone are written before the process ends.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
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

/// How many certificates are saved at once. A write that hangs, as at a webhook of one namespace, holds up no other.
const AT_ONCE: usize = 16;

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
        let names = unsaved.into_iter().map(|(name, _)| name).collect();
        round(names, |name| async move {
            if stopped.elapsed() >= limit {
                return;
            }
            if let Err(error) = Box::pin(save(context, &name)).instrument(span_of(&name)).await {
                warn!(namespace = name.namespace, name = name.name, error = chain(&error), "not saved yet");
            }
        })
        .await;
        if !context.memory.all_kept().is_empty() {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Tries each of them once, so many at a time. Namespaces take turns, so that none with many certificates keeps another one waiting.
async fn round<S: Future<Output = ()>>(names: Vec<ObjectKey>, save: impl FnMut(ObjectKey) -> S) {
    stream::iter(in_turn(names)).for_each_concurrent(AT_ONCE, save).await;
}

/// The first of each namespace, then the second of each, and so on.
fn in_turn(names: Vec<ObjectKey>) -> Vec<ObjectKey> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut ranked: Vec<(usize, ObjectKey)> = Vec::new();
    for name in names {
        let count = counts.entry(name.namespace.clone()).or_default();
        *count += 1;
        ranked.push((*count, name));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, name)| name).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Forty certificates of one namespace wait at a webhook that does not answer.
    #[tokio::test(start_paused = true)]
    async fn a_namespace_whose_writes_hang_holds_up_no_other() {
        let (hanging, saved) = (Duration::from_secs(20), Mutex::new(Vec::new()));
        let mut names: Vec<ObjectKey> = (0..40).map(|number| ObjectKey::new("slow", number.to_string())).collect();
        names.push(ObjectKey::new("shop", "orders"));
        let begun = tokio::time::Instant::now();
        round(names, |name| {
            let saved = &saved;
            async move {
                if name.namespace == "slow" {
                    tokio::time::sleep(hanging).await;
                }
                saved.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name, begun.elapsed()));
            }
        })
        .await;
        let saved = saved.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert_eq!((saved.len(), &saved[0]), (41, &(ObjectKey::new("shop", "orders"), Duration::ZERO)));
        assert_eq!(begun.elapsed(), hanging * 3, "sixteen at a time");
    }
}
