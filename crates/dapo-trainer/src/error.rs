//! Errors of training.

use crate::no_signal::NoSignal;
use crate::sample::SampleId;
use dapo_dist::DistError;
use dapo_loss::LossError;
use dapo_policy::PolicyError;
use dapo_reward::{EnvFault, RewardError};
use dapo_sampler::SamplerError;
use std::path::PathBuf;

/// An error of the trainer, or of a part it composes.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A setting is outside its range.
    #[error("{field} is {found}, expected {expected}")]
    Setting {
        /// Path of the setting.
        field: String,
        /// The value it has.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
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
    /// The loss or a gradient is not finite; the update was not made.
    #[error("{what} of update {update}{} is {value}, expected a finite number; {}", of_step(*step), made(*step, *update))]
    NotFinite {
        /// The update, from 1: among those of the step, or of the optimizer where there is no step.
        update: u64,
        /// The rollout step, from 1; `None` where the optimizer is used without a trainer.
        step: Option<u64>,
        /// Which number.
        what: &'static str,
        /// The value it has.
        value: f64,
    },
    /// An update left weights that are not finite or beyond all sense; it cannot be taken back.
    #[error(
        "the norm of the weights is {norm} after update {update}{}, expected at most 1e9",
        of_step(*step)
    )]
    Diverged {
        /// The update, from 1: among those of the step, or of the optimizer where there is no step.
        update: u64,
        /// The rollout step, from 1; `None` outside a trainer.
        step: Option<u64>,
        /// √Σ w² over what is trained.
        norm: f64,
    },
    /// No group of a step carries a training signal: all are all correct, all incorrect, or not graded. Or fewer do than
    /// [`OnExhausted::Error`](dapo_sampler::OnExhausted::Error) asks for.
    #[error("{0}")]
    NoSignal(Box<NoSignal>),
    /// The trainer's state is no longer that after a whole step.
    #[error(
        "step {step} failed after an update, expected a whole step before a checkpoint: continue from an earlier one"
    )]
    Torn {
        /// The step.
        step: u64,
    },
    /// A part of a step failed on one of several ranks; every rank has this error.
    #[error("rank {rank}: {message}")]
    Rank {
        /// The first rank that failed.
        rank: usize,
        /// Error of that rank.
        message: String,
        /// The same error, on the rank itself.
        #[source]
        cause: Option<Box<TrainerError>>,
    },
    /// The ranks that train as one have lost each other.
    #[error(transparent)]
    Dist(Box<DistError>),
    /// From the policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The loss, or the advantages before it, refused a setting or what they were shown.
    #[error("{}{source}", place(*draw, *sample))]
    Loss {
        /// Index of the draw at fault, where there is one.
        draw: Option<u64>,
        /// Number of the sample at fault within the draw, where there is one.
        sample: Option<usize>,
        /// What is wrong.
        source: LossError,
    },
    /// From a reward.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// The environment cannot answer.
    #[error("env: {0}")]
    Environment(EnvFault),
    /// From the sampler.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// From candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<LossError> for TrainerError {
    fn from(source: LossError) -> Self {
        Self::Loss { draw: None, sample: None, source }
    }
}

impl From<DistError> for TrainerError {
    fn from(error: DistError) -> Self {
        Self::Dist(Box::new(error))
    }
}

impl TrainerError {
    /// The same complaint about a setting, under the path of the part that the setting belongs to; the whole has the path "".
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        let (field, found, expected) = match self {
            Self::Setting { field, found, expected }
            | Self::Policy(PolicyError::Setting { field, found, expected }) => (field, found, expected),
            Self::Sampler(SamplerError::Config { field, value, allowed }) => (field.into(), value, allowed),
            Self::Loss { source: LossError::Config { field, value, allowed }, .. }
            | Self::Reward(RewardError::Config { field, value, allowed, .. }) => (field.into(), value, allowed.into()),
            other => return other,
        };
        let field = if part.is_empty() { field } else { format!("{part}.{field}") };
        Self::Setting { field, found, expected }
    }

    pub(crate) fn setting(field: &str, found: &dyn std::fmt::Display, expected: &str) -> Self {
        Self::Setting { field: field.into(), found: format!("{found}"), expected: expected.into() }
    }

    /// The error with its step, of whose updates `made` had been made before.
    pub(crate) fn in_step(self, step: u64, made: u64) -> Self {
        match self {
            Self::NotFinite { what, value, .. } => Self::NotFinite { update: made + 1, step: Some(step), what, value },
            Self::Diverged { norm, .. } => Self::Diverged { update: made + 1, step: Some(step), norm },
            other => other,
        }
    }

    /// The loss's error about a sequence of a batch, with the sample's name.
    pub(crate) fn of_sequence(source: LossError, samples: &[SampleId]) -> Self {
        let id = match source {
            LossError::NonFinite { sequence, .. } => samples.get(sequence),
            _ => None,
        };
        Self::Loss { draw: id.map(|id| id.draw), sample: id.map(|id| id.sample), source }
    }

    /// The error of advantages about a group of a batch, with the draw's name.
    pub(crate) fn of_group(source: LossError, draws: &[u64]) -> Self {
        let (group, sample) = match source {
            LossError::GroupTooSmall { group, .. } => (Some(group), None),
            LossError::Reward { group, index, .. } => (Some(group), Some(index)),
            _ => (None, None),
        };
        Self::Loss { draw: group.and_then(|group| draws.get(group).copied()), sample, source }
    }
}

fn of_step(step: Option<u64>) -> String {
    step.map(|step| format!(" of step {step}")).unwrap_or_default()
}

/// Which updates were made before one that was not.
fn made(step: Option<u64>, update: u64) -> String {
    match (step, update) {
        (None, _) => "the update was not made".into(),
        (_, 0 | 1) => "no update of the step was made".into(),
        (_, 2) => "update 1 of the step had been made".into(),
        (_, update) => format!("updates 1 to {} of the step had been made", update - 1),
    }
}

/// What stands before an error about a sample.
fn place(draw: Option<u64>, sample: Option<usize>) -> String {
    match (draw, sample) {
        (Some(draw), Some(sample)) => format!("draw {draw}, sample {sample}: "),
        (Some(draw), None) => format!("draw {draw}: "),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_named_with_the_updates_before_it() {
        let of = |made| {
            let of_optimizer = TrainerError::NotFinite { update: 41, step: None, what: "the loss", value: f64::NAN };
            of_optimizer.in_step(7, made).to_string()
        };
        let start = |update| format!("the loss of update {update} of step 7 is NaN, expected a finite number; ");
        assert_eq!(of(0), start(1) + "no update of the step was made");
        assert_eq!(of(1), start(2) + "update 1 of the step had been made");
        assert_eq!(of(3), start(4) + "updates 1 to 3 of the step had been made");
    }
}
