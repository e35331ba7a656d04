//! `image-tar`: the operator's image without Docker.

use std::{fs, path::PathBuf};

use anyhow::Result;
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
    /// Where the archive is written.
    #[arg(long)]
    archive: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let config = ImageConfig::of_dockerfile(&fs::read_to_string(repository().join("Dockerfile"))?)?;
    let digests = build(&arguments.program, &[(arguments.name.clone(), config)], &arguments.archive)?;
    println!("{} ({}) is in {}", arguments.name, digests.join(" "), arguments.archive.display());
    Ok(())
}
