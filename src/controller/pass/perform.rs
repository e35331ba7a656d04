//! Performs the steps of a pass. Each may be repeated, and each write has a precondition.

mod write;

use std::sync::Arc;

use aws_lc_rs::rand;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
};
use tracing::info;

use super::{
    observe::observe,
    report::{patch_status, report},
};
use crate::{
    Context, Received,
    adoption::{Holder, holder},
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, ObjectKey, Reason, SecretLocation, names::CONTROLLER},
    certificate::{KeyError, PrivateKey, SerialNumber},
    decide::{
        self, Desired, IssueError, NewClaim, ObjectMemory, Order,
        pass::{Change, ClaimedObject, Found, Look, Now, Pass, RequestError, RequestErrorKind, Step, TurnFound},
    },
    issuer::{Deadline, MintPermit},
    issuers::LoadedIssuer,
    keystore_password,
    kubernetes::{chain, request},
    memory::{Kept, turns::Turn, users},
    secret::{self, NamedPassword, ReadSecret, SecretContent, placeholder, placeholder_patch},
};

type RequestResult<T> = Result<T, RequestError>;

/// Performs the steps of one pass. Holds what rules must not see, such as keys.
pub(super) struct Performer<'a> {
    context: &'a Context,
    object: &'a Received<DatabaseUserCertificate>,
    issuer: Option<Arc<LoadedIssuer>>,
    /// Until when Atlas may be asked.
    deadline: Deadline,
    /// The turn to ask Atlas.
    turn: Option<Turn>,
    /// The private key that was made for a CA to sign.
    key: Option<Result<PrivateKey, KeyError>>,
    /// What a CA has signed.
    signed: Option<SecretContent>,
    /// The content of the Secret that is being repaired.
    read: Option<ReadSecret>,
    /// The password that it was compared with, if the spec names one.
    named_password: NamedPassword,
}

impl<'a> Performer<'a> {
    pub(super) fn new(context: &'a Context, object: &'a Received<DatabaseUserCertificate>, deadline: Deadline) -> Self {
        let named_password = NamedPassword::default();
        Self { context, object, issuer: None, deadline, turn: None, key: None, signed: None, read: None, named_password }
    }

    pub(super) fn now(&self) -> Now {
        Now { time: self.context.now(), may_act: self.context.settings.leadership.may_act() }
    }

    pub(super) fn remember(&self, memory: &ObjectMemory) {
        self.context.memory.remember(&self.name(), &self.uid(), memory);
    }

    pub(super) fn change(&mut self, change: Change) {
        let users = &self.context.settings.users;
        match change {
            Change::EndTurn => self.turn = None,
            Change::LeaveQueue => {
                self.context.settings.turns.forget(&self.name());
                self.context.settings.keys.forget(&self.name());
            }
            Change::QueueAgain { calls, expiry } => {
                // A turn would be of no use before the time that Atlas asked for.
                self.take_turn(calls, expiry);
                self.turn = None;
            }
            Change::CountMinted { username, serial_number } => {
                self.for_user(username, |user| users.made(user, serial_number, self.context.now()));
            }
            Change::ForgetUser { username } => self.for_user(username, |user| users.forget(user)),
            Change::ForgetClaimedUser { key: Some(key) } => users.forget_digest(&key),
            Change::ForgetClaimedUser { key: None } => {}
        }
    }

    pub(super) async fn perform(&mut self, pass: &Pass, step: Step) -> Found {
        match step {
            Step::Observe(look) => self.observe(look).await,
            Step::RecallUser { username } => {
                self.context.settings.users.all_scopes().await;
                Found::Recalled(self.recall(username).map(Box::new))
            }
            Step::TakeTurn { calls, expiry } => Found::Turn(self.take_turn(calls, expiry)),
            Step::MakeKey { private_key } => {
                self.key = self.context.settings.keys.take(&self.name(), private_key, &self.context.triggers);
                Found::Turn(match self.key {
                    Some(_) => TurnFound::Given,
                    None => TurnFound::Queued { paused_until: None },
                })
            }
            Step::ListCertificates { username } => Found::Listed(self.list(username).await),
            Step::TryWrite => Found::Tried(self.try_write(pass).await),
            Step::CheckUser { username } => Found::UserChecked(self.check_user(&username).await),
            Step::WriteClaim { cause } => self.claim(pass, cause).await,
            Step::WithdrawClaim => self.withdraw_claim(pass).await,
            Step::RequestCertificate { desired, cause, claim } => self.request(&desired, cause, claim).await,
            Step::ReadSecret => Found::SecretRead(self.read_secret().await),
            Step::ReadObject => Found::ObjectRead(self.is_current(pass).await),
            Step::WriteSecret(write) => self.write(pass, write).await,
            Step::Report(told) => Found::Reported(report(self.context, self.object, pass, *told, self.issuer.as_deref()).await),
            Step::End(_) => Found::Begun,
        }
    }

    fn name(&self) -> ObjectKey {
        ObjectKey::of(self.object)
    }

    fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    fn secret_name(&self) -> SecretLocation {
        SecretLocation::of(self.object)
    }

    fn secrets(&self) -> Api<Received<Secret>> {
        Api::namespaced(self.context.client.clone(), &self.secret_name().namespace)
    }

    async fn observe(&mut self, look: Look) -> Found {
        match observe(self.context, self.object, look).await {
            Ok((observed, issuer)) => {
                self.issuer = issuer;
                Found::Observed(Ok(Box::new(observed)))
            }
            Err(error) => Found::Observed(Err(error.into())),
        }
    }

    /// The database user at the issuer of the object.
    fn user(&self, username: String) -> Option<users::UserKey> {
        Some(users::UserKey { account: self.issuer.as_ref()?.issuer.account()?, username })
    }

    fn for_user(&self, username: String, change: impl FnOnce(&users::UserKey)) {
        if let Some(user) = self.user(username) {
            change(&user);
        }
    }

    fn recall(&self, username: String) -> Option<decide::RecalledUser> {
        users::recall(self.context, &self.user(username)?, self.context.now())
    }

    /// Whether it is this object's turn to ask Atlas. If not, it is woken when it is.
    fn take_turn(&mut self, calls: u32, expiry: jiff::Timestamp) -> TurnFound {
        let Some(account) = self.issuer.as_ref().and_then(|loaded| loaded.issuer.account()) else { return TurnFound::Given };
        let context = self.context;
        self.turn = context.settings.turns.ask(&account, &self.name(), expiry, calls, &context.triggers);
        match self.turn {
            Some(_) => TurnFound::Given,
            None => TurnFound::Queued { paused_until: context.settings.turns.paused_until(&account) },
        }
    }

    /// Asks for the list, and remembers it. Without the role for it, what the cluster knows must do.
    async fn list(&self, username: String) -> Result<(), IssueError> {
        let (Some(loaded), Some(user)) = (&self.issuer, self.user(username)) else { return Ok(()) };
        let now = self.context.now();
        let listed = loaded.issuer.list(&user.username, now, self.deadline).await?;
        if listed.is_none() {
            info!(username = user.username, "the credentials may not list certificates: what was made elsewhere is not known");
        }
        self.context.settings.users.listed(user, listed, now);
        Ok(())
    }

    async fn check_user(&self, username: &str) -> Result<(), IssueError> {
        match &self.issuer {
            Some(loaded) => loaded.issuer.check_user(username, self.context.now(), self.deadline).await,
            None => Ok(()),
        }
    }

    /// Asks the API server whether it would take the Secret: permission, quota, admission, a foreign Secret, a namespace that is being deleted.
    /// Nothing is written.
    async fn try_write(&self, pass: &Pass) -> RequestResult<()> {
        let secrets = self.secrets();
        if let Some(seen) = pass.observed().secret.ours() {
            let patch = Patch::Merge(placeholder_patch(pass.object(), seen));
            request("patch the Secret", secrets.patch(&self.secret_name().name, &parameters(true), &patch)).await?;
        } else {
            let parameters = PostParams { dry_run: true, field_manager: Some(CONTROLLER.to_owned()) };
            request("create the Secret", secrets.create(&parameters, &placeholder(pass.object()).into())).await?;
        }
        Ok(())
    }

    /// Writes the claim. A conflict means that the object changed or went; so success proves that the newest version was seen.
    async fn claim(&self, pass: &Pass, cause: Reason) -> Found {
        let mut bytes = [0_u8; 8];
        if rand::fill(&mut bytes).is_err() {
            let (operation, message) = ("make a claim", "the system gives no random bytes".to_owned());
            return Found::NotClaimed(String::new(), RequestError { operation, kind: RequestErrorKind::Failed, message });
        }
        let claim = hex::encode(bytes);
        let observed = pass.observed();
        let new = NewClaim { id: &claim, cause, user: observed.user.as_ref(), process: observed.process.as_deref() };
        let status = decide::claimed(pass.object(), &observed.status, new, self.context.now());
        let written = match patch_status(self.context, pass.object(), &status).await {
            Ok(written) => written,
            Err(error) => return Found::NotClaimed(claim, error.into()),
        };
        // The claim stands even if the answer cannot be read in full.
        let read = written.status.clone().filter(|_| written.unreadable().is_none());
        Found::Claimed(Box::new(ClaimedObject { claim, metadata: written.metadata.clone(), status: read.unwrap_or(status) }))
    }

    async fn withdraw_claim(&self, pass: &Pass) -> Found {
        let status = DatabaseUserCertificateStatus { issuance: None, ..pass.observed().status.clone() };
        match patch_status(self.context, pass.object(), &status).await {
            Ok(_) => info!("no certificate was asked for, and the claim is withdrawn"),
            Err(error) => info!(error = chain(&error), "no certificate was asked for; the claim stands"),
        }
        Found::Withdrawn
    }

    /// Has the certificate made. What was minted is kept before anything else happens.
    async fn request(&mut self, desired: &Desired, cause: Reason, claim: Option<String>) -> Found {
        let Some(loaded) = self.issuer.clone() else { return Found::Begun };
        let leadership = self.context.settings.leadership.clone();
        let permit = MintPermit::new(move || leadership.may_act(), self.deadline);
        let issued = match loaded.issuer.issue(desired, self.context.now(), &permit, self.key.take()).await {
            Ok(issued) => issued,
            Err(error) => return Found::NotIssued(error),
        };
        let facts = issued.pair.facts().clone();
        info!(serial_number = %facts.serial_number, cause = cause.as_str(), "a certificate was issued");
        self.context.settings.metrics.issued(loaded.issuer.issuer_type(), cause);
        let content = SecretContent {
            pair: issued.pair,
            ca_certificate: issued.ca_certificate,
            issuer: Some(loaded.facts.identity.clone()),
            issue_reason: Some(cause.as_str().to_owned()),
            issuance: claim,
            renew_request: desired.renew_request.clone(),
        };
        match desired.order {
            Order::Sign { .. } => self.signed = Some(content),
            Order::Mint { .. } => {
                let deletion_policy = self.object.spec.deletion_policy;
                let kept = Kept { secret_name: self.secret_name().name.clone(), deletion_policy, content };
                self.context.memory.keep(&self.name(), &self.uid(), kept);
            }
        }
        Found::Issued(Box::new(facts))
    }

    async fn read_secret(&mut self) -> RequestResult<Option<SerialNumber>> {
        let found = request("read the Secret", self.secrets().get_opt(&self.secret_name().name)).await?;
        let ours = found.filter(|found| holder(self.object, found) == Holder::ThisObject);
        let named = keystore_password::read(self.context, self.object).await;
        self.read = ours.map(|found| secret::read(self.object, &found, &named));
        self.named_password = named;
        Ok(self.read.as_ref().and_then(|read| Some(read.pair.as_ref()?.facts().serial_number.clone())))
    }

    /// Reads the object live: whether it is there and wants what was decided. Watches may lag, so that a Secret could be written for what
    /// nobody wants any more.
    async fn is_current(&self, pass: &Pass) -> RequestResult<bool> {
        type Metadata = Received<PartialObjectMeta<DatabaseUserCertificate>>;
        let api = Api::<Metadata>::namespaced(self.context.client.clone(), &self.secret_name().namespace);
        let found = request("read the object", api.get_opt(&self.object.name_any())).await?;
        let decided_on = &pass.object().metadata;
        Ok(found.is_some_and(|found| {
            let live = &found.metadata;
            live.uid == decided_on.uid && live.generation == decided_on.generation && live.deletion_timestamp.is_none()
        }))
    }
}

fn parameters(dry_run: bool) -> PatchParams {
    PatchParams { dry_run, field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() }
}
