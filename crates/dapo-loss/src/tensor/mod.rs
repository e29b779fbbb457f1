//! The same loss on Candle tensors, as a differentiable operation.
//!
//! Letters: N sequences, T tokens of a packed batch, B and L the rows and columns of a padded one.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use dapo_loss::{Denominator, EmptySequences, LossConfig, tensor::{TensorBatch, policy_loss}};
//! let device = Device::Cpu;
//! let logprobs = Var::new(&[[-1.0_f32, -2.0], [-0.5, -0.7]], &device)?;
//! let mask = Tensor::new(&[[1_u8, 1], [1, 0]], &device)?;
//! let advantages = Tensor::new(&[1.0_f32, -1.0], &device)?;
//!
//! let config = LossConfig::default();
//! let denominator = Denominator::of_step(config.aggregation, &[2, 1], EmptySequences::Exclude).unwrap();
//! let batch = TensorBatch {
//!     cu_seqlens: None, // the rows are the sequences
//!     mask: Some(&mask),
//!     advantages: &advantages,
//!     old_logprobs: &logprobs,
//!     ref_logprobs: None,
//!     rollout_logprobs: None,
//! };
//! let output = policy_loss(&config, denominator, &logprobs, None, &batch)?;
//! let gradients = output.loss.backward()?;
//! let third = 1.0_f32 / 3.0;
//! assert_eq!(gradients.get(&logprobs).unwrap().to_vec2::<f32>()?, [[-third, -third], [third, 0.0]]);
//! assert_eq!(output.metrics.mean_ratio(), 1.0);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod cpu;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Error, Layout, Result, Shape, Tensor, bail};

use crate::{config::LossConfig, denominator::Denominator, error::LossError, metrics::LossMetrics};

const NAME: &str = "policy_loss";

/// What the loss reads beside the current log-probabilities; no gradient flows into any of it.
///
/// # Shapes
/// Either packed, `[T]` with `cu_seqlens`, or padded, `[B, L]` without. `mask` is u8, all else f32; `advantages` is `[N]`
/// (`[B]`) for one a sequence, or shaped like the log-probabilities for one a token (where both fit: one a sequence).
#[derive(Debug, Clone, Copy)]
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
    /// Log-probabilities as the rollout engine reported them, for truncated importance sampling.
    pub rollout_logprobs: Option<&'a Tensor>,
}

/// A loss to call `backward` on, and what was measured on the way.
#[derive(Debug, Clone)]
pub struct TensorLoss {
    /// The loss, a scalar.
    pub loss: Tensor,
    /// Sums and counts over the tokens in the loss.
    pub metrics: LossMetrics,
}

/// The loss of a micro-batch as a scalar tensor, differentiable in `logprobs` and `entropies`.
///
/// The gradients are computed in the forward pass, together with the loss, by [`LossPlan`](crate::LossPlan); the
/// backward pass multiplies them by the incoming gradient.
///
/// # Shapes
/// `logprobs` and `entropies` are `[T]` or `[B, L]`, f32, on the CPU; the loss is a scalar.
///
/// # Errors
/// Shapes, dtypes or devices other than these, and whatever [`policy_loss`](crate::policy_loss()) refuses, as a wrapped
/// [`LossError`].
///
/// The [module](self) has an example. Source: DAPO Eq. 8.
pub fn policy_loss(
    config: &LossConfig,
    denominator: Denominator,
    logprobs: &Tensor,
    entropies: Option<&Tensor>,
    batch: &TensorBatch<'_>,
) -> Result<TensorLoss> {
    let op = PolicyLossOp::new(config, denominator, logprobs, batch)?;
    let saved = op.saved.clone();
    let logprobs = prepare("logprobs", logprobs, logprobs.shape(), DType::F32)?;
    let loss = match entropies {
        Some(entropies) => {
            let entropies = prepare("entropies", entropies, logprobs.shape(), DType::F32)?;
            logprobs.apply_op2(&entropies, op)?
        }
        None => logprobs.apply_op1(op)?,
    };
    let metrics = saved.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|saved| saved.metrics);
    Ok(TensorLoss { loss, metrics: metrics.unwrap_or_default() })
}

/// Checks dtype and shape, and lays the tensor out contiguously.
fn prepare(array: &'static str, tensor: &Tensor, shape: &Shape, dtype: DType) -> Result<Tensor> {
    if tensor.dtype() != dtype {
        bail!("{NAME}: {array} is {:?}, expected {dtype:?}", tensor.dtype());
    }
    if tensor.shape() != shape {
        bail!("{NAME}: {array} has shape {:?}, expected {shape:?}", tensor.shape());
    }
    tensor.contiguous()
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug)]
struct Saved {
    gradient: Tensor,
    entropy_gradient: Option<Tensor>,
    metrics: LossMetrics,
}

/// The loss as a Candle operation: the inputs that are not differentiated, and what the forward pass saved.
struct PolicyLossOp {
    config: LossConfig,
    denominator: Denominator,
    cu_seqlens: Vec<usize>,
    mask: Option<Tensor>,
    advantages: Tensor,
    per_token: bool,
    old_logprobs: Tensor,
    ref_logprobs: Option<Tensor>,
    rollout_logprobs: Option<Tensor>,
    saved: Arc<Mutex<Option<Saved>>>,
}

impl PolicyLossOp {
    fn new(config: &LossConfig, denominator: Denominator, logprobs: &Tensor, batch: &TensorBatch<'_>) -> Result<Self> {
        let shape = logprobs.shape();
        let cu_seqlens = match (batch.cu_seqlens, shape.dims()) {
            (Some(cu_seqlens), [_]) => cu_seqlens.to_vec(),
            (None, &[rows, columns]) => (0..=rows).map(|row| row * columns).collect(),
            (Some(_), dims) => bail!("{NAME}: logprobs has shape {dims:?}, expected one dimension beside cu_seqlens"),
            (None, dims) => bail!("{NAME}: logprobs has shape {dims:?}, expected two dimensions without cu_seqlens"),
        };
        let per_token = batch.advantages.shape() == shape && shape.dims() != [cu_seqlens.len().saturating_sub(1)];
        let advantages_shape = if per_token { shape.clone() } else { Shape::from(cu_seqlens.len().saturating_sub(1)) };
        let float =
            |array, tensor: Option<&Tensor>| tensor.map(|tensor| prepare(array, tensor, shape, DType::F32)).transpose();
        Ok(Self {
            config: *config,
            denominator,
            mask: batch.mask.map(|mask| prepare("mask", mask, shape, DType::U8)).transpose()?,
            advantages: prepare("advantages", batch.advantages, &advantages_shape, DType::F32)?,
            per_token,
            old_logprobs: prepare("old_logprobs", batch.old_logprobs, shape, DType::F32)?,
            ref_logprobs: float("ref_logprobs", batch.ref_logprobs)?,
            rollout_logprobs: float("rollout_logprobs", batch.rollout_logprobs)?,
            cu_seqlens,
            saved: Arc::default(),
        })
    }

    fn save(&self, saved: Saved) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
    }

    /// The saved gradients times the gradient of the loss.
    fn gradients(&self, upstream: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(saved) = saved.as_ref() else {
            bail!("{NAME}: backward before forward");
        };
        let scaled = |gradient: &Tensor| gradient.broadcast_mul(upstream);
        Ok((scaled(&saved.gradient)?, saved.entropy_gradient.as_ref().map(scaled).transpose()?))
    }
}

impl CustomOp1 for PolicyLossOp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, logprobs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward_cpu((logprobs, layout), None)
    }

    fn bwd(&self, _logprobs: &Tensor, _loss: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradients(upstream)?.0))
    }
}

impl CustomOp2 for PolicyLossOp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        logprobs: &CpuStorage,
        logprobs_layout: &Layout,
        entropies: &CpuStorage,
        entropies_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward_cpu((logprobs, logprobs_layout), Some((entropies, entropies_layout)))
    }

    fn bwd(
        &self,
        _logprobs: &Tensor,
        _entropies: &Tensor,
        _loss: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (logprobs, entropies) = self.gradients(upstream)?;
        Ok((Some(logprobs), entropies))
    }
}

fn wrap(error: LossError) -> Error {
    Error::wrap(error)
}
