//! What the steps find.

use std::collections::BTreeSet;

use super::*;
use crate::{
    decide::{ChainView, Holdings, KeystoreView, NewClaim, claimed},
    layout::{self, LayoutRecord},
};

impl World {
    pub(super) fn answer(&mut self, pass: &Pass, step: &Step, fault: Option<Fault>) -> Found {
        let Some(fault) = fault else { return self.perform(pass, step) };
        self.happens(&fault);
        let instead = match &fault {
            Fault::Answer(kind) => failed(step, error(*kind)),
            Fault::Issuer(error) => refused(step, error.clone()),
            Fault::Paused(until) => Some(Found::Turn(TurnFound::Queued { paused_until: Some(*until) })),
            Fault::NoTurn => matches!(step, Step::TakeTurn { .. } | Step::MakeKey { .. })
                .then_some(Found::Turn(TurnFound::Queued { paused_until: None })),
            _ => None,
        };
        let found = instead.unwrap_or_else(|| self.perform(pass, step));
        match fault {
            Fault::AnswerLost => match found {
                Found::Claimed(claimed) => Found::NotClaimed(claimed.claim, error(RequestErrorKind::Unanswered)),
                found => failed(step, error(RequestErrorKind::Unanswered)).unwrap_or(found),
            },
            Fault::StopsLeading => {
                self.leads = false;
                found
            }
            _ => found,
        }
    }

    /// What happens before the step.
    fn happens(&mut self, fault: &Fault) {
        match fault {
            Fault::NoPermit => self.leads = false,
            Fault::ObjectChanged => self.edit(|_| ()),
            Fault::SecretChanged => self.edit_secret(|_| ()),
            Fault::CertificateChanged => self.edit_secret(|view| {
                if let Ok(certificate) = &mut view.certificate {
                    certificate.serial_number = format!("{}F", certificate.serial_number).into();
                }
            }),
            Fault::SecretDeleted => self.secret = SecretState::Absent,
            Fault::SecretTaken => self.secret = SecretState::NotOurs("belongs to nobody".into()),
            Fault::OtherSaved => {
                let mut other = Self::new(if self.is_atlas() { Atlas } else { Ca });
                other.now = self.now;
                other.made = self.made + 1;
                other.run();
                self.made += 2;
                self.secret = other.secret;
                self.edit_secret(|_| ());
            }
            Fault::TimePasses(time) => self.now += *time,
            Fault::SameCertificate => self.made = self.made.saturating_sub(1),
            Fault::Answer(_)
            | Fault::AnswerLost
            | Fault::Issuer(_)
            | Fault::NoTurn
            | Fault::Paused(_)
            | Fault::StopsLeading => {}
        }
    }

    fn perform(&mut self, pass: &Pass, step: &Step) -> Found {
        match step {
            Step::Observe(_) => Found::Observed(Ok(Box::new(Observed {
                issuer: self.issuer.clone(),
                secret: self.secret.clone(),
                memory: self.memory.clone(),
                process: Some(self.process.to_owned()),
                released_by: self.released_by.map(ToOwned::to_owned),
                namespace: "shop".into(),
                held: self.held_elsewhere.iter().map(|serial_number| (*serial_number).into()).collect(),
                ..Observed::default()
            }))),
            Step::RecallUser { username } => Found::Recalled(self.recall(username).map(Box::new)),
            Step::TakeTurn { .. } | Step::MakeKey { .. } => Found::Turn(TurnFound::Given),
            Step::ListCertificates { username } => {
                let key = self.user_key(username);
                let mut listed = self.ledger.get(&key).cloned().unwrap_or_default();
                listed.truncate(listed.len() - self.list_lacks);
                self.users.insert(key, UserRecord::new(self.now, Some(listed)));
                Found::Listed(Ok(()))
            }
            Step::TryWrite => Found::Tried(self.check_secret(&pass.observed().secret)),
            Step::CheckUser { .. } => Found::UserChecked(Ok(())),
            Step::WriteClaim { cause } => {
                let id = self.next_claim();
                self.claim(pass, *cause)
                    .map_or_else(|error| Found::NotClaimed(id, error), |claimed| Found::Claimed(Box::new(claimed)))
            }
            Step::WithdrawClaim => {
                let status = DatabaseUserCertificateStatus { issuance: None, ..pass.observed().status.clone() };
                let _ = self.write_status(pass, status);
                Found::Withdrawn
            }
            Step::RequestCertificate { desired, cause, claim } => self.request(desired, *cause, claim.clone()),
            Step::ReadSecret => {
                self.read = self.secret.clone();
                Found::SecretRead(Ok(self.secret.certificate().map(|facts| facts.serial_number.clone())))
            }
            Step::ReadObject => {
                let (live, decided_on) = (&self.object.metadata, &pass.object().metadata);
                Found::ObjectRead(Ok(live.uid == decided_on.uid && live.generation == decided_on.generation))
            }
            Step::WriteSecret(write) => self.write(pass, *write),
            Step::Report(report) => {
                let status = report.status.as_deref().cloned();
                Found::Reported(status.map_or(Ok(()), |status| self.write_status(pass, status)))
            }
            Step::End(_) => unreachable!("the end is no step to perform"),
        }
    }

    fn recall(&self, username: &str) -> Option<RecalledUser> {
        let record = self.users.get(&self.user_key(username)).filter(|record| record.is_believed(self.now))?;
        let held: BTreeSet<SerialNumber> =
            self.secret.certificate().map(|facts| facts.serial_number.clone()).into_iter().collect();
        let held = held.into_iter().filter(|serial_number| record.serial_numbers().contains(serial_number.as_str())).collect();
        let holdings = Holdings { accounted: held, elsewhere: 0 };
        Some(record.recalled(digest(&self.user_key(username)), &[self.object.status.as_ref()], holdings))
    }

    fn next_claim(&self) -> String {
        format!("claim-{}", self.object.metadata.resource_version.as_deref().unwrap())
    }

    fn claim(&mut self, pass: &Pass, cause: Reason) -> Result<ClaimedObject, RequestError> {
        let claim = self.next_claim();
        let process = pass.observed().process.as_deref();
        let new = NewClaim { id: &claim, cause, user: pass.observed().user.as_ref(), process };
        let status = claimed(pass.object(), &pass.observed().status, new, self.now);
        self.write_status(pass, status.clone())?;
        Ok(ClaimedObject { claim, metadata: self.object.metadata.clone(), status })
    }

    fn write_status(&mut self, pass: &Pass, status: DatabaseUserCertificateStatus) -> Result<(), RequestError> {
        if pass.object().metadata.resource_version != self.object.metadata.resource_version {
            return Err(error(RequestErrorKind::Conflict));
        }
        self.object.status = Some(status);
        self.next_version();
        Ok(())
    }

    fn request(&mut self, desired: &Desired, cause: Reason, claim: Option<String>) -> Found {
        let is_minted = matches!(desired.order, Order::Mint { .. });
        if is_minted && !self.leads {
            return Found::NotIssued(refusal(Reason::AtlasUnavailable, Minted::No));
        }
        self.made += 1;
        let certificate = certificate(self.made, desired.subject.clone(), self.now);
        let content = Content {
            certificate: certificate.clone(),
            issuer: self.issuer.usable().map(|facts| facts.identity.to_string()).unwrap_or_default(),
            reason: cause,
            claim,
            renew_request: desired.renew_request.clone(),
        };
        if is_minted {
            let listed = ListedCertificate {
                serial_number: certificate.serial_number.clone(),
                made_at: self.now,
                not_after: certificate.not_after,
            };
            self.ledger.entry(self.user_key(&desired.username)).or_default().push(listed);
            self.kept = Some(content);
        } else {
            self.signed = Some(content);
        }
        Found::Issued(Box::new(certificate))
    }

    /// The precondition of each write of the Secret: it is as it was seen.
    fn check_secret(&self, seen: &SecretState) -> Result<(), RequestError> {
        let version = |secret: &SecretState| match secret {
            SecretState::Ours(view) => Some((view.uid.clone(), view.resource_version.clone())),
            SecretState::Abandoned(found) => Some((found.uid.clone(), found.resource_version.clone())),
            SecretState::Absent | SecretState::NotOurs(_) | SecretState::NeededByIssuer(_) => None,
        };
        let seen = version(seen);
        match &self.secret {
            SecretState::Absent if seen.is_some() => Err(error(RequestErrorKind::NotFound)),
            SecretState::Absent => Ok(()),
            there if seen.is_some() && seen == version(there) => Ok(()),
            _ => Err(error(RequestErrorKind::Conflict)),
        }
    }

    fn write(&mut self, pass: &Pass, write: Write) -> Found {
        let seen = if let Write::Repaired { .. } = write { &self.read } else { &pass.observed().secret };
        if let Err(error) = self.check_secret(seen) {
            return Found::Written(Err(error));
        }
        let view = match write {
            Write::Signed { .. } => self.signed.take().map(|content| self.view(content)),
            Write::Unsaved => self.kept.clone().map(|content| self.view(content)),
            Write::Repaired { with_issuer } => self.secret.ours().cloned().map(|view| self.repaired(view, with_issuer)),
            Write::Adopted => Some(self.adopted()),
            Write::DeletionPolicy => self.secret.ours().cloned().map(|view| self.owned(view)),
        };
        let mut view = view.expect("there is something to write");
        let changes_owners = self.secret.ours().is_some_and(|seen| seen.deletion_policy != view.deletion_policy);
        if changes_owners && !self.may_change_owners {
            return Found::Written(Err(error(RequestErrorKind::Refused)));
        }
        self.versions += 1;
        view.resource_version = self.versions.to_string();
        self.secret = SecretState::Ours(Box::new(view.clone()));
        Found::Written(Ok(Box::new(view)))
    }

    fn view(&self, content: Content) -> SecretView {
        let uid = self.secret.ours().map_or_else(|| format!("secret-{}", self.versions), |view| view.uid.clone());
        let of_new = Some(self.object.spec.deletion_policy);
        let view = SecretView {
            // A write of the content leaves the owners of a Secret as they are.
            deletion_policy: self.secret.ours().map_or(of_new, |seen| seen.deletion_policy),
            owners: Vec::new(),
            changed_by: None,
            written: None,
            spoilt: None,
            layout: LayoutRecord::default(),
            previous_not_after: None,
            previous_serial_number: None,
            keystore: KeystoreView::default(),
            uid,
            resource_version: String::new(),
            certificate: Ok(content.certificate),
            wrong_type: None,
            held_by: None,
            complete: true,
            issuer: Some(content.issuer.into()),
            issuance: content.claim,
            issue_reason: Some(content.reason.as_str().to_owned()),
            renew_request: content.renew_request,
            ca_digest: None,
            chain: ChainView::default(),
        };
        self.repaired(view, true)
    }

    /// The same with all that belongs to it.
    fn repaired(&self, view: SecretView, with_issuer: bool) -> SecretView {
        let layout = LayoutRecord { digest: layout::digest(&self.object.spec), ..LayoutRecord::default() };
        let goes = view.has_useless_pair(&self.object, &self.object.status.clone().unwrap_or_default(), self.now);
        let previous_not_after = view.previous_not_after.filter(|_| !goes);
        let previous_serial_number = view.previous_serial_number.clone().filter(|_| !goes);
        let keystore = KeystoreView { serial_number: view.keystore.serial_number.filter(|_| !goes), ..view.keystore };
        let view =
            SecretView { complete: true, spoilt: None, layout, previous_not_after, previous_serial_number, keystore, ..view };
        match self.issuer.usable().and_then(IssuerFacts::ca).filter(|_| with_issuer) {
            Some(ca) => SecretView {
                ca_digest: Some(ca.ca_digest.clone()),
                chain: ChainView { digest: Some(ca.chain_digest.clone()), ..ChainView::default() },
                ..view
            },
            None => view,
        }
    }

    /// The same, with the controller that the object asks for.
    fn owned(&self, view: SecretView) -> SecretView {
        SecretView { deletion_policy: Some(self.object.spec.deletion_policy), ..view }
    }

    /// The Secret of an object that is gone holds a certificate of the same user and issuer.
    fn adopted(&self) -> SecretView {
        self.view(Content {
            certificate: certificate(0xA0, Subject::for_user(USER).unwrap(), self.now),
            issuer: self.issuer.usable().map(|facts| facts.identity.to_string()).unwrap_or_default(),
            reason: Reason::NoCertificate,
            claim: None,
            renew_request: None,
        })
    }
}

/// The answer of a step that asks the API server.
fn failed(step: &Step, error: RequestError) -> Option<Found> {
    Some(match step {
        Step::Observe(_) => Found::Observed(Err(error)),
        Step::TryWrite => Found::Tried(Err(error)),
        Step::WriteClaim { .. } => Found::NotClaimed("claim-0".to_owned(), error),
        Step::WithdrawClaim => Found::Withdrawn,
        Step::ReadSecret => Found::SecretRead(Err(error)),
        Step::ReadObject => Found::ObjectRead(Err(error)),
        Step::WriteSecret(_) => Found::Written(Err(error)),
        Step::Report(_) => Found::Reported(Err(error)),
        Step::RecallUser { .. }
        | Step::TakeTurn { .. }
        | Step::MakeKey { .. }
        | Step::ListCertificates { .. }
        | Step::CheckUser { .. }
        | Step::RequestCertificate { .. }
        | Step::End(_) => return None,
    })
}

/// The answer of a step that asks the issuer.
fn refused(step: &Step, error: IssueError) -> Option<Found> {
    Some(match step {
        Step::ListCertificates { .. } => Found::Listed(Err(error)),
        Step::CheckUser { .. } => Found::UserChecked(Err(error)),
        Step::RequestCertificate { .. } => Found::NotIssued(error),
        Step::WriteSecret(Write::Repaired { .. }) => Found::NotRebuilt(error),
        _ => return None,
    })
}
