//! `renew`: asks for new certificates, at a rate, and waits for them.
//!
//! All requests of a run have one value. So a run that was interrupted can be continued: what has this value already is not asked again.

mod outcome;

use std::{collections::BTreeMap, time::Duration};

use kube::ResourceExt;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use usercert_operator_core::api::names::RENEW_REQUESTED_ANNOTATION;

use self::outcome::{Outcome, answer, came, failures_in_a_row, late, obstacle, of_this_run};
use super::{
    Session,
    create::LOOK,
    objects::{Certificate, certificate_of, certificates, change, confirmed, targets},
};
use crate::{
    arguments::RenewArguments,
    cluster::Cluster,
    exit::{Answer, CliError},
    terminal::Progress,
};

/// After so many failures in a row, the others are not asked for: they would fail too, or make it worse.
const MOST_FAILURES: usize = 5;

/// A renewal that was asked for.
struct Awaited {
    index: usize,
    /// When the last attempt of before failed.
    failed_before: Option<jiff::Timestamp>,
    until: Instant,
}

/// One run: its objects, the value of its requests, and what has become of each.
struct Run<'a> {
    cluster: &'a Cluster,
    arguments: &'a RenewArguments,
    objects: Vec<Certificate>,
    value: String,
    outcomes: Vec<Outcome>,
    awaited: Vec<Awaited>,
    looked: Instant,
}

/// Does `renew`.
pub(super) async fn renew(cluster: &Cluster, session: &Session, arguments: &RenewArguments) -> Result<Answer, CliError> {
    if !arguments.dry_run {
        confirmed(&arguments.targets)?;
    }
    let objects = targets(cluster, &arguments.targets).await?;
    let value = arguments.continued.clone().unwrap_or_else(|| session.now().to_string());
    let outcomes = objects.iter().map(|_| Outcome::Left("it was not come to".to_owned())).collect();
    let mut run = Run { cluster, arguments, objects, value, outcomes, awaited: Vec::new(), looked: Instant::now() };
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
            let object = &self.objects[index];
            let found = of_this_run(object, &self.value).or_else(|| obstacle(object, session.now()).map(Outcome::Left));
            if let Some(found) = found {
                if found == Outcome::Asked {
                    self.expect(index, None);
                }
                self.outcomes[index] = found;
                continue;
            }
            if !self.arguments.dry_run {
                turns.tick().await;
                self.look_now_and_then().await;
            }
            if failures_in_a_row(&self.outcomes[..index]) >= MOST_FAILURES {
                let why = format!("not asked for, because {MOST_FAILURES} in a row failed");
                self.outcomes[index..].fill(Outcome::Left(why));
                return;
            }
            let object = &self.objects[index];
            let patch = json!({ "metadata": { "annotations": { RENEW_REQUESTED_ANNOTATION: self.value } } });
            let outcome = match change(self.cluster, object, patch, self.arguments.dry_run).await {
                Ok(_) if self.arguments.dry_run => Outcome::WouldAsk,
                Ok(changed) => {
                    let failure = changed.status.as_ref().and_then(|status| status.failure.as_ref());
                    let failed_before = failure.map(|failure| failure.last_time.0);
                    self.expect(index, failed_before);
                    Outcome::Asked
                }
                Err(error) => Outcome::Failed(usercert_operator_controller::chain(&error)),
            };
            if tells {
                let object = &self.objects[index];
                let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
                session.terminal.record(&format!("{name}: {} ({} of {})", outcome.words(), index + 1, self.objects.len()));
            }
            self.outcomes[index] = outcome;
        }
    }

    fn expect(&mut self, index: usize, failed_before: Option<jiff::Timestamp>) {
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
            let list = certificates(self.cluster, &[], &targets.selection).await.unwrap_or_default();
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
