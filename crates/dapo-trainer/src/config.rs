//! The settings of a run.

use crate::critic_config::CriticConfig;
use crate::error::TrainerError;
use crate::optimizer_config::OptimizerConfig;
use crate::reference::ReferenceSync;
use dapo_loss::{AdvantageNorm, LossConfig, PolicyLoss};
use dapo_policy::{GenerationConfig, SamplingConfig};
use dapo_reward::OverlongFilter;
use dapo_sampler::SamplerConfig;
use serde::{Deserialize, Serialize};

/// Everything that decides how a policy is trained. The defaults are DAPO's, at a size for one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerConfig {
    /// Seed of data order and rollouts.
    pub seed: u64,
    /// G, completions a prompt.
    pub group_size: usize,
    /// Tokens of a completion at most, its stop token included (L_max).
    pub max_new_tokens: usize,
    /// How completions are sampled.
    pub sampling: SamplingConfig,
    /// Texts that end a completion, and belong to it; see [`StopStrings`](dapo_policy::StopStrings).
    pub stop: Vec<String>,
    /// Which groups are trained on, and how many.
    pub sampler: SamplerConfig,
    /// How rewards become advantages.
    pub advantage: AdvantageNorm,
    /// What happens to truncated completions.
    pub overlong_filter: OverlongFilter,
    /// The loss.
    pub loss: LossConfig,
    /// β of KL in the reward: each reward gets −β·Σ k1 before group statistics; 0 is off.
    pub kl_in_reward: f32,
    /// When the reference model of either KL follows the policy.
    pub reference_sync: ReferenceSync,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// PPO's critic, which gives every token an advantage in place of group statistics; `None`: no critic. With a
    /// critic, KL in the reward is a penalty on tokens.
    pub critic: Option<CriticConfig>,
    /// Optimiser updates a pass of a full batch, at most `sampler.train_batch`. It sets the size of a mini-batch,
    /// ⌈train_batch / mini_batches⌉ groups, which stays the same when a batch is short: fewer groups make fewer updates.
    pub mini_batches: usize,
    /// Share of a mini-batch's groups, from 0 to 1, below which a step's batch makes no update: the step is skipped and
    /// counted in [`StepMetrics::skipped_steps`](crate::StepMetrics::skipped_steps). `None`: every batch is trained on. The
    /// last, smaller mini-batch of a larger batch is always trained on.
    pub min_mini_batch: Option<f64>,
    /// μ, passes over a step's groups; not passes over the data.
    pub updates_per_batch: usize,
    /// Tokens computed at a time; bounds memory, and changes results only by rounding.
    pub micro_batch_tokens: usize,
    /// V, the virtual shards that a mini-batch's groups are divided into, for ranks that train as one: a power of two, at least
    /// the number of ranks. Gradients are summed over them in one fixed binary tree, and micro-batches are packed within
    /// them, so that results depend on V, by rounding, but not on the number of ranks.
    pub shards: usize,
    /// What [`Trainer::step`](crate::Trainer::step) does once no group carries a signal because the policy has mastered its data.
    pub on_mastered: OnMastered,
    /// Whether rollouts continue behind stop tokens, up to a stop text or their limit.
    pub ignore_eos: bool,
    /// Memory for keys and values of rollouts, in bytes; see [`GenerationConfig::cache_bytes`](dapo_policy::GenerationConfig::cache_bytes).
    pub cache_bytes: Option<usize>,
    /// Memory in which rollouts on the CPU keep activations, so that the first update of a step needs no forward pass,
    /// in bytes; 0: none, `None`: see [`kept_activation_bytes`](Self::kept_activation_bytes). It changes no result.
    /// Elsewhere than on the CPU it is not used.
    pub keep_activations_bytes: Option<usize>,
    /// Tokens that rollouts on the CPU guess ahead; see
    /// [`GenerationConfig::draft_tokens`](dapo_policy::GenerationConfig::draft_tokens). It changes no result.
    pub draft_tokens: usize,
}

/// What happens when a step finds no group with a training signal because nine in ten or more are all correct.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnMastered {
    /// Training ends: [`NoSignal::ends_well`](crate::NoSignal::ends_well) says so.
    #[default]
    Stop,
    /// The step counts, without an update, and training continues.
    Skip,
    /// An error like any other step without a signal.
    Error,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            group_size: 8,
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop: Vec::new(),
            sampler: SamplerConfig::default(),
            advantage: AdvantageNorm::default(),
            overlong_filter: OverlongFilter::default(),
            loss: LossConfig::default(),
            kl_in_reward: 0.0,
            reference_sync: ReferenceSync::default(),
            optimizer: OptimizerConfig::default(),
            critic: None,
            mini_batches: 1,
            min_mini_batch: None,
            updates_per_batch: 1,
            micro_batch_tokens: 4096,
            shards: 1,
            on_mastered: OnMastered::default(),
            ignore_eos: false,
            cache_bytes: None,
            keep_activations_bytes: None,
            draft_tokens: GenerationConfig::DRAFT_TOKENS,
        }
    }
}

impl TrainerConfig {
    /// Groups of a mini-batch: ⌈train_batch / mini_batches⌉.
    pub fn mini_batch_groups(&self) -> usize {
        self.sampler.train_batch.div_ceil(self.mini_batches.max(1)).max(1)
    }

    /// Whether a batch of this number of groups is too small for an update; see [`min_mini_batch`](Self::min_mini_batch).
    pub(crate) fn is_too_small(&self, groups: usize) -> bool {
        self.min_mini_batch.is_some_and(|share| (groups as f64) < share * self.mini_batch_groups() as f64)
    }

    fn validate_critic(&self) -> Result<(), TrainerError> {
        let Some(critic) = &self.critic else { return Ok(()) };
        if matches!(self.loss.policy_loss, PolicyLoss::Gspo { .. } | PolicyLoss::Gmpo { .. }) {
            let expected = "one with a ratio for each token: a critic gives each its advantage";
            return Err(TrainerError::setting("loss.policy_loss", &self.loss.policy_loss, expected));
        }
        if self.group_size < 2 && self.sampler.enabled {
            let expected = "false with groups of one, which have nothing to differ in";
            return Err(TrainerError::setting("sampler.dynamic", &true, expected));
        }
        critic.validate().map_err(|error| error.within("critic"))
    }

    /// # Errors
    /// Names the first setting outside its range, its value and what is allowed.
    pub fn validate(&self) -> Result<(), TrainerError> {
        if self.group_size == 0 || self.group_size < 2 && self.critic.is_none() {
            return Err(TrainerError::setting(
                "group_size",
                &self.group_size,
                "at least 2: a group of one has no baseline without a critic",
            ));
        }
        for (field, value) in [
            ("max_new_tokens", self.max_new_tokens),
            ("mini_batches", self.mini_batches),
            ("updates_per_batch", self.updates_per_batch),
            ("micro_batch_tokens", self.micro_batch_tokens),
        ] {
            if value == 0 {
                return Err(TrainerError::setting(field, &value, "at least 1"));
            }
        }
        if !self.shards.is_power_of_two() {
            return Err(TrainerError::setting("shards", &self.shards, "a power of two"));
        }
        if self.mini_batches > self.sampler.train_batch {
            let expected =
                format!("at most sampler.train_batch = {}: an update needs a group", self.sampler.train_batch);
            return Err(TrainerError::setting("mini_batches", &self.mini_batches, &expected));
        }
        if let Some(share) = self.min_mini_batch.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(TrainerError::setting("min_mini_batch", &share, "none, or from 0 to 1"));
        }
        if self.sampling.temperature == 0.0 {
            return Err(TrainerError::setting(
                "sampling.temperature",
                &0,
                "a finite number above 0: greedy completions are all the same",
            ));
        }
        if let Some(i) = self.stop.iter().position(String::is_empty) {
            return Err(TrainerError::setting(&format!("stop[{i}]"), &"\"\"", "a text of at least one character"));
        }
        if !(self.kl_in_reward.is_finite() && self.kl_in_reward >= 0.0) {
            return Err(TrainerError::setting("kl_in_reward", &self.kl_in_reward, "a finite number of at least 0"));
        }
        if !(0.0..=1.0).contains(&self.reference_sync.mixup) {
            return Err(TrainerError::setting("reference_sync.mixup", &self.reference_sync.mixup, "from 0 to 1"));
        }
        if self.reference_sync.every == Some(0) {
            return Err(TrainerError::setting("reference_sync.every", &0, "at least 1, or unset"));
        }
        if let Some(per_prompt) = self.sampler.per_prompt
            && per_prompt.max_samples <= self.group_size
        {
            let expected = format!("more than group_size = {}", self.group_size);
            return Err(TrainerError::setting("sampler.per_prompt.max_samples", &per_prompt.max_samples, &expected));
        }
        self.sampling.validate().map_err(|error| TrainerError::from(error).within("sampling"))?;
        self.sampler.validate().map_err(|error| TrainerError::from(error).within("sampler"))?;
        self.advantage.validate().map_err(|error| TrainerError::from(error).within("advantage"))?;
        self.loss.validate().map_err(|error| TrainerError::from(error).within("loss"))?;
        self.validate_critic()?;
        self.optimizer.validate().map_err(|error| error.within("optimizer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(train_batch: usize, mini_batches: usize) -> TrainerConfig {
        let sampler = SamplerConfig { train_batch, ..SamplerConfig::default() };
        TrainerConfig { sampler, mini_batches, ..TrainerConfig::default() }
    }

    #[test]
    fn mini_batches_share_the_full_batch() {
        for (train_batch, mini_batches, groups) in [(16, 1, 16), (16, 2, 8), (16, 3, 6), (24, 16, 2), (4, 4, 1)] {
            assert_eq!(with(train_batch, mini_batches).mini_batch_groups(), groups);
            with(train_batch, mini_batches).validate().unwrap();
        }
        let error = with(16, 50).validate().unwrap_err().to_string();
        assert_eq!(error, "mini_batches is 50, expected at most sampler.train_batch = 16: an update needs a group");
    }

    #[test]
    fn a_floor_is_a_share_of_a_mini_batch() {
        let floor = |share| TrainerConfig { min_mini_batch: Some(share), ..with(16, 2) };
        assert!(floor(0.5).is_too_small(3) && !floor(0.5).is_too_small(4) && !with(16, 2).is_too_small(1));
        let error = floor(1.5).validate().unwrap_err().to_string();
        assert_eq!(error, "min_mini_batch is 1.5, expected none, or from 0 to 1");
        assert!(floor(f64::NAN).validate().is_err());
    }
}
