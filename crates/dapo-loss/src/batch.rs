//! The input of the loss: packed sequences, a chunk of their tokens, and where the gradients go.

use crate::error::{LossError, expect_len};

/// One advantage for every sequence, or one for every token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantages<'a> {
    /// N values: each holds for all tokens of its sequence (GRPO, DAPO, RLOO).
    PerSequence(&'a [f32]),
    /// T values, as [`gae`](crate::gae) makes them (PPO).
    PerToken(&'a [f32]),
}

/// Sequences laid end to end without padding, with everything that is known before the forward pass.
///
/// # Shapes
/// N sequences with T tokens together; sequence i is `cu_seqlens[i]..cu_seqlens[i + 1]`. A padded `[B, T]` matrix is the
/// packed batch `cu_seqlens = [0, T, 2T, …]` with a mask. Log-probabilities are in nats. Values where the mask is 0 are
/// never looked at, and may be anything.
///
/// ```
/// use dapo_loss::{Advantages, LossBatch};
/// let advantages = Advantages::PerSequence(&[1.0, -1.0]);
/// let batch = LossBatch::new(&[0, 2, 3], advantages, &[-0.5, -1.0, -2.0]).with_mask(&[0, 1, 1]);
/// assert_eq!((batch.sequences(), batch.tokens()), (2, 3));
/// assert_eq!(dapo_loss::masked_lengths(batch.cu_seqlens, batch.mask), [1, 1]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LossBatch<'a> {
    /// N + 1 offsets: 0, the end of every sequence.
    pub cu_seqlens: &'a [usize],
    /// T bytes; 0 leaves a token out (a prompt token, padding, a filtered completion). `None`: every token counts.
    pub mask: Option<&'a [u8]>,
    /// A, per sequence or per token.
    pub advantages: Advantages<'a>,
    /// T log-probabilities under the behaviour policy.
    pub old_logprobs: &'a [f32],
    /// T log-probabilities under the frozen reference; needed only where `kl.coef` is not 0.
    pub ref_logprobs: Option<&'a [f32]>,
    /// T log-probabilities as the rollout engine reported them; needed only for a rollout correction.
    pub rollout_logprobs: Option<&'a [f32]>,
}

impl<'a> LossBatch<'a> {
    /// What every loss needs; every token counts, and there is neither a reference nor a rollout engine.
    ///
    /// The arguments are checked where the batch is used.
    pub const fn new(cu_seqlens: &'a [usize], advantages: Advantages<'a>, old_logprobs: &'a [f32]) -> Self {
        Self { cu_seqlens, mask: None, advantages, old_logprobs, ref_logprobs: None, rollout_logprobs: None }
    }

    /// With a mask: 0 leaves a token out.
    #[must_use]
    pub const fn with_mask(mut self, mask: &'a [u8]) -> Self {
        self.mask = Some(mask);
        self
    }

    /// With log-probabilities under the frozen reference, for the KL term.
    #[must_use]
    pub const fn with_ref_logprobs(mut self, ref_logprobs: &'a [f32]) -> Self {
        self.ref_logprobs = Some(ref_logprobs);
        self
    }

    /// With log-probabilities as the rollout engine reported them, for a rollout correction.
    #[must_use]
    pub const fn with_rollout_logprobs(mut self, rollout_logprobs: &'a [f32]) -> Self {
        self.rollout_logprobs = Some(rollout_logprobs);
        self
    }

    /// T, the number of tokens, masked ones included.
    pub fn tokens(&self) -> usize {
        self.cu_seqlens.last().copied().unwrap_or(0)
    }

    /// N, the number of sequences.
    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// How many tokens the mask leaves of each sequence.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        masked_lengths(self.cu_seqlens, self.mask)
    }

    /// The tokens of a sequence that count.
    pub(crate) fn kept_tokens(&self, sequence: usize) -> impl Iterator<Item = usize> + '_ {
        let (start, end) = (self.cu_seqlens[sequence], self.cu_seqlens[sequence + 1]);
        (start..end).filter(|&token| self.mask.is_none_or(|mask| mask[token] != 0))
    }

    /// Checks offsets and lengths.
    pub(crate) fn validate(&self, function: &'static str) -> Result<(), LossError> {
        let tokens = check_offsets(function, self.cu_seqlens)?;
        let per_token =
            |array, values: Option<&[f32]>| expect_len(function, array, values.map_or(tokens, <[f32]>::len), tokens);
        per_token("old_logprobs", Some(self.old_logprobs))?;
        per_token("ref_logprobs", self.ref_logprobs)?;
        per_token("rollout_logprobs", self.rollout_logprobs)?;
        expect_len(function, "mask", self.mask.map_or(tokens, <[u8]>::len), tokens)?;
        match self.advantages {
            Advantages::PerToken(values) => per_token("advantages", Some(values)),
            Advantages::PerSequence(values) => expect_len(function, "advantages", values.len(), self.sequences()),
        }
    }
}

/// Checks that offsets start at 0 and never decrease; returns the number of tokens.
pub(crate) fn check_offsets(function: &'static str, cu_seqlens: &[usize]) -> Result<usize, LossError> {
    let offsets = |index, value, expected| Err(LossError::Offsets { function, index, value, expected });
    match cu_seqlens {
        [0, ..] => {}
        [first, ..] => return offsets(0, *first, "0"),
        [] => return Err(LossError::Length { function, array: "cu_seqlens", len: 0, expected: 1 }),
    }
    match cu_seqlens.windows(2).position(|ends| ends[0] > ends[1]) {
        Some(i) => offsets(i + 1, cu_seqlens[i + 1], "not less than the offset before it"),
        None => Ok(cu_seqlens[cu_seqlens.len() - 1]),
    }
}

/// How many tokens the mask leaves of each packed sequence: what [`Denominator::of_step`](crate::Denominator::of_step)
/// needs.
///
/// # Shapes
/// N + 1 offsets and T mask bytes in, N lengths in tokens out.
///
/// ```
/// assert_eq!(dapo_loss::masked_lengths(&[0, 3, 3, 5], Some(&[0, 1, 1, 1, 0])), [2, 0, 1]);
/// assert_eq!(dapo_loss::masked_lengths(&[0, 3, 5], None), [3, 2]);
/// ```
///
/// # Panics
/// When an offset lies beyond the mask, or offsets decrease.
pub fn masked_lengths(cu_seqlens: &[usize], mask: Option<&[u8]>) -> Vec<usize> {
    let length = |ends: &[usize]| match mask {
        Some(mask) => mask[ends[0]..ends[1]].iter().map(|&keep| usize::from(keep != 0)).sum(),
        None => ends[1] - ends[0],
    };
    cu_seqlens.windows(2).map(length).collect()
}

/// What a forward pass found for the tokens `start .. start + logprobs.len()` of a packed batch.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TokenChunk<'a> {
    /// First token of the chunk, as an index into the packed batch.
    pub start: usize,
    /// Log-probabilities of these tokens under the current policy, in nats.
    pub logprobs: &'a [f32],
    /// Entropies of the distributions that the tokens were drawn from, in nats; needed only where `entropy_coef` is not 0,
    /// measured wherever given.
    pub entropies: Option<&'a [f32]>,
}

impl<'a> TokenChunk<'a> {
    /// The whole packed batch, without entropies.
    pub const fn whole(logprobs: &'a [f32]) -> Self {
        Self::at(0, logprobs)
    }

    /// The tokens from `start` on, as many as there are log-probabilities, without entropies.
    pub const fn at(start: usize, logprobs: &'a [f32]) -> Self {
        Self { start, logprobs, entropies: None }
    }

    /// With entropies, as many as there are log-probabilities.
    #[must_use]
    pub const fn with_entropies(mut self, entropies: &'a [f32]) -> Self {
        self.entropies = Some(entropies);
        self
    }
}

impl<'a> From<&'a [f32]> for TokenChunk<'a> {
    fn from(logprobs: &'a [f32]) -> Self {
        Self::whole(logprobs)
    }
}

impl<'a, const T: usize> From<&'a [f32; T]> for TokenChunk<'a> {
    fn from(logprobs: &'a [f32; T]) -> Self {
        Self::whole(logprobs)
    }
}

impl<'a> From<&'a Vec<f32>> for TokenChunk<'a> {
    fn from(logprobs: &'a Vec<f32>) -> Self {
        Self::whole(logprobs)
    }
}

/// Where the derivatives of the loss go; every value is written, 0 where the mask is 0.
#[derive(Debug)]
#[non_exhaustive]
pub struct LossGradients<'a> {
    /// ∂loss/∂logprobs, as long as the chunk.
    pub logprobs: &'a mut [f32],
    /// ∂loss/∂entropies, as long as the chunk; `None` to not have it.
    pub entropies: Option<&'a mut [f32]>,
}

impl<'a> LossGradients<'a> {
    /// Those of the log-probabilities alone.
    pub const fn new(logprobs: &'a mut [f32]) -> Self {
        Self { logprobs, entropies: None }
    }

    /// With those of the entropies.
    #[must_use]
    pub const fn with_entropies(mut self, entropies: &'a mut [f32]) -> Self {
        self.entropies = Some(entropies);
        self
    }
}

impl<'a> From<&'a mut [f32]> for LossGradients<'a> {
    fn from(logprobs: &'a mut [f32]) -> Self {
        Self::new(logprobs)
    }
}
