//! What a completion's length costs: DAPO's soft overlong punishment and overlong filtering.

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};

/// L_max of the paper, in tokens.
const MAX_LEN: usize = 20_480;

/// Soft overlong punishment, equation 13 of the DAPO paper.
///
/// With `L` the completion's length in tokens:
///
/// ```text
/// 0                                      L ≤ max_len − cache_len
/// (max_len − cache_len − L) / cache_len  max_len − cache_len < L ≤ max_len
/// −1                                     L > max_len
/// ```
///
/// times `penalty_factor`. With `floor = false` the middle line continues beyond `max_len`, as in verl.
/// The same punishment is also written as `−(L − c) / (max_len − c)` from `c` on, with the cache counted from the other
/// end: `c = max_len − cache_len`.
///
/// # Example
/// ```
/// use dapo_reward::SoftOverlong;
///
/// # fn main() -> Result<(), dapo_reward::RewardError> {
/// let overlong = SoftOverlong::new(20_480, 4_096)?;
/// assert_eq!(overlong.penalty(16_384), 0.0);
/// assert_eq!(overlong.penalty(18_432), -0.5);
/// assert_eq!(overlong.penalty(30_000), -1.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SoftOverlong {
    /// L_max in tokens, the cache included. By default `rollout.max_new_tokens` in a run, and the paper's 20 480 elsewhere.
    pub max_len: Option<usize>,
    /// L_cache in tokens: the punishment grows over the last `cache_len` tokens. By default a fifth of L_max, the paper's
    /// share.
    pub cache_len: Option<usize>,
    /// Multiplies the punishment.
    pub penalty_factor: f64,
    /// Whether the punishment stops at −`penalty_factor` beyond `max_len`.
    pub floor: bool,
}

impl Default for SoftOverlong {
    fn default() -> Self {
        Self { max_len: None, cache_len: None, penalty_factor: 1.0, floor: true }
    }
}

impl SoftOverlong {
    /// The paper's punishment for a given length budget.
    ///
    /// # Errors
    /// When not `0 < cache_len ≤ max_len`.
    pub fn new(max_len: usize, cache_len: usize) -> Result<Self, RewardError> {
        let config = Self { max_len: Some(max_len), cache_len: Some(cache_len), ..Self::default() };
        config.validate()?;
        Ok(config)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// When not `0 < cache_len ≤ max_len`, or `penalty_factor` is negative or not finite.
    pub fn validate(&self) -> Result<(), RewardError> {
        let (max_len, cache_len) = self.lengths();
        if cache_len == 0 || cache_len > max_len {
            return Err(RewardError::config("SoftOverlong", "cache_len", cache_len, "1 to max_len"));
        }
        if !(self.penalty_factor.is_finite() && self.penalty_factor >= 0.0) {
            return Err(RewardError::config(
                "SoftOverlong",
                "penalty_factor",
                self.penalty_factor,
                "finite and at least 0",
            ));
        }
        Ok(())
    }

    /// L_max and L_cache in tokens.
    pub fn lengths(&self) -> (usize, usize) {
        let max_len = self.max_len.unwrap_or(MAX_LEN);
        (max_len, self.cache_len.unwrap_or(max_len.div_ceil(5)))
    }

    /// The punishment for a completion of `num_tokens`, at most 0.
    pub fn penalty(&self, num_tokens: usize) -> f64 {
        let (max_len, cache_len) = self.lengths();
        let free = max_len.saturating_sub(cache_len);
        if num_tokens <= free {
            return 0.0;
        }
        if self.floor && num_tokens > max_len {
            return -self.penalty_factor;
        }
        -((num_tokens - free) as f64 / cache_len.max(1) as f64) * self.penalty_factor
    }
}

impl RewardFn for SoftOverlong {
    fn name(&self) -> &'static str {
        "soft_overlong"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(Score::value(self.penalty(input.num_tokens)))
    }
}

/// A punishment in proportion to the excess over a threshold: `−factor · (L − threshold) / threshold`, without a floor.
///
/// # Example
/// ```
/// use dapo_reward::ProportionalOverlong;
///
/// # fn main() -> Result<(), dapo_reward::RewardError> {
/// let overlong = ProportionalOverlong::new(100)?;
/// assert_eq!(overlong.penalty(100), 0.0);
/// assert_eq!(overlong.penalty(150), -0.25);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProportionalOverlong {
    /// Length in tokens up to which nothing is punished. By default four fifths of `rollout.max_new_tokens` in a run, and
    /// of the paper's 20 480 elsewhere.
    pub threshold: Option<usize>,
    /// Punishment at twice the threshold.
    pub factor: f64,
}

impl Default for ProportionalOverlong {
    fn default() -> Self {
        Self { threshold: None, factor: 0.5 }
    }
}

impl ProportionalOverlong {
    /// The punishment with its usual factor, 0.5.
    ///
    /// # Errors
    /// When `threshold` is 0.
    pub fn new(threshold: usize) -> Result<Self, RewardError> {
        let config = Self { threshold: Some(threshold), ..Self::default() };
        config.validate()?;
        Ok(config)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// When `threshold` is 0, or `factor` is negative or not finite.
    pub fn validate(&self) -> Result<(), RewardError> {
        if self.threshold == Some(0) {
            return Err(RewardError::config("ProportionalOverlong", "threshold", 0, "at least 1"));
        }
        if !(self.factor.is_finite() && self.factor >= 0.0) {
            return Err(RewardError::config("ProportionalOverlong", "factor", self.factor, "finite and at least 0"));
        }
        Ok(())
    }

    /// The punishment for a completion of `num_tokens`, at most 0.
    pub fn penalty(&self, num_tokens: usize) -> f64 {
        let threshold = self.threshold.unwrap_or(MAX_LEN * 4 / 5);
        if num_tokens <= threshold {
            return 0.0;
        }
        -self.factor * ((num_tokens - threshold) as f64 / threshold.max(1) as f64)
    }
}

impl RewardFn for ProportionalOverlong {
    fn name(&self) -> &'static str {
        "proportional_overlong"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(Score::value(self.penalty(input.num_tokens)))
    }
}

/// Overlong filtering: what becomes of truncated completions.
///
/// # Example
/// ```
/// use dapo_reward::OverlongFilter;
///
/// let truncated = [false, true, false];
/// assert_eq!(OverlongFilter::Mask.loss_mask(&truncated), [true, false, true]);
/// assert!(OverlongFilter::Mask.keeps_member(true)); // its reward stays in the baseline
/// assert!(!OverlongFilter::Drop.keeps_member(true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OverlongFilter {
    /// Truncated completions are trained on like any other.
    #[default]
    Off,
    /// They keep their reward and their place in the group; their tokens leave the loss and its denominator.
    Mask,
    /// They leave the group before the baseline is computed.
    Drop,
}

impl OverlongFilter {
    /// Whether a completion's tokens take part in the loss.
    pub fn keeps_tokens(self, truncated: bool) -> bool {
        self == Self::Off || !truncated
    }

    /// Whether a completion's reward takes part in its group's baseline.
    pub fn keeps_member(self, truncated: bool) -> bool {
        self != Self::Drop || !truncated
    }

    /// [`keeps_tokens`](Self::keeps_tokens) of each completion.
    pub fn loss_mask(self, truncated: &[bool]) -> Vec<bool> {
        truncated.iter().map(|&truncated| self.keeps_tokens(truncated)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn punishment_starts_after_the_expected_length_and_stops_at_the_floor() {
        let soft = SoftOverlong::new(100, 20).unwrap();
        let lengths = [0, 79, 80, 81, 90, 100, 101, 10_000];
        let expected = [0.0, 0.0, 0.0, -0.05, -0.5, -1.0, -1.0, -1.0];
        assert_eq!(lengths.map(|length| soft.penalty(length)), expected);
        let unfloored = SoftOverlong { floor: false, penalty_factor: 2.0, ..soft };
        assert_eq!(unfloored.penalty(100), -2.0);
        assert_eq!(unfloored.penalty(120), -4.0);
    }

    #[test]
    fn a_cache_of_nothing_or_beyond_the_maximum_is_refused() {
        assert!(SoftOverlong::new(100, 0).is_err());
        assert!(SoftOverlong::new(100, 101).is_err());
        assert!(SoftOverlong::new(100, 100).is_ok());
        let error = SoftOverlong::new(100, 101).unwrap_err().to_string();
        assert_eq!(error, "SoftOverlong: cache_len is 101, expected 1 to max_len");
        assert!(SoftOverlong { penalty_factor: f64::NAN, ..SoftOverlong::default() }.validate().is_err());
        assert!(ProportionalOverlong::new(0).is_err());
    }

    #[test]
    fn filters_touch_truncated_completions_only() {
        for filter in [OverlongFilter::Off, OverlongFilter::Mask, OverlongFilter::Drop] {
            assert!(filter.keeps_tokens(false) && filter.keeps_member(false));
        }
        assert!(OverlongFilter::Off.keeps_tokens(true) && OverlongFilter::Off.keeps_member(true));
        assert!(!OverlongFilter::Drop.keeps_tokens(true));
    }

    proptest! {
        #[test]
        fn punishment_never_rises_with_length(max in 1usize..5000, cache in 1usize..5000, a in 0usize..9000, b in 0usize..9000, floor: bool) {
            prop_assume!(cache <= max);
            let soft = SoftOverlong { max_len: Some(max), cache_len: Some(cache), penalty_factor: 1.0, floor };
            prop_assert!(soft.penalty(a.min(b)) >= soft.penalty(a.max(b)));
            prop_assert!(!floor || soft.penalty(a) >= -1.0);
        }
    }
}
