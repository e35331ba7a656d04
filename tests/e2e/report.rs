//! What was done, how long it took, and what was seen.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The steps so far.
pub struct Report {
    started: Instant,
    steps: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    seen: String,
}

impl Report {
    pub fn new() -> Self {
        Self { started: Instant::now(), steps: Vec::new() }
    }

    /// Does a step. Its result is what the next steps need, and a sentence about what was seen.
    pub async fn step<T>(&mut self, name: &str, work: impl Future<Output = Result<(T, String)>>) -> Result<T> {
        println!("\n=== {name} (at {:.0} s)", self.started.elapsed().as_secs_f64());
        let started = Instant::now();
        let result = work.await.with_context(|| format!("the step \"{name}\""));
        let took = started.elapsed();
        let seen = result.as_ref().map_or_else(|_| "FAILED".to_owned(), |(_, seen)| seen.clone());
        println!("  {seen} ({:.1} s)", took.as_secs_f64());
        self.steps.push(Step { name: name.to_owned(), took, seen });
        result.map(|(value, _)| value)
    }

    pub fn print(&self) {
        println!("\n{:<44} {:>7}  seen", "step", "seconds");
        for step in &self.steps {
            println!("{:<44} {:>7.1}  {}", step.name, step.took.as_secs_f64(), step.seen);
        }
        println!("{:<44} {:>7.1}", "all of these", self.started.elapsed().as_secs_f64());
    }
}
