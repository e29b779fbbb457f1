//! What can go wrong in training.

use std::path::PathBuf;

/// An error of the trainer, or of a part it composes.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A setting is outside its range.
    #[error("{field} is {found}, expected {expected}")]
    Setting {
        /// Path of the setting.
        field: String,
        /// Its value.
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
    /// A line of a data file is not as expected.
    #[error("{}:{line}: {found}, expected {expected}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Line, array element or Parquet row, from 1.
        line: usize,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A checkpoint does not fit the run.
    #[error("{}: {found}, expected {expected}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The loss or a gradient is not finite.
    #[error("step {step}: {what} is {value}; no update was made")]
    NotFinite {
        /// The step.
        step: u64,
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// From the policy.
    #[error(transparent)]
    Policy(#[from] dapo_policy::PolicyError),
    /// From the loss.
    #[error(transparent)]
    Loss(#[from] dapo_loss::LossError),
    /// From a reward.
    #[error(transparent)]
    Reward(#[from] dapo_reward::RewardError),
    /// From the sampler.
    #[error(transparent)]
    Sampler(#[from] dapo_sampler::SamplerError),
    /// From candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl TrainerError {
    pub(crate) fn setting(field: &str, found: &dyn std::fmt::Display, expected: &str) -> Self {
        Self::Setting { field: field.into(), found: format!("{found}"), expected: expected.into() }
    }
}
