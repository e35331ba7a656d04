//! The Secret that an issuer is loaded with. Its metadata comes from a watch by name. Its content is read once the watch has
//! shown it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, core::PartialObjectMeta};

use super::{IssuerFault, lending::Place};
use crate::{
    Context, Received,
    api::{NamespacedName, Reason, SecretLocation},
    kubernetes::{KubernetesError, request},
    triggers::Waiting,
};

/// The message about a Secret that does not exist.
const NO_SECRET: &str = "does not exist: create it";

/// A Secret, and the reasons for a condition if it cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretReference {
    pub(crate) name: SecretLocation,
    /// Where the Secret is, seen from the object with the reference.
    pub(crate) place: Place,
    pub(crate) missing: Reason,
    pub(crate) unusable: Reason,
}

impl SecretReference {
    fn refuse(&self, reason: Reason, why: &str) -> IssuerFault {
        let NamespacedName { namespace, name } = &*self.name;
        self.place.hide(IssuerFault::new(reason, format!("the Secret {name} in namespace {namespace} {why}")))
    }

    /// The metadata of the Secret. `Ok(None)` if its watch has shown nothing yet; `who` is woken when it has.
    ///
    /// # Errors
    /// The Secret does not exist, or is not lent.
    pub(crate) fn seen(
        &self,
        context: &Context,
        who: &Waiting,
    ) -> Result<Option<Arc<Received<PartialObjectMeta<Secret>>>>, IssuerFault> {
        let presence = context.secret_watches.watch(who, &self.name);
        let Some(seen) = presence.known(NO_SECRET).map_err(|why| self.refuse(self.missing, &why))? else { return Ok(None) };
        self.place.check_label(&seen.metadata).map_err(|why| self.refuse(self.unusable, why))?;
        Ok(Some(seen))
    }

    /// Reads the Secret.
    ///
    /// # Errors
    /// The outer error: the request failed. The inner one: the Secret does not exist any more, is not lent, or cannot be read.
    pub(crate) async fn read(&self, context: &Context) -> Result<Result<Received<Secret>, IssuerFault>, KubernetesError> {
        let api = Api::<Received<Secret>>::namespaced(context.client.clone(), &self.name.namespace);
        let found = match request("read the issuer's Secret", api.get_opt(&self.name.name)).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Err(self.refuse(self.missing, NO_SECRET))),
            // A Secret in the own namespace is tried again, because the missing permission may be granted. For one in another
            // namespace the message must be the same whether it cannot be read or does not exist.
            Err(error) if error.is_denied() && self.place == Place::Elsewhere => {
                return Ok(Err(self.refuse(self.missing, &format!("cannot be read: {}", error.explanation()))));
            }
            Err(error) => return Err(error),
        };
        // It may have lost its label or been replaced since its metadata was seen.
        if let Err(why) = self.place.check_label(&found.metadata) {
            return Ok(Err(self.refuse(self.unusable, why)));
        }
        Ok(match found.unreadable() {
            Some(unreadable) => Err(self.refuse(self.unusable, &format!("cannot be read ({})", unreadable.fault()))),
            None => Ok(found),
        })
    }
}
