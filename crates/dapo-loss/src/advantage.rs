//! Group-relative advantages: a completion's reward compared with those of its group.

use crate::{
    batch::check_offsets,
    error::{LossError, expect_config, expect_len},
    named::named,
};

/// What a reward is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum AdvantageScale {
    /// The standard deviation of the group (GRPO, DAPO).
    #[default]
    Group,
    /// That of all rewards of the batch, before they are centred (TRL).
    Batch,
    /// That of all centred rewards of the batch, which whitens them (REINFORCE++-baseline).
    Whiten,
    /// None (Dr. GRPO).
    None,
}

/// How a standard deviation is estimated from n rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StdEstimator {
    /// Divide by n − 1 (verl, TRL, ms-swift, OpenRLHF).
    #[default]
    Sample,
    /// Divide by n.
    Population,
}

named!(Baseline, "baseline", "mean" => Self::Mean, "leave-one-out" => Self::LeaveOneOut);
named!(AdvantageScale, "advantage scale", "group" => Self::Group, "batch" => Self::Batch,
    "whiten" => Self::Whiten, "none" => Self::None);
named!(StdEstimator, "std estimator", "sample" => Self::Sample, "population" => Self::Population);

/// How rewards become advantages; the default is DAPO's as verl computes it.
///
/// ```text
/// A_i = (R_i − baseline_i) / (std + eps)        scale Group, Batch or Whiten
/// A_i =  R_i − baseline_i                       scale None
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdvantageNorm {
    /// The baseline that is subtracted from a reward.
    pub baseline: Baseline,
    /// The standard deviation that the centred rewards are divided by.
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
        expect_config(self.eps.is_finite() && self.eps >= 0.0, "eps", self.eps, "a finite number >= 0")
    }
}

/// The advantages of a batch, aligned with its rewards, and which completions are members of their group.
///
/// A completion whose reward abstained is no member: it is no part of mean or std, its value is 0, and its tokens are
/// to be left out of the loss, or they would count in the denominator. [`member_mask`](Self::member_mask) does so.
///
/// ```
/// use dapo_loss::{AdvantageNorm, Advantages, LossBatch, group_advantages};
/// let advantages = group_advantages(&[Some(1.0), None, Some(-1.0)], &AdvantageNorm::default())?;
/// assert_eq!(advantages.members(), [true, false, true]);
/// assert_eq!((advantages.values()[1], advantages.get(1)), (0.0, None));
///
/// let cu_seqlens = [0, 1, 3, 4];
/// let mask = advantages.member_mask(&cu_seqlens, None)?;
/// assert_eq!(mask, [1, 0, 0, 1]);
/// let batch = LossBatch::new(&cu_seqlens, Advantages::PerSequence(advantages.values()), &[-1.0; 4]).with_mask(&mask);
/// # let _ = batch;
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupAdvantages {
    values: Vec<f32>,
    members: Vec<bool>,
}

impl GroupAdvantages {
    /// One advantage for every reward, in the same order; 0 for one that abstained.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// For every reward whether it has a place in its group, that is, did not abstain.
    pub fn members(&self) -> &[bool] {
        &self.members
    }

    /// The advantage of one completion; `None` if it is no member of its group.
    pub fn get(&self, completion: usize) -> Option<f32> {
        self.members.get(completion)?.then(|| self.values[completion])
    }

    /// The advantages as options: `None` for completions that are no members of their group.
    pub fn to_options(&self) -> Vec<Option<f32>> {
        (0..self.values.len()).map(|completion| self.get(completion)).collect()
    }

    /// The token mask of a batch of these completions: `mask`, or every token, without those of completions that are no
    /// members.
    ///
    /// # Shapes
    /// One offset more than completions, T mask bytes in and out.
    ///
    /// # Errors
    /// Lengths that disagree, offsets that do not start at 0 or decrease.
    pub fn member_mask(&self, cu_seqlens: &[usize], mask: Option<&[u8]>) -> Result<Vec<u8>, LossError> {
        const NAME: &str = "member_mask";
        let tokens = check_offsets(NAME, cu_seqlens)?;
        expect_len(NAME, "cu_seqlens", cu_seqlens.len(), self.members.len() + 1)?;
        expect_len(NAME, "mask", mask.map_or(tokens, <[u8]>::len), tokens)?;
        let mut members = mask.map_or_else(|| vec![1; tokens], <[u8]>::to_vec);
        for (ends, _) in cu_seqlens.windows(2).zip(&self.members).filter(|(_, member)| !**member) {
            members[ends[0]..ends[1]].fill(0);
        }
        Ok(members)
    }

    fn push(&mut self, advantage: Option<f32>) {
        self.values.push(advantage.unwrap_or(0.0));
        self.members.push(advantage.is_some());
    }
}

/// The advantages of one group of completions of the same prompt.
///
/// ```text
/// A_i = (R_i − mean(R)) / (std(R) + eps)
/// ```
///
/// # Shapes
/// G rewards in, G advantages out, in the same order. Rewards are `f64`, or `Option<f64>` where some may abstain: `None`
/// is no part of mean or std (see [`GroupAdvantages`]). Computed in f64, stored in f32; dimensionless under a std, in
/// units of the reward without. Identical rewards give exactly 0. Under [`AdvantageScale::Batch`] and
/// [`AdvantageScale::Whiten`] the group is the batch; see [`batch_advantages`].
///
/// # Errors
/// [`LossError::GroupTooSmall`] when fewer than two rewards did not abstain (such a group has no baseline: drop it),
/// [`LossError::Reward`] for a reward that is not finite, [`LossError::Config`] for a bad `norm`.
///
/// ```
/// use dapo_loss::{AdvantageNorm, group_advantages};
/// let advantages = group_advantages(&[1.0, -1.0, 1.0, -1.0], &AdvantageNorm::default())?;
/// // std = sqrt(4/3)
/// assert!((advantages.values()[0] - 0.75_f32.sqrt()).abs() < 1e-5);
///
/// let rewards = [Some(1.0), Some(-1.0), None, Some(1.0), Some(-1.0)];
/// let abstained = group_advantages(&rewards, &AdvantageNorm::default())?;
/// assert_eq!((abstained.get(0), abstained.get(2)), (advantages.get(0), None));
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Source: DAPO Eq. 9; leave-one-out: RLOO (arXiv 2402.14740); without std: Dr. GRPO (arXiv 2503.20783).
pub fn group_advantages<R: Copy + Into<Option<f64>>>(
    rewards: &[R],
    norm: &AdvantageNorm,
) -> Result<GroupAdvantages, LossError> {
    batch_advantages(rewards, &[rewards.len()], norm)
}

/// The advantages of a batch of groups, whose sizes may vary.
///
/// As [`group_advantages`], group by group. Each baseline stays its group's; the standard deviation is
///
/// ```text
/// Batch    std( R )             of all rewards of the batch, as they are
/// Whiten   std( R − baseline )  of all centred rewards of the batch; their mean is 0
/// ```
///
/// # Shapes
/// `rewards` holds the groups end to end, `group_sizes` sums to its length; one advantage per reward comes out.
///
/// # Errors
/// As [`group_advantages`], naming the group by its index; [`LossError::Length`] when the sizes do not sum to the number
/// of rewards.
///
/// ```
/// use dapo_loss::{AdvantageNorm, AdvantageScale, batch_advantages};
/// let norm = AdvantageNorm { scale: AdvantageScale::Batch, eps: 0.0, ..AdvantageNorm::default() };
/// let advantages = batch_advantages(&[0.0, 2.0, 1.0, 1.0, 1.0], &[2, 3], &norm)?;
/// // The batch's std is sqrt(0.5); the second group's rewards are identical.
/// assert!((advantages.values()[1] - 2.0_f32.sqrt()).abs() < 1e-6);
/// assert_eq!(advantages.values()[2..], [0.0; 3]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// ```
/// use dapo_loss::{AdvantageNorm, AdvantageScale, batch_advantages};
/// let of = |scale| {
///     let norm = AdvantageNorm { scale, ..AdvantageNorm::default() };
///     batch_advantages(&[0.0, 1.0, 10.0, 11.0], &[2, 2], &norm).unwrap().values()[1]
/// };
/// // What separates the groups is no part of the whitened scale.
/// assert!((of(AdvantageScale::Batch) - 0.086).abs() < 1e-3);
/// assert!((of(AdvantageScale::Whiten) - 0.866).abs() < 1e-3);
/// ```
///
/// Sources: TRL's `scale_rewards="batch"` for `Batch`; REINFORCE++-baseline (arXiv 2501.03262) for `Whiten`.
pub fn batch_advantages<R: Copy + Into<Option<f64>>>(
    rewards: &[R],
    group_sizes: &[usize],
    norm: &AdvantageNorm,
) -> Result<GroupAdvantages, LossError> {
    norm.validate()?;
    expect_len("batch_advantages", "rewards", rewards.len(), group_sizes.iter().sum())?;
    let rewards: Vec<Option<f64>> = rewards.iter().map(|&reward| reward.into()).collect();
    let groups = || {
        let mut rest = rewards.as_slice();
        group_sizes.iter().enumerate().map(move |(group, &size)| {
            let (rewards, others) = rest.split_at(size);
            rest = others;
            (group, rewards)
        })
    };
    for (group, rewards) in groups() {
        for (index, &reward) in rewards.iter().enumerate() {
            if let Some(value) = reward.filter(|reward| !reward.is_finite()) {
                return Err(LossError::Reward { group, index, value });
            }
        }
    }
    let centred: Vec<Vec<Option<f64>>> =
        groups().map(|(group, rewards)| centre(group, rewards, norm.baseline)).collect::<Result<_, _>>()?;
    let batch_std = match norm.scale {
        AdvantageScale::Batch => std_of(&rewards, norm.std),
        AdvantageScale::Whiten => std_of(&centred.concat(), norm.std),
        AdvantageScale::Group | AdvantageScale::None => 0.0,
    };
    let mut advantages = GroupAdvantages::default();
    for ((group, rewards), centred) in groups().zip(&centred) {
        let divisor = match norm.scale {
            AdvantageScale::Group => std_of(rewards, norm.std) + norm.eps,
            AdvantageScale::Batch | AdvantageScale::Whiten => batch_std + norm.eps,
            AdvantageScale::None => 1.0,
        };
        for (index, (centred, reward)) in centred.iter().zip(rewards).enumerate() {
            let advantage = centred.map(|centred| if centred == 0.0 { 0.0 } else { (centred / divisor) as f32 });
            if let (Some(value), Some(_)) = (reward, advantage.filter(|advantage| !advantage.is_finite())) {
                return Err(LossError::Reward { group, index, value: *value });
            }
            advantages.push(advantage);
        }
    }
    Ok(advantages)
}

/// One group's rewards without their baseline.
fn centre(group: usize, rewards: &[Option<f64>], baseline: Baseline) -> Result<Vec<Option<f64>>, LossError> {
    let (n, origin, mean) = moments(rewards);
    if n < 2 {
        return Err(LossError::GroupTooSmall { group, rewards: n });
    }
    let factor = match baseline {
        Baseline::Mean => 1.0,
        // R − mean of the others = n/(n−1) · (R − mean of all).
        Baseline::LeaveOneOut => n as f64 / (n - 1) as f64,
    };
    Ok(rewards.iter().map(|reward| reward.map(|value| factor * ((value - origin) - mean))).collect())
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
