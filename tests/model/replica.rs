//! The steps of one replica's pass, in the order of `controller::{reconcile, observe, act, report}`. Every decision and every status is
//! the operator's own.

use usercert_operator::api::Reason;

use crate::{
    account,
    model::Mutation,
    translation,
    verdict::{self, Decided, Event, Picture, Verdict, verdict},
    world::{Content, Failed, Object, Pass, Role, Secret, SecretEvent, Status, Step, Time, Unsaved, Violation, Wake, World},
};

/// How often a pass looks again, live, before it leaves the rest to the next one.
const LOOKS: u8 = 3;

/// How long the echo of our own write is awaited on the watch.
pub const ECHO_LIMIT: Time = 30;

/// What a request to Atlas comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// The certificate is made and comes back.
    Answered,
    /// The certificate is made and its answer lost.
    AnswerLost,
    /// The request is lost on its way, which looks the same.
    RequestLost,
    /// There was no connection.
    NotConnected,
}

/// What a write to the API server comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Its precondition decides.
    Answered,
    /// It takes effect, if its precondition holds, and its answer is lost.
    AnswerLost,
    /// It is refused.
    Refused,
}

/// What came of an act; as in `controller::act`.
#[derive(Clone, Copy)]
enum Acted {
    Nothing(Decided),
    Written,
    Failed(Failed),
    Unsaved,
}

enum Written {
    Done(Secret),
    Conflict,
    Gone,
}

/// One step of a pass: the pass is taken out of its replica, and put back where it goes on.
pub struct Turn<'a> {
    world: &'a mut World,
    who: usize,
    pass: Box<Pass>,
    mutation: Option<Mutation>,
}

/// Begins a pass over the object as the watch has shown it.
pub fn begin(world: &mut World, who: usize, mutation: Option<Mutation>) {
    let replica = &mut world.replicas[who];
    (replica.is_woken, replica.wake) = (false, None);
    let object = replica.view.object.clone();
    turn(world, who, object, 0, mutation).look();
}

/// Looks at all as it is, and does nothing but save.
pub fn save(world: &mut World, who: usize, mutation: Option<Mutation>) {
    let (object, secret) = (world.object.clone(), read(world, who));
    let mut turn = turn(world, who, object, LOOKS - 1, mutation);
    turn.pass.secret = secret;
    match verdict(turn.picture(), Event::Nothing).decided {
        Decided::Save => turn.goes_on(Step::Write),
        _ => turn.world.replicas[who].memory.unsaved = None,
    }
}

fn turn(world: &mut World, who: usize, object: Object, looks: u8, mutation: Option<Mutation>) -> Turn<'_> {
    let (original, status) = (object.clone(), object.status.clone());
    let pass = Box::new(Pass { original, object, status, secret: None, made: None, looks, step: Step::Permit });
    Turn { world, who, pass, mutation }
}

impl<'a> Turn<'a> {
    /// The pass in flight of this replica.
    pub fn new(world: &'a mut World, who: usize, mutation: Option<Mutation>) -> Self {
        let pass = world.replicas[who].pass.take().unwrap();
        Self { world, who, pass, mutation }
    }

    fn goes_on(mut self, step: Step) {
        self.pass.step = step;
        self.world.replicas[self.who].pass = Some(self.pass);
    }

    /// The pass ends in an error; whether it is repeated although no watch wakes it.
    fn fails(self, again: bool) {
        let replica = &mut self.world.replicas[self.who];
        replica.is_woken |= again && replica.role == Role::Leading;
    }

    fn picture(&self) -> Picture {
        let pass = &self.pass;
        Picture {
            now: self.world.now,
            ledger: self.world.ledger.clone(),
            object: pass.object.clone(),
            status: pass.status.clone(),
            secret: pass.secret.clone(),
            unsaved: self.world.replicas[self.who].memory.unsaved.clone(),
            made: pass.made.clone(),
        }
    }

    /// Observe, live from the second look on, and decide.
    fn look(mut self) {
        let pass = &mut self.pass;
        (pass.object, pass.status, pass.made) = (pass.original.clone(), pass.original.status.clone(), None);
        let status = &self.pass.original.status;
        self.pass.secret =
            if self.pass.looks == 0 { observe(self.world, self.who, status) } else { read(self.world, self.who) };
        match verdict(self.picture(), Event::Nothing).decided {
            Decided::Examine(cause) if !self.recall() => self.goes_on(Step::List(cause)),
            _ => self.decide(),
        }
    }

    fn stale(mut self) {
        self.pass.looks += 1;
        if self.pass.looks < LOOKS { self.look() } else { self.fails(true) }
    }

    fn recall(&mut self) -> bool {
        let Some(recalled) = account::recall(self.world, self.who) else { return false };
        if let Some(list) = recalled.list {
            self.pass.status = verdict::with_list(&self.pass.status, &list, &self.world.ledger);
        }
        self.pass.made = Some(recalled.made);
        true
    }

    /// Atlas lists what it made for the user.
    pub fn list(mut self, may_list: bool) {
        account::list(self.world, self.who, may_list);
        self.recall();
        self.decide();
    }

    fn decide(self) {
        match verdict(self.picture(), Event::Nothing).decided {
            Decided::Issue(cause) => self.goes_on(Step::DryRun(cause)),
            Decided::Save => self.goes_on(Step::Write),
            decided => self.finish(Acted::Nothing(decided)),
        }
    }

    /// The server-side dry run: like the write, and nothing is written.
    pub fn dry_run(self, cause: Reason, write: Write) {
        if write == Write::Refused {
            return self.finish(Acted::Failed(Failed::NotWritable));
        }
        if self.meets_what_was_seen() {
            let next = if self.mutation == Some(Mutation::NoClaim) { Step::Permit } else { Step::Claim(cause) };
            self.goes_on(next);
        } else {
            self.stale();
        }
    }

    fn meets_what_was_seen(&self) -> bool {
        let version = |secret: &Secret| (secret.uid, secret.version);
        self.world.secret.as_ref().map(version) == self.pass.secret.as_ref().map(version)
    }

    /// The claim, which fails on a newer object.
    pub fn claim(mut self, cause: Reason, write: Write) {
        if self.world.replicas[self.who].role != Role::Leading {
            return self.fails(false);
        }
        if write == Write::Refused {
            return self.fails(true);
        }
        let status = verdict::claimed(&self.picture(), self.world.claims, cause);
        if !self.world.write_status(self.pass.object.version, status) {
            return self.fails(false);
        }
        self.world.claims += 1;
        if write == Write::AnswerLost {
            return self.fails(true);
        }
        self.pass.object = self.world.object.clone();
        self.pass.status = self.pass.object.status.clone();
        self.goes_on(Step::Permit);
    }

    /// The leadership is asked right before the request is sent.
    pub fn permit(self) {
        let is_given = self.world.replicas[self.who].role == Role::Leading || self.mutation == Some(Mutation::NoPermit);
        self.goes_on(if is_given { Step::Post } else { Step::Withdraw });
    }

    pub fn withdraw(self) {
        let status = Status { claim: None, ..self.pass.status.clone() };
        self.world.write_status(self.pass.object.version, status);
        self.fails(false);
    }

    /// The request that mints, and its answer.
    pub fn post(mut self, post: Post) {
        let claim = self.pass.status.claim.as_ref().map(|claim| claim.id);
        self.note_request(claim);
        if matches!(post, Post::Answered | Post::AnswerLost) {
            self.world.ledger.push(self.world.now);
        }
        match post {
            Post::Answered => self.keep(claim),
            Post::AnswerLost if self.mutation == Some(Mutation::RetriedRequest) => {
                self.note_request(claim);
                self.world.ledger.push(self.world.now);
                self.keep(claim);
            }
            Post::AnswerLost | Post::RequestLost => {
                self.world.costs += u8::from(post == Post::AnswerLost);
                self.world.replicas[self.who].memory.account = None;
                self.fails_under(claim, Failed::Lost);
            }
            Post::NotConnected => self.fails_under(claim, Failed::NotConnected),
        }
    }

    fn note_request(&mut self, claim: Option<u8>) {
        let Some(claim) = claim else {
            self.world.violation = Some(Violation::Unclaimed);
            return;
        };
        if self.world.posted & (1 << claim) != 0 {
            self.world.violation = Some(Violation::Repeated);
        }
        self.world.posted |= 1 << claim;
    }

    fn keep(self, claim: Option<u8>) {
        let now = self.world.now;
        let serial = u8::try_from(self.world.ledger.len() - 1).unwrap();
        let memory = &mut self.world.replicas[self.who].memory;
        if let Some(account) = &mut memory.account {
            account.made_since.push(now);
        }
        let content = Content { serial, claim, renewal: self.pass.original.renewal };
        memory.unsaved = Some(Unsaved { content, refused_until: None });
        self.goes_on(Step::Write);
    }

    fn fails_under(self, claim: Option<u8>, failed: Failed) {
        self.world.replicas[self.who].memory.ended = claim.map(|claim| (claim, failed));
        self.finish(Acted::Failed(failed));
    }

    /// The Secret is created, or patched in the version that was seen.
    pub fn write(mut self, write: Write) {
        if write == Write::Refused {
            return self.finish(Acted::Unsaved);
        }
        let content = self.world.replicas[self.who].memory.unsaved.clone().unwrap().content;
        match (self.put(content), write) {
            (Written::Done(secret), Write::Answered) => {
                let now = self.world.now;
                let memory = &mut self.world.replicas[self.who].memory;
                (memory.secret, memory.unsaved) = (Some((secret.clone(), Some(now))), None);
                self.pass.secret = Some(secret);
                self.finish(Acted::Written);
            }
            (Written::Conflict, Write::Answered) => self.stale(),
            _ => self.finish(Acted::Unsaved),
        }
    }

    fn put(&mut self, content: Content) -> Written {
        let is_free = self.mutation == Some(Mutation::NoPrecondition) || self.meets_what_was_seen();
        if !is_free {
            // Only a patch of what is gone is told so; all else that was not seen so is a conflict.
            return if self.world.secret.is_none() { Written::Gone } else { Written::Conflict };
        }
        let world = &mut *self.world;
        if let Some(old) = &world.secret {
            let ends = translation::not_after(&world.ledger, old.content.serial);
            if ends > world.now && translation::not_after(&world.ledger, content.serial) < ends {
                world.violation = Some(Violation::Overwritten);
            }
        }
        world.secret_version += 1;
        let uid = world.secret.as_ref().map_or(world.secret_version, |old| old.uid);
        world.saved |= 1 << content.serial;
        let secret = Secret { uid, version: world.secret_version, content };
        world.secret = Some(secret.clone());
        world.announce_secret(&SecretEvent::Shown(secret.clone()));
        Written::Done(secret)
    }

    /// What the status is to say, as in `reconcile::finish`.
    fn finish(mut self, acted: Acted) {
        let memory = &mut self.world.replicas[self.who].memory;
        let waits_to_save = matches!(acted, Acted::Nothing(_)) && memory.unsaved.is_some();
        if !matches!(acted, Acted::Unsaved) && !waits_to_save {
            memory.failures = 0;
        }
        let event = match acted {
            Acted::Nothing(Decided::Account) => match self.account() {
                Some(event) => event,
                None => return self.fails(false),
            },
            Acted::Nothing(_) | Acted::Written => Event::Nothing,
            Acted::Failed(failed) => Event::Failed(failed),
            Acted::Unsaved => {
                memory.failures += 1;
                let until = self.world.now + (1 << memory.failures.min(9));
                memory.unsaved.as_mut().unwrap().refused_until = Some(until);
                Event::Nothing
            }
        };
        let verdict = verdict(self.picture(), event);
        self.reports(verdict);
    }

    /// A claim without its certificate, as in `reconcile::account`; `None` where it is for the leader to say.
    fn account(&mut self) -> Option<Event> {
        let claim = self.pass.status.claim.as_ref().map(|claim| claim.id);
        let memory = &mut self.world.replicas[self.who].memory;
        if let Some((_, failed)) = memory.ended.filter(|(id, _)| Some(*id) == claim) {
            return Some(Event::Failed(failed));
        }
        if self.world.replicas[self.who].role != Role::Leading {
            return None;
        }
        let memory = &mut self.world.replicas[self.who].memory;
        (memory.unsaved, memory.account) = (None, None);
        Some(if self.mutation == Some(Mutation::ForgottenClaim) { Event::DroppedClaim } else { Event::LostClaim })
    }

    fn reports(mut self, verdict: Verdict) {
        let Verdict { decided, status, next } = verdict;
        let wake = match decided {
            Decided::Keep => next.map(Wake::Renewal),
            _ => next.filter(|_| self.mutation != Some(Mutation::NoRetry)).map(Wake::Retry),
        };
        // What is to be done next is looked at again within half a minute.
        let again = matches!(decided, Decided::Issue(_) | Decided::Examine(_) | Decided::Save | Decided::Account)
            || self.mutation == Some(Mutation::NoRest);
        if status == self.pass.object.status {
            return self.ends(wake, again);
        }
        let object = Object { version: self.pass.object.version, ..Object::default() };
        *self.pass =
            Pass { original: Object::default(), object, status: Status::default(), secret: None, made: None, ..*self.pass };
        self.goes_on(Step::Report { status: Box::new(status), wake, again });
    }

    /// The status is written; a newer object makes the pass void.
    pub fn report(self, status: Status, wake: Option<Wake>, again: bool, write: Write) {
        if write == Write::Refused {
            return self.fails(true);
        }
        if !self.world.write_status(self.pass.object.version, status) {
            return self.fails(false);
        }
        if write == Write::AnswerLost { self.fails(true) } else { self.ends(wake, again) }
    }

    fn ends(self, wake: Option<Wake>, again: bool) {
        let replica = &mut self.world.replicas[self.who];
        replica.memory.ended = None;
        if replica.role == Role::Leading {
            replica.wake = wake;
            replica.is_woken |= again;
        }
    }
}

/// The Secret by what the watch has shown and this process knows, as in `observe::secret_state`.
fn observe(world: &mut World, who: usize, status: &Status) -> Option<Secret> {
    let (now, replica) = (world.now, &world.replicas[who]);
    let remembered = replica.memory.secret.as_ref();
    let own_write =
        remembered.filter(|(_, awaited)| awaited.is_some_and(|since| now - since < ECHO_LIMIT)).map(|(secret, _)| secret);
    let Some(seen) = &replica.view.secret else {
        return match own_write {
            Some(secret) => Some(secret.clone()),
            None if status.serial.is_some() => read(world, who),
            None => None,
        };
    };
    let version = |secret: &Secret| (secret.uid, secret.version);
    if remembered.is_some_and(|(secret, _)| version(secret) == version(seen)) {
        return Some(seen.clone());
    }
    if let Some(secret) = own_write.filter(|secret| secret.uid == seen.uid && secret.version > seen.version) {
        return Some(secret.clone());
    }
    if status.verified == Some(version(seen)) { Some(seen.clone()) } else { read(world, who) }
}

fn read(world: &mut World, who: usize) -> Option<Secret> {
    let secret = world.secret.clone()?;
    world.replicas[who].memory.secret = Some((secret.clone(), None));
    Some(secret)
}
