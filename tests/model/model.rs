//! The operator and its world as a model: what each action does.

use stateright::{Model, Property};

use crate::{
    action::{Action, enabled, holds_unsaved, is_asking, lags, next_retry},
    memory::ECHO_LIMIT,
    mutation::Mutation,
    pass::Step,
    properties,
    replica::{self, BELIEVED, HAD_EFFECT_BY_THEN, Post, SAVED_BY_THEN, Turn, Write},
    translation::{not_after, renewal_due},
    world::{Budget, Claimant, Replica, Role, SecretEvent, World},
};

/// How often a process that ends tries to save what it has.
const SAVES: u8 = 2;

/// The operator and its world, within a bound.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    pub bound: Budget,
    /// Whether the credentials may list certificates at Atlas.
    pub may_list: bool,
    pub mutation: Option<Mutation>,
}

impl Model for Operator {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.bound)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        enabled(world, self.bound, self.may_list, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.apply(&mut next, action);
        forget_what_is_too_old(&mut next);
        next.replicas.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// What is not believed any more is as good as unknown, which makes states equal.
fn forget_what_is_too_old(world: &mut World) {
    if world.unlisted_until <= world.now {
        world.unlisted_until = 0;
    }
    for replica in &mut world.replicas {
        if let Some((_, awaited)) = &mut replica.memory.secret {
            *awaited = awaited.filter(|since| world.now - since < ECHO_LIMIT);
        }
        for user in &mut replica.memory.users {
            *user = user.take().filter(|user| world.now - user.asked_at < BELIEVED);
        }
        let claim = world.object.status.claim_in_question().map(|claim| claim.id);
        replica.wrote = replica.wrote.filter(|(wrote, _)| Some(*wrote) == claim);
        let is_asking = replica.step() == Some(&Step::Post);
        replica.busy_until = replica.busy_until.filter(|_| is_asking || replica.memory.object.unsaved.is_some());
    }
}

impl Operator {
    fn apply(self, world: &mut World, action: Action) {
        match action {
            Action::ShowObject(who) => show_object(&mut world.replicas[who]),
            Action::ShowSecret(who) => show_secret(&mut world.replicas[who]),
            Action::Begin(who) => replica::begin(world, who, self.mutation),
            Action::Save(who) => self.save(world, who),
            Action::LookFails(who) => self.look_fails(world, who),
            Action::TakeOver(who) => take_over(world, who),
            Action::End(who) => end(world, who),
            Action::Crash(who) => crash(world, who),
            Action::Lapse(who) => {
                // A certificate that it has, or asks for, may be made a second time by its successor.
                world.costs += u8::from(is_asking(world, who) || holds_unsaved(world, who));
                lapse(world, who);
            }
            Action::Replaced(who) => {
                let limit = if is_asking(world, who) { HAD_EFFECT_BY_THEN } else { SAVED_BY_THEN };
                world.replicas[who].busy_until = Some(world.now + limit);
                lapse(world, who);
            }
            Action::Move => {
                world.left.moves -= 1;
                world.account = 1;
                world.wake_leaders();
            }
            Action::Forget => {
                world.left.unknowns -= 1;
                world.is_unknown = true;
                world.wake_leaders();
            }
            Action::Know => {
                world.is_unknown = false;
                world.wake_leaders();
            }
            Action::Wait | Action::RenewalDue | Action::Expire => pass_time(world, action),
            Action::Request => {
                world.left.requests -= 1;
                world.object.version += 1;
                world.object.renewal = Some(world.object.renewal.map_or(1, |last| last + 1));
                world.announce_object();
            }
            Action::Compromise => {
                world.left.compromises -= 1;
                world.object.version += 1;
                world.object.compromised.push(world.secret.as_ref().unwrap().content.serial);
                world.announce_object();
            }
            Action::Delete => {
                world.left.deletions -= 1;
                let gone = world.secret.take().unwrap();
                world.announce_secret(&SecretEvent::Gone(gone.uid));
            }
            step => self.step(world, step),
        }
    }

    fn step(self, world: &mut World, action: Action) {
        let (who, is_fault) = match action {
            Action::TryWrite(who, write)
            | Action::Claim(who, write)
            | Action::Write(who, write)
            | Action::Report(who, write) => (who, write != Write::Answered),
            Action::Post(who, post) => (who, post != Post::Answered),
            Action::ListLags(who) => (who, true),
            Action::List(who) | Action::Permit(who) | Action::Withdraw(who) => (who, false),
            _ => unreachable!("{action:?} is no step of a pass"),
        };
        world.left.faults -= u8::from(is_fault);
        let step = world.replicas[who].step().cloned().unwrap();
        let turn = Turn::new(world, who, self.mutation);
        match (action, step) {
            (Action::List(_), _) => turn.list(self.may_list, false),
            (Action::ListLags(_), _) => turn.list(self.may_list, true),
            (Action::TryWrite(_, write), _) => turn.try_write(write),
            (Action::Claim(_, write), Step::Claim(cause)) => turn.claim(cause, write),
            (Action::Permit(_), _) => turn.permit(),
            (Action::Withdraw(_), _) => turn.withdraw(),
            (Action::Post(_, post), _) => turn.post(post),
            (Action::Write(_, write), _) => turn.write(write),
            (Action::Report(_, write), Step::Report { status, rest, failures }) => {
                turn.report(status.map(|status| *status), rest, failures, write);
            }
            (action, step) => unreachable!("{action:?} at {step:?}"),
        }
    }

    fn look_fails(self, world: &mut World, who: usize) {
        world.left.faults -= 1;
        if let Role::Lapsed { saves_left } = &mut world.replicas[who].role {
            *saves_left -= 1;
        }
        replica::look_fails(world, who, self.mutation);
    }

    /// As `controller::pass::drain` does.
    fn save(self, world: &mut World, who: usize) {
        let replica = &mut world.replicas[who];
        if let Role::Lapsed { saves_left } = &mut replica.role {
            *saves_left -= 1;
        }
        replica::save(world, who, self.mutation);
    }
}

fn show_object(replica: &mut Replica) {
    replica.view.object = replica.view.unseen_objects.remove(0);
    replica.is_woken = true;
}

fn show_secret(replica: &mut Replica) {
    let remembered = &mut replica.memory.secret;
    match replica.view.unseen_secrets.remove(0) {
        SecretEvent::Shown(secret) => {
            if let Some((_, awaited)) = remembered.as_mut().filter(|(last, _)| secret.version >= last.version) {
                *awaited = None;
            }
            replica.view.secret = Some(secret);
        }
        SecretEvent::Gone(uid) => {
            if remembered.as_ref().is_some_and(|(last, _)| last.uid == uid) {
                *remembered = None;
            }
            replica.view.secret = None;
        }
    }
    replica.is_woken = true;
}

fn take_over(world: &mut World, who: usize) {
    let replica = &mut world.replicas[who];
    (replica.role, replica.is_woken) = (Role::Leading, true);
    replica.view.object = world.object.clone();
    replica.view.secret.clone_from(&world.secret);
}

/// A certificate that is in memory alone goes with the process.
fn crash(world: &mut World, who: usize) {
    world.left.faults -= 1;
    world.costs += u8::from(holds_unsaved(world, who));
    restart(world, who);
}

/// What a process that was replaced could not save goes with it. The same was allowed for when one was paused.
fn end(world: &mut World, who: usize) {
    world.costs += u8::from(world.replicas[who].busy_until.is_some() && holds_unsaved(world, who));
    restart(world, who);
}

/// Another process begins in the same Pod.
fn restart(world: &mut World, who: usize) {
    let wrote = world.replicas[who].wrote.map(|(claim, _)| (claim, Claimant::OneBefore));
    world.replicas[who] = Replica { wrote, ..Replica::default() };
}

fn lapse(world: &mut World, who: usize) {
    world.left.faults -= 1;
    let replica = &mut world.replicas[who];
    replica.role = Role::Lapsed { saves_left: SAVES };
    (replica.view.unseen_objects, replica.view.unseen_secrets) = (Vec::new(), Vec::new());
    (replica.is_woken, replica.wake) = (false, None);
}

fn pass_time(world: &mut World, action: Action) {
    world.left.faults -= u8::from(lags(world));
    let serial = world.secret.as_ref().map(|secret| secret.content.serial);
    world.now = match action {
        Action::RenewalDue => {
            world.left.renewals -= 1;
            renewal_due(&world.ledger, serial.unwrap())
        }
        Action::Expire => {
            world.left.expiries -= 1;
            not_after(&world.ledger, serial.unwrap())
        }
        _ => next_retry(world).unwrap(),
    };
}
