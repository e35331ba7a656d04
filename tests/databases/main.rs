//! Databases let in who shows what the operator wrote, and nobody else.
//!
//! The operator writes Secrets on a real API server. Their entries become files as the kubelet makes them, and clients log in with
//! these: psql and JDBC at PostgreSQL, `mariadb` at MariaDB, and the official drivers of MongoDB at a stand-in that does what mongod
//! does with X.509. What a client must do to log in is read from the page in `docs/clients`, so the pages are tested.
//!
//! `cargo test --test databases` (or `make databases`) ends with a table. `cargo test --test databases -- NAME` runs the clients whose
//! names contain NAME. A client that needs something that is not here is skipped; with `DATABASES=all` that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

#[path = "../harness/mod.rs"]
mod harness;

mod drivers;
mod mariadb;
mod mongodb;
mod page;
mod postgresql;
mod process;
mod server;
mod stage;
mod table;
mod volume;

use std::{future::Future, pin::Pin, process::ExitCode, sync::LazyLock, time::Instant};

use harness::{Cluster, Options};
use usercert_test_support::atlas::DigestAlgorithm;

use crate::stage::Stage;

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// The trial of a client; an error is what it needs and does not find.
type Trial = fn(&'static Stage) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A trial by the name of its function.
macro_rules! trial {
    ($name:path) => {
        (stringify!($name), (|stage| Box::pin($name(stage))) as Trial)
    };
}

const TRIALS: &[(&str, Trial)] = &[
    trial!(postgresql::psql),
    trial!(postgresql::jdbc),
    trial!(mariadb::client),
    trial!(mongodb::python),
    trial!(mongodb::node),
    trial!(mongodb::go),
    trial!(mongodb::go_rereading),
    trial!(mongodb::rust),
    trial!(mongodb::java),
    trial!(mongodb::java_rereading),
];

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let all = std::env::var("DATABASES").is_ok_and(|parts| parts == "all");
    let stage: &'static Stage = Box::leak(Box::new(Stage::set(&CLUSTER).await));
    let trials = TRIALS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, trial) in trials {
        let started = Instant::now();
        let word = match tokio::spawn(trial(stage)).await {
            Ok(Ok(())) => {
                passed += 1;
                "ok".to_owned()
            }
            Ok(Err(needs)) => {
                skipped += 1;
                stage.table.lock().unwrap().skip(name, &needs);
                format!("skipped: needs {needs}")
            }
            Err(_) => {
                failed += 1;
                stage.table.lock().unwrap().fail(name);
                "FAILED".to_owned()
            }
        };
        println!("test {name} ... {word} ({} s)", started.elapsed().as_secs());
    }
    stage.table.lock().unwrap().print();
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if passed == 0 && failed == 0 {
        println!("This is not a pass: no client was tried.");
    }
    // A name that no client has is a fault of whoever asked; what is missing here is none.
    let enough = failed == 0 && passed + skipped > 0 && !(all && skipped > 0);
    if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
