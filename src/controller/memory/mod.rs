//! What this process remembers between two looks. Losing it costs reads, waits, and any certificate not yet in its Secret.

pub mod keys;
pub(crate) mod places;
mod shares;
pub mod turns;
pub mod users;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{secret::SecretContent, triggers::Waiting};
use crate::decide::{ObjectMemory, RememberedSecret, SecretSource, SecretVersion, SecretView, is_older, secret_source};
use crate::{
    api::{DeletionPolicy, ObjectKey, SecretLocation},
    certificate::SerialNumber,
};

/// A certificate that was minted and is not in its Secret yet, with its key.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The name of its Secret.
    pub secret_name: String,
    /// What becomes of the Secret when the object is deleted.
    pub deletion_policy: DeletionPolicy,
    /// What the Secret is to hold.
    pub content: SecretContent,
}

/// How long our own write is expected on the watch. Being wrong costs reads only: every write has a precondition.
pub(super) const ECHO_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Remembered {
    objects: HashMap<ObjectKey, RememberedObject>,
    secrets: HashMap<SecretLocation, SecretMemory>,
    told_unreadable: HashMap<Waiting, String>,
}

/// What is remembered of the object with this UID. Another one may come under its name.
#[derive(Default)]
struct RememberedObject {
    uid: String,
    memory: ObjectMemory,
    kept: Option<Kept>,
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

impl OwnWrite {
    fn is_recent(&self) -> bool {
        self.since.elapsed() < ECHO_LIMIT
    }
}

/// The memory.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the object with this UID.
    #[must_use]
    pub fn object(&self, name: &ObjectKey, uid: &str) -> ObjectMemory {
        let remembered = self.lock();
        let Some(object) = remembered.objects.get(name).filter(|object| object.uid == uid) else {
            return ObjectMemory::default();
        };
        // Without its key a certificate cannot be saved.
        let unsaved = object.memory.unsaved.clone().filter(|_| object.kept.is_some());
        ObjectMemory { unsaved, ..object.memory.clone() }
    }

    /// Remembers this of the object with this UID. The key is dropped once `unsaved` is empty.
    pub fn remember(&self, name: &ObjectKey, uid: &str, memory: &ObjectMemory) {
        let mut remembered = self.lock();
        if *memory == ObjectMemory::default() {
            if remembered.objects.get(name).is_some_and(|object| object.uid == uid) {
                remembered.objects.remove(name);
            }
            return;
        }
        let object = remembered.of(name, uid);
        object.memory.clone_from(memory);
        if memory.unsaved.is_none() {
            object.kept = None;
        }
    }

    /// Keeps a certificate that was minted.
    pub fn keep(&self, name: &ObjectKey, uid: &str, kept: Kept) {
        self.lock().of(name, uid).kept = Some(kept);
    }

    /// The certificate that was minted for the object with this UID and is in no Secret yet.
    #[must_use]
    pub fn kept(&self, name: &ObjectKey, uid: &str) -> Option<Kept> {
        self.lock().objects.get(name).filter(|object| object.uid == uid)?.kept.clone()
    }

    /// The objects whose certificates are in no Secret yet, with the serial numbers.
    #[must_use]
    pub fn all_kept(&self) -> Vec<(ObjectKey, SerialNumber)> {
        let remembered = self.lock();
        let kept = remembered.objects.iter().filter_map(|(name, object)| Some((name, object.kept.as_ref()?)));
        kept.map(|(name, kept)| (name.clone(), kept.content.pair.facts().serial_number.clone())).collect()
    }

    /// The object is gone.
    pub fn forget(&self, name: &ObjectKey) {
        self.lock().objects.remove(name);
    }

    /// Remembers a Secret that was read.
    pub fn read(&self, secret: SecretLocation, view: SecretView) {
        self.lock().secrets.insert(secret, SecretMemory { view, awaiting_echo: None });
    }

    /// Remembers a Secret that we wrote for the object with this UID; until the watch shows this version, it is newer than what the watch
    /// has shown.
    pub fn wrote(&self, secret: SecretLocation, owner: String, view: SecretView) {
        let awaiting_echo = Some(OwnWrite { since: Instant::now(), owner });
        self.lock().secrets.insert(secret, SecretMemory { view, awaiting_echo });
    }

    /// From where the Secret of the object with this UID is known; and the Secret, if that is this memory. See [`secret_source`].
    #[must_use]
    pub fn known_secret(
        &self,
        secret: &SecretLocation,
        owner: &str,
        shown: Option<SecretVersion<'_>>,
        verified: Option<SecretVersion<'_>>,
        has_certificate: bool,
    ) -> (SecretSource, Option<SecretView>) {
        let remembered = self.lock();
        let memory = remembered.secrets.get(secret);
        let is_awaited = |write: &OwnWrite| write.owner == owner && write.is_recent();
        let known = memory.map(|memory| RememberedSecret {
            version: SecretVersion { uid: &memory.view.uid, resource_version: &memory.view.resource_version },
            is_awaited: memory.awaiting_echo.as_ref().is_some_and(is_awaited),
        });
        let source = secret_source(shown, known, verified, has_certificate);
        (source, memory.filter(|_| source == SecretSource::Memory).map(|memory| memory.view.clone()))
    }

    /// Whether this process has read or written the Secret with this UID as one of ours.
    #[must_use]
    pub fn knows(&self, secret: &SecretLocation, uid: &str) -> bool {
        self.lock().secrets.get(secret).is_some_and(|memory| memory.view.uid == uid)
    }

    /// Whether the echo of our own write is awaited.
    #[must_use]
    pub fn awaits_echo(&self, secret: &SecretLocation) -> bool {
        let remembered = self.lock();
        remembered.secrets.get(secret).and_then(|memory| memory.awaiting_echo.as_ref()).is_some_and(OwnWrite::is_recent)
    }

    /// The watch has shown a version of a Secret.
    pub fn saw(&self, secret: &SecretLocation, resource_version: &str) {
        let mut remembered = self.lock();
        let Some(memory) = remembered.secrets.get_mut(secret) else { return };
        if !is_older(resource_version, &memory.view.resource_version) {
            memory.awaiting_echo = None;
        }
    }

    /// The watch has shown that a Secret is gone, or has lost our label.
    pub fn saw_deleted(&self, secret: &SecretLocation, uid: &str) {
        let mut remembered = self.lock();
        if remembered.secrets.get(secret).is_some_and(|memory| memory.view.uid == uid) {
            remembered.secrets.remove(secret);
        }
    }

    /// The watch has listed anew, beginning at `since`: what was written before is either in that list or gone. What is neither shown nor
    /// awaited is forgotten.
    pub fn saw_everything_since(&self, since: Instant, is_shown: impl Fn(&SecretLocation) -> bool) {
        self.lock().secrets.retain(|secret, memory| {
            if memory.awaiting_echo.as_ref().is_some_and(|write| write.since < since) {
                memory.awaiting_echo = None;
            }
            memory.awaiting_echo.is_some() || is_shown(secret)
        });
    }

    /// Which of `wanted` this process has read, written or keeps.
    #[must_use]
    pub fn serial_numbers_among(&self, wanted: &BTreeSet<&str>) -> BTreeSet<SerialNumber> {
        let remembered = self.lock();
        let kept = remembered.objects.values().filter_map(|object| Some(object.kept.as_ref()?.content.pair.facts()));
        let seen = remembered.secrets.values().filter_map(|secret| secret.view.certificate.as_ref().ok());
        let known = kept.chain(seen).map(|facts| &facts.serial_number);
        known.filter(|serial_number| wanted.contains(serial_number.as_str())).cloned().collect()
    }

    /// Notes that this version is unreadable; true if that is new.
    #[must_use]
    pub fn tells_unreadable(&self, who: &Waiting, resource_version: &str) -> bool {
        self.lock().told_unreadable.insert(who.clone(), resource_version.to_owned()).as_deref() != Some(resource_version)
    }

    /// The object can be read, or is gone.
    pub fn forget_unreadable(&self, who: &Waiting) {
        self.lock().told_unreadable.remove(who);
    }
}

impl Remembered {
    /// What is remembered of the object with this UID. Creates the entry, and empties that of an object with another UID.
    fn of(&mut self, name: &ObjectKey, uid: &str) -> &mut RememberedObject {
        let object = self.objects.entry(name.clone()).or_default();
        if object.uid != uid {
            *object = RememberedObject { uid: uid.to_owned(), ..RememberedObject::default() };
        }
        object
    }
}

#[cfg(test)]
mod tests;
