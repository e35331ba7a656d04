//! The Secret that an issuer is loaded with: its metadata by the watch of its name, its content once that has shown it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, core::PartialObjectMeta};

use super::{Refusal, atlas_objects::Place};
use crate::{
    api::Reason,
    controller::{
        Context, Received,
        kubernetes::{KubernetesError, request},
        memory::NamespacedName,
        watches::triggers::Waiting,
    },
};

/// What is said of a Secret that is not there.
const NO_SECRET: &str = "does not exist: create it";

/// Which Secret, and what its faults are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct SecretReference {
    pub(in crate::controller) name: NamespacedName,
    /// Whether the reference leads out of the namespace of whoever wrote it.
    pub(in crate::controller) place: Place,
    pub(in crate::controller) missing: Reason,
    pub(in crate::controller) unusable: Reason,
}

impl SecretReference {
    fn refuse(&self, reason: Reason, why: &str) -> Refusal {
        let (namespace, name) = &self.name;
        self.place.hide(Refusal::new(reason, format!("the Secret {name} in namespace {namespace} {why}")))
    }

    /// The Secret's metadata; `Ok(None)` if its watch has shown nothing yet, and wakes `who` when it has.
    ///
    /// # Errors
    /// The Secret is not there, or not one that is lent.
    pub(in crate::controller) fn seen(
        &self,
        context: &Context,
        who: &Waiting,
    ) -> Result<Option<Arc<Received<PartialObjectMeta<Secret>>>>, Refusal> {
        let sighting = context.secret_watches.watch(who, &self.name);
        let Some(seen) = sighting.known(NO_SECRET).map_err(|why| self.refuse(self.missing, &why))? else { return Ok(None) };
        self.place.check_label(&seen.metadata).map_err(|why| self.refuse(self.unusable, why))?;
        Ok(Some(seen))
    }

    /// Reads it.
    ///
    /// # Errors
    /// The request failed; within: the Secret is not there any more, not one that is lent, or not one that can be read.
    pub(in crate::controller) async fn read(
        &self,
        context: &Context,
    ) -> Result<Result<Received<Secret>, Refusal>, KubernetesError> {
        let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &self.name.0);
        let found = match request("read the issuer's Secret", api.get_opt(&self.name.1)).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Err(self.refuse(self.missing, NO_SECRET))),
            // A Secret of the own namespace is tried again, for the missing right may come. Of one elsewhere the message must be the same
            // whether it cannot be read or does not exist.
            Err(error) if error.is_denied() && self.place == Place::Elsewhere => {
                return Ok(Err(self.refuse(self.missing, &format!("cannot be read: {}", error.explanation()))));
            }
            Err(error) => return Err(error),
        };
        // It may have lost its label, or been replaced, since its metadata was seen.
        if let Err(why) = self.place.check_label(&found.metadata) {
            return Ok(Err(self.refuse(self.unusable, why)));
        }
        Ok(match found.unreadable() {
            Some(unreadable) => Err(self.refuse(self.unusable, &format!("cannot be read ({})", unreadable.fault()))),
            None => Ok(found),
        })
    }
}
