//! How a world is opened.

use crate::error::DistError;
use std::{
    fmt,
    io::{Write, stderr},
    time::Duration,
};

/// How ranks wait for each other.
pub struct Options {
    /// How long a rank may be silent.
    pub deadline: Duration,
    /// Called with the error that is about to end all processes. By default it is written to stderr.
    pub report: Box<dyn Fn(&DistError) + Send + Sync>,
}

impl Default for Options {
    /// Five minutes.
    fn default() -> Self {
        // In one piece: other ranks may write to the same place.
        let report = |error: &DistError| drop(stderr().write_all(format!("error: {error}\n").as_bytes()));
        Self { deadline: Duration::from_mins(5), report: Box::new(report) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
