//! What a run shows: one row for each scenario and issuer.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    plan::{Combination, Trial},
    schedule::{Outcome, Reference, Schedule, Wrong},
};

#[derive(Default)]
struct Row {
    points: BTreeSet<String>,
    schedules: usize,
    missed: usize,
    failures: usize,
    made: usize,
    lost: usize,
    /// Certificates of the reference, as often as there were schedules.
    reference: usize,
}

pub struct Table {
    rows: BTreeMap<String, Row>,
    references: BTreeMap<String, usize>,
}

impl Table {
    pub fn new(references: &[(Combination, Reference)]) -> Self {
        let references = references
            .iter()
            .map(|((scenario, issuer), reference)| (format!("{} {}", scenario.name(), issuer.name()), reference.mints.made))
            .collect();
        Self { rows: BTreeMap::new(), references }
    }

    pub fn add(&mut self, trial: &Trial, outcome: Option<Outcome>) {
        let (name, point) = match trial {
            Trial::Schedule(Schedule { scenario, issuer, wrong }) => {
                (format!("{} {}", scenario.name(), issuer.name()), point(wrong))
            }
            Trial::Walk(walk) => (format!("walk {}", walk.issuer.name()), walk.seed.to_string()),
        };
        let reference = self.references.get(&name).copied().unwrap_or_default();
        let row = self.rows.entry(name).or_default();
        row.schedules += 1;
        let Some(outcome) = outcome else {
            row.failures += 1;
            return;
        };
        if outcome.played {
            row.points.insert(point);
        } else {
            row.missed += 1;
        }
        row.made += outcome.mints.made;
        row.lost += outcome.mints.lost;
        // Where the object was made again, the new one needs a certificate of its own.
        let is_made_again = matches!(trial, Trial::Schedule(Schedule { wrong: Wrong::MadeAgain(..), .. }));
        row.reference += reference + usize::from(is_made_again);
    }

    pub fn failures(&self) -> usize {
        self.rows.values().map(|row| row.failures).sum()
    }

    pub fn print(&self) {
        println!(
            "{:<24}{:>8}{:>11}{:>11}{:>10}{:>14}{:>11}{:>7}",
            "scenario", "points", "schedules", "unreached", "failures", "certificates", "reference", "lost"
        );
        let (walks, schedules): (Vec<_>, Vec<_>) = self.rows.iter().partition(|(name, _)| name.starts_with("walk"));
        for (name, row) in &schedules {
            print_row(name, row, &row.reference.to_string());
        }
        let total = total(&schedules);
        print_row("all of these", &total, &total.reference.to_string());
        // A walk does what no other does, so there is nothing to compare it with.
        for (name, row) in walks {
            print_row(name, row, "-");
        }
    }
}

fn total(rows: &[(&String, &Row)]) -> Row {
    let mut total = Row::default();
    for (name, row) in rows {
        total.points.extend(row.points.iter().map(|point| format!("{name} {point}")));
        total.schedules += row.schedules;
        total.missed += row.missed;
        total.failures += row.failures;
        total.made += row.made;
        total.lost += row.lost;
        total.reference += row.reference;
    }
    total
}

fn print_row(name: &str, row: &Row, reference: &str) {
    println!(
        "{name:<24}{:>8}{:>11}{:>11}{:>10}{:>14}{reference:>11}{:>7}",
        row.points.len(),
        row.schedules,
        row.missed,
        row.failures,
        row.made,
        row.lost
    );
}

/// Where something goes wrong, whatever it is.
fn point(wrong: &Wrong) -> String {
    match wrong {
        Wrong::Request(server, number, _) | Wrong::MadeAgain(server, number, _) => format!("{} {number}", server.name()),
        Wrong::Start(number, _) => format!("list {number} at the start"),
        Wrong::Event(number, _) | Wrong::Stale(number) => format!("event {number}"),
        Wrong::Nothing | Wrong::Denied(..) | Wrong::SlowAtlas(_) | Wrong::Lag(_) | Wrong::TwoLeaders(_) => {
            "everywhere".to_owned()
        }
    }
}
