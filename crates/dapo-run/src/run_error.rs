//! Errors of runs.

use crate::error::SettingsError;
use std::path::{Path, PathBuf};

/// An error of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting is outside its range, or does not go with another.
    #[error("{key} is {found}, expected {expected}")]
    Setting {
        /// The key.
        key: String,
        /// The value it has.
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
    /// There is no such model.
    #[error("model {name} not found, expected {expected}")]
    NoModel {
        /// Its name in the settings.
        name: String,
        /// What names a model.
        expected: &'static str,
    },
    /// A folder is not that of a run.
    #[error("{} is no run folder: it has no config.resolved.toml", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// Another process trains the run.
    #[error("{} is being trained by another process", path.display())]
    Busy {
        /// The run's folder.
        path: PathBuf,
    },
    /// A checkpoint is not as it was written, or the logs are not.
    #[error("{source}; {hint}")]
    Damaged {
        /// What is damaged.
        source: Box<RunError>,
        /// How to continue.
        hint: String,
    },
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A step failed, or what follows it: its logs, its evaluation, its checkpoint.
    #[error("{stage} {step} of {steps} failed")]
    Step {
        /// What failed.
        stage: Stage,
        /// The step, from 1.
        step: u64,
        /// Steps that the run should have made.
        steps: u64,
        /// Where the finished steps are.
        rescue: Rescue,
        /// What a step whose training failed computed with, sample by sample.
        dump: Option<PathBuf>,
        /// Why.
        source: Box<RunError>,
    },
    /// The run needs more memory or disk space than there is.
    #[error(
        "the run needs about {needed} of {what}, expected at most {available}, what this machine has; {part}: lower {keys}"
    )]
    TooLarge {
        /// Memory or disk space.
        what: &'static str,
        /// How much the run needs.
        needed: String,
        /// How much there is.
        available: String,
        /// What takes the most.
        part: String,
        /// The keys that make it smaller.
        keys: &'static str,
    },
    /// There is no room for a checkpoint; the ones before it stay.
    #[error(
        "{}: {free} are free on its file system, {}, expected {needed} for a checkpoint: make room and resume the run",
        path.display(),
        mount.display()
    )]
    NoSpace {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Where its file system begins.
        mount: PathBuf,
        /// How much is free.
        free: String,
        /// How much the checkpoint needs.
        needed: String,
    },
    /// A guard ended the run.
    #[error("{message}; to continue all the same, set {key} = \"warn\"")]
    Guard {
        /// The guard's key.
        key: String,
        /// What the figures say.
        message: String,
    },
    /// Another rank failed; it has said so itself.
    #[error("rank {rank}: {message}")]
    Rank {
        /// The rank.
        rank: usize,
        /// Error of that rank.
        message: String,
    },
    /// The ranks of the run do not work together any more.
    #[error(transparent)]
    Dist(Box<dapo_dist::DistError>),
    /// The model's numbers are at fault.
    #[error("{model}: {source}")]
    Model {
        /// The path of the model.
        model: String,
        /// What is wrong with them.
        source: Box<dapo_policy::PolicyError>,
    },
    /// A reward of the settings cannot be used, or its answers cannot be kept.
    #[error("rewards.{name}: {source}")]
    Reward {
        /// The reward's name.
        name: String,
        /// Why.
        source: dapo_reward::RewardFault,
    },
    /// The problems cannot be read or encoded.
    #[error(transparent)]
    Data(Box<dapo_data::DataError>),
    /// A line of a log is damaged.
    #[error("{}:{line}: {found}, expected {expected}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Training failed.
    #[error(transparent)]
    Trainer(Box<dapo_trainer::TrainerError>),
    /// The hub failed.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] dapo_hub::HubError),
    /// A model that is no folder or file here, and that the hub does not give either.
    #[cfg(feature = "hub")]
    #[error("{name:?} is neither a folder nor a file here, and from the hub: {source}")]
    HubModel {
        /// The name that was looked for.
        name: String,
        /// Why the hub does not give it.
        source: dapo_hub::HubError,
    },
    /// The model failed.
    #[error(transparent)]
    Policy(#[from] dapo_policy::PolicyError),
}

/// A part of a run's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Rollouts and updates.
    Training,
    /// The guards' look at the finished step.
    Guards,
    /// The logs of the finished step.
    Logs,
    /// The evaluation after the step.
    Evaluation,
    /// The checkpoint after the step.
    Checkpoint,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "step",
            Self::Guards => "the check after step",
            Self::Logs => "writing the logs of step",
            Self::Evaluation => "the evaluation after step",
            Self::Checkpoint => "the checkpoint after step",
        })
    }
}

/// What a failure leaves of the finished steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// No step was finished.
    Nothing,
    /// They are in this checkpoint.
    Saved(PathBuf),
    /// The step failed after an update, so that its weights belong to no step.
    Torn,
    /// Saving them failed, too, for this reason.
    Failed(String),
}

impl From<dapo_data::DataError> for RunError {
    fn from(error: dapo_data::DataError) -> Self {
        Self::Data(Box::new(error))
    }
}

impl From<dapo_trainer::TrainerError> for RunError {
    fn from(error: dapo_trainer::TrainerError) -> Self {
        Self::Trainer(Box::new(error))
    }
}

impl From<dapo_dist::DistError> for RunError {
    fn from(error: dapo_dist::DistError) -> Self {
        Self::Dist(Box::new(error))
    }
}

impl RunError {
    #[expect(clippy::needless_pass_by_value, reason = "callers have numbers and literals")]
    pub(crate) fn setting(key: &str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), found: found.to_string(), expected: expected.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn folder(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Folder { path: path.into(), found: found.into(), expected: expected.into() }
    }
}
