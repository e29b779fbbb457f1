//! What rollouts keep of their forward passes for the first update of a step.

use crate::config::TrainerConfig;
use crate::pack::{TrainingGroup, mini_batches};
use crate::sample::Group;
use dapo_policy::{Decoder, LayerMemory, ModelConfig, activation_bytes};
use dapo_sampler::KeptGroup;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most memory that is taken where nothing else is said: as much as for keys and values.
const MOST_BYTES: usize = 2 << 30;

impl TrainerConfig {
    /// Memory in bytes in which rollouts of a model on the CPU keep activations for the first update of a step:
    /// [`keep_activations_bytes`](Self::keep_activations_bytes), and where that is unset as much as the backward pass of a
    /// micro-batch keeps, at most 2 GiB.
    pub fn kept_activation_bytes(&self, model: &ModelConfig, memory: LayerMemory) -> usize {
        let of_micro_batch = || self.micro_batch_tokens.saturating_mul(activation_bytes(model, memory));
        self.keep_activations_bytes.unwrap_or_else(|| of_micro_batch().min(MOST_BYTES))
    }
}

/// Gives up what is kept of groups that the sampler has not kept.
pub(crate) fn release_dropped(policy: &Decoder, kept: &[KeptGroup<Arc<Group>>]) {
    let draws: BTreeSet<u64> = kept.iter().map(|kept| kept.draw).collect();
    policy.release_activations(&|draw, _| draws.contains(&draw));
}

/// Gives up what is kept of completions that the first update does not compute: before the others, the weights change.
pub(crate) fn release_untrained(policy: &Decoder, groups: &[TrainingGroup], config: &TrainerConfig) {
    let first = mini_batches(groups, config).next().unwrap_or_default();
    let trained: BTreeSet<(u64, usize)> =
        first.iter().flat_map(|group| group.computed().map(|sequence| (group.draw, sequence.sample))).collect();
    policy.release_activations(&|draw, sample| trained.contains(&(draw, sample)));
}
