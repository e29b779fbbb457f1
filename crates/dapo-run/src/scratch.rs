//! A folder that is gone at the end.

use crate::run_error::RunError;
use std::fs::{self, DirBuilder, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "dapo-rank-";
const LOCK: &str = ".lock";

/// A folder of this process among the system's temporary files, removed when it is dropped. Where that could not be, since
/// the process was killed, the next one removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Held for as long as the folder is used.
    _lock: File,
}

impl Scratch {
    /// A new folder, which only this user can read.
    ///
    /// # Errors
    /// When it exists, or cannot be made.
    pub(crate) fn new(rank: usize) -> Result<Self, RunError> {
        // Ranks of a process have folders of their own, and so have its runs.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let dir = std::env::temp_dir();
        remove_abandoned(&dir);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{PREFIX}{rank}-{}-{number}", std::process::id()));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(RunError::io(&path))?;
        let file = path.join(LOCK);
        let lock = File::create(&file).map_err(RunError::io(&file))?;
        // Where files cannot be locked, what is abandoned stays.
        let _ = lock.try_lock();
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is among the system's temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of processes that have been killed: nobody holds their locks.
fn remove_abandoned(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let is_ours = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
    for path in entries.flatten().filter(is_ours).map(|entry| entry.path()) {
        if File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_leaves_is_removed_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            let lock = File::create(path.join(LOCK)).unwrap();
            (path, lock)
        };
        let (used, lock) = folder("dapo-rank-1-1-0");
        lock.try_lock().unwrap();
        let (abandoned, other) = (folder("dapo-rank-1-2-0").0, folder("something").0);
        let unlocked = dir.path().join("dapo-rank-1-3-0");
        fs::create_dir(&unlocked).unwrap();
        remove_abandoned(dir.path());
        assert!(used.exists() && !abandoned.exists() && other.exists() && unlocked.exists());
    }

    #[test]
    fn it_is_gone_at_the_end() {
        let (one, two) = (Scratch::new(1).unwrap(), Scratch::new(1).unwrap());
        assert!(one.path() != two.path() && one.path().exists() && two.path().exists());
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && two.path().exists());
    }
}
