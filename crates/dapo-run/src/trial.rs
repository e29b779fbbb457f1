//! Rewards of the settings outside of a run: no answers are kept.

use crate::external::Externals;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use dapo_reward::{RewardInput, RewardSum, Score};

/// What a reward made of samples outside of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The scores, in order.
    pub scores: Vec<Score>,
    /// The first requests that failed, in words.
    pub faults: Vec<String>,
}

/// The rewards of settings outside of a run.
#[derive(Debug)]
pub struct LooseRewards {
    /// The sum of the rewards.
    pub sum: RewardSum,
    externals: Externals,
}

impl From<RewardSum> for LooseRewards {
    /// Rewards of which none is computed elsewhere.
    fn from(sum: RewardSum) -> Self {
        Self { sum, externals: Externals::default() }
    }
}

impl LooseRewards {
    /// The first requests that failed since the last call, in words, each with its reward.
    pub fn take_faults(&self) -> Vec<String> {
        self.externals.take_faults()
    }
}

impl RunConfig {
    /// The rewards of the settings outside of a run. Nothing is kept.
    ///
    /// # Errors
    /// As [`reward_sum`](Self::reward_sum).
    pub fn loose_rewards(&self) -> Result<LooseRewards, RunError> {
        let (sum, externals) = self.run_rewards()?;
        Ok(LooseRewards { sum, externals })
    }

    /// Scores samples by one of the rewards of the settings alone. Nothing is kept.
    ///
    /// # Errors
    /// When there is no such reward, it cannot be opened, or it fails.
    pub fn try_reward(&self, name: &str, inputs: &[RewardInput<'_>]) -> Result<Trial, RunError> {
        let (terms, externals) = self.terms(true)?;
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
