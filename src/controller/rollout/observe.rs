//! What is there: the workloads that follow a certificate, their pods, and what cannot be moved.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::ListParams,
    core::{GroupVersionKind, Selector},
};
use serde_json::Value;

use super::{Kind, Object, memory::SeenPods};
use crate::{
    Context,
    api::{Reason, Rollout, WorkloadReference},
    decide::pass::RequestErrorKind,
    kubernetes::KubernetesError,
    pages::each_page,
    rollout_rules::{Awaited, Found, Move, Outside, Pod, RolledCertificate, Workload, holds_place},
};

/// Up to so many workloads of a kind are read one by one; more are listed.
const MOST_READ_ONE_BY_ONE: usize = 3;

/// The pods of up to so many workloads are listed one by one; for more, all pods of the namespace are listed once.
const MOST_LISTED_ONE_BY_ONE: usize = 4;

/// Why workloads cannot be looked at or changed.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// A person has to change something.
    Refused(Reason, String),
    /// A request failed, and is repeated.
    Failed(KubernetesError),
    /// It took longer than this, and is repeated.
    CutOff(Duration),
    /// The status was not written.
    NotWritten(KubernetesError),
}

impl Obstacle {
    /// Of a request about objects of this kind.
    pub(super) fn of(error: KubernetesError, verb: &str, kind: &Kind, namespace: &str) -> Self {
        // A token that is not accepted, such as one that has run out, is no missing right.
        if error.kind() != RequestErrorKind::Refused || error.is_expired() || error.is_unauthenticated() {
            return Self::Failed(error);
        }
        if !error.is_denied() {
            let message = format!("the API server refuses to {verb} {}: {}", kind.resource(), error.explanation());
            return Self::Refused(Reason::InvalidSpec, message);
        }
        Self::Refused(Reason::RolloutForbidden, missing_right(&error, verb, kind, namespace))
    }
}

/// Which right is missing, as a sentence.
pub(super) fn missing_right(error: &KubernetesError, verb: &str, kind: &Kind, namespace: &str) -> String {
    let what = format!("the operator may not {verb} {} in namespace {namespace}", kind.resource());
    format!("{what}: the chart's value rollout.enabled gives this right; {}", error.explanation())
}

/// The workloads that follow a certificate.
#[derive(Default)]
struct Followers {
    workloads: Vec<Workload>,
    /// Those that the spec names and that do not exist.
    missing: Vec<WorkloadReference>,
    /// Objects that have no pod template. Of those that the spec does not name nothing is told.
    without_template: Vec<WorkloadReference>,
    /// What is wrong with kinds that the API server does not serve.
    not_served: BTreeSet<String>,
}

impl Followers {
    /// Adds those of these objects of a kind that count.
    fn take(&mut self, kind: &Kind, objects: &[Value], counts: impl Fn(&Workload) -> bool) {
        match objects.iter().find_map(|object| kind.other_kind(object)) {
            Some(other_kind) => {
                self.not_served.insert(other_kind);
            }
            None => {
                for object in objects {
                    match kind.read(object) {
                        Some(workload) if counts(&workload) => self.workloads.push(workload),
                        Some(_) => {}
                        None => self.without_template.extend(kind.reference(object)),
                    }
                }
            }
        }
    }

    /// Notes whether the kind is served. It is `Err` only if the other kinds cannot be looked at either.
    fn asked(&mut self, asked: Result<(), KubernetesError>, verb: &str, kind: &Kind, namespace: &str) -> Result<(), Obstacle> {
        match asked {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == RequestErrorKind::NotFound => {
                self.not_served.insert(kind.not_served());
                Ok(())
            }
            Err(error) => Err(Obstacle::of(error, verb, kind, namespace)),
        }
    }
}

/// Looks at what one rollout is about.
pub(super) struct Observer<'a> {
    pub(super) context: &'a Context,
    pub(super) object: &'a Object,
    pub(super) certificate: &'a RolledCertificate,
    pub(super) kinds: &'a [Kind],
    pub(super) seen: &'a mut SeenPods,
    pub(super) now: Timestamp,
}

impl Observer<'_> {
    /// Everything that a plan wants to know. The pods of workloads that have a place are asked for at each look, those of others if they
    /// may have changed.
    pub(super) async fn observe(&mut self) -> Result<Found, Obstacle> {
        let Followers { mut workloads, missing, without_template, not_served } = self.workloads().await?;
        let not_served = not_served.into_iter().collect();
        self.seen.retain(&workloads);
        let rollout = self.object.status.as_ref().and_then(|status| status.rollout.as_ref());
        let is_first = rollout.is_none_or(|rollout| {
            rollout.serial_number != self.certificate.serial_number
                || rollout.observed_generation != self.object.metadata.generation
        });
        if is_first {
            let outside = Some(self.outside(&mut workloads).await?);
            return Ok(Found { workloads, missing, without_template, not_served, outside, refused: Vec::new() });
        }
        let begun = rollout.map(|rollout| rollout.begun.as_slice()).unwrap_or_default();
        let mut asked_for: Vec<&mut Workload> = Vec::new();
        for workload in &mut workloads {
            let begun = begun.iter().find(|begun| begun.workload == workload.reference);
            let has_place = begun.is_some_and(|begun| holds_place(workload, begun));
            if workload.needs_pods(self.certificate, begun.is_some()) && (has_place || !self.seen.recall(workload, self.now)) {
                asked_for.push(workload);
            }
        }
        if asked_for.len() <= MOST_LISTED_ONE_BY_ONE {
            for workload in asked_for {
                self.pods_of(workload).await?;
            }
        } else {
            self.pods_of_all(&mut workloads, |_, _| {}).await?;
        }
        Ok(Found { workloads, missing, without_template, not_served, ..Found::default() })
    }

    /// Asks for the pods of workloads that are to be moved and whose pods were not asked for just now: somebody may have restarted them.
    /// False if there are none.
    pub(super) async fn look_before_moving(&mut self, moves: &[Move], found: &mut Found) -> Result<bool, Obstacle> {
        let is_old = |workload: &Workload| {
            let is_next = moves.iter().any(|next| next.workload == workload.reference);
            is_next && !self.seen.is_of_now(&workload.reference, self.now)
        };
        let mut old: Vec<&mut Workload> = found.workloads.iter_mut().filter(|workload| is_old(workload)).collect();
        let is_any = !old.is_empty();
        if old.len() > MOST_LISTED_ONE_BY_ONE {
            self.pods_of_all(&mut found.workloads, |_, _| {}).await?;
            return Ok(is_any);
        }
        for workload in &mut old {
            self.pods_of(workload).await?;
        }
        Ok(is_any)
    }

    /// These workloads, one by one; `None` if one of them cannot be read.
    pub(super) async fn glance(&self, awaited: &Awaited) -> Option<Vec<Workload>> {
        let mut seen = Vec::new();
        for workload in awaited.references() {
            let kind = self.kinds.iter().find(|kind| kind.is_of(workload))?;
            let found = kind.get(&self.context.client, &self.namespace(), &workload.name).await.ok()??;
            seen.push(kind.read(&found)?);
        }
        Some(seen)
    }

    /// Asks for all pods: gives each workload its own, and tells what else uses the Secret. This is looked for when a rollout begins, and
    /// when nothing is left to do for the operator. It costs the same requests whichever workloads there are.
    pub(super) async fn outside(&mut self, workloads: &mut [Workload]) -> Result<Outside, Obstacle> {
        let kinds = self.kinds.iter().map(|kind| GroupVersionKind::gvk(&kind.0.group, &kind.0.version, &kind.0.kind));
        let kinds: Vec<GroupVersionKind> = kinds.collect();
        let (certificate, now, mut found) = (self.certificate, self.now, Outside::default());
        self.pods_of_all(workloads, |pods, workloads| {
            found.add((pods, &[]), workloads, certificate, &kinds, now);
        })
        .await?;
        self.built_in(&Kind::jobs(), &ListParams::default(), |jobs| {
            found.add((&[], jobs), workloads, certificate, &kinds, now);
        })
        .await?;
        Ok(found)
    }

    /// Asks for all pods of the namespace, and gives each workload its own.
    async fn pods_of_all(
        &mut self,
        workloads: &mut [Workload],
        mut each: impl FnMut(&[Value], &[Workload]),
    ) -> Result<(), Obstacle> {
        for workload in &mut *workloads {
            workload.pods = None;
        }
        self.built_in(&Kind::pods(), &ListParams::default(), |page| {
            let pods: Vec<Pod> = page.iter().map(Pod::read).collect();
            for workload in &mut *workloads {
                workload.take_pods(&pods);
            }
            each(page, workloads);
        })
        .await?;
        for workload in workloads {
            self.seen.note(workload, self.now);
        }
        Ok(())
    }

    /// Asks for the pods of one workload. One without a selector that can be read has none that are known.
    async fn pods_of(&mut self, workload: &mut Workload) -> Result<(), Obstacle> {
        workload.pods = None;
        if let Some(Ok(selector)) = workload.selector.clone().map(Selector::try_from) {
            let parameters = ListParams::default().labels_from(&selector);
            self.built_in(&Kind::pods(), &parameters, |page| {
                workload.take_pods(&page.iter().map(Pod::read).collect::<Vec<_>>());
            })
            .await?;
        }
        self.seen.note(workload, self.now);
        Ok(())
    }

    /// Lists objects page by page.
    async fn pages(&self, kind: &Kind, parameters: &ListParams, each: impl FnMut(&[Value])) -> Result<(), KubernetesError> {
        each_page(&self.context.client, &kind.requests(&self.namespace()), "list workloads", parameters, each).await
    }

    /// The same for pods and Jobs, which each API server serves.
    async fn built_in(&self, kind: &Kind, parameters: &ListParams, each: impl FnMut(&[Value])) -> Result<(), Obstacle> {
        self.pages(kind, parameters, each).await.map_err(|error| Obstacle::of(error, "list", kind, &self.namespace()))
    }

    fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    async fn workloads(&self) -> Result<Followers, Obstacle> {
        let Rollout { workloads, selector, .. } = &self.certificate.rollout;
        if let Some(named) = workloads {
            return self.named(named).await;
        }
        let mut parameters = ListParams::default();
        if let Some(selector) = selector {
            let read = Selector::try_from(selector.clone());
            let read =
                read.map_err(|error| Obstacle::Refused(Reason::InvalidSpec, format!("spec.rollout.selector: {error}")))?;
            parameters = parameters.labels_from(&read);
        }
        let mut found = Followers::default();
        for kind in self.kinds {
            let listed =
                self.pages(kind, &parameters, |page| found.take(kind, page, |workload| self.certificate.covers(workload)));
            let listed = listed.await;
            found.asked(listed, "list", kind, &self.namespace())?;
        }
        let made = found.workloads.iter().filter(|workload| workload.is_made_by_one_of(&found.workloads));
        let made: BTreeSet<WorkloadReference> = made.map(|workload| workload.reference.clone()).collect();
        found.workloads.retain(|workload| !made.contains(&workload.reference));
        found.workloads.sort_by(|one, other| one.reference.cmp(&other.reference));
        // Nobody has named these, and they follow nothing.
        found.without_template.clear();
        Ok(found)
    }

    /// The workloads that the spec names, in its order, and those of them that do not exist.
    async fn named(&self, named: &[WorkloadReference]) -> Result<Followers, Obstacle> {
        if let Some(other) = named.iter().find(|workload| !self.kinds.iter().any(|kind| kind.is_of(workload))) {
            return Err(Obstacle::Refused(Reason::InvalidSpec, not_served(other, self.kinds)));
        }
        let (namespace, mut read) = (self.namespace(), Followers::default());
        for kind in self.kinds {
            let of_kind: Vec<&WorkloadReference> = named.iter().filter(|workload| kind.is_of(workload)).collect();
            if of_kind.len() > MOST_READ_ONE_BY_ONE {
                let is_named = |workload: &Workload| named.contains(&workload.reference);
                let listed = self.pages(kind, &ListParams::default(), |page| read.take(kind, page, is_named)).await;
                read.asked(listed, "list", kind, &namespace)?;
            } else if !of_kind.is_empty() {
                let asked = of_kind.iter().map(|workload| kind.get(&self.context.client, &namespace, &workload.name));
                let asked = futures::future::try_join_all(asked).await;
                let asked = asked.map(|found| read.take(kind, &found.into_iter().flatten().collect::<Vec<_>>(), |_| true));
                read.asked(asked, "get", kind, &namespace)?;
            }
        }
        let mut found = Followers { not_served: read.not_served, ..Followers::default() };
        for reference in named {
            match read.workloads.iter().find(|workload| workload.reference == *reference) {
                // A workload that is named twice counts once.
                Some(workload) if found.workloads.iter().all(|known| known.reference != *reference) => {
                    found.workloads.push(workload.clone());
                }
                Some(_) => {}
                None if read.without_template.contains(reference) => found.without_template.push(reference.clone()),
                None => found.missing.push(reference.clone()),
            }
        }
        Ok(found)
    }
}

fn not_served(workload: &WorkloadReference, kinds: &[Kind]) -> String {
    let known: Vec<&str> = kinds.iter().map(|kind| kind.0.kind.as_str()).collect();
    let hint = match workload.kind.as_str() {
        "CronJob" => "the next run of a CronJob has the new certificate anyway",
        "Job" | "Pod" => "a Job and a Pod cannot be moved: replace it",
        _ => "the chart's value rollout.kinds (--rollout-kind) names further kinds",
    };
    let WorkloadReference { api_version, kind, name } = workload;
    format!("spec.rollout.workloads: {kind} {name} of {api_version} is none of {}; {hint}", known.join(", "))
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_token_that_has_run_out(401, None)]
    #[case::a_missing_right(403, Some(Reason::RolloutForbidden))]
    #[case::a_list_that_was_read_too_slowly(410, None)]
    #[case::a_selector_that_is_refused(422, Some(Reason::InvalidSpec))]
    #[case::a_server_that_fails(500, None)]
    fn what_a_person_has_to_change_is_told_from_what_passes(#[case] code: u16, #[case] expected: Option<Reason>) {
        let status = Status { code, message: "no".to_owned(), ..Status::default() };
        let error = KubernetesError::Request { operation: "list", source: Box::new(kube::Error::Api(Box::new(status))) };
        match (Obstacle::of(error, "list", &Kind::pods(), "shop"), expected) {
            (Obstacle::Failed(_), None) => {}
            (Obstacle::Refused(reason, _), Some(expected)) => assert_eq!(reason, expected),
            (other, _) => panic!("{code}: {other:?}"),
        }
    }
}
