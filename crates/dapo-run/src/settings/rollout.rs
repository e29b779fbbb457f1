//! Roll-outs, dynamic sampling, and from rewards to advantages.

use dapo_loss::{AdvantageScale, Baseline, StdEstimator};
use dapo_reward::OverlongFilter;
use dapo_sampler::OnExhausted;
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
    /// Sampling temperature; log-probs are those at this temperature.
    pub temperature: f32,
    /// Smallest set of tokens whose probability reaches this is sampled from; 1 keeps all.
    pub top_p: f32,
    /// Number of most probable tokens sampled from; 0 keeps all.
    pub top_k: usize,
    /// Memory for keys and values, in MiB; bounds how many completions grow at a time. 0: 2048, on a GPU what its memory
    /// leaves beside all else that the run needs.
    pub cache_mib: usize,
}

impl Default for RolloutSection {
    fn default() -> Self {
        Self { group_size: 8, max_new_tokens: 256, temperature: 1.0, top_p: 1.0, top_k: 0, cache_mib: 0 }
    }
}

/// Prompts of a round: a number, or `"adaptive"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GenBatchSize {
    /// Always this many.
    Fixed(usize),
    /// As many as are missing, more where the recent keep rate is below 1/2.
    Adaptive(AdaptiveName),
}

/// The word `adaptive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdaptiveName {
    /// As many as are missing, more where the recent keep rate is below 1/2.
    Adaptive,
}

/// What happens to informative groups beyond `train_batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SurplusName {
    /// They stay for the next steps.
    Carry,
    /// They are dropped.
    Discard,
}

/// Dynamic sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerSection {
    /// Whether groups without a training signal are dropped and replaced.
    pub dynamic: bool,
    /// The value that must differ within a group: `acc`, `score`, `seq_reward`, `seq_final_reward`, or the name of a reward
    /// component.
    pub metric: String,
    /// By how much it must differ, exclusively.
    pub tolerance: f64,
    /// P, groups a step trains on.
    pub train_batch: usize,
    /// Prompts of a round: a number, or `"adaptive"`, as many as groups are missing, more where the recent keep rate is
    /// below 1/2 or few rounds are left, between `gen_batch_min` and `gen_batch_max`.
    pub gen_batch: GenBatchSize,
    /// Fewest prompts of an adaptive round; 0: 1, so that only what is missing is drawn and (nearly) all groups are trained on
    /// by the policy that generated them. More keep a GPU busy, at the price of surplus groups.
    pub gen_batch_min: usize,
    /// Most prompts of an adaptive round; 0: three times `train_batch`.
    pub gen_batch_max: usize,
    /// Most rounds of a step; 0: one full pass over the data.
    pub max_gen_rounds: u32,
    /// What happens to informative groups beyond `train_batch`.
    pub surplus: SurplusName,
    /// For how many steps surplus may be carried.
    pub max_age: u32,
    /// What happens when the rounds end with too few groups: `error`, `train-short` or `keep-zero-std`.
    #[schemars(with = "String", extend("enum" = ["error", "train-short", "keep-zero-std"]))]
    pub on_exhausted: OnExhausted,
    /// Completions of a prompt at most, adding more while its values do not differ; 0: always `rollout.group_size`.
    pub per_prompt_max_samples: usize,
    /// Completions added at a time.
    pub per_prompt_increment: usize,
}

impl Default for SamplerSection {
    fn default() -> Self {
        Self {
            dynamic: true,
            metric: "acc".into(),
            tolerance: 0.0,
            train_batch: 8,
            gen_batch: GenBatchSize::Adaptive(AdaptiveName::Adaptive),
            gen_batch_min: 0,
            gen_batch_max: 0,
            max_gen_rounds: 10,
            surplus: SurplusName::Carry,
            max_age: 1,
            on_exhausted: OnExhausted::TrainShort,
            per_prompt_max_samples: 0,
            per_prompt_increment: 1,
        }
    }
}

/// What becomes of truncated completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverlongSection {
    /// `off`; `mask`: they keep their reward and place in the group, but their tokens leave the loss; `drop`: they leave the
    /// group before its baseline.
    #[schemars(with = "String", extend("enum" = ["off", "mask", "drop"]))]
    pub filter: OverlongFilter,
}

/// How rewards become advantages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageSection {
    /// What a reward is compared with: `mean` or `leave-one-out` (RLOO).
    #[schemars(with = "String", extend("enum" = ["mean", "leave-one-out"]))]
    pub baseline: Baseline,
    /// Which standard deviation divides: `group`, `batch` or `none` (Dr. GRPO).
    #[schemars(with = "String", extend("enum" = ["group", "batch", "none"]))]
    pub scale: AdvantageScale,
    /// How it is estimated: `sample` (n − 1) or `population` (n).
    #[schemars(with = "String", extend("enum" = ["sample", "population"]))]
    pub std: StdEstimator,
    /// Added to it.
    pub eps: f64,
}

impl Default for AdvantageSection {
    fn default() -> Self {
        let norm = dapo_loss::AdvantageNorm::default();
        Self { baseline: norm.baseline, scale: norm.scale, std: norm.std, eps: norm.eps }
    }
}
