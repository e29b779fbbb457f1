//! What can go wrong in training.

use crate::GroupRecord;
use dapo_sampler::Shortage;
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
    #[error("{what} of update {update} is {value}, expected a finite number; the update was not made")]
    NotFinite {
        /// The update, from 1 over the whole run.
        update: u64,
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// No group of a step carries a training signal: all are all correct, all incorrect, or not graded.
    #[error("{0}")]
    NoSignal(Box<NoSignal>),
    /// The trainer's state is no longer that after a whole step.
    #[error(
        "step {step} failed between its updates, expected a whole step before a checkpoint: go on from an earlier one"
    )]
    Torn {
        /// The step.
        step: u64,
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

/// A step that found nothing to train on, and what it looked at.
#[derive(Clone, PartialEq)]
pub struct NoSignal {
    /// The step, from 1.
    pub step: u64,
    /// What it had to choose from.
    pub shortage: Shortage,
    /// Every group of the step, by draw index.
    pub groups: Vec<GroupRecord>,
    /// Whether training ends well: the policy has mastered its data, and [`OnMastered::Stop`](crate::OnMastered::Stop) is set.
    pub ends_well: bool,
}

impl NoSignal {
    /// How the groups came out, by the judge of answers rather than by the sampler's metric.
    pub fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for record in self.groups.iter().filter(|record| record.age == 0) {
            let verdicts = || record.group.rewards.iter().map(|reward| reward.correct);
            if verdicts().all(|correct| correct == Some(true)) {
                outcomes.all_correct += 1;
            } else if verdicts().all(|correct| correct == Some(false)) {
                outcomes.all_incorrect += 1;
            } else {
                outcomes.other += 1;
            }
        }
        outcomes
    }

    /// Whether the policy has mastered its data; see [`Outcomes::are_mastered`].
    pub fn is_mastered(&self) -> bool {
        self.outcomes().are_mastered()
    }
}

/// How the groups of a step came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Groups in which every completion is correct.
    pub all_correct: u64,
    /// Groups in which every completion is incorrect.
    pub all_incorrect: u64,
    /// Groups with both, or with completions that nobody judged.
    pub other: u64,
}

impl Outcomes {
    /// All groups.
    pub fn groups(self) -> u64 {
        self.all_correct + self.all_incorrect + self.other
    }

    /// Whether at least nine groups in ten are all correct: problems that remain unsolved may have a wrong gold answer.
    pub fn are_mastered(self) -> bool {
        self.all_correct > 0 && 10 * self.all_correct >= 9 * self.groups()
    }
}

/// Without the groups, which are large.
impl std::fmt::Debug for NoSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, shortage, groups, ends_well } = self;
        let mut out = f.debug_struct("NoSignal");
        out.field("step", step)
            .field("shortage", shortage)
            .field("groups", &groups.len())
            .field("ends_well", ends_well);
        out.finish()
    }
}

impl std::fmt::Display for NoSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.is_mastered() { "nothing left to learn" } else { "nothing to train on" };
        write!(f, "{what}: {}", self.shortage)
    }
}

impl TrainerError {
    pub(crate) fn setting(field: &str, found: &dyn std::fmt::Display, expected: &str) -> Self {
        Self::Setting { field: field.into(), found: format!("{found}"), expected: expected.into() }
    }
}
