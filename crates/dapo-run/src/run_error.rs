//! What can go wrong with a run.

use std::path::{Path, PathBuf};

/// An error of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting is outside its range, or does not go with another.
    #[error("{key} is {found}, expected {expected}")]
    Setting {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A run folder is not as it should be.
    #[error("{}: {found}, expected {expected}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] crate::SettingsError),
    /// A step failed.
    #[error("step {step} of {steps} failed")]
    Step {
        /// The step, from 1.
        step: u64,
        /// Steps that the run should have made.
        steps: u64,
        /// The checkpoint of the last whole step, where there is one.
        checkpoint: Option<PathBuf>,
        /// Why.
        source: Box<RunError>,
    },
    /// The model's numbers are at fault.
    #[error("{model}: {source}")]
    Model {
        /// Its path.
        model: String,
        /// What is wrong with them.
        source: Box<dapo_policy::PolicyError>,
    },
    /// Training failed.
    #[error(transparent)]
    Trainer(Box<dapo_trainer::TrainerError>),
    /// The hub failed.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] dapo_policy::hub::HubError),
    /// The model failed.
    #[error(transparent)]
    Policy(#[from] dapo_policy::PolicyError),
}

impl From<dapo_trainer::TrainerError> for RunError {
    fn from(error: dapo_trainer::TrainerError) -> Self {
        Self::Trainer(Box::new(error))
    }
}

impl RunError {
    #[expect(clippy::needless_pass_by_value, reason = "callers have numbers and literals")]
    pub(crate) fn setting(key: &str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), found: found.to_string(), expected: expected.into() }
    }

    /// A name that stands for nothing; the error that says so ends in the names that exist.
    pub(crate) fn unknown_name(key: &str, name: &str, error: &dyn std::error::Error) -> Self {
        let text = error.to_string();
        let names = text.rsplit_once("expected ").map_or(text.as_str(), |(_, names)| names);
        Self::setting(key, format!("{name:?}"), names)
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn folder(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Folder { path: path.into(), found: found.into(), expected: expected.into() }
    }
}
