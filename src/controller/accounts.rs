//! What Atlas listed for each database user, and what was made since. Losing it costs one request for the list.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Context;
use crate::{
    api::{
        DatabaseUserCertificate,
        names::{ISSUER_ANNOTATION, SERIAL_NUMBER_ANNOTATION},
    },
    decide::UserAccount,
    issuer::atlas::ListedCertificate,
};

/// The list is believed for this long, and asked for no more often but after a lost answer.
const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

/// A database user: the identity of its project's issuer, and its name.
pub type UserKey = (String, String);

#[derive(Clone)]
struct Account {
    looked_at: Timestamp,
    /// `None` where the list may not be read.
    listed: Option<Vec<ListedCertificate>>,
    made_since: Vec<Timestamp>,
}

/// The accounts of all users that certificates were made for within the hour.
#[derive(Default)]
pub struct Accounts(Mutex<HashMap<UserKey, Account>>);

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserKey, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the list; `None` if it may not be read.
    pub fn listed(&self, user: UserKey, listed: Option<Vec<ListedCertificate>>, now: Timestamp) {
        let mut accounts = self.lock();
        accounts.retain(|_, account| is_believed(account, now));
        accounts.insert(user, Account { looked_at: now, listed, made_since: Vec::new() });
    }

    /// A certificate was made.
    pub fn made(&self, user: &UserKey, now: Timestamp) {
        if let Some(account) = self.lock().get_mut(user) {
            account.made_since.push(now);
        }
    }

    /// What was known holds no longer: an answer was lost.
    pub fn forget(&self, user: &UserKey) {
        self.lock().remove(user);
    }

    /// Nothing holds any longer: a request was lost, and it is not known whose.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn recall(&self, user: &UserKey, now: Timestamp) -> Option<Account> {
        self.lock().get(user).filter(|account| is_believed(account, now)).cloned()
    }
}

fn is_believed(account: &Account, now: Timestamp) -> bool {
    now.duration_since(account.looked_at).abs() < BELIEVED
}

/// The database user that an object names, if its issuer is known.
fn user_of(context: &Context, object: &DatabaseUserCertificate) -> Option<UserKey> {
    let loaded = context.loaded_issuer(object)?;
    let username = object.spec.username.clone().or_else(|| loaded.facts.username.clone())?;
    Some((loaded.facts.identity.clone(), username))
}

/// What is known of a user, if Atlas was asked for it within the hour.
pub(super) struct Recalled {
    /// For decisions.
    pub(super) account: UserAccount,
    /// Atlas's list, where it may be read.
    pub(super) list: Option<RecalledList>,
}

/// Atlas's list, when it was asked for, and which of its serial numbers are accounted for.
pub(super) struct RecalledList {
    pub(super) listed: Vec<ListedCertificate>,
    pub(super) asked_at: Timestamp,
    pub(super) accounted: BTreeSet<String>,
}

/// The account of a user: Atlas's list, what was made since, and what the objects remember.
pub(super) fn recall(context: &Context, user: &UserKey, now: Timestamp) -> Option<Recalled> {
    let Account { looked_at, listed, made_since } = context.accounts.recall(user, now)?;
    let objects = context.certificate_store.state_filter(|object| {
        object.spec.username.as_ref().is_none_or(|name| *name == user.1) && user_of(context, object).as_ref() == Some(user)
    });
    let history = || objects.iter().filter_map(|object| object.status.as_ref()).flat_map(|status| &status.history);
    let mut made: BTreeMap<&str, Timestamp> =
        history().map(|issued| (issued.serial_number.as_str(), issued.recorded_at.0)).collect();
    // Without the list, what may have been made for nothing is known from the objects alone.
    let presumed: Vec<Timestamp> =
        if listed.is_none() { objects.iter().flat_map(|object| presumed(object)).collect() } else { Vec::new() };
    let remembered = made
        .values()
        .filter(|time| made_since.iter().any(|since| time.duration_since(*since).abs() < SignedDuration::from_mins(1)))
        .count();
    made.extend(listed.iter().flatten().map(|listed| (listed.serial_number.as_str(), listed.made_at)));
    // What was made since the list is in a status by now, unless its answer was lost or its status is on the way.
    let made = made.into_values().chain(made_since.into_iter().skip(remembered)).chain(presumed).collect();
    let list = listed.map(|listed| {
        let in_history = history().map(|issued| issued.serial_number.as_str()).collect();
        RecalledList { accounted: accounted(context, &user.0, &listed, &in_history), listed, asked_at: looked_at }
    });
    Some(Recalled { account: UserAccount { made, objects: objects.len() }, list })
}

/// When the answers were lost that an object remembers.
fn presumed(object: &DatabaseUserCertificate) -> Vec<Timestamp> {
    let Some(status) = &object.status else { return Vec::new() };
    let count = status.unaccounted_certificates.as_ref().map_or(0, |found| found.presumed);
    let when = status.failure.as_ref().map(|failure| failure.last_time.0);
    when.into_iter().cycle().take(usize::try_from(count).unwrap_or_default()).collect()
}

/// Which of the listed serial numbers are or were in Secrets of ours: by the Secrets that the watch shows, by what this process wrote
/// or keeps, and by what the objects remember.
fn accounted(context: &Context, identity: &str, listed: &[ListedCertificate], in_history: &BTreeSet<&str>) -> BTreeSet<String> {
    let listed: BTreeSet<&str> = listed.iter().map(|listed| listed.serial_number.as_str()).collect();
    let mut accounted = context.memory.serial_numbers_among(&listed);
    accounted.extend(listed.intersection(in_history).map(|serial| (*serial).to_owned()));
    if !listed.is_empty() {
        for secret in context.secrets.state() {
            let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
            let serial = annotation(SERIAL_NUMBER_ANNOTATION).filter(|serial| listed.contains(serial));
            accounted.extend(serial.filter(|_| annotation(ISSUER_ANNOTATION) == Some(identity)).map(ToOwned::to_owned));
        }
    }
    accounted
}
