//! The crate's one error type.

use std::io;
use std::path::{Path, PathBuf};

use dapo_reward::RewardError;

use crate::fault::Fault;

/// Errors of opening an external reward, of its answers and of its cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// A field of the configuration holds a value outside what is allowed.
    #[error(transparent)]
    Config(#[from] RewardError),
    /// The reward's name cannot be part of a file's name.
    #[error("the reward's name is {name:?}, expected letters, digits, \"_\" and \"-\"")]
    Name {
        /// The name.
        name: String,
    },
    /// A file or program that the configuration names is not there.
    #[error("{setting} names {file:?}, which is not there{hint}")]
    Missing {
        /// The setting.
        setting: &'static str,
        /// The file or program.
        file: PathBuf,
        /// Where it was looked for.
        hint: String,
    },
    /// The environment variable with the key is not set.
    #[error("api_key_env names the environment variable {variable:?}, which is not set")]
    Key {
        /// The variable's name.
        variable: String,
    },
    /// The build has no TLS.
    #[error("{url} needs TLS, which this build lacks: build with the feature \"tls\"")]
    Tls {
        /// The address without secrets.
        url: String,
    },
    /// A request failed, and faults stop the run.
    #[error("step {step}: {fault}")]
    Stopped {
        /// The training step, 0 outside training.
        step: u64,
        /// What happened.
        fault: Fault,
    },
    /// More samples than allowed have no answer.
    #[error(
        "step {step}: {failed} of {samples} samples abstain because of faults, expected at most {allowed} of them \
         (max_error_fraction); the last: {fault}"
    )]
    TooManyFaults {
        /// The training step, 0 outside training.
        step: u64,
        /// Samples without an answer.
        failed: usize,
        /// Samples of the round.
        samples: usize,
        /// The share that is allowed.
        allowed: f64,
        /// The last fault.
        fault: Fault,
    },
    /// A line of the cache is no answer.
    #[error("{path:?}, line {line}, is {found}, expected an answer; remove the line or the file to ask again")]
    Cache {
        /// The cache's file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong with it.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("{path:?}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl ExternalError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
