//! Files and folders that survive a power loss, and deletions of which no half is left under a valid name.

use crate::error::TrainerError;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TrainerError {
    let path = path.to_owned();
    move |source| TrainerError::Io { path, source }
}

/// The name that a file or folder has while it is written or deleted: its own with `.part` behind it.
pub fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Has a file's bytes reach the disk.
///
/// # Errors
/// [`TrainerError::Io`] names the file.
pub fn sync_file(file: &Path) -> Result<(), TrainerError> {
    File::open(file).and_then(|handle| handle.sync_all()).map_err(io(file))
}

/// Has the names in a folder reach the disk, where the system can do that.
///
/// # Errors
/// [`TrainerError::Io`] names the folder.
pub fn sync_dir(dir: &Path) -> Result<(), TrainerError> {
    // The folder of a bare file name.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    if cfg!(unix) { sync_file(dir) } else { Ok(()) }
}

/// Has all files of a folder, and their names, reach the disk.
///
/// # Errors
/// [`TrainerError::Io`] names the file or folder.
pub fn sync_tree(dir: &Path) -> Result<(), TrainerError> {
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        if path.is_dir() { sync_tree(&path)? } else { sync_file(&path)? }
    }
    sync_dir(dir)
}

/// Gives a file or folder its name: what is in it must have reached the disk before, the name has when this returns.
///
/// # Errors
/// [`TrainerError::Io`] names what could not be renamed.
pub fn rename(from: &Path, to: &Path) -> Result<(), TrainerError> {
    fs::rename(from, to).map_err(io(to))?;
    sync_dir(to.parent().unwrap_or(to))
}

/// Writes a whole file: aside, to the disk, then renamed.
///
/// # Errors
/// [`TrainerError::Io`] names the file.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), TrainerError> {
    let aside = aside(file);
    fs::write(&aside, bytes).map_err(io(&aside))?;
    sync_file(&aside)?;
    rename(&aside, file)
}

/// Removes a folder: it loses its name before its files go, so that an interruption leaves at most a `.part`.
///
/// # Errors
/// [`TrainerError::Io`] names the folder.
pub fn remove_dir(dir: &Path) -> Result<(), TrainerError> {
    let aside = aside(dir);
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(io(&aside))?;
    }
    rename(dir, &aside)?;
    fs::remove_dir_all(&aside).map_err(io(&aside))
}
