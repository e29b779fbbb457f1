//! Rollouts, the portions of training, and evaluation.

use dapo_policy::{LayerMemory, SamplingConfig};
use dapo_reward::OverlongFilter;
use dapo_trainer::{OnMastered, TrainerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How completions are generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSection {
    /// G, completions of each prompt.
    pub group_size: usize,
    /// Tokens of a completion at most, its stop token included (L_max).
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    #[serde(flatten)]
    pub sampling: SamplingConfig,
    /// Texts that end a completion, and belong to it: it ends with the token with which its text contains one of them.
    pub stop: Vec<String>,
    /// Whether completions continue behind the model's stop tokens, up to one of `stop` or their full length. Evaluations
    /// always end at them.
    pub ignore_eos: bool,
    /// Memory for keys and values, in MiB; bounds how many completions are generated at a time. By default 2048, on a GPU
    /// what its memory leaves beside all else that the run needs.
    pub cache_mib: Option<usize>,
    /// Memory in which rollouts on the CPU keep what they compute, in MiB, so that the first update of a step starts with the
    /// backward pass; 0: none. It changes no result. By default as much as the backward pass of a micro-batch keeps, at most
    /// 2048, and none where a quarter of the first update's completions of full length do not fit. Not used on a GPU.
    pub keep_activations_mib: Option<usize>,
    /// Tokens that rollouts and evaluations on the CPU guess ahead, from the prompt and its completions, so that one forward
    /// may give several: up to three while one completion is active, and one while two are; 0: none. It changes no result.
    /// Not used on a GPU.
    pub draft_tokens: usize,
}

impl Default for RolloutSection {
    fn default() -> Self {
        let TrainerConfig { group_size, max_new_tokens, sampling, stop, ignore_eos, draft_tokens, .. } =
            TrainerConfig::default();
        let (cache_mib, keep_activations_mib) = (None, None);
        Self { group_size, max_new_tokens, sampling, stop, ignore_eos, cache_mib, keep_activations_mib, draft_tokens }
    }
}

/// What becomes of truncated completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverlongSection {
    /// `off`; `mask`: they keep their reward and place in the group, but their tokens leave the loss; `drop`: they leave the
    /// group before its baseline.
    pub filter: OverlongFilter,
}

/// How long and in which portions to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Rollout steps.
    pub steps: u64,
    /// Passes over the training problems, instead of `steps`: the number of steps is then
    /// ⌈passes × problems / `sampler.train_batch`⌉. Dynamic sampling draws more than `train_batch` problems in each step.
    pub passes: Option<f64>,
    /// μ, passes over a step's groups; not passes over the data.
    pub updates_per_batch: usize,
    /// Mini-batches, and so optimizer updates, that a full batch is divided into; at most `sampler.train_batch`. A
    /// mini-batch has as many groups in a short batch, too, so that it makes fewer updates.
    pub mini_batches: usize,
    /// Share of a mini-batch's groups below which a short batch makes no update: the step is skipped and counted. Unset:
    /// every batch is trained on.
    pub min_mini_batch: Option<f64>,
    /// Tokens computed at a time; bounds memory, and changes results only by rounding.
    pub micro_batch_tokens: usize,
    /// V, virtual shards of a mini-batch: at least as many as processes that train as one. Results depend on it by rounding,
    /// and not on the number of processes.
    ///
    /// A power of two.
    pub shards: usize,
    /// What a backward pass keeps of each layer: `keep`, or `recompute` for long sequences.
    pub layer_memory: LayerMemory,
    /// With dynamic sampling: what happens when no group carries a signal and nine in ten are all correct. `stop` ends the run,
    /// saved and evaluated; `skip` counts the step, without an update, and continues; `error` fails.
    pub on_mastered: OnMastered,
}

impl Default for TrainSection {
    fn default() -> Self {
        let TrainerConfig {
            updates_per_batch,
            mini_batches,
            min_mini_batch,
            micro_batch_tokens,
            shards,
            on_mastered,
            ..
        } = TrainerConfig::default();
        let layer_memory = LayerMemory::default();
        Self {
            steps: 100,
            passes: None,
            updates_per_batch,
            mini_batches,
            min_mini_batch,
            micro_batch_tokens,
            shards,
            layer_memory,
            on_mastered,
        }
    }
}

/// Evaluation during training, on the validation problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// Steps between two evaluations; there is also one after the last step. Unset: the model is not evaluated.
    pub every: Option<u64>,
    /// With `every`: whether to evaluate before the first step, too.
    pub at_start: bool,
    /// k, completions of each problem.
    pub samples: usize,
    /// Sampling temperature; 0 always takes the most probable token.
    pub temperature: f32,
    /// Smallest set of tokens whose probability reaches this is kept; 1 keeps all.
    pub top_p: f32,
    /// Number of most probable tokens kept, applied before `top_p`; by default all.
    pub top_k: Option<usize>,
    /// Tokens at least so probable, as a share of the most probable one's probability, are kept, applied before `top_k`; 0
    /// keeps all.
    pub min_p: f32,
    /// Logits of tokens that the prompt or the completion has are divided by this where positive, else multiplied by it; 1
    /// changes none. On a CPU alone.
    pub repetition_penalty: f32,
    /// Texts that end a completion; by default `rollout.stop`.
    pub stop: Option<Vec<String>>,
    /// Tokens of a completion at most; by default `rollout.max_new_tokens`.
    pub max_new_tokens: Option<usize>,
    /// Use only this many validation problems, the first ones; by default all.
    pub limit: Option<usize>,
}

impl Default for EvalSection {
    /// The paper's: temperature 1.0 and top-p 0.7.
    fn default() -> Self {
        let SamplingConfig { temperature, top_k, min_p, repetition_penalty, .. } = SamplingConfig::default();
        Self {
            every: None,
            at_start: true,
            samples: 8,
            temperature,
            top_p: 0.7,
            top_k,
            min_p,
            repetition_penalty,
            stop: None,
            max_new_tokens: None,
            limit: None,
        }
    }
}

impl EvalSection {
    /// How tokens are drawn.
    pub fn sampling(&self) -> SamplingConfig {
        let Self { temperature, top_p, top_k, min_p, repetition_penalty, .. } = *self;
        SamplingConfig { temperature, top_p, top_k, min_p, repetition_penalty }
    }
}
