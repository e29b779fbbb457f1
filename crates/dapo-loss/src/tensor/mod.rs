//! The same loss on Candle tensors, as a differentiable operation.
//!
//! Shapes: N sequences, T tokens of a packed batch, B and L the rows and columns of a padded one.
//!
//! ```
//! use dapo_loss::{LossConfig, tensor::{TensorBatch, policy_loss_single}};
//! use dapo_loss::candle_core::{Device, Tensor, Var};
//! let device = Device::Cpu;
//! let logprobs = Var::new(&[[-1.0_f32, -2.0], [-0.5, -0.7]], &device)?;
//! let mask = Tensor::new(&[[1.0_f32, 1.0], [1.0, 0.0]], &device)?;
//! let advantages = Tensor::new(&[1.0_f32, -1.0], &device)?;
//!
//! let batch = TensorBatch::new(&advantages, &logprobs).with_mask(&mask); // the rows are the sequences
//! let output = policy_loss_single(&LossConfig::default(), &logprobs, None, &batch)?;
//! let gradients = output.loss.backward()?;
//! let third = 1.0_f32 / 3.0;
//! assert_eq!(gradients.get(&logprobs).unwrap().to_vec2::<f32>()?, [[-third, -third], [third, 0.0]]);
//! assert_eq!(output.metrics.mean_ratio(), 1.0);
//! # Ok::<(), dapo_loss::candle_core::Error>(())
//! ```
//!
//! Tensors on a GPU are computed there with the feature `cuda`, where the loss has a kernel: `dapo` and `ppo`, without
//! a rollout correction, a choice by entropy or straight-through KL. Other losses, and other devices, copy the
//! log-probabilities to the host, compute on slices and copy the gradients back.
//!
//! A step of several micro-batches shares one [`Denominator`], made from the
//! [`lengths_under`](TensorBatch::lengths_under) of all of them, and calls [`policy_loss`] for each. Where
//! [`LossConfig::top_entropy_quantile`] asks for one, the quantile is that of each call, as in TRL.

mod batch;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod gpu;
mod op;
mod storage;

use candle_core::{Device, Error, Result, Tensor};

use crate::{
    config::LossConfig,
    denominator::Denominator,
    error::LossError,
    metrics::LossMetrics,
    tensor::{op::PolicyLossOp, storage::NAME},
};

pub use batch::TensorBatch;

/// A loss to call `backward` on, with its metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TensorLoss {
    /// The loss, an f32 scalar.
    pub loss: Tensor,
    /// Sums and counts over the tokens in the loss.
    pub metrics: LossMetrics,
}

/// The loss of a micro-batch as a scalar tensor, differentiable in `logprobs` and `entropies`.
///
/// The gradients are computed in the forward pass, together with the loss, by [`LossPlan`](crate::LossPlan) or a GPU's
/// kernel; the backward pass multiplies them by the incoming gradient.
///
/// # Shapes
/// `logprobs` and `entropies` are `[T]` or `[B, L]`, f32, bf16 or f16, all tensors on one device; the loss is an f32 scalar
/// there.
///
/// # Errors
/// Shapes, types or devices other than these, and whatever [`policy_loss`](crate::policy_loss()) refuses, as a wrapped
/// [`LossError`]. On a GPU, values that are not finite are counted, not named.
///
/// [`policy_loss_single`] is the same for a step of one micro-batch; the [module](self) has an example. Source: DAPO
/// Eq. 8.
pub fn policy_loss(
    config: &LossConfig,
    denominator: Denominator,
    logprobs: &Tensor,
    entropies: Option<&Tensor>,
    batch: &TensorBatch<'_>,
) -> Result<TensorLoss> {
    if !computes(logprobs.device(), config) {
        return on_host(config, denominator, logprobs, entropies, batch);
    }
    let op = PolicyLossOp::new(config, denominator, logprobs, batch)?;
    let (loss, metrics) = op.apply(logprobs, entropies)?;
    Ok(TensorLoss { loss, metrics })
}

/// Whether the loss is computed where its tensors are.
fn computes(device: &Device, config: &LossConfig) -> bool {
    match device {
        Device::Cpu => true,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => crate::cuda::has_kernel(config),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => {
            let _ = config;
            false
        }
        Device::Metal(_) => false,
    }
}

/// The loss of copies on the host. The gradients take the way back.
fn on_host(
    config: &LossConfig,
    denominator: Denominator,
    logprobs: &Tensor,
    entropies: Option<&Tensor>,
    batch: &TensorBatch<'_>,
) -> Result<TensorLoss> {
    let host = |tensor: &Tensor| tensor.to_device(&Device::Cpu);
    let optional = |tensor: Option<&Tensor>| tensor.map(host).transpose();
    let (mask, entropies) = (optional(batch.mask)?, optional(entropies)?);
    let (advantages, old_logprobs) = (host(batch.advantages)?, host(batch.old_logprobs)?);
    let (reference, rollout) = (optional(batch.ref_logprobs)?, optional(batch.rollout_logprobs)?);
    let copies = TensorBatch {
        cu_seqlens: batch.cu_seqlens,
        mask: mask.as_ref(),
        advantages: &advantages,
        old_logprobs: &old_logprobs,
        ref_logprobs: reference.as_ref(),
        rollout_logprobs: rollout.as_ref(),
    };
    let output = policy_loss(config, denominator, &host(logprobs)?, entropies.as_ref(), &copies)?;
    Ok(TensorLoss { loss: output.loss.to_device(logprobs.device())?, ..output })
}

/// The loss of an optimiser step that is a single micro-batch: [`policy_loss`] with the denominator made from the batch.
///
/// *Not for a step of several micro-batches or ranks*: they share one [`Denominator`].
///
/// # Errors
/// Those of [`policy_loss`]; [`LossError::NoTokens`], wrapped, when the mask leaves no token at all.
pub fn policy_loss_single(
    config: &LossConfig,
    logprobs: &Tensor,
    entropies: Option<&Tensor>,
    batch: &TensorBatch<'_>,
) -> Result<TensorLoss> {
    let denominator = Denominator::of_step(config.aggregation, &batch.lengths_under(config)?, config.empty_sequences)
        .ok_or(LossError::NoTokens { function: NAME })
        .map_err(Error::wrap)?;
    policy_loss(config, denominator, logprobs, entropies, batch)
}

/// [`policy_loss`] of tensors on the CPU by the kernel for GPUs, emulated thread by thread: for tests.
///
/// # Errors
/// Those of [`policy_loss`] on a GPU, and settings without a kernel.
#[cfg(feature = "emulate")]
pub fn policy_loss_emulated(
    gpu: dapo_kernels::cuda::Gpu,
    config: &LossConfig,
    denominator: Denominator,
    logprobs: &Tensor,
    entropies: Option<&Tensor>,
    batch: &TensorBatch<'_>,
) -> Result<TensorLoss> {
    let op = PolicyLossOp::new(config, denominator, logprobs, batch)?.emulated_on(gpu);
    let (loss, metrics) = op.apply(logprobs, entropies)?;
    Ok(TensorLoss { loss, metrics })
}
