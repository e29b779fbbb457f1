//! What a step's token losses are divided by, and the counts that decide it.

use crate::{aggregation::Aggregation, error::LossError};

/// Whether a sequence without a single token left counts in N, the number of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EmptySequences {
    /// It does not (verl).
    #[default]
    Exclude,
    /// It does (TRL).
    Count,
}

/// What a step's denominator is made of; counts of ranks and micro-batches add.
///
/// ```
/// use dapo_loss::StepCounts;
/// let rank0 = StepCounts::of_lengths(&[3, 0]);
/// let rank1 = StepCounts::new(5, 1, 0)?; // received from another process
/// let step = rank0 + rank1;
/// assert_eq!((step.tokens(), step.sequences(), step.empty_sequences()), (8, 3, 1));
/// assert!(StepCounts::new(5, 1, 2).is_err());
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepCounts {
    tokens: u64,
    sequences: u64,
    empty_sequences: u64,
}

impl StepCounts {
    /// Counts that another process or file gives: tokens in the loss, all sequences, and those without such a token.
    ///
    /// # Errors
    /// [`LossError::StepCounts`] for numbers that no step can have: more empty sequences than sequences, or sequences
    /// that are not empty and yet more than tokens, or tokens without a sequence.
    pub fn new(tokens: u64, sequences: u64, empty_sequences: u64) -> Result<Self, LossError> {
        let possible = sequences.checked_sub(empty_sequences).is_some_and(|with_tokens| match with_tokens {
            0 => tokens == 0,
            with_tokens => tokens >= with_tokens,
        });
        if possible {
            Ok(Self { tokens, sequences, empty_sequences })
        } else {
            Err(LossError::StepCounts { tokens, sequences, empty_sequences })
        }
    }

    /// Counts sequences of these lengths, in tokens left by the mask.
    pub fn of_lengths(lengths: &[usize]) -> Self {
        Self {
            tokens: lengths.iter().map(|&length| length as u64).sum(),
            sequences: lengths.len() as u64,
            empty_sequences: lengths.iter().filter(|&&length| length == 0).count() as u64,
        }
    }

    /// Tokens in the loss.
    pub const fn tokens(self) -> u64 {
        self.tokens
    }

    /// Sequences, empty ones included.
    pub const fn sequences(self) -> u64 {
        self.sequences
    }

    /// Sequences without a token in the loss.
    pub const fn empty_sequences(self) -> u64 {
        self.empty_sequences
    }
}

impl std::ops::Add for StepCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            sequences: self.sequences + other.sequences,
            empty_sequences: self.empty_sequences + other.empty_sequences,
        }
    }
}

/// What the token losses of one optimiser step are divided by.
///
/// It is a property of the step, not of a micro-batch: computed once over all micro-batches and ranks before the first
/// backward pass, it makes the sum of the micro-batches' losses the loss of the step, however the step was split.
///
/// ```text
/// loss = Σ_i Σ_t ℓ_it·m_it · weight(|o_i|)
///
/// weight(|o|) = 1/Σ_i|o_i|   1/(N·|o|)          1/N              1/(N·max_len)
///               TokenMean    SeqMeanTokenMean   SeqMeanTokenSum  SeqMeanTokenSumNorm
/// ```
///
/// ```
/// use dapo_loss::{Aggregation, Denominator, EmptySequences};
/// let lengths = [3, 0, 5];
/// let of = |aggregation| Denominator::of_step(aggregation, &lengths, EmptySequences::Exclude).unwrap();
/// assert_eq!(of(Aggregation::TokenMean).weight(3), 1.0 / 8.0);
/// assert_eq!(of(Aggregation::SeqMeanTokenMean).weight(5), 1.0 / (2.0 * 5.0));
/// assert_eq!(of(Aggregation::SeqMeanTokenMean).weight(0), 0.0);
/// assert_eq!(of(Aggregation::SeqMeanTokenSum).weight(5), 1.0 / 2.0);
/// assert_eq!(of(Aggregation::SeqMeanTokenSumNorm { max_len: 16 }).weight(5), 1.0 / (2.0 * 16.0));
/// // Nothing left in the whole step: skip it.
/// assert_eq!(Denominator::of_step(Aggregation::TokenMean, &[0, 0], EmptySequences::Count), None);
/// ```
///
/// A batch with more tokens in the loss than the whole step has is an error ([`LossError::BeyondStep`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Denominator {
    aggregation: Aggregation,
    divisor: f64,
    /// Tokens in the loss of the whole step.
    tokens: u64,
}

impl Denominator {
    /// The denominator of a step whose sequences keep `lengths` tokens each; `None` when no token is left at all.
    ///
    /// [`masked_lengths`](crate::masked_lengths) computes the lengths from a mask. `LocalTokenMean` takes the step as
    /// one micro-batch here.
    pub fn of_step(aggregation: Aggregation, lengths: &[usize], empty: EmptySequences) -> Option<Self> {
        Self::of_counts(aggregation, StepCounts::of_lengths(lengths), empty)
    }

    /// The same from counts, which may have been added over micro-batches and ranks.
    pub fn of_counts(aggregation: Aggregation, counts: StepCounts, empty: EmptySequences) -> Option<Self> {
        if counts.tokens == 0 {
            return None;
        }
        let sequences = match empty {
            EmptySequences::Exclude => counts.sequences - counts.empty_sequences,
            EmptySequences::Count => counts.sequences,
        } as f64;
        let divisor = match aggregation {
            Aggregation::TokenMean | Aggregation::LocalTokenMean => counts.tokens as f64,
            Aggregation::SeqMeanTokenMean | Aggregation::SeqMeanTokenSum => sequences,
            Aggregation::SeqMeanTokenSumNorm { max_len } => sequences * max_len as f64,
        };
        Some(Self { aggregation, divisor, tokens: counts.tokens })
    }

    /// The denominator of one of `micro_batches` micro-batches under [`Aggregation::LocalTokenMean`]; `None` when it
    /// has no token.
    ///
    /// ```
    /// use dapo_loss::Denominator;
    /// assert_eq!(Denominator::of_micro_batch(&[3, 5], 4).unwrap().weight(3), 1.0 / (8.0 * 4.0));
    /// ```
    pub fn of_micro_batch(lengths: &[usize], micro_batches: usize) -> Option<Self> {
        let tokens: usize = lengths.iter().sum();
        let divisor = tokens as f64 * micro_batches as f64;
        let tokens = tokens as u64;
        (divisor > 0.0).then_some(Self { aggregation: Aggregation::LocalTokenMean, divisor, tokens })
    }

    /// The weight of one token's loss in a sequence of `length` tokens; 0 for a sequence that has none.
    pub fn weight(&self, length: usize) -> f64 {
        match self.aggregation {
            Aggregation::SeqMeanTokenMean if length == 0 => 0.0,
            Aggregation::SeqMeanTokenMean => 1.0 / (self.divisor * length as f64),
            _ => 1.0 / self.divisor,
        }
    }

    /// Tokens in the loss of the step it was made for; a batch of the step has at most as many.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The aggregation it was made for.
    pub const fn aggregation(&self) -> Aggregation {
        self.aggregation
    }

    /// Fails when it was made for another aggregation.
    pub(crate) fn expect_made_for(&self, aggregation: Aggregation) -> Result<(), LossError> {
        if self.aggregation == aggregation {
            return Ok(());
        }
        Err(LossError::OtherAggregation { denominator: self.aggregation.name(), config: aggregation.name() })
    }

    /// Fails when a batch or chunk has more tokens in the loss than the whole step.
    pub(crate) fn expect_within_step(&self, function: &'static str, tokens: u64) -> Result<(), LossError> {
        let step = self.tokens;
        if tokens <= step { Ok(()) } else { Err(LossError::BeyondStep { function, tokens, step }) }
    }
}
