//! A Secret as a Pod sees it: files in a folder that the kubelet changes all at once.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use crate::{
    process::{POD_GROUP, is_root, temporary},
    stage::Entries,
};

/// A mounted Secret. The folder is removed when this is dropped.
///
/// The files are in a folder with a time in its name. The link `..data` leads to that folder, and a link for each file leads through
/// `..data`. A change makes a new folder and renames a new link over `..data`, as the kubelet does.
pub struct Volume {
    folder: PathBuf,
    mode: u32,
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What is left holds keys of the test's CA alone.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Volume {
    /// An empty one, mounted at a new path, with `defaultMode: 0440` and an `fsGroup`: root owns the files, and the Pod's group reads
    /// them.
    ///
    /// Without root nobody can give files away. Then the files are the user's own, and nobody else reads them.
    pub fn mount() -> Self {
        Self::mount_at(&tempfile::Builder::new().prefix("secret-volume-").tempdir_in(temporary()).unwrap().keep())
    }

    /// One at a path that is known before, for programs that are compiled with it.
    pub fn mount_at(folder: &Path) -> Self {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder: folder.to_owned(), mode: if is_root() { 0o440 } else { 0o400 } }
    }

    /// Has the files of the next update have this `defaultMode`.
    pub fn set_mode(&mut self, mode: u32) {
        self.mode = mode;
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Has the files hold these entries from now on.
    pub fn update(&self, entries: &Entries) {
        let root = &self.folder;
        let data = root.join("..data");
        let former = fs::read_link(&data).ok().map(|name| root.join(name));
        let time = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S");
        let folder = tempfile::Builder::new().prefix(&format!("..{time}.")).tempdir_in(root).unwrap().keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, value) in entries {
            self.write(&folder.join(name), value).unwrap();
        }
        let new_link = root.join("..data_tmp");
        symlink(folder.file_name().unwrap(), &new_link).unwrap();
        fs::rename(&new_link, &data).unwrap();
        for link in fs::read_dir(root).unwrap().map(|link| link.unwrap()) {
            let name = link.file_name().into_string().unwrap();
            if !name.starts_with("..") && !entries.contains_key(&name) {
                fs::remove_file(link.path()).unwrap();
            }
        }
        for name in entries.keys().filter(|name| fs::symlink_metadata(root.join(name)).is_err()) {
            symlink(PathBuf::from("..data").join(name), root.join(name)).unwrap();
        }
        if let Some(former) = former {
            fs::remove_dir_all(former).unwrap();
        }
    }

    fn write(&self, file: &Path, value: &[u8]) -> io::Result<()> {
        fs::write(file, value)?;
        if is_root() {
            chown(file, Some(0), Some(POD_GROUP))?;
        }
        fs::set_permissions(file, fs::Permissions::from_mode(self.mode))
    }
}
