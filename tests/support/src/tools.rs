//! The programs the control plane and the demo are made of: found where the user has them, built where not.
//!
//! The building itself is the Makefile's: its rules know when a program is out of date.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The variable by which controller-runtime's envtest finds a folder with etcd, kube-apiserver and kubectl.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// A program that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The store below the API server.
    Etcd,
    /// The Kubernetes API server.
    KubeApiserver,
    /// Kubernetes' own controllers: garbage collection, namespace deletion and the like.
    KubeControllerManager,
    /// The Kubernetes command line.
    Kubectl,
    /// The chart installer.
    Helm,
}

impl Tool {
    /// The name of its executable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    /// Finds the program, or builds it: `KUBEBUILDER_ASSETS`, then (kubectl and helm) `PATH`, then `target/tools/bin`,
    /// where it is built with Go if it is missing or out of date. A build takes minutes and prints its progress.
    ///
    /// # Errors
    /// When `KUBEBUILDER_ASSETS` names a folder without etcd or kube-apiserver, or the build fails.
    pub fn find_or_build(self) -> Result<PathBuf> {
        if let Some(path) = self.in_assets()? {
            return Ok(path);
        }
        match self.on_path() {
            Some(path) => Ok(path),
            None => self.build(),
        }
    }

    fn in_assets(self) -> Result<Option<PathBuf>> {
        let Some(assets) = std::env::var_os(ASSETS).filter(|assets| !assets.is_empty()).map(PathBuf::from) else {
            return Ok(None);
        };
        let path = assets.join(self.name());
        if path.is_file() {
            return Ok(Some(path));
        }
        // Falling back in silence would test against another version than the one that was asked for.
        // envtest's folders hold no controller manager and not always a kubectl, so those may be missing.
        ensure!(
            !matches!(self, Self::Etcd | Self::KubeApiserver),
            "{ASSETS} is {}, which has no {}; correct it, or unset it to build the pinned one",
            assets.display(),
            self.name()
        );
        Ok(None)
    }

    /// Only kubectl and helm are taken from `PATH`: they are meant to work across versions. One that does not even
    /// tell its version (a wrapper whose target is missing) does not count.
    fn on_path(self) -> Option<PathBuf> {
        let arguments: &[&str] = match self {
            Self::Kubectl => &["version", "--client"],
            Self::Helm => &["version"],
            Self::Etcd | Self::KubeApiserver | Self::KubeControllerManager => return None,
        };
        let works = |path: &Path| {
            let status = Command::new(path).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(self.name())).find(|path| path.is_file() && works(path))
    }

    fn build(self) -> Result<PathBuf> {
        let root = workspace();
        let target = format!("target/tools/bin/{}", self.name());
        let path = root.join(&target);
        let folder = root.join("target/tools");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        // Tests run at the same time; one of them builds and the others wait here.
        let lock = folder.join("build.lock");
        let lock = File::create(&lock).with_context(|| format!("failed to open {}", lock.display()))?;
        lock.lock().context("failed to wait for another build of the tools")?;
        let status = Command::new("make")
            .args(["--no-print-directory", "--silent", &target])
            .current_dir(&root)
            .stdin(Stdio::null())
            // Below `make test` these would point at a job server that this make cannot reach.
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("MAKELEVEL")
            .status();
        match status {
            Ok(status) if status.success() => Ok(path),
            // Without make nothing can be rebuilt, but what is there can be used.
            Err(_) if path.is_file() => Ok(path),
            Ok(status) => bail!("failed to build {}: `make {target}` ended with {status}", self.name()),
            Err(error) => Err(error).with_context(|| format!("failed to run `make {target}`")),
        }
    }
}

/// The root of this project's sources.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
