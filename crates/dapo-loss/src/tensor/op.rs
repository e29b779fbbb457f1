//! The loss as a Candle operation: the forward pass runs the fused pass on the tensors' storage and saves the gradients.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Error, Layout, Result, Shape, Tensor, bail};

use crate::{
    batch::{Advantages, LossBatch, LossGradients, TokenChunk},
    config::LossConfig,
    denominator::Denominator,
    fused::whole_batch::policy_loss,
    metrics::LossMetrics,
    tensor::{
        batch::{TensorBatch, advantages, float, mask, offsets},
        storage::{Locked, NAME, lock, values},
    },
};

/// What the forward pass leaves for the backward pass.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) gradient: Tensor,
    pub(super) entropy_gradient: Option<Tensor>,
    pub(super) metrics: LossMetrics,
}

/// The loss as a Candle operation: the inputs that are not differentiated, and what the forward pass saved.
pub(super) struct PolicyLossOp {
    pub(super) config: LossConfig,
    pub(super) denominator: Denominator,
    pub(super) cu_seqlens: Vec<usize>,
    /// On the host.
    pub(super) mask: Option<Tensor>,
    /// On the host where there is one per sequence.
    pub(super) advantages: Tensor,
    pub(super) per_token: bool,
    pub(super) old_logprobs: Tensor,
    pub(super) ref_logprobs: Option<Tensor>,
    rollout_logprobs: Option<Tensor>,
    saved: Arc<Mutex<Option<Saved>>>,
    /// Computes in place of the CPU.
    #[cfg(feature = "emulate")]
    emulation: Option<dapo_kernels::cuda::Gpu>,
}

impl PolicyLossOp {
    pub(super) fn new(
        config: &LossConfig,
        denominator: Denominator,
        logprobs: &Tensor,
        batch: &TensorBatch<'_>,
    ) -> Result<Self> {
        let shape = logprobs.shape();
        let cu_seqlens = offsets(batch.cu_seqlens, "logprobs", shape)?;
        let here = |array: &str, tensor: &Tensor| {
            if !tensor.device().same_device(logprobs.device()) {
                let (found, expected) = (tensor.device().location(), logprobs.device().location());
                bail!("{NAME}: {array} is on {found:?}, expected {expected:?}, as the log-probabilities");
            }
            Ok(tensor.detach())
        };
        let host = |tensor: Tensor| tensor.to_device(&Device::Cpu);
        let (advantages, per_token) = advantages(&here("advantages", batch.advantages)?, shape, &cu_seqlens)?;
        let constant = |array, tensor: &Tensor| float(array, &here(array, tensor)?, shape);
        let optional = |array, tensor: Option<&Tensor>| tensor.map(|tensor| constant(array, tensor)).transpose();
        Ok(Self {
            config: *config,
            denominator,
            mask: batch.mask.map(|tensor| host(mask(&here("mask", tensor)?, shape)?)).transpose()?,
            advantages: if per_token { advantages } else { host(advantages)? },
            per_token,
            old_logprobs: constant("old_logprobs", batch.old_logprobs)?,
            ref_logprobs: optional("ref_logprobs", batch.ref_logprobs)?,
            rollout_logprobs: optional("rollout_logprobs", batch.rollout_logprobs)?,
            cu_seqlens,
            saved: Arc::default(),
            #[cfg(feature = "emulate")]
            emulation: None,
        })
    }

    /// The same, to be computed by an emulated kernel.
    #[cfg(feature = "emulate")]
    pub(super) fn emulated_on(self, gpu: dapo_kernels::cuda::Gpu) -> Self {
        Self { emulation: Some(gpu), ..self }
    }

    /// The loss, differentiable in its arguments, and its metrics.
    pub(super) fn apply(self, logprobs: &Tensor, entropies: Option<&Tensor>) -> Result<(Tensor, LossMetrics)> {
        let saved = Arc::clone(&self.saved);
        let logprobs = float("logprobs", logprobs, logprobs.shape())?;
        let loss = match entropies {
            Some(entropies) => {
                let entropies = float("entropies", entropies, logprobs.shape())?;
                logprobs.apply_op2(&entropies, self)?
            }
            None => logprobs.apply_op1(self)?,
        };
        let metrics = saved.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|saved| saved.metrics);
        Ok((loss, metrics.unwrap_or_default()))
    }

    pub(super) fn save(&self, saved: Saved) {
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

impl PolicyLossOp {
    fn forward_cpu(
        &self,
        (logprobs, layout): (&CpuStorage, &Layout),
        entropies: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        #[cfg(feature = "emulate")]
        if let Some(gpu) = &self.emulation {
            return self.forward_emulated(gpu, (logprobs, layout), entropies);
        }
        let mask = self.mask.as_ref().map(lock);
        let (advantages, old_logprobs) = (lock(&self.advantages), lock(&self.old_logprobs));
        let reference = self.ref_logprobs.as_ref().map(lock);
        let rollout = self.rollout_logprobs.as_ref().map(lock);
        let batch = LossBatch {
            cu_seqlens: &self.cu_seqlens,
            mask: mask.as_ref().map(Locked::values).transpose()?,
            advantages: if self.per_token {
                Advantages::PerToken(advantages.values()?)
            } else {
                Advantages::PerSequence(advantages.values()?)
            },
            old_logprobs: old_logprobs.values()?,
            ref_logprobs: reference.as_ref().map(Locked::values).transpose()?,
            rollout_logprobs: rollout.as_ref().map(Locked::values).transpose()?,
        };
        let chunk = TokenChunk {
            start: 0,
            logprobs: values(logprobs, layout)?,
            entropies: entropies.map(|(storage, layout)| values(storage, layout)).transpose()?,
        };
        let mut gradient = vec![0.0_f32; chunk.logprobs.len()];
        let mut entropy_gradient = chunk.entropies.map(|entropies| vec![0.0_f32; entropies.len()]);
        let gradients = LossGradients { logprobs: &mut gradient, entropies: entropy_gradient.as_deref_mut() };
        let output = policy_loss(&self.config, self.denominator, batch, chunk, gradients).map_err(Error::wrap)?;
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, layout.shape(), &Device::Cpu);
        self.save(Saved {
            gradient: tensor(gradient)?,
            entropy_gradient: entropy_gradient.map(tensor).transpose()?,
            metrics: output.metrics,
        });
        Ok((CpuStorage::F32(vec![output.loss as f32]), Shape::from(())))
    }
}

impl CustomOp1 for PolicyLossOp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, logprobs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward_cpu((logprobs, layout), None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, logprobs: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward_cuda((logprobs, layout), None)
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        logprobs: &CudaStorage,
        logprobs_layout: &Layout,
        entropies: &CudaStorage,
        entropies_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_cuda((logprobs, logprobs_layout), Some((entropies, entropies_layout)))
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
