//! The certificates that were made for a database user, and which of them are in no Secret.
//!
//! Atlas can neither revoke nor return what it made, and limits how many certificates a user may have. So the operator counts
//! them, by Atlas's list if it may read that, and asks for no more in a day than the objects that name the user can need.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Decision,
    brake::Brake,
    lost::{is_unlisted, keep_newest},
};
use crate::{
    api::{
        DatabaseUserCertificateStatus, Issuance, ListedBefore, Reason, UnaccountedCertificate, UnaccountedCertificates,
        truncated_to_second,
    },
    certificate::SerialNumber,
};

/// A day allows one certificate for each object that names the user, and this many more: answers get lost, Secrets get deleted.
const SPARE_MINTS: usize = 4;
const BUDGET_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// The most lost answers of one object that count against the budget.
const MOST_PRESUMED: usize = 1_000;

/// How many the status names. Its count covers all.
const NAMED: usize = 20;

/// How many a claim names of those that Atlas listed before it, or that were made since: as many as the schema admits.
const REMEMBERED: usize = 20;

/// Atlas's list is believed for this long. It is asked for again no sooner, except after a lost answer.
const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

/// So long after a request, or after a list, whatever it made or had is in Atlas's list.
const LISTED_BY_THEN: SignedDuration = SignedDuration::from_mins(5);

/// A certificate that Atlas lists. It has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCertificate {
    /// Serial number, upper-case hexadecimal as `openssl x509 -serial` prints it.
    pub serial_number: SerialNumber,
    /// When it was asked for.
    pub made_at: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

/// What rules need to know of the certificates of one database user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserCertificates {
    /// Whose they are: a digest of the endpoint, the project, the credentials and the user name.
    pub key: String,
    /// What Atlas listed, as a claim remembers it; `None` where the credentials may not read the list.
    pub listed: Option<ListedBefore>,
    /// How many of the objects have a claim that stands, or that was counted as lost and may still be listed.
    pub claims: usize,
    /// The time of each certificate that was or may have been made.
    pub made: Vec<Timestamp>,
    /// How many objects name the user. One that uses other credentials counts while its Secret holds a certificate that Atlas lists.
    pub objects: usize,
}

/// What this process remembers of a database user: Atlas's list, and what was made since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// When Atlas was asked for the list.
    pub asked_at: Timestamp,
    /// The list; `None` where the credentials may not read it.
    pub listed: Option<Vec<ListedCertificate>>,
    /// What this process had made since, and when.
    pub made_since: BTreeMap<SerialNumber, Timestamp>,
}

/// What the Secrets and objects of this operator tell of a user's certificates, whatever credentials they were made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The serial numbers in Atlas's list that a Secret of ours holds, or that the status of an object with other credentials remembers.
    pub accounted: BTreeSet<SerialNumber>,
    /// How many of them the Secrets of objects with other credentials hold.
    pub elsewhere: usize,
}

/// What a pass learns of a database user.
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledUser {
    /// For the rules.
    pub certificates: UserCertificates,
    /// Atlas's list, where the credentials may read it.
    pub list: Option<RecalledList>,
}

/// Atlas's list.
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledList {
    /// Its certificates.
    pub listed: Vec<ListedCertificate>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// The serial numbers in it that a Secret of ours holds or has held.
    pub accounted: BTreeSet<SerialNumber>,
}

impl UserRecord {
    /// A list that just came.
    #[must_use]
    pub const fn new(asked_at: Timestamp, listed: Option<Vec<ListedCertificate>>) -> Self {
        Self { asked_at, listed, made_since: BTreeMap::new() }
    }

    /// Whether the record may still be used. A record from the future means that the clock was set back.
    #[must_use]
    pub fn is_believed(&self, now: Timestamp) -> bool {
        now.duration_since(self.asked_at).abs() < BELIEVED
    }

    /// The serial numbers that Atlas lists.
    #[must_use]
    pub fn serial_numbers(&self) -> BTreeSet<&str> {
        self.listed.iter().flatten().map(|listed| listed.serial_number.as_str()).collect()
    }

    /// What is known of the user with this key, with the statuses of the objects that name it and what Secrets of ours hold.
    ///
    /// Each certificate counts once, by its serial number. Without a list, answers counted as lost are added.
    #[must_use]
    pub fn recalled(
        &self,
        key: String,
        objects: &[Option<&DatabaseUserCertificateStatus>],
        holdings: Holdings,
    ) -> RecalledUser {
        let statuses = || objects.iter().copied().flatten();
        let history = || statuses().flat_map(|status| &status.history);
        let mut made: BTreeMap<&str, Timestamp> =
            history().map(|issued| (issued.serial_number.as_str(), issued.recorded_at.0)).collect();
        made.extend(self.made_since.iter().map(|(serial_number, made_at)| (serial_number.as_str(), *made_at)));
        made.extend(self.listed.iter().flatten().map(|listed| (listed.serial_number.as_str(), listed.made_at)));
        let presumed: Vec<Timestamp> = if self.listed.is_none() { statuses().flat_map(presumed).collect() } else { Vec::new() };
        let certificates = UserCertificates {
            key,
            listed: self.listed.as_deref().map(|listed| listed_before(listed, &self.made_since)),
            claims: statuses().filter(|status| status.issuance.is_some() || is_unlisted(status, self.asked_at)).count(),
            made: made.into_values().chain(presumed).collect(),
            objects: objects.len() + holdings.elsewhere,
        };
        let list = self.listed.as_ref().map(|listed| {
            let serial_numbers = self.serial_numbers();
            let in_history = history().map(|issued| issued.serial_number.as_str());
            let in_history = in_history.filter(|serial_number| serial_numbers.contains(serial_number)).map(SerialNumber::from);
            RecalledList {
                accounted: holdings.accounted.into_iter().chain(in_history).collect(),
                listed: listed.clone(),
                asked_at: self.asked_at,
            }
        });
        RecalledUser { certificates, list }
    }
}

/// What a claim remembers of a list, and of what was made since: bounded, however long the list is.
fn listed_before(listed: &[ListedCertificate], made_since: &BTreeMap<SerialNumber, Timestamp>) -> ListedBefore {
    let mut made: BTreeMap<&SerialNumber, Timestamp> = made_since.iter().map(|(serial, made_at)| (serial, *made_at)).collect();
    made.extend(listed.iter().map(|listed| (&listed.serial_number, listed.made_at)));
    let mut newest: Vec<(Timestamp, &SerialNumber)> = made.into_iter().map(|(serial, made_at)| (made_at, serial)).collect();
    newest.sort_by(|one, other| other.cmp(one));
    let others = newest.split_off(newest.len().min(REMEMBERED));
    ListedBefore {
        serial_numbers: newest.into_iter().map(|(_, serial_number)| serial_number.clone().into()).collect(),
        others_until: others.first().map(|(made_at, _)| Time(*made_at)),
    }
}

impl RecalledUser {
    /// Whether the list shows that the request under this claim made a certificate whose key is lost: one that was not listed before the
    /// claim, and that no Secret of ours holds or has held. If several objects of the user have claims, each must have such a certificate.
    #[must_use]
    pub fn shows_loss(&self, claim: &Issuance) -> bool {
        let Some((user, list)) = claim.user.as_ref().zip(self.list.as_ref()) else { return false };
        let Some(before) = user.listed.as_ref().filter(|_| user.key == self.certificates.key) else { return false };
        let is_new = |listed: &&ListedCertificate| {
            before.others_until.as_ref().is_none_or(|until| listed.made_at > until.0)
                && !before.serial_numbers.iter().any(|serial_number| *serial_number == listed.serial_number.as_str())
        };
        let unheld = list.listed.iter().filter(|listed| !list.accounted.contains(&listed.serial_number));
        unheld.filter(is_new).count() >= self.certificates.claims.max(1)
    }
}

/// One time for each lost answer: that of the last failure. No more than a budget can need, because others may write the number.
fn presumed(status: &DatabaseUserCertificateStatus) -> impl Iterator<Item = Timestamp> + use<> {
    let count = status.unaccounted_certificates.as_ref().map_or(0, |found| found.presumed);
    let when = status.failure.as_ref().map(|failure| failure.last_time.0);
    when.into_iter().cycle().take(usize::try_from(count).unwrap_or_default().min(MOST_PRESUMED))
}

/// The wait until one more certificate is within the user's budget; `None` if it is. `way_out` says what has one made all the same.
pub(super) fn over_budget(
    user: &UserCertificates,
    username: &str,
    way_out: impl FnOnce() -> String,
    now: Timestamp,
) -> Option<Decision> {
    let objects = user.objects.max(1);
    let (recent, until) = held_by_budget(objects, user.made.iter().copied(), now)?;
    Some(Decision::Wait {
        until,
        reason: Reason::AtlasMintBudget,
        message: format!(
            "{recent} certificates were made for the database user {username:?} within a day, and {objects} object(s) here name it: find out what else asks for them (another cluster or program, lost answers, a Secret that keeps being deleted); {}",
            way_out()
        ),
    })
}

/// How many of these certificates were made within a day, and when one more is within the budget of a user that so many objects name; `None` if
/// it is now.
pub fn held_by_budget(objects: usize, made: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Option<(usize, Timestamp)> {
    Brake { allowed: objects.max(1) + SPARE_MINTS, window: BUDGET_WINDOW }.hold(made, now)
}

/// Records what Atlas lists and no Secret of ours holds or has held.
///
/// A list may lag behind the requests, and behind an earlier list. So it replaces what was counted before only if it is late enough to have
/// all of that. Another list adds to what was counted: each certificate that was not named yet takes the place of one that was presumed.
pub fn record_list(
    status: &mut DatabaseUserCertificateStatus,
    listed: &[ListedCertificate],
    accounted: &BTreeSet<SerialNumber>,
    asked_at: Timestamp,
) {
    let has_all = asked_at >= listed_by(status);
    let before = status.unaccounted_certificates.take().filter(|_| !has_all).unwrap_or_default();
    let count = |certificates: usize| i64::try_from(certificates).unwrap_or(i64::MAX);
    let is_open =
        |(serial_number, not_after): &(SerialNumber, Timestamp)| *not_after > asked_at && !accounted.contains(serial_number);
    let names_before = count(before.certificates.len());
    let named = before.certificates.into_iter().map(|named| (named.serial_number.as_str().into(), named.not_after.0));
    let named: BTreeMap<SerialNumber, Timestamp> = named.filter(is_open).collect();
    // The status names some of many. What it does not name is still counted.
    let at_least = before.count.saturating_sub(names_before - count(named.len()));
    let listed = listed.iter().map(|listed| (listed.serial_number.clone(), listed.not_after)).filter(is_open);
    let (named_count, mut certificates) = (named.len(), named);
    certificates.extend(listed);
    let presumed = before.presumed.saturating_sub(count(certificates.len() - named_count)).max(0);
    let mut presumed_claims = before.presumed_claims;
    keep_newest(&mut presumed_claims, usize::try_from(presumed).unwrap_or_default());
    let mut certificates: Vec<(SerialNumber, Timestamp)> = certificates.into_iter().collect();
    certificates.sort_by_key(|(_, not_after)| std::cmp::Reverse(*not_after));
    let counted = count(certificates.len()).saturating_add(presumed).max(at_least);
    status.unaccounted_certificates = (counted > 0).then(|| UnaccountedCertificates {
        count: counted,
        presumed,
        presumed_claims,
        latest_expiry: certificates.first().map(|(_, not_after)| Time(*not_after)),
        certificates: certificates
            .into_iter()
            .take(NAMED)
            .map(|(serial_number, not_after)| UnaccountedCertificate {
                serial_number: serial_number.into(),
                not_after: Time(not_after),
            })
            .collect(),
        listed_at: Some(Time(truncated_to_second(asked_at))),
    });
}

/// When a list has all that is counted: five minutes after the last list, and after the last request if certificates are presumed.
fn listed_by(status: &DatabaseUserCertificateStatus) -> Timestamp {
    let Some(counted) = &status.unaccounted_certificates else { return Timestamp::MIN };
    let lost = status.failure.as_ref().map(|failure| failure.last_time.0);
    let issued = status.history.iter().map(|issued| issued.recorded_at.0).max();
    let requested = lost.max(issued).filter(|_| counted.presumed > 0);
    let newest = requested.max(counted.listed_at.as_ref().map(|time| time.0));
    newest.map_or(Timestamp::MIN, |newest| newest.saturating_add(LISTED_BY_THEN).unwrap_or(Timestamp::MAX))
}

/// Drops those that have expired since they were listed.
pub(super) fn drop_expired(status: &mut DatabaseUserCertificateStatus, now: Timestamp) {
    let Some(unaccounted) = &mut status.unaccounted_certificates else { return };
    if unaccounted.latest_expiry.as_ref().is_some_and(|latest| latest.0 <= now) {
        unaccounted.count = unaccounted.presumed;
        unaccounted.latest_expiry = None;
        unaccounted.certificates.clear();
    }
    let named = unaccounted.certificates.len();
    unaccounted.certificates.retain(|certificate| certificate.not_after.0 > now);
    let expired = i64::try_from(named - unaccounted.certificates.len()).unwrap_or_default();
    unaccounted.count = unaccounted.count.saturating_sub(expired);
    if unaccounted.count <= 0 {
        status.unaccounted_certificates = None;
    }
}
