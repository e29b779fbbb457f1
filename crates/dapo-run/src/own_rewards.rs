//! Runs with rewards that no settings file can name.

use crate::layers::Resolved;
use crate::run::Run;
use crate::run_error::RunError;
use crate::start::Resume;
use crate::trust::Trust;
use dapo_reward::RewardSum;
use std::path::Path;

impl Run {
    /// [`create`](Self::create) with rewards of one's own in the place of those of the settings; of `[rewards]`, only
    /// `kl_coef` counts then. [`RunConfig::reward_terms`](crate::RunConfig::reward_terms) gives the settings' own, to be added to.
    ///
    /// The folder cannot say which rewards these are: [`resume_with`](Self::resume_with) must be given the same.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Example
    /// ```no_run
    /// use dapo_reward::{RewardSum, RewardTerm, SampleReward};
    /// use dapo_run::{Layer, Run, resolve};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let settings = resolve(&[Layer::parse("tiny")?])?;
    /// let brevity = SampleReward::new("brevity", |input| 1.0 / (1.0 + input.num_tokens as f64));
    /// let mut terms = settings.config.reward_terms()?;
    /// terms.push(RewardTerm::new(0.5, brevity));
    /// let mut run = Run::create_with(&settings, "runs/brief".as_ref(), RewardSum::of(terms)?)?;
    /// while !run.is_finished() {
    ///     run.step()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_with(settings: &Resolved, dir: &Path, rewards: RewardSum) -> Result<Self, RunError> {
        Self::start(settings, dir, Trust::Verified, Some(rewards))
    }

    /// [`resume`](Self::resume) of a run that was started by [`create_with`](Self::create_with).
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_with(settings: &Resolved, dir: &Path, rewards: RewardSum) -> Result<Self, RunError> {
        Self::resume_from(settings, dir, Resume::default(), Some(rewards))
    }
}
