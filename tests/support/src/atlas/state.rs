//! Projects, users, keys and faults.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    DigestAlgorithm, Fault, KeyPool, Point, RateLimit, Refusal,
    bucket::Bucket,
    digest::Nonces,
    ledger::{LoggedRequest, Mint},
    token::Tokens,
};

/// How the stand-in is set up.
#[derive(Clone, Debug)]
pub struct StandInConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The algorithm of the challenge.
    pub digest: DigestAlgorithm,
    /// How long a nonce may be used.
    pub nonce_lifetime: SignedDuration,
    /// The largest number of unexpired certificates of one user; `None` for no limit.
    pub certificate_limit: Option<usize>,
    /// The rate limit of each project; `None` for none, and for no headers that tell of one.
    pub rate_limit: Option<RateLimit>,
    /// How long the tokens of service accounts live.
    pub token_lifetime: SignedDuration,
    /// Serve TLS with a certificate of a CA of its own.
    pub tls: bool,
    /// Where the RSA keys are kept.
    pub key_pool: PathBuf,
}

impl Default for StandInConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            digest: DigestAlgorithm::Md5,
            nonce_lifetime: SignedDuration::from_mins(5),
            certificate_limit: None,
            rate_limit: Some(RateLimit { capacity: 1200, refill_per_minute: 500 }),
            token_lifetime: SignedDuration::from_hours(1),
            tls: false,
            key_pool: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/atlas-stand-in")),
        }
    }
}

/// How a database user logs in with X.509.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X509Type {
    /// With certificates that Atlas makes.
    Managed,
    /// With certificates of the customer's CA.
    Customer,
    /// Not.
    None,
}

impl X509Type {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "MANAGED",
            Self::Customer => "CUSTOMER",
            Self::None => "NONE",
        }
    }
}

/// A project's users by name.
pub(super) type Users = HashMap<String, X509Type>;

/// Is called at each point of a mint with the user's name.
pub(super) type Observer = std::sync::Arc<dyn Fn(Point, &str) + Send + Sync>;

pub(super) struct State {
    pub(super) nonces: Nonces,
    pub(super) certificate_limit: Option<usize>,
    /// Public key → (private key, projects that it may use).
    pub(super) keys: HashMap<String, (String, Vec<String>)>,
    pub(super) projects: HashMap<String, Users>,
    /// Faults by user; a fault that is not to be repeated goes when it has been played.
    pub(super) faults: HashMap<String, VecDeque<(Fault, bool)>>,
    /// Refusals of questions (GET) by user, as for want of a role.
    pub(super) question_faults: HashMap<String, Refusal>,
    /// Who is told when a mint reaches a point.
    pub(super) observer: Option<Observer>,
    pub(super) tokens: Tokens,
    pub(super) rate_limit: Option<RateLimit>,
    /// No bucket gives anything before this.
    pub(super) buckets_open: Timestamp,
    pub(super) buckets: HashMap<String, Bucket>,
    pub(super) mints: Vec<Mint>,
    pub(super) requests: Vec<LoggedRequest>,
    pub(super) clock_offset: SignedDuration,
    /// A certificate is listed so long after it was made.
    pub(super) list_lag: SignedDuration,
    pub(super) pool: KeyPool,
    pub(super) next_serial: i64,
}

impl State {
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now() + self.clock_offset
    }

    pub(super) fn take_fault(&mut self, username: &str) -> Option<Fault> {
        let queue = self.faults.get_mut(username)?;
        let (fault, repeated) = queue.pop_front()?;
        if repeated {
            queue.push_front((fault.clone(), true));
        }
        Some(fault)
    }

    /// The next fault, if it concerns the challenge.
    pub(super) fn take_challenge_fault(&mut self, username: &str) -> Option<Fault> {
        let (next, _) = self.faults.get(username)?.front()?;
        if matches!(next, Fault::RefuseChallenge(_) | Fault::ResetChallenge | Fault::DelayChallenge(_)) {
            self.take_fault(username)
        } else {
            None
        }
    }

    /// Unexpired certificates, those of a deleted user of the same name included: Atlas keeps them.
    pub(super) fn unexpired(&self, project_id: &str, username: &str) -> Vec<Mint> {
        let now = self.now();
        let of_user = |mint: &&Mint| mint.project_id == project_id && mint.username == username && mint.not_after > now;
        let of_user = |mint: &&Mint| of_user(mint) && mint.time.saturating_add(self.list_lag).is_ok_and(|from| from <= now);
        self.mints.iter().filter(of_user).cloned().collect()
    }

    /// A positive 63-bit number that is not the one before plus one.
    pub(super) fn take_serial(&mut self) -> i64 {
        self.next_serial = self.next_serial.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.next_serial & i64::MAX | (1 << 60)
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
