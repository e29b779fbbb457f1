//! Tensors' storage as slices, and as what kernels read.

use std::ops::Deref;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};
#[cfg(any(feature = "cuda", feature = "emulate"))]
use dapo_kernels::cuda::In;

/// The name under which errors are reported.
pub(super) const NAME: &str = "policy_loss";

/// The values of a contiguous CPU storage.
pub(super) fn values<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("{NAME}: expected a contiguous tensor"),
    }
}

/// The values of a contiguous f32 storage on a GPU.
#[cfg(feature = "cuda")]
pub(super) fn device_values<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<In<'a, f32>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => In::from(storage.as_cuda_slice::<f32>()?).slice(start..end),
        None => bail!("{NAME}: expected a contiguous tensor"),
    }
}

/// A tensor's storage, locked for reading.
pub(super) struct Locked<'a, S: Deref<Target = Storage>> {
    storage: S,
    layout: &'a Layout,
}

impl<S: Deref<Target = Storage>> Locked<'_, S> {
    pub(super) fn values<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => values(storage, self.layout),
            Storage::Cuda(_) | Storage::Metal(_) => bail!("{NAME}: expected a tensor on the CPU"),
        }
    }

    /// What a kernel reads: memory of a device or, where kernels are emulated, of the host.
    #[cfg(any(feature = "cuda", feature = "emulate"))]
    pub(super) fn on_gpu(&self) -> Result<In<'_, f32>> {
        match &*self.storage {
            #[cfg(feature = "cuda")]
            Storage::Cuda(storage) => device_values(storage, self.layout),
            #[cfg(feature = "emulate")]
            Storage::Cpu(storage) => Ok(values::<f32>(storage, self.layout)?.into()),
            _ => bail!("{NAME}: expected a tensor on the device of the kernel"),
        }
    }
}

pub(super) fn lock(tensor: &Tensor) -> Locked<'_, impl Deref<Target = Storage> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    Locked { storage, layout }
}
