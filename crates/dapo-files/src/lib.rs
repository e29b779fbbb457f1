//! Files that others have made, opened and read without waiting for ever and without exhausting memory.
//!
//! A path from outside may name a pipe, a device, or a file larger than memory. [`open_file`], [`read_file`] and
//! [`read_text`] refuse those with an error that says what was found.
//!
//! When not to use it: for files that the program itself has just written.

mod memory;
mod open;

pub use memory::{available_memory, check_memory};
pub use open::{check_is_file, open_file, read_file, read_text};
