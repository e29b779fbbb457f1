//! Generalised advantage estimation: token-level advantages from a value function, for PPO.

use crate::{
    batch::check_offsets,
    error::{LossError, expect_config, expect_len},
    kl::KlEstimator,
};

/// The two discounts of generalised advantage estimation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Gae {
    /// γ, the discount of rewards; 1 by default, as a completion is one short episode.
    pub gamma: f64,
    /// λ, the trade between bias (0: one-step error) and variance (1: returns minus values); 1 by default.
    pub lambda: f64,
}

impl Default for Gae {
    fn default() -> Self {
        Self { gamma: 1.0, lambda: 1.0 }
    }
}

impl Gae {
    /// Checks both fields.
    ///
    /// # Errors
    /// [`LossError::Config`] when one is outside 0 to 1.
    pub fn validate(&self) -> Result<(), LossError> {
        for (field, value) in [("gae.gamma", self.gamma), ("gae.lambda", self.lambda)] {
            expect_config((0.0..=1.0).contains(&value), field, value, "a number from 0 to 1")?;
        }
        Ok(())
    }
}

/// The token-level advantages of one sequence.
///
/// ```text
/// δ_t = r_t + γ·V_{t+1} − V_t,     V_T = bootstrap
/// A_t = Σ_k (γλ)^k δ_{t+k}  =  δ_t + γλ·A_{t+1}
/// ```
///
/// Give them to the loss as [`Advantages::PerToken`](crate::Advantages); `A_t + V_t` is the return that the value
/// function is fitted to.
///
/// # Shapes
/// `rewards`, `values` and `advantages` have one value per token. `bootstrap` is the value of the state after the last
/// token: 0 for a finished sequence, the value function's estimate for a truncated one. Units are the reward's. Sums are
/// f64, advantages f32.
///
/// # Errors
/// Lengths that disagree, γ or λ outside 0 to 1, a value that is not finite.
///
/// ```
/// use dapo_loss::{Gae, gae};
/// let mut advantages = [0.0; 3];
/// gae(&[0.0, 0.0, 1.0], &[0.5, 0.5, 0.5], 0.0, Gae { gamma: 1.0, lambda: 0.5 }, &mut advantages)?;
/// assert_eq!(advantages, [0.125, 0.25, 0.5]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation" (arXiv
/// 1506.02438), Eq. 16.
pub fn gae(
    rewards: &[f32],
    values: &[f32],
    bootstrap: f32,
    discounts: Gae,
    advantages: &mut [f32],
) -> Result<(), LossError> {
    let batch = GaeBatch { cu_seqlens: &[0, rewards.len()], mask: None, rewards, values, bootstraps: &[bootstrap] };
    fill("gae", batch, discounts, advantages)
}

/// Packed sequences with token-level rewards and values.
///
/// # Shapes
/// N sequences with T tokens together; sequence i is `cu_seqlens[i]..cu_seqlens[i + 1]`. Units are the reward's. Where the
/// mask is 0, rewards and values are never looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaeBatch<'a> {
    /// N + 1 offsets: 0, the end of every sequence.
    pub cu_seqlens: &'a [usize],
    /// T bytes; 0 for a token that the policy did not choose, as an environment's. `None`: it chose all.
    pub mask: Option<&'a [u8]>,
    /// r, T values.
    pub rewards: &'a [f32],
    /// V, T values.
    pub values: &'a [f32],
    /// N values: of the state after each sequence's last token, as in [`gae()`].
    pub bootstraps: &'a [f32],
}

/// The token-level advantages of a batch, as [`gae()`] of each sequence without its masked tokens: the state after a token
/// is that before the next one that the policy chooses. Masked tokens get 0.
///
/// # Errors
/// As [`gae()`], and offsets that decrease.
///
/// ```
/// use dapo_loss::{Gae, GaeBatch, batch_gae};
/// let batch = GaeBatch {
///     cu_seqlens: &[0, 3, 4],
///     mask: Some(&[1, 0, 1, 1]), // an environment's token in the middle
///     rewards: &[0.0, 9.0, 1.0, 0.0],
///     values: &[0.5, 9.0, 0.5, 0.25],
///     bootstraps: &[0.0, 1.0], // the second sequence was truncated
/// };
/// assert_eq!(batch_gae(batch, Gae { gamma: 1.0, lambda: 0.5 })?, [0.25, 0.0, 0.5, 0.75]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
pub fn batch_gae(batch: GaeBatch<'_>, discounts: Gae) -> Result<Vec<f32>, LossError> {
    let mut advantages = vec![0.0; batch.rewards.len()];
    fill("batch_gae", batch, discounts, &mut advantages)?;
    Ok(advantages)
}

fn fill(function: &'static str, batch: GaeBatch<'_>, discounts: Gae, advantages: &mut [f32]) -> Result<(), LossError> {
    let GaeBatch { cu_seqlens, mask, rewards, values, bootstraps } = batch;
    discounts.validate()?;
    let tokens = check_offsets(function, cu_seqlens)?;
    expect_len(function, "rewards", rewards.len(), tokens)?;
    expect_len(function, "values", values.len(), tokens)?;
    expect_len(function, "mask", mask.map_or(tokens, <[u8]>::len), tokens)?;
    expect_len(function, "bootstraps", bootstraps.len(), cu_seqlens.len() - 1)?;
    expect_len(function, "advantages", advantages.len(), tokens)?;
    for (sequence, (ends, &bootstrap)) in cu_seqlens.windows(2).zip(bootstraps).enumerate() {
        let finite = |array, position, value: f32| {
            if value.is_finite() {
                Ok(f64::from(value))
            } else {
                Err(LossError::NonFinite { function, array, sequence, position, value })
            }
        };
        let mut next_value = finite("bootstrap", ends[1] - ends[0], bootstrap)?;
        let mut next_advantage = 0.0;
        for t in (ends[0]..ends[1]).rev() {
            if mask.is_some_and(|mask| mask[t] == 0) {
                advantages[t] = 0.0;
                continue;
            }
            let reward = finite("rewards", t - ends[0], rewards[t])?;
            let value = finite("values", t - ends[0], values[t])?;
            let delta = reward + discounts.gamma * next_value - value;
            next_advantage = delta + discounts.gamma * discounts.lambda * next_advantage;
            next_value = value;
            advantages[t] = next_advantage as f32;
        }
    }
    Ok(())
}

/// The rewards of tokens that PPO learns from: a sequence's reward on its last token that counts, and on every token minus
/// the KL estimate of the policy that chose it to the reference.
///
/// ```text
/// r_t = [t is last]·R_i − coef·KL_t,    KL_t = kl(old_t − ref_t)
/// ```
///
/// # Shapes
/// `rewards` has N values, `cu_seqlens` N + 1 offsets, `mask` and the log-probabilities T values; T values come out, in
/// units of the reward, 0 where the mask is 0. A sequence without a token that counts has no place for its reward.
///
/// # Errors
/// Lengths that disagree, offsets that decrease, a reward or a log-probability that counts and is not finite.
///
/// ```
/// use dapo_loss::{TokenKl, KlEstimator, token_rewards};
/// let kl = TokenKl { coef: 0.5, estimator: KlEstimator::K1, logprobs: &[-1.0, -2.0], ref_logprobs: &[-2.0, -2.0] };
/// assert_eq!(token_rewards(&[1.0], None, &[0, 2], Some(kl))?, [-0.5, 1.0]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Source: InstructGPT (arXiv 2203.02155), Eq. 2; verl's `apply_kl_penalty`.
pub fn token_rewards(
    rewards: &[f64],
    mask: Option<&[u8]>,
    cu_seqlens: &[usize],
    kl: Option<TokenKl<'_>>,
) -> Result<Vec<f32>, LossError> {
    const NAME: &str = "token_rewards";
    let tokens = check_offsets(NAME, cu_seqlens)?;
    expect_len(NAME, "rewards", rewards.len(), cu_seqlens.len() - 1)?;
    expect_len(NAME, "mask", mask.map_or(tokens, <[u8]>::len), tokens)?;
    if let Some(kl) = kl {
        expect_len(NAME, "logprobs", kl.logprobs.len(), tokens)?;
        expect_len(NAME, "ref_logprobs", kl.ref_logprobs.len(), tokens)?;
    }
    let mut by_token = vec![0.0; tokens];
    for (sequence, (ends, &reward)) in cu_seqlens.windows(2).zip(rewards).enumerate() {
        let finite = |array, position, value: f32| {
            let error = LossError::NonFinite { function: NAME, array, sequence, position, value };
            if value.is_finite() { Ok(f64::from(value)) } else { Err(error) }
        };
        finite("rewards", 0, reward as f32)?;
        let mut last = true;
        for t in (ends[0]..ends[1]).rev().filter(|&t| mask.is_none_or(|mask| mask[t] != 0)) {
            let outcome = if std::mem::take(&mut last) { reward } else { 0.0 };
            let penalty = match kl {
                Some(TokenKl { coef, estimator, logprobs, ref_logprobs }) => {
                    let position = t - ends[0];
                    let log_ratio =
                        finite("logprobs", position, logprobs[t])? - finite("ref_logprobs", position, ref_logprobs[t])?;
                    f64::from(coef) * f64::from(estimator.of(log_ratio as f32).loss)
                }
                None => 0.0,
            };
            by_token[t] = (outcome - penalty) as f32;
        }
    }
    Ok(by_token)
}

/// The KL term of [`token_rewards`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenKl<'a> {
    /// Its weight, in units of the reward per nat.
    pub coef: f32,
    /// How a token's KL is estimated.
    pub estimator: KlEstimator,
    /// T log-probabilities under the policy that chose the tokens, in nats.
    pub logprobs: &'a [f32],
    /// T log-probabilities under the frozen reference.
    pub ref_logprobs: &'a [f32],
}

/// Whitens token-level advantages over a whole step, in place: mean 0, variance 1.
///
/// ```text
/// A_t ← (A_t − mean(A)) / √(var(A) + 1e-8),    var with n − 1
/// ```
///
/// Tokens that the mask leaves out keep their values; fewer than two tokens that count are left as they are.
///
/// # Errors
/// A mask of another length, an advantage that counts and is not finite.
///
/// ```
/// let mut advantages = [1.0, 7.0, 3.0];
/// dapo_loss::whiten(&mut advantages, Some(&[1, 0, 1]))?;
/// assert!((advantages[0] + 0.5_f32.sqrt()).abs() < 1e-6 && (advantages[2] - 0.5_f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Source: verl's `masked_whiten`.
pub fn whiten(advantages: &mut [f32], mask: Option<&[u8]>) -> Result<(), LossError> {
    const NAME: &str = "whiten";
    expect_len(NAME, "mask", mask.map_or(advantages.len(), <[u8]>::len), advantages.len())?;
    let counts = |position: &usize| mask.is_none_or(|mask| mask[*position] != 0);
    let kept: Vec<usize> = (0..advantages.len()).filter(counts).collect();
    if let Some(&position) = kept.iter().find(|&&position| !advantages[position].is_finite()) {
        let value = advantages[position];
        return Err(LossError::NonFinite { function: NAME, array: "advantages", sequence: 0, position, value });
    }
    if kept.len() < 2 {
        return Ok(());
    }
    let n = kept.len() as f64;
    let mean = kept.iter().map(|&t| f64::from(advantages[t])).sum::<f64>() / n;
    let squares = kept.iter().map(|&t| (f64::from(advantages[t]) - mean).powi(2)).sum::<f64>();
    let scale = 1.0 / (squares / (n - 1.0) + 1e-8).sqrt();
    for t in kept {
        advantages[t] = ((f64::from(advantages[t]) - mean) * scale) as f32;
    }
    Ok(())
}
