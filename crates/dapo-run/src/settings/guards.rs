//! Checks of a run's own figures.

use crate::run_error::RunError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens when a guard's condition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuardAction {
    /// Nothing.
    Off,
    /// A warning.
    #[default]
    Warn,
    /// The run saves a checkpoint and ends with an error.
    Stop,
}

/// Conditions under which training has most likely gone wrong, judged from each step's figures. Each may be `off`, `warn`
/// or `stop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardsSection {
    /// The updates of a step moved the policy far: the metric `kl` is above `max_kl` or below −`max_kl`.
    pub kl: GuardAction,
    /// Bound of `kl`, in nats a token.
    pub max_kl: f64,
    /// Importance ratios explode: the metric `clip_ratio/region_mean` is above `max_clipped`.
    pub ratio: GuardAction,
    /// Bound of the share of tokens outside the clip range.
    pub max_clipped: f64,
    /// The policy hardly varies any more: the entropy is below `min_entropy` for `steps` steps.
    pub entropy: GuardAction,
    /// Bound of the entropy, in nats a token.
    pub min_entropy: f64,
    /// Nothing tells completions apart: all rewards of each group are equal for `steps` steps. Off with a critic.
    pub rewards: GuardAction,
    /// No completion ends by itself for `steps` steps.
    pub truncation: GuardAction,
    /// The mean accuracy of the last `steps` steps is below `min_accuracy_share` of its own best, where that is at least 0.1.
    pub accuracy: GuardAction,
    /// Share of the best accuracy.
    pub min_accuracy_share: f64,
    /// Steps in a row of a condition that needs several.
    pub steps: u64,
}

impl Default for GuardsSection {
    fn default() -> Self {
        let warn = GuardAction::Warn;
        Self {
            kl: warn,
            max_kl: 1.0,
            ratio: warn,
            max_clipped: 0.5,
            entropy: warn,
            min_entropy: 0.001,
            rewards: warn,
            truncation: warn,
            accuracy: warn,
            min_accuracy_share: 0.5,
            steps: 5,
        }
    }
}

impl GuardsSection {
    pub(crate) fn validate(&self) -> Result<(), RunError> {
        for (key, value) in [("max_kl", self.max_kl), ("min_entropy", self.min_entropy)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(RunError::setting(&format!("guards.{key}"), value, "a finite number of at least 0"));
            }
        }
        for (key, share) in [("max_clipped", self.max_clipped), ("min_accuracy_share", self.min_accuracy_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(RunError::setting(&format!("guards.{key}"), share, "from 0 to 1"));
            }
        }
        if self.steps == 0 {
            return Err(RunError::setting("guards.steps", 0, "at least 1"));
        }
        Ok(())
    }
}
