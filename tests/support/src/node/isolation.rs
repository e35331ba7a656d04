//! Namespaces of network, processes and mounts for everything that belongs to a node.
//!
//! The program runs itself again inside. There it is process 1: when it ends, in whatever way, the kernel ends everything else in there, shims included, and
//! with the last process go the mounts, the bridge and the addresses. What is left outside is a folder and a cgroup, which the outer program removes.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};

use super::{cgroup, program, run};
use crate::control_plane::repository;

/// How the folders and cgroups of nodes begin; the process id of their owner follows.
const PREFIX: &str = "usercert-node-";
const DIRECTORY: &str = "USERCERT_NODE_DIRECTORY";

/// Places that containerd, runc, the CNI plugins and the kubelet write to whatever their configuration says. Inside, an empty folder covers each.
const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// What the kubelet sets if it is otherwise. These concern the whole machine, so it is shown files that have the right values already.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The inside of the namespaces.
pub struct Isolated {
    directory: PathBuf,
}

impl Isolated {
    /// `None` outside of them. Inside it sees to the mounts, and ends this process when the outer one is gone.
    ///
    /// # Errors
    /// Something cannot be mounted.
    pub fn enter() -> Result<Option<Self>> {
        let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return Ok(None) };
        thread::spawn(|| {
            // Nothing is ever written to it: it ends when the outer program ends.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
        let mount = program("mount")?;
        // A checkout may be in /var/lib/jenkins, say. An open folder is still known when its place is covered.
        let needed = [repository().to_owned(), directory.clone(), folder_of(&std::env::current_exe()?)];
        let needed: Vec<PathBuf> = needed.into_iter().filter(|path| is_covered(path)).collect();
        let open: Vec<File> = needed.iter().map(File::open).collect::<Result<_, _>>()?;
        for place in COVERED {
            run(Command::new(&mount).args(["-t", "tmpfs", "tmpfs", place]))?;
        }
        for (path, folder) in needed.iter().zip(&open) {
            fs::create_dir_all(path)?;
            let source = format!("/proc/{}/fd/{}", std::process::id(), folder.as_raw_fd());
            run(Command::new(&mount).args(["--no-canonicalize", "--rbind", &source]).arg(path))?;
        }
        let settings = directory.join("kernel-settings");
        for (name, value) in KERNEL_SETTINGS {
            let file = settings.join(name);
            fs::create_dir_all(file.parent().unwrap_or(&settings))?;
            fs::write(&file, format!("{value}\n"))?;
            let shown = Path::new("/proc/sys").join(name);
            if shown.exists() {
                run(Command::new(&mount).arg("--bind").arg(&file).arg(&shown))?;
            }
        }
        Ok(Some(Self { directory }))
    }

    /// A folder for everything; it is removed from outside.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cgroup of all Pods, as an absolute path.
    pub(super) fn cgroup(&self) -> &str {
        self.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Runs this program again inside, and removes what is left. `keep` is called with the folder before it goes.
///
/// # Errors
/// The namespaces cannot be made, or something was left behind.
pub async fn isolated(arguments: &[OsString], keep: impl FnOnce(&Path, ExitStatus)) -> Result<ExitStatus> {
    remove_leftovers();
    let directory = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
    let name = directory.path().file_name().and_then(|name| name.to_str()).context("the folder has no name")?.to_owned();
    cgroup::create(&name)?;
    let status = inside(arguments, directory.path()).await;
    if let Ok(status) = status {
        keep(directory.path(), status);
    }
    let removed = cgroup::remove(&name);
    let left = left_behind(directory.path());
    directory.close().context("could not remove the node's folder: something is still mounted in it")?;
    removed?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    status
}

async fn inside(arguments: &[OsString], directory: &Path) -> Result<ExitStatus> {
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut child = tokio::process::Command::new(program("unshare")?)
        .args(["--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .env(DIRECTORY, directory)
        // Process ids, by which folders of control planes are known, are others in there.
        .env("TMPDIR", directory)
        .stdin(Stdio::piped())
        .spawn()
        .context("could not make namespaces")?;
    let stdin = child.stdin.take();
    tokio::select! {
        status = child.wait() => return Ok(status?),
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    drop(stdin);
    Ok(child.wait().await?)
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(file).to_owned()
}

/// Whether the place of this is covered inside. Links are followed: `/var/run` is `/run`.
fn is_covered(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    COVERED.iter().any(|place| path.starts_with(place))
}

/// Processes and mounts that still name the folder.
fn left_behind(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(&directory)).map(|line| format!("the mount {line}"));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(&directory).then(|| format!("process {} ({command})", entry.file_name().to_string_lossy()))
    });
    mounts.chain(processes).collect()
}

/// Removes the folders and cgroups of programs that were killed.
fn remove_leftovers() {
    let gone = |name: &str| {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists())
    };
    for name in cgroup::named(PREFIX).iter().filter(|name| gone(name)) {
        // One that cannot be removed is in nobody's way.
        let _ = cgroup::remove(name);
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if gone(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_place_that_a_node_covers_is_known() {
        for covered in ["/run/user/0", "/var/lib/jenkins/workspace", "/var/log", "/var/lib"] {
            assert!(is_covered(Path::new(covered)), "{covered}");
        }
        for seen in ["/var/library", "/home/somebody/var/lib", "/tmp", "/runner/work", "/var/tmp"] {
            assert!(!is_covered(Path::new(seen)), "{seen}");
        }
    }
}
