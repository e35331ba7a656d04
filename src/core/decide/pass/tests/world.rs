//! A small world that answers the steps of a pass: one object, its Secret, one issuer, and what this process remembers.
//!
//! Each answer is the one of a healthy world, unless a [`Fault`] is put in its place. Writes have the preconditions of the
//! real ones: a claim and a report fail if the object has changed, and a write of the Secret fails if the Secret is not as the
//! pass has seen it.

mod answers;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::ObjectMeta;

use super::*;
use crate::{
    api::{DatabaseUserCertificateSpec, IssuerKind, IssuerReference},
    certificate::{KeyAlgorithm, NameConstraints, PrivateKeySpec, Subject},
    decide::{
        AbandonedSecret, Allow, CaFacts, IssuerFacts, IssuerState, IssuingMethod, ListedCertificate, SecretState, UserRecord,
    },
};

pub const USER: &str = "orders";
pub const OTHER_USER: &str = "billing";
const START: i64 = 1_800_000_000;
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerType {
    Atlas,
    Ca,
}
pub use IssuerType::{Atlas, Ca};

/// What a step meets instead of what it hopes for.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The API server answers so, and nothing is done.
    Answer(RequestErrorKind),
    /// The step is done, and its answer is lost.
    AnswerLost,
    /// The issuer refuses or fails.
    Issuer(IssueError),
    /// Others go first.
    NoTurn,
    /// Nobody has a turn before this time.
    Paused(Timestamp),
    /// The step is done, and this process stops leading meanwhile.
    StopsLeading,
    /// This process stops leading before the bytes that mint.
    NoPermit,
    /// Somebody edits the spec before the step.
    ObjectChanged,
    /// Somebody touches the Secret before the step.
    SecretChanged,
    /// Somebody puts another certificate into the Secret before the step.
    CertificateChanged,
    /// Somebody deletes the Secret before the step.
    SecretDeleted,
    /// Somebody creates the Secret as another's before the step.
    SecretTaken,
    /// Another process makes a certificate for the user and saves it, before the step.
    OtherSaved,
    /// Time passes before the step.
    TimePasses(SignedDuration),
    /// The issuer returns the certificate again that it made last.
    SameCertificate,
}

/// One step, and what it found.
#[derive(Clone, Debug)]
pub struct Move {
    pub changes: Vec<Change>,
    pub step: Step,
    /// `None` at the end.
    pub found: Option<Found>,
    /// The time and the leadership after the step.
    pub now: Now,
    /// What is remembered of the object before the step.
    pub memory: Option<ObjectMemory>,
    pub observed: Observed,
}

/// A certificate with what is written next to it.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    certificate: CertificateFacts,
    issuer: String,
    reason: Reason,
    claim: Option<String>,
    renew_request: Option<String>,
}

/// A database user: the identity of the issuer, and the name.
type UserKey = (String, String);

#[derive(Clone, Debug)]
pub struct World {
    pub object: DatabaseUserCertificate,
    pub issuer: IssuerState,
    pub secret: SecretState,
    pub memory: ObjectMemory,
    /// What this process knows of the database users.
    pub users: BTreeMap<UserKey, UserRecord>,
    pub now: Timestamp,
    pub leads: bool,
    /// The name of this process in the Lease.
    pub process: &'static str,
    /// The process that gave up the Lease last.
    pub released_by: Option<&'static str>,
    /// How many of the newest certificates Atlas does not list yet.
    pub list_lacks: usize,
    /// The counted certificates that the Secrets of other objects hold.
    pub held_elsewhere: Vec<&'static str>,
    pub purpose: Purpose,
    /// Whether the API server lets the operator change the owners of a Secret that is there.
    pub may_change_owners: bool,
    /// What Atlas lists.
    ledger: BTreeMap<UserKey, Vec<ListedCertificate>>,
    /// The key that is kept of a certificate that is in memory alone.
    kept: Option<Content>,
    /// What the CA has just signed.
    signed: Option<Content>,
    /// The Secret as it was read to be put right.
    read: SecretState,
    /// How many certificates were made.
    made: u8,
    /// How many versions of the Secret there were.
    versions: u32,
}

pub fn facts(issuer_type: IssuerType) -> IssuerFacts {
    let ca = || CaFacts {
        duration: None,
        max_duration: None,
        not_after: Timestamp::from_second(START).unwrap() + SignedDuration::from_hours(4000 * 24),
        ca_digest: "ca".into(),
        chain_digest: "chain".into(),
        name_constraints: NameConstraints::default(),
    };
    let (method, identity) = match issuer_type {
        Atlas => (IssuingMethod::Mint { months_until_expiration: 3 }, "atlas/1"),
        Ca => (IssuingMethod::Sign(ca()), "ca/1"),
    };
    IssuerFacts { username: None, method, allow: Allow::default(), identity: identity.into(), version: "1".into() }
}

impl World {
    /// An object that was just created.
    pub fn new(issuer_type: IssuerType) -> Self {
        let now = Timestamp::from_second(START).unwrap();
        let metadata = ObjectMeta {
            name: Some("orders".into()),
            namespace: Some("shop".into()),
            uid: Some("uid-1".into()),
            generation: Some(1),
            resource_version: Some("1".into()),
            creation_timestamp: Some(Time(now)),
            ..ObjectMeta::default()
        };
        let spec = DatabaseUserCertificateSpec {
            username: Some(USER.into()),
            issuer_ref: Some(IssuerReference { kind: IssuerKind::CertificateIssuer, name: "issuer".into() }),
            ..DatabaseUserCertificateSpec::default()
        };
        Self {
            object: DatabaseUserCertificate { metadata, spec, status: None },
            issuer: IssuerState::Usable(Box::new(facts(issuer_type))),
            secret: SecretState::Absent,
            memory: ObjectMemory::default(),
            users: BTreeMap::new(),
            now,
            leads: true,
            process: "pod-1_a",
            released_by: None,
            list_lacks: 0,
            held_elsewhere: Vec::new(),
            purpose: Purpose::Certificate,
            may_change_owners: true,
            ledger: BTreeMap::new(),
            kept: None,
            signed: None,
            read: SecretState::Absent,
            made: 0,
            versions: 0,
        }
    }

    /// An object whose certificate was issued a day ago.
    pub fn settled(issuer_type: IssuerType) -> Self {
        let mut world = Self::new(issuer_type);
        world.run();
        world.after(SignedDuration::from_hours(24))
    }

    pub fn after(mut self, time: SignedDuration) -> Self {
        self.now += time;
        self
    }

    fn is_atlas(&self) -> bool {
        self.issuer.usable().is_some_and(|facts| facts.ca().is_none())
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The process ends, and another begins.
    pub fn restarted(self) -> Self {
        Self { memory: ObjectMemory::default(), kept: None, users: BTreeMap::new(), ..self }
    }

    /// Somebody edits the object.
    pub fn edit(&mut self, edit: impl FnOnce(&mut DatabaseUserCertificate)) {
        edit(&mut self.object);
        self.object.metadata.generation = self.object.metadata.generation.map(|generation| generation + 1);
        self.next_version();
    }

    /// Somebody sets an annotation.
    pub fn annotate(&mut self, name: &str, value: &str) {
        self.object.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self.next_version();
    }

    /// Somebody changes the Secret, if there is one of ours.
    pub fn edit_secret(&mut self, edit: impl FnOnce(&mut SecretView)) {
        self.versions += 1;
        if let SecretState::Ours(view) = &mut self.secret {
            view.resource_version = self.versions.to_string();
            edit(view);
        }
    }

    pub fn edit_issuer(&mut self, edit: impl FnOnce(&mut IssuerFacts)) {
        if let IssuerState::Usable(facts) = &mut self.issuer {
            edit(facts);
        }
    }

    /// A backup has brought back the Secret of an object that is gone.
    pub fn find_abandoned_secret(&mut self) {
        self.secret = SecretState::Abandoned(Box::new(AbandonedSecret {
            uid: "secret-0".into(),
            resource_version: "0".into(),
            owners: Vec::new(),
            whose: "belonged to an object that is gone".into(),
            is_retained: false,
            fault: None,
        }));
    }

    /// An object of this name has left the Secret behind, as `deletionPolicy: Retain` asks.
    pub fn find_retained_secret(&mut self) {
        self.find_abandoned_secret();
        if let SecretState::Abandoned(found) = &mut self.secret {
            found.is_retained = true;
        }
    }

    /// Whether the key of a certificate is kept that is in memory alone.
    pub fn kept_key(&self) -> bool {
        self.kept.is_some()
    }

    fn next_version(&mut self) {
        let version: u32 = self.object.metadata.resource_version.as_deref().unwrap().parse().unwrap();
        self.object.metadata.resource_version = Some((version + 1).to_string());
    }

    /// A pass without faults.
    pub fn run(&mut self) -> Vec<Move> {
        self.run_with(|_, _| None)
    }

    /// A pass with these faults, each for the step with this number.
    pub fn run_with(&mut self, mut fault_at: impl FnMut(usize, &Step) -> Option<Fault>) -> Vec<Move> {
        let mut pass = Pass::new(self.object.clone(), self.purpose);
        let mut moves: Vec<Move> = Vec::new();
        let mut found = Found::Begun;
        loop {
            assert!(moves.len() < 100, "the pass does not end");
            let now = Now { time: self.now, may_act: self.leads };
            let Next { changes, step } = pass.next(found, now);
            self.remember(&pass);
            for change in &changes {
                self.change(change);
            }
            let begun = Move {
                changes,
                step: step.clone(),
                found: None,
                now,
                memory: pass.memory().cloned(),
                observed: pass.observed().clone(),
            };
            if let Step::End(_) = step {
                moves.push(begun);
                return moves;
            }
            found = self.answer(&pass, &step, fault_at(moves.len(), &step));
            moves.push(Move { found: Some(found.clone()), now: Now { time: self.now, may_act: self.leads }, ..begun });
        }
    }

    fn remember(&mut self, pass: &Pass) {
        let Some(memory) = pass.memory() else { return };
        self.memory = memory.clone();
        if memory.unsaved.is_none() {
            self.kept = None;
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::CountMinted { username, serial_number } => {
                let key = self.user_key(username);
                if let Some(record) = self.users.get_mut(&key) {
                    record.made_since.insert(serial_number.clone(), self.now);
                }
            }
            Change::ForgetUser { username } => {
                self.users.remove(&self.user_key(username));
            }
            Change::ForgetClaimedUser { key } => self.users.retain(|user, _| Some(digest(user)) != *key),
            Change::EndTurn | Change::LeaveQueue | Change::QueueAgain { .. } => {}
        }
    }

    fn user_key(&self, username: &str) -> UserKey {
        (self.issuer.usable().map(|facts| facts.identity.to_string()).unwrap_or_default(), username.to_owned())
    }
}

/// What stands for the digest of a user.
pub fn digest((issuer, username): &UserKey) -> String {
    format!("{issuer}/{username}")
}

pub fn certificate(number: u8, subject: Subject, not_before: Timestamp) -> CertificateFacts {
    CertificateFacts {
        serial_number: format!("{number:02X}").into(),
        subject,
        issuer: "CN=CA".into(),
        not_before,
        not_after: not_before + LIFETIME,
        private_key: PrivateKeySpec { algorithm: KeyAlgorithm::Ecdsa, size: 256 },
    }
}

pub fn error(kind: RequestErrorKind) -> RequestError {
    RequestError { operation: "go on", kind, message: "a fault".into() }
}

pub fn refusal(reason: Reason, minted: Minted) -> IssueError {
    IssueError { reason, message: "a fault".into(), retry: Retry::Backoff, minted }
}
