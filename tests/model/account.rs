//! What a replica knows of the user's account at Atlas, as `controller::accounts` keeps it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use usercert_operator::issuer::atlas::ListedCertificate;

use crate::{
    translation::{at, listed},
    world::{Account, Serial, Time, World},
};

/// How long a list is believed.
pub const BELIEVED: Time = 3600;

/// What was made since the list and is in a history is recognised by its time.
const SAME: Time = 60;

pub struct Recalled {
    pub made: Vec<Time>,
    pub list: Option<RecalledList>,
}

pub struct RecalledList {
    pub listed: Vec<ListedCertificate>,
    pub asked_at: Timestamp,
    pub accounted: BTreeSet<String>,
}

/// Atlas is asked.
pub fn list(world: &mut World, who: usize, may_list: bool) {
    let count = may_list.then(|| u8::try_from(world.ledger.len()).unwrap());
    world.replicas[who].memory.account = Some(Account { looked_at: world.now, listed: count, made_since: Vec::new() });
}

/// What is known, if Atlas was asked within the hour.
pub fn recall(world: &World, who: usize) -> Option<Recalled> {
    let replica = &world.replicas[who];
    let account = replica.memory.account.as_ref().filter(|account| world.now - account.looked_at < BELIEVED)?;
    let status = &replica.view.object.status;
    let mut made: BTreeMap<Serial, Time> = status.history.iter().copied().collect();
    let is_same = |time: &Time| account.made_since.iter().any(|since| time.abs_diff(*since) < SAME);
    let remembered = made.values().filter(|time| is_same(time)).count();
    let presumed = status.unaccounted.as_ref().filter(|_| account.listed.is_none()).map_or(0, |found| found.presumed);
    let lost_at = status.failure.as_ref().map(|failure| failure.last_time);
    let presumed = lost_at.into_iter().cycle().take(usize::from(presumed));
    made.extend((0..account.listed.unwrap_or(0)).map(|serial| (serial, world.ledger[usize::from(serial)])));
    let made = made.into_values().chain(account.made_since.iter().copied().skip(remembered)).chain(presumed).collect();
    let list = account.listed.map(|count| RecalledList {
        listed: listed(&world.ledger, count),
        asked_at: at(account.looked_at),
        accounted: accounted(world, who),
    });
    Some(Recalled { made, list })
}

/// By the Secret that the watch shows, by what this process wrote or keeps, and by the history.
fn accounted(world: &World, who: usize) -> BTreeSet<String> {
    let replica = &world.replicas[who];
    let shown = replica.view.secret.iter().map(|secret| secret.content.serial);
    let read = replica.memory.secret.iter().map(|(secret, _)| secret.content.serial);
    let kept = replica.memory.unsaved.iter().map(|unsaved| unsaved.content.serial);
    let history = replica.view.object.status.history.iter().map(|(serial, _)| *serial);
    shown.chain(read).chain(kept).chain(history).map(|serial| format!("{serial:02X}")).collect()
}
