//! Group-relative advantages: what a completion's reward is worth next to its siblings'.

use std::{fmt, str::FromStr};

use crate::error::{LossError, expect_config, expect_len, lookup};

/// What a reward is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Baseline {
    /// The mean of the group, itself included (GRPO, DAPO).
    #[default]
    Mean,
    /// The mean of the others (RLOO).
    LeaveOneOut,
}

/// Which standard deviation divides the centred rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum AdvantageScale {
    /// That of the group (GRPO, DAPO).
    #[default]
    Group,
    /// That of all rewards of the batch.
    Batch,
    /// None (Dr. GRPO).
    None,
}

/// How a standard deviation is estimated from n rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum StdEstimator {
    /// Divide by n − 1 (verl, TRL, ms-swift, OpenRLHF).
    #[default]
    Sample,
    /// Divide by n.
    Population,
}

macro_rules! named {
    ($type:ty, $kind:literal, $($name:literal => $value:expr),+) => {
        impl FromStr for $type {
            type Err = LossError;

            fn from_str(name: &str) -> Result<Self, LossError> {
                lookup($kind, name, &[$(($name, $value)),+])
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if *self == $value { return f.write_str($name); })+
                Ok(())
            }
        }
    };
}

named!(Baseline, "baseline", "mean" => Self::Mean, "leave-one-out" => Self::LeaveOneOut);
named!(AdvantageScale, "advantage scale", "group" => Self::Group, "batch" => Self::Batch, "none" => Self::None);
named!(StdEstimator, "std estimator", "sample" => Self::Sample, "population" => Self::Population);

/// How rewards become advantages; the default is DAPO's as verl computes it.
///
/// ```text
/// A_i = (R_i − baseline_i) / (std + eps)        scale Group or Batch
/// A_i =  R_i − baseline_i                       scale None
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct AdvantageNorm {
    /// What a reward is compared with.
    pub baseline: Baseline,
    /// Which standard deviation divides.
    pub scale: AdvantageScale,
    /// How that standard deviation is estimated.
    pub std: StdEstimator,
    /// Added to the standard deviation, in units of the reward; 1e-6 as in verl (TRL: 1e-4).
    pub eps: f64,
}

impl Default for AdvantageNorm {
    fn default() -> Self {
        Self {
            baseline: Baseline::default(),
            scale: AdvantageScale::default(),
            std: StdEstimator::default(),
            eps: 1e-6,
        }
    }
}

impl AdvantageNorm {
    /// Checks every field.
    ///
    /// # Errors
    /// [`LossError::Config`] when `eps` is negative or not finite.
    pub fn validate(&self) -> Result<(), LossError> {
        expect_config(self.eps.is_finite() && self.eps >= 0.0, "advantage.eps", self.eps, "a finite number >= 0")
    }
}

/// The advantages of one group of completions of the same prompt.
///
/// ```text
/// A_i = (R_i − mean(R)) / (std(R) + eps)
/// ```
///
/// # Shapes
/// G rewards in, G advantages out. A `None` reward abstained: it is no part of mean or std, and its advantage is `None`.
/// Computed in f64, stored in f32; dimensionless under a std, in units of the reward without. Identical rewards give
/// exactly 0. Under [`AdvantageScale::Batch`] the group is the batch; see [`batch_advantages`].
///
/// # Errors
/// [`LossError::GroupTooSmall`] when fewer than two rewards did not abstain (such a group has no baseline: drop it),
/// [`LossError::Reward`] for a reward that is not finite, [`LossError::Config`] for a bad `norm`.
///
/// ```
/// use dapo_loss::{AdvantageNorm, group_advantages};
/// let rewards = [Some(1.0), Some(-1.0), None, Some(1.0), Some(-1.0)];
/// let advantages = group_advantages(&rewards, &AdvantageNorm::default())?;
/// // std = sqrt(4/3)
/// assert!((advantages[0].unwrap() - 0.75_f32.sqrt()).abs() < 1e-5);
/// assert_eq!(advantages[2], None);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Source: DAPO Eq. 9; leave-one-out: RLOO (arXiv 2402.14740); without std: Dr. GRPO (arXiv 2503.20783).
pub fn group_advantages(rewards: &[Option<f64>], norm: &AdvantageNorm) -> Result<Vec<Option<f32>>, LossError> {
    batch_advantages(rewards, &[rewards.len()], norm)
}

/// The advantages of a batch of groups, whose sizes may vary.
///
/// As [`group_advantages`], group by group; under [`AdvantageScale::Batch`] the standard deviation is that of all
/// rewards of the batch, while each baseline stays its group's.
///
/// # Shapes
/// `rewards` holds the groups end to end, `group_sizes` sums to its length; one advantage a reward comes out.
///
/// # Errors
/// As [`group_advantages`], and [`LossError::Length`] when the sizes do not sum to the number of rewards.
///
/// ```
/// use dapo_loss::{AdvantageNorm, AdvantageScale, batch_advantages};
/// let norm = AdvantageNorm { scale: AdvantageScale::Batch, eps: 0.0, ..AdvantageNorm::default() };
/// let rewards = [0.0, 2.0, 1.0, 1.0, 1.0].map(Some);
/// let advantages = batch_advantages(&rewards, &[2, 3], &norm)?;
/// // The batch's std is sqrt(0.5); the second group's rewards are identical.
/// assert!((advantages[1].unwrap() - 2.0_f32.sqrt()).abs() < 1e-6);
/// assert_eq!(advantages[2..], [Some(0.0); 3]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Sources: REINFORCE++ (arXiv 2501.03262) and TRL's `scale_rewards="batch"`.
pub fn batch_advantages(
    rewards: &[Option<f64>],
    group_sizes: &[usize],
    norm: &AdvantageNorm,
) -> Result<Vec<Option<f32>>, LossError> {
    norm.validate()?;
    expect_len("batch_advantages", "rewards", rewards.len(), group_sizes.iter().sum())?;
    if let Some((index, value)) =
        rewards.iter().enumerate().find_map(|(i, r)| r.filter(|r| !r.is_finite()).map(|r| (i, r)))
    {
        return Err(LossError::Reward { index, value });
    }
    let batch_std = std_of(rewards, norm.std);
    let mut advantages = Vec::with_capacity(rewards.len());
    let mut rest = rewards;
    for &size in group_sizes {
        let (group, others) = rest.split_at(size);
        let divisor = match norm.scale {
            AdvantageScale::Group => std_of(group, norm.std) + norm.eps,
            AdvantageScale::Batch => batch_std + norm.eps,
            AdvantageScale::None => 1.0,
        };
        push_group(&mut advantages, group, norm.baseline, divisor)?;
        rest = others;
    }
    Ok(advantages)
}

/// Appends one group's advantages: centred rewards over `divisor`.
fn push_group(
    advantages: &mut Vec<Option<f32>>,
    group: &[Option<f64>],
    baseline: Baseline,
    divisor: f64,
) -> Result<(), LossError> {
    let start = advantages.len();
    let (n, origin, mean) = moments(group);
    if n < 2 {
        return Err(LossError::GroupTooSmall { rewards: n });
    }
    let factor = match baseline {
        Baseline::Mean => 1.0,
        // R − mean of the others = n/(n−1) · (R − mean of all).
        Baseline::LeaveOneOut => n as f64 / (n - 1) as f64,
    };
    for (index, &reward) in group.iter().enumerate() {
        let Some(reward) = reward else {
            advantages.push(None);
            continue;
        };
        let centred = factor * ((reward - origin) - mean);
        let advantage = if centred == 0.0 { 0.0 } else { (centred / divisor) as f32 };
        if !advantage.is_finite() {
            return Err(LossError::Reward { index: start + index, value: reward });
        }
        advantages.push(Some(advantage));
    }
    Ok(())
}

/// Number of rewards, the first one, and the mean of the differences to it, which is exactly 0 for identical rewards.
fn moments(rewards: &[Option<f64>]) -> (usize, f64, f64) {
    let origin = rewards.iter().flatten().next().copied().unwrap_or(0.0);
    let n = rewards.iter().flatten().count();
    let sum: f64 = rewards.iter().flatten().map(|reward| reward - origin).sum();
    (n, origin, sum / (n.max(1)) as f64)
}

fn std_of(rewards: &[Option<f64>], estimator: StdEstimator) -> f64 {
    let (n, origin, mean) = moments(rewards);
    let squares: f64 = rewards.iter().flatten().map(|reward| ((reward - origin) - mean).powi(2)).sum();
    let degrees = match estimator {
        StdEstimator::Sample => n.saturating_sub(1),
        StdEstimator::Population => n,
    };
    (squares / degrees.max(1) as f64).sqrt()
}
