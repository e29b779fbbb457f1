//! Errors of making a report.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A folder holds none of the files of a run.
    #[error("{} is {found}, expected a run folder", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A report of nothing was asked for.
    #[error("runs is empty, expected at least one run folder")]
    NoRuns,
    /// A page cannot be served.
    #[error("port {port} of 127.0.0.1: {source}")]
    Port {
        /// The port that was asked for; 0 for any.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl ReportError {
    /// Names the file in an error of the system.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}
