//! Errors of imports.

use std::path::PathBuf;

/// Why a file could not be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Nothing in the file tells whose settings it holds, or it could be either of two.
    #[error("{}: {found}; looked for {looked_for}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What was seen.
        found: String,
        /// The signs of each format.
        looked_for: String,
    },
    /// A name that is no format's.
    #[error("format is `{found}`, expected one of verl, trl, ms-swift")]
    FormatName {
        /// The name.
        found: String,
    },
    /// The file's syntax is wrong or beyond what is read.
    #[error("{}:{line}: found {found}, expected {expected}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: String,
    },
    /// A key has a value that cannot be carried over.
    #[error("{}:{line}: {key} is {found}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key as the file spells it.
        key: String,
        /// The value found.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The settings that came out could not be read back.
    #[error("{}: the imported settings are not valid: {message}", file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What was wrong.
        message: String,
    },
}
