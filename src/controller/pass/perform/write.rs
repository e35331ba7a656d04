//! The writes of the Secret. Each has the version that was seen as its precondition.

use kube::{
    Api, Client,
    api::{Patch, PostParams, Request},
};
use serde_json::Value;

use super::{Performer, RequestResult, parameters};
use crate::{
    Received, SecretMetadata,
    adoption::ownership_patch,
    api::{Reason, names::CONTROLLER},
    decide::{
        IssueError, SecretState, SecretView,
        pass::{Found, Pass, RequestError, RequestErrorKind, Write},
    },
    keystore_password,
    kubernetes::request,
    pass::additions,
    secret::{self, Additions, ReadSecret, SecretContent},
};

impl Performer<'_> {
    /// Writes what was decided, with what belongs beside it.
    pub(super) async fn write(&mut self, pass: &Pass, write: Write) -> Found {
        let seen = pass.observed().secret.ours();
        let written = match write {
            Write::Adopted => self.adopt(pass).await,
            Write::DeletionPolicy => match seen {
                Some(seen) => self.apply_deletion_policy(pass, seen).await,
                None => return Found::Begun,
            },
            Write::Signed { cause } => match self.signed.take() {
                Some(content) => self.put_new(pass, &content, cause, seen).await,
                None => return Found::Begun,
            },
            Write::Unsaved => match self.context.memory.kept(&self.name(), &self.uid()) {
                Some(kept) => {
                    let cause = pass.observed().memory.unsaved.as_ref().map_or(Reason::Issued, |unsaved| unsaved.cause);
                    self.put_new(pass, &kept.content, cause, seen).await
                }
                None => return Found::Begun,
            },
            Write::Repaired { with_issuer } => match self.repaired(with_issuer) {
                Some(Ok((content, additions, view))) => self.put(pass, &content, Some(&additions), Some(&view)).await,
                Some(Err(error)) => return Found::NotRebuilt(error),
                None => return Found::Begun,
            },
        };
        Found::Written(written.map(Box::new))
    }

    /// The pair that the Secret holds, with all that belongs to it. What only the issuer knows stays as it is if there is no
    /// issuer.
    fn repaired(&mut self, with_issuer: bool) -> Option<Result<(SecretContent, Additions, SecretView), IssueError>> {
        let read = self.read.take()?;
        let additions = additions::for_repair(self.context, self.object, &read, std::mem::take(&mut self.named_password));
        let ReadSecret { view, pair, ca_certificate, .. } = read;
        let pair = pair?;
        let issuer = self.issuer.as_deref().filter(|_| with_issuer);
        let (pair, ca_certificate) = match issuer.map(|loaded| loaded.issuer.rebuilt(&pair)) {
            Some(Ok(rebuilt)) => (rebuilt.pair, rebuilt.ca_certificate),
            Some(Err(error)) => return Some(Err(error)),
            None => (pair, ca_certificate),
        };
        let content = SecretContent {
            pair,
            ca_certificate,
            issuer: issuer.map(|loaded| loaded.facts.identity.clone()).or_else(|| view.issuer.clone()),
            issue_reason: view.issue_reason.clone(),
            issuance: view.issuance.clone(),
            renew_request: view.renew_request.clone(),
        };
        Some(Ok((content, additions, view)))
    }

    /// Takes over the Secret of an object that is gone, as it is.
    async fn adopt(&self, pass: &Pass) -> RequestResult<SecretView> {
        let SecretState::Abandoned(found) = &pass.observed().secret else {
            return Err(RequestError {
                operation: "adopt the Secret",
                kind: RequestErrorKind::NotFound,
                message: "there is none to adopt".to_owned(),
            });
        };
        let patch = Patch::Merge(ownership_patch(pass.object(), &found.uid, &found.resource_version, &found.owners));
        let location = self.secret_name();
        let adopted = request("adopt the Secret", self.secrets().patch(&location.name, &parameters(false), &patch)).await?;
        let named = keystore_password::read(self.context, self.object).await;
        Ok(self.wrote(secret::read(self.object, &adopted, &named).view))
    }

    /// Gives the Secret its controller, or takes the controller away. The answer is asked for without the content.
    async fn apply_deletion_policy(&self, pass: &Pass, seen: &SecretView) -> RequestResult<SecretView> {
        let patch = Patch::Merge(ownership_patch(pass.object(), &seen.uid, &seen.resource_version, &seen.owners));
        let secrets = Api::<SecretMetadata>::namespaced(self.context.client.clone(), &self.secret_name().namespace);
        let written = request(
            "change the controller of the Secret",
            patch_metadata(&self.context.client, &secrets, &self.secret_name().name, &patch),
        )
        .await?;
        Ok(self.wrote(secret::with_metadata(seen, &written.metadata)))
    }

    /// Writes a new certificate, with what belongs beside it.
    async fn put_new(
        &self,
        pass: &Pass,
        content: &SecretContent,
        cause: Reason,
        seen: Option<&SecretView>,
    ) -> RequestResult<SecretView> {
        let additions = additions::for_new_pair(self.context, self.object, content.pair.facts(), cause, seen).await;
        self.put(pass, content, additions.as_ref(), seen).await
    }

    async fn put(
        &self,
        pass: &Pass,
        content: &SecretContent,
        additions: Option<&Additions>,
        seen: Option<&SecretView>,
    ) -> RequestResult<SecretView> {
        let (secrets, object) = (self.secrets(), pass.object());
        let Some(seen) = seen else {
            let parameters = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
            let new = Received::from(content.to_secret(object, additions.unwrap_or(&Additions::default())));
            let written = request("create the Secret", secrets.create(&parameters, &new)).await?;
            return Ok(self.wrote(content.view(object, additions, &written.metadata, None)));
        };
        let patch = Patch::Merge(content.to_patch(object, additions, seen));
        let written = request("patch the Secret", secrets.patch(&self.secret_name().name, &parameters(false), &patch)).await?;
        Ok(self.wrote(content.view(object, additions, &written.metadata, seen.wrong_type.clone())))
    }

    fn wrote(&self, view: SecretView) -> SecretView {
        self.context.memory.wrote(self.secret_name(), self.uid(), view.clone());
        view
    }
}

/// kube's `patch_metadata` would fail on metadata that cannot be read in full, though the write was carried out.
async fn patch_metadata(
    client: &Client,
    secrets: &Api<SecretMetadata>,
    name: &str,
    patch: &Patch<Value>,
) -> Result<SecretMetadata, kube::Error> {
    let built = Request::new(secrets.resource_url()).patch_metadata(name, &parameters(false), patch);
    client.request(built.map_err(kube::Error::BuildRequest)?).await
}
