//! Leader election with a `coordination.k8s.io` Lease, by the rules of client-go: one of several replicas works, the others stand
//! by.
//!
//! # Guarantees
//!
//! - Each write of the lease replaces exactly the version that was read, so of two candidates only one wins.
//! - A lease is taken over only if it has not changed for its whole duration by our own monotonic clock. The times that are
//!   written in it are for people, because clocks differ between machines.
//! - A leader that could not renew within [`RENEW_DEADLINE`] stops acting. The deadline counts from before the last request that
//!   renewed, so it passes before anybody else can take over.
//! - A leader gives the lease up when it ends, after all its requests, and writes its name beside the empty holder
//!   ([`RELEASED_BY_ANNOTATION`]). Names are never used again. So whoever leads later knows that this process neither asks for nor saves
//!   anything any more.
//! - It acts again once it has renewed the lease, if that still names it: then nobody else led in between, for whoever takes the lease writes
//!   another name into it, and each write of ours replaces one of ours. So an API server that is silent, for however long, ends no process.
//!   The process ends when the lease names another, or nobody.
//!
//! # Assumptions
//!
//! - Monotonic clocks run at about the same speed on all machines.
//! - The lease alone does not stop a leader whose process is paused between a check and a write. Such a write fails, because it
//!   names a resourceVersion that is out of date by then.
//!
//! # Errors
//!
//! - [`LeaseError`] says why this process no longer leads. A request that fails is logged and tried again until the deadline.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::{
    api::names::RELEASED_BY_ANNOTATION,
    controller::{KubernetesError, chain, request},
    decide::pass::RequestErrorKind,
    runtime::{Heartbeat, LeadershipTeller, RENEW_DEADLINE},
};

/// How long a lease holds after its last renewal.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long one attempt may take: two fit before the deadline, and the second may get another connection.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// How soon an attempt to release it is repeated.
const RELEASE_PERIOD: Duration = Duration::from_secs(1);

/// The election may stand still for so long. Each of its steps has a limit of a few seconds.
pub const ELECTION_LIMIT: Duration = Duration::from_mins(1);

/// How often the lease is looked at or renewed.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The lease, and the process that wants it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// The identity of this process, which no other process has.
    pub identity: String,
}

impl Candidate {
    /// A candidate for this lease.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), identity }
    }
}

/// The name of this process: that of its Pod, `_`, and something random. No other process has it, not even the one before in the same Pod.
///
/// If the Pod is not known, the name begins with that of the host and has no `_`. Several processes may run on a host, so that a process
/// with the host's name says nothing of whether another one has ended (`decide::ended`).
#[must_use]
pub fn process_name(pod: Option<&str>, host: &str) -> String {
    let mut bytes = [0_u8; 8];
    // If the system gives no random bytes, the time serves.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = Timestamp::now().as_microsecond().to_be_bytes();
    }
    let random = hex::encode(bytes);
    match pod {
        Some(pod) => format!("{pod}_{random}"),
        None => format!("{}-{random}", host.replace('_', "-")),
    }
}

/// Why this process no longer leads.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process has the lease.
    #[error("{0} has taken the lease")]
    Taken(String),
    /// No renewal succeeded before the deadline, and the lease does not name this process any more.
    #[error("the lease was not renewed within {} seconds and is free: another process may have led", RENEW_DEADLINE.as_secs())]
    NotRenewed,
}

/// The version of the lease that this process saw last, and when it saw that version first.
#[derive(Debug, Default)]
pub struct LeaseSeen {
    resource_version: Option<String>,
    since: Option<Instant>,
}

/// What to do about the lease.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// There is no lease: create it.
    Create(LeaseSpec),
    /// The lease is ours, free or expired: write it in our name.
    Replace(Box<Lease>),
    /// Another process holds it.
    StandBy(String),
}

impl LeaseSeen {
    /// Decides what to do about the lease as it was found. `now` is compared; `at`, the wall clock, is only written down.
    pub fn step(&mut self, found: Option<&Lease>, identity: &str, now: Instant, at: Timestamp) -> Step {
        let Some(lease) = found else {
            *self = Self::default();
            return Step::Create(spec_of(None, identity, at));
        };
        if self.since.is_none() || self.resource_version != lease.metadata.resource_version {
            *self = Self { resource_version: lease.metadata.resource_version.clone(), since: Some(now) };
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let duration = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default().max(1);
        let has_expired = self.since.is_some_and(|since| now.saturating_duration_since(since) >= Duration::from_secs(duration));
        if holder.is_empty() || holder == identity || has_expired {
            let spec = Some(spec_of(Some(&spec), identity, at));
            Step::Replace(Box::new(Lease { metadata: lease.metadata.clone(), spec }))
        } else {
            Step::StandBy(holder)
        }
    }
}

/// The lease in our name. If it was ours already, its acquire time stays. The number of transitions goes up when it changes
/// hands.
fn spec_of(old: Option<&LeaseSpec>, identity: &str, at: Timestamp) -> LeaseSpec {
    let is_ours = old.is_some_and(|old| old.holder_identity.as_deref() == Some(identity));
    let transitions = old.and_then(|old| old.lease_transitions).unwrap_or_default();
    let had_holder = old.is_some();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: old.filter(|_| is_ours).and_then(|old| old.acquire_time.clone()).or(Some(MicroTime(at))),
        renew_time: Some(MicroTime(at)),
        lease_transitions: Some(if is_ours || !had_holder { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

/// The election, as one candidate sees it.
pub struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    teller: LeadershipTeller,
    seen: LeaseSeen,
    /// When the last request began that renewed the lease.
    renewed: Instant,
    /// For as long as the lease is wanted.
    heartbeat: Option<Heartbeat>,
}

impl Election {
    /// An election for this candidate. Nothing is requested yet. `teller` is told of each outcome.
    #[must_use]
    pub fn new(client: Client, candidate: Candidate, teller: LeadershipTeller) -> Self {
        let leases = Api::namespaced(client, &candidate.namespace);
        Self { leases, candidate, teller, seen: LeaseSeen::default(), renewed: Instant::now(), heartbeat: None }
    }

    /// The same, which shows by this that it goes on. While no answer comes it goes on too.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat: Some(heartbeat), ..self }
    }

    fn beat(&self) {
        self.heartbeat.iter().for_each(Heartbeat::beat);
    }

    /// Waits until this process leads.
    pub async fn acquire(&mut self) {
        let mut told = None;
        loop {
            self.beat();
            match timeout(RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(None)) => {
                    info!(identity = self.candidate.identity, "this process leads");
                    return;
                }
                Ok(Ok(Some(holder))) => {
                    self.teller.is_with(&holder);
                    if told.as_ref() != Some(&holder) {
                        info!(holder, "another process leads: standing by");
                        told = Some(holder);
                    }
                }
                Ok(Err(error)) => complain(&error),
                Err(_) => warn!("the API server does not answer about the lease"),
            }
            // A leader writes its lease every few seconds. One that has not for so long is gone, or cannot be seen from here.
            if self.seen.since.is_none_or(|since| since.elapsed() >= LEASE_DURATION) {
                self.teller.is_unknown();
                told = None;
            }
            sleep(jittered(RETRY_PERIOD)).await;
        }
    }

    /// Renews the lease until another process has taken it. While no renewal succeeds within the deadline of 10 seconds, this process does not
    /// act, and goes on trying.
    pub async fn hold(&mut self) -> LeaseError {
        let mut is_overdue = false;
        let lost = loop {
            self.beat();
            sleep(RETRY_PERIOD).await;
            match timeout(ATTEMPT_LIMIT, self.renew()).await {
                Ok(Ok(Ok(()))) => {
                    if std::mem::take(&mut is_overdue) {
                        info!("the lease was renewed, and nobody else has led: this process acts again");
                    }
                }
                Ok(Ok(Err(lost))) => break lost,
                Ok(Err(error)) => complain(&error),
                Err(_) => warn!("the API server does not answer about the lease"),
            }
            if self.is_overdue() && !is_overdue {
                is_overdue = true;
                self.teller.is_unknown();
                warn!("the lease was not renewed for {} seconds: nothing is begun until it is", RENEW_DEADLINE.as_secs());
            }
        };
        self.teller.ended();
        self.heartbeat = None;
        lost
    }

    /// Whether another process may have led since the last renewal.
    fn is_overdue(&self) -> bool {
        self.renewed.elapsed() >= RENEW_DEADLINE || !self.teller.is_in_time()
    }

    /// Renews the lease. The inner error: another process leads, or may have led.
    async fn renew(&mut self) -> Result<Result<(), LeaseError>, KubernetesError> {
        let (begun, at) = (Instant::now(), Timestamp::now());
        let found = self.read().await?;
        let holder = found.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
        if holder != Some(&self.candidate.identity) && self.is_overdue() {
            let other = holder.filter(|holder| !holder.is_empty()).map(|holder| LeaseError::Taken(holder.to_owned()));
            return Ok(Err(other.unwrap_or(LeaseError::NotRenewed)));
        }
        Ok(self.write(found, begun, at).await?.map_or(Ok(()), |holder| Err(LeaseError::Taken(holder))))
    }

    /// Gives up the lease, so that another process need not wait until it expires. All requests of this process but this one have
    /// ended. An attempt that fails is repeated for as long as the lease would last.
    pub async fn release(&mut self) {
        self.teller.ended();
        self.heartbeat = None;
        let end = self.renewed + LEASE_DURATION;
        loop {
            match timeout(ATTEMPT_LIMIT, self.clear_holder()).await {
                Ok(Ok(())) => return info!("the lease was released"),
                Ok(Err(error)) => warn!(error = chain(&error), "the lease was not released"),
                Err(_) => warn!("the API server does not answer about the lease"),
            }
            if Instant::now() + RELEASE_PERIOD >= end {
                return warn!("the lease is not released: it ends by itself");
            }
            sleep(RELEASE_PERIOD).await;
        }
    }

    async fn clear_holder(&self) -> Result<(), KubernetesError> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        let identity = &self.candidate.identity;
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(identity)) else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        // As client-go does: a candidate that has not noticed the empty holder waits no longer than this one second.
        spec.lease_duration_seconds = Some(1);
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(RELEASED_BY_ANNOTATION.to_owned(), identity.clone());
        self.replace(&lease).await.map(|_| ())
    }

    /// Takes or renews the lease. Returns the holder if another process has it.
    async fn attempt(&mut self) -> Result<Option<String>, KubernetesError> {
        let (begun, at) = (Instant::now(), Timestamp::now());
        let found = self.read().await?;
        self.write(found, begun, at).await
    }

    async fn write(&mut self, found: Option<Lease>, begun: Instant, at: Timestamp) -> Result<Option<String>, KubernetesError> {
        let written = match self.seen.step(found.as_ref(), &self.candidate.identity, Instant::now(), at) {
            Step::StandBy(holder) => return Ok(Some(holder)),
            Step::Create(spec) => {
                let metadata = ObjectMeta { name: Some(self.candidate.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                request("create the Lease", self.leases.create(&PostParams::default(), &lease)).await?
            }
            Step::Replace(lease) => self.replace(&lease).await?,
        };
        debug!(resource_version = written.metadata.resource_version, "the lease is ours");
        self.seen = LeaseSeen { resource_version: written.metadata.resource_version.clone(), since: Some(begun) };
        self.renewed = begun;
        let released_by = written.metadata.annotations.as_ref().and_then(|annotations| annotations.get(RELEASED_BY_ANNOTATION));
        self.teller.was_released_by(released_by.map(String::as_str));
        self.teller.renewed(&self.candidate.identity, begun.into_std(), at);
        Ok(None)
    }

    async fn read(&self) -> Result<Option<Lease>, KubernetesError> {
        request("read the Lease", self.leases.get_opt(&self.candidate.name)).await
    }

    /// Replaces the lease. Fails with a conflict if it is no longer in the version that was read.
    async fn replace(&self, lease: &Lease) -> Result<Lease, KubernetesError> {
        request("replace the Lease", self.leases.replace(&self.candidate.name, &PostParams::default(), lease)).await
    }
}

/// Logs a failed request. A missing permission is an error, because it does not pass by itself.
fn complain(error: &KubernetesError) {
    if error.kind() == RequestErrorKind::Conflict {
        debug!(error = chain(error), "another process was faster");
    } else if error.is_denied() {
        error!(error = chain(error), "the lease may not be used: give the operator the right to get, create and update it");
    } else {
        warn!(error = chain(error), "the lease could not be read or renewed; it is tried again");
    }
}

/// The period, lengthened at random by up to 1.2 times itself (`JitterFactor` of client-go), so that candidates do not ask at the
/// same moment.
fn jittered(period: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // If the system gives no random bytes, candidates ask at the same moment, which does no harm.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    period + period.mul_f64(f64::from(byte[0]) / 255.0 * 1.2)
}

#[cfg(test)]
mod tests;
