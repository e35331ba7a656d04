//! The actions, and which of them can happen in a state of the world.

use crate::{
    pass::{self, Step},
    replica::{Post, Write},
    translation::{not_after, renewal_due},
    world::{Budget, Replica, Role, Time, Wake, World},
};

/// One atomic action; the number is that of the replica in the state that it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A watch shows the next version of the object.
    ShowObject(usize),
    /// A watch shows what became of the Secret next.
    ShowSecret(usize),
    /// A pass begins: observe and decide.
    Begin(usize),
    /// A process that ends looks live whether what it has is wanted, to save it.
    Save(usize),
    /// Either of them looks, and the Secret cannot be read.
    LookFails(usize),
    List(usize),
    /// The same, and the list lacks the newest certificate.
    ListLags(usize),
    TryWrite(usize, Write),
    Claim(usize, Write),
    Permit(usize),
    Withdraw(usize),
    Post(usize, Post),
    Write(usize, Write),
    Report(usize, Write),
    /// Whoever stands by takes the lead.
    TakeOver(usize),
    /// A process that has lost the lead has ended, and another is started in its place.
    End(usize),
    Crash(usize),
    /// A leader is paused for so long that another may lead; it goes on at any step, any time later.
    Lapse(usize),
    /// A leader that asks for a certificate, or has one, has lost the lead, and goes on without a pause.
    Replaced(usize),
    /// The issuer is changed to another account.
    Move,
    /// The user that the object refers to is not known any more.
    Forget,
    /// It is known again.
    Know,
    /// Time passes until the next attempt.
    Wait,
    /// Time passes until the certificate in the Secret is to be renewed.
    RenewalDue,
    /// Time passes until it ends.
    Expire,
    /// The user asks for a renewal.
    Request,
    /// The user says that the certificate in the Secret is compromised.
    Compromise,
    /// Another deletes the Secret.
    Delete,
}

/// Tells the actions that can happen now, within this bound.
pub fn enabled(world: &World, bound: Budget, may_list: bool, actions: &mut Vec<Action>) {
    for (who, replica) in world.replicas.iter().enumerate() {
        watch_actions(who, replica, actions);
        process_actions(world, who, actions);
        if let Some(step) = replica.step() {
            step_actions(who, step, world.left.faults > 0, actions);
            let lags = step == &Step::List && may_list && world.left.faults > 0;
            let strangers = u8::from(bound.moves > 0);
            let made = |pass: &pass::Pass| {
                let newest = world.listed(pass.log.knows.0).last().is_some_and(|newest| *newest >= strangers);
                newest && world.now < world.unlisted_until
            };
            if lags && replica.pass.as_deref().is_some_and(made) {
                actions.push(Action::ListLags(who));
            }
        } else if begins(replica, world.now) {
            actions.push(Action::Begin(who));
            if world.left.faults > 0 {
                actions.push(Action::LookFails(who));
            }
        }
    }
    environment_actions(world, actions);
    // Where nothing goes wrong, the user asks again and again, and each time when all is at rest, which bounds the states.
    if world.left.requests > 0 && (bound.faults > 0 || is_at_rest(world)) {
        actions.push(Action::Request);
    }
}

fn begins(replica: &Replica, now: Time) -> bool {
    replica.role == Role::Leading && (replica.is_woken || replica.wake.is_some_and(|wake| wake.time() <= now))
}

fn watch_actions(who: usize, replica: &Replica, actions: &mut Vec<Action>) {
    if !replica.view.unseen_objects.is_empty() {
        actions.push(Action::ShowObject(who));
    }
    if !replica.view.unseen_secrets.is_empty() {
        actions.push(Action::ShowSecret(who));
    }
}

fn process_actions(world: &World, who: usize, actions: &mut Vec<Action>) {
    let replica = &world.replicas[who];
    match replica.role {
        Role::StandingBy => {
            if world.replicas.iter().all(|other| other.role != Role::Leading) {
                actions.push(Action::TakeOver(who));
            }
            return;
        }
        Role::Leading if world.left.faults > 0 => {
            actions.push(Action::Lapse(who));
            if replica.step() == Some(&Step::Post) || holds_unsaved(world, who) {
                actions.push(Action::Replaced(who));
            }
        }
        Role::Lapsed { saves_left } if replica.pass.is_none() => {
            let saves = saves_left > 0 && replica.memory.object.unsaved.is_some();
            actions.push(if saves { Action::Save(who) } else { Action::End(who) });
            if saves && world.left.faults > 0 {
                actions.push(Action::LookFails(who));
            }
        }
        Role::Leading | Role::Lapsed { .. } => {}
    }
    if world.left.faults > 0 {
        actions.push(Action::Crash(who));
    }
}

fn step_actions(who: usize, step: &Step, with_faults: bool, actions: &mut Vec<Action>) {
    let posts = [Post::Answered, Post::AnswerLost, Post::RequestLost, Post::NotConnected];
    let writes = [Write::Answered, Write::AnswerLost, Write::Refused];
    let (posts, writes) = if with_faults { (&posts[..], &writes[..]) } else { (&posts[..1], &writes[..1]) };
    match step {
        Step::List => actions.push(Action::List(who)),
        // Nothing is written, so that a lost answer is as good as a refusal.
        Step::TryWrite => {
            let told = writes.iter().filter(|write| **write != Write::AnswerLost);
            actions.extend(told.map(|write| Action::TryWrite(who, *write)));
        }
        Step::Claim(_) => actions.extend(writes.iter().map(|write| Action::Claim(who, *write))),
        Step::Permit => actions.push(Action::Permit(who)),
        Step::Withdraw => actions.push(Action::Withdraw(who)),
        Step::Post => actions.extend(posts.iter().map(|post| Action::Post(who, *post))),
        Step::Write => actions.extend(writes.iter().map(|write| Action::Write(who, *write))),
        Step::Report { .. } => actions.extend(writes.iter().map(|write| Action::Report(who, *write))),
        Step::Observe { .. } | Step::Recall | Step::TakeTurn | Step::CheckUser | Step::ReadObject | Step::End(_) => {
            unreachable!("{step:?} is performed at once")
        }
    }
}

fn environment_actions(world: &World, actions: &mut Vec<Action>) {
    if world.left.moves > 0 {
        actions.push(Action::Move);
    }
    // Of a user that is not known nothing is asked, so that matters only for what is in memory by then.
    let has_unsaved = (0..world.replicas.len()).any(|who| holds_unsaved(world, who));
    if world.is_unknown {
        actions.push(Action::Know);
    } else if world.left.unknowns > 0 && has_unsaved {
        actions.push(Action::Forget);
    }
    if may_time_pass(world) {
        if next_retry(world).is_some_and(|time| is_nobody_busy(world, time)) {
            actions.push(Action::Wait);
        }
        if let Some(secret) = &world.secret {
            let due = renewal_due(&world.ledger, secret.content.serial);
            if world.left.renewals > 0 && due > world.now && is_nobody_busy(world, due) {
                actions.push(Action::RenewalDue);
            }
            let end = not_after(&world.ledger, secret.content.serial);
            if world.left.expiries > 0 && end > world.now && is_nobody_busy(world, end) {
                actions.push(Action::Expire);
            }
        }
    }
    if let Some(secret) = &world.secret
        && world.left.compromises > 0
        && !world.object.compromised.contains(&secret.content.serial)
    {
        actions.push(Action::Compromise);
    }
    if world.left.deletions > 0 && world.secret.is_some() {
        actions.push(Action::Delete);
    }
}

fn is_at_rest(world: &World) -> bool {
    let is_at_rest = |replica: &Replica| replica.pass.is_none() && !replica.is_woken && !replica.view.is_behind();
    world.replicas.iter().all(is_at_rest) && world.replicas.iter().any(|replica| replica.role == Role::Leading)
}

/// A request that was permitted takes effect or not within the five minutes for which a successor waits. A watch that lags through a wait
/// is a fault. A user is not known for a moment alone.
fn may_time_pass(world: &World) -> bool {
    let is_asking = world.replicas.iter().any(|replica| replica.step() == Some(&Step::Post) && replica.busy_until.is_none());
    !is_asking && !world.is_unknown && (!lags(world) || world.left.faults > 0)
}

/// A process that goes on without a pause has done by then what it does.
fn is_nobody_busy(world: &World, time: Time) -> bool {
    world.replicas.iter().filter_map(|replica| replica.busy_until).all(|until| time < until)
}

pub fn lags(world: &World) -> bool {
    world.replicas.iter().any(|replica| replica.role == Role::Leading && replica.view.is_behind())
}

/// When whoever leads tries again what failed.
pub fn next_retry(world: &World) -> Option<Time> {
    let retry = |replica: &Replica| match (replica.role, &replica.pass, replica.wake) {
        (Role::Leading, None, Some(Wake::Retry(time))) => Some(time),
        _ => None,
    };
    world.replicas.iter().filter_map(retry).find(|time| *time > world.now)
}

pub fn is_asking(world: &World, who: usize) -> bool {
    world.replicas[who].step() == Some(&Step::Post)
}

pub fn holds_unsaved(world: &World, who: usize) -> bool {
    world.replicas[who].memory.object.unsaved.as_ref().is_some_and(|unsaved| !world.was_saved(unsaved.content.serial))
}
