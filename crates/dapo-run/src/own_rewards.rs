//! Runs with rewards that no settings file can name.

use crate::layers::Resolved;
use crate::resume::Resume;
use crate::run::Run;
use crate::run_error::RunError;
use crate::trial::RunRewards;
use crate::trust::Trust;
use std::path::Path;

impl Run {
    /// [`create`](Self::create) with rewards of one's own in the place of those of the settings; of `[rewards]`, only
    /// `kl_coef` counts then. [`RunConfig::run_rewards`](crate::RunConfig::run_rewards) gives the settings' own, to be added to:
    /// those of them that are computed elsewhere keep their answers, and nothing is asked twice.
    ///
    /// The folder cannot say which rewards these are: [`resume_with`](Self::resume_with) must be given the same.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Example
    /// ```no_run
    /// use dapo_reward::{RewardTerm, SampleReward};
    /// use dapo_run::{Run, resolve_words};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let settings = resolve_words(["tiny"])?;
    /// let brevity = SampleReward::new("brevity", |input| 1.0 / (1.0 + input.num_tokens as f64));
    /// let rewards = settings.config.run_rewards()?.with(RewardTerm::new(0.5, brevity))?;
    /// let mut run = Run::create_with(&settings, "runs/brief".as_ref(), rewards)?;
    /// while !run.is_finished() {
    ///     run.step()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_with(settings: &Resolved, dir: &Path, rewards: impl Into<RunRewards>) -> Result<Self, RunError> {
        Self::start(settings, dir, Trust::Verified, Some(rewards.into()))
    }

    /// [`resume`](Self::resume) of a run that was started by [`create_with`](Self::create_with).
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_with(settings: &Resolved, dir: &Path, rewards: impl Into<RunRewards>) -> Result<Self, RunError> {
        Self::resume_from(settings, dir, Resume::default(), Some(rewards.into()))
    }
}
