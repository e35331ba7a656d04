//! Where the programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// A program: from `KUBEBUILDER_ASSETS` if that folder has it, else the one that `make tools` has built or linked.
///
/// # Errors
/// It is in neither place.
pub fn tool(name: &str) -> Result<PathBuf> {
    let built = repository().join("target/tools/bin");
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let found = assets.into_iter().chain([built]).map(|folder| folder.join(name)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("{name} is missing: run `make tools`, or set KUBEBUILDER_ASSETS to a folder that has it"),
    }
}
