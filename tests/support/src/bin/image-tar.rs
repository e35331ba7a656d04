//! `image-tar`: the operator's image without Docker.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use usercert_test_support::{
    control_plane::repository,
    node::image::{ImageConfig, build},
};

/// Builds the image of the Dockerfile as an archive for `ctr images import` or `docker load`, from a program that is built already.
#[derive(Parser)]
struct Arguments {
    /// The program.
    #[arg(long, default_value = "target/release/usercert-operator")]
    program: PathBuf,
    /// The image's name.
    #[arg(long)]
    name: String,
    /// What the image says of itself, as `KEY=VALUE`; may be given again.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Where the archive is written.
    #[arg(long)]
    archive: PathBuf,
}

fn label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').context("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut config = ImageConfig::of_dockerfile(&fs::read_to_string(repository().join("Dockerfile"))?)?;
    config.labels.extend(arguments.labels);
    let digests = build(&arguments.program, &[(arguments.name.clone(), config)], &arguments.archive)?;
    println!("{} ({}) is in {}", arguments.name, digests.join(" "), arguments.archive.display());
    Ok(())
}
