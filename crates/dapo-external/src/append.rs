//! Files that grow.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Opens a file to write at its end; it is made where it is missing. A pipe in its place would have the program wait.
///
/// # Errors
/// What the system says, or that the path is no file.
pub(crate) fn open(path: &Path) -> Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::new(ErrorKind::InvalidInput, "a folder, pipe or device, expected a file"));
    }
    OpenOptions::new().create(true).append(true).open(path)
}
