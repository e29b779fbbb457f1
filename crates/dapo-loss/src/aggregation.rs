//! From per-token losses to one number: the aggregation modes.

use std::fmt;

use crate::error::{LossError, expect_config, lookup};

/// How the losses of a step's tokens become one loss.
///
/// With m the token mask, ℓ the token losses, |o_i| = Σ_t m_it and N sequences:
///
/// ```text
/// TokenMean            Σ_i Σ_t ℓ·m / Σ_i |o_i|              (DAPO)
/// SeqMeanTokenMean     1/N · Σ_i (Σ_t ℓ·m / |o_i|)          (GRPO)
/// SeqMeanTokenSum      1/N · Σ_i  Σ_t ℓ·m
/// SeqMeanTokenSumNorm  1/N · Σ_i (Σ_t ℓ·m / max_len)        (Dr. GRPO)
/// ```
///
/// Each is a weighted sum of token losses, and the weights belong to the whole optimiser step: see
/// [`Denominator`](crate::Denominator).
/// Sources: DAPO Eq. 8, GRPO (arXiv 2402.03300) Eq. 3, Dr. GRPO (arXiv 2503.20783).
///
/// With the feature `serde` it is read from a name; the length of the last one is a field beside it,
/// `{ name = "seq-mean-token-sum-norm", max_len = 4096 }`, or set with [`or_max_len`](Self::or_max_len).
///
/// ```
/// use dapo_loss::Aggregation;
/// assert_eq!(Aggregation::from_name("token-mean", 0)?, Aggregation::TokenMean);
/// assert_eq!(Aggregation::from_name("dr_grpo", 4096)?, Aggregation::SeqMeanTokenSumNorm { max_len: 4096 });
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Aggregation {
    /// Mean over all tokens of the step: every token weighs the same.
    #[default]
    TokenMean,
    /// Mean over sequences of the mean over their tokens: every sequence weighs the same.
    SeqMeanTokenMean,
    /// Mean over sequences of the sum over their tokens.
    SeqMeanTokenSum,
    /// Sum over all tokens, divided by the number of sequences and a constant length.
    SeqMeanTokenSumNorm {
        /// The constant, usually the largest completion length, in tokens; 0 is not set yet, and refused by the loss.
        max_len: usize,
    },
    /// Mean over the tokens of one micro-batch, then over micro-batches.
    ///
    /// For comparison with TRL's `bnpo` and ms-swift only: the result depends on how the step was split. Make its
    /// denominator with [`Denominator::of_micro_batch`](crate::Denominator::of_micro_batch).
    LocalTokenMean,
}

impl Aggregation {
    /// The aggregation of this name; `max_len` is used by `seq-mean-token-sum-norm` alone.
    ///
    /// verl's names are understood, and TRL's: `dapo`, `grpo`, `dr_grpo`, `bnpo`.
    ///
    /// # Errors
    /// [`LossError::UnknownName`], listing all names.
    pub fn from_name(name: &str, max_len: usize) -> Result<Self, LossError> {
        let norm = Self::SeqMeanTokenSumNorm { max_len };
        let table = [
            ("token-mean", Self::TokenMean),
            ("seq-mean-token-mean", Self::SeqMeanTokenMean),
            ("seq-mean-token-sum", Self::SeqMeanTokenSum),
            ("seq-mean-token-sum-norm", norm),
            ("local-token-mean", Self::LocalTokenMean),
            ("dapo", Self::TokenMean),
            ("grpo", Self::SeqMeanTokenMean),
            ("dr_grpo", norm),
            ("bnpo", Self::LocalTokenMean),
        ];
        lookup("aggregation", name, &table)
    }

    /// The same with `max_len` as the constant length, where one is needed and not set yet.
    ///
    /// A settings file that names `seq-mean-token-sum-norm` alone leaves the length to the program, which knows it.
    ///
    /// ```
    /// use dapo_loss::Aggregation;
    /// let named = Aggregation::from_name("seq-mean-token-sum-norm", 0)?;
    /// assert_eq!(named.or_max_len(4096), Aggregation::SeqMeanTokenSumNorm { max_len: 4096 });
    /// assert_eq!(Aggregation::TokenMean.or_max_len(4096), Aggregation::TokenMean);
    /// # Ok::<(), dapo_loss::LossError>(())
    /// ```
    #[must_use]
    pub const fn or_max_len(self, max_len: usize) -> Self {
        match self {
            Self::SeqMeanTokenSumNorm { max_len: 0 } => Self::SeqMeanTokenSumNorm { max_len },
            other => other,
        }
    }

    /// The name it parses from.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TokenMean => "token-mean",
            Self::SeqMeanTokenMean => "seq-mean-token-mean",
            Self::SeqMeanTokenSum => "seq-mean-token-sum",
            Self::SeqMeanTokenSumNorm { .. } => "seq-mean-token-sum-norm",
            Self::LocalTokenMean => "local-token-mean",
        }
    }

    pub(crate) fn validate(&self) -> Result<(), LossError> {
        match *self {
            Self::SeqMeanTokenSumNorm { max_len } => {
                expect_config(max_len > 0, "aggregation.max_len", max_len, "at least 1")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
