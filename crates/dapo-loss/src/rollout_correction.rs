//! Correcting for a rollout engine that is not quite the behaviour policy: weights, masks, rejection.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]
#![expect(clippy::needless_bitwise_bool, reason = "without branches, loops over these vectorise")]

use crate::{
    batch::LossBatch,
    error::{LossError, expect_config, expect_given},
    named::named,
    token::{importance_weight, masked_importance_weight},
};

/// Whether a correction weight belongs to a token or to a whole sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ImportanceLevel {
    /// One weight per token: its own ratio.
    #[default]
    Token,
    /// One weight per sequence: the product of its tokens' ratios.
    Sequence,
    /// No weights, where sequences are only rejected.
    Off,
}

/// What happens to a ratio outside its band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Outside {
    /// The weight is the nearest bound.
    #[default]
    Truncate,
    /// The weight is 0.
    Mask,
}

/// The ratio by which a whole sequence is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum RejectBy {
    /// The product of its tokens' ratios.
    #[default]
    Product,
    /// The geometric mean of its tokens' ratios, which does not depend on the length.
    GeometricMean,
}

named!(ImportanceLevel, "importance level", "token" => Self::Token, "sequence" => Self::Sequence, "off" => Self::Off);
named!(Outside, "treatment of ratios outside the band", "truncate" => Self::Truncate, "mask" => Self::Mask);
named!(RejectBy, "rejection ratio", "product" => Self::Product, "geometric-mean" => Self::GeometricMean);

/// Sequences that leave the loss because their rollout is too far from the behaviour policy.
///
/// ```text
/// product:        r_i = exp( Σ_t m_it·(old_it − rollout_it) )
/// geometric-mean: r_i = exp( Σ_t m_it·(old_it − rollout_it) / |o_i| )
/// rejected where r_i < low or r_i > high
/// ```
///
/// Source: verl's `rollout_rs` (`seq_sum_k1` and `seq_mean_k1`, whose bounds are those of 1/r).
///
/// ```
/// use dapo_loss::{RejectBy, Rejection};
/// assert_eq!(Rejection::default().band(), (0.5, 2.0));
/// let by_mean = Rejection { by: RejectBy::GeometricMean, high: Some(1.01), ..Rejection::default() };
/// assert_eq!(by_mean.band(), (0.999, 1.01));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", schemars(extend("x-name" = "by")))]
pub struct Rejection {
    /// The ratio that is judged: the `product` of the tokens' ratios, or their `geometric-mean`.
    pub by: RejectBy,
    /// The smallest ratio that is kept; by default 0.5 for the product, 0.999 for the geometric mean.
    pub low: Option<f32>,
    /// The largest ratio that is kept; by default 2 for the product, 1.001 for the geometric mean.
    pub high: Option<f32>,
}

impl Rejection {
    /// The smallest and the largest ratio that is kept.
    pub fn band(self) -> (f32, f32) {
        let (low, high) = match self.by {
            RejectBy::Product => (0.5, 2.0),
            RejectBy::GeometricMean => (0.999, 1.001),
        };
        (self.low.unwrap_or(low), self.high.unwrap_or(high))
    }

    /// Whether a sequence of `tokens` tokens with this sum of log-ratios leaves the loss. A sum that is not finite does
    /// not decide: the loss names its token.
    fn rejects(self, sum: f64, tokens: usize) -> bool {
        let (low, high) = self.band();
        let log_ratio = match self.by {
            RejectBy::Product => sum,
            RejectBy::GeometricMean => sum / tokens.max(1) as f64,
        };
        log_ratio.is_finite() && (log_ratio < f64::from(low).ln() || log_ratio > f64::from(high).ln())
    }
}

/// Corrects the policy loss for a rollout engine whose log-probabilities differ from those of the behaviour policy.
///
/// ```text
/// r_it = exp(old_it − rollout_it)                          level = token
/// r_it = exp(Σ_u m_iu·(old_iu − rollout_iu))               level = sequence
///
/// w_it = min(max(r_it, low), high)                         outside = truncate
/// w_it = r_it where low ≤ r_it ≤ high, 0 elsewhere         outside = mask
/// ```
///
/// The weight is a constant: no gradient flows through it. It multiplies the policy loss only, not the KL term or the
/// entropy bonus. A token of weight 0 stays in the [`Denominator`](crate::Denominator), as in TRL. A sequence that
/// [`reject`](Self::reject) takes out leaves the loss with all its terms, and the denominator, as in verl: see
/// [`LossConfig::lengths`](crate::LossConfig::lengths). Exponents of weights are clamped to ±20.
///
/// | published as | here |
/// |---|---|
/// | truncated importance sampling | `high = 2` |
/// | IcePop (Ring-1T, arXiv 2510.18855) | `outside = mask`, `low = 0.5`, `high = 5` |
/// | masked importance sampling (TRL's `sequence_mask`) | `level = sequence`, `outside = mask`, `high = 3` |
/// | verl's Geo-RS with token weights | `level = token`, `reject = geometric-mean` |
///
/// With the feature `serde` it is read from the name of its level, `"sequence"`, or from a table; `reject` is one of
/// [`RejectBy`]'s names or a table, too.
///
/// Sources: Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"; verl's `rollout_is`
/// and `rollout_rs`; TRL's `vllm_importance_sampling_mode`.
///
/// ```
/// use dapo_loss::{Outside, RolloutCorrection};
/// let truncated = RolloutCorrection::default();
/// assert_eq!((truncated.weight(0.1), truncated.weight(3.0)), (0.1, 2.0));
/// let ice_pop = RolloutCorrection { outside: Outside::Mask, low: 0.5, high: 5.0, ..truncated };
/// assert_eq!((ice_pop.weight(0.1), ice_pop.weight(3.0), ice_pop.weight(6.0)), (0.0, 3.0, 0.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", schemars(extend("x-name" = "level")))]
pub struct RolloutCorrection {
    /// One weight per `token`, one per `sequence`, or `off`: none, only `reject`.
    pub level: ImportanceLevel,
    /// What becomes of a ratio outside `low` to `high`: `truncate` to the nearest bound, or `mask` to weight 0.
    pub outside: Outside,
    /// The smallest ratio of the band; 0 is no lower bound.
    pub low: f32,
    /// The largest ratio of the band.
    pub high: f32,
    /// Which sequences leave the loss.
    pub reject: Option<Rejection>,
}

impl Default for RolloutCorrection {
    fn default() -> Self {
        Self { level: ImportanceLevel::Token, outside: Outside::Truncate, low: 0.0, high: 2.0, reject: None }
    }
}

/// What a correction does to one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SequenceCorrection {
    /// Whether the sequence leaves the loss.
    pub is_rejected: bool,
    /// Tokens without a policy loss: those of weight 0, or all of a sequence that leaves the loss.
    pub masked_tokens: usize,
}

impl RolloutCorrection {
    /// The weight of a ratio of the behaviour policy to the rollout engine.
    #[inline(always)]
    pub fn weight(self, ratio: f32) -> f32 {
        match self.outside {
            Outside::Truncate => importance_weight(ratio, self.low, self.high),
            Outside::Mask => masked_importance_weight(ratio, self.low, self.high),
        }
    }

    /// Whether the weight of a ratio is a bound, or 0, in its place.
    #[inline(always)]
    pub(crate) fn is_changed(self, ratio: f32) -> bool {
        match self.outside {
            Outside::Truncate => (ratio <= self.low) | (ratio >= self.high),
            Outside::Mask => (ratio < self.low) | (ratio > self.high),
        }
    }

    /// Whether tokens are weighted.
    pub const fn has_weights(self) -> bool {
        !matches!(self.level, ImportanceLevel::Off)
    }

    /// What the correction does to a sequence all of whose tokens count.
    ///
    /// # Shapes
    /// Log-probabilities of the sequence's tokens under the behaviour policy, and as the rollout engine reported them.
    /// They are in nats; where one array is longer, the tokens that both have count.
    ///
    /// ```
    /// use dapo_loss::{Rejection, RolloutCorrection};
    /// let correction = RolloutCorrection { reject: Some(Rejection::default()), ..RolloutCorrection::default() };
    /// let of = |old: &[f32]| correction.of_sequence(old, &[-1.0, -1.0]);
    /// assert!(!of(&[-1.5, -0.5]).is_rejected); // e^0
    /// assert!(of(&[-1.5, -1.5]).is_rejected); // e^-1 is below 1/2
    /// ```
    pub fn of_sequence(&self, old_logprobs: &[f32], rollout_logprobs: &[f32]) -> SequenceCorrection {
        let differences = || old_logprobs.iter().zip(rollout_logprobs).map(|(old, rollout)| (*old, *rollout));
        let (sum, tokens) = sum_of(differences());
        if self.reject.is_some_and(|reject| reject.rejects(sum, tokens)) {
            return SequenceCorrection { is_rejected: true, masked_tokens: tokens };
        }
        let masked = |ratio: f32| self.outside == Outside::Mask && self.is_changed(ratio);
        let masked_tokens = match self.level {
            ImportanceLevel::Token => {
                differences().filter(|&(old, rollout)| masked(crate::token::ratio(old, rollout))).count()
            }
            ImportanceLevel::Sequence if masked(sequence_ratio(sum)) => tokens,
            _ => 0,
        };
        SequenceCorrection { is_rejected: false, masked_tokens }
    }

    /// The token mask without the sequences that are rejected; `None` where nothing rejects.
    ///
    /// # Errors
    /// [`LossError::Missing`] without the log-probabilities of the rollout.
    pub(crate) fn kept_mask(self, function: &'static str, batch: &LossBatch<'_>) -> Result<Option<Vec<u8>>, LossError> {
        let Some(reject) = self.reject else {
            return Ok(None);
        };
        let Some(rollout) = batch.rollout_logprobs else {
            expect_given(function, "rollout_logprobs", "rollout_correction", true, false)?;
            return Ok(None);
        };
        let mut mask = batch.mask.map_or_else(|| vec![1; batch.tokens()], <[u8]>::to_vec);
        for sequence in 0..batch.sequences() {
            let (sum, tokens) = sum_of(batch.kept_tokens(sequence).map(|t| (batch.old_logprobs[t], rollout[t])));
            if tokens > 0 && reject.rejects(sum, tokens) {
                mask[batch.cu_seqlens[sequence]..batch.cu_seqlens[sequence + 1]].fill(0);
            }
        }
        Ok(Some(mask))
    }

    pub(crate) fn validate(self) -> Result<(), LossError> {
        let band = |low: f32, high: f32, names: [&'static str; 2]| {
            expect_config(low.is_finite() && low >= 0.0, names[0], low, "a finite number >= 0")?;
            expect_config(high > 0.0, names[1], high, "a number > 0")?;
            expect_config(high >= low, names[1], high, "at least the lower bound")
        };
        band(self.low, self.high, ["rollout_correction.low", "rollout_correction.high"])?;
        self.reject.map_or(Ok(()), |reject| {
            let (low, high) = reject.band();
            band(low, high, ["rollout_correction.reject.low", "rollout_correction.reject.high"])
        })
    }
}

/// Σ (old − rollout) in f64, and the number of terms.
fn sum_of(differences: impl Iterator<Item = (f32, f32)>) -> (f64, usize) {
    differences.fold((0.0, 0), |(sum, n), (old, rollout)| (sum + (f64::from(old) - f64::from(rollout)), n + 1))
}

/// The ratio of a sequence from its sum of log-ratios, clamped to ±20.
fn sequence_ratio(sum: f64) -> f32 {
    let limit = f64::from(crate::token::MAX_LOG_RATIO);
    sum.clamp(-limit, limit).exp() as f32
}

/// exp(Σ (old − rollout)) of every sequence, before any bound.
pub(crate) fn sequence_importance(batch: &LossBatch<'_>) -> Vec<f32> {
    let Some(rollout) = batch.rollout_logprobs else {
        return Vec::new();
    };
    let sum = |sequence| sum_of(batch.kept_tokens(sequence).map(|t| (batch.old_logprobs[t], rollout[t]))).0;
    (0..batch.sequences()).map(|sequence| sequence_ratio(sum(sequence))).collect()
}
