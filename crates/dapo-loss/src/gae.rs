//! Generalised advantage estimation: token-level advantages from a value function, for PPO.

use crate::error::{LossError, expect_config, expect_len};

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
    discounts.validate()?;
    expect_len("gae", "values", values.len(), rewards.len())?;
    expect_len("gae", "advantages", advantages.len(), rewards.len())?;
    let non_finite = |array, position, value: f32| {
        if value.is_finite() {
            Ok(())
        } else {
            Err(LossError::NonFinite { function: "gae", array, sequence: 0, position, value })
        }
    };
    for (position, (&reward, &value)) in rewards.iter().zip(values).enumerate() {
        non_finite("rewards", position, reward)?;
        non_finite("values", position, value)?;
    }
    non_finite("bootstrap", rewards.len(), bootstrap)?;
    let mut next_value = f64::from(bootstrap);
    let mut next_advantage = 0.0;
    for t in (0..rewards.len()).rev() {
        let value = f64::from(values[t]);
        let delta = f64::from(rewards[t]) + discounts.gamma * next_value - value;
        next_advantage = delta + discounts.gamma * discounts.lambda * next_advantage;
        next_value = value;
        advantages[t] = next_advantage as f32;
    }
    Ok(())
}
