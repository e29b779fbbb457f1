//! What the loss reads beside the current log-probabilities, as tensors in any layout and precision that it accepts.

use candle_core::{DType, Device, Error, Result, Shape, Tensor, bail};

use crate::{
    batch::{Advantages, LossBatch, check_offsets, masked_lengths},
    config::LossConfig,
    tensor::storage::{Locked, NAME, lock},
};

/// What the loss reads beside the current log-probabilities; no gradient flows into any of it.
///
/// # Shapes
/// Either packed, `[T]` with `cu_seqlens`, or padded, `[B, L]` without. Log-probabilities are f32, bf16 or f16, and are
/// computed with in f32. `mask` is u8, where any value but 0 keeps the token, or of any other type, where values are 0
/// or 1. `advantages` is `[N]` or `[N, 1]` (`[B]`, `[B, 1]`) for one per sequence, or shaped like the log-probabilities for
/// one per token, in a packed batch also `[1, T]`. `[N]` is refused where N = T and it may mean either.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TensorBatch<'a> {
    /// N + 1 offsets of the packed sequences; `None` where the rows of a matrix are the sequences.
    pub cu_seqlens: Option<&'a [usize]>,
    /// 0 leaves a token out; `None`: every token counts.
    pub mask: Option<&'a Tensor>,
    /// A, per sequence or per token.
    pub advantages: &'a Tensor,
    /// Log-probabilities under the behaviour policy.
    pub old_logprobs: &'a Tensor,
    /// Log-probabilities under the frozen reference, where `kl.coef` is not 0.
    pub ref_logprobs: Option<&'a Tensor>,
    /// Log-probabilities as the rollout engine reported them, for a rollout correction.
    pub rollout_logprobs: Option<&'a Tensor>,
}

impl<'a> TensorBatch<'a> {
    /// A padded batch in which every token counts, without a reference or a rollout engine.
    pub const fn new(advantages: &'a Tensor, old_logprobs: &'a Tensor) -> Self {
        Self { cu_seqlens: None, mask: None, advantages, old_logprobs, ref_logprobs: None, rollout_logprobs: None }
    }

    /// With offsets: the batch is packed.
    #[must_use]
    pub const fn with_cu_seqlens(mut self, cu_seqlens: &'a [usize]) -> Self {
        self.cu_seqlens = Some(cu_seqlens);
        self
    }

    /// With a mask: 0 leaves a token out.
    #[must_use]
    pub const fn with_mask(mut self, mask: &'a Tensor) -> Self {
        self.mask = Some(mask);
        self
    }

    /// With log-probabilities under the frozen reference, for the KL term.
    #[must_use]
    pub const fn with_ref_logprobs(mut self, ref_logprobs: &'a Tensor) -> Self {
        self.ref_logprobs = Some(ref_logprobs);
        self
    }

    /// With log-probabilities as the rollout engine reported them, for a rollout correction.
    #[must_use]
    pub const fn with_rollout_logprobs(mut self, rollout_logprobs: &'a Tensor) -> Self {
        self.rollout_logprobs = Some(rollout_logprobs);
        self
    }

    /// How many tokens the mask leaves of each sequence: what [`Denominator::of_step`](crate::Denominator::of_step) needs,
    /// unless a rollout correction rejects sequences ([`lengths_under`](Self::lengths_under)).
    ///
    /// # Errors
    /// A mask whose shape is not that of `old_logprobs`, or with values that are neither 0 nor 1; offsets that do not fit.
    pub fn lengths(&self) -> Result<Vec<usize>> {
        let shape = self.old_logprobs.shape();
        let cu_seqlens = offsets(self.cu_seqlens, "old_logprobs", shape)?;
        let tokens = check_offsets(NAME, &cu_seqlens).map_err(Error::wrap)?;
        if tokens != shape.elem_count() {
            bail!("{NAME}: old_logprobs has {} values, expected {tokens}", shape.elem_count());
        }
        match self.mask {
            None => Ok(masked_lengths(&cu_seqlens, None)),
            Some(tensor) => {
                let tensor = mask(tensor, shape)?.to_device(&Device::Cpu)?;
                let mask = lock(&tensor);
                Ok(masked_lengths(&cu_seqlens, Some(mask.values()?)))
            }
        }
    }
}

impl TensorBatch<'_> {
    /// How many tokens of each sequence are in the loss under these settings: [`LossConfig::lengths`].
    ///
    /// # Errors
    /// Those of [`lengths`](Self::lengths); rollout log-probabilities of another shape, or none where they decide.
    pub fn lengths_under(&self, config: &LossConfig) -> Result<Vec<usize>> {
        if config.rollout_correction.is_none_or(|correction| correction.reject.is_none()) {
            return self.lengths();
        }
        let shape = self.old_logprobs.shape();
        let cu_seqlens = offsets(self.cu_seqlens, "old_logprobs", shape)?;
        let host = |tensor: Tensor| tensor.to_device(&Device::Cpu);
        let old_logprobs = host(float("old_logprobs", self.old_logprobs, shape)?)?;
        let rollout =
            self.rollout_logprobs.map(|tensor| host(float("rollout_logprobs", tensor, shape)?)).transpose()?;
        let mask = self.mask.map(|tensor| host(mask(tensor, shape)?)).transpose()?;
        let (old_logprobs, rollout, mask) = (lock(&old_logprobs), rollout.as_ref().map(lock), mask.as_ref().map(lock));
        // Advantages decide nothing here.
        let advantages = vec![0.0; cu_seqlens.len().saturating_sub(1)];
        let mut batch = LossBatch::new(&cu_seqlens, Advantages::PerSequence(&advantages), old_logprobs.values()?);
        batch.rollout_logprobs = rollout.as_ref().map(Locked::values).transpose()?;
        batch.mask = mask.as_ref().map(Locked::values).transpose()?;
        config.lengths(&batch).map_err(Error::wrap)
    }
}

/// The offsets of the sequences of an array of this shape.
pub(super) fn offsets(cu_seqlens: Option<&[usize]>, array: &str, shape: &Shape) -> Result<Vec<usize>> {
    match (cu_seqlens, shape.dims()) {
        (Some(cu_seqlens), [_]) => Ok(cu_seqlens.to_vec()),
        (None, &[rows, columns]) => Ok((0..=rows).map(|row| row * columns).collect()),
        (Some(_), dims) => bail!("{NAME}: {array} has shape {dims:?}, expected one dimension beside cu_seqlens"),
        (None, dims) => bail!("{NAME}: {array} has shape {dims:?}, expected two dimensions without cu_seqlens"),
    }
}

/// Checks type and shape, and lays the tensor out contiguously in f32; differentiable.
pub(super) fn float(array: &str, tensor: &Tensor, shape: &Shape) -> Result<Tensor> {
    let tensor = match tensor.dtype() {
        DType::F32 => tensor.clone(),
        DType::BF16 | DType::F16 => tensor.to_dtype(DType::F32)?,
        other => bail!("{NAME}: {array} is {other:?}, expected F32, BF16 or F16"),
    };
    expect_shape(array, &tensor, shape)?;
    tensor.contiguous()
}

/// Checks values and shape of a mask, and lays it out contiguously in u8.
pub(super) fn mask(tensor: &Tensor, shape: &Shape) -> Result<Tensor> {
    expect_shape("mask", tensor, shape)?;
    if tensor.dtype() == DType::U8 {
        return tensor.contiguous();
    }
    let values = tensor.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    if let Some(value) = values.iter().find(|value| ![0.0, 1.0].contains(*value)) {
        bail!("{NAME}: mask holds {value}, expected 0 or 1");
    }
    let bytes: Vec<u8> = values.iter().map(|value| u8::from(*value != 0.0)).collect();
    Tensor::from_vec(bytes, shape, tensor.device())
}

/// Advantages in f32, one per sequence unless they are shaped like the log-probabilities; whether they are one per token.
pub(super) fn advantages(tensor: &Tensor, shape: &Shape, cu_seqlens: &[usize]) -> Result<(Tensor, bool)> {
    let (sequences, tokens) = (cu_seqlens.len().saturating_sub(1), shape.elem_count());
    let is_vector = tensor.dims() == [sequences];
    let has_single_tokens = || cu_seqlens.windows(2).all(|ends| ends[1] - ends[0] == 1);
    if is_vector && tensor.shape() == shape && !has_single_tokens() {
        bail!(
            "{NAME}: advantages has shape [{sequences}], expected [{sequences}, 1] for one per sequence or [1, {tokens}] for \
             one per token: there are as many tokens as sequences"
        );
    }
    let per_sequence = is_vector || tensor.dims() == [sequences, 1];
    let is_row = shape.rank() == 1 && tensor.dims() == [1, tokens];
    let per_token = !per_sequence && (is_row || tensor.shape() == shape);
    let expected = if per_token { shape.clone() } else { Shape::from(sequences) };
    let tensor = if per_sequence || is_row { tensor.reshape(&expected)? } else { tensor.clone() };
    Ok((float("advantages", &tensor, &expected)?, per_token))
}

fn expect_shape(array: &str, tensor: &Tensor, shape: &Shape) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    bail!("{NAME}: {array} has shape {:?}, expected {shape:?}", tensor.shape())
}
