//! The settings of PPO's critic.

use crate::error::TrainerError;
use crate::optimizer_config::{OptimizerConfig, Schedule};
use dapo_loss::{Gae, ValueLoss};
use serde::{Deserialize, Serialize};

/// Whose layers the value head stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CriticLayers {
    /// Its own: a second model, which begins as the policy does (verl, TRL).
    #[default]
    Own,
    /// The policy's: one pass serves both, and the gradient is that of policy loss + `coef` · value loss.
    Shared,
}

/// PPO's critic: how values become advantages, and how they are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CriticConfig {
    /// Whose layers the value head stands on: `"own"` or `"shared"`.
    pub layers: CriticLayers,
    /// γ, the discount of rewards from token to token.
    pub gamma: f64,
    /// λ of generalised advantage estimation: 0 trusts the values alone, 1 the rewards alone.
    pub lambda: f64,
    /// ε_v, how far a value may move from that of the rollout before its gradient ends, in units of the reward; 0: no clip.
    pub clip: f32,
    /// Weight of the value loss beside the policy loss, with shared layers.
    pub coef: f64,
    /// Whether advantages are whitened over a step: mean 0, variance 1.
    pub whiten: bool,
    /// Steps at the beginning in which only the critic learns.
    pub warmup_steps: u64,
    /// The optimizer of a critic with layers of its own.
    #[serde(deserialize_with = "OfCritic::deserialize")]
    pub optimizer: OptimizerConfig,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self {
            layers: CriticLayers::default(),
            gamma: 1.0,
            lambda: 1.0,
            clip: ValueLoss::default().clip,
            coef: 0.5,
            whiten: true,
            warmup_steps: 0,
            optimizer: of_critic(),
        }
    }
}

fn of_critic() -> OptimizerConfig {
    OptimizerConfig { lr: 1e-5, warmup_steps: 0, ..OptimizerConfig::default() }
}

/// The optimizer's fields as settings have them, with a critic's defaults for those that are missing.
#[derive(Deserialize)]
#[serde(remote = "OptimizerConfig", default = "of_critic", deny_unknown_fields)]
struct OfCritic {
    lr: f64,
    warmup_steps: u64,
    warmup_ratio: Option<f64>,
    schedule: Schedule,
    decay_steps: Option<u64>,
    min_lr_ratio: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
}

impl CriticConfig {
    pub(crate) fn discounts(&self) -> Gae {
        Gae { gamma: self.gamma, lambda: self.lambda }
    }

    pub(crate) fn loss(&self) -> ValueLoss {
        ValueLoss { clip: self.clip }
    }

    /// # Errors
    /// Names the first field outside its range.
    pub fn validate(&self) -> Result<(), TrainerError> {
        for (field, value) in [("gamma", self.gamma), ("lambda", self.lambda)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(TrainerError::setting(field, &value, "from 0 to 1"));
            }
        }
        for (field, value) in [("clip", f64::from(self.clip)), ("coef", self.coef)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(TrainerError::setting(field, &value, "a finite number of at least 0"));
            }
        }
        if self.layers == CriticLayers::Shared && self.warmup_steps > 0 {
            let expected = "0 with shared layers: training the critic alone would change the policy";
            return Err(TrainerError::setting("warmup_steps", &self.warmup_steps, expected));
        }
        self.optimizer.validate().map_err(|error| error.within("optimizer"))
    }
}
