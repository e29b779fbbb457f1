//! Loss, KL, optimiser and the portions of training.

use dapo_loss::{EmptySequences, KlEstimator};
use dapo_trainer::OnMastered;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// With dynamic sampling: what happens when no group carries a signal and nine in ten are all correct. `stop` ends the run,
    /// saved and evaluated; `skip` counts the step, without an update, and continues; `error` fails.
    #[schemars(with = "String", extend("enum" = ["stop", "skip", "error"]))]
    pub on_mastered: OnMastered,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            steps: 100,
            epochs: 1,
            mini_batches: 1,
            micro_batch_tokens: 4096,
            layer_memory: LayerMemoryName::Keep,
            on_mastered: OnMastered::Stop,
        }
    }
}
