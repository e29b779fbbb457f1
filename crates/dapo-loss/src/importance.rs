//! Truncated importance sampling: correcting for a rollout engine that is not quite the behaviour policy.

use std::{fmt, str::FromStr};

use crate::error::{LossError, expect_config, lookup};

/// Whether a correction weight belongs to a token or to a whole sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ImportanceLevel {
    /// One weight per token.
    #[default]
    Token,
    /// One weight per sequence: the product of its tokens' ratios, then the cap.
    Sequence,
}

impl FromStr for ImportanceLevel {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        lookup("importance level", name, &[("token", Self::Token), ("sequence", Self::Sequence)])
    }
}

impl fmt::Display for ImportanceLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Sequence => "sequence",
        })
    }
}

/// Weights the policy loss by how likely the trained model's behaviour snapshot finds what another engine sampled.
///
/// ```text
/// token:    w_it = min(exp(old_it − rollout_it), cap)
/// sequence: w_i  = min(exp(Σ_t m_it·(old_it − rollout_it)), cap)
/// ```
///
/// The weight is a constant (no gradient flows through it) and multiplies the policy loss only, not the KL term or the
/// entropy bonus. Exponents are clamped to ±20. Source: Yao et al., "Your Efficient RL Framework Secretly Brings You
/// Off-Policy RL Training"; verl's `rollout_is`, TRL's `vllm_importance_sampling_correction`.
///
/// ```
/// assert_eq!(dapo_loss::TruncatedImportance::default().cap, 2.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TruncatedImportance {
    /// The largest weight.
    pub cap: f32,
    /// One weight per token or one per sequence.
    pub level: ImportanceLevel,
}

impl Default for TruncatedImportance {
    fn default() -> Self {
        Self { cap: 2.0, level: ImportanceLevel::Token }
    }
}

impl TruncatedImportance {
    pub(crate) fn validate(self) -> Result<(), LossError> {
        let ok = self.cap.is_finite() && self.cap > 0.0;
        expect_config(ok, "truncated_importance.cap", self.cap, "a finite number > 0")
    }
}
