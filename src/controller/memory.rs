//! What this process remembers between two looks at an object. Losing it costs reads and waits, never a certificate that was saved.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{secret::SecretContent, triggers::Waiting};
use crate::{certificate::CertificateFacts, decide::SecretView, issuer::IssueError};

/// A namespaced object's namespace and name.
pub type NamespacedName = (String, String);

/// A certificate that was issued and is not in its Secret yet.
#[derive(Clone, Debug)]
pub struct Unsaved {
    /// The UID of the object that it was issued for.
    pub uid: String,
    /// The name of its Secret.
    pub secret_name: String,
    /// What the Secret is to hold.
    pub content: SecretContent,
    /// After a refused write: when it is tried again, and why it was refused.
    pub refused: Option<(Timestamp, String)>,
}

/// How long the echo of our own write is awaited on the watch. Only reads depend on it: every write has a precondition.
pub(super) const ECHO_LIMIT: Duration = Duration::from_secs(30);

/// More repairs than decisions look at.
const REPAIRS: usize = 8;

#[derive(Default)]
struct Remembered {
    secrets: HashMap<NamespacedName, SecretMemory>,
    unsaved: HashMap<NamespacedName, Unsaved>,
    failures: HashMap<NamespacedName, u32>,
    repairs: HashMap<NamespacedName, Vec<Timestamp>>,
    ended: HashMap<NamespacedName, (String, IssueError)>,
    told_unreadable: HashMap<Waiting, String>,
}

struct SecretMemory {
    view: SecretView,
    /// Our own write, until the watch has shown that version.
    awaiting_echo: Option<OwnWrite>,
}

struct OwnWrite {
    since: Instant,
    /// The UID of the object that it was written for; another may have come under its name.
    owner: String,
}

impl SecretMemory {
    fn is_awaited(&self) -> bool {
        self.awaiting_echo.as_ref().is_some_and(|write| write.since.elapsed() < ECHO_LIMIT)
    }
}

/// Versions of one resource are numbers that grow (Kubernetes API concepts, resource versions). Where they are not, the answer is
/// no, which costs a read.
fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}

/// The memory.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a Secret that was read.
    pub fn read(&self, secret: NamespacedName, view: SecretView) {
        self.lock().secrets.insert(secret, SecretMemory { view, awaiting_echo: None });
    }

    /// Remembers a Secret that we wrote for the object with this UID; until the watch shows this version, it is newer than what the watch
    /// has shown.
    pub fn wrote(&self, secret: NamespacedName, owner: String, view: SecretView) {
        let awaiting_echo = Some(OwnWrite { since: Instant::now(), owner });
        self.lock().secrets.insert(secret, SecretMemory { view, awaiting_echo });
    }

    /// The Secret in this version.
    #[must_use]
    pub fn recall(&self, secret: &NamespacedName, uid: &str, resource_version: &str) -> Option<SecretView> {
        let memory = self.lock();
        let view = &memory.secrets.get(secret)?.view;
        (view.uid == uid && view.resource_version == resource_version).then(|| view.clone())
    }

    /// The Secret as we wrote it for the object with this UID, while the watch has shown nothing newer than `seen` (nothing at all: `None`).
    #[must_use]
    pub fn recall_own_write(&self, secret: &NamespacedName, owner: &str, seen: Option<&str>) -> Option<SecretView> {
        let memory = self.lock();
        let secret = memory.secrets.get(secret)?;
        let is_newer = seen.is_none_or(|seen| is_older(seen, &secret.view.resource_version));
        let is_for_owner = secret.awaiting_echo.as_ref().is_some_and(|write| write.owner == owner);
        (is_newer && is_for_owner && secret.is_awaited()).then(|| secret.view.clone())
    }

    /// Whether the echo of our own write is awaited.
    #[must_use]
    pub fn awaits_echo(&self, secret: &NamespacedName) -> bool {
        self.lock().secrets.get(secret).is_some_and(SecretMemory::is_awaited)
    }

    /// The watch has shown a version of a Secret.
    pub fn saw(&self, secret: &NamespacedName, resource_version: &str) {
        let mut memory = self.lock();
        let Some(memory) = memory.secrets.get_mut(secret) else { return };
        if !is_older(resource_version, &memory.view.resource_version) {
            memory.awaiting_echo = None;
        }
    }

    /// The watch has shown that a Secret is gone, or has lost our label.
    pub fn saw_deleted(&self, secret: &NamespacedName, uid: &str) {
        let mut memory = self.lock();
        if memory.secrets.get(secret).is_some_and(|memory| memory.view.uid == uid) {
            memory.secrets.remove(secret);
        }
    }

    /// The watch has listed anew, beginning at `since`: what was written before is either in that list or gone.
    pub fn saw_everything_since(&self, since: Instant) {
        for memory in self.lock().secrets.values_mut() {
            if memory.awaiting_echo.as_ref().is_some_and(|write| write.since < since) {
                memory.awaiting_echo = None;
            }
        }
    }

    /// Keeps a certificate that could not be written.
    pub fn keep_unsaved(&self, object: NamespacedName, unsaved: Unsaved) {
        self.lock().unsaved.insert(object, unsaved);
    }

    /// The certificate that could not be written for the object with this UID.
    #[must_use]
    pub fn unsaved(&self, object: &NamespacedName, uid: &str) -> Option<Unsaved> {
        self.lock().unsaved.get(object).filter(|unsaved| unsaved.uid == uid).cloned()
    }

    /// The Secret refused the certificate, which is returned; it is tried again at this time.
    pub fn refused(&self, object: &NamespacedName, until: Timestamp, why: &str) -> Option<CertificateFacts> {
        let mut memory = self.lock();
        let unsaved = memory.unsaved.get_mut(object)?;
        unsaved.refused = Some((until, why.to_owned()));
        Some(unsaved.content.pair.facts().clone())
    }

    /// The write of the certificate that is kept is tried again at once.
    pub fn retry_now(&self, object: &NamespacedName) {
        if let Some(unsaved) = self.lock().unsaved.get_mut(object) {
            unsaved.refused = None;
        }
    }

    /// The objects whose certificates could not be written, with the serial numbers.
    #[must_use]
    pub fn all_unsaved(&self) -> Vec<(NamespacedName, String)> {
        let memory = self.lock();
        let serial_number = |unsaved: &Unsaved| unsaved.content.pair.facts().serial_number.clone();
        memory.unsaved.iter().map(|(object, unsaved)| (object.clone(), serial_number(unsaved))).collect()
    }

    /// How the request under a claim ended, until the status tells.
    pub fn ended(&self, object: NamespacedName, claim: String, error: IssueError) {
        self.lock().ended.insert(object, (claim, error));
    }

    /// How the request under this claim ended, if it failed and no status could tell.
    #[must_use]
    pub fn end_of(&self, object: &NamespacedName, claim: &str) -> Option<IssueError> {
        self.lock().ended.get(object).filter(|(id, _)| id == claim).map(|(_, error)| error.clone())
    }

    /// The status tells.
    pub fn forget_end(&self, object: &NamespacedName) {
        self.lock().ended.remove(object);
    }

    /// The certificate is in its Secret now, or not wanted there any more.
    pub fn saved(&self, object: &NamespacedName) {
        self.lock().unsaved.remove(object);
    }

    /// The Secret was put right without a new certificate. Some of the last repairs are remembered.
    pub fn repaired(&self, object: NamespacedName, now: Timestamp) {
        let mut memory = self.lock();
        let repairs = memory.repairs.entry(object).or_default();
        repairs.push(now);
        let surplus = repairs.len().saturating_sub(REPAIRS);
        repairs.drain(..surplus);
    }

    /// When the Secret was put right, as far as is remembered.
    #[must_use]
    pub fn repairs(&self, object: &NamespacedName) -> Vec<Timestamp> {
        self.lock().repairs.get(object).cloned().unwrap_or_default()
    }

    /// Those of these serial numbers whose certificates this process has read, written, or keeps until they can be written.
    #[must_use]
    pub fn serial_numbers_among(&self, wanted: &BTreeSet<&str>) -> BTreeSet<String> {
        let memory = self.lock();
        let unsaved = memory.unsaved.values().map(|unsaved| unsaved.content.pair.facts());
        let seen = memory.secrets.values().filter_map(|secret| secret.view.certificate.as_ref().ok());
        let known = unsaved.chain(seen).map(|facts| &facts.serial_number);
        known.filter(|serial| wanted.contains(serial.as_str())).cloned().collect()
    }

    /// Counts a pass that failed for reasons of the API server; the number of failures in a row.
    #[must_use]
    pub fn count_failure(&self, object: &NamespacedName) -> u32 {
        let mut memory = self.lock();
        let count = memory.failures.entry(object.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// A pass succeeded.
    pub fn forget_failures(&self, object: &NamespacedName) {
        self.lock().failures.remove(object);
    }

    /// Whether it is still to be told that this version of an object cannot be read; it counts as told then.
    #[must_use]
    pub fn tells_unreadable(&self, who: &Waiting, resource_version: &str) -> bool {
        self.lock().told_unreadable.insert(who.clone(), resource_version.to_owned()).as_deref() != Some(resource_version)
    }

    /// The object can be read, or is gone.
    pub fn forget_unreadable(&self, who: &Waiting) {
        self.lock().told_unreadable.remove(who);
    }

    /// The object is gone.
    pub fn forget(&self, object: &NamespacedName) {
        let mut memory = self.lock();
        memory.failures.remove(object);
        memory.repairs.remove(object);
        memory.ended.remove(object);
        memory.unsaved.remove(object);
    }
}
