//! Rewards of the settings, as a run takes them and outside of one.

use crate::external::{Externals, Opening};
use crate::run_error::RunError;
use crate::settings::RunConfig;
use dapo_reward::{RewardInput, RewardSum, RewardTerm, Score};
use dapo_trainer::TrainerError;

/// What a reward made of samples outside of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The scores, in order.
    pub scores: Vec<Score>,
    /// The first requests that failed, in words.
    pub faults: Vec<String>,
}

/// The rewards of settings. In a run, those of them that are computed elsewhere keep their answers in its folder.
/// Outside of a run nothing is kept.
#[derive(Debug)]
pub struct RunRewards {
    /// The weighted sum.
    pub sum: RewardSum,
    pub(crate) externals: Externals,
}

impl From<RewardSum> for RunRewards {
    /// Rewards of which the run keeps nothing.
    fn from(sum: RewardSum) -> Self {
        Self { sum, externals: Externals::default() }
    }
}

impl RunRewards {
    /// The rewards with a further one.
    ///
    /// # Errors
    /// When there is one of its name, or its weight is not finite.
    pub fn with(self, term: RewardTerm) -> Result<Self, RunError> {
        Ok(Self { sum: self.sum.with(term).map_err(TrainerError::from)?, ..self })
    }

    /// The first requests that failed since the last call, in words, each with its reward.
    pub fn take_faults(&self) -> Vec<String> {
        self.externals.take_faults()
    }
}

impl RunConfig {
    /// The rewards of the settings, for [`Run::create_with`](crate::Run::create_with) or for samples of one's own.
    ///
    /// # Errors
    /// As [`reward_sum`](Self::reward_sum).
    pub fn run_rewards(&self) -> Result<RunRewards, RunError> {
        let (sum, externals) = self.opened()?;
        Ok(RunRewards { sum, externals })
    }

    /// Scores samples by one of the rewards of the settings alone. Nothing is kept.
    ///
    /// # Errors
    /// When there is no such reward, it cannot be opened, or it fails.
    pub fn try_reward(&self, name: &str, inputs: &[RewardInput<'_>]) -> Result<Trial, RunError> {
        let (terms, externals) = self.terms(Opening::Opened)?;
        let Some(term) = terms.iter().find(|term| term.function.name() == name) else {
            let names = terms.iter().map(|term| term.function.name()).collect::<Vec<_>>().join(", ");
            return Err(RunError::setting("the reward", format!("{name:?}"), format!("one of {names}")));
        };
        let scores = term.function.score_batch(inputs);
        let scores = scores.map_err(|source| RunError::Reward { name: name.to_owned(), source })?;
        let faults = externals.take_counters().remove(name).map(|counters| counters.events).unwrap_or_default();
        Ok(Trial { scores, faults })
    }
}
