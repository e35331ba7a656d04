//! Before a certificate is made at Atlas: its turn, the account of its database user, and the user itself. Nothing is minted here.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tracing::info;

use super::{
    accounts::{self, UserKey},
    act::Pass,
    observe::now,
};
use crate::{
    api::Reason,
    decide::{self, Desired},
    issuer::{
        IssueError, Issuer, Minted, Retry,
        atlas::{AtlasIssuer, ListedCertificate},
    },
};

/// Calls that count against the project's limit: the list, and the request for the certificate.
const COST_WITH_LIST: u32 = 2;
const COST: u32 = 1;

/// After an expiry that was waited for, Atlas may take a while to notice it.
const AFTER_EXPIRY: SignedDuration = SignedDuration::from_mins(1);

/// What came of a look at the account.
pub(super) enum Examined {
    /// It is known now.
    Known,
    /// Others go first.
    Queued,
    /// Atlas could not be asked.
    Failed(IssueError),
}

impl Pass<'_> {
    fn user(&self) -> Option<UserKey> {
        let loaded = self.issuer.as_ref()?;
        let desired = Desired::new(&self.object, &loaded.facts).ok()?;
        Some((loaded.facts.identity.clone(), desired.username))
    }

    fn atlas(&self) -> Option<std::sync::Arc<AtlasIssuer>> {
        match &self.issuer.as_ref()?.issuer {
            Issuer::Atlas(atlas) => Some(std::sync::Arc::clone(atlas)),
            Issuer::Ca(_) => None,
        }
    }

    /// Whether it is this object's turn to ask Atlas; if not, it is woken when it is. Without a usable certificate an object counts as
    /// expiring when it was created: before all that are in service, the oldest first.
    pub(super) fn takes_turn(&mut self, atlas: &AtlasIssuer, cost: u32) -> bool {
        let created = || self.object.creation_timestamp().map_or(Timestamp::MIN, |created| created.0);
        let expiry = self.observed.secret.certificate().map_or_else(created, |certificate| certificate.not_after);
        let context = self.context;
        self.turn = context.turns.ask(&atlas.limit_key(), &self.name(), expiry, cost, &context.triggers);
        self.turn.is_some()
    }

    /// Takes its place in the queue again, after a 429 that holds for the whole project.
    pub(super) fn queues_again(&mut self) {
        if let Some(atlas) = self.atlas() {
            // The turn itself is of no use before the time that Atlas asked for.
            let _ = self.takes_turn(&atlas, COST);
            self.turn = None;
        }
    }

    /// Learns what was made for the database user. Atlas's list is asked for once an hour at most, and after a lost answer.
    pub(super) async fn examine(&mut self) -> Examined {
        let (Some(atlas), Some(user)) = (self.atlas(), self.user()) else { return Examined::Known };
        let now = now(self.context);
        if self.recall(&user, now) {
            return Examined::Known;
        }
        if !self.takes_turn(&atlas, COST_WITH_LIST) {
            return Examined::Queued;
        }
        match self.list(&atlas, &user, now).await {
            Ok(_) => {
                self.recall(&user, now);
                Examined::Known
            }
            Err(error) => Examined::Failed(error),
        }
    }

    /// Takes what is known of the account, and records what nobody holds: the pass that asked for the list may have come to nothing
    /// before it could report.
    fn recall(&mut self, user: &UserKey, now: Timestamp) -> bool {
        let Some(recalled) = accounts::recall(self.context, user, now) else { return false };
        if let Some(list) = recalled.list {
            decide::record_list(&mut self.observed.status, &list.listed, &list.accounted, list.asked_at);
        }
        self.observed.account = Some(recalled.account);
        true
    }

    /// Asks for the list; without the role for it, what the cluster knows must do.
    async fn list(
        &mut self,
        atlas: &AtlasIssuer,
        user: &UserKey,
        now: Timestamp,
    ) -> Result<Option<Vec<ListedCertificate>>, IssueError> {
        let listed = atlas.list(&user.1, now).await?;
        if listed.is_none() {
            info!(username = user.1, "the credentials may not list certificates: what was made elsewhere is not known");
        }
        self.context.accounts.listed(user.clone(), listed.clone(), now);
        Ok(listed)
    }

    /// Asks Atlas about the user, once it is this object's turn.
    pub(super) async fn check_user(&mut self, atlas: &AtlasIssuer, username: &str) -> Examined {
        if self.turn.is_none() && !self.takes_turn(atlas, COST) {
            return Examined::Queued;
        }
        match atlas.check_user(username, now(self.context)).await {
            Ok(()) => Examined::Known,
            Err(error) => Examined::Failed(error),
        }
    }

    /// What a failed request for a certificate means for the account: what was lost makes the list worth a look, and the limit is waited
    /// for until the first certificate that Atlas lists expires.
    pub(super) async fn after_refusal(&mut self, atlas: &AtlasIssuer, mut error: IssueError) -> IssueError {
        let Some(user) = self.user() else { return error };
        if error.minted == Minted::Possibly {
            self.context.accounts.forget(&user);
        }
        if error.reason != Reason::AtlasCertificateLimit {
            return error;
        }
        let now = now(self.context);
        let Ok(Some(listed)) = self.list(atlas, &user, now).await else { return error };
        self.recall(&user, now);
        let expiries = listed.iter().map(|listed| listed.not_after).filter(|not_after| *not_after > now);
        if let Some(first) = expiries.min() {
            error.message = format!("{}; the first of {} certificates expires at {first}", error.message, listed.len());
            error.retry = Retry::At(first.saturating_add(AFTER_EXPIRY).unwrap_or(first));
        }
        error
    }
}
