//! Memory in which rollouts on a CPU keep activations for the first update of a step.

use super::{Shape, Work};
use crate::settings::RunConfig;
use dapo_policy::{LayerMemory, ModelConfig, activation_bytes};

/// Tokens that room is made for at a time, at most.
const BLOCK_TOKENS: f64 = 8.0;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept {
    /// Most bytes.
    pub(super) bytes: f64,
    /// Whether that is all that a step generates, whatever is dropped of it.
    pub(super) is_all: bool,
}

impl Kept {
    pub(super) fn of(config: &RunConfig, model: &ModelConfig, work: &Work) -> Self {
        let budget = config.trainer_config().kept_activation_bytes(model, config.train.layer_memory) as f64;
        let new = (config.max_tokens_after_prompt() as f64).max(1.0);
        let of_prompt = work.prompt as f64 + BLOCK_TOKENS + work.completions_a_prompt as f64 * (new + BLOCK_TOKENS);
        let prompts = work.tokens_at_most.map_or(f64::INFINITY, |tokens| {
            tokens as f64 / (config.rollout.max_new_tokens as f64 * work.completions_a_prompt as f64).max(1.0)
        });
        let needed = prompts * of_prompt * activation_bytes(model, LayerMemory::Keep) as f64;
        Self { bytes: budget.min(needed), is_all: needed <= budget }
    }
}

impl Shape {
    /// What an update needs for activations beside those that rollouts have kept.
    pub(super) fn activations_beside(&self, config: &RunConfig, work: &Work, kept: Kept) -> f64 {
        if kept.is_all && work.updates == 1 { self.one_layer(config, work) } else { self.activations(config, work) }
    }
}
