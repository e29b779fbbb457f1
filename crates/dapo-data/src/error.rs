//! Errors of data.

use dapo_policy::PolicyError;
use std::path::PathBuf;

/// Why problems cannot be read, split or encoded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A setting is outside its range.
    #[error("{field} is {found}, expected {expected}")]
    Setting {
        /// Name of the setting.
        field: String,
        /// The value it has.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A data file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An entry of a data file is not as expected.
    #[error("{}:{line}: {found}, expected {expected}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Line, array element or Parquet row, from 1.
        line: usize,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A template or the tokenizer fails.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl DataError {
    pub(crate) fn setting(field: &str, found: &dyn std::fmt::Display, expected: &str) -> Self {
        Self::Setting { field: field.into(), found: format!("{found}"), expected: expected.into() }
    }
}
