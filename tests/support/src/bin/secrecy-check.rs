//! `secrecy-check FOLDER`: looks for every secret of a test run in all that the operator said in it.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    path::PathBuf,
};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use anyhow::{Context as _, Result, bail, ensure};
use usercert_test_support::evidence::Kind;

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from).context("usage: secrecy-check FOLDER")?;
    let entries = fs::read_dir(&folder).with_context(|| format!("there is no evidence in {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let of = |kind: Kind| {
        let name = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind.prefix()));
        files.iter().filter(name).collect::<Vec<_>>()
    };
    let mut secrets = BTreeSet::from(["-----BEGIN".to_owned()]);
    for file in of(Kind::Secrets) {
        secrets.extend(fs::read_to_string(file)?.lines().filter(|line| line.len() >= 10).map(ToOwned::to_owned));
    }
    let programs = of(Kind::Log).len();
    ensure!(secrets.len() > 100 && programs > 0, "the tests left no evidence in {}", folder.display());
    let search = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&secrets)?;
    let mut bytes = 0;
    for kind in [Kind::Log, Kind::Metrics, Kind::Audit] {
        let said = of(kind);
        ensure!(said.len() >= programs, "{} of {programs} programs left no file {}*", programs - said.len(), kind.prefix());
        for path in said {
            let length = path.metadata()?.len();
            ensure!(length > 0, "{} is empty", path.display());
            bytes += length;
            let mut found = search.stream_find_iter(File::open(path)?);
            if let Some(found) = found.next().transpose()? {
                bail!("{} holds a secret at byte {} (pattern {})", path.display(), found.start(), found.pattern().as_usize());
            }
        }
    }
    println!(
        "{} secrets were looked for in {} MB of logs, Events, conditions and metrics of {programs} programs: none was found",
        secrets.len(),
        bytes >> 20
    );
    Ok(())
}
