//! The settings of a run, as a file spells them out.
//!
//! What belongs to a library is that library's own configuration, with its defaults and its checks; the rest is here.
//! Every key has a default. Those of the algorithm are DAPO's, at a size for one machine; only the soft overlong
//! punishment has to be asked for, as the recipe `dapo` does. Keys are the field's words.

mod algorithm;
mod data;
mod dist;
mod guards;
mod own;
mod rewards;
mod training;

pub use algorithm::Algorithm;
pub use data::DataSection;
pub use dist::DistSection;
pub use guards::{GuardAction, GuardsSection};
pub(crate) use own::{CODE, SELECTORS};
pub use own::{OwnKind, OwnReward, OwnRewards};
pub use rewards::{Judging, RewardsSection, TagCountReward, Weighted};
pub use training::{EvalSection, OverlongSection, RolloutSection, TrainSection};

use dapo_external::EnvConfig;
use dapo_loss::{AdvantageNorm, LossConfig};
use dapo_policy::{Compute, LoraConfig, WeightFormat};
use dapo_sampler::SamplerConfig;
use dapo_trainer::{CriticConfig, OptimizerConfig, ReferenceSync};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that decides what a run does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of data order, splits, rollouts and adapters.
    pub seed: u64,
    /// The algorithm: the recipe of its name gives the base settings, which all others override. Unset: DAPO's settings,
    /// without its soft overlong punishment.
    #[schemars(schema_with = "Algorithm::schema")]
    pub algorithm: Option<Algorithm>,
    /// The model to train.
    pub model: ModelSection,
    /// Low-rank adapters (LoRA, arXiv 2106.09685) instead of training all weights.
    pub lora: Option<LoraConfig>,
    /// The problems.
    pub data: DataSection,
    /// How completions are generated.
    pub rollout: RolloutSection,
    /// Dynamic sampling: which groups are trained on, and how many.
    pub sampler: SamplerConfig,
    /// What a completion is rewarded for: a weighted sum of components.
    pub rewards: RewardsSection,
    /// Who answers the model between the turns of a completion, and rewards it; by default completions have one turn.
    pub env: Option<EnvConfig>,
    /// What becomes of truncated completions.
    pub overlong: OverlongSection,
    /// How rewards become advantages.
    pub advantage: AdvantageNorm,
    /// The policy loss, how token losses become one number, and the KL term; with `kl.coef = 0` no reference is loaded.
    pub loss: LossConfig,
    /// When the reference model of a KL term follows the policy.
    pub reference_sync: ReferenceSync,
    /// AdamW and the learning rate.
    pub optimizer: OptimizerConfig,
    /// PPO's critic: a value function gives every token its advantage, in place of the group's statistics. `{}` for one with
    /// the defaults.
    pub critic: Option<CriticConfig>,
    /// How long and in which portions to train.
    pub train: TrainSection,
    /// Evaluation during training.
    pub eval: EvalSection,
    /// What happens when a step's figures show that training has gone wrong.
    pub guards: GuardsSection,
    /// What the run folder keeps.
    pub output: OutputSection,
    /// Several processes that train as one.
    pub dist: DistSection,
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
    /// Format of the model's weights in rollouts and training on a CPU: `f32`, or `bf16`, which halves their memory and
    /// memory traffic and keeps f32 master copies of the trained weights. A GPU always computes in bf16.
    pub weights: WeightFormat,
    /// Format in which a CPU multiplies in linear layers: `f32`, or `bf16`, which also rounds what is multiplied with the
    /// weights and sums in f32. Needs `model.weights = "bf16"` and a CPU with AVX512-BF16. A GPU always computes in bf16.
    pub compute: Compute,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            path: String::new(),
            revision: "main".into(),
            device: "auto".into(),
            weights: WeightFormat::F32,
            compute: Compute::F32,
        }
    }
}

/// What the run folder keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSection {
    /// Steps between two checkpoints; there is always one after the last step, and with 0 that one alone.
    pub checkpoint_every: u64,
    /// Checkpoints kept; 0 keeps all. The last one stays in any case, and so does the last one whose next step succeeded.
    pub keep_checkpoints: usize,
    /// Minutes after which a checkpoint is made beside the schedule; the next scheduled one replaces it. By default never.
    pub checkpoint_minutes: Option<f64>,
    /// Whether every completion is logged, with its rewards and its outcome.
    pub completions: bool,
    /// Completions of a step that are logged with the text and the rollout's log-prob of each token, spread over outcomes.
    pub token_logprobs: usize,
    /// Copies of the figures of steps and evaluations for other tools, in the folder `trackers`: `tensorboard` (event files),
    /// `csv` (a table).
    pub trackers: Vec<Tracker>,
    /// A metric of evaluations, such as `eval/avg_at_k`: an evaluation with a new maximum is followed by a checkpoint. The
    /// checkpoint with the highest value, the earliest if several have it, is never deleted. By default none.
    pub keep_best: Option<String>,
}

/// A tool that a run's figures are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tracker {
    /// TensorBoard.
    Tensorboard,
    /// Anything that reads CSV: pandas, a spreadsheet.
    Csv,
}

impl Default for OutputSection {
    fn default() -> Self {
        Self {
            checkpoint_every: 25,
            keep_checkpoints: 2,
            checkpoint_minutes: None,
            completions: true,
            token_logprobs: 8,
            trackers: Vec::new(),
            keep_best: None,
        }
    }
}
