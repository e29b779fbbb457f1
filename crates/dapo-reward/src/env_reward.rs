//! The reward that an environment gives.

use std::sync::Arc;

use crate::environment::{EnvLimits, Environment, Episodes, TurnTemplate};
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};

/// What an environment said of an episode, as a component of the reward named `env`; a sum of rewards that has it is one of
/// completions of several turns.
///
/// A sample that was not played abstains.
///
/// # Example
/// ```
/// use dapo_reward::{EnvFault, EnvProblem, EnvReward, EnvStart, EnvStep, EnvTurn, Environment, RewardSum, RewardTerm};
///
/// struct Echo;
/// impl Environment for Echo {
///     fn reset(&self, _: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
///         Ok(EnvStart::default())
///     }
///     fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
///         Ok(if turn.is_last { EnvStep::done(1.0) } else { EnvStep::says("user", turn.text) })
///     }
/// }
/// let sum = RewardSum::of(vec![RewardTerm::new(1.0, EnvReward::new(Echo))])?;
/// assert_eq!(sum.names().collect::<Vec<_>>(), ["env"]);
/// assert_eq!(sum.episodes().map(|episodes| episodes.limits.max_turns), Some(8));
/// # Ok::<(), dapo_reward::RewardError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EnvReward {
    episodes: Episodes,
    judges: bool,
}

impl EnvReward {
    /// The reward of an environment.
    pub fn new(environment: impl Environment + 'static) -> Self {
        let (environment, limits) = (Arc::new(environment), EnvLimits::default());
        Self { episodes: Episodes { environment, limits, template: TurnTemplate::default() }, judges: false }
    }

    /// Sets the limits of episodes.
    #[must_use]
    pub fn with_limits(mut self, limits: EnvLimits) -> Self {
        self.episodes.limits = limits;
        self
    }

    /// Sets how what the environment says becomes tokens.
    #[must_use]
    pub fn with_template(mut self, template: TurnTemplate) -> Self {
        self.episodes.template = template;
        self
    }

    /// Sets whether the environment says which episodes are correct.
    #[must_use]
    pub fn judging(self, judges: bool) -> Self {
        Self { judges, ..self }
    }
}

impl RewardFn for EnvReward {
    fn name(&self) -> &'static str {
        "env"
    }
    fn judges(&self) -> bool {
        self.judges
    }
    fn episodes(&self) -> Option<&Episodes> {
        Some(&self.episodes)
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(input.episode.map_or_else(Score::abstain, |episode| Score {
            value: episode.value,
            correct: episode.correct,
            log: episode.log.clone(),
        }))
    }
}
