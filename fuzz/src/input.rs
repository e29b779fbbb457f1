//! What targets share: inputs of several parts, folders for files, and bounds on time.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A property of a parser, which panics where an input breaks it.
pub type Target = fn(&[u8]);

/// Stands between the parts of an input.
pub const SEPARATOR: &[u8] = b"\n===\n";

/// Longest time that a parser may take for an input of a fuzzer, in seconds: far above what is needed, so that a busy
/// machine breaks no property.
const LONGEST: u64 = 20;

/// The parts of an input between its separators; those that it lacks are empty.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(data);
    std::array::from_fn(|part| {
        let text = rest.unwrap_or_default();
        let end = text.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        match end.filter(|_| part + 1 < N) {
            Some(end) => {
                rest = Some(&text[end + SEPARATOR.len()..]);
                &text[..end]
            }
            None => rest.take().unwrap_or_default(),
        }
    })
}

/// Bytes as text, with replacement characters.
pub fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Runs a parser and checks that it ends in bounded time.
pub fn bounded<T>(parse: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = parse();
    let time = start.elapsed();
    assert!(time < Duration::from_secs(LONGEST), "{time:?}");
    result
}

/// A folder for the files of one input, which goes with the value.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for files: {error}")))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.path().join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        fs::write(&file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file
    }
}
