//! Files that others have made, opened and read without waiting for ever and without exhausting memory.

use crate::memory;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a file for reading, if it is one: a pipe would have the program wait, and a device may never end.
///
/// # Errors
/// What the system says, or what the path is instead of a file.
pub fn open_file(path: &Path) -> Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() {
        return File::open(path);
    }
    let found = if kind.is_dir() { "a folder" } else { "a pipe, socket or device" };
    Err(Error::new(ErrorKind::InvalidInput, format!("{found}, expected a file")))
}

/// Reads a whole file.
///
/// # Errors
/// As [`open_file`], and where the file is larger than the memory that is available.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut file = open_file(path)?;
    let length = file.metadata()?.len();
    memory::check(length).map_err(|reason| Error::new(ErrorKind::FileTooLarge, reason))?;
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
