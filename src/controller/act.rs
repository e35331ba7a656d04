//! Act: carries a decision out. Each step may be repeated; each write has a precondition.

use aws_lc_rs::rand;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
};
use tracing::info;

use super::{
    Context, Received, ReconcileError,
    adoption::{Holder, adoption_patch, holder},
    examine::Examined,
    issuers::LoadedIssuer,
    kubernetes::{KubernetesError, chain, request},
    memory::{NamespacedName, Unsaved},
    observe::now,
    reconcile::name_of,
    report::patch_status,
    secret::{self, SecretContent, placeholder, placeholder_patch},
    turns::Turn,
};
use crate::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, Reason, names::CONTROLLER},
    decide::{self, Decision, Desired, Observed, SecretState, SecretView},
    issuer::{IssueError, IssueRequest, Issuer, MintPermit, Minted, Retry},
};

/// What came of an act.
pub(super) enum Acted {
    /// There was nothing to do.
    Nothing,
    /// The Secret was written.
    Written {
        view: Box<SecretView>,
        /// Why: a cause of issue, `SecretRepaired` or `SecretAdopted`.
        reason: Reason,
    },
    /// No certificate, for this reason.
    Failed(IssueError),
    /// The certificate was made and is kept in memory; the Secret could not be written.
    Unsaved {
        /// Why not.
        reason: Reason,
        /// What the API server said.
        message: String,
    },
    /// Others of the Atlas project go first.
    Queued,
    /// Something was met that is not as it was observed: look again, live. What it comes to if the API server answers a write like this
    /// again and again, though nothing is other than it was just read: a webhook may answer 404 and 409 too.
    Stale(Option<Box<Acted>>),
}

/// One pass over one object: what is known, and what acts need.
pub(super) struct Pass<'a> {
    pub(super) context: &'a Context,
    /// The object; a claim replaces it by its newer version.
    pub(super) object: Received<DatabaseUserCertificate>,
    pub(super) observed: Observed,
    pub(super) issuer: Option<std::sync::Arc<LoadedIssuer>>,
    /// The turn to ask Atlas; it lasts until the pass has ended.
    pub(super) turn: Option<Turn>,
}

impl Pass<'_> {
    pub(super) async fn act(&mut self, decision: &Decision) -> Result<Acted, ReconcileError> {
        match decision {
            Decision::Issue { desired, cause } => self.issue(desired, *cause).await,
            Decision::Repair { renewal_time } => {
                let issuer = self.issuer.clone().filter(|_| renewal_time.is_some());
                self.repair(issuer.as_deref()).await
            }
            Decision::Adopt => self.adopt().await,
            Decision::Save => self.save().await,
            Decision::Await
            | Decision::Keep { .. }
            | Decision::Account
            | Decision::Examine { .. }
            | Decision::Queue
            | Decision::Wait { .. }
            | Decision::Refuse { .. } => Ok(Acted::Nothing),
        }
    }

    pub(super) fn name(&self) -> NamespacedName {
        name_of(&self.object)
    }

    fn secret_name(&self) -> NamespacedName {
        (self.observed.namespace.clone(), self.object.secret_name())
    }

    fn secrets(&self) -> Api<Received<Secret>> {
        Api::namespaced(self.context.client.clone(), &self.observed.namespace)
    }

    async fn issue(&mut self, desired: &Desired, cause: Reason) -> Result<Acted, ReconcileError> {
        let Some(loaded) = self.issuer.clone() else { return Ok(Acted::Nothing) };
        let issuance = match &loaded.issuer {
            Issuer::Ca(_) => None,
            // What Atlas makes cannot be taken back: first it is proven that the Secret can be written and that the user is one that
            // certificates are made for, then the claim is persisted.
            Issuer::Atlas(atlas) => {
                if let Err(error) = self.prove_writable().await {
                    return refused(error);
                }
                match self.check_user(atlas, &desired.username).await {
                    Examined::Known => Some(self.claim(cause).await?),
                    Examined::Queued => return Ok(Acted::Queued),
                    Examined::Failed(error) => return Ok(Acted::Failed(error)),
                }
            }
        };
        let request = IssueRequest {
            username: desired.username.clone(),
            subject: desired.subject.clone(),
            months_until_expiration: desired.months_until_expiration,
            duration: desired.duration,
            private_key: desired.private_key.unwrap_or_default(),
            now: now(self.context),
        };
        let issued = match loaded.issuer.issue(request, &self.permit()).await {
            Ok(issued) => issued,
            Err(error) if error.minted == Minted::No && !self.context.leadership.may_act() => {
                self.withdraw_claim().await;
                return Err(ReconcileError::NotLeading);
            }
            Err(error) => {
                let error = match &loaded.issuer {
                    Issuer::Atlas(atlas) => self.after_refusal(atlas, error).await,
                    Issuer::Ca(_) => error,
                };
                if let Some(claim) = issuance {
                    self.context.memory.ended(self.name(), claim, error.clone());
                }
                return Ok(Acted::Failed(error));
            }
        };
        self.context.accounts.made(&(loaded.facts.identity.clone(), desired.username.clone()), now(self.context));
        info!(serial_number = issued.pair.facts().serial_number, cause = cause.as_str(), "a certificate was issued");
        self.context.metrics.issued(desired.issuer_type, cause);
        let content = SecretContent {
            pair: issued.pair,
            ca_certificate: issued.ca_certificate,
            issuer: Some(loaded.facts.identity.clone()),
            issue_reason: Some(cause.as_str().to_owned()),
            issuance: issuance.clone(),
            renew_request: desired.renew_request.clone(),
        };
        if issuance.is_none() {
            return self.write_replaceable(&content, cause).await;
        }
        let (uid, secret_name) = (self.object.uid().unwrap_or_default(), self.object.secret_name());
        self.context.memory.keep_unsaved(self.name(), Unsaved { uid, secret_name, content, refused: None });
        self.save().await
    }

    /// Nothing was asked for under the claim: it need not be taken for lost, unless who leads now has done so already.
    async fn withdraw_claim(&self) {
        let status = DatabaseUserCertificateStatus { issuance: None, ..self.observed.status.clone() };
        match patch_status(self.context, &self.object, &status).await {
            Ok(_) => info!("no certificate was asked for, and the claim is withdrawn"),
            Err(error) => info!(error = chain(&error), "no certificate was asked for; the claim stands"),
        }
    }

    /// Asked right before a certificate is asked for, which may be long after the claim: the process may have been paused.
    fn permit(&self) -> MintPermit {
        let leadership = self.context.leadership.clone();
        MintPermit::new(move || leadership.may_act())
    }

    /// Nothing is begun by a process that stops, or that another may have taken the lead from.
    pub(super) fn check_leadership(&self) -> Result<(), ReconcileError> {
        if self.context.leadership.may_act() { Ok(()) } else { Err(ReconcileError::NotLeading) }
    }

    /// Reads the object live: whether it is there and wants what this pass decided on. Watches may lag, so that a Secret could be written
    /// for what nobody wants any more.
    async fn is_current(&self) -> Result<bool, KubernetesError> {
        type Metadata = Received<PartialObjectMeta<DatabaseUserCertificate>>;
        let api = Api::<Metadata>::namespaced(self.context.client.clone(), &self.observed.namespace);
        let found = request("read the object", api.get_opt(&self.object.name_any())).await?;
        let decided_on = &self.object.metadata;
        Ok(found.is_some_and(|found| {
            let live = &found.metadata;
            live.uid == decided_on.uid && live.generation == decided_on.generation && live.deletion_timestamp.is_none()
        }))
    }

    async fn check_current(&self) -> Result<(), ReconcileError> {
        self.check_leadership()?;
        if self.is_current().await? { Ok(()) } else { Err(ReconcileError::Superseded) }
    }

    /// Writes what a CA signed: on a refusal it is simply signed again later.
    async fn write_replaceable(&self, content: &SecretContent, reason: Reason) -> Result<Acted, ReconcileError> {
        self.check_current().await?;
        match self.write(content).await {
            Ok(view) => Ok(Acted::Written { view: Box::new(view), reason }),
            Err(error) => refused(error),
        }
    }

    /// Writes the certificate that is kept in memory, and forgets it only then. A process that stops or leads no longer does so too: it
    /// alone has the key, and the write has a precondition.
    async fn save(&self) -> Result<Acted, ReconcileError> {
        let uid = self.object.uid().unwrap_or_default();
        let Some(unsaved) = self.context.memory.unsaved(&self.name(), &uid) else { return Ok(Acted::Stale(None)) };
        match self.is_current().await {
            Ok(true) => {}
            // The newer spec may want the certificate no longer that is about to be replaced: the next pass decides.
            Ok(false) => return Err(ReconcileError::Superseded),
            Err(error) => return Ok(unsaved_for(&error)),
        }
        match self.write(&unsaved.content).await {
            Ok(view) => {
                self.context.memory.saved(&self.name());
                let reason = unsaved.content.issue_reason.as_deref().and_then(Reason::from_name).unwrap_or(Reason::Issued);
                Ok(Acted::Written { view: Box::new(view), reason })
            }
            Err(error) if error.is_conflict() => Ok(Acted::Stale(Some(Box::new(unsaved_for(&error))))),
            Err(error) => Ok(unsaved_for(&error)),
        }
    }

    /// Puts back what surrounds a good pair; what only the issuer could tell stays as it is while there is none.
    async fn repair(&self, issuer: Option<&LoadedIssuer>) -> Result<Acted, ReconcileError> {
        let Some(found) = request("read the Secret", self.secrets().get_opt(&self.secret_name().1)).await? else {
            return Ok(Acted::Stale(None));
        };
        let (view, pair) = secret::read(&self.object, &found);
        let Some(pair) = pair else { return Ok(Acted::Stale(None)) };
        let decided_on = self.observed.secret.certificate().map(|certificate| &certificate.serial_number);
        if decided_on != Some(&pair.facts().serial_number) || holder(&self.object, &found) != Holder::ThisObject {
            return Ok(Acted::Stale(None));
        }
        self.check_current().await?;
        let (pair, ca_certificate) = match issuer.map(|loaded| &loaded.issuer) {
            Some(Issuer::Ca(ca)) => match ca.rebuilt(&pair) {
                Ok(rebuilt) => (rebuilt, Some(ca.ca_certificate_pem())),
                Err(error) => return Ok(Acted::Failed(error)),
            },
            Some(Issuer::Atlas(_)) => (pair, None),
            None => (pair, secret::ca_certificate(&found)),
        };
        let content = SecretContent {
            pair,
            ca_certificate,
            issuer: issuer.map(|loaded| loaded.facts.identity.clone()).or_else(|| view.issuer.clone()),
            issue_reason: view.issue_reason.clone(),
            issuance: view.issuance.clone(),
            renew_request: view.renew_request.clone(),
        };
        match self.patch(&content, &view).await {
            Ok(view) => Ok(Acted::Written { view: Box::new(view), reason: Reason::SecretRepaired }),
            Err(error) => refused(error),
        }
    }

    /// Takes over the Secret of an object that is gone, as it is.
    async fn adopt(&self) -> Result<Acted, ReconcileError> {
        let SecretState::Abandoned(found) = &self.observed.secret else { return Ok(Acted::Stale(None)) };
        self.check_current().await?;
        let patch = Patch::Merge(adoption_patch(&self.object, found));
        let name = self.secret_name().1;
        match request("adopt the Secret", self.secrets().patch(&name, &parameters(false), &patch)).await {
            Ok(adopted) => {
                let (view, _) = secret::read(&self.object, &adopted);
                Ok(Acted::Written { view: Box::new(self.remember(view)), reason: Reason::SecretAdopted })
            }
            Err(error) => refused(error),
        }
    }

    async fn write(&self, content: &SecretContent) -> Result<SecretView, KubernetesError> {
        match self.observed.secret.ours() {
            Some(seen) => self.patch(content, seen).await,
            None => self.create(content).await,
        }
    }

    async fn create(&self, content: &SecretContent) -> Result<SecretView, KubernetesError> {
        let parameters = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
        let new = Received::from(content.to_secret(&self.object));
        let written = request("create the Secret", self.secrets().create(&parameters, &new)).await?;
        Ok(self.remember(content.view(&written.metadata, None)))
    }

    async fn patch(&self, content: &SecretContent, seen: &SecretView) -> Result<SecretView, KubernetesError> {
        let patch = Patch::Merge(content.to_patch(&self.object, seen));
        let name = self.secret_name().1;
        let written = request("patch the Secret", self.secrets().patch(&name, &parameters(false), &patch)).await?;
        Ok(self.remember(content.view(&written.metadata, seen.wrong_type.clone())))
    }

    fn remember(&self, view: SecretView) -> SecretView {
        self.context.memory.wrote(self.secret_name(), self.object.uid().unwrap_or_default(), view.clone());
        view
    }

    /// Asks the API server whether it would take the Secret: permission, quota, admission, a foreign Secret, a namespace that is
    /// being deleted. Nothing is written.
    async fn prove_writable(&self) -> Result<(), KubernetesError> {
        let secrets = self.secrets();
        if let Some(seen) = self.observed.secret.ours() {
            let patch = Patch::Merge(placeholder_patch(&self.object, seen));
            request("patch the Secret", secrets.patch(&self.object.secret_name(), &parameters(true), &patch)).await?;
        } else {
            let parameters = PostParams { dry_run: true, field_manager: Some(CONTROLLER.to_owned()) };
            request("create the Secret", secrets.create(&parameters, &placeholder(&self.object).into())).await?;
        }
        Ok(())
    }

    /// Persists the intent. It fails if the object has changed or gone since it was observed, which proves that it was seen live.
    async fn claim(&mut self, cause: Reason) -> Result<String, ReconcileError> {
        self.check_leadership()?;
        let mut bytes = [0_u8; 8];
        rand::fill(&mut bytes).map_err(|_| ReconcileError::NoRandomness)?;
        let id = hex::encode(bytes);
        let status = decide::claimed(&self.object, &self.observed.status, &id, cause, now(self.context));
        let written = patch_status(self.context, &self.object, &status).await?;
        // What was written stands, whatever of the answer can be read.
        let read = written.status.clone().filter(|_| written.unreadable().is_none());
        self.observed.status = read.unwrap_or(status);
        self.object.status = Some(self.observed.status.clone());
        self.object.metadata = written.metadata.clone();
        Ok(id)
    }
}

fn parameters(dry_run: bool) -> PatchParams {
    PatchParams { dry_run, field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() }
}

/// A write of the Secret that failed, and nothing that it held is worth keeping. Without an answer nobody can say what came of it, and
/// the pass is repeated.
fn refused(error: KubernetesError) -> Result<Acted, ReconcileError> {
    if !error.is_answer() {
        return Err(error.into());
    }
    let failed = Acted::Failed(IssueError {
        reason: write_fault(&error),
        message: error.explanation(),
        retry: Retry::Backoff,
        minted: Minted::No,
    });
    let may_be_stale = error.is_conflict() || error.is_not_found() && !error.is_namespace_terminating();
    Ok(if may_be_stale { Acted::Stale(Some(Box::new(failed))) } else { failed })
}

fn unsaved_for(error: &KubernetesError) -> Acted {
    Acted::Unsaved { reason: write_fault(error), message: error.explanation() }
}

fn write_fault(error: &KubernetesError) -> Reason {
    if error.is_namespace_terminating() {
        Reason::NamespaceTerminating
    } else if error.is_refusal() {
        Reason::SecretNotWritable
    } else {
        Reason::SecretWriteFailed
    }
}
