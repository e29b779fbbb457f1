//! The loss of a value function, for PPO: how well it predicts the returns.

use crate::{
    batch::{check_offsets, masked_lengths},
    denominator::Denominator,
    error::{LossError, expect_config, expect_len},
};

/// The loss of a value function V.
///
/// ```text
/// ℓ_t = ½·max( (V_t − R_t)², (clip(V_t, V_old,t − ε_v, V_old,t + ε_v) − R_t)² )
/// ```
///
/// R are the returns, V_old the values that the advantages were computed with. As the clip of the ratio does for the
/// policy, it keeps one batch from moving the values far: beyond ε_v the gradient is 0 where the clipped value is the worse
/// one.
///
/// Sources: Schulman et al., "Proximal Policy Optimization Algorithms" (arXiv 1707.06347), Eq. 9, for the squared
/// error; the clip is that of OpenAI's baselines, which verl (`cliprange_value`) and TRL (`cliprange_value`) follow.
///
/// ```
/// assert_eq!(dapo_loss::ValueLoss::default().clip, 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValueLoss {
    /// ε_v, in units of the reward; 0: no clip. The default is verl's (TRL: 0.2).
    pub clip: f32,
}

impl Default for ValueLoss {
    fn default() -> Self {
        Self { clip: 0.5 }
    }
}

impl ValueLoss {
    /// Checks the field.
    ///
    /// # Errors
    /// [`LossError::Config`] when it is negative or not finite.
    pub fn validate(&self) -> Result<(), LossError> {
        expect_config(self.clip.is_finite() && self.clip >= 0.0, "value.clip", self.clip, "a finite number >= 0")
    }

    /// Loss and slope of one token, and whether the clip decides.
    fn of(self, value: f32, old: f32, target: f32) -> (f64, f64, bool) {
        let error = f64::from(value) - f64::from(target);
        let plain = 0.5 * error * error;
        if self.clip == 0.0 {
            return (plain, error, false);
        }
        let clipped = value.max(old - self.clip).min(old + self.clip);
        let clipped_error = f64::from(clipped) - f64::from(target);
        let bounded = 0.5 * clipped_error * clipped_error;
        // Within the range both are one number; a clipped value is a constant.
        if bounded > plain { (bounded, 0.0, true) } else { (plain, error, false) }
    }
}

/// What a value function learns from, packed as a [`LossBatch`](crate::LossBatch).
///
/// # Shapes
/// N sequences with T tokens together; sequence i is `cu_seqlens[i]..cu_seqlens[i + 1]`. Values and returns are in units of
/// the reward. Where the mask is 0 they are never looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueBatch<'a> {
    /// N + 1 offsets: 0, the end of every sequence.
    pub cu_seqlens: &'a [usize],
    /// T bytes; 0 leaves a token out. `None`: every token counts.
    pub mask: Option<&'a [u8]>,
    /// V_old, T values.
    pub old_values: &'a [f32],
    /// R, T values: advantages before whitening plus `old_values`.
    pub returns: &'a [f32],
}

/// Sums and counts of a value loss over tokens; parts of a step add with `+=`.
///
/// ```
/// use dapo_loss::ValueMetrics;
/// let (mut a, mut b) = (ValueMetrics::default(), ValueMetrics::default());
/// (a.tokens, a.clipped) = (3, 1);
/// (b.tokens, b.clipped) = (1, 1);
/// a += b;
/// assert_eq!(a.clip_fraction(), 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ValueMetrics {
    /// Tokens in the loss.
    pub tokens: u64,
    /// Tokens whose loss is that of the clipped value.
    pub clipped: u64,
    /// Σ V.
    pub value_sum: f64,
    /// Σ R.
    pub return_sum: f64,
    /// Σ R².
    pub return_squares: f64,
    /// Σ (R − V).
    pub error_sum: f64,
    /// Σ (R − V)².
    pub error_squares: f64,
}

impl std::ops::AddAssign for ValueMetrics {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.clipped += other.clipped;
        self.value_sum += other.value_sum;
        self.return_sum += other.return_sum;
        self.return_squares += other.return_squares;
        self.error_sum += other.error_sum;
        self.error_squares += other.error_squares;
    }
}

impl ValueMetrics {
    fn mean(&self, sum: f64) -> f64 {
        sum / self.tokens.max(1) as f64
    }

    /// Share of tokens whose loss is that of the clipped value (verl: `critic/vf_clipfrac`).
    pub fn clip_fraction(&self) -> f64 {
        self.mean(self.clipped as f64)
    }

    /// Mean value (verl: `critic/vpred_mean`).
    pub fn mean_value(&self) -> f64 {
        self.mean(self.value_sum)
    }

    /// Mean return.
    pub fn mean_return(&self) -> f64 {
        self.mean(self.return_sum)
    }

    /// 1 − Var(R − V) / Var(R): 1 for a perfect value function, 0 for a constant one, negative for one that is worse; 0 where
    /// the returns do not vary.
    pub fn explained_variance(&self) -> f64 {
        let variance = |sum: f64, squares: f64| self.mean(squares) - self.mean(sum).powi(2);
        let of_returns = variance(self.return_sum, self.return_squares);
        // What rounding leaves of equal returns.
        if of_returns <= 1e-12 * self.mean(self.return_squares) {
            return 0.0;
        }
        1.0 - variance(self.error_sum, self.error_squares) / of_returns
    }
}

/// The value loss of a batch or of a part of it, with its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct ValueOutput {
    /// The part's contribution to the loss of the step.
    pub loss: f64,
    /// Sums and counts over the part's tokens.
    pub metrics: ValueMetrics,
}

impl std::ops::AddAssign for ValueOutput {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.metrics += other.metrics;
    }
}

impl ValueOutput {
    /// The number of fields, those of the metrics included.
    pub const FIELDS: usize = 8;

    /// All fields bit for bit, a word each, to send them to another process.
    pub fn to_words(&self) -> [u64; Self::FIELDS] {
        let Self { loss, metrics } = *self;
        let ValueMetrics { tokens, clipped, value_sum, return_sum, return_squares, error_sum, error_squares } = metrics;
        let [loss, value_sum, return_sum, return_squares, error_sum, error_squares] =
            [loss, value_sum, return_sum, return_squares, error_sum, error_squares].map(f64::to_bits);
        [loss, tokens, clipped, value_sum, return_sum, return_squares, error_sum, error_squares]
    }

    /// What [`to_words`](Self::to_words) gave.
    pub fn from_words(words: [u64; Self::FIELDS]) -> Self {
        let [loss, tokens, clipped, value_sum, return_sum, return_squares, error_sum, error_squares] = words;
        let [loss, value_sum, return_sum, return_squares, error_sum, error_squares] =
            [loss, value_sum, return_sum, return_squares, error_sum, error_squares].map(f64::from_bits);
        let metrics = ValueMetrics { tokens, clipped, value_sum, return_sum, return_squares, error_sum, error_squares };
        Self { loss, metrics }
    }
}

/// The value loss and its gradient.
///
/// ```text
/// loss = Σ_i Σ_t m_it · weight(|o_i|) · ℓ_it
/// ```
///
/// The weights are those of the step's [`Denominator`], as for the policy loss: with `TokenMean` the mean over the step's
/// tokens.
///
/// # Shapes
/// `values` has T values; every one of the T values of `gradient` is written, 0 where the mask is 0. Sums are f64, in the
/// order of the tokens.
///
/// # Errors
/// Arrays that disagree in length, more tokens than the denominator's step has, a setting out of range, a value or return
/// that counts and is not finite.
///
/// ```
/// use dapo_loss::{Aggregation, Denominator, EmptySequences, ValueBatch, ValueLoss, value_loss};
/// let denominator = Denominator::of_step(Aggregation::TokenMean, &[2], EmptySequences::Exclude).unwrap();
/// let batch = ValueBatch { cu_seqlens: &[0, 2], mask: None, old_values: &[0.0, 0.0], returns: &[1.0, 1.0] };
/// let mut gradient = [0.0; 2];
/// // The second value has moved past the clip at 0.5 towards its return: only the clipped one counts.
/// let output = value_loss(&ValueLoss::default(), denominator, batch, &[0.25, 0.75], &mut gradient)?;
/// assert_eq!(output.loss, (0.5 * 0.75_f64.powi(2) + 0.5 * 0.5_f64.powi(2)) / 2.0);
/// assert_eq!(gradient, [-0.375, 0.0]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
pub fn value_loss(
    config: &ValueLoss,
    denominator: Denominator,
    batch: ValueBatch<'_>,
    values: &[f32],
    gradient: &mut [f32],
) -> Result<ValueOutput, LossError> {
    const NAME: &str = "value_loss";
    config.validate()?;
    let ValueBatch { cu_seqlens, mask, old_values, returns } = batch;
    let tokens = check_offsets(NAME, cu_seqlens)?;
    let arrays = [("values", values), ("old_values", old_values), ("returns", returns)];
    for (array, given) in arrays {
        expect_len(NAME, array, given.len(), tokens)?;
    }
    expect_len(NAME, "gradient", gradient.len(), tokens)?;
    expect_len(NAME, "mask", mask.map_or(tokens, <[u8]>::len), tokens)?;
    let lengths = masked_lengths(cu_seqlens, mask);
    denominator.expect_within_step(NAME, lengths.iter().map(|&length| length as u64).sum())?;
    let mut output = ValueOutput::default();
    gradient.fill(0.0);
    for (sequence, (ends, length)) in cu_seqlens.windows(2).zip(lengths).enumerate() {
        let weight = denominator.weight(length);
        for token in (ends[0]..ends[1]).filter(|&token| mask.is_none_or(|mask| mask[token] != 0)) {
            for (array, given) in arrays {
                let (value, position) = (given[token], token - ends[0]);
                if !value.is_finite() {
                    return Err(LossError::NonFinite { function: NAME, array, sequence, position, value });
                }
            }
            let (value, target) = (values[token], returns[token]);
            let (loss, slope, clipped) = config.of(value, old_values[token], target);
            output.loss += weight * loss;
            gradient[token] = (weight * slope) as f32;
            let (value, target) = (f64::from(value), f64::from(target));
            let metrics = &mut output.metrics;
            metrics.tokens += 1;
            metrics.clipped += u64::from(clipped);
            metrics.value_sum += value;
            metrics.return_sum += target;
            metrics.return_squares += target * target;
            metrics.error_sum += target - value;
            metrics.error_squares += (target - value) * (target - value);
        }
    }
    Ok(output)
}
