//! The cache's layout, which is that of `huggingface_hub`:
//!
//! ```text
//! models--ORG--NAME/blobs/HASH                  contents
//! models--ORG--NAME/snapshots/COMMIT/PATH       links to them
//! models--ORG--NAME/refs/BRANCH                 the branch's commit
//! models--ORG--NAME/.no_exist/COMMIT/PATH       files that the commit is known not to have
//! .locks/models--ORG--NAME/HASH.lock            held while a content is downloaded
//! ```

use crate::digest::Digest;
use crate::error::HubError;
use crate::repo::{Repo, is_commit};
use dapo_files::read_text;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A repository's part of the cache.
pub(super) struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(root: &Path, repo: &Repo<'_>) -> Self {
        let name = repo.folder();
        Self { folder: root.join(&name), locks: root.join(".locks").join(name) }
    }

    /// The commit of a revision, if it is known.
    pub(super) fn commit(&self, revision: &str) -> Result<Option<String>, HubError> {
        if is_commit(revision) {
            return Ok(Some(revision.to_owned()));
        }
        let file = self.reference(revision);
        match read_text(&file) {
            Ok(commit) => Ok(Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(HubError::io(&file)(error)),
        }
    }

    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        write(&self.reference(revision), commit)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a file of a commit is, or would be.
    pub(super) fn pointer(&self, commit: &str, path: &str) -> PathBuf {
        self.snapshot(commit).join(path)
    }

    /// Whether a commit is known not to have a file.
    pub(super) fn lacks(&self, commit: &str, path: &str) -> bool {
        self.absence(commit, path).exists()
    }

    pub(super) fn set_absent(&self, commit: &str, path: &str) -> Result<(), HubError> {
        write(&self.absence(commit, path), "")
    }

    fn absence(&self, commit: &str, path: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(path)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hash())
    }

    /// Where a content grows while it is downloaded.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", digest.hash()))
    }

    /// Waits until no other program downloads this content; the lock ends with the value.
    pub(super) fn lock(&self, digest: &Digest) -> Result<File, HubError> {
        let path = self.locks.join(format!("{}.lock", digest.hash()));
        make_folder_of(&path)?;
        let file = File::create(&path).map_err(HubError::io(&path))?;
        match file.lock() {
            // Some network file systems have no locks.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(HubError::io(&path)(error)),
            _ => Ok(file),
        }
    }

    /// Gives a content its name in a commit.
    pub(super) fn link(&self, digest: &Digest, commit: &str, path: &str) -> Result<PathBuf, HubError> {
        let pointer = self.pointer(commit, path);
        if pointer.exists() {
            return Ok(pointer);
        }
        make_folder_of(&pointer)?;
        // A link to a content that is gone is in the way.
        if pointer.is_symlink() {
            fs::remove_file(&pointer).map_err(HubError::io(&pointer))?;
        }
        let up = "../".repeat(path.split('/').count() + 1);
        place(&self.blob(digest), &format!("{up}blobs/{}", digest.hash()), &pointer).map_err(HubError::io(&pointer))?;
        Ok(pointer)
    }
}

#[cfg(unix)]
fn place(_: &Path, target: &str, pointer: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, pointer) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Not everyone may make links there.
#[cfg(not(unix))]
fn place(blob: &Path, _: &str, pointer: &Path) -> io::Result<()> {
    fs::copy(blob, pointer).map(|_| ())
}

fn write(file: &Path, text: &str) -> Result<(), HubError> {
    make_folder_of(file)?;
    fs::write(file, text).map_err(HubError::io(file))
}

fn make_folder_of(file: &Path) -> Result<(), HubError> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).map_err(HubError::io(folder))
}
