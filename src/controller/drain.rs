//! The way down: certificates that were made and are in memory alone are written before the process ends.

use std::time::{Duration, Instant};

use kube::{Api, ResourceExt};
use tracing::{error, info, warn};

use super::{
    Context, Received, ReconcileError,
    act::{Acted, Pass},
    kubernetes::{chain, request},
    memory::NamespacedName,
    observe::{Found, Look, now, observe},
    reconcile::{finish, workable},
};
use crate::{
    api::{DatabaseUserCertificate, Reason},
    decide::{Decision, decide},
};

const PERIOD: Duration = Duration::from_secs(2);

/// Writes what could not be written so far, until all of it is in its Secrets or the time since the process was told to stop is up. Nothing is
/// minted any more.
pub(super) async fn drain(context: &Context, stopped: Instant, limit: Duration) {
    loop {
        let unsaved = context.memory.all_unsaved();
        if unsaved.is_empty() {
            return;
        }
        if stopped.elapsed() >= limit {
            let serial_numbers: Vec<String> = unsaved.into_iter().map(|(_, serial_number)| serial_number).collect();
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
            if let Err(error) = Box::pin(save(context, &name)).await {
                warn!(namespace = name.0, name = name.1, error = chain(&error), "not saved yet");
            }
        }
        if !context.memory.all_unsaved().is_empty() {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Looks at the object and its Secret as they are now, and does nothing but save. The Secret may have a better certificate by then: this one
/// is given up, which whoever leads has counted or will, for its claim.
async fn save(context: &Context, name: &NamespacedName) -> Result<(), ReconcileError> {
    let api = Api::<Received<DatabaseUserCertificate>>::namespaced(context.client.clone(), &name.0);
    let found = request("read the object", api.get_opt(&name.1)).await?;
    let wanted = found.filter(|object| context.memory.unsaved(name, &object.uid().unwrap_or_default()).is_some());
    let Some(object) = wanted.and_then(|object| workable(context, object)) else {
        context.memory.forget(name);
        return Ok(());
    };
    context.memory.retry_now(name);
    let Found { observed, issuer } = observe(context, &object, Look::Live).await?;
    let mut pass = Pass { context, object, observed, issuer, turn: None };
    let decision = decide(&pass.object, &pass.observed, now(context));
    match decision {
        // What is adopted now takes the certificate with the next look.
        Decision::Save | Decision::Adopt => match pass.act(&decision).await? {
            Acted::Stale(_) => Ok(()),
            acted => Box::pin(finish(pass, decision, acted)).await.map(|_| ()),
        },
        Decision::Refuse { reason: Reason::SecretNotOwned, message } => {
            warn!(namespace = name.0, name = name.1, message, "not saved yet");
            Ok(())
        }
        _ => {
            info!(namespace = name.0, name = name.1, "the Secret holds a certificate that is newer, or for another user");
            context.memory.saved(name);
            Ok(())
        }
    }
}
