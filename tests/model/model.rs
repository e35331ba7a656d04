//! The actions, and what each may be met by.

use stateright::{Model, Property};

use crate::{
    pass::Step,
    properties,
    replica::{self, BELIEVED, ECHO_LIMIT, HAD_EFFECT_BY_THEN, Post, SAVED_BY_THEN, Turn, Write},
    translation::{not_after, renewal_due},
    world::{Budget, Claimant, Replica, Role, SecretEvent, Time, Wake, World},
};

/// How often a process that ends tries to save what it has.
const SAVES: u8 = 2;

/// A rule that is broken on purpose, to see that the model would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A certificate is asked for without a claim.
    NoClaim,
    /// The Secret is written whatever version it has.
    NoPrecondition,
    /// The leadership is not asked before a request is sent.
    NoPermit,
    /// A lost answer has the request sent again.
    RetriedRequest,
    /// A claim without its certificate is dropped and not counted.
    ForgottenClaim,
    /// The status forgets when renewals were forced.
    ForgottenRenewals,
    /// Whoever takes over takes itself for the one before, restarted, and does not wait for what that one may save.
    TakenForRestarted,
    /// A list that shows nothing of a lost claim proves that nothing was made.
    TrustedSilence,
    /// What Atlas told one account is believed of another.
    SharedLists,
    /// A claim is judged by the list of any account.
    AnyAccount,
    /// What failed is not looked at again.
    NoRetry,
    /// Each pass begins the next one.
    NoRest,
}

impl Mutation {
    pub const ALL: [Self; 12] = [
        Self::NoClaim,
        Self::NoPrecondition,
        Self::NoPermit,
        Self::RetriedRequest,
        Self::ForgottenClaim,
        Self::ForgottenRenewals,
        Self::TakenForRestarted,
        Self::TrustedSilence,
        Self::SharedLists,
        Self::AnyAccount,
        Self::NoRetry,
        Self::NoRest,
    ];
}

/// The operator and its world, within a bound.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    pub bound: Budget,
    /// Whether the credentials may list certificates at Atlas.
    pub may_list: bool,
    pub mutation: Option<Mutation>,
}

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

impl Model for Operator {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.bound)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (who, replica) in world.replicas.iter().enumerate() {
            watch_actions(who, replica, actions);
            process_actions(world, who, actions);
            if let Some(step) = replica.step() {
                step_actions(who, step, world.left.faults > 0, actions);
                let lags = step == &Step::List && self.may_list && world.left.faults > 0;
                let strangers = u8::from(self.bound.moves > 0);
                let made = |pass: &crate::pass::Pass| {
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
        if world.left.requests > 0 && (self.bound.faults > 0 || is_at_rest(world)) {
            actions.push(Action::Request);
        }
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
/// is a fault.
fn may_time_pass(world: &World) -> bool {
    let is_asking = world.replicas.iter().any(|replica| replica.step() == Some(&Step::Post) && replica.busy_until.is_none());
    !is_asking && (!lags(world) || world.left.faults > 0)
}

/// A process that goes on without a pause has done by then what it does.
fn is_nobody_busy(world: &World, time: Time) -> bool {
    world.replicas.iter().filter_map(|replica| replica.busy_until).all(|until| time < until)
}

fn lags(world: &World) -> bool {
    world.replicas.iter().any(|replica| replica.role == Role::Leading && replica.view.is_behind())
}

/// When whoever leads tries again what failed.
fn next_retry(world: &World) -> Option<Time> {
    let retry = |replica: &Replica| match (replica.role, &replica.pass, replica.wake) {
        (Role::Leading, None, Some(Wake::Retry(time))) => Some(time),
        _ => None,
    };
    world.replicas.iter().filter_map(retry).find(|time| *time > world.now)
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
                world.replicas.iter_mut().for_each(|replica| replica.is_woken |= replica.role == Role::Leading);
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

fn is_asking(world: &World, who: usize) -> bool {
    world.replicas[who].step() == Some(&Step::Post)
}

fn holds_unsaved(world: &World, who: usize) -> bool {
    world.replicas[who].memory.object.unsaved.as_ref().is_some_and(|unsaved| !world.was_saved(unsaved.content.serial))
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
