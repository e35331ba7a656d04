//! What Atlas listed for each database user, and what was made since. Losing it costs one request for the list.
//!
//! # Guarantees
//!
//! - What was answered to one account (endpoint, project and credentials Secret) is known for that account alone. Whoever names the
//!   project of another, with an endpoint or credentials of its own, changes nothing of what is known for the other.
//! - Serial numbers in our own Secrets count for their project, whatever account they were made with and in whichever scope they are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::ResourceExt;
use tracing::debug;

use crate::{
    Context,
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateStatus, IssuerIdentity, SecretLocation,
        names::{ISSUER_ANNOTATION, SERIAL_NUMBER_ANNOTATION},
    },
    certificate::SerialNumber,
    decide::{Holdings, ListedCertificate, RecalledUser, UserRecord},
    issuer::atlas::Account,
    secret::sha256,
};

/// How much of the digest of a user stands in a claim, in hexadecimal digits.
const KEY_DIGITS: usize = 32;

/// A database user, as one account sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserKey {
    /// Who asks whom.
    pub account: Account,
    /// The name of the user.
    pub username: String,
}

/// How many listed certificates are remembered of all users together: about 12 MB. The longest lists are forgotten first, which costs another
/// request for each.
const MOST_REMEMBERED: usize = 100_000;

/// A user takes as much memory as this many listed certificates, besides its list.
const RECORD_SIZE: usize = 4;

impl UserKey {
    /// A digest of it, as it stands in claims.
    #[must_use]
    pub fn digest(&self) -> String {
        let Account { endpoint, project_id, credentials_uid } = &self.account;
        let mut digest = sha256(&format!("{endpoint}\n{project_id}\n{credentials_uid}\n{}", self.username));
        digest.truncate(KEY_DIGITS);
        digest
    }

    /// What Secrets name as the issuer of this user's certificates.
    fn issuer(&self) -> IssuerIdentity {
        IssuerIdentity::of_atlas_project(&self.account.project_id)
    }
}

/// The users whose list was asked for within the hour, and the scopes whose Secrets hold their certificates. One for the whole process.
pub struct DatabaseUsers {
    records: Mutex<HashMap<UserKey, UserRecord>>,
    scopes: Mutex<Vec<Weak<Context>>>,
    since: Instant,
}

impl Default for DatabaseUsers {
    fn default() -> Self {
        Self { records: Mutex::default(), scopes: Mutex::default(), since: Instant::now() }
    }
}

/// So long after the start of the process the Secrets of other scopes are waited for. A namespace that the operator may not read must not
/// hold up the others for longer.
const SCOPES_AWAITED: Duration = Duration::from_secs(20);

impl DatabaseUsers {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserKey, UserRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the controllers of one scope: what their Secrets hold is known in every scope.
    pub(crate) fn join(&self, scope: &Arc<Context>) {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(scope));
    }

    /// Waits at the start until the Secrets of all scopes are known: until then, what another scope holds would look unaccounted.
    pub(crate) async fn all_scopes(&self) {
        let unfilled: Vec<_> = self.scopes().into_iter().filter(|scope| !scope.lists.are_filled()).collect();
        if unfilled.is_empty() {
            return;
        }
        let left = SCOPES_AWAITED.saturating_sub(self.since.elapsed());
        let filled = futures::future::join_all(unfilled.iter().map(|scope| scope.lists.filled()));
        if tokio::time::timeout(left, filled).await.is_err() {
            debug!("the Secrets of some namespace are not known");
        }
    }

    fn scopes(&self) -> Vec<Arc<Context>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
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
    pub fn made(&self, user: &UserKey, serial_number: SerialNumber, now: Timestamp) {
        if let Some(record) = self.lock().get_mut(user) {
            record.made_since.insert(serial_number, now);
        }
    }

    /// What was known holds no longer: an answer was lost.
    pub fn forget(&self, user: &UserKey) {
        self.lock().remove(user);
    }

    /// What was known holds no longer of the user with this digest.
    pub fn forget_digest(&self, digest: &str) {
        self.lock().retain(|user, _| user.digest() != digest);
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
    Some(UserKey { account: loaded.issuer.account()?, username })
}

/// What is known of a user, if Atlas was asked for it within the hour.
pub fn recall(context: &Context, user: &UserKey, now: Timestamp) -> Option<RecalledUser> {
    let users = &context.settings.users;
    let record = users.get(user, now)?;
    let (listed, issuer) = (record.serial_numbers(), user.issuer());
    let (mut statuses, mut holdings) = (Vec::new(), Holdings::default());
    for scope in users.scopes() {
        let names_user = |object: &DatabaseUserCertificate| {
            object.spec.username.as_ref().is_none_or(|name| *name == user.username)
                && user_of(&scope, object).as_ref() == Some(user)
        };
        let (mut own, mut others) = (BTreeSet::new(), Vec::new());
        for object in scope.certificate_store.state() {
            if names_user(&object) {
                own.insert(SecretLocation::of(&object));
                statuses.push(object.status.clone());
            } else if let Some(status) = object.status.as_ref().filter(|_| !listed.is_empty()) {
                others.extend(remembered(status, &issuer, &listed));
            }
        }
        holdings.accounted.extend(others);
        add_held(&scope, &issuer, &listed, &own, &mut holdings);
    }
    let statuses: Vec<_> = statuses.iter().map(Option::as_ref).collect();
    Some(record.recalled(user.digest(), &statuses, holdings))
}

/// Which of the certificates that the object counts as unaccounted a Secret of ours holds. A process that was cut off may have saved one after
/// all, to the Secret of another object of the same user. `issuer` is that of the object.
pub fn held(context: &Context, object: &DatabaseUserCertificate, issuer: &IssuerIdentity) -> BTreeSet<SerialNumber> {
    let counted = object.status.as_ref().and_then(|status| status.unaccounted_certificates.as_ref());
    let counted = counted.map(|counted| counted.certificates.as_slice()).unwrap_or_default();
    let counted: BTreeSet<&str> = counted.iter().map(|listed| listed.serial_number.as_str()).collect();
    let mut holdings = Holdings::default();
    if !counted.is_empty() {
        for scope in context.settings.users.scopes() {
            add_held(&scope, issuer, &counted, &BTreeSet::new(), &mut holdings);
        }
    }
    holdings.accounted
}

/// The listed serial numbers of this issuer that the status of an object remembers.
fn remembered<'a>(
    status: &'a DatabaseUserCertificateStatus,
    issuer: &'a IssuerIdentity,
    listed: &'a BTreeSet<&str>,
) -> impl Iterator<Item = SerialNumber> + 'a {
    let of_issuer = status.history.iter().filter(|issued| issued.issuer.as_deref() == Some(issuer.as_str()));
    let among = of_issuer.map(|issued| issued.serial_number.as_str()).filter(|serial_number| listed.contains(serial_number));
    among.map(SerialNumber::from)
}

/// Which of these serial numbers Secrets of a scope hold: by the Secrets that the watch shows, and by what this process read, wrote or
/// keeps. `own` are the Secrets of the objects that name the user.
fn add_held(
    scope: &Context,
    issuer: &IssuerIdentity,
    listed: &BTreeSet<&str>,
    own: &BTreeSet<SecretLocation>,
    holdings: &mut Holdings,
) {
    if listed.is_empty() {
        return;
    }
    holdings.accounted.extend(scope.memory.serial_numbers_among(listed));
    for secret in scope.secrets.state() {
        let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
        let serial_number = annotation(SERIAL_NUMBER_ANNOTATION).filter(|serial_number| listed.contains(serial_number));
        let held = serial_number.filter(|_| annotation(ISSUER_ANNOTATION) == Some(issuer.as_str()));
        let Some(serial_number) = held else { continue };
        let is_own = own.contains(&SecretLocation::new(secret.namespace().unwrap_or_default(), secret.name_any()));
        holdings.elsewhere += usize::from(!is_own);
        holdings.accounted.insert(serial_number.into());
    }
}
