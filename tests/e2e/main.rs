//! The operator as a Pod on a real node: the chart and the operator's own image, Pods that mount the Secrets, workloads that follow a renewal one after the other,
//! and an operator that goes away meanwhile or in the middle of a mint.
//!
//! `make e2e` builds what it needs and runs it. Everything happens in namespaces of its own (`usercert_test_support::node`); it needs root, containerd, runc and
//! the CNI plugins. It ends with a table of the steps and the timeline of each rotation.

mod cluster;
mod consumers;
mod operator;
mod report;
mod scenario;
mod timeline;
mod wave;

use std::{
    ffi::OsString,
    fs,
    path::Path,
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};
use clap::{Parser, builder::FalseyValueParser};
use usercert_test_support::{
    control_plane::repository,
    node::{self, Isolated},
};

#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
struct Arguments {
    /// Run it; `cargo test` of all tests does not.
    #[arg(long)]
    run: bool,
    /// Show only how workloads follow a renewal.
    #[arg(long)]
    wave: bool,
    /// Fail where something is missing, instead of skipping everything.
    #[arg(long, env = "E2E_REQUIRED", value_parser = FalseyValueParser::new())]
    required: bool,
    /// Taken and ignored, as cargo's own tests know it.
    #[arg(long, hide = true)]
    nocapture: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.run {
        println!("skipped: needs the operator's image and a node; `make e2e` runs it");
        return ExitCode::SUCCESS;
    }
    if let Some(missing) = node::missing() {
        println!("skipped: {missing}");
        println!("This is not a pass: nothing of the end-to-end tests has run.");
        return if arguments.required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    match run(arguments.wave).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(wave_alone: bool) -> Result<()> {
    if let Some(place) = Isolated::enter()? {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok().context("another TLS provider is installed")?;
        return scenario::play(&place, wave_alone).await;
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let status = node::isolated(&arguments, keep_logs).await?;
    println!("every process, mount, address and cgroup of the node is gone");
    anyhow::ensure!(status.success(), "the scenario did not come to its end ({status}); logs: {}", logs().display());
    Ok(())
}

fn logs() -> std::path::PathBuf {
    repository().join("target/e2e-logs")
}

/// Copies the logs of the node and its Pods, for the folder is about to go.
fn keep_logs(directory: &Path, _: ExitStatus) {
    let _ = fs::remove_dir_all(logs());
    copy_logs(directory, &logs());
}

fn copy_logs(from: &Path, to: &Path) {
    // Containers' file systems hold no logs of ours.
    const NOT_HERE: [&str; 3] = ["containerd", "kubelet", "etcd"];
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && !NOT_HERE.iter().any(|other| *other == name) {
            copy_logs(&path, &to.join(name));
        } else if path.extension().is_some_and(|extension| extension == "log") && fs::create_dir_all(to).is_ok() {
            // A log that cannot be kept must not hide what went wrong.
            let _ = fs::copy(&path, to.join(name));
        }
    }
}
