//! What a process knows by what it remembers and what the watches have shown.

use std::collections::BTreeSet;

use usercert_operator::{
    certificate::SerialNumber,
    decide::{Holdings, RememberedSecret, SecretSource, SecretVersion, UserRecord, secret_source},
};

use crate::{
    mutation::Mutation,
    pass::{List, Log, Recalled},
    translation::{abstract_before, at, listed, made_at, real_status, serial, serial_number, time},
    world::{Account, Secret, Serial, Status, Time, World},
};

/// How long the echo of our own write is awaited on the watch.
pub const ECHO_LIMIT: Time = 30;

/// Where a process keeps what an account was told.
pub fn kept_at(account: Account, mutation: Option<Mutation>) -> usize {
    if mutation == Some(Mutation::SharedLists) { 0 } else { usize::from(account) }
}

/// What is known of the user, if Atlas was asked within the hour.
pub fn recall(world: &World, who: usize, log: &Log, mutation: Option<Mutation>) -> Option<Recalled> {
    let replica = &world.replicas[who];
    let user = replica.memory.users[kept_at(log.knows.0, mutation)].as_ref()?;
    let claimed_at = || log.object.status.claim_in_question().map(|claim| claim.account);
    let account =
        Some(()).filter(|()| mutation == Some(Mutation::AnyAccount)).and_then(|()| claimed_at()).unwrap_or(log.knows.0);
    let record = UserRecord {
        asked_at: at(user.asked_at),
        listed: user.listed.as_ref().map(|serials| listed(&world.ledger, serials)),
        made_since: user.made_since.iter().map(|serial| made_at(*serial, &world.ledger)).collect(),
    };
    if !record.is_believed(at(world.now)) {
        return None;
    }
    let shown = replica.view.secret.iter().map(|secret| secret.content.serial);
    let read = replica.memory.secret.iter().map(|(secret, _)| secret.content.serial);
    let kept = replica.memory.object.unsaved.iter().map(|unsaved| unsaved.content.serial);
    let held = shown.chain(read).chain(kept).map(|serial| serial_number(serial).into()).collect();
    let recalled = record.recalled(
        String::new(),
        &[Some(&real_status(&replica.view.object.status, &world.ledger))],
        Holdings { accounted: held, elsewhere: 0 },
    );
    let accounted =
        |accounted: BTreeSet<SerialNumber>| accounted.iter().map(|number| serial(number.as_str())).collect::<Vec<Serial>>();
    Some(Recalled {
        account,
        made: recalled.certificates.made.into_iter().map(time).collect(),
        before: recalled.certificates.listed.as_ref().map(abstract_before),
        claims: u8::try_from(recalled.certificates.claims).unwrap(),
        list: recalled.list.map(|list| List {
            serials: list.listed.iter().map(|listed| serial(listed.serial_number.as_str())).collect(),
            asked_at: time(list.asked_at),
            accounted: accounted(list.accounted),
        }),
    })
}

/// The Secret by what the watch has shown and this process knows.
pub fn observe(world: &mut World, who: usize, status: &Status) -> Option<Secret> {
    let (now, replica) = (world.now, &world.replicas[who]);
    let text = |(uid, version): (u8, u8)| (uid.to_string(), version.to_string());
    let version = |secret: &Secret| text((secret.uid, secret.version));
    let (shown, verified) = (replica.view.secret.as_ref().map(version), status.verified.map(text));
    let remembered = replica
        .memory
        .secret
        .as_ref()
        .map(|(secret, awaited)| (version(secret), awaited.is_some_and(|since| now - since < ECHO_LIMIT)));
    let source = secret_source(
        shown.as_ref().map(borrowed),
        remembered
            .as_ref()
            .map(|(version, is_awaited)| RememberedSecret { version: borrowed(version), is_awaited: *is_awaited }),
        verified.as_ref().map(borrowed),
        status.serial.is_some(),
    );
    match source {
        SecretSource::Memory => replica.memory.secret.as_ref().map(|(secret, _)| secret.clone()),
        SecretSource::Status => replica.view.secret.clone(),
        SecretSource::Read => read(world, who),
        SecretSource::Absent => None,
    }
}

fn borrowed((uid, resource_version): &(String, String)) -> SecretVersion<'_> {
    SecretVersion { uid, resource_version }
}

pub fn read(world: &mut World, who: usize) -> Option<Secret> {
    let secret = world.secret.clone()?;
    world.replicas[who].memory.secret = Some((secret.clone(), None));
    Some(secret)
}
