//! The files of a model's folder, on disk or in memory.

use dapo_files::{open_file, read_file};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

/// What weights are read from.
pub(crate) trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// The files of a folder by their names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Folder<'a> {
    Disk(&'a Path),
    /// Names with contents; the path stands before the names in messages.
    Memory(&'a Path, &'a [(&'a str, &'static [u8])]),
}

impl<'a> Folder<'a> {
    pub(crate) fn path(self) -> &'a Path {
        match self {
            Self::Disk(path) | Self::Memory(path, _) => path,
        }
    }

    /// A file as messages name it.
    pub(crate) fn file(self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn has(self, name: &str) -> bool {
        match self {
            Self::Disk(path) => path.join(name).exists(),
            Self::Memory(..) => self.content(name).is_some(),
        }
    }

    /// A whole file.
    pub(crate) fn read(self, name: &str) -> io::Result<Cow<'static, [u8]>> {
        match self {
            Self::Disk(path) => read_file(&path.join(name)).map(Cow::Owned),
            Self::Memory(..) => self.content(name).map(Cow::Borrowed).ok_or_else(|| ErrorKind::NotFound.into()),
        }
    }

    /// A file to be read in parts, and its length in bytes.
    pub(crate) fn open(self, name: &str) -> io::Result<(Box<dyn Source>, u64)> {
        match self {
            Self::Disk(path) => open(&path.join(name)),
            Self::Memory(..) => {
                let content = self.content(name).ok_or(ErrorKind::NotFound)?;
                Ok((Box::new(Cursor::new(content)), content.len() as u64))
            }
        }
    }

    fn content(self, name: &str) -> Option<&'static [u8]> {
        match self {
            Self::Disk(_) => None,
            Self::Memory(_, files) => files.iter().find(|(file, _)| *file == name).map(|(_, content)| *content),
        }
    }
}

/// A file on disk to be read in parts, and its length in bytes.
pub(crate) fn open(file: &Path) -> io::Result<(Box<dyn Source>, u64)> {
    let handle: File = open_file(file)?;
    let length = handle.metadata()?.len();
    Ok((Box::new(handle), length))
}
