//! Limits of length.

use dapo_reward::{LengthUnit, RewardError, RewardFault, RewardInput, Score};
use serde::{Deserialize, Serialize};

use super::{Judge, check_values, shaped};

/// `value` where the completion's length is within the limits, else `mismatch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LengthReward {
    /// Shortest length; unset: 0.
    pub min: Option<usize>,
    /// Greatest length; unset: none.
    pub max: Option<usize>,
    /// What lengths are counted in: `characters` or `tokens`.
    pub unit: LengthUnit,
    /// Reward of a length within the limits.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
}

impl Default for LengthReward {
    fn default() -> Self {
        Self { min: None, max: None, unit: LengthUnit::Characters, value: 1.0, mismatch: 0.0 }
    }
}

impl LengthReward {
    pub(super) fn checked(self) -> Result<Self, RewardError> {
        const OWNER: &str = "LengthReward";
        check_values(OWNER, self.value, self.mismatch)?;
        let fails = |field, value: String, allowed| Err(RewardError::Config { owner: OWNER, field, value, allowed });
        match (self.min, self.max) {
            (None, None) => fails("max", "unset".to_owned(), "min, max or both"),
            (Some(min), Some(max)) if min > max => fails("max", max.to_string(), "at least min"),
            _ => Ok(self),
        }
    }
}

impl Judge for LengthReward {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let length = match self.unit {
            LengthUnit::Characters => input.completion.chars().count(),
            LengthUnit::Tokens => input.num_tokens,
        };
        let limits = self.min.unwrap_or(0)..=self.max.unwrap_or(usize::MAX);
        Ok(shaped(limits.contains(&length), self.value, self.mismatch))
    }
}
