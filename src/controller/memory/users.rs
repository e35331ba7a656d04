//! What Atlas listed for each database user, and what was made since. Losing it costs one request for the list.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    Context,
    api::{
        DatabaseUserCertificate, IssuerIdentity,
        names::{ISSUER_ANNOTATION, SERIAL_NUMBER_ANNOTATION},
    },
    certificate::SerialNumber,
    decide::{ListedCertificate, RecalledUser, UserRecord},
};

/// A database user, at its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserKey {
    /// The issuer.
    pub issuer: IssuerIdentity,
    /// The name of the user.
    pub username: String,
}

/// How many listed certificates are remembered of all users together: about 12 MB. The longest lists are forgotten first, which costs another
/// request for each.
const MOST_REMEMBERED: usize = 100_000;

/// A user takes as much memory as this many listed certificates, besides its list.
const RECORD_SIZE: usize = 4;

/// The users whose list was asked for within the hour.
#[derive(Default)]
pub struct DatabaseUsers(Mutex<HashMap<UserKey, UserRecord>>);

impl DatabaseUsers {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserKey, UserRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the list; `None` if the credentials may not read it.
    pub fn listed(&self, user: UserKey, listed: Option<Vec<ListedCertificate>>, now: Timestamp) {
        let mut users = self.lock();
        users.retain(|_, record| record.is_believed(now));
        let record = UserRecord::new(now, listed);
        users.remove(&user);
        make_room(&mut users, size(&record));
        users.insert(user, record);
    }

    /// A certificate was made.
    pub fn made(&self, user: &UserKey, now: Timestamp) {
        if let Some(record) = self.lock().get_mut(user) {
            record.made_since.push(now);
        }
    }

    /// What was known holds no longer: an answer was lost.
    pub fn forget(&self, user: &UserKey) {
        self.lock().remove(user);
    }

    /// Nothing holds any longer: a request was lost, and nobody knows for which user.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    pub(super) fn get(&self, user: &UserKey, now: Timestamp) -> Option<UserRecord> {
        self.lock().get(user).filter(|record| record.is_believed(now)).cloned()
    }
}

/// How much memory a record takes, in listed certificates.
fn size(record: &UserRecord) -> usize {
    RECORD_SIZE + record.listed.as_ref().map_or(0, Vec::len)
}

/// Forgets the longest lists until there is room for one of this size.
fn make_room(users: &mut HashMap<UserKey, UserRecord>, wanted: usize) {
    let mut all: usize = users.values().map(size).sum();
    while all + wanted > MOST_REMEMBERED {
        let Some(longest) = users.iter().max_by_key(|(_, record)| size(record)).map(|(user, _)| user.clone()) else { return };
        all -= users.remove(&longest).as_ref().map_or(0, size);
    }
}

/// The database user that an object names, if its issuer is known.
fn user_of(context: &Context, object: &DatabaseUserCertificate) -> Option<UserKey> {
    let loaded = context.loaded_issuer(object)?;
    let username = object.spec.username.clone().or_else(|| loaded.facts.username.clone())?;
    Some(UserKey { issuer: loaded.facts.identity.clone(), username })
}

/// What is known of a user, if Atlas was asked for it within the hour.
pub fn recall(context: &Context, user: &UserKey, now: Timestamp) -> Option<RecalledUser> {
    let record = context.settings.users.get(user, now)?;
    let objects = context.certificate_store.state_filter(|object| {
        object.spec.username.as_ref().is_none_or(|name| *name == user.username)
            && user_of(context, object).as_ref() == Some(user)
    });
    let statuses: Vec<_> = objects.iter().map(|object| object.status.as_ref()).collect();
    Some(record.recalled(&statuses, held(context, &user.issuer, &record.serial_numbers())))
}

/// Which of these serial numbers Secrets of ours hold: by the Secrets that the watch shows, and by what this process read, wrote or keeps.
fn held(context: &Context, issuer: &IssuerIdentity, listed: &BTreeSet<&str>) -> BTreeSet<SerialNumber> {
    if listed.is_empty() {
        return BTreeSet::new();
    }
    let mut held = context.memory.serial_numbers_among(listed);
    for secret in context.secrets.state() {
        let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
        let serial_number = annotation(SERIAL_NUMBER_ANNOTATION).filter(|serial_number| listed.contains(serial_number));
        held.extend(serial_number.filter(|_| annotation(ISSUER_ANNOTATION) == Some(issuer.as_str())).map(SerialNumber::from));
    }
    held
}
