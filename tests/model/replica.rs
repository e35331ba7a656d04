//! What a replica's steps meet in the world. Which step comes next is the operator's own to say.

use usercert_operator::api::Reason;

use crate::{
    memory::{kept_at, observe, read, recall},
    mutation::Mutation,
    pass::{self, Ended, Entry, Followed, Found, Log, Pass, Problem, Rest, Step},
    translation::{abstract_memory, not_after},
    world::{
        Claimant, Content, Failed, Failure, OTHER_USER, Object, Role, Secret, SecretEvent, Status, Time, Unsaved, User,
        Violation, Wake, World,
    },
};

/// A living process has saved what it made by then, as `decide::record_known_loss` has it.
pub const SAVED_BY_THEN: Time = 60;

/// A request has had its effect by then, as a lost claim without a list is waited for.
pub const HAD_EFFECT_BY_THEN: Time = 300;

/// How long a list is believed.
pub const BELIEVED: Time = 3600;

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

/// One step of a pass: the pass is taken out of its replica, and put back where it goes on.
pub struct Turn<'a> {
    world: &'a mut World,
    who: usize,
    log: Log,
    mutation: Option<Mutation>,
}

/// Begins a pass over the object as the watch has shown it.
pub fn begin(world: &mut World, who: usize, mutation: Option<Mutation>) {
    let replica = &mut world.replicas[who];
    (replica.is_woken, replica.wake) = (false, None);
    let log = Log { object: replica.view.object.clone(), ..Log::default() };
    Turn { world, who, log, mutation }.goes_on();
}

/// Looks at all as it is, and does nothing but save.
pub fn save(world: &mut World, who: usize, mutation: Option<Mutation>) {
    let log = Log { object: world.object.clone(), saves_only: true, ..Log::default() };
    Turn { world, who, log, mutation }.goes_on();
}

/// The same, or the beginning of a pass, with a Secret that cannot be read.
pub fn look_fails(world: &mut World, who: usize, mutation: Option<Mutation>) {
    let replica = &mut world.replicas[who];
    (replica.is_woken, replica.wake) = (false, None);
    let saves_only = replica.is_lapsed();
    let object = if saves_only { world.object.clone() } else { replica.view.object.clone() };
    let log = Log { object, saves_only, ..Log::default() };
    Turn { world, who, log, mutation }.finds(Found::NotObserved(Problem::Unanswered));
}

impl<'a> Turn<'a> {
    /// The pass in flight of this replica.
    pub fn new(world: &'a mut World, who: usize, mutation: Option<Mutation>) -> Self {
        let log = world.replicas[who].pass.take().unwrap().log;
        Self { world, who, log, mutation }
    }

    fn leads(&self) -> bool {
        self.world.replicas[self.who].role == Role::Leading
    }

    fn finds(mut self, found: Found) {
        self.log.found.push(Entry { found, now: self.world.now, leads: self.leads() });
        self.goes_on();
    }

    /// Asks the operator what follows, performs at once what meets nothing of the world, and leaves the pass at the next step that does.
    fn goes_on(mut self) {
        loop {
            let Followed { step, memory, made, forgets } = pass::followed(&self.log, &self.world.ledger);
            let (now, object) = (self.world.now, &mut self.world.replicas[self.who].memory);
            if let Some(memory) = memory {
                let kept = object.object.unsaved.as_ref().map(|unsaved| unsaved.content.clone());
                object.object = abstract_memory(&memory, kept.as_ref());
            }
            for account in forgets {
                object.users[kept_at(account, self.mutation)] = None;
            }
            let user = &mut object.users[kept_at(self.log.knows.0, self.mutation)];
            if let Some(user) = user {
                user.made_since.extend(made);
            }
            self.log.forget_time_of_last();
            let found = match step {
                Step::Observe { live } => self.observe(live),
                Step::Recall => Found::Recalled(recall(self.world, self.who, &self.log, self.mutation)),
                Step::TakeTurn => Found::Turn,
                Step::CheckUser => Found::UserChecked,
                Step::ReadObject => Found::ObjectRead,
                Step::Report { status, rest, failures } => return self.comes_to_report(status, rest, failures),
                Step::End(ended) => return self.ends(ended),
                Step::Claim(_) if self.mutation == Some(Mutation::NoClaim) => Found::Claimed(self.log.object.clone()),
                step => {
                    self.world.replicas[self.who].pass = Some(Box::new(Pass { log: self.log, step }));
                    return;
                }
            };
            self.log.found.push(Entry { found, now, leads: self.leads() });
        }
    }

    /// A look begins the pass anew.
    fn observe(&mut self, live: bool) -> Found {
        self.log.looks += u8::from(!self.log.found.is_empty());
        self.log.object = self.log.newest().clone();
        self.log.found.clear();
        let claimant = self.world.replicas[self.who].claimant(&self.log.object.status);
        let is_taken = self.mutation == Some(Mutation::TakenForRestarted) && claimant == Claimant::Another;
        let claimant = if is_taken { Claimant::OneBefore } else { claimant };
        self.log.knows = (self.world.account, claimant, self.world.is_unknown);
        let status = self.log.object.status.clone();
        let secret = if live { read(self.world, self.who) } else { observe(self.world, self.who, &status) };
        Found::Observed { secret, memory: self.world.replicas[self.who].memory.object.clone() }
    }

    /// Atlas lists what it made for the user, as this account sees it. The list may lag behind, so that it lacks the newest one that
    /// the operator had made.
    pub fn list(self, may_list: bool, lags: bool) {
        let account = self.log.knows.0;
        let mut serials = self.world.listed(account);
        serials.truncate(serials.len() - usize::from(lags));
        let user = User { asked_at: self.world.now, listed: may_list.then_some(serials), made_since: Vec::new() };
        self.world.replicas[self.who].memory.users[kept_at(account, self.mutation)] = Some(user);
        self.finds(Found::Listed);
    }

    /// The server-side dry run: like the write, and nothing is written.
    pub fn try_write(self, write: Write) {
        let tried = match write {
            Write::Refused => Err(Problem::Refused),
            _ if self.meets_what_was_seen() => Ok(()),
            _ => Err(Problem::Conflict),
        };
        self.finds(Found::Tried(tried));
    }

    fn meets_what_was_seen(&self) -> bool {
        let version = |secret: &Secret| (secret.uid, secret.version);
        self.world.secret.as_ref().map(version) == self.log.secret().map(version)
    }

    /// The claim, which fails on a newer object.
    pub fn claim(self, cause: Reason, write: Write) {
        if write == Write::Refused {
            let id = self.world.claims;
            return self.finds(Found::NotClaimed(id, Problem::Refused));
        }
        let status = pass::claimed(&self.log, &self.world.ledger, self.world.claims, cause, self.world.now);
        if !self.world.write_status(self.log.object.version, status) {
            let id = self.world.claims;
            return self.finds(Found::NotClaimed(id, Problem::Conflict));
        }
        let id = self.world.claims;
        self.world.claims += 1;
        self.world.replicas[self.who].wrote = Some((id, Claimant::Itself));
        let claimed = match write {
            Write::AnswerLost => Found::NotClaimed(id, Problem::Unanswered),
            _ => Found::Claimed(self.world.object.clone()),
        };
        self.finds(claimed);
    }

    /// The leadership is asked right before the request is sent.
    pub fn permit(self) {
        if self.leads() || self.mutation == Some(Mutation::NoPermit) {
            self.world.replicas[self.who].pass = Some(Box::new(Pass { log: self.log, step: Step::Post }));
        } else {
            self.finds(Found::NotIssued(Failed::NotConnected));
        }
    }

    pub fn withdraw(self) {
        let newest = self.log.newest().clone();
        self.world.write_status(newest.version, Status { claim: None, ..newest.status });
        self.finds(Found::Withdrawn);
    }

    /// The request that mints, and its answer.
    pub fn post(mut self, post: Post) {
        self.note_request();
        if matches!(post, Post::Answered | Post::AnswerLost) {
            self.make();
        }
        match post {
            Post::Answered => self.issued(),
            Post::AnswerLost if self.mutation == Some(Mutation::RetriedRequest) => {
                self.note_request();
                self.make();
                self.issued();
            }
            Post::AnswerLost | Post::RequestLost => {
                self.world.costs += u8::from(post == Post::AnswerLost);
                self.finds(Found::NotIssued(Failed::Lost));
            }
            Post::NotConnected => self.finds(Found::NotIssued(Failed::NotConnected)),
        }
    }

    fn make(&mut self) {
        self.world.elsewhere |= u16::from(self.log.knows.0) << self.world.ledger.len();
        let is_other_user = self.world.object.refers && self.log.knows.0 == 1;
        self.world.ledger.push(self.world.now | if is_other_user { OTHER_USER } else { 0 });
        self.world.unlisted_until = self.world.replicas[self.who].busy_until.unwrap_or(self.world.now + HAD_EFFECT_BY_THEN);
    }

    fn note_request(&mut self) {
        let Some(claim) = self.log.claim() else {
            self.world.violation = Some(Violation::Unclaimed);
            return;
        };
        if self.world.posted & (1 << claim) != 0 {
            self.world.violation = Some(Violation::Repeated);
        }
        self.world.posted |= 1 << claim;
    }

    /// What was minted is kept before anything else happens.
    fn issued(self) {
        let serial = u8::try_from(self.world.ledger.len() - 1).unwrap();
        let content = pass::content(&self.log, serial);
        let replica = &mut self.world.replicas[self.who];
        replica.memory.object.unsaved = Some(Unsaved { content, refused_until: None });
        replica.busy_until = replica.busy_until.map(|_| self.world.now + SAVED_BY_THEN);
        self.finds(Found::Issued(serial));
    }

    /// The Secret is created, or patched in the version that was seen.
    pub fn write(mut self, write: Write) {
        let written = match write {
            Write::Refused => Err(Problem::Refused),
            Write::Answered => self.put(),
            Write::AnswerLost => self.put().and(Err(Problem::Unanswered)),
        };
        if let Ok(secret) = &written {
            let now = self.world.now;
            self.world.replicas[self.who].memory.secret = Some((secret.clone(), Some(now)));
        }
        self.finds(Found::Written(written));
    }

    fn put(&mut self) -> Result<Secret, Problem> {
        let unsaved = self.world.replicas[self.who].memory.object.unsaved.as_ref();
        let content: Content = unsaved.unwrap().content.clone();
        if self.mutation != Some(Mutation::NoPrecondition) && !self.meets_what_was_seen() {
            // Only a patch of what is gone is told so; all else that was not seen so is a conflict.
            return Err(if self.world.secret.is_none() { Problem::NotFound } else { Problem::Conflict });
        }
        let world = &mut *self.world;
        if let Some(old) = &world.secret {
            let ends = not_after(&world.ledger, old.content.serial);
            if ends > world.now && not_after(&world.ledger, content.serial) < ends {
                world.violation = Some(Violation::Overwritten);
            }
        }
        world.secret_version += 1;
        let uid = world.secret.as_ref().map_or(world.secret_version, |old| old.uid);
        world.saved |= 1 << content.serial;
        let secret = Secret { uid, version: world.secret_version, content };
        world.secret = Some(secret.clone());
        world.announce_secret(&SecretEvent::Shown(secret.clone()));
        Ok(secret)
    }

    /// A status that says nothing new is not written. What is left of a pass that reports is its report.
    fn comes_to_report(mut self, status: Option<Box<Status>>, mut rest: Rest, failures: u8) {
        let newest = self.log.newest().clone();
        let status = status.map(|status| self.mutated(*status, &mut rest)).filter(|status| *status != newest.status);
        if self.mutation == Some(Mutation::NoRest) {
            rest.soon = true;
        }
        if self.mutation == Some(Mutation::NoRetry) {
            rest.wake = rest.wake.filter(|wake| matches!(wake, Wake::Renewal(_)));
        }
        if status.is_none() {
            return self.has_reported(rest, failures);
        }
        let object = Object { version: newest.version, ..Object::default() };
        self.log = Log { object, ..Log::default() };
        let step = Step::Report { status: status.map(Box::new), rest, failures };
        self.world.replicas[self.who].pass = Some(Box::new(Pass { log: self.log, step }));
    }

    /// With a mutation a claim that is taken for lost is dropped without a word, or the times of forced renewals are.
    fn mutated(&self, mut status: Status, rest: &mut Rest) -> Status {
        if self.mutation == Some(Mutation::ForgottenRenewals) {
            status.forced.clear();
        }
        if self.mutation == Some(Mutation::TrustedSilence)
            && let Some(Failure { next_attempt, unlisted: Some((_, next_question)), .. }) = &mut status.failure
        {
            *next_attempt = *next_question;
        }
        let old = &self.log.object.status;
        let counts = old.claim.is_some() && status.claim.is_none() && status.unaccounted != old.unaccounted;
        if self.mutation != Some(Mutation::ForgottenClaim) || !counts {
            return status;
        }
        rest.soon = true;
        Status { failure: old.failure.clone(), unaccounted: old.unaccounted.clone(), ..status }
    }

    /// The status is written; a newer object makes the pass void.
    pub fn report(self, status: Option<Status>, rest: Rest, failures: u8, write: Write) {
        if write == Write::Refused {
            return self.ends(pass::not_reported(Problem::Refused));
        }
        let version = self.log.object.version;
        if !status.is_none_or(|status| self.world.write_status(version, status)) {
            return self.ends(pass::not_reported(Problem::Conflict));
        }
        match write {
            Write::AnswerLost => self.ends(pass::not_reported(Problem::Unanswered)),
            _ => self.has_reported(rest, failures),
        }
    }

    fn has_reported(self, rest: Rest, failures: u8) {
        let memory = &mut self.world.replicas[self.who].memory.object;
        (memory.failed_request, memory.failures) = (None, failures);
        self.ends(Ended::Rest(rest));
    }

    fn ends(self, ended: Ended) {
        let leads = self.leads();
        let replica = &mut self.world.replicas[self.who];
        match ended {
            Ended::Rest(rest) if leads => {
                replica.wake = rest.wake;
                replica.is_woken |= rest.soon;
            }
            Ended::Failed => replica.is_woken |= leads,
            Ended::Rest(_) | Ended::Early => {}
        }
    }
}
