//! Opening and reading.

use crate::memory::check_memory;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a file for reading, if it is one: a pipe would have the program wait, and a device may never end.
///
/// # Errors
/// What the system says, or what the path is instead of a file.
pub fn open_file(path: &Path) -> Result<File> {
    fs::metadata(path)?;
    check_is_file(path)?;
    without_waiting().open(path)
}

/// Whether a path is a file, or nothing yet: a pipe in its place would have who writes to it wait.
///
/// # Errors
/// What the path is instead.
pub fn check_is_file(path: &Path) -> Result<()> {
    let found = match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_dir() => "a folder",
        Ok(kind) if !kind.is_file() => "a pipe, socket or device",
        // What else is wrong shows when it is opened.
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("{found}, expected a file")))
}

/// Some of the system's own files say that they are plain ones and wait for something to read, and a file may have become
/// a pipe by now.
#[cfg(unix)]
fn without_waiting() -> OpenOptions {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    options
}

#[cfg(not(unix))]
fn without_waiting() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

/// Reads a whole file.
///
/// # Errors
/// As [`open_file`], and where the file is larger than the memory that is available.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut file = open_file(path)?;
    let length = file.metadata()?.len();
    check_memory(length).map_err(|reason| Error::new(ErrorKind::FileTooLarge, reason))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))?;
    // Some of the system's own files say that they are empty.
    let most = if length == 0 { 1 << 20 } else { length };
    file.by_ref().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole file of UTF-8.
///
/// # Errors
/// As [`read_file`], and where the file is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read_file(path)?).map_err(|error| Error::new(ErrorKind::InvalidData, error.utf8_error()))
}
