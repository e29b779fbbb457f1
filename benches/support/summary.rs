//! Rows of the summary that `cargo bench` ends with: every bench leaves its own in a file, and the bench `summary` prints
//! them all.

use std::fmt::Write;
use std::time::Duration;

#[path = "folder.rs"]
mod folder;

use folder::folder;

/// What a bench has measured, one line each: what, time in nanoseconds, rate, separated by tabs.
pub(crate) struct Summary {
    bench: &'static str,
    lines: String,
}

impl Summary {
    pub(crate) fn of(bench: &'static str) -> Self {
        Self { bench, lines: String::new() }
    }

    /// Adds a row; `rate` is for people, with its unit.
    pub(crate) fn add(&mut self, what: &str, time: Duration, rate: &str) {
        let _ = writeln!(self.lines, "{what}\t{}\t{rate}", time.as_nanos());
    }

    /// Leaves the rows for the summary, in place of those of an earlier run.
    pub(crate) fn leave(self) -> std::io::Result<()> {
        std::fs::create_dir_all(folder())?;
        std::fs::write(folder().join(self.bench), self.lines)
    }
}
