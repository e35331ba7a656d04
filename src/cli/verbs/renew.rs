//! `renew`: asks for new certificates, at a rate, and waits for them.
//!
//! All requests of a run have one value. So a run that was interrupted can be continued: what has this value already is not asked again.
//!
//! A run may last for hours. So each object is read again when its turn comes, and is asked only if it is still as it was read: a certificate
//! that somebody else has renewed meanwhile is not renewed once more.

mod outcome;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use usercert_operator_controller::chain;
use usercert_operator_core::api::{DatabaseUserCertificate, names::RENEW_REQUESTED_ANNOTATION};

use self::outcome::{
    Outcome, answer, came, failures_in_a_row, last_failure, late, obstacle, of_this_run, renewed_since, requested_at,
};
use super::{
    create::LOOK,
    objects::{Certificate, certificate_of, certificates, change, confirmed, targets},
};
use crate::{
    arguments::RenewArguments,
    cluster::Cluster,
    exit::{Answer, CliError},
    session::Session,
    terminal::Progress,
};

/// After so many failures in a row, the others are not asked for: they would fail too, or make it worse.
const MOST_FAILURES: usize = 5;

/// How often an object is asked that others change at the same time, or of which the answer is lost.
const MOST_ATTEMPTS: usize = 3;

/// A renewal that was asked for.
struct Awaited {
    index: usize,
    /// When the last attempt from before the request failed.
    failed_before: Option<Timestamp>,
    until: Instant,
}

/// One run: its objects, the value of its requests, and what has become of each.
struct Run<'a> {
    cluster: &'a Cluster,
    arguments: &'a RenewArguments,
    objects: Vec<Certificate>,
    value: String,
    /// When the run began, if this continues it.
    began: Option<Timestamp>,
    outcomes: Vec<Outcome>,
    /// The objects that had their answers before this run was continued. Their failures stop nothing: the cause may be mended.
    answered_before: BTreeSet<usize>,
    awaited: Vec<Awaited>,
    looked: Instant,
}

/// Does `renew`.
pub(super) async fn renew(cluster: &Cluster, session: &Session, arguments: &RenewArguments) -> Result<Answer, CliError> {
    if !arguments.dry_run {
        confirmed(&arguments.targets)?;
    }
    let objects = targets(cluster, &arguments.targets).await?;
    let value = match &arguments.continued {
        Some(value) => value.clone(),
        // A continued run compares it with times that the operator recorded. This machine's clock may be wrong.
        None => cluster.time().await.ok().flatten().unwrap_or_else(|| session.now()).to_string(),
    };
    let outcomes = objects.iter().map(|_| Outcome::Left("it was not come to".to_owned())).collect();
    let began = arguments.continued.as_ref().and_then(|value| value.parse().ok());
    let (answered_before, awaited, looked) = (BTreeSet::new(), Vec::new(), Instant::now());
    let mut run = Run { cluster, arguments, objects, value, began, outcomes, answered_before, awaited, looked };
    let tells = !arguments.dry_run && run.objects.len() > 1;
    if tells {
        session.terminal.record(&format!(
            "renewals are asked for as {0}: if this is interrupted, repeat the command with --continue {0}",
            run.value
        ));
    }
    run.ask(session, tells).await;
    if arguments.wait {
        run.wait(session).await;
    }
    answer(&run.objects, &run.outcomes, &run.value, session, arguments.output)
}

/// One turn now, and then one in each interval, however late the one before was.
fn turns(interval: Duration) -> Interval {
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

impl Run<'_> {
    /// Asks for each renewal in its turn, until too many have failed in a row.
    async fn ask(&mut self, session: &Session, tells: bool) {
        let mut turns = turns(self.arguments.at_most.interval);
        for index in 0..self.objects.len() {
            if self.take_up(index).await {
                continue;
            }
            if let Some(obstacle) = obstacle(&self.objects[index], session.now()) {
                self.outcomes[index] = Outcome::Left(obstacle);
                continue;
            }
            if !self.arguments.dry_run {
                turns.tick().await;
                self.look_now_and_then().await;
            }
            let answers = (0..index).filter(|before| !self.answered_before.contains(before));
            if failures_in_a_row(answers.map(|before| &self.outcomes[before])) >= MOST_FAILURES {
                return self.leave(index).await;
            }
            let outcome = if self.arguments.dry_run { self.try_out(index).await } else { self.ask_for(index, session).await };
            if tells {
                let object = &self.objects[index];
                let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
                session.terminal.record(&format!("{name}: {} ({} of {})", outcome.words(), index + 1, self.objects.len()));
            }
            self.outcomes[index] = outcome;
        }
    }

    /// Has the API server check the request.
    async fn try_out(&self, index: usize) -> Outcome {
        match change(self.cluster, &self.objects[index], self.request(), true).await {
            Ok(_) => Outcome::WouldAsk,
            Err(error) if error.is_gone() => Outcome::deleted(),
            Err(error) => Outcome::Refused(chain(&error)),
        }
    }

    /// Asks for one renewal, of the object as it is now. All attempts have one value, so the operator answers them with one certificate.
    async fn ask_for(&mut self, index: usize, session: &Session) -> Outcome {
        let listed = &self.objects[index];
        let (namespace, name) = (listed.namespace().unwrap_or_default(), listed.name_any());
        let (mut unanswered, mut last) = (false, None);
        for _ in 0..MOST_ATTEMPTS {
            let object = match certificate_of(self.cluster, &namespace, &name).await {
                Ok(object) if object.uid() == self.objects[index].uid() => object,
                Ok(_) | Err(CliError::NotFound(_)) => return Outcome::deleted(),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            };
            match of_this_run(&object, &self.value, self.began).or_else(|| renewed_since(&self.objects[index], &object)) {
                Some(Outcome::Asked) => return self.asked(index, &object),
                Some(outcome) => return outcome,
                None => {}
            }
            if let Some(obstacle) = obstacle(&object, session.now()) {
                return Outcome::Left(obstacle);
            }
            let mut request = self.request();
            request["metadata"]["resourceVersion"] = json!(object.resource_version());
            match change(self.cluster, &object, request, false).await {
                Ok(changed) => return self.asked(index, &changed),
                Err(error) if error.is_missing() => return Outcome::deleted(),
                Err(error) if error.is_conflict() || error.is_unanswered() || error.is_unsent() => {
                    unanswered |= error.is_unanswered();
                    last = Some(error);
                }
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
        }
        let why = last.map(|error| chain(&error)).unwrap_or_default();
        if !unanswered {
            return Outcome::Refused(why);
        }
        let value = &self.value;
        // The value stands first: a message of a webhook may be longer than a cell of a table.
        Outcome::Unknown(format!("repeat the command with --continue {value}, which makes no second certificate: {why}"))
    }

    fn request(&self) -> Value {
        json!({ "metadata": { "annotations": { RENEW_REQUESTED_ANNOTATION: self.value } } })
    }

    fn asked(&mut self, index: usize, object: &Certificate) -> Outcome {
        self.expect(index, last_failure(object));
        Outcome::Asked
    }

    /// Takes over what this run has done for the object before it was interrupted. `false` if it has not come to it.
    async fn take_up(&mut self, index: usize) -> bool {
        let Some(mut outcome) = of_this_run(&self.objects[index], &self.value, self.began) else { return false };
        if outcome == Outcome::Asked {
            let failed_before = self.failed_before(index).await;
            match came(&self.objects[index], &self.value, failed_before) {
                Some(answer) => {
                    outcome = answer;
                    self.answered_before.insert(index);
                }
                None => self.expect(index, failed_before),
            }
        }
        self.outcomes[index] = outcome;
        true
    }

    /// Leaves this object and those after it as they are, but for what this run has asked for before it was interrupted.
    async fn leave(&mut self, from: usize) {
        for index in from..self.objects.len() {
            if !self.take_up(index).await {
                let why = format!("not asked for, because {MOST_FAILURES} in a row failed");
                self.outcomes[index] = Outcome::Left(why);
            }
        }
    }

    /// The last failure of an object that was asked for before this run was interrupted, if it is no answer to the request: it is older than
    /// that, or how old the request is cannot be known.
    async fn failed_before(&self, index: usize) -> Option<Timestamp> {
        let object = &self.objects[index];
        let failed = last_failure(object)?;
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api = Api::<DatabaseUserCertificate>::namespaced(self.cluster.client.clone(), &namespace);
        let operation = format!("look at who changed the certificate {namespace}/{name}");
        let metadata = self.cluster.ask(operation, api.get_metadata(&name)).await.ok();
        let requested = metadata.and_then(|found| requested_at(&found.metadata.managed_fields.unwrap_or_default()));
        // Both are whole seconds, and many an answer comes within one: a failure of the same second is an answer.
        Some(failed).filter(|failed| requested.is_none_or(|requested| *failed < requested))
    }

    fn expect(&mut self, index: usize, failed_before: Option<Timestamp>) {
        self.awaited.push(Awaited { index, failed_before, until: Instant::now() + self.arguments.timeout });
    }

    /// Looks at what was asked for, where the run is long enough to be stopped by failures.
    async fn look_now_and_then(&mut self) {
        if self.awaited.len() >= MOST_FAILURES && self.looked.elapsed() >= LOOK {
            self.look().await;
        }
    }

    /// Looks at the objects until each has its answer, or its time is over.
    async fn wait(&mut self, session: &Session) {
        let (all, mut progress) = (self.awaited.len(), Progress::new(&session.terminal));
        while !self.awaited.is_empty() {
            tokio::time::sleep(LOOK).await;
            self.look().await;
            progress.tell(|| format!("{} of {all} renewals are carried out or refused", all - self.awaited.len()));
        }
    }

    /// Looks once at all that is awaited.
    async fn look(&mut self) {
        let found = self.found().await;
        self.looked = Instant::now();
        for waiting in std::mem::take(&mut self.awaited) {
            let object = &self.objects[waiting.index];
            let found = found.get(&waiting.index);
            let outcome = match found {
                Some(Ok(found)) => came(found, &self.value, waiting.failed_before),
                Some(Err(CliError::NotFound(_))) => Some(Outcome::Failed("the object was deleted".to_owned())),
                // It may be answered the next time.
                Some(Err(_)) | None => None,
            };
            let is_late = self.arguments.wait && Instant::now() >= waiting.until;
            match outcome {
                Some(outcome) => self.outcomes[waiting.index] = outcome,
                None if is_late => {
                    let known = found.and_then(|found| found.as_ref().ok()).unwrap_or(object);
                    self.outcomes[waiting.index] = Outcome::Failed(late(known));
                }
                None => self.awaited.push(waiting),
            }
        }
    }

    /// What is awaited, as it is now: by one list, where objects were not named one by one.
    async fn found(&self) -> BTreeMap<usize, Result<Certificate, CliError>> {
        let key = |object: &Certificate| (object.namespace(), object.name_any());
        let targets = &self.arguments.targets;
        let mut listed = BTreeMap::new();
        if targets.names.is_empty() {
            // An API server that gives no list is not asked for each object instead.
            let Ok(list) = certificates(self.cluster, &[], &targets.selection).await else { return BTreeMap::new() };
            listed.extend(list.into_iter().map(|object| (key(&object), object)));
        }
        let mut found = BTreeMap::new();
        for waiting in &self.awaited {
            let object = &self.objects[waiting.index];
            let now = match listed.remove(&key(object)) {
                Some(object) => Ok(object),
                // It is named, it was deleted, or it lost its label.
                None => certificate_of(self.cluster, &object.namespace().unwrap_or_default(), &object.name_any()).await,
            };
            found.insert(waiting.index, now);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_took_long_is_not_made_up_for() {
        let mut turns = turns(Duration::from_secs(3));
        turns.tick().await;
        tokio::time::advance(Duration::from_mins(1)).await;
        turns.tick().await;
        let asked = Instant::now();
        for turn in 1..=5 {
            turns.tick().await;
            assert!(asked.elapsed() >= Duration::from_secs(3 * turn), "turn {turn} came after {:?}", asked.elapsed());
        }
    }
}
