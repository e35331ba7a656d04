//! The docs do what they say: each command of a page is run against a real API server with the operator at work, each example is taken by
//! it, and the README is short.
//!
//! `cargo test --test docs -- NAME` runs the pages whose names contain NAME. What is not run, and why, is one list: [`unrun::UNRUN`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

mod advice;
mod agreement;
mod examples;
mod filters;
mod page;
mod prose;
mod scene;
mod unrun;

use std::{path::Path, process::ExitCode, sync::Arc, time::Instant};

use tokio::task::spawn_blocking;

use crate::{page::Page, scene::Stage};

/// Pages that may not run beside others, because they change what all use. They run in this order: the first one before all others, which
/// need the operator, and the rest after them.
const FIRST: &str = "docs/install.md";
const LAST: [&str; 3] = ["docs/backup.md", "docs/upgrade.md", "docs/uninstall.md"];

/// It waits for the garbage collector, which finds new kinds once in half a minute. So it is begun first, and awaited before those that run last.
const SLOW: &str = "docs/from-cert-manager.md";

/// How many pages run at once.
const LANES: usize = 6;

fn main() -> ExitCode {
    // kubectl finds this program under the name of the plugin.
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == "kubectl-usercert") {
        return usercert_cli::run(std::env::args_os());
    }
    tokio::runtime::Runtime::new().unwrap().block_on(tests())
}

async fn tests() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let pages: Vec<Page> = Page::all();
    let mut results = Results::default();
    for (name, test) in prose::TESTS
        .iter()
        .chain(unrun::TESTS)
        .chain(filters::TESTS)
        .chain(agreement::TESTS)
        .chain(advice::TESTS)
        .filter(|(name, _)| is_wanted(name))
    {
        let pages = pages.clone();
        results.record(name, spawn_blocking(move || test(&pages)).await.is_ok());
    }
    let with_commands: Vec<Page> =
        pages.iter().filter(|page| is_wanted(page.name()) && !page.commands_to_run().is_empty()).cloned().collect();
    if with_commands.is_empty() && !is_wanted("examples") {
        return results.conclude();
    }
    let stage = Arc::new(Stage::set().await);
    let first = pages.iter().find(|page| page.name() == FIRST).expect("the page that installs the chart").clone();
    results.run(&stage, first).await;
    stage.start_operator().await;
    if is_wanted("examples") {
        let (stage, pages) = (Arc::clone(&stage), pages.clone());
        results.record("examples", spawn_blocking(move || examples::are_taken(&stage, &pages)).await.is_ok());
    }
    let slow = with_commands.iter().find(|page| page.name() == SLOW).cloned().map(|page| {
        let stage = Arc::clone(&stage);
        spawn_blocking(move || stage.run(&page))
    });
    let is_beside = |page: &&Page| ![FIRST, SLOW].contains(&page.name()) && !LAST.contains(&page.name());
    let beside = with_commands.iter().filter(is_beside);
    let runs = futures::stream::iter(beside.cloned().map(|page| {
        let stage = Arc::clone(&stage);
        async move { (page.name().to_owned(), spawn_blocking(move || stage.run(&page)).await.is_ok()) }
    }));
    let mut runs = futures::StreamExt::buffer_unordered(runs, LANES);
    while let Some((name, passed)) = futures::StreamExt::next(&mut runs).await {
        results.record(&name, passed);
    }
    if let Some(slow) = slow {
        results.record(SLOW, slow.await.is_ok());
    }
    for name in LAST {
        if let Some(page) = with_commands.iter().find(|page| page.name() == name) {
            results.run(&stage, page.clone()).await;
        }
    }
    stage.stop_operator();
    results.conclude()
}

struct Results {
    passed: usize,
    failed: usize,
    started: Instant,
}

impl Default for Results {
    fn default() -> Self {
        Self { passed: 0, failed: 0, started: Instant::now() }
    }
}

impl Results {
    async fn run(&mut self, stage: &Arc<Stage>, page: Page) {
        let (stage, name) = (Arc::clone(stage), page.name().to_owned());
        let passed = spawn_blocking(move || stage.run(&page)).await.is_ok();
        self.record(&name, passed);
    }

    fn record(&mut self, name: &str, passed: bool) {
        let word = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {word} (at {} s)", self.started.elapsed().as_secs());
        if passed { self.passed += 1 } else { self.failed += 1 }
    }

    fn conclude(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
