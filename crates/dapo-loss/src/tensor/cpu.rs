//! The forward pass on the CPU: borrows the tensors' storage as slices and runs the slice face on them.

use std::ops::Deref;

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, WithDType, bail};

use super::{NAME, PolicyLossOp, Saved, wrap};
use crate::{
    batch::{Advantages, LossBatch, LossGradients, TokenChunk},
    fused::loss_plan::policy_loss,
};

/// The values of a contiguous CPU storage.
fn values<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("{NAME}: expected a contiguous tensor"),
    }
}

/// A tensor's storage, locked for reading.
struct Locked<'a, S: Deref<Target = Storage>> {
    storage: S,
    layout: &'a Layout,
}

impl<S: Deref<Target = Storage>> Locked<'_, S> {
    fn values<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => values(storage, self.layout),
            Storage::Cuda(_) | Storage::Metal(_) => bail!("{NAME}: expected all tensors on the same device"),
        }
    }
}

fn lock(tensor: &Tensor) -> Locked<'_, impl Deref<Target = Storage> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    Locked { storage, layout }
}

impl PolicyLossOp {
    pub(super) fn forward_cpu(
        &self,
        (logprobs, layout): (&CpuStorage, &Layout),
        entropies: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
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
        let output = policy_loss(&self.config, self.denominator, batch, chunk, gradients).map_err(wrap)?;
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, layout.shape(), &Device::Cpu);
        self.save(Saved {
            gradient: tensor(gradient)?,
            entropy_gradient: entropy_gradient.map(tensor).transpose()?,
            metrics: output.metrics,
        });
        Ok((CpuStorage::F32(vec![output.loss as f32]), Shape::from(())))
    }
}
