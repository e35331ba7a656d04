//! Crashes, lost answers, refusals, missed and repeated events, old views and a second leader, at every point of everything that
//! happens to an object.
//!
//! `cargo test --test chaos` runs a cut of it, `make chaos` all of it, and `cargo test --test chaos -- --only NAME` one schedule again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../cases/authority.rs"]
#[allow(dead_code, reason = "the cases need more")]
mod authority;
#[path = "../harness/mod.rs"]
mod harness;
mod oracle;
mod ownership;
mod plan;
mod scenario;
mod schedule;
mod secrets;
mod table;
mod walk;
mod world;

use std::{process::ExitCode, sync::LazyLock, time::Instant};

use clap::Parser;
use futures::{StreamExt, stream};
use harness::{Cluster, Options};
use usercert_test_support::atlas::DigestAlgorithm;

use crate::{
    plan::{Combination, Trial, combinations},
    schedule::{Outcome, Reference, Schedule},
    table::Table,
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

#[derive(Debug, Parser)]
struct Arguments {
    /// Run every schedule, not a cut.
    #[arg(long)]
    full: bool,
    /// Run only the schedules whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Which cut.
    #[arg(long, env = "SEED", default_value_t = 20_261_124)]
    seed: u64,
    /// So many schedules at once.
    #[arg(long, default_value_t = 8)]
    lanes: usize,
    /// List the schedules instead of running them.
    #[arg(long)]
    list: bool,
    /// Taken and ignored, as cargo's own tests know it.
    #[arg(long, hide = true)]
    nocapture: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let references = record(&arguments).await;
    let trials = plan::choose(&references, arguments.full, arguments.only.as_deref(), arguments.seed);
    if arguments.list {
        for trial in &trials {
            println!("{}", trial.name());
        }
        return ExitCode::SUCCESS;
    }
    println!("{} schedules and walks, {} at once; seed {}", trials.len(), arguments.lanes, arguments.seed);
    let started = Instant::now();
    let mut table = Table::new(&references);
    let total = trials.len();
    let references = std::sync::Arc::new(references);
    let mut results = stream::iter(trials)
        .map(|trial| {
            let references = std::sync::Arc::clone(&references);
            async move { (run(&trial, references).await, trial) }
        })
        .buffer_unordered(arguments.lanes);
    let (mut done, mut told) = (0, Instant::now());
    while let Some((result, trial)) = results.next().await {
        done += 1;
        if let Err(fault) = &result {
            println!("FAILED {}\n{fault}\nrepeat it: cargo test --test chaos -- --only {}", trial.name(), trial.name());
        }
        if result.as_ref().is_ok_and(|outcome| !outcome.played) {
            println!("unreached {}", trial.name());
        }
        table.add(&trial, result.ok());
        if told.elapsed().as_secs() >= 10 {
            told = Instant::now();
            println!("{done} of {total} after {} s", started.elapsed().as_secs());
        }
    }
    table.print();
    println!("{total} schedules and walks in {} s", started.elapsed().as_secs());
    if table.failures() == 0 && total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The reference runs, a few at once.
async fn record(arguments: &Arguments) -> Vec<(Combination, Reference)> {
    let wanted = combinations(arguments.only.as_deref());
    let mut references: Vec<_> = stream::iter(wanted)
        .map(|combination| async move {
            // What comes only now and then, such as a second look at a busy moment, is no point.
            let (one, other) = (recorded(combination).await, recorded(combination).await);
            (combination, if one.request_count() <= other.request_count() { one } else { other })
        })
        .buffered(arguments.lanes)
        .collect()
        .await;
    references.sort_by_key(|((scenario, issuer), _)| (scenario.name(), issuer.name()));
    references
}

async fn recorded((scenario, issuer): Combination) -> Reference {
    let reference = tokio::spawn(Schedule::record(scenario, issuer)).await.unwrap();
    reference.unwrap_or_else(|error| panic!("the run without faults of {} {}: {error:#}", scenario.name(), issuer.name()))
}

/// Runs one; a panic is a failure like any other.
async fn run(trial: &Trial, references: std::sync::Arc<Vec<(Combination, Reference)>>) -> Result<Outcome, String> {
    let mut result = Err(String::new());
    // A point that was not reached may be so in another run: requests come in no fixed order.
    for _ in 0..3 {
        let (own, references) = (trial.clone(), std::sync::Arc::clone(&references));
        let task = tokio::spawn(async move { own.run(&references).await.map_err(|error| format!("{error:#}")) });
        result = task.await.unwrap_or_else(|error| Err(error.to_string()));
        if !result.as_ref().is_ok_and(|outcome| !outcome.played) {
            break;
        }
    }
    result
}
