//! The steps on the way to a certificate.

use jiff::{SignedDuration, Timestamp};
use kube_core::ResourceExt;

use super::{
    CALLS, CALLS_WITH_LIST, Change, ClaimedObject, Next, Now, Pass, PassError, RequestError, RequestErrorKind, State, Step,
    TurnFound, Wanted, Write, finish::Outcome,
};
use crate::{
    api::{Reason, names::COMPROMISED_ANNOTATION},
    certificate::CertificateFacts,
    decide::{
        Decision, FailedRequest, IssueError, Minted, Order, RecalledUser, Retry, UnsavedCertificate, decide, record_list,
    },
};

/// How long after an expiry Atlas may need to notice it.
const AFTER_EXPIRY: SignedDuration = SignedDuration::from_mins(1);

impl Pass {
    pub(super) fn recall_user(&mut self, username: String, is_fresh: bool) -> Next {
        self.go(State::RecallingUser { username: username.clone(), is_fresh }, Step::RecallUser { username })
    }

    pub(super) fn recalled(&mut self, username: String, is_fresh: bool, user: Option<Box<RecalledUser>>, now: Now) -> Next {
        match user {
            Some(user) => self.learn(*user),
            None if is_fresh => {}
            None => {
                let step = Step::TakeTurn { calls: CALLS_WITH_LIST, expiry: self.expiry() };
                return self.go(State::TakingTurnToList { username }, step);
            }
        }
        self.decision = decide(&self.object, &self.observed, now.time);
        match self.decision {
            Decision::LookUpUser { .. } => self.finish(Outcome::Nothing, now),
            _ => self.act(now),
        }
    }

    /// Takes over the list. It is recorded here, because the pass that asked for it may have failed before its report.
    pub(super) fn learn(&mut self, user: RecalledUser) {
        if let Some(list) = user.list {
            record_list(&mut self.observed.status, &list.listed, &list.accounted, list.asked_at);
        }
        self.observed.user = Some(user.certificates);
    }

    pub(super) fn turn_to_list(&mut self, username: String, turn: TurnFound, now: Now) -> Next {
        if let TurnFound::Queued { paused_until } = turn {
            return self.finish(Outcome::Queued(paused_until), now);
        }
        self.has_turn = true;
        self.go(State::Listing { username: username.clone() }, Step::ListCertificates { username })
    }

    /// Without a usable certificate the object ranks by its creation: before all that have one, the oldest first.
    pub(super) fn expiry(&self) -> Timestamp {
        let created = || self.object.creation_timestamp().map_or(Timestamp::MIN, |created| created.0);
        self.observed.secret.certificate().map_or_else(created, |certificate| certificate.not_after)
    }

    pub(super) fn issue(&mut self, wanted: Wanted) -> Next {
        match wanted.desired.order {
            Order::Sign { private_key, .. } if private_key.takes_long() => {
                self.go(State::MakingKey(wanted), Step::MakeKey { private_key })
            }
            Order::Sign { .. } => self.request(wanted),
            // What is minted cannot be taken back. So it is proven first that the Secret can be written and that the user is one that
            // certificates are made for; then the claim is written.
            Order::Mint { .. } => self.go(State::Trying(wanted), Step::TryWrite),
        }
    }

    pub(super) fn key_made(&mut self, wanted: Wanted, is_made: bool, now: Now) -> Next {
        if is_made { self.request(wanted) } else { self.finish(Outcome::KeyAwaited, now) }
    }

    pub(super) fn tried(&mut self, wanted: Wanted, tried: Result<(), RequestError>, now: Now) -> Next {
        match tried {
            Err(error) => self.write_failed(error, now),
            Ok(()) if self.has_turn => self.check_user(wanted),
            Ok(()) => {
                let step = Step::TakeTurn { calls: CALLS, expiry: self.expiry() };
                self.go(State::TakingTurnToMint(wanted), step)
            }
        }
    }

    pub(super) fn turn_to_mint(&mut self, wanted: Wanted, turn: TurnFound, now: Now) -> Next {
        if let TurnFound::Queued { paused_until } = turn {
            return self.finish(Outcome::Queued(paused_until), now);
        }
        self.has_turn = true;
        self.check_user(wanted)
    }

    pub(super) fn check_user(&mut self, wanted: Wanted) -> Next {
        let username = wanted.desired.username.clone();
        self.go(State::CheckingUser(wanted), Step::CheckUser { username })
    }

    pub(super) fn user_checked(&mut self, wanted: Wanted, checked: Result<(), IssueError>, now: Now) -> Next {
        match checked {
            Err(error) => self.finish(Outcome::Failed(error), now),
            Ok(()) if !now.may_act => PassError::NotLeading.into(),
            Ok(()) => {
                let cause = wanted.cause;
                self.go(State::Claiming(wanted), Step::WriteClaim { cause })
            }
        }
    }

    pub(super) fn claimed(&mut self, wanted: Wanted, claimed: ClaimedObject) -> Next {
        let ClaimedObject { claim, metadata, status } = claimed;
        self.object.metadata = metadata;
        self.object.status = Some(status.clone());
        // A further look of this pass starts from the object with the claim.
        self.begun_with.clone_from(&self.object);
        self.observed.status = status;
        self.observed.memory.unsent_claims.clear();
        self.request(Wanted { claim: Some(claim), ..wanted })
    }

    /// The claim may stand all the same. Then it is taken back, for nothing was asked for under it.
    pub(super) fn not_claimed(&mut self, claim: String, error: RequestError) -> Next {
        // Whoever refuses the write says that the claim does not stand.
        if matches!(error.kind, RequestErrorKind::Unanswered | RequestErrorKind::Failed) {
            self.observed.memory.unsent(claim);
        }
        error.of_object().into()
    }

    pub(super) fn request(&mut self, wanted: Wanted) -> Next {
        let step =
            Step::RequestCertificate { desired: wanted.desired.clone(), cause: wanted.cause, claim: wanted.claim.clone() };
        self.go(State::Requesting(wanted), step)
    }

    pub(super) fn issued(&mut self, wanted: Wanted, certificate: CertificateFacts, now: Now) -> Next {
        let serial_number = &certificate.serial_number;
        if wanted.desired.compromised.has(serial_number.as_str()) {
            let is_minted = matches!(wanted.desired.order, Order::Mint { .. });
            let error = IssueError {
                reason: if is_minted { Reason::AtlasAnswerUnusable } else { Reason::SigningFailed },
                message: format!("the issuer returned certificate {serial_number}, which {COMPROMISED_ANNOTATION} names"),
                retry: Retry::Backoff,
                minted: if is_minted { Minted::Possibly } else { Minted::No },
            };
            return self.not_issued(wanted, error, now);
        }
        let Wanted { desired, cause, claim } = wanted;
        match desired.order {
            Order::Sign { .. } => self.confirm(Write::Signed { cause }, now),
            Order::Mint { .. } => {
                let serial_number = certificate.serial_number.clone();
                self.observed.memory.unsaved = Some(UnsavedCertificate { certificate, claim, cause, failure: None });
                let mut next = self.confirm(Write::Unsaved, now);
                next.changes.push(Change::CountMinted { username: desired.username, serial_number });
                next
            }
        }
    }

    /// A request that failed. If it had a claim, the failure is remembered until the status has it, because the report may meet a
    /// newer object.
    pub(super) fn not_issued(&mut self, wanted: Wanted, error: IssueError, now: Now) -> Next {
        if error.minted == Minted::No && !now.may_act {
            // Nothing was asked for under the claim: it need not be taken for lost, unless the leader has done so already.
            return match wanted.claim {
                Some(_) => self.go(State::Withdrawing, Step::WithdrawClaim),
                None => PassError::NotLeading.into(),
            };
        }
        let username = wanted.desired.username.clone();
        let lost = (error.minted == Minted::Possibly).then(|| Change::ForgetUser { username: username.clone() });
        let mut next = if error.reason == Reason::AtlasCertificateLimit {
            self.go(State::ListingAtLimit(wanted, error), Step::ListCertificates { username })
        } else {
            self.failed_to_issue(&wanted, error, now)
        };
        next.changes.splice(0..0, lost);
        next
    }

    /// Atlas's limit for the user is reached: wait until the first certificate expires.
    pub(super) fn listed_at_limit(
        &mut self,
        wanted: &Wanted,
        mut error: IssueError,
        user: Option<Box<RecalledUser>>,
        now: Now,
    ) -> Next {
        if let Some(user) = user {
            let listed = user.list.as_ref().map(|list| list.listed.as_slice()).unwrap_or_default();
            let expiries = listed.iter().map(|listed| listed.not_after).filter(|not_after| *not_after > now.time);
            if let Some(first) = expiries.min() {
                let one = match listed.len() {
                    1 => "the only certificate".to_owned(),
                    count => format!("the first of {count} certificates"),
                };
                error.message = format!("{}; {one} expires at {first}", error.message);
                error.retry = Retry::At(first.saturating_add(AFTER_EXPIRY).unwrap_or(first));
            }
            self.learn(*user);
        }
        self.failed_to_issue(wanted, error, now)
    }

    pub(super) fn failed_to_issue(&mut self, wanted: &Wanted, error: IssueError, now: Now) -> Next {
        if let Some(claim) = wanted.claim.clone() {
            self.observed.memory.failed_request = Some(FailedRequest { claim, error: error.clone() });
        }
        self.finish(Outcome::Failed(error), now)
    }
}
