//! The settings of a run, as a file spells them out.
//!
//! Every key has a default; the defaults are DAPO's, at a size for one machine. Keys are the field's words.

use dapo_loss::{AdvantageScale, Baseline, EmptySequences, KlEstimator, StdEstimator};
use dapo_reward::{FormatPattern, LengthUnit, OverlongFilter};
use dapo_sampler::OnExhausted;
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
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { path: String::new(), revision: "main".into() }
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

/// The problems to train on and to evaluate on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Files of problems with answers (JSON lines, or Parquet with that feature), `hf://datasets/…` files (with the hub
    /// feature), or `builtin:addition`.
    pub train: Vec<String>,
    /// Files of problems for evaluation.
    pub validation: Vec<String>,
    /// Share of the training problems set apart for evaluation, chosen by the seed.
    pub validation_split: f64,
    /// Use only the first problems of the training files; 0 uses all.
    pub limit: usize,
    /// Whether problems with the same prompt are used once.
    pub deduplicate: bool,
    /// Problems with longer prompts, in tokens, are left out.
    pub max_prompt_tokens: usize,
    /// System message before each question; none if empty.
    pub system: String,
    /// Text added to each question.
    pub suffix: String,
    /// For chat templates that know it: whether the model is to think first.
    pub enable_thinking: Option<bool>,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            validation_split: 0.0,
            limit: 0,
            deduplicate: true,
            max_prompt_tokens: 2048,
            system: String::new(),
            suffix: String::new(),
            enable_thinking: None,
        }
    }
}

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
    /// Memory for keys and values, in MiB; bounds how many completions grow at a time.
    pub cache_mib: usize,
}

impl Default for RolloutSection {
    fn default() -> Self {
        Self { group_size: 8, max_new_tokens: 256, temperature: 1.0, top_p: 1.0, top_k: 0, cache_mib: 2048 }
    }
}

/// Prompts of a round: a number, or `"adaptive"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GenBatchSize {
    /// Always this many.
    Fixed(usize),
    /// As many as the recent keep rate asks for.
    Adaptive(AdaptiveName),
}

/// The word `adaptive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdaptiveName {
    /// As many as the recent keep rate asks for.
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
    /// Prompts of a round: a number, or `"adaptive"` between `gen_batch_min` and `gen_batch_max`.
    pub gen_batch: GenBatchSize,
    /// Fewest prompts of an adaptive round; 0: `train_batch`.
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

/// The reward's components, each a table of its own. A component of weight 0 is
/// measured and reported, and counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardsSection {
    /// Whether the answer is right.
    pub accuracy: AccuracyReward,
    /// Whether the completion has the shape that was asked for.
    pub format: Option<FormatReward>,
    /// A quarter for each of four tags that occurs exactly once.
    pub tag_count: Option<TagCountReward>,
    /// Soft overlong punishment (paper, Eq. 13); also known as `soft_overlong_punishment`.
    pub soft_overlong: Option<SoftOverlongReward>,
    /// Punishment in proportion to the tokens beyond a threshold.
    pub proportional_overlong: Option<ProportionalOverlongReward>,
    /// Punishment of repeated n-grams.
    pub repetition: Option<RepetitionReward>,
    /// open-r1's cosine-scaled length reward.
    pub length: Option<LengthReward>,
}

/// How answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GraderName {
    /// Mathematical equivalence.
    Math,
    /// DAPO's published rule: the last `Answer:` line.
    Dapo,
    /// The last `\boxed{}` within the last 100 characters, compared raw.
    StrictBox,
    /// The `Answer:` line, and the strict box where there is none.
    DapoOrBox,
}

/// Whether the answer is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccuracyReward {
    /// Weight in the sum.
    pub weight: f64,
    /// Value of a right answer.
    pub right: f64,
    /// Value of any other answer.
    pub wrong: f64,
    /// How answers are judged.
    pub grader: GraderName,
    /// For the `math` grader: where the answer stands (`auto`, `boxed`, `answer-line`, `hash`, `answer-tag`, `answer-is`,
    /// `last-math`, `choice`, `last-number`, `whole`).
    pub extract: String,
}

impl Default for AccuracyReward {
    fn default() -> Self {
        Self { weight: 1.0, right: 1.0, wrong: -1.0, grader: GraderName::Math, extract: "auto".into() }
    }
}

/// Whether the completion has the shape that was asked for: 1 or 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FormatReward {
    /// Weight in the sum.
    pub weight: f64,
    /// The shape: `think-answer` (open-r1) or `think` (TRL).
    #[schemars(with = "String", extend("enum" = ["think-answer", "think"]))]
    pub pattern: FormatPattern,
}

impl Default for FormatReward {
    fn default() -> Self {
        Self { weight: 1.0, pattern: FormatPattern::ThinkAnswer }
    }
}

/// A quarter for each of `<think>`, `</think>`, `<answer>`, `</answer>` that occurs exactly once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TagCountReward {
    /// Weight in the sum.
    pub weight: f64,
}

impl Default for TagCountReward {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}

/// Soft overlong punishment (paper, Eq. 13): 0 up to `max_len − cache_len` tokens, then down to −1 at `max_len`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoftOverlongReward {
    /// Weight in the sum.
    pub weight: f64,
    /// L_max in tokens; 0: `rollout.max_new_tokens`.
    pub max_len: usize,
    /// L_cache in tokens; 0: a fifth of L_max, the paper's share.
    pub cache_len: usize,
    /// Multiplies the punishment.
    pub penalty_factor: f64,
    /// Whether it stops at −`penalty_factor`; verl's goes on.
    pub floor: bool,
}

impl Default for SoftOverlongReward {
    fn default() -> Self {
        Self { weight: 1.0, max_len: 0, cache_len: 0, penalty_factor: 1.0, floor: true }
    }
}

/// `−factor · (L − threshold) / threshold` beyond the threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProportionalOverlongReward {
    /// Weight in the sum.
    pub weight: f64,
    /// Tokens up to which nothing is punished; 0: four fifths of `rollout.max_new_tokens`.
    pub threshold: usize,
    /// Punishment at twice the threshold.
    pub factor: f64,
}

impl Default for ProportionalOverlongReward {
    fn default() -> Self {
        Self { weight: 1.0, threshold: 0, factor: 0.5 }
    }
}

/// Punishment of repeated n-grams (open-r1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RepetitionReward {
    /// Weight in the sum.
    pub weight: f64,
    /// n, in words.
    pub ngram_size: usize,
    /// Value when everything is repetition; at most 0.
    pub max_penalty: f64,
}

impl Default for RepetitionReward {
    fn default() -> Self {
        Self { weight: 1.0, ngram_size: 3, max_penalty: -1.0 }
    }
}

/// open-r1's cosine-scaled length reward: short right answers earn most, long wrong ones lose least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthReward {
    /// Weight in the sum.
    pub weight: f64,
    /// Value of a wrong answer of length 0.
    pub min_wrong: f64,
    /// Value of a wrong answer of full length.
    pub max_wrong: f64,
    /// Value of a right answer of full length.
    pub min_correct: f64,
    /// Value of a right answer of length 0.
    pub max_correct: f64,
    /// Full length.
    pub max_len: usize,
    /// What lengths are counted in: `characters` or `tokens`.
    #[schemars(with = "String", extend("enum" = ["characters", "tokens"]))]
    pub unit: LengthUnit,
}

impl Default for LengthReward {
    fn default() -> Self {
        Self {
            weight: 1.0,
            min_wrong: -1.0,
            max_wrong: -0.5,
            min_correct: 0.5,
            max_correct: 1.0,
            max_len: 1000,
            unit: LengthUnit::Characters,
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

/// The policy losses by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyLossName {
    /// The clipped surrogate of PPO, GRPO and DAPO.
    Dapo,
    /// The same.
    Ppo,
    /// One ratio a sequence.
    Gspo,
    /// A detached, clipped weight on every token.
    Cispo,
    /// A smooth gate in place of the clip.
    Sapo,
    /// The geometric mean of clipped ratios.
    Gmpo,
}

/// The policy loss and its aggregation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSection {
    /// The surrogate: `dapo` (`ppo`), `gspo`, `cispo`, `sapo` or `gmpo`.
    pub policy_loss: PolicyLossName,
    /// ε_low; unset, that of the policy loss's paper (DAPO: 0.2).
    pub clip_low: Option<f32>,
    /// ε_high; unset, that of the policy loss's paper (DAPO: 0.28).
    pub clip_high: Option<f32>,
    /// c: for A < 0 the loss is at most −c·A; 0 is off. For `dapo` alone.
    pub dual_clip: f32,
    /// τ of `sapo` for A > 0.
    pub tau_positive: f32,
    /// τ of `sapo` otherwise.
    pub tau_negative: f32,
    /// How token losses become one number: `token-mean`, `seq-mean-token-mean`, `seq-mean-token-sum`,
    /// `seq-mean-token-sum-norm` or, for comparison, `local-token-mean`; unset, that of the policy loss's paper.
    #[schemars(extend("enum" = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm",
        "local-token-mean", null]))]
    pub aggregation: Option<String>,
    /// The constant length of `seq-mean-token-sum-norm`; 0: `rollout.max_new_tokens`.
    pub norm_len: usize,
    /// Whether sequences without a token in the loss count in sequence means: `exclude` or `count`.
    #[schemars(with = "String", extend("enum" = ["exclude", "count"]))]
    pub empty_sequences: EmptySequences,
    /// Weight of the entropy bonus.
    pub entropy_coef: f32,
}

impl Default for LossSection {
    fn default() -> Self {
        Self {
            policy_loss: PolicyLossName::Dapo,
            clip_low: None,
            clip_high: None,
            dual_clip: 0.0,
            tau_positive: 1.0,
            tau_negative: 1.05,
            aggregation: None,
            norm_len: 0,
            empty_sequences: EmptySequences::Exclude,
            entropy_coef: 0.0,
        }
    }
}

/// KL to a reference model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KlSection {
    /// β; 0: no reference model is loaded.
    pub coef: f32,
    /// The estimator in the loss: `k1`, `k2`, `k3` or `abs`.
    #[schemars(with = "String", extend("enum" = ["k1", "k2", "k3", "abs"]))]
    pub estimator: KlEstimator,
    /// Whether each token's estimate is multiplied by its ratio.
    pub times_ratio: bool,
    /// Take −β·Σ k1 off the reward instead of adding β·KL to the loss.
    pub in_reward: bool,
    /// Steps after which the reference is moved towards the policy; 0: never.
    pub sync_every: u64,
    /// How far: reference = mixup · policy + (1 − mixup) · reference.
    pub sync_mixup: f64,
}

impl Default for KlSection {
    fn default() -> Self {
        Self {
            coef: 0.0,
            estimator: KlEstimator::K3,
            times_ratio: false,
            in_reward: false,
            sync_every: 0,
            sync_mixup: 1.0,
        }
    }
}

/// The learning rate's course after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LrSchedule {
    /// Stays.
    Constant,
    /// Falls on a line to `min_lr_ratio` at the last step.
    Linear,
    /// Falls along half a cosine to `min_lr_ratio` at the last step.
    Cosine,
}

/// AdamW and the learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSection {
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// Roll-out steps over which it grows linearly from 0.
    pub warmup_steps: u64,
    /// Its course after the warm-up.
    pub schedule: LrSchedule,
    /// Share of `lr` at the last step of a falling schedule.
    pub min_lr_ratio: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on all parameters.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub max_grad_norm: f64,
}

impl Default for OptimizerSection {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            warmup_steps: 20,
            schedule: LrSchedule::Constant,
            min_lr_ratio: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
        }
    }
}

/// What a backward pass keeps of each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LayerMemoryName {
    /// All intermediate values.
    Keep,
    /// The layer's input; the rest is computed again.
    Recompute,
}

/// How long and in which portions to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Roll-out steps.
    pub steps: u64,
    /// μ, passes over a step's groups.
    pub epochs: usize,
    /// Optimiser updates a pass: the step's groups are divided evenly among them.
    pub mini_batches: usize,
    /// Tokens computed at a time; bounds memory, and changes results only by rounding.
    pub micro_batch_tokens: usize,
    /// What a backward pass keeps of each layer: `keep`, or `recompute` for long sequences.
    pub layer_memory: LayerMemoryName,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self { steps: 100, epochs: 1, mini_batches: 1, micro_batch_tokens: 4096, layer_memory: LayerMemoryName::Keep }
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
        Self { checkpoint_every: 0, keep_checkpoints: 0, completions: true }
    }
}
