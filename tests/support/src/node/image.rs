//! Images without Docker: an archive in the format of `docker save`, with one layer and a configuration for each name.
//!
//! `image/root.sh` lays out the files and the last stage of the `Dockerfile` says who runs what, so that both ways give the same image. The Makefile gives
//! both the same labels.
//! The same files give the same digests: names are sorted, times are zero, and everything belongs to root.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::run;
use crate::control_plane::repository;

/// Who runs what in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// `UID:GID`.
    pub user: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// What the image says of itself. A Dockerfile here has none: they come from the command that builds it.
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// What the last stage of a Dockerfile says.
    ///
    /// # Errors
    /// The stage does not consist of the files of `image/root.sh`, USER and ENTRYPOINT alone: this module could not build the same image.
    pub fn of_dockerfile(text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let last = lines.iter().rposition(|line| line.starts_with("FROM ")).context("the Dockerfile has no FROM")?;
        let (mut user, mut entrypoint, mut files) = (None, None, false);
        for line in &lines[last..] {
            match line.split_once(' ') {
                Some(("FROM", "scratch")) => {}
                Some(("COPY", "--from=build /root-of-image/ /")) => files = true,
                Some(("USER", value)) => user = Some(value.to_owned()),
                Some(("ENTRYPOINT", value)) => entrypoint = Some(serde_json::from_str(value)?),
                _ => bail!("the last stage of the Dockerfile has a line that image.rs cannot follow: {line}"),
            }
        }
        ensure!(files, "the last stage of the Dockerfile does not copy /root-of-image/");
        let (user, entrypoint) = (user.context("the Dockerfile has no USER")?, entrypoint.context("it has no ENTRYPOINT")?);
        Ok(Self { user, entrypoint, labels: BTreeMap::new() })
    }

    fn json(&self, architecture: &str, layer: &str) -> Value {
        json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": { "User": self.user, "Entrypoint": self.entrypoint, "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        })
    }
}

/// Builds the images of one program: each name (`repository:tag`) with its configuration. Returns the digests of the configurations, by which container
/// runtimes know images.
///
/// # Errors
/// The program or a library is missing, the program is for a machine that images have no name for here, or the archive cannot be written.
pub fn build(program: &Path, images: &[(String, ImageConfig)], archive: &Path) -> Result<Vec<String>> {
    let architecture = architecture(program)?;
    let folder = tempfile::tempdir()?;
    let (root, parts) = (folder.path().join("root"), folder.path().join("parts"));
    fs::create_dir(&parts)?;
    run(Command::new(repository().join("image/root.sh")).arg(program).arg(&root))?;
    tar(&root, &parts.join("layer.tar"))?;
    let layer = digest(&fs::read(parts.join("layer.tar"))?);
    fs::rename(parts.join("layer.tar"), parts.join(format!("{layer}.tar")))?;
    let (mut manifest, mut digests) = (Vec::new(), Vec::new());
    for (name, config) in images {
        let config = config.json(architecture, &layer).to_string();
        let digest = digest(config.as_bytes());
        fs::write(parts.join(format!("{digest}.json")), config)?;
        manifest.push(json!({ "Config": format!("{digest}.json"), "RepoTags": [name], "Layers": [format!("{layer}.tar")] }));
        digests.push(format!("sha256:{digest}"));
    }
    fs::write(parts.join("manifest.json"), json!(manifest).to_string())?;
    tar(&parts, archive)?;
    Ok(digests)
}

/// The name that images have for the machine of an ELF file (`e_machine`, gABI chapter 4).
fn architecture(program: &Path) -> Result<&'static str> {
    let mut header = [0; 20];
    fs::File::open(program).and_then(|mut file| file.read_exact(&mut header)).with_context(|| program.display().to_string())?;
    match (&header[..4], u16::from_le_bytes([header[18], header[19]])) {
        (b"\x7fELF", 62) => Ok("amd64"),
        (b"\x7fELF", 183) => Ok("arm64"),
        _ => bail!("{} is no ELF file for amd64 or arm64", program.display()),
    }
}

/// GNU tar. Modes are set too, for they would follow the umask of whoever builds.
fn tar(folder: &Path, archive: &Path) -> Result<()> {
    let options =
        ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX", "--format=gnu"];
    run(Command::new("tar").args(options).arg("--create").arg("--file").arg(archive).arg("--directory").arg(folder).arg("."))
        .map(|_| ())
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn dockerfile() -> String {
        fs::read_to_string(repository().join("Dockerfile")).unwrap()
    }

    #[test]
    fn both_ways_to_the_image_run_the_same_commands() {
        let config = ImageConfig::of_dockerfile(&dockerfile()).unwrap();
        assert_eq!(
            (config.user.as_str(), config.entrypoint.as_slice()),
            ("65532:65532", &["/usercert-operator".to_owned()][..])
        );
        let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
        let build = "rustc --locked --release --package usercert-operator --bin usercert-operator";
        let as_static = "-- -C target-feature=+crt-static";
        assert!(dockerfile().contains(&format!("RUN cargo auditable {build} {as_static}\n")));
        for line in [format!("BUILD_OPERATOR := $(CARGO) {build}"), format!("STATIC := {as_static}")] {
            assert!(makefile.contains(&format!("\n{line}\n")), "{line}");
        }
        for command in ["docker build ", "--bin image-tar -- "] {
            assert!(makefile.lines().any(|line| line.contains(command) && line.contains("$(call LABELS")), "{command}");
        }
        let auditable = "--locked --version 0.7.7";
        assert!(
            dockerfile().contains(auditable) && makefile.contains(&format!("{auditable} --root target/tools/cargo-auditable"))
        );
        assert!(dockerfile().contains("RUN image/root.sh target/release/usercert-operator /root-of-image\n"));
    }

    #[test]
    fn the_image_is_for_the_machine_of_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let mut header = fs::read("/bin/true").unwrap()[..64].to_vec();
        for (machine, name) in [(62, Some("amd64")), (183, Some("arm64")), (8, None)] {
            header[18] = machine;
            fs::write(&program, &header).unwrap();
            assert_eq!(architecture(&program).ok(), name);
        }
        fs::write(&program, "#!/bin/sh: no program of a machine\n").unwrap();
        assert!(architecture(&program).is_err());
    }

    #[test]
    fn a_dockerfile_that_says_more_is_refused() {
        for more in ["RUN true", "ENV A=b", "LABEL a=b", "COPY --from=build /etc /etc", "FROM debian"] {
            let text = format!("{}{more}\n", dockerfile());
            assert!(ImageConfig::of_dockerfile(&text).is_err(), "{more}");
        }
    }

    #[test]
    fn the_same_program_gives_the_same_image_whenever_and_by_whomever_it_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let image = |name: &str| {
            let archive = folder.path().join(name);
            let labels = BTreeMap::from([("revision".to_owned(), "1".to_owned()), ("title".to_owned(), "program".to_owned())]);
            let config = ImageConfig { user: "65532:65532".to_owned(), entrypoint: vec!["/program".to_owned()], labels };
            let digests = build(&program, &[("tried:1".to_owned(), config)], &archive).unwrap();
            (digests, fs::read(archive).unwrap())
        };
        fs::copy("/bin/true", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let first = image("first.tar");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(first == image("second.tar"));
        fs::copy("/bin/false", &program).unwrap();
        assert!(first.0 != image("third.tar").0);
    }
}
