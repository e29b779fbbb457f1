//! The distance to a frozen reference policy, estimated token by token.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]

use std::{fmt, str::FromStr};

use crate::{
    batch::check_offsets,
    error::{LossError, expect_config, expect_len, lookup},
    exp::exp,
    token::{MAX_LOG_RATIO, TokenLoss, clamp},
};

/// How KL(π‖π_ref) is estimated from one token with log-ratio k = logp − ref.
///
/// ```text
/// K1   k              unbiased, may be negative; its gradient is 0 on average on-policy
/// K2   k²/2           biased; its gradient is unbiased on-policy
/// K3   e^(−k) + k − 1 unbiased and never negative; its gradient is biased (k clamped to ±20, the result to at most 10)
/// Abs  |k|
/// K1Plus, K3Plus       the value of K1 or K3, the gradient of K2: unbiased both (straight-through)
/// ```
///
/// Source: Schulman, "Approximating KL Divergence"; K3 is GRPO's (arXiv 2402.03300, Eq. 4); the straight-through ones are
/// verl's `k1+` and `k3+`.
///
/// ```
/// use dapo_loss::KlEstimator;
/// assert_eq!("k3".parse::<KlEstimator>()?, KlEstimator::K3);
/// assert_eq!(KlEstimator::K2.of(-3.0).loss, 4.5);
/// assert!((KlEstimator::K3.of(1.0).loss - (-1.0_f32).exp()).abs() < 1e-7);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum KlEstimator {
    /// k.
    K1,
    /// k²/2.
    K2,
    /// e^(−k) + k − 1.
    #[default]
    K3,
    /// |k|.
    Abs,
    /// The value of `K1` with the gradient of `K2`.
    #[cfg_attr(feature = "serde", serde(rename = "k1+"))]
    K1Plus,
    /// The value of `K3` with the gradient of `K2`.
    #[cfg_attr(feature = "serde", serde(rename = "k3+"))]
    K3Plus,
}

impl KlEstimator {
    /// The name it parses from.
    pub const fn name(self) -> &'static str {
        match self {
            Self::K1 => "k1",
            Self::K2 => "k2",
            Self::K3 => "k3",
            Self::Abs => "abs",
            Self::K1Plus => "k1+",
            Self::K3Plus => "k3+",
        }
    }

    /// The estimate for one token and its derivative with respect to `logp`, in nats.
    #[inline(always)]
    pub fn of(self, log_ratio: f32) -> TokenLoss {
        match self {
            Self::K1 => TokenLoss { loss: log_ratio, slope: 1.0 },
            Self::K2 => TokenLoss { loss: 0.5 * log_ratio * log_ratio, slope: log_ratio },
            Self::K3 => k3(log_ratio),
            // As k2, the slope has no clamp.
            Self::K1Plus => TokenLoss { loss: log_ratio, slope: log_ratio },
            Self::K3Plus => TokenLoss { loss: k3(log_ratio).loss, slope: log_ratio },
            Self::Abs => TokenLoss {
                loss: log_ratio.abs(),
                slope: if log_ratio > 0.0 {
                    1.0
                } else if log_ratio < 0.0 {
                    -1.0
                } else {
                    0.0
                },
            },
        }
    }
}

/// The most that one token's k3 may be.
const MAX_K3: f32 = 10.0;

#[inline(always)]
fn k3(log_ratio: f32) -> TokenLoss {
    let k = clamp(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO);
    let far = exp(-k) + k - 1.0;
    // Near 0 the sum above cancels; (e^(−k) + k − 1)/k² = 1/2! − k/3! + k²/4! − … does not.
    let series = 1.0 / 40_320.0 - k * (1.0 / 362_880.0);
    let series = 1.0 / 5_040.0 - k * series;
    let series = 1.0 / 720.0 - k * series;
    let series = 1.0 / 120.0 - k * series;
    let series = 1.0 / 24.0 - k * series;
    let series = 1.0 / 6.0 - k * series;
    let near = k * k * (0.5 - k * series);
    let is_near = k.abs() < 0.5;
    let value = if is_near { near } else { far };
    // 1 − e^(−k) is k minus the value, whichever way the value was computed.
    // Beyond the bound nothing moves, and |k| > 20 is far beyond it.
    let bounded = value > MAX_K3;
    TokenLoss { loss: if bounded { MAX_K3 } else { value }, slope: if bounded { 0.0 } else { k - value } }
}

impl FromStr for KlEstimator {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        let all = [Self::K1, Self::K2, Self::K3, Self::Abs, Self::K1Plus, Self::K3Plus];
        lookup("KL estimator", name, &all.map(|estimator| (estimator.name(), estimator)))
    }
}

impl fmt::Display for KlEstimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The KL term of the loss: `+ coef · KL`, aggregated like the policy loss. Off by default, as in DAPO.
///
/// With `coef` 0 no reference log-probabilities are asked for.
///
/// ```
/// assert_eq!(dapo_loss::Kl::default().coef, 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Kl {
    /// β, the weight of the term.
    pub coef: f32,
    /// How a token's KL is estimated.
    pub estimator: KlEstimator,
    /// Multiply each token's KL by its ratio ρ (TRL's `use_bias_correction_kl`); ρ is differentiated too.
    pub times_ratio: bool,
}

impl Kl {
    pub(crate) fn validate(self) -> Result<(), LossError> {
        expect_config(self.coef.is_finite() && self.coef >= 0.0, "kl.coef", self.coef, "a finite number >= 0")
    }
}

/// The KL term inside the reward: what to add to each sequence's reward before group statistics.
///
/// ```text
/// R_i += −coef · Σ_t m_it·(logp_it − ref_it)          (estimator k1)
/// ```
///
/// # Shapes
/// `logprobs`, `ref_logprobs` and `mask` have one value per token, `cu_seqlens` N + 1 offsets; returns N values, in the
/// units of the reward (coef times nats).
///
/// # Errors
/// Lengths that disagree, offsets that decrease, a log-probability that counts and is not finite.
///
/// ```
/// let terms = dapo_loss::kl_in_reward(0.1, &[-1.0, -2.0, -1.0], &[-1.5, -2.0, -3.0], None, &[0, 2, 3])?;
/// assert!((terms[0] + 0.05).abs() < 1e-8 && (terms[1] + 0.2).abs() < 1e-8);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Sources: InstructGPT (arXiv 2203.02155), Eq. 2; verl's `use_kl_in_reward`.
pub fn kl_in_reward(
    coef: f32,
    logprobs: &[f32],
    ref_logprobs: &[f32],
    mask: Option<&[u8]>,
    cu_seqlens: &[usize],
) -> Result<Vec<f64>, LossError> {
    const NAME: &str = "kl_in_reward";
    let tokens = check_offsets(NAME, cu_seqlens)?;
    expect_len(NAME, "logprobs", logprobs.len(), tokens)?;
    expect_len(NAME, "ref_logprobs", ref_logprobs.len(), tokens)?;
    expect_len(NAME, "mask", mask.map_or(tokens, <[u8]>::len), tokens)?;
    let mut terms = Vec::with_capacity(cu_seqlens.len() - 1);
    for (sequence, ends) in cu_seqlens.windows(2).enumerate() {
        let mut sum = 0.0;
        for token in (ends[0]..ends[1]).filter(|&token| mask.is_none_or(|mask| mask[token] != 0)) {
            for (array, value) in [("logprobs", logprobs[token]), ("ref_logprobs", ref_logprobs[token])] {
                if !value.is_finite() {
                    let position = token - ends[0];
                    return Err(LossError::NonFinite { function: NAME, array, sequence, position, value });
                }
            }
            sum += f64::from(logprobs[token]) - f64::from(ref_logprobs[token]);
        }
        // `0.0 −` keeps a sequence without KL at +0.
        terms.push(0.0 - f64::from(coef) * sum);
    }
    Ok(terms)
}
