//! Disk space of a run folder.

use super::{Parameters, Work};
use crate::settings::RunConfig;
use serde::Serialize;

/// Bytes of a token in a log of completions, about.
const BYTES_A_TOKEN: u64 = 4;

/// Bytes of a token that is logged with its log-prob, about.
const BYTES_A_LOGPROB: u64 = 20;

/// Disk space, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// One checkpoint, f32: the trained weights, their two moments, the same of a critic's own layers, and a
    /// reference that follows the policy.
    pub checkpoint: u64,
    /// Checkpoints there are at a time, at most: the last one and the last whose next step succeeded stay in any case, and an
    /// old one goes when the new one is whole. With `output.keep_best` there is one more.
    pub checkpoints: u64,
    /// Texts of all completions, where they are kept; when half of the groups are informative.
    pub completions: u64,
}

impl Disk {
    pub(super) fn of(config: &RunConfig, parameters: &Parameters, work: &Work) -> Self {
        let made = match config.output.checkpoint_every {
            0 => 1,
            every => config.train.steps.div_ceil(every).max(1),
        };
        let best = if config.output.keep_best.is_some() { config.eval.every } else { None };
        let made = made + best.map_or(0, |every| config.train.steps / every.max(1));
        // The two newest stay in any case.
        let kept =
            if config.output.keep_checkpoints == 0 { made } else { config.output.keep_checkpoints.max(2) as u64 + 1 };
        let kept = kept + u64::from(config.output.keep_best.is_some());
        let logged = (config.output.token_logprobs as u64).saturating_mul(config.rollout.max_new_tokens as u64);
        let completions = (work.tokens_expected.saturating_mul(BYTES_A_TOKEN))
            .saturating_add(logged.min(work.tokens_expected).saturating_mul(BYTES_A_LOGPROB));
        let reference =
            if config.has_reference() && config.reference_sync.every.is_some() { 4 * parameters.model } else { 0 };
        let trained = 12 * parameters.trained();
        Self {
            checkpoint: trained * (1 + u64::from(config.has_own_critic())) + reference,
            checkpoints: made.min(kept),
            completions: if config.output.completions { work.steps.saturating_mul(completions) } else { 0 },
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.checkpoints.saturating_mul(self.checkpoint).saturating_add(self.completions)
    }
}
