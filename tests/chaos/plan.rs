//! Which schedules there are, and which of them a cut takes.

use std::time::Duration;

use usercert_test_support::fault_proxy::{Fault, Moment, WatchFault};

use crate::{
    scenario::Scenario,
    schedule::{Denied, Outcome, Reference, Schedule, Since, Wrong},
    walk::Walk,
    world::{IssuerType, Server},
};

/// A scenario with an issuer.
pub type Combination = (Scenario, IssuerType);

/// What can be run.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial {
    Schedule(Schedule),
    Walk(Walk),
}

impl Trial {
    /// What repeats it: `--only NAME`.
    pub fn name(&self) -> String {
        match self {
            Self::Schedule(schedule) => schedule.name(),
            Self::Walk(walk) => walk.name(),
        }
    }

    /// Runs it.
    pub async fn run(&self, references: &[(Combination, Reference)]) -> anyhow::Result<Outcome> {
        match self {
            Self::Schedule(schedule) => {
                let combination = (schedule.scenario, schedule.issuer);
                let reference = references.iter().find(|(other, _)| *other == combination).map(|(_, reference)| reference);
                schedule.run(reference.unwrap_or(&Reference::default())).await
            }
            Self::Walk(walk) => walk.run().await,
        }
    }
}

/// So many walks of so many steps.
const WALKS_IN_CUT: (u64, usize) = (4, 5);
const WALKS: (u64, usize) = (100, 8);

/// So many lists a start asks for.
const LISTS: usize = 4;

/// So many of each kind are in a cut.
const CUT: [(Kind, usize); 7] = [
    (Kind::Denied, 5),
    (Kind::Crash, 40),
    (Kind::Answer, 12),
    (Kind::Event, 8),
    (Kind::OldView, 8),
    (Kind::MadeAgain, 5),
    (Kind::TwoLeaders, 4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The process ends, or an answer is lost.
    Crash,
    /// An answer is a refusal, or late.
    Answer,
    /// Many answers are refusals, or late, for a while.
    Denied,
    Event,
    OldView,
    MadeAgain,
    TwoLeaders,
}

/// All of them, or those that a schedule's name is about.
pub fn combinations(only: Option<&str>) -> Vec<Combination> {
    let all = Scenario::ALL
        .into_iter()
        .flat_map(|scenario| [IssuerType::Atlas, IssuerType::Ca].map(|issuer| (scenario, issuer)))
        .filter(|(scenario, issuer)| scenario.applies_to(*issuer));
    let prefix = |(scenario, issuer): &Combination| format!("{}/{}", scenario.name(), issuer.name());
    all.filter(|combination| only.is_none_or(|only| is_about(only, &prefix(combination)))).collect()
}

/// Whether a part of a schedule's name could belong to a name that begins so.
fn is_about(only: &str, prefix: &str) -> bool {
    let parts: Vec<&str> = only.split('/').collect();
    only.starts_with("walk/") && prefix.starts_with("first-issue") || parts.len() < 3 || only.starts_with(&format!("{prefix}/"))
}

/// The schedules to run.
pub fn choose(references: &[(Combination, Reference)], full: bool, only: Option<&str>, seed: u64) -> Vec<Trial> {
    if let Some(walk) = only.and_then(walk_named) {
        return vec![Trial::Walk(walk)];
    }
    let walks = walks(full, seed).into_iter().map(Trial::Walk);
    let schedules = choose_schedules(references, full, only, seed).into_iter().map(Trial::Schedule);
    // Walks take longest, so they begin.
    walks.filter(|walk| only.is_none_or(|only| walk.name().contains(only))).chain(schedules).collect()
}

fn walks(full: bool, seed: u64) -> Vec<Walk> {
    let (count, steps) = if full { WALKS } else { WALKS_IN_CUT };
    let issuer = |number: u64| if number.is_multiple_of(2) { IssuerType::Ca } else { IssuerType::Atlas };
    (0..count).map(|number| Walk { issuer: issuer(number), seed: seed.wrapping_add(number), steps }).collect()
}

/// `walk/ca/17/8`: of this issuer, by any seed, of so many steps.
fn walk_named(name: &str) -> Option<Walk> {
    let [issuer, seed, steps] = name.strip_prefix("walk/")?.split('/').collect::<Vec<_>>().try_into().ok()?;
    let issuer = [IssuerType::Atlas, IssuerType::Ca].into_iter().find(|other| other.name() == issuer)?;
    Some(Walk { issuer, seed: seed.parse().ok()?, steps: steps.parse().ok()? })
}

fn choose_schedules(references: &[(Combination, Reference)], full: bool, only: Option<&str>, seed: u64) -> Vec<Schedule> {
    let all: Vec<(Kind, Schedule)> =
        references.iter().flat_map(|(combination, reference)| of(*combination, reference)).collect();
    if let Some(only) = only {
        return all.into_iter().map(|(_, schedule)| schedule).filter(|schedule| schedule.name().contains(only)).collect();
    }
    if full {
        return all.into_iter().map(|(_, schedule)| schedule).collect();
    }
    let mut random = Random(seed);
    let mut chosen = Vec::new();
    for (kind, count) in CUT {
        let mut candidates: Vec<&Schedule> =
            all.iter().filter(|(other, _)| *other == kind).map(|(_, schedule)| schedule).collect();
        for _ in 0..count.min(candidates.len()) {
            chosen.push(candidates.swap_remove(random.below(candidates.len())).clone());
        }
    }
    chosen
}

/// Every schedule of a scenario.
fn of((scenario, issuer): Combination, reference: &Reference) -> Vec<(Kind, Schedule)> {
    let mut found = Vec::new();
    let mut add = |kind, wrong| found.push((kind, Schedule { scenario, issuer, wrong }));
    for (server, requests) in [Server::Kubernetes, Server::Atlas].into_iter().zip(&reference.requests) {
        // A list is of a watch that begins anew, which has its own schedules.
        for (number, asked) in requests.iter().enumerate().filter(|(_, asked)| !asked.is_list()) {
            for moment in [Moment::Before, Moment::After] {
                add(Kind::Crash, Wrong::Request(server, number, Fault::Kill(moment)));
                add(Kind::Crash, Wrong::Request(server, number, Fault::Cut(moment)));
                if matches!(scenario, Scenario::FirstIssue | Scenario::ForcedRenewal) {
                    add(Kind::MadeAgain, Wrong::MadeAgain(server, number, moment));
                }
            }
            for status in [409, 403, 429, 500] {
                if status != 409 || asked.method != "GET" {
                    add(Kind::Answer, Wrong::Request(server, number, Fault::Refuse(Moment::Before, status)));
                }
            }
            add(Kind::Answer, Wrong::Request(server, number, Fault::Refuse(Moment::After, 504)));
            add(Kind::Answer, Wrong::Request(server, number, Fault::Delay(Moment::After, Duration::from_secs(1))));
            if scenario == Scenario::FirstIssue {
                add(Kind::Answer, Wrong::Request(server, number, Fault::Hang));
                add(Kind::Answer, Wrong::Request(server, number, Fault::Halve));
            }
        }
    }
    // Of an object that is deleted nothing is written.
    if scenario != Scenario::ObjectDeleted {
        for status in [401, 404, 406, 409, 429, 500, 503] {
            add(Kind::Denied, Wrong::Denied(Denied::Secret, status));
            add(Kind::Denied, Wrong::Denied(Denied::Status, status));
        }
        add(Kind::Denied, Wrong::Denied(Denied::All, 429));
    }
    if !reference.requests[1].is_empty() {
        for seconds in [1, 5] {
            add(Kind::Denied, Wrong::SlowAtlas(Duration::from_secs(seconds)));
        }
    }
    for number in 0..reference.events.len() {
        for fault in [WatchFault::Drop, WatchFault::Repeat, WatchFault::Gone] {
            add(Kind::Event, Wrong::Event(number, fault));
        }
        add(Kind::OldView, Wrong::Stale(number));
    }
    // The garbage collector does all that follows a deletion.
    for events in (1..=3).filter(|_| scenario != Scenario::ObjectDeleted) {
        add(Kind::OldView, Wrong::Lag(events));
    }
    for since in [Since::Start, Since::FirstRequest] {
        add(Kind::TwoLeaders, Wrong::TwoLeaders(since));
    }
    if scenario == Scenario::FirstIssue {
        for list in 0..LISTS {
            add(Kind::Answer, Wrong::Start(list, Fault::Cut(Moment::Before)));
            for status in [403, 410, 429, 500] {
                add(Kind::Answer, Wrong::Start(list, Fault::Refuse(Moment::Before, status)));
            }
        }
    }
    found
}

/// Numbers that a seed repeats (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }
}
