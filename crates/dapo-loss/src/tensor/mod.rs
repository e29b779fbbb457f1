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
//! A step of several micro-batches shares one [`Denominator`], made from the [`lengths`](TensorBatch::lengths) of all of
//! them, and calls [`policy_loss`] for each.

mod batch;
mod op;
mod storage;

use std::sync::PoisonError;

use candle_core::{Error, Result, Tensor};

use crate::{
    config::LossConfig,
    denominator::Denominator,
    error::LossError,
    metrics::LossMetrics,
    tensor::{batch::float, op::PolicyLossOp, storage::NAME},
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
/// The gradients are computed in the forward pass, together with the loss, by [`LossPlan`](crate::LossPlan); the
/// backward pass multiplies them by the incoming gradient.
///
/// # Shapes
/// `logprobs` and `entropies` are `[T]` or `[B, L]`, f32, bf16 or f16, on the CPU; the loss is an f32 scalar.
///
/// # Errors
/// Shapes, types or devices other than these, and whatever [`policy_loss`](crate::policy_loss()) refuses, as a wrapped
/// [`LossError`].
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
    let op = PolicyLossOp::new(config, denominator, logprobs, batch)?;
    let saved = op.saved();
    let logprobs = float("logprobs", logprobs, logprobs.shape())?;
    let loss = match entropies {
        Some(entropies) => {
            let entropies = float("entropies", entropies, logprobs.shape())?;
            logprobs.apply_op2(&entropies, op)?
        }
        None => logprobs.apply_op1(op)?,
    };
    let metrics = saved.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|saved| saved.metrics);
    Ok(TensorLoss { loss, metrics: metrics.unwrap_or_default() })
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
    let denominator = Denominator::of_step(config.aggregation, &batch.lengths()?, config.empty_sequences)
        .ok_or(LossError::NoTokens { function: NAME })
        .map_err(Error::wrap)?;
    policy_loss(config, denominator, logprobs, entropies, batch)
}
