//! The loss of one token as a function of a ratio: the formulas themselves.
//!
//! Every loss function returns the loss ℓ and its slope ∂ℓ/∂logp, where `logp` is the log-probability that the current
//! policy gives the token. Ratios ρ = exp(logp − old) and advantages A are dimensionless, log-probabilities are in nats.
//! [`clipped_surrogate`] (PPO, GRPO, DAPO), [`cispo`] and [`sapo`] look at the token's own ratio; [`gspo`] and [`gmpo`]
//! at the mean log-ratio of its sequence, and give all tokens of the sequence the same loss. The fused pass of
//! [`LossPlan`](crate::LossPlan) calls these same functions.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]
#![expect(clippy::needless_bitwise_bool, reason = "without branches, loops over these vectorise")]

use crate::{exp::exp, policy::ClipRange};

/// Log-ratios are clamped to ± this many nats before the exponential; beyond it the slope is 0.
pub const MAX_LOG_RATIO: f32 = 20.0;

/// The loss of a token and its derivative with respect to the token's log-probability.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TokenLoss {
    /// The loss ℓ.
    pub loss: f32,
    /// ∂ℓ/∂logp.
    pub slope: f32,
}

/// The probability ratio of the current policy to the behaviour policy.
///
/// ```text
/// ρ = exp(clamp(logp − old, −20, 20))
/// ```
///
/// Source: PPO, section 3; the clamp keeps a single runaway token finite.
///
/// ```
/// assert_eq!(dapo_loss::token::ratio(-1.5, -1.5), 1.0);
/// assert!((dapo_loss::token::ratio(-1.0, -1.5) - 0.5_f32.exp()).abs() < 1e-6);
/// ```
#[inline(always)]
pub fn ratio(logprob: f32, old_logprob: f32) -> f32 {
    exp(clamp(logprob - old_logprob, -MAX_LOG_RATIO, MAX_LOG_RATIO))
}

/// The weight of truncated importance sampling, from the ratio of the behaviour policy to the rollout engine.
///
/// ```text
/// w = min(max(π_old/π_rollout, low), high)
/// ```
///
/// `importance` is [`ratio`] of a token's `old` and `rollout` log-probabilities, or the product over a sequence. See
/// [`RolloutCorrection`](crate::RolloutCorrection).
///
/// ```
/// use dapo_loss::token::{importance_weight, ratio};
/// assert_eq!(importance_weight(ratio(-1.0, -3.0), 0.0, 2.0), 2.0);
/// assert_eq!(importance_weight(0.5, 0.0, 2.0), 0.5);
/// assert_eq!(importance_weight(0.5, 0.8, 2.0), 0.8);
/// ```
#[inline(always)]
pub fn importance_weight(importance: f32, low: f32, high: f32) -> f32 {
    clamp(importance, low, high)
}

/// The weight of masked importance sampling (IcePop): the ratio of the behaviour policy to the rollout engine, or 0.
///
/// ```text
/// w = π_old/π_rollout where it is from low to high, 0 elsewhere
/// ```
///
/// Source: IcePop (Ring-1T, arXiv 2510.18855).
///
/// ```
/// use dapo_loss::token::masked_importance_weight;
/// assert_eq!([0.4, 0.5, 5.0, 5.1].map(|ratio| masked_importance_weight(ratio, 0.5, 5.0)), [0.0, 0.5, 5.0, 0.0]);
/// ```
#[inline(always)]
pub fn masked_importance_weight(importance: f32, low: f32, high: f32) -> f32 {
    // A NaN stays visible.
    if (importance < low) | (importance > high) { 0.0 } else { importance }
}

/// The bounds within which ρ moves the clipped surrogate: one-sided, by the sign of the advantage.
///
/// ```text
/// A > 0: (−∞, 1 + high]     A < 0: [1 − low, c]     A = 0: (−∞, ∞)
/// ```
#[inline(always)]
pub(crate) fn surrogate_bounds(advantage: f32, clip: ClipRange, dual_clip: f32) -> (f32, f32) {
    let low = if advantage < 0.0 { 1.0 - clip.low } else { f32::NEG_INFINITY };
    let high = if advantage > 0.0 { 1.0 + clip.high } else { f32::INFINITY };
    let high = if advantage < 0.0 { dual_clip } else { high };
    (low, high)
}

/// `max(−Aρ, −A·clip(ρ))` and the dual clip, which are one clamp between one-sided bounds; whether ρ is within them.
#[inline(always)]
pub(crate) fn surrogate(ratio: f32, advantage: f32, (low, high): (f32, f32)) -> (TokenLoss, bool) {
    let inside = (ratio >= low) & (ratio <= high);
    let loss = -advantage * clamp(ratio, low, high);
    (TokenLoss { loss, slope: if inside { loss } else { 0.0 } }, inside)
}

/// The clipped surrogate of PPO, GRPO and DAPO, with an optional dual clip c.
///
/// ```text
/// ℓ = max(−Aρ, −A·clip(ρ, 1−low, 1+high))        A ≥ 0
/// ℓ = min(max(−Aρ, −A·clip(ρ, …)), −cA)          A < 0 and c given
///
/// ∂ℓ/∂logp = −Aρ where ρ is inside its bound, 0 beyond it
/// ```
///
/// The bounds are one-sided: a token with A > 0 is held back only above 1 + high, one with A < 0 only below 1 − low (and
/// above c). At the bound itself the slope is the inner one. Sources: DAPO (arXiv 2503.14476), Eq. 8; dual
/// clip: arXiv 1912.09729.
///
/// ```
/// use dapo_loss::{ClipRange, token::clipped_surrogate};
/// let clip = ClipRange { low: 0.2, high: 0.28 };
/// let up = clipped_surrogate(1.5, 2.0, clip, None);
/// assert_eq!((up.loss, up.slope), (-2.0 * 1.28, 0.0));
/// let free = clipped_surrogate(1.5, -2.0, clip, None);
/// assert_eq!((free.loss, free.slope), (3.0, 3.0));
/// let dual = clipped_surrogate(12.0, -2.0, clip, Some(10.0));
/// assert_eq!((dual.loss, dual.slope), (20.0, 0.0));
/// ```
#[inline]
pub fn clipped_surrogate(ratio: f32, advantage: f32, clip: ClipRange, dual_clip: Option<f32>) -> TokenLoss {
    surrogate(ratio, advantage, surrogate_bounds(advantage, clip, dual_clip.unwrap_or(f32::INFINITY))).0
}

/// CISPO: a REINFORCE loss whose detached weight is the clipped ratio.
///
/// ```text
/// ℓ = −sg[clip(ρ, 1−low, 1+high)]·A·logp
/// ∂ℓ/∂logp = −clip(ρ, 1−low, 1+high)·A
/// ```
///
/// No token loses its gradient. A single absolute cap of 5 is `low = 1, high = 4`. Source: MiniMax-M1 (arXiv 2506.13585),
/// Eq. 4 and 5.
///
/// ```
/// use dapo_loss::{ClipRange, token::cispo};
/// let token = cispo(-2.0, 9.0, 0.5, ClipRange { low: 1.0, high: 4.0 });
/// assert_eq!((token.loss, token.slope), (5.0, -2.5));
/// ```
#[inline(always)]
pub fn cispo(logprob: f32, ratio: f32, advantage: f32, clip: ClipRange) -> TokenLoss {
    let slope = -advantage * clamp(ratio, 1.0 - clip.low, 1.0 + clip.high);
    TokenLoss { loss: slope * logprob, slope }
}

/// SAPO: a sigmoid gate in place of the clip.
///
/// ```text
/// ℓ = −A·(4/τ)·σ(τ(ρ−1)),   τ = tau_positive for A > 0, tau_negative otherwise
/// ∂ℓ/∂logp = −A·4·σ(1−σ)·ρ
/// ```
///
/// At ρ = 1 the slope is −A, as for the clipped surrogate. Source: SAPO (arXiv 2511.20347).
///
/// ```
/// let token = dapo_loss::token::sapo(1.0, 3.0, 1.0, 1.05);
/// assert_eq!((token.loss, token.slope), (-6.0, -3.0));
/// ```
#[inline(always)]
pub fn sapo(ratio: f32, advantage: f32, tau_positive: f32, tau_negative: f32) -> TokenLoss {
    let tau = if advantage > 0.0 { tau_positive } else { tau_negative };
    let decay = exp(-clamp(tau * (ratio - 1.0), -80.0, 80.0));
    let gate = 1.0 / (1.0 + decay);
    TokenLoss { loss: -advantage * (4.0 / tau) * gate, slope: -advantage * 4.0 * (gate * (decay * gate)) * ratio }
}

/// The probability ratio of a sequence, from the mean of its tokens' log-ratios.
///
/// ```text
/// s = exp(1/|o| · Σ_t log ρ_t)
/// ```
///
/// Source: GSPO (arXiv 2507.18071), Eq. 7.
pub fn sequence_ratio(mean_log_ratio: f64) -> f32 {
    mean_log_ratio.exp() as f32
}

/// GSPO: the clipped surrogate of the sequence's ratio; every token of the sequence has this loss and this slope.
///
/// ```text
/// s = exp(mean_log_ratio),   ℓ = max(−A·s, −A·clip(s, 1−low, 1+high))
/// ∂ℓ/∂logp = −A·s within the bounds: the token ratio is sg[s]·π/sg[π]
/// ```
///
/// `mean_log_ratio` is the mean of logp − old over the sequence's tokens, each clamped to ±20. Source: GSPO (arXiv
/// 2507.18071), Eq. 5, 7 and 14.
///
/// ```
/// use dapo_loss::{ClipRange, token::gspo};
/// let clip = ClipRange { low: 3e-4, high: 4e-4 };
/// let inside = gspo(0.0, 2.0, clip);
/// assert_eq!((inside.loss, inside.slope), (-2.0, -2.0));
/// let beyond = gspo(0.1, 2.0, clip);
/// assert_eq!((beyond.loss, beyond.slope), (-2.0 * 1.0004, 0.0));
/// ```
pub fn gspo(mean_log_ratio: f64, advantage: f32, clip: ClipRange) -> TokenLoss {
    clipped_surrogate(sequence_ratio(mean_log_ratio), advantage, clip, None)
}

/// GMPO: the geometric mean of clipped ratios; every token of the sequence has this loss.
///
/// ```text
/// ℓ = −A·exp(1/|o| · Σ_t s_A·min(s_A·log ρ_t, s_A·clip(log ρ_t, −low, high)))
/// ∂ℓ/∂logp = ℓ for a token whose log-ratio is within its bound, 0 for others
/// ```
///
/// `mean_clipped_log_ratio` is the mean of [`gmpo_log_ratio`] over the sequence's tokens; that function also says which
/// tokens have the slope. Divided by |o|, as the mean over the sequence does, the slopes are the derivatives of the
/// sequence's loss. Source: GMPO (arXiv 2507.20673).
///
/// ```
/// use dapo_loss::{ClipRange, token::{gmpo, gmpo_log_ratio}};
/// let clip = ClipRange::symmetric(0.4);
/// let log_ratios = [0.7, -0.4].map(|log_ratio| gmpo_log_ratio(log_ratio, 1.0, clip).0);
/// let mean = f64::from(log_ratios[0] + log_ratios[1]) / 2.0;
/// assert_eq!((gmpo(mean, 1.0).loss, gmpo(mean, 1.0).slope), (-1.0, -1.0));
/// ```
pub fn gmpo(mean_clipped_log_ratio: f64, advantage: f32) -> TokenLoss {
    let loss = -advantage * sequence_ratio(mean_clipped_log_ratio);
    TokenLoss { loss, slope: loss }
}

/// The log-ratio as GMPO clips it: one-sided, by the sign of the advantage. Also whether it moves the loss.
///
/// ```text
/// s_A·min(s_A·x, s_A·clip(x, −low, high)),   x = log ρ
/// ```
///
/// Source: GMPO (arXiv 2507.20673).
///
/// ```
/// use dapo_loss::{ClipRange, token::gmpo_log_ratio};
/// let clip = ClipRange::symmetric(0.4);
/// assert_eq!(gmpo_log_ratio(0.7, 1.0, clip), (0.4, false));
/// assert_eq!(gmpo_log_ratio(0.7, -1.0, clip), (0.7, true));
/// ```
#[inline(always)]
pub fn gmpo_log_ratio(log_ratio: f32, advantage: f32, clip: ClipRange) -> (f32, bool) {
    let (low, high) = gmpo_bounds(advantage, clip);
    (clamp(log_ratio, low, high), (log_ratio >= low) & (log_ratio <= high))
}

#[inline(always)]
pub(crate) fn gmpo_bounds(advantage: f32, clip: ClipRange) -> (f32, f32) {
    let low = if advantage < 0.0 { -clip.low } else { f32::NEG_INFINITY };
    let high = if advantage > 0.0 { clip.high } else { f32::INFINITY };
    (low, high)
}

/// `f32::clamp` without its check of the bounds; x first, so that a NaN stays visible.
#[inline(always)]
pub(crate) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
