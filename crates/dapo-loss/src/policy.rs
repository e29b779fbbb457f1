//! The policy losses by name, and their clip ranges.

use std::{fmt, str::FromStr};

use crate::{
    aggregation::Aggregation,
    error::{LossError, expect_config, lookup},
};

/// How far the probability ratio may move before its gradient stops, as offsets from 1.
///
/// ```text
/// 1 − low ≤ ρ ≤ 1 + high
/// ```
///
/// `low` and `high` are dimensionless and separate ("clip-higher"): the upper bound is the wider one, so that improbable
/// tokens can still grow. Source: DAPO, Eq. 8 and section 3.1.
///
/// ```
/// let clip = dapo_loss::ClipRange::default();
/// assert_eq!((clip.low, clip.high), (0.2, 0.28));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct ClipRange {
    /// ε_low, subtracted from 1.
    pub low: f32,
    /// ε_high, added to 1.
    pub high: f32,
}

impl Default for ClipRange {
    fn default() -> Self {
        Self { low: 0.2, high: 0.28 }
    }
}

impl ClipRange {
    /// The same ε on both sides, as in PPO and GRPO.
    ///
    /// ```
    /// assert_eq!(dapo_loss::ClipRange::symmetric(0.2).high, 0.2);
    /// ```
    pub const fn symmetric(epsilon: f32) -> Self {
        Self { low: epsilon, high: epsilon }
    }
}

/// Which surrogate turns ratio ρ and advantage A into a token's loss.
///
/// Every variant carries its own constants; the constructors and the names that parse give them the values of the paper.
/// See the functions of [`token`](crate::token) for the formulas.
///
/// With the feature `serde` it is read from a name, `"gspo"`, or from a table with any of the variant's fields,
/// `{ name = "gspo", clip = { high = 5e-4 } }`; the rest keeps the values of the paper, and without a name it is DAPO.
///
/// ```
/// use dapo_loss::{ClipRange, PolicyLoss};
/// let dapo: PolicyLoss = "dapo".parse()?;
/// assert_eq!(dapo, PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high: 0.28 }, dual_clip: None });
/// assert_eq!("ppo".parse(), Ok(PolicyLoss::Ppo { clip: ClipRange::symmetric(0.2), dual_clip: None }));
/// let error = "reinforce".parse::<PolicyLoss>().unwrap_err();
/// assert!(error.to_string().ends_with("expected one of dapo, ppo, gspo, cispo, sapo, gmpo"));
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PolicyLoss {
    /// The clipped surrogate of PPO, GRPO and DAPO: `max(−Aρ, −A·clip(ρ, 1−low, 1+high))`.
    Ppo {
        /// Clip range of the token ratio: 0.2 and 0.28 under the name `dapo`, 0.2 on both sides under `ppo`.
        clip: ClipRange,
        /// Dual clip c > 1: for A < 0 the loss is at most −c·A.
        dual_clip: Option<f32>,
    },
    /// GSPO: one ratio per sequence, clipped as PPO clips ρ.
    ///
    /// ```text
    /// s_i = exp(1/|o_i| · Σ_t log ρ_it),   ℓ_it = max(−A·s_it, −A·clip(s_it, 1−low, 1+high))
    /// s_it = sg[s_i]·π_it/sg[π_it]
    /// ```
    ///
    /// The value is that of s_i, the slope of every token −A·s_i. Source: GSPO (arXiv 2507.18071), Eq. 5, 7 and 14.
    Gspo {
        /// Clip range of the sequence ratio; 3e-4 and 4e-4 by default.
        clip: ClipRange,
    },
    /// CISPO: `−sg[clip(ρ, 1−low, 1+high)]·A·logp`; every token keeps a gradient.
    Cispo {
        /// Clip range of the detached weight; 0.2 and 0.28 by default.
        clip: ClipRange,
    },
    /// SAPO: `−A·(4/τ)·σ(τ(ρ−1))`, a smooth gate in place of the clip.
    Sapo {
        /// τ for A > 0; 1.0 by default.
        tau_positive: f32,
        /// τ otherwise; 1.05 by default.
        tau_negative: f32,
    },
    /// GMPO: the geometric mean of clipped ratios, one surrogate per sequence.
    ///
    /// ```text
    /// ℓ_i = −A·exp(1/|o_i| · Σ_t s_A·min(s_A·log ρ_it, s_A·clip(log ρ_it, −low, high)))
    /// ```
    ///
    /// Source: GMPO (arXiv 2507.20673).
    Gmpo {
        /// Clip range of the *log*-ratio, `[−low, high]`; 0.4 on both sides by default.
        clip: ClipRange,
    },
}

impl Default for PolicyLoss {
    fn default() -> Self {
        Self::dapo()
    }
}

impl PolicyLoss {
    /// DAPO: clip range 0.2 and 0.28, no dual clip.
    pub const fn dapo() -> Self {
        Self::Ppo { clip: ClipRange { low: 0.2, high: 0.28 }, dual_clip: None }
    }

    /// PPO and GRPO: clip range 0.2 on both sides, no dual clip.
    pub const fn ppo() -> Self {
        Self::Ppo { clip: ClipRange::symmetric(0.2), dual_clip: None }
    }

    /// GSPO: clip range 3e-4 and 4e-4 of the sequence ratio.
    pub const fn gspo() -> Self {
        Self::Gspo { clip: ClipRange { low: 3e-4, high: 4e-4 } }
    }

    /// CISPO: clip range 0.2 and 0.28 of the detached weight.
    pub const fn cispo() -> Self {
        Self::Cispo { clip: ClipRange { low: 0.2, high: 0.28 } }
    }

    /// SAPO: τ 1.0 for A > 0 and 1.05 otherwise.
    pub const fn sapo() -> Self {
        Self::Sapo { tau_positive: 1.0, tau_negative: 1.05 }
    }

    /// GMPO: clip range 0.4 on both sides of the log-ratio.
    pub const fn gmpo() -> Self {
        Self::Gmpo { clip: ClipRange::symmetric(0.4) }
    }

    /// The name that parses to the same variant: `gspo`, `cispo`, `sapo`, `gmpo`; for the clipped surrogate `ppo` where
    /// the clip range is symmetric, `dapo` otherwise.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ppo { clip, .. } if clip.low == clip.high => "ppo",
            Self::Ppo { .. } => "dapo",
            Self::Gspo { .. } => "gspo",
            Self::Cispo { .. } => "cispo",
            Self::Sapo { .. } => "sapo",
            Self::Gmpo { .. } => "gmpo",
        }
    }

    /// The aggregation that the paper of this loss averages with.
    ///
    /// ```
    /// use dapo_loss::{Aggregation, PolicyLoss};
    /// assert_eq!(PolicyLoss::default().usual_aggregation(), Aggregation::TokenMean);
    /// ```
    pub const fn usual_aggregation(&self) -> Aggregation {
        match self {
            Self::Ppo { .. } | Self::Cispo { .. } => Aggregation::TokenMean,
            Self::Gspo { .. } | Self::Sapo { .. } | Self::Gmpo { .. } => Aggregation::SeqMeanTokenMean,
        }
    }

    /// Whether a token's loss depends on the other tokens of its sequence.
    pub const fn is_sequence_level(&self) -> bool {
        matches!(self, Self::Gspo { .. } | Self::Gmpo { .. })
    }

    pub(crate) fn validate(&self) -> Result<(), LossError> {
        const POSITIVE: &str = "a finite number > 0";
        match *self {
            Self::Ppo { clip, dual_clip } => {
                validate_ratio_clip(clip)?;
                let c = dual_clip.unwrap_or(2.0);
                let ok = c.is_finite() && c > 1.0;
                expect_config(ok, "policy_loss.dual_clip", c, "none, or a finite number > 1")
            }
            Self::Gspo { clip } | Self::Cispo { clip } => validate_ratio_clip(clip),
            Self::Sapo { tau_positive: p, tau_negative: n } => {
                expect_config(p.is_finite() && p > 0.0, "policy_loss.tau_positive", p, POSITIVE)?;
                expect_config(n.is_finite() && n > 0.0, "policy_loss.tau_negative", n, POSITIVE)
            }
            Self::Gmpo { clip } => {
                let ok = clip.low.is_finite() && clip.low >= 0.0;
                expect_config(ok, "policy_loss.clip.low", clip.low, "a finite number >= 0")?;
                validate_high(clip)
            }
        }
    }
}

fn validate_ratio_clip(clip: ClipRange) -> Result<(), LossError> {
    let ok = (0.0..=1.0).contains(&clip.low);
    expect_config(ok, "policy_loss.clip.low", clip.low, "a number from 0 to 1")?;
    validate_high(clip)
}

fn validate_high(clip: ClipRange) -> Result<(), LossError> {
    let ok = clip.high.is_finite() && clip.high >= 0.0;
    expect_config(ok, "policy_loss.clip.high", clip.high, "a finite number >= 0")
}

impl FromStr for PolicyLoss {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        let table = [
            ("dapo", Self::dapo()),
            ("ppo", Self::ppo()),
            ("gspo", Self::gspo()),
            ("cispo", Self::cispo()),
            ("sapo", Self::sapo()),
            ("gmpo", Self::gmpo()),
        ];
        lookup("policy loss", name, &table)
    }
}

impl fmt::Display for PolicyLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
