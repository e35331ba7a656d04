//! What must hold in every state, and what must happen in some.

use stateright::{Model, Property};

use usercert_operator::api::Reason;

use crate::{
    NONE,
    model::Operator,
    pass::Step,
    translation::{not_after, renewal_due},
    world::{Content, Failed, Role, Serial, Time, Unaccounted, Violation, World, made},
};

pub const NEVER_OVERWRITTEN: &str = "a working certificate in the Secret is never replaced by one that ends sooner";
pub const BOUNDED: &str = "no more certificates are made than were needed, and one for each fault that can cost one";
pub const BRAKED: &str = "no more than five renewals are forced within an hour";
pub const CLAIMED: &str = "no certificate is asked for without a claim in the status";
pub const ONCE: &str = "under one claim one certificate is asked for";
pub const OWN_LIST: &str = "a claim remembers what Atlas listed to its own account";
pub const ACCOUNTED: &str = "every certificate is in the Secret, or was, or is in a memory, or is counted, or its claim stands";
pub const SETTLED: &str = "where nothing happens without another fault or request, the newest certificate is in the Secret and not counted, and the object is Ready";

pub fn all() -> Vec<Property<Operator>> {
    vec![
        Property::always(NEVER_OVERWRITTEN, |_, world: &World| world.violation != Some(Violation::Overwritten)),
        Property::always(BOUNDED, |model, world| is_bounded(*model, world)),
        Property::always(BRAKED, |model, world| is_braked(*model, world)),
        Property::always(CLAIMED, |_, world: &World| world.violation != Some(Violation::Unclaimed)),
        Property::always(ONCE, |_, world: &World| world.violation != Some(Violation::Repeated)),
        Property::always(OWN_LIST, |model, world| remembers_own_list(*model, world)),
        Property::always(ACCOUNTED, |model, world| is_accounted(*model, world)),
        Property::always(SETTLED, |model, world| !is_terminal(*model, world) || is_settled(*model, world)),
        Property::sometimes("an answer is lost", |_, world| lost_an_answer(world)),
        Property::sometimes("another takes over while the old leader is paused", |_, world| took_over(world)),
        Property::sometimes("a write meets a conflict", |_, world| met_conflict(world)),
        Property::sometimes("the old leader wakes up with a certificate older than the Secret's", |_, world| is_outrun(world)),
        Property::sometimes("a claim is counted as lost", |_, world| counted(world)),
        Property::sometimes("a list shows what became of a claim", |_, world| knew_loss(world)),
        Property::sometimes("a list shows later what became of a claim that was counted", |_, world| asks_again(world)),
        Property::sometimes("a process that was replaced saves what its successor waits for", |_, world| is_waited_for(world)),
        Property::sometimes("an account is changed while a claim stands", |_, world| is_of_another_account(world)),
        Property::sometimes("a certificate waits in memory until the user is known", |_, world| waits_for_the_user(world)),
        Property::sometimes("a watch is behind while a pass decides", |_, world| decides_on_the_past(world)),
        Property::sometimes("a forced renewal has to wait", |_, world| waits_for_the_brake(world)),
        Property::sometimes("a certificate was renewed", |_, world| was_renewed(world)),
        Property::sometimes("a compromised certificate was replaced", |_, world| was_cured(world)),
    ]
}

/// What must happen somewhere, or the rest would be true of a model in which nothing goes wrong.
pub fn sometimes() -> impl Iterator<Item = &'static str> {
    all().into_iter().filter(|property| !property.expectation.discovery_is_failure()).map(|property| property.name)
}

fn is_bounded(model: Operator, world: &World) -> bool {
    let (bound, left) = (model.bound, world.left);
    let asked = (bound.requests - left.requests) + (bound.deletions - left.deletions) + (bound.compromises - left.compromises);
    let due = (bound.renewals - left.renewals) + (bound.expiries - left.expiries);
    let other_user = if world.object.refers { bound.moves - left.moves } else { 0 };
    world.ledger.len() <= usize::from(1 + asked + due + other_user + world.costs + strangers(model))
}

/// Certificates that were there before.
const fn strangers(model: Operator) -> u8 {
    if model.bound.moves > 0 { 1 } else { 0 }
}

/// Of the certificates that were made within any hour, those are forced which are more than were needed, or cost by a fault.
fn is_braked(model: Operator, world: &World) -> bool {
    let (bound, left) = (model.bound, world.left);
    let needed = 1 + (bound.deletions - left.deletions) + (bound.renewals - left.renewals) + (bound.expiries - left.expiries);
    let times: Vec<Time> = world.ledger.iter().copied().map(made).collect();
    let within_an_hour = |since: &Time| times.iter().filter(|made| (*since..since + 3600).contains(*made)).count();
    times.iter().all(|since| within_an_hour(since) <= usize::from(5 + needed + world.costs + strangers(model)))
}

/// The other account has listed the stranger's certificate from the beginning, and this one never.
fn remembers_own_list(model: Operator, world: &World) -> bool {
    let claim = world.object.status.claim_in_question();
    let before = claim.and_then(|claim| Some((claim.account, claim.before.as_ref()?)));
    before.is_none_or(|(account, before)| {
        let is_of_account = before.iter().all(|serial| world.account_of(*serial) == account);
        is_of_account && (account == 0 || strangers(model) == 0 || before.contains(&0))
    })
}

/// Of those that have not expired, and that were made for the account which the issuer has now.
fn is_accounted(model: Operator, world: &World) -> bool {
    let is_kept = |serial| {
        let unsaved = world.replicas.iter().filter_map(|replica| replica.memory.object.unsaved.as_ref());
        world.was_saved(serial) || unsaved.into_iter().any(|unsaved| unsaved.content.serial == serial)
    };
    let made = world.listed(world.account).into_iter().filter(|serial| *serial >= strangers(model));
    let lost = made.filter(|serial| not_after(&world.ledger, *serial) > world.now && !is_kept(*serial)).count();
    let status = &world.object.status;
    let counted = status.unaccounted.as_ref().map_or(0, |found| found.count) + u8::from(status.claim.is_some());
    lost <= usize::from(counted)
}

/// Faults and requests that might come need not come.
fn is_terminal(model: Operator, world: &World) -> bool {
    let mut actions = Vec::new();
    model.actions(&World { left: NONE, ..world.clone() }, &mut actions);
    actions.is_empty()
}

/// After a deletion an older certificate, which a leader that was paused still had, may have filled the gap.
fn is_settled(model: Operator, world: &World) -> bool {
    let status = &world.object.status;
    let Some(secret) = &world.secret else { return false };
    let serial = secret.content.serial;
    status.is_ready
        && status.serial == Some(serial)
        && status.claim.is_none()
        && status.renewal_handled == world.object.renewal
        && renewal_due(&world.ledger, serial) > world.now
        && !world.object.compromised.contains(&serial)
        && (is_newest(world, serial) || world.left.deletions < model.bound.deletions)
        && (!world.object.refers || world.account_of(serial) == world.account)
        && status.unaccounted.as_ref().is_none_or(|counted| !is_counted(counted, &secret.content))
        && world.replicas.iter().all(|replica| replica.memory.object.unsaved.is_none())
}

/// A certificate that was saved after its claim had been counted as lost is counted no more.
fn is_counted(counted: &Unaccounted, content: &Content) -> bool {
    counted.listed.contains(&content.serial) || content.claim.is_some_and(|claim| counted.claims.contains(&claim))
}

/// Of those that came to be in the Secret.
fn is_newest(world: &World, serial: Serial) -> bool {
    world.saved >> serial == 1
}

fn lost_an_answer(world: &World) -> bool {
    world.replicas.iter().any(|replica| replica.memory.object.failed_request.is_some_and(|(_, failed)| failed == Failed::Lost))
}

fn took_over(world: &World) -> bool {
    world.replicas.iter().any(|replica| replica.is_lapsed() && replica.pass.is_some())
        && world.replicas.iter().any(|replica| replica.role == Role::Leading)
}

fn met_conflict(world: &World) -> bool {
    world.replicas.iter().filter_map(|replica| replica.pass.as_ref()).any(|pass| pass.log.looks > 0)
}

fn is_outrun(world: &World) -> bool {
    let Some(secret) = &world.secret else { return false };
    let is_older = |replica: &crate::world::Replica| {
        replica.memory.object.unsaved.as_ref().is_some_and(|unsaved| unsaved.content.serial < secret.content.serial)
    };
    world.replicas.iter().any(|replica| replica.is_lapsed() && replica.step() == Some(&Step::Write) && is_older(replica))
}

fn counted(world: &World) -> bool {
    world.object.status.unaccounted.as_ref().is_some_and(|found| found.presumed > 0)
}

fn waits_for_the_brake(world: &World) -> bool {
    let status = &world.object.status;
    let is_asked = world.object.renewal.is_some() && status.renewal_handled != world.object.renewal;
    is_asked
        && status.forced.len() == 5
        && world.replicas.iter().any(|replica| replica.pass.is_none() && replica.wake.is_some())
}

/// Counted by its serial number, and waited for no longer than after a request that made nothing.
fn knew_loss(world: &World) -> bool {
    let status = &world.object.status;
    let is_listed = status.unaccounted.as_ref().is_some_and(|found| found.presumed == 0 && found.count > 0);
    let is_short = |failure: &crate::world::Failure| {
        failure.reason == Reason::AtlasAnswerLost && failure.next_attempt - failure.last_time <= 66
    };
    is_listed && status.failure.as_ref().is_some_and(is_short)
}

fn asks_again(world: &World) -> bool {
    let is_known = |failure: &crate::world::Failure| failure.unlisted.is_some();
    let asks = |replica: &crate::world::Replica| replica.step() == Some(&Step::List);
    world.object.status.failure.as_ref().is_some_and(is_known) && world.replicas.iter().any(asks)
}

fn is_waited_for(world: &World) -> bool {
    let is_busy = |replica: &crate::world::Replica| replica.busy_until.is_some() && replica.step() == Some(&Step::Write);
    knew_loss(world) && world.replicas.iter().any(is_busy)
}

fn is_of_another_account(world: &World) -> bool {
    world.object.status.claim.as_ref().is_some_and(|claim| claim.account != world.account)
}

fn waits_for_the_user(world: &World) -> bool {
    let is_for_other = |serial| {
        world.secret.as_ref().is_some_and(|secret| world.account_of(secret.content.serial) != world.account_of(serial))
    };
    let waits = |replica: &crate::world::Replica| {
        let unsaved = replica.memory.object.unsaved.as_ref();
        replica.pass.is_none() && !replica.is_woken && unsaved.is_some_and(|unsaved| is_for_other(unsaved.content.serial))
    };
    world.is_unknown && world.replicas.iter().any(waits)
}

fn decides_on_the_past(world: &World) -> bool {
    let is_behind = |replica: &crate::world::Replica| {
        replica.view.is_behind() && matches!(replica.step(), Some(Step::TryWrite | Step::List))
    };
    world.replicas.iter().any(is_behind)
}

fn was_renewed(world: &World) -> bool {
    world.object.status.history.len() > 1 && world.object.status.is_ready
}

fn was_cured(world: &World) -> bool {
    let compromised = &world.object.compromised;
    !compromised.is_empty() && world.secret.as_ref().is_some_and(|secret| !compromised.contains(&secret.content.serial))
}
