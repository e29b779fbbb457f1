//! Lines and elements of bounded length: a file without line feeds must not fill memory.

use std::cell::Cell;
use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// The longest line of a data file, and the longest element of a JSON array, in bytes: 64 MiB.
pub const LONGEST_LINE: usize = 1 << 26;

/// Reads a line with its line feed in place of what `line` holds; 0 bytes are the end.
///
/// # Errors
/// What the system says, and where the line is longer than [`LONGEST_LINE`].
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<usize> {
    line.clear();
    let length = reader.take(LONGEST_LINE as u64 + 1).read_until(b'\n', line)?;
    if length > LONGEST_LINE { Err(too_long("a line")) } else { Ok(length) }
}

fn too_long(what: &str) -> Error {
    let message = format!("{what} of more than {} MiB", LONGEST_LINE >> 20);
    Error::new(ErrorKind::InvalidData, message)
}

/// Hands over bytes until `left` is used up; who reads an element fills it again.
pub(super) struct Bounded<'a, R> {
    pub(super) reader: R,
    pub(super) left: &'a Cell<usize>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(too_long("an element"));
        }
        let length = self.reader.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - length);
        Ok(length)
    }
}
