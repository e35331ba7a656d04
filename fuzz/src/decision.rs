//! Decisions about objects, whatever they say and whatever time it is.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use usercert_operator::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, Reason},
    certificate::{CertificateFacts, NameConstraints},
    controller::{
        Received,
        adoption::{is_in_status, left_behind},
        secret::{self, NamedPassword},
    },
    decide::{
        Allow, CaFacts, Decision, Desired, Inputs, IssueError, IssuerFacts, IssuerState, IssuingMethod, ListedCertificate,
        Minted, NewClaim, ObjectMemory, Observed, Retry, SaveFailure, SecretState, SecretView, UnsavedCertificate,
        UserCertificates, claimed, decide, next_look, next_status, ready_certificate, record_failure, record_list,
        record_lost_claim,
    },
};

use crate::{
    Outcome, START_OF_YEAR_0, now,
    oracle::{assert_keeps_secret_beside, assert_readable},
    secret::{key_material, open_text},
};

/// Everything that a decision depends on and that somebody else may have written.
#[derive(Deserialize)]
struct Case {
    certificate: Received<DatabaseUserCertificate>,
    #[serde(default)]
    secret: Option<Received<Secret>>,
    /// An issuer that can be used; without this or what follows there is none.
    #[serde(default)]
    issuer: Option<IssuerCase>,
    /// An issuer that cannot be used.
    #[serde(default)]
    issuer_refused: Option<RefusedCase>,
    /// An issuer that was not looked at yet.
    #[serde(default)]
    issuer_unknown: bool,
    /// Seconds.
    #[serde(default)]
    now: Option<i64>,
    /// When certificates were made for the user, in seconds.
    #[serde(default)]
    made: Option<Vec<i64>>,
    /// When the Secret was put right, in seconds.
    #[serde(default)]
    repairs: Vec<i64>,
    /// Whether the certificate of the Secret is in memory alone.
    #[serde(default)]
    unsaved: bool,
    /// A Secret whose certificate is the one that is in memory alone, whatever the other one holds.
    #[serde(default)]
    unsaved_secret: Option<Received<Secret>>,
    /// Whether the Secret is taken as it is remembered.
    #[serde(default)]
    recalled: bool,
}

/// An issuer, in seconds.
#[derive(Deserialize)]
struct IssuerCase {
    #[serde(default)]
    is_atlas: bool,
    #[serde(default)]
    months: u8,
    #[serde(default)]
    duration: Option<u32>,
    #[serde(default)]
    max_duration: Option<u32>,
    #[serde(default)]
    not_after: Option<i64>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    identity: Option<String>,
    #[serde(default)]
    ca_digest: Option<String>,
    #[serde(default)]
    chain_digest: Option<String>,
}

/// Why an issuer cannot be used. A reason that is none of ours is taken for another one.
#[derive(Deserialize)]
struct RefusedCase {
    reason: String,
    message: String,
}

/// An object with its status, its Secret and its issuer, as JSON.
pub fn decision(data: &[u8]) -> Outcome {
    let Ok(case) = serde_json::from_slice::<Case>(data) else { return Outcome::Unread };
    let observed = case.observed();
    case.assert_keeps_key(&next_status(&case.certificate, &observed, &decide(&case.certificate, &observed, now()), now()));
    let object = &*case.certificate;
    for now in [case.now.map_or(now(), at), now(), Timestamp::UNIX_EPOCH, Timestamp::MIN, Timestamp::MAX] {
        let decision = decide(object, &observed, now);
        assert_eq!(decide(object, &observed, now), decision, "the same is decided of the same");
        assert_mints_nothing_for_what_cannot_be_read(&observed, &decision);
        assert_gives_up_for_a_good_one_alone(&case.certificate, &observed, &decision, now);
        assert!(next_look(&observed, &decision, now).is_none_or(|next| next > now), "{decision:?}");
        let mut status = next_status(object, &observed, &decision, now);
        let reported = Observed { status: status.clone(), ..observed.clone() };
        assert_eq!(next_status(object, &reported, &decision, now), status, "nothing to do means no writes");
        // Kubernetes knows no times before the year 0; no clock tells one.
        if now.as_second() >= START_OF_YEAR_0 {
            let stored = assert_is_fit_for_report(&status);
            let reported = Observed { status: stored.clone(), ..observed.clone() };
            assert_eq!(next_status(object, &reported, &decision, now), stored, "what the API server keeps is written once");
        }
        record(&case, &decision, &mut status, now);
    }
    Outcome::Read
}

impl Case {
    fn observed(&self) -> Observed {
        let secret = self.secret_state();
        Observed {
            issuer: self.issuer_state(secret.ours()),
            memory: self.memory(&secret),
            secret,
            status: self.certificate.status.clone().unwrap_or_default(),
            unreadable: self.certificate.unreadable().map(ToString::to_string),
            is_spec_unreadable: self.certificate.unreadable_object().is_some(),
            user: self.made.as_ref().map(|made| UserCertificates {
                key: "key".to_owned(),
                made: made.iter().copied().map(at).collect(),
                objects: 1,
                ..UserCertificates::default()
            }),
            held: std::collections::BTreeSet::new(),
            namespace: "shop".to_owned(),
            process: None,
            released_by: None,
            namespace_labels: std::collections::BTreeMap::new(),
        }
    }

    fn memory(&self, secret: &SecretState) -> ObjectMemory {
        let failure = self.repairs.first().map(|until| SaveFailure {
            until: at(*until),
            reason: Reason::SecretNotWritable,
            message: "refused".to_owned(),
        });
        let certificate = self.unsaved_certificate().or_else(|| secret.certificate().filter(|_| self.unsaved).cloned());
        let unsaved = |certificate| UnsavedCertificate { certificate, claim: None, cause: Reason::RenewalDue, failure };
        ObjectMemory {
            unsaved: certificate.map(unsaved),
            repairs: self.repairs.iter().copied().map(at).collect(),
            ..ObjectMemory::default()
        }
    }

    fn issuer_state(&self, secret: Option<&SecretView>) -> IssuerState {
        match (&self.issuer, &self.issuer_refused) {
            (Some(issuer), _) => IssuerState::Usable(Box::new(issuer.facts(secret))),
            (None, Some(RefusedCase { reason, message })) => {
                IssuerState::Unusable(Reason::from_name(reason).unwrap_or(Reason::InvalidSpec), message.clone())
            }
            (None, None) if self.issuer_unknown => IssuerState::Unknown,
            (None, None) => IssuerState::Missing,
        }
    }

    fn unsaved_certificate(&self) -> Option<CertificateFacts> {
        secret::read(&self.certificate, self.unsaved_secret.as_ref()?, &NamedPassword::default()).view.certificate.ok()
    }

    fn secret_state(&self) -> SecretState {
        let Some(found) = &self.secret else { return SecretState::Absent };
        let uid = found.metadata.uid.as_deref().unwrap_or_default();
        if let Some(left) = left_behind(&self.certificate, found, is_in_status(&self.certificate, uid), || None) {
            return left;
        }
        let status = self.certificate.status.as_ref().filter(|_| self.recalled);
        let recalled = status.and_then(|status| secret::recall(&self.certificate, &found.metadata, status));
        SecretState::Ours(Box::new(
            recalled.unwrap_or_else(|| secret::read(&self.certificate, found, &NamedPassword::default()).view),
        ))
    }

    /// Nothing of the key is where everybody reads.
    fn assert_keeps_key(&self, status: &DatabaseUserCertificateStatus) {
        let Some(secret) = &self.secret else { return };
        let text = serde_json::to_string(status).expect("a status is written");
        let open = open_text(&self.certificate, secret);
        for key in key_material(secret) {
            assert_keeps_secret_beside(&text, key, &open);
        }
    }
}

/// A claim may stand in what cannot be read.
fn assert_mints_nothing_for_what_cannot_be_read(observed: &Observed, decision: &Decision) {
    let may_mint = matches!(
        decision,
        Decision::Issue { .. } | Decision::LookUpUser { .. } | Decision::CountLostClaim | Decision::Queue { .. }
    );
    assert!(observed.unreadable.is_none() || !may_mint, "{decision:?}");
}

/// A certificate that was made and not saved is given up for one in the Secret that works, and for nothing else.
fn assert_gives_up_for_a_good_one_alone(
    object: &DatabaseUserCertificate,
    observed: &Observed,
    decision: &Decision,
    now: Timestamp,
) {
    let is_kept = match decision {
        Decision::Save | Decision::Adopt | Decision::ApplyDeletionPolicy => true,
        Decision::Wait { .. } if matches!(observed.secret, SecretState::Abandoned(_)) => true,
        Decision::Wait { reason, .. } => *reason == Reason::SecretNotWritable,
        Decision::Block { reason, .. } => {
            matches!(reason, Reason::SecretNotOwned | Reason::SecretBeingDeleted | Reason::ObjectBeingDeleted)
        }
        _ => false,
    };
    let unsaved = observed.memory.unsaved.as_ref().filter(|_| !is_kept);
    if let Some(unsaved) = unsaved.filter(|unsaved| is_undecided(object, observed, unsaved, now)) {
        let stays =
            matches!(decision, Decision::Await | Decision::Block { .. } | Decision::Repair { .. } | Decision::Wait { .. });
        assert!(stays, "nobody knows whether {:?} is wanted: {decision:?}", unsaved.certificate);
        return;
    }
    let Some(unsaved) = unsaved.map(|unsaved| &unsaved.certificate) else { return };
    let ready = match ready_certificate(object, observed, now) {
        Ok(ready) => Some(ready),
        // Neither is wanted any more, and the newer one stays.
        Err((Reason::SubjectChanged, _)) => observed.secret.certificate().filter(|present| present.subject == unsaved.subject),
        Err(_) => None,
    };
    let ready = ready.expect("an unsaved certificate is given up for one that works");
    assert!(
        ready.subject != unsaved.subject || ready.not_before >= unsaved.not_before,
        "the newer one is given up: {decision:?}"
    );
}

/// Whether the user of a `userRef` is not known, and the Secret holds the certificate of another than the one in memory.
fn is_undecided(object: &DatabaseUserCertificate, observed: &Observed, unsaved: &UnsavedCertificate, now: Timestamp) -> bool {
    let is_known = observed.is_spec_unreadable
        || object.spec.username.is_some()
        || observed.issuer.usable().is_some_and(|issuer| issuer.username.is_some());
    let present = observed.secret.certificate().filter(|present| present.not_after > now);
    !is_known && present.is_some_and(|present| present.subject != unsaved.certificate.subject)
}

/// Conditions are for people, and what is written is read again as the same. The status as it is read.
fn assert_is_fit_for_report(status: &DatabaseUserCertificateStatus) -> DatabaseUserCertificateStatus {
    for condition in status.conditions.iter().filter(|condition| matches!(condition.type_.as_str(), "Ready" | "Issuing")) {
        assert_readable(&condition.message);
    }
    let text = serde_json::to_string(status).expect("a status is written");
    let again: DatabaseUserCertificateStatus = serde_json::from_str(&text).expect("a status is read");
    assert_eq!(serde_json::to_string(&again).expect("a status is written"), text);
    again
}

impl IssuerCase {
    /// Without digests of its own, a CA hands on what the Secret holds.
    fn facts(&self, secret: Option<&SecretView>) -> IssuerFacts {
        let seconds = |seconds: u32| SignedDuration::from_secs(i64::from(seconds));
        let in_secret = |digest: fn(&SecretView) -> Option<String>| secret.and_then(digest).unwrap_or_default();
        IssuerFacts {
            method: if self.is_atlas {
                IssuingMethod::Mint { months_until_expiration: self.months }
            } else {
                IssuingMethod::Sign(CaFacts {
                    duration: self.duration.map(seconds),
                    max_duration: self.max_duration.map(seconds),
                    not_after: self.not_after.map_or(Timestamp::MAX, at),
                    ca_digest: self.ca_digest.clone().unwrap_or_else(|| in_secret(|view| view.ca_digest.clone())),
                    chain_digest: self.chain_digest.clone().unwrap_or_else(|| in_secret(|view| view.chain.digest.clone())),
                    name_constraints: NameConstraints::default(),
                })
            },
            allow: Allow::default(),
            username: self.username.clone(),
            identity: self.identity.as_deref().unwrap_or("ca/1").into(),
            version: "1".to_owned(),
        }
    }
}

/// What is written to the status around an attempt, whatever stood there.
fn record(case: &Case, decision: &Decision, status: &mut DatabaseUserCertificateStatus, now: Timestamp) {
    let mut claim =
        claimed(&case.certificate, status, NewClaim { id: "1", cause: Reason::RenewalDue, user: None, process: None }, now);
    record_lost_claim(&mut claim, "uid", now);
    let facts = case.issuer.as_ref().map(|issuer| issuer.facts(case.secret_state().ours()));
    let desired = match decision {
        Decision::Issue { desired, .. } => Some(desired.as_ref().clone()),
        _ => facts.as_ref().and_then(|facts| Desired::new(&case.certificate, facts).ok()),
    };
    for (minted, retry) in [(Minted::No, Retry::Backoff), (Minted::Possibly, Retry::Slowly), (Minted::No, Retry::At(now))] {
        let error = IssueError { reason: Reason::AtlasAnswerLost, message: "lost".to_owned(), retry, minted };
        // Without an issuer it is not known what the attempt depended on.
        let inputs = desired.as_ref().zip(facts.as_ref()).map(|(desired, facts)| Inputs::new(desired, facts));
        record_failure(status, inputs.as_ref(), "uid", None, &error, now);
    }
    let listed: Vec<ListedCertificate> = case.made.iter().flatten().map(|second| listed(*second)).collect();
    record_list(status, &listed, &std::collections::BTreeSet::new(), now);
}

fn listed(second: i64) -> ListedCertificate {
    ListedCertificate {
        serial_number: format!("{second:X}").into(),
        made_at: at(second),
        not_after: at(second.saturating_add(86_400)),
    }
}

/// The second, or the end of time that is nearer.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(if second < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
