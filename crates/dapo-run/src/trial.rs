//! A reward of the settings, tried outside of a run.

use crate::run_error::RunError;
use crate::settings::RunConfig;
use dapo_reward::{RewardInput, Score};

/// What a reward made of samples outside of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The scores, in order.
    pub scores: Vec<Score>,
    /// The first requests that failed, in words.
    pub faults: Vec<String>,
}

impl RunConfig {
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
