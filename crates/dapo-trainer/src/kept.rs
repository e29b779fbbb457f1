//! What rollouts keep of their forward passes for the first update of a step.

use crate::config::TrainerConfig;
use crate::pack::{TrainingGroup, mini_batches};
use crate::sample::Group;
use crate::team::Team;
use dapo_policy::{Decoder, LayerMemory, ModelConfig, activation_bytes};
use dapo_sampler::KeptGroup;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most memory that is taken where nothing else is said: as much as for keys and values.
const MOST_BYTES: usize = 2 << 30;
/// Of what a first update's completions of full length take, the part that must have room where nothing else is said: less
/// saves no time worth the memory.
const LEAST_SHARE: usize = 4;

impl TrainerConfig {
    /// Memory in bytes in which rollouts of a model on the CPU keep activations for the first update of a step:
    /// [`keep_activations_bytes`](Self::keep_activations_bytes), and where that is unset as much as the backward pass of a
    /// micro-batch keeps, at most 2 GiB; none where a quarter of that update's completions of full length do not fit.
    pub fn kept_activation_bytes(&self, model: &ModelConfig, memory: LayerMemory) -> usize {
        if let Some(bytes) = self.keep_activations_bytes {
            return bytes;
        }
        let of_micro_batch = self.micro_batch_tokens.saturating_mul(activation_bytes(model, memory));
        let budget = of_micro_batch.min(MOST_BYTES);
        let completions = self.mini_batch_groups().saturating_mul(self.group_size);
        let tokens = completions.saturating_mul(self.max_new_tokens);
        let needed = tokens.saturating_mul(activation_bytes(model, LayerMemory::Keep));
        if needed / LEAST_SHARE <= budget { budget } else { 0 }
    }
}

/// Gives up what is kept of groups that the sampler has not kept.
pub(crate) fn release_dropped(policy: &Decoder, kept: &[KeptGroup<Arc<Group>>]) {
    let draws: BTreeSet<u64> = kept.iter().map(|kept| kept.draw).collect();
    policy.release_activations(&|draw, _| draws.contains(&draw));
}

/// Gives up what is kept of completions that the first update does not compute on this rank: before the others, the weights
/// change.
pub(crate) fn release_untrained(team: &Team, policy: &Decoder, groups: &[TrainingGroup], config: &TrainerConfig) {
    let first = mini_batches(groups, config).next().unwrap_or_default();
    let first = &first[team.own_groups(first.len())];
    let trained: BTreeSet<(u64, usize)> =
        first.iter().flat_map(|group| group.computed().map(|sequence| (group.draw, sequence.sample))).collect();
    policy.release_activations(&|draw, sample| trained.contains(&(draw, sample)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use dapo_sampler::SamplerConfig;

    #[test]
    fn memory_is_taken_by_default_where_a_quarter_of_the_first_update_fits() {
        let model = ModelConfig::qwen3_0_6b();
        let token = activation_bytes(&model, LayerMemory::Keep);
        let budget = |mini_batches, micro_batch_tokens, memory| {
            let sampler = SamplerConfig { train_batch: 4, ..SamplerConfig::default() };
            let config = TrainerConfig {
                sampler,
                mini_batches,
                micro_batch_tokens,
                group_size: 8,
                max_new_tokens: 32,
                ..TrainerConfig::default()
            };
            assert_eq!(
                TrainerConfig { keep_activations_bytes: Some(7), ..config.clone() }
                    .kept_activation_bytes(&model, memory),
                7
            );
            config.kept_activation_bytes(&model, memory)
        };
        assert_eq!(budget(1, 256, LayerMemory::Keep), 256 * token);
        assert_eq!(budget(1, 255, LayerMemory::Keep), 0);
        assert_eq!(budget(4, 64, LayerMemory::Keep), 64 * token);
        assert_eq!(budget(1, usize::MAX, LayerMemory::Keep), MOST_BYTES);
        assert_eq!(budget(1, 256, LayerMemory::Recompute), 0);
    }
}
