//! The loss of tensors by the kernel: on the GPU that they are on, or emulated on the CPU.

use candle_core::{Error, Layout, Result, Shape, Tensor};
use dapo_kernels::cuda::policy_loss::{TokenArrays, TokenGradients};
use dapo_kernels::cuda::{Gpu, In};

use crate::{
    batch::check_offsets,
    cuda::{DeviceSums, policy_loss, token_weights},
    error::expect_len,
    metrics::LossOutput,
    tensor::{
        op::{PolicyLossOp, Saved},
        storage::{Locked, NAME, lock},
    },
};

impl PolicyLossOp {
    /// Launches the loss, waits for it and leaves the gradients where they are asked for.
    fn launch(
        &self,
        gpu: &Gpu,
        logprobs: In<'_, f32>,
        entropies: Option<In<'_, f32>>,
        gradients: TokenGradients<'_>,
    ) -> Result<LossOutput> {
        let tokens = logprobs.len();
        let mask = self.mask.as_ref().map(lock);
        let mask = mask.as_ref().map(Locked::values).transpose()?;
        let check = || {
            expect_len(NAME, "logprobs", tokens, check_offsets(NAME, &self.cu_seqlens)?)?;
            self.denominator.expect_made_for(self.config.aggregation)
        };
        check().map_err(Error::wrap)?;
        let weights = gpu.upload(&token_weights(&self.denominator, &self.cu_seqlens, mask))?;
        let (given, old, reference) =
            (lock(&self.advantages), lock(&self.old_logprobs), self.ref_logprobs.as_ref().map(lock));
        let by_token;
        let advantages = if self.per_token {
            given.on_gpu()?
        } else {
            by_token = gpu.upload(&self.spread(given.values()?))?;
            by_token.view()
        };
        let measured = entropies.is_some();
        let arrays = TokenArrays {
            logprobs,
            old_logprobs: old.on_gpu()?,
            ref_logprobs: reference.as_ref().map(Locked::on_gpu).transpose()?,
            entropies,
            advantages,
            weights: weights.view(),
        };
        let mut sums = DeviceSums::new(gpu, tokens)?;
        policy_loss(gpu, &self.config, arrays, gradients, &mut sums)?;
        let output = sums.output(gpu, measured)?;
        self.denominator.expect_within_step(NAME, output.metrics.tokens).map_err(Error::wrap)?;
        Ok(output)
    }

    /// The value of each token's sequence.
    fn spread(&self, by_sequence: &[f32]) -> Vec<f32> {
        let lengths = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]);
        lengths.zip(by_sequence).flat_map(|(length, value)| std::iter::repeat_n(*value, length)).collect()
    }
}

#[cfg(feature = "cuda")]
mod device {
    use super::{Gpu, Layout, PolicyLossOp, Result, Saved, Shape, Tensor, TokenGradients};
    use crate::tensor::storage::device_values;
    use candle_core::cuda_backend::cudarc::driver::CudaSlice;
    use candle_core::{CudaStorage, Storage, op::BackpropOp};

    impl PolicyLossOp {
        pub(in crate::tensor) fn forward_cuda(
            &self,
            (logprobs, layout): (&CudaStorage, &Layout),
            entropies: Option<(&CudaStorage, &Layout)>,
        ) -> Result<(CudaStorage, Shape)> {
            let device = &logprobs.device;
            let tokens = layout.shape().elem_count();
            let mut gradient = device.alloc_zeros::<f32>(tokens)?;
            let mut entropy_gradient = entropies.map(|_| device.alloc_zeros::<f32>(tokens)).transpose()?;
            let output = self.launch(
                Gpu::of(device)?.as_ref(),
                device_values(logprobs, layout)?,
                entropies.map(|(storage, layout)| device_values(storage, layout)).transpose()?,
                TokenGradients {
                    logprobs: (&mut gradient).into(),
                    entropies: entropy_gradient.as_mut().map(Into::into),
                },
            )?;
            let tensor = |slice: CudaSlice<f32>| {
                let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
                Tensor::from_storage(storage, layout.shape(), BackpropOp::none(), false)
            };
            self.save(Saved {
                gradient: tensor(gradient),
                entropy_gradient: entropy_gradient.map(tensor),
                metrics: output.metrics,
            });
            let loss = device.clone_htod(&[output.loss as f32])?;
            Ok((CudaStorage::wrap_cuda_slice(loss, device.clone()), Shape::from(())))
        }
    }
}

#[cfg(feature = "emulate")]
mod emulation {
    use super::{Gpu, Layout, PolicyLossOp, Result, Saved, Shape, Tensor, TokenGradients};
    use crate::tensor::storage::values;
    use candle_core::{CpuStorage, Device};

    impl PolicyLossOp {
        pub(in crate::tensor) fn forward_emulated(
            &self,
            gpu: &Gpu,
            (logprobs, layout): (&CpuStorage, &Layout),
            entropies: Option<(&CpuStorage, &Layout)>,
        ) -> Result<(CpuStorage, Shape)> {
            let logprobs = values::<f32>(logprobs, layout)?;
            let entropies = entropies.map(|(storage, layout)| values::<f32>(storage, layout)).transpose()?;
            let mut gradient = vec![0.0; logprobs.len()];
            let mut entropy_gradient = entropies.map(|values| vec![0.0; values.len()]);
            let gradients = TokenGradients {
                logprobs: gradient.as_mut_slice().into(),
                entropies: entropy_gradient.as_deref_mut().map(Into::into),
            };
            let output = self.launch(gpu, logprobs.into(), entropies.map(Into::into), gradients)?;
            let tensor = |values: Vec<f32>| Tensor::from_vec(values, layout.shape(), &Device::Cpu);
            self.save(Saved {
                gradient: tensor(gradient)?,
                entropy_gradient: entropy_gradient.map(tensor).transpose()?,
                metrics: output.metrics,
            });
            Ok((CpuStorage::F32(vec![output.loss as f32]), Shape::from(())))
        }
    }
}
