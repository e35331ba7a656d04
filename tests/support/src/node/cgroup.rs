//! A cgroup for all Pods of a node, in every hierarchy of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Makes it. The name is that of a folder at the root of each hierarchy.
pub(super) fn create(name: &str) -> Result<()> {
    for root in hierarchies()? {
        let folder = root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("could not make the cgroup {}", folder.display()))?;
        // Version 1 gives a new group no processor and no memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if root.join(file).exists() {
                fs::write(folder.join(file), fs::read(root.join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Removes it with all groups below. A group that still has a process cannot be removed, so this fails when one was left behind.
pub(super) fn remove(name: &str) -> Result<()> {
    for root in hierarchies()? {
        let folder = root.join(name);
        let mut result = Ok(());
        // Processes that were killed need a moment to go.
        for _ in 0..50 {
            result = remove_folder(&folder);
            if result.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        result.with_context(|| format!("could not remove the cgroup {}: a process is left in it", folder.display()))?;
    }
    Ok(())
}

/// The names of those that begin so.
pub(super) fn named(prefix: &str) -> Vec<String> {
    let entries = hierarchies().unwrap_or_default().into_iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names.dedup();
    names
}

/// A cgroup's files cannot be deleted, and its folder can be although they are in it.
fn remove_folder(folder: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_folder(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// Where the hierarchies are mounted: one for each controller with version 1, one for all with version 2. Where both are mounted, runc uses both.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_cgroups = fields.filter(|fields| fields.get(2).is_some_and(|kind| matches!(*kind, "cgroup" | "cgroup2")));
    Ok(of_cgroups.map(|fields| PathBuf::from(fields[1])).collect())
}
