//! Each target with its whole corpus, and with mutations of it that follow from a seed: a panic, a long time or much memory fails, and
//! so does a checked-in input that is not read any longer.
//!
//! `make unit` runs it. `SEED=N` takes other mutations; `--only TARGET` and `--iterations N` look longer at one target. A failure
//! writes its input to a file and prints the command that replays it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod mutate;
mod run;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use peak_alloc::PeakAlloc;
use usercert_fuzz::{TARGETS, Target};

use self::{
    mutate::Mutator,
    run::{Failure, Measures, Origin, Runner},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// Run only this target.
    #[arg(long)]
    only: Option<String>,
    /// The seed of the mutations.
    #[arg(long, env = "SEED", default_value_t = 20_261_124)]
    seed: u64,
    /// So many mutations for each target; by default as many as take a second or two.
    #[arg(long)]
    iterations: Option<u32>,
    /// Replay this file instead.
    #[arg(long, requires = "only")]
    input: Option<PathBuf>,
    /// Taken and ignored, as cargo's own tests know it.
    #[arg(long, hide = true)]
    nocapture: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<Target> =
        TARGETS.into_iter().filter(|target| arguments.only.as_deref().is_none_or(|only| only == target.name)).collect();
    println!("{} targets, seed {}", chosen.len(), arguments.seed);
    let runner = Runner::new(arguments.seed);
    let mut failures = 0;
    for target in &chosen {
        let result = match &arguments.input {
            Some(file) => runner.run(target, Origin::File, &std::fs::read(file).unwrap()).map(|_| ()),
            None => run_target(&runner, target, &arguments),
        };
        if let Err(failure) = result {
            println!("{}", failure.report(target, arguments.seed));
            failures += 1;
        }
    }
    if failures == 0 && !chosen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_target(runner: &Runner, target: &Target, arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    let mut measures = Measures::default();
    for (name, input) in &corpus {
        measures.add(runner.run(target, Origin::Corpus(name.as_str().into()), input)?);
    }
    let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let iterations = arguments.iterations.unwrap_or_else(|| iterations(target));
    let mut mutator = Mutator::new(arguments.seed, target.name, &corpus);
    for iteration in 0..iterations {
        measures.add(runner.run(target, Origin::Mutation(iteration), &mutator.next_input())?);
    }
    println!(
        "{:18} {:3} of the corpus, {iterations} mutations in {:.1} s; the slowest took {} ms, the largest {} KiB",
        target.name,
        corpus.len(),
        started.elapsed().as_secs_f64(),
        measures.longest.as_millis(),
        measures.largest / 1024,
    );
    Ok(())
}

/// A second or two for each target in a debug build: some sign, connect, or decide five times for each input.
fn iterations(target: &Target) -> u32 {
    match target.name {
        "ca_bundle" => 250,
        "decision" => 1000,
        "atlas_exchange" | "ca_secret" | "secret" => 1500,
        "certificate_pair" | "subject" => 2000,
        _ => 5000,
    }
}

/// The names of the checked-in inputs, in their order, and what is in them.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), std::fs::read(file).unwrap())).collect()
}
