//! The abstract world: one object, its Secret, Atlas's ledger, two replicas, a clock.
//!
//! A state holds what decisions read and what the properties speak of, and nothing else; `translation` makes the operator's own values
//! of it. Two states that differ only in which replica is which are one.

use usercert_operator::api::Reason;

use crate::pass::{Pass, Step};

/// Seconds since the beginning.
pub type Time = u32;

/// A certificate: its place in Atlas's ledger.
pub type Serial = u8;

/// Whom the issuer of the object asks, and with which credentials. Where the object refers to a user, each account has a user of its own.
pub type Account = u8;

/// The mark in the ledger of a certificate for the user of the second account. The rest of the entry is the time.
pub const OTHER_USER: Time = 1 << 31;

/// When Atlas made the certificate of this entry.
pub const fn made(entry: Time) -> Time {
    entry & !OTHER_USER
}

/// A version of the object or of the Secret.
pub type Version = u8;

/// The claim of a certificate in the status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub id: u8,
    pub attempt: u8,
    pub since: Time,
    /// Whether a renewal is forced.
    pub forced: bool,
    /// Whom the certificate is asked of.
    pub account: Account,
    /// What Atlas listed before it.
    pub before: Option<Vec<Serial>>,
}

/// The last failure in the status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Failure {
    pub count: u8,
    pub reason: Reason,
    pub last_time: Time,
    pub next_attempt: Time,
    pub inputs: String,
    /// The claim of which Atlas has listed no certificate yet, and when it is asked again.
    pub unlisted: Option<(Claim, Time)>,
}

/// What the status says of certificates that nobody holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unaccounted {
    pub count: u8,
    pub presumed: u8,
    /// The claims of those that are presumed and may be saved yet.
    pub claims: Vec<u8>,
    pub listed: Vec<Serial>,
    pub listed_at: Option<Time>,
}

/// The status, without messages and transition times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status {
    pub serial: Option<Serial>,
    /// The UID and version of the Secret that was verified.
    pub verified: Option<(Version, Version)>,
    pub is_ready: bool,
    pub claim: Option<Claim>,
    pub failure: Option<Failure>,
    pub history: Vec<(Serial, Time)>,
    pub unaccounted: Option<Unaccounted>,
    pub renewal_handled: Option<u8>,
    /// When renewals were forced, the newest first.
    pub forced: Vec<Time>,
}

impl Status {
    /// The claim of which Atlas has to say what became of it.
    pub fn claim_in_question(&self) -> Option<&Claim> {
        let unlisted = || self.failure.as_ref()?.unlisted.as_ref().map(|(claim, _)| claim);
        self.claim.as_ref().or_else(unlisted)
    }
}

/// One version of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    pub version: Version,
    /// Whether it has a `userRef` instead of a user name.
    pub refers: bool,
    /// The renewal that the user asked for.
    pub renewal: Option<u8>,
    /// The certificates that the user says are compromised.
    pub compromised: Vec<Serial>,
    pub status: Status,
}

/// What a certificate is kept with, in the Secret or in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    pub serial: Serial,
    pub claim: Option<u8>,
    pub renewal: Option<u8>,
    /// Whether a renewal was forced.
    pub forced: bool,
}

/// One version of the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Secret {
    /// The version in which it was created.
    pub uid: Version,
    pub version: Version,
    pub content: Content,
}

/// What the watch of Secrets has yet to show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretEvent {
    Shown(Secret),
    Gone(Version),
}

/// What the watches of one replica have shown, and what they have yet to show, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    pub object: Object,
    pub secret: Option<Secret>,
    pub unseen_objects: Vec<Object>,
    pub unseen_secrets: Vec<SecretEvent>,
}

impl View {
    pub fn is_behind(&self) -> bool {
        !self.unseen_objects.is_empty() || !self.unseen_secrets.is_empty()
    }
}

/// A certificate in memory alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unsaved {
    pub content: Content,
    pub refused_until: Option<Time>,
}

/// How a request under a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failed {
    /// Its answer was lost.
    Lost,
    /// Atlas could not be reached.
    NotConnected,
    /// Before anything was asked for: the Secret cannot be written.
    NotWritable,
}

/// What is known of the database user at Atlas.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    pub asked_at: Time,
    /// The certificates; `None` where the list may not be read.
    pub listed: Option<Vec<Serial>>,
    pub made_since: Vec<Serial>,
}

/// What a process remembers of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectMemory {
    pub unsaved: Option<Unsaved>,
    pub failed_request: Option<(u8, Failed)>,
    /// A claim under which nothing was asked for.
    pub unsent_claim: Option<u8>,
    /// Writes of the Secret that failed in a row.
    pub failures: u8,
}

/// What a process loses when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Memory {
    /// The Secret that was read or written last, and since when the echo of the write is awaited.
    pub secret: Option<(Secret, Option<Time>)>,
    pub object: ObjectMemory,
    /// As each account sees the user.
    pub users: [Option<User>; 2],
}

/// When a replica looks again although nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wake {
    /// To renew what is good.
    Renewal(Time),
    /// Because something failed.
    Retry(Time),
}

impl Wake {
    pub const fn time(self) -> Time {
        match self {
            Self::Renewal(time) | Self::Retry(time) => time,
        }
    }
}

/// What a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    #[default]
    StandingBy,
    Leading,
    /// It led and its lease ran out while it was paused; it finishes what is under way, saves what it has, and ends.
    Lapsed {
        saves_left: u8,
    },
}

/// What a process knows of the one that wrote a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claimant {
    /// It ran elsewhere, and may live.
    #[default]
    Another,
    /// It is this process.
    Itself,
    /// It ran in the Pod of this process, and has ended.
    OneBefore,
}

/// One replica. One that has crashed is one that stands by and remembers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    pub role: Role,
    pub view: View,
    pub is_woken: bool,
    pub wake: Option<Wake>,
    pub memory: Memory,
    pub pass: Option<Box<Pass>>,
    /// The claim in question, if this process or the one before it in the same Pod wrote it.
    pub wrote: Option<(u8, Claimant)>,
    /// It has lost the lead and goes on without a pause: by then its request has had its effect, or what it has is saved.
    pub busy_until: Option<Time>,
}

impl Replica {
    pub fn step(&self) -> Option<&Step> {
        self.pass.as_ref().map(|pass| &pass.step)
    }

    pub fn claimant(&self, status: &Status) -> Claimant {
        let claim = status.claim_in_question().map(|claim| claim.id);
        self.wrote.filter(|(wrote, _)| Some(*wrote) == claim).map_or(Claimant::Another, |(_, claimant)| claimant)
    }

    pub fn is_lapsed(&self) -> bool {
        matches!(self.role, Role::Lapsed { .. })
    }
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Budget {
    /// Crashes, lost answers, refusals, lapsed leases, watches that lag longer than a wait.
    pub faults: u8,
    /// Renewals that the user asks for.
    pub requests: u8,
    /// Deletions of the Secret by another.
    pub deletions: u8,
    /// Jumps of the clock to the renewal time of the certificate in the Secret.
    pub renewals: u8,
    /// Jumps of the clock to its end.
    pub expiries: u8,
    /// Certificates in the Secret that turn out to be compromised.
    pub compromises: u8,
    /// Changes of the issuer to another account, at which a stranger has a certificate for a user of this name. Where the object refers to a
    /// user, that is another user, and so a certificate more is needed.
    pub moves: u8,
    /// Times at which the user is not known for a while. If there are any, the object refers to a user.
    pub unknowns: u8,
}

/// What must never happen, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Violation {
    /// A working certificate in the Secret was replaced by one that ends sooner.
    Overwritten,
    /// A request was sent without a claim in the status.
    Unclaimed,
    /// A second request was sent under one claim.
    Repeated,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Time,
    pub object: Object,
    pub secret: Option<Secret>,
    /// The last version that a Secret had.
    pub secret_version: Version,
    /// When Atlas made each certificate, and for which user.
    pub ledger: Vec<Time>,
    /// Until when a list may lack the newest one; 0 if every list has it.
    pub unlisted_until: Time,
    /// Those that were made for the other account, one bit for each.
    pub elsewhere: u16,
    /// Whom the issuer asks.
    pub account: Account,
    /// Whether the object refers to a user that is not known now.
    pub is_unknown: bool,
    pub replicas: [Replica; 2],
    pub left: Budget,
    /// How many claims were persisted.
    pub claims: u8,
    /// Claims under which a request was sent, one bit for each.
    pub posted: u16,
    /// Certificates that were in the Secret, one bit for each.
    pub saved: u16,
    /// How many certificates the faults so far may have cost.
    pub costs: u8,
    pub violation: Option<Violation>,
}

impl World {
    pub fn new(left: Budget) -> Self {
        Self {
            now: 0,
            object: Object { version: 1, refers: left.unknowns > 0, ..Object::default() },
            secret: None,
            secret_version: 0,
            ledger: vec![if left.unknowns > 0 { OTHER_USER } else { 0 }; usize::from(left.moves > 0)],
            unlisted_until: 0,
            elsewhere: u16::from(left.moves > 0),
            account: 0,
            is_unknown: false,
            replicas: Default::default(),
            left,
            claims: 0,
            posted: 0,
            saved: 0,
            costs: 0,
            violation: None,
        }
    }

    /// What Atlas lists for an account.
    pub fn listed(&self, account: Account) -> Vec<Serial> {
        (0..u8::try_from(self.ledger.len()).unwrap()).filter(|serial| self.account_of(*serial) == account).collect()
    }

    pub fn account_of(&self, serial: Serial) -> Account {
        u8::from(self.elsewhere & (1 << serial) != 0)
    }

    pub fn was_saved(&self, serial: Serial) -> bool {
        self.saved & (1 << serial) != 0
    }

    /// Something else is known of the issuer, and whoever leads looks again.
    pub fn wake_leaders(&mut self) {
        self.replicas.iter_mut().for_each(|replica| replica.is_woken |= replica.role == Role::Leading);
    }

    /// Writes a status, if the object is still of this version; every watch shows it some time later.
    pub fn write_status(&mut self, seen: Version, status: Status) -> bool {
        if self.object.version != seen {
            return false;
        }
        self.object.version += 1;
        self.object.status = status;
        self.announce_object();
        true
    }

    pub fn announce_object(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.role == Role::Leading) {
            replica.view.unseen_objects.push(self.object.clone());
        }
    }

    pub fn announce_secret(&mut self, event: &SecretEvent) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.role == Role::Leading) {
            replica.view.unseen_secrets.push(event.clone());
        }
    }
}
