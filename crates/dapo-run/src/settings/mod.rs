//! The settings of a run, as a file spells them out.
//!
//! Every key has a default. Those of the algorithm are DAPO's, at a size for one machine; only the soft overlong punishment has to be
//! asked for, as the recipe `dapo` does. Keys are the field's words.

mod data;
mod rewards;
mod rollout;
mod training;

pub use data::DataSection;
pub use rewards::{
    AccuracyReward, FormatReward, GraderName, LengthReward, ProportionalOverlongReward, RepetitionReward,
    RewardsSection, SoftOverlongReward, TagCountReward,
};
pub use rollout::{
    AdaptiveName, AdvantageSection, GenBatchSize, OverlongSection, RolloutSection, SamplerSection, SurplusName,
};
pub use training::{
    KlSection, LayerMemoryName, LossSection, LrSchedule, OptimizerSection, PolicyLossName, TrainSection,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that decides what a run does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of data order, splits, roll-outs and adapters.
    pub seed: u64,
    /// The model to train.
    pub model: ModelSection,
    /// Low-rank adapters instead of training all weights.
    pub lora: LoraSection,
    /// The problems.
    pub data: DataSection,
    /// How completions are generated.
    pub rollout: RolloutSection,
    /// Dynamic sampling: which groups are trained on, and how many.
    pub sampler: SamplerSection,
    /// What a completion is rewarded for: a weighted sum of components.
    pub rewards: RewardsSection,
    /// What becomes of truncated completions.
    pub overlong: OverlongSection,
    /// How rewards become advantages.
    pub advantage: AdvantageSection,
    /// The policy loss and how token losses become one number.
    pub loss: LossSection,
    /// KL to a reference model; with `coef = 0` none is loaded.
    pub kl: KlSection,
    /// AdamW and the learning rate.
    pub optimizer: OptimizerSection,
    /// How long and in which portions to train.
    pub train: TrainSection,
    /// Evaluation during training.
    pub eval: EvalSection,
    /// What the run folder keeps.
    pub output: OutputSection,
}

/// The model to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// A Hugging Face folder, a GGUF file, a run folder or its checkpoint, a hub id such as `Qwen/Qwen3-0.6B` (with the hub
    /// feature), or `builtin:tiny`.
    pub path: String,
    /// Branch, tag or commit of a hub model.
    pub revision: String,
    /// Where the model computes: `cpu`, `cuda` or `cuda:n` (a GPU, in bf16 with f32 master weights), or `auto`, the first GPU
    /// where this build and the model run on one.
    pub device: String,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { path: String::new(), revision: "main".into(), device: "auto".into() }
    }
}

/// Low-rank adapters (LoRA, arXiv 2106.09685).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSection {
    /// r, the adapters' rank; 0 trains all weights instead.
    pub rank: usize,
    /// α; the adapters' product is scaled by α / r.
    pub alpha: f64,
    /// The layers that get adapters, by their Hugging Face names.
    pub targets: Vec<String>,
}

impl Default for LoraSection {
    fn default() -> Self {
        let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        Self { rank: 0, alpha: 32.0, targets: targets.map(str::to_owned).to_vec() }
    }
}

/// Evaluation during training, on the validation problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// Evaluate after every so many steps, before the first and after the last; 0: never.
    pub every: u64,
    /// k, completions of each problem.
    pub samples: usize,
    /// Sampling temperature; 0 always takes the most probable token.
    pub temperature: f32,
    /// Top-p.
    pub top_p: f32,
    /// Tokens of a completion at most; 0: `rollout.max_new_tokens`.
    pub max_new_tokens: usize,
    /// Use only the first validation problems; 0 uses all.
    pub limit: usize,
}

impl Default for EvalSection {
    fn default() -> Self {
        Self { every: 0, samples: 8, temperature: 1.0, top_p: 0.7, max_new_tokens: 0, limit: 0 }
    }
}

/// What the run folder keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSection {
    /// A checkpoint after every so many steps, and one after the last; 0: after the last alone.
    pub checkpoint_every: u64,
    /// Checkpoints kept; 0 keeps all.
    pub keep_checkpoints: usize,
    /// Whether every completion is logged, with its rewards and what became of it.
    pub completions: bool,
}

impl Default for OutputSection {
    fn default() -> Self {
        Self { checkpoint_every: 25, keep_checkpoints: 2, completions: true }
    }
}
